// SPDX-License-Identifier: MIT

//! Crashes and closes: what the pool may be then, what it is, and how the story goes on.

use std::collections::BTreeMap;

use super::away::{self, Absent};
use super::client::Asked;
use super::commands::Given;
use super::crash;
use super::disk::Disk;
use super::engine::{Engine, Rot};
use super::fault::Faults;
use super::machine::{Machine, Wrong};
use super::model::{Model, Sort};
use super::oracle::{Leave, Matching, Sweep};
use super::rng::Rng;
use super::schedule::World;
use super::slots;
use super::tally::Tally;
use super::trace::Trace;

/// Steps of one recovery that are tried.
const EACH_STEP: u64 = 300;

impl<E: Engine> World<E> {
    /// What the pool may be after a crash now: the model, or with what is under way done.
    fn outcomes(&self) -> Vec<Model> {
        let mut all = vec![self.model.clone()];
        let given = self.given.as_ref().and_then(Given::change);
        let under_way = given.map(|(change, begin)| (change, begin, self.now));
        let doubt = self.doubt.iter().map(|(change, begin, end)| (change, *begin, *end));
        for (change, begin, end) in doubt.chain(under_way) {
            let more: Vec<Model> = all
                .iter()
                .flat_map(|m| [Some(change.apply(m, begin, end)), change.half(m)])
                .flatten()
                .collect();
            all.extend(more);
        }
        all
    }

    /// Compares a pool after a crash with what it may be; gives the model that it is. What could
    /// not be read may be as in any model that fits.
    fn judged(&self, sweep: &Sweep, leave: Leave) -> Result<(Model, Matching), Wrong> {
        let (mut wrong, mut fits) = (None, None::<(Model, Matching)>);
        for model in self.outcomes() {
            match (model.judge(sweep, leave), &mut fits) {
                (Ok(pairs), None) if leave.away == 0 => return Ok((model, pairs)),
                (Ok(pairs), None) => fits = Some((model, pairs)),
                (Ok(_), Some((first, pairs))) => first.or_unread(&model, sweep, pairs),
                (Err(_), Some(_)) => {}
                // The outcome whose names agree tells more.
                (Err(found), None) if model.matching(&sweep.rows, leave).is_ok() => {
                    wrong = Some(found);
                }
                (Err(found), None) => wrong = wrong.or(Some(found)),
            }
        }
        fits.ok_or_else(|| format!("after a crash: {}", wrong.unwrap_or_default()))
    }

    /// What this seed lets happen with these productions away.
    fn leave_without(&self, absent: &Absent) -> Leave {
        Leave { away: absent.bits(), ..self.leave() }
    }

    /// Once in a while, as the plan says, looks at what a crash would leave.
    pub(super) fn glance(&mut self) -> Result<(), Wrong> {
        if self.rng.below(1000) < self.plan.images {
            self.image()?;
        }
        Ok(())
    }

    /// A crash that did not happen: looks at what it would have left; if that is wrong, a second
    /// time, aloud.
    pub(super) fn image(&mut self) -> Result<(), Wrong> {
        let rng = self.rng.fork();
        let looked = self.look(rng.clone());
        if looked.is_err() && self.trace.is_verbose() {
            println!("-- what a crash leaves");
            self.plan.loud = true;
            let _ = self.look(rng);
        }
        looked
    }

