// SPDX-License-Identifier: MIT

//! The story of one seed: turn by turn, a step ends, a client asks, a command is given, time goes
//! by, or everything stops. Chance comes from the seed alone.

use std::collections::BTreeMap;

use rwsnap_core::api::Op;
use rwsnap_core::fault::Fault;

use super::block::show;
use super::client::{Asked, Session};
use super::commands::Given;
use super::crash;
use super::disk::Disk;
use super::engine::Engine;
use super::fault::Faults;
use super::machine::{Event, Io, Machine, Wrong};
use super::model::{Model, Sort};
use super::oracle::{Leave, Matching, Sweep};
use super::plan::{Order, Plan};
use super::rng::Rng;
use super::trace::Trace;

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Crash states checked.
    pub crashes: u64,
    /// Steps that failed.
    pub faults: u64,
    /// Steps ended.
    pub steps: u64,
    /// Blocks compared.
    pub compared: u64,
    /// Commands done, and refused, by name.
    pub commands: BTreeMap<&'static str, (u64, u64)>,
}

impl Tally {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.faults += other.faults;
        self.steps += other.steps;
        self.compared += other.compared;
        for (name, (done, refused)) in &other.commands {
            let entry = self.commands.entry(name).or_default();
            entry.0 += done;
            entry.1 += refused;
        }
    }
}

/// See the module.
pub struct World<E: Engine> {
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    pub(super) model: Model,
    pub(super) machine: Machine<E>,
    pub(super) now: u64,
    pub(super) wall_ns: u64,
    pub(super) trace: Trace,
    pub(super) tally: Tally,
    pub(super) faults: Faults,
    pub(super) sessions: Vec<Session<E>>,
    pub(super) asked: BTreeMap<u64, Asked>,
    pub(super) given: Option<Given>,
    /// Commands that failed for a disk's sake: done or not, that shows after the next crash.
    pub(super) doubt: Vec<(super::command::Change, u64, u64)>,
    pub(super) versions: u64,
    pub(super) names: u64,
    /// Since a device failed it, the pool does nothing any more.
    pub(super) fenced: bool,
}