    fn look(&mut self, mut rng: Rng) -> Result<(), Wrong> {
        for _ in 0..rng.range(1, 3) {
            let disks = crash::crashed(&self.machine.disks, &mut rng);
            if rng.chance(5) {
                self.rotten(&disks, &mut rng)?;
            }
            if rng.chance(1) {
                self.each_step(&disks, &mut rng)?;
            }
            self.tally.crashes += 1;
            let again = rng.pick(&[0, 20, 200]);
            let absent = self.machine.absent.some_back(&mut rng);
            let crashes = &mut self.tally.crashes;
            let mut machine: Machine<E> =
                crash::reopen(&self.plan, disks, &mut rng, (again, &absent), crashes)?;
            let absent = machine.absent.clone();
            self.count_absent(&absent, false);
            let sweep = crash::sweep(&mut machine, &mut rng)?;
            let judged = self.judged(&sweep, self.leave_without(&absent));
            if judged.is_err() && self.plan.loud {
                println!("{}{}", machine.core.dump(), slots::show(&mut machine, &mut rng));
            }
            let (mut model, pairs) = judged?;
            if rng.chance(self.plan.stories) {
                model.adopt(&sweep.rows, &pairs);
                model.settle(&sweep, &pairs);
                self.afterlife(machine, model, rng.fork())?;
            } else if rng.chance(15) {
                crash::rest(&mut machine, &mut rng, self.wall_ns)?;
                let disks = crash::close(machine, &mut rng)?;
                machine = crash::reopen(&self.plan, disks, &mut rng, (0, &absent), &mut 0)?;
                let checked = slots::check(&mut machine, &mut rng, true);
                if checked.is_err() && self.plan.loud {
                    println!("{}{}", machine.core.dump(), slots::show(&mut machine, &mut rng));
                }
                checked.map_err(|wrong| format!("after a crash: {wrong}"))?;
                let spent = slots::spend(&mut machine, &mut rng);
                spent.map_err(|wrong| format!("after a crash: {wrong}"))?;
            }
        }
        Ok(())
    }

    /// Crashes again at each step of the recovery, and looks at what that leaves.
    fn each_step(&mut self, disks: &[Disk], rng: &mut Rng) -> Result<(), Wrong> {
        for steps in 0..EACH_STEP {
            let left = crash::cut_off::<E>(&self.plan, disks.to_vec(), rng, steps)?;
            let Some(left) = left else { return Ok(()) };
            self.tally.crashes += 1;
            self.tally.kinds.saw("crash at a step of the recovery");
            let left = crash::crashed(&left, rng);
            let absent = self.machine.absent.some_back(rng);
            let mut machine: Machine<E> =
                crash::reopen(&self.plan, left, rng, (0, &absent), &mut 0)?;
            let sweep = crash::sweep(&mut machine, rng)?;
            let judged = self.judged(&sweep, self.leave_without(&machine.absent));
            judged.map_err(|w| format!("cut off after {steps} steps of the recovery, {w}"))?;
        }
        Ok(())
    }

    /// Another story goes on from a crash for a while, until it crashes as well.
    fn afterlife(&mut self, machine: Machine<E>, model: Model, rng: Rng) -> Result<(), Wrong> {
        let mut plan = self.plan.clone();
        // Now and then it is looked at as well, but no third story begins.
        let looks = self.plan.stories > 15 || self.rng.chance(25);
        (plan.images, plan.crashes, plan.closes) = (if looks { 300 } else { 0 }, 0, 0);
        (plan.stories, plan.away) = (0, 0);
        let mut world = Self {
            plan,
            aside: rng.clone(),
            rng,
            model,
            machine,
            now: self.now + 1,
            wall_ns: self.wall_ns,
            trace: Trace::new(self.plan.loud),
            tally: Tally::default(),
            faults: Faults::default(),
            sessions: Vec::new(),
            asked: BTreeMap::new(),
            given: None,
            doubt: Vec::new(),
            versions: self.versions,
            names: self.names,
            fenced: false,
            restoring: self.restoring,
            policies: self.policies,
            discard_copies: self.discard_copies,
        };
        world.trace.say(|| "-- another story".into());
        let lived = world.live();
        world.tally.kinds.absorb(&mut world.machine.kinds);
        world.tally.kinds.saw("story after a crash");
        self.tally.add(&world.tally);
        self.trace.note(&[world.trace.hash()]);
        world.trace.say(|| "-- ends".into());
        lived.map_err(|wrong| format!("in a story after a crash: {wrong}"))
    }

    fn live(&mut self) -> Result<(), Wrong> {
        let turns = self.rng.pick(&[8, 30, 120]);
        for _ in 0..self.rng.below(turns) {
            self.turn()?;
            self.glance()?;
        }
        self.crash()
    }

    /// A block of metadata has rotted: the pool does not open, or says which reads fail; what it
    /// shows is right.
    fn rotten(&mut self, disks: &[Disk], rng: &mut Rng) -> Result<(), Wrong> {
        let mut disks = disks.to_vec();
        let Some(rot) = E::rot(&mut disks[0], rng) else { return Ok(()) };
        let (absent, early) = (self.machine.absent.clone(), E::is_early(&disks[0]));
        let kinds = &mut self.tally.kinds;
        let mut machine = match crash::open::<E>(&self.plan, disks, rng)? {
            Ok(machine) => machine,
            Err(why) if rot == Rot::Superblock => {
                return Err(format!("one copy of the superblock has rotted: {why}"));
            }
            Err(_) => {
                kinds.saw("rot is refused at opening");
                return Ok(());
            }
        };
        if rot == Rot::Log {
            return Err("the pool opens with a rotten log".into());
        }
        if away::start(&mut machine, absent, early).is_err() {
            return Ok(());
        }
        let Ok(sweep) = crash::sweep(&mut machine, rng) else {
            kinds.saw("rot ends all");
            return Ok(());
        };
        let reported = sweep.content.values().flatten().any(Result::is_err);
        kinds.saw(if reported { "rot is reported in place" } else { "rot does no harm" });
        let leave = match rot {
            Rot::Superblock => self.leave(),
            _ => Leave { rotten: true, faults: true, ..self.leave() },
        };
        let leave = Leave { away: machine.absent.bits(), ..leave };
        let judged = self.judged(&sweep, leave);
        judged.map(|_| ()).map_err(|wrong| format!("rot goes unnoticed: {wrong}"))
    }

    /// A crash; the story goes on after it.
    pub(super) fn crash(&mut self) -> Result<(), Wrong> {
        self.trace.say(|| format!("{:6} CRASH", self.now));
        let disks = crash::crashed(&self.machine.disks, &mut self.rng);
        self.tally.crashes += 1;
        let again = self.rng.pick(&[0, 20, 200]);
        let sweep = self.renew(disks, again, false)?;
        let judged = self.judged(&sweep, self.leave());
        if judged.is_err() && self.trace.is_verbose() {
            println!("{}", slots::show(&mut self.machine, &mut self.rng));
        }
        let (model, pairs) = judged?;
        self.model = model;
        self.model.adopt(&sweep.rows, &pairs);
        self.model.settle(&sweep, &pairs);
        self.notice(&sweep.rows)?;
        self.tally.kinds.saw_if(self.restoring, "crash during a restore");
        self.forget();
        Ok(())
    }

    /// A fresh core on these disks; gives what clients find in it.
    fn renew(&mut self, mut disks: Vec<Disk>, again: u64, clean: bool) -> Result<Sweep, Wrong> {
        let absent = self.next_absent(&mut disks, clean);
        let (crashes, how) = (&mut self.tally.crashes, (again, &absent));
        self.tally.kinds.absorb(&mut self.machine.kinds);
        self.machine = crash::reopen(&self.plan, disks, &mut self.rng, how, crashes)?;
        let absent = self.machine.absent.clone();
        self.trace.say(|| format!("{:6} opened, away: {absent:?}", self.now));
        self.count_absent(&absent, clean);
        self.machine.verbose = self.trace.is_verbose();
        let sweep = crash::sweep(&mut self.machine, &mut self.rng)?;
        self.tally.compared += sweep.content.values().map(|c| c.len() as u64).sum::<u64>();
        Ok(sweep)
    }

    /// What was under way before the pool was opened anew is not any more.
    fn forget(&mut self) {
        self.sessions.clear();
        self.asked.clear();
        self.given = None;
        self.doubt.clear();
        self.fenced = false;
        self.now += 1;
    }