impl<E: Engine> World<E> {
    /// A fresh pool over production volumes with content.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub fn new(plan: Plan, verbose: bool) -> Result<Self, Wrong> {
        let mut rng = Rng::new(plan.seed ^ 0x5707);
        let mut model = Model::default();
        let mut disks: Vec<Disk> =
            plan.devices().map(|d| Disk::new(d, false)).collect();
        disks[0].treacherous = plan.treacherous;
        let block = u64::from(plan.block);
        E::create(&plan, &mut |at, bytes| {
            let parts = bytes.chunks(usize::try_from(block).unwrap_or(512));
            for (at, part) in (at / block..).zip(parts) {
                disks[0].put(at, super::block::Block::new(part));
            }
        });
        for (dev, disk) in (1u16..).zip(&mut disks[1..]) {
            let blocks = disk.device.size / block;
            let value = |b| super::block::value(u64::from(dev), b, 0);
            (0..blocks).for_each(|b| disk.put(b, super::block::Block::Word(value(b))));
            let cells = (0..blocks).map(|b| super::cell::Cell::new(value(b))).collect();
            let label = super::model::Label::Exact(production(dev));
            model.insert(Sort::Production(dev), label, cells);
        }
        let machine = crash::reopen(&plan, disks, &mut rng, 0, &mut 0)?;
        let mut trace = Trace::new(verbose);
        trace.note(&[plan.seed]);
        trace.say(|| format!("{plan:#?}"));
        let faults = plan.faults.clone();
        Ok(Self {
            plan,
            rng,
            model,
            machine,
            now: 1,
            wall_ns: 1_000_000_000,
            trace,
            tally: Tally::default(),
            faults,
            sessions: Vec::new(),
            asked: BTreeMap::new(),
            given: None,
            doubt: Vec::new(),
            versions: 0,
            names: 0,
            fenced: false,
        })
    }

    /// What this seed lets happen.
    pub(super) fn leave(&self) -> Leave {
        let faults = self.plan.faults.any();
        Leave { faults, give_up: self.plan.when_full == 1, fail: self.plan.when_full == 3 }
    }

    /// Runs the story to its end.
    ///
    /// # Errors
    ///
    /// The violation.
    pub fn run(&mut self) -> Result<(), Wrong> {
        for _ in 0..self.plan.turns {
            self.turn()?;
            if self.rng.below(1000) < self.plan.images {
                self.image()?;
            }
            let crash = self.plan.crashes + if self.fenced { 500 } else { 0 };
            if self.rng.below(10_000) < crash {
                self.crash()?;
            } else if self.rng.below(10_000) < self.plan.closes && !self.fenced {
                self.close()?;
            }
        }
        self.finish()
    }

    fn turn(&mut self) -> Result<(), Wrong> {
        self.now += 1;
        let w = self.plan.weights;
        let step = if self.machine.open() == 0 { 0 } else { w.step };
        match self.rng.weighted(&[step, w.io, w.command, w.session, w.tick]) {
            0 if step > 0 => self.end_step()?,
            1 => self.ask()?,
            2 => self.give()?,
            3 => self.visit()?,
            _ => self.tick()?,
        }
        self.events()
    }

    /// Time goes by.
    pub(super) fn tick(&mut self) -> Result<(), Wrong> {
        self.wall_ns += self.rng.pick(&[1_000_000, 50_000_000, 100_000_000, 2_000_000_000]);
        self.machine.core.tick(self.wall_ns);
        self.machine.drain()
    }

    /// One open step ends, maybe badly.
    pub(super) fn end_step(&mut self) -> Result<(), Wrong> {
        let open = self.machine.open();
        let index = match self.plan.order {
            Order::Fifo => 0,
            Order::Lifo => open - 1,
            Order::Random => self.rng.index(open),
            Order::Slow(slow) => {
                let quick: Vec<usize> = (0..)
                    .zip(self.machine.open_devices())
                    .filter_map(|(i, dev)| (dev != slow).then_some(i))
                    .collect();
                match quick.len() {
                    0 => self.rng.index(open),
                    n => quick[self.rng.index(n)],
                }
            }
        };
        let (dev, touch, at, blocks) = self.machine.touch(index);
        let fails = self.faults.strikes(&mut self.rng, dev, touch, at, blocks);
        self.trace.note(&[dev as u64, at, blocks, u64::from(fails)]);
        self.trace.say(|| {
            let end = if fails { "FAILS" } else { "ends" };
            format!("{:6} step {touch:?} dev {dev} {at}+{blocks} {end}", self.now)
        });
        self.tally.steps += 1;
        self.machine.end(index, !fails, &mut self.rng)
    }

    /// Looks at all that ended.
    pub(super) fn events(&mut self) -> Result<(), Wrong> {
        self.now += 1;
        while let Some(event) = self.machine.events.pop_front() {
            match event {
                Event::Io(number, io) => self.answered(number, &io)?,
                Event::Reply(cookie, bytes) => self.replied(cookie, &bytes)?,
            }
        }
        Ok(())
    }

    /// A request is done: the model learns of it, and a read is compared.
    fn answered(&mut self, number: u64, io: &Io) -> Result<(), Wrong> {
        let Some(asked) = self.asked.remove(&number) else { return Ok(()) };
        let failed = io.failed.map_or(0, |f| 1 + u64::from(f == Fault::Io));
        self.trace.note(&[number, failed]);
        self.trace.say(|| {
            let name = self.model.show(asked.key);
            let end = io.failed.map_or_else(|| "done".into(), |f| format!("failed: {f:?}"));
            format!("{:6} #{number} {:?} {name} {end}", self.now, io.op)
        });
        if let Some(session) = self.sessions.iter_mut().find(|s| s.opened.handle == io.handle) {
            session.flying -= 1;
        }
        if !self.model.entities.contains_key(&asked.key) {
            return Ok(());
        }
        if let Some(fault) = io.failed {
            self.fenced |= fault == Fault::Fenced && !asked.snapshot;
            self.may_fail(&asked, io.op, fault)?;
        }
        let ok = io.failed.is_none();
        let (begin, now) = (asked.begin, self.now);
        match io.op {
            Op::Read if ok => self.compare(&asked, io)?,
            Op::Read => {}
            Op::Flush if ok => {
                self.model.cells(asked.key).iter_mut().for_each(|c| c.flush(begin));
            }
            Op::Flush => {}
            Op::Write { fua } | Op::Zero { fua } => self.wrote(&asked, io, ok, fua, now),
            Op::Discard => self.discarded(&asked, io, ok),
        }
        Ok(())
    }

    /// Chunks of a clone that a discard covers whole read as zeros from then on. All else it may
    /// zero or leave.
    fn discarded(&mut self, asked: &Asked, io: &Io, ok: bool) {
        let clone = !matches!(self.model.entities[&asked.key].sort, Sort::Production(_));
        let (each, len) = (u64::from(self.plan.chunk / self.plan.block), io.blocks.len() as u64);
        let cells = self.model.entities[&asked.key].cells.len() as u64;
        let first = io.at.next_multiple_of(each);
        let end = io.at + len;
        let end = if end == cells { end } else { end - end % each };
        let (horizon, now) = (self.horizon(), self.now);
        let cells = self.model.cells(asked.key);
        for block in io.at..io.at + len {
            let strong = ok && clone && (first..end).contains(&block);
            let Some(cell) = cells.get_mut(usize::try_from(block).unwrap_or(0)) else { return };
            cell.end(asked.begin, now, strong, false);
            cell.prune(horizon);
        }
    }

    fn wrote(&mut self, asked: &Asked, io: &Io, strong: bool, fua: bool, now: u64) {
        let (first, len) = (usize::try_from(io.at).unwrap_or(0), io.blocks.len());
        let horizon = self.horizon();
        for cell in self.model.cells(asked.key).iter_mut().skip(first).take(len) {
            cell.end(asked.begin, now, strong, fua);
            cell.prune(horizon);
        }
    }

    /// When the oldest request or command under way began.
    pub(super) fn horizon(&self) -> u64 {
        let asked = self.asked.values().map(|a| a.begin);
        asked.chain(self.given.as_ref().map(|g| g.begin)).fold(self.now, u64::min)
    }

    fn compare(&mut self, asked: &Asked, io: &Io) -> Result<(), Wrong> {
        self.tally.compared += io.blocks.len() as u64;
        for (block, data) in (usize::try_from(io.at).unwrap_or(0)..).zip(&io.blocks) {
            let value = data.value();
            self.trace.note(&[value]);
            if let Err(wrong) = self.compare_block(asked, block, value) {
                let name = self.model.show(asked.key);
                return Err(format!("read of {name} block {block}: {wrong}"));
            }
        }
        Ok(())
    }

    fn compare_block(&mut self, asked: &Asked, block: usize, value: u64) -> Result<(), Wrong> {
        if asked.snapshot {
            return self.model.observe_snapshot(asked.key, block, value);
        }
        let now = self.now;
        let Some(cell) = self.model.cells(asked.key).get_mut(block) else { return Ok(()) };
        if cell.observe(value, asked.begin, now) {
            return Ok(());
        }
        let may: Vec<String> = cell.seen(asked.begin, now).map(|v| show(v.value)).collect();
        let given = self.given.as_ref().and_then(|g| g.replaces(&self.model));
        let doubt = self.doubt.iter().filter_map(|(change, begin, _)| {
            change.replaces(&self.model).map(|(to, from)| (to, from, *begin))
        });
        for (_, from, begin) in given.into_iter().chain(doubt).filter(|r| r.0 == asked.key) {
            let seen = self.model.seen(from, block, begin, self.now);
            if seen.iter().any(|v| v.value == value) {
                return Ok(());
            }
        }
        Err(format!("shows {}, may show {}", show(value), may.join(" or ")))
    }

    /// Whether a request may fail like this.
    fn may_fail(&self, asked: &Asked, op: Op, fault: Fault) -> Result<(), Wrong> {
        let Some(entity) = self.model.entities.get(&asked.key) else { return Ok(()) };
        let clone = matches!(entity.sort, Sort::Clone(_));
        let writes = !matches!(op, Op::Read | Op::Flush);
        let forced = self.given.as_ref().is_some_and(Given::is_forced);
        let fine = match fault {
            Fault::NoSpace => writes && (clone || self.leave().fail),
            Fault::Fenced if forced || asked.cut => true,
            _ => self.model.excused(asked.key, fault, self.leave()).is_ok(),
        };
        if fine || self.machine.core.is_lost(asked.handle) {
            return Ok(());
        }
        Err(format!("{op:?} of {} fails with {fault:?}", self.model.show(asked.key)))
    }

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

    /// Compares a pool after a crash with what it may be; gives the model that it is.
    fn judged(&self, sweep: &Sweep) -> Result<(Model, Matching), Wrong> {
        let mut wrong = None;
        for model in self.outcomes() {
            match model.judge(sweep, self.leave()) {
                Ok(pairs) => return Ok((model, pairs)),
                // The outcome whose names agree tells more.
                Err(found) if model.matching(&sweep.rows, self.leave()).is_ok() => {
                    wrong = Some(found);
                }
                Err(found) => wrong = wrong.or(Some(found)),
            }
        }
        Err(format!("after a crash: {}", wrong.unwrap_or_default()))
    }

    /// A crash that did not happen: looks at what it would have left.
    fn image(&mut self) -> Result<(), Wrong> {
        let mut rng = self.rng.fork();
        for _ in 0..rng.range(1, 3) {
            let disks = crash::crashed(&self.machine.disks, &mut rng);
            self.tally.crashes += 1;
            let again = rng.pick(&[0, 20, 200]);
            let mut machine: Machine<E> =
                crash::reopen(&self.plan, disks, &mut rng, again, &mut self.tally.crashes)?;
            let sweep = crash::sweep(&mut machine, &mut rng)?;
            let (mut model, pairs) =
                self.judged(&sweep).map_err(|e| format!("{e}\n{}", machine.core.dump()))?;
            if rng.chance(20) {
                model.adopt(&sweep.rows, &pairs);
                model.settle(&sweep, &pairs);
                self.afterlife(machine, model, &mut rng)?;
            }
        }
        Ok(())
    }

    /// Goes on with a pool after a crash until it rests; crashes it once more.
    fn afterlife(
        &mut self,
        mut machine: Machine<E>,
        model: Model,
        rng: &mut Rng,
    ) -> Result<(), Wrong> {
        for _ in 0..rng.below(200) {
            if machine.open() == 0 {
                machine.core.tick(self.wall_ns + rng.below(10_000_000_000));
                machine.drain()?;
            }
            if machine.open() > 0 {
                let index = rng.index(machine.open());
                machine.end(index, true, rng)?;
            }
        }
        let disks = crash::crashed(&machine.disks, rng);
        self.tally.crashes += 1;
        let mut machine: Machine<E> =
            crash::reopen(&self.plan, disks, rng, 0, &mut self.tally.crashes)?;
        let sweep = crash::sweep(&mut machine, rng)?;
        let judged = model.judge(&sweep, self.leave());
        judged.map(|_| ()).map_err(|wrong| format!("after a second crash: {wrong}"))
    }

    /// A crash; the story goes on after it.
    pub(super) fn crash(&mut self) -> Result<(), Wrong> {
        self.trace.say(|| format!("{:6} CRASH", self.now));
        let disks = crash::crashed(&self.machine.disks, &mut self.rng);
        self.tally.crashes += 1;
        let again = self.rng.pick(&[0, 20, 200]);
        let sweep = self.renew(disks, again)?;
        let (model, pairs) = self.judged(&sweep)?;
        self.model = model;
        self.model.adopt(&sweep.rows, &pairs);
        self.model.settle(&sweep, &pairs);
        self.forget();
        Ok(())
    }

    /// A fresh core on these disks; gives what clients find in it.
    fn renew(&mut self, disks: Vec<Disk>, again: u64) -> Result<Sweep, Wrong> {
        let crashes = &mut self.tally.crashes;
        self.machine = crash::reopen(&self.plan, disks, &mut self.rng, again, crashes)?;
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
        for _ in 0..100_000 {
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
        }
        Err("the pool never rests".into())
    }

    /// Nothing may be under way any more, unless the pool waits for room or a disk failed it.
    pub(super) fn settle_all(&mut self) -> Result<bool, Wrong> {
        self.quiesce()?;
        if self.machine.pending() == 0 {
            return Ok(true);
        }
        if self.plan.faults.any() || self.plan.when_full != 3 {
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
        for session in std::mem::take(&mut self.sessions) {
            self.machine.core.detach(session.opened.handle);
        }
        let fingerprints: Vec<_> = (1u16..)
            .zip(&self.machine.disks[1..])
            .map(|(dev, disk)| (rwsnap_core::units::Dev(dev), disk.fingerprint()))
            .collect();
        self.machine.core.close(&fingerprints);
        self.machine.drain()?;
        while self.machine.core.closed().is_none() {
            if self.machine.open() == 0 {
                return Err(format!("the close hangs\n{}", self.machine.core.dump()));
            }
            self.end_step()?;
        }
        if let Some(Err(fault)) = self.machine.core.closed() {
            if !self.plan.faults.any() {
                return Err(format!("the close fails with {fault:?}"));
            }
            return self.crash();
        }
        let disks = std::mem::take(&mut self.machine.disks);
        let sweep = self.renew(disks, 0)?;
        self.forget();
        // What clients wrote may still be in the caches of the disks: it must be there now, and
        // may be lost in a crash to come.
        self.check_live(&sweep)
    }

    /// The end of the story: all at rest, compared, crashed and compared, closed and compared.
    fn finish(&mut self) -> Result<(), Wrong> {
        self.tally.faults = self.faults.struck;
        self.faults.heal();
        if self.settle_all()? && !self.fenced {
            let sweep = crash::sweep(&mut self.machine, &mut self.rng)?;
            self.check_live(&sweep)?;
        }
        self.crash()?;
        if !self.settle_all()? {
            return Ok(());
        }
        super::slots::check(&mut self.machine, &mut self.rng)?;
        self.close()?;
        self.quiesce()?;
        super::slots::check(&mut self.machine, &mut self.rng)
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
            for (block, found) in sweep.content[&row.id].iter().enumerate() {
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

/// What the production volume on this device is called.
#[must_use]
pub fn production(dev: u16) -> String {
    if dev == 1 {
        "prod".into()
    } else {
        format!("prod{dev}")
    }
}