    /// Ends steps until nothing is under way.
    pub(super) fn quiesce(&mut self) -> Result<(), Wrong> {
        let mut idle = 0;
        for _ in 0..20_000 {
            self.now += 1;
            if self.machine.open() > 0 {
                self.end_step()?;
                idle = 0;
            } else if idle > 30 {
                return Ok(());
            } else {
                idle += 1;
                self.tick()?;
            }
            self.events()?;
            self.glance()?;
        }
        // A merge goes on trying as long as production cannot be written.
        if self.leave().faults {
            return Ok(());
        }
        Err("the pool never rests".into())
    }

    /// Nothing may be under way any more, unless the pool waits for room or a disk failed it.
    pub(super) fn settle_all(&mut self) -> Result<bool, Wrong> {
        self.quiesce()?;
        if self.machine.pending() == 0 {
            return Ok(true);
        }
        if self.plan.faults.any() || self.policies != 1 << 3 {
            return Ok(false);
        }
        Err(format!("a request or command hangs\n{}", self.machine.core.dump()))
    }

    /// A clean close, and the pool opened again.
    pub(super) fn close(&mut self) -> Result<(), Wrong> {
        if !self.settle_all()? || self.fenced {
            return self.crash();
        }
        self.trace.say(|| format!("{:6} close", self.now));
        self.tally.kinds.saw("close");
        for session in std::mem::take(&mut self.sessions) {
            self.machine.core.detach(session.opened.handle);
        }
        let fingerprints = crash::fingerprints(&self.machine);
        self.machine.core.close(&fingerprints);
        self.machine.drain()?;
        while self.machine.core.closed().is_none() {
            if self.machine.open() == 0 {
                return Err(format!("the close hangs\n{}", self.machine.core.dump()));
            }
            self.end_step()?;
            self.glance()?;
        }
        if let Some(Err(fault)) = self.machine.core.closed() {
            if !self.plan.faults.any() {
                return Err(format!("the close fails with {fault:?}"));
            }
            return self.crash();
        }
        let disks = std::mem::take(&mut self.machine.disks);
        let sweep = self.renew(disks, 0, true)?;
        self.forget();
        // What clients wrote may still be in the caches of the disks: it must be there now, and
        // may be lost in a crash to come.
        self.check_live(&sweep)
    }

    /// The end of the story: all at rest, compared, crashed and compared, closed and compared.
    pub(super) fn finish(&mut self) -> Result<(), Wrong> {
        self.tally.faults = self.faults.struck;
        self.faults.heal();
        self.plan.away = 0;
        if self.settle_all()? && !self.fenced {
            let sweep = crash::sweep(&mut self.machine, &mut self.rng)?;
            self.check_live(&sweep)?;
            slots::check(&mut self.machine, &mut self.rng, false)?;
        }
        self.crash()?;
        if !self.settle_all()? {
            return Ok(());
        }
        slots::check(&mut self.machine, &mut self.rng, false)?;
        self.close()?;
        self.quiesce()?;
        slots::check(&mut self.machine, &mut self.rng, true)
    }

    /// Compares all that clients find now with what they must find.
    fn check_live(&mut self, sweep: &Sweep) -> Result<(), Wrong> {
        let pairs = self.model.matching(&sweep.rows, self.leave())?;
        self.model.adopt(&sweep.rows, &pairs);
        for (key, row) in pairs {
            let row = &sweep.rows[row];
            let snapshot = matches!(self.model.entities[&key].sort, Sort::Snapshot(_));
            let (begin, cut, handle) = (self.now, false, rwsnap_core::api::Handle(u32::MAX));
            let asked = Asked { key, begin, snapshot, cut, handle };
            for (block, found) in sweep.content.get(&row.id).into_iter().flatten().enumerate() {
                let wrong = match found {
                    Ok(value) => self.compare_block(&asked, block, *value),
                    Err(fault) => self.model.excused(key, *fault, self.leave()),
                };
                wrong.map_err(|w| format!("at rest: {} block {block}: {w}", row.name))?;
            }
        }
        Ok(())
    }
}
