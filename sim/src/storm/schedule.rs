// SPDX-License-Identifier: MIT

//! The story of one seed: turn by turn, a step ends, a client asks, a command is given, time goes
//! by, or everything stops. Chance comes from the seed alone.

use std::collections::BTreeMap;

use super::away::Absent;
use super::client::{Asked, Session};
use super::commands::Given;
use super::crash;
use super::disk::Disk;
use super::engine::Engine;
use super::fault::{Faults, Touch};
use super::kinds;
use super::machine::{Event, Machine, Wrong};
use super::model::{Model, Sort};
use super::oracle::Leave;
use super::plan::{Order, Plan};
use super::rng::Rng;
use super::tally::Tally;
use super::trace::Trace;

/// See the module.
pub(super) struct World<E: Engine> {
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    /// For productions that are away.
    pub(super) aside: Rng,
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
    /// A restore was under way when the pool was listed last.
    pub(super) restoring: bool,
    /// The policies for a full save volume that were ever set, as bits.
    pub(super) policies: u32,
    /// Discards of production copy first.
    pub(super) discard_copies: bool,
}

impl<E: Engine> World<E> {
    /// A fresh pool over production volumes with content.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub(super) fn new(plan: Plan, verbose: bool) -> Result<Self, Wrong> {
        let mut rng = Rng::new(plan.seed ^ 0x5707);
        let mut model = Model::default();
        model.lossy = plan.faults.any();
        let mut disks: Vec<Disk> = plan.devices().map(|d| Disk::new(d, false)).collect();
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
        let mut machine = crash::reopen(&plan, disks, &mut rng, (0, &Absent::default()), &mut 0)?;
        machine.verbose = verbose;
        let mut trace = Trace::new(verbose);
        trace.note(&[plan.seed]);
        trace.say(|| format!("{plan:#?}"));
        let mut tally = Tally::default();
        kinds::of_plan(&plan, &mut tally.kinds);
        let faults = plan.faults.clone();
        let policies = 1 << plan.when_full;
        Ok(Self {
            aside: Rng::new(plan.seed ^ super::plan::ASIDE),
            plan,
            rng,
            model,
            machine,
            now: 1,
            wall_ns: 1_000_000_000,
            trace,
            tally,
            faults,
            sessions: Vec::new(),
            asked: BTreeMap::new(),
            given: None,
            doubt: Vec::new(),
            versions: 0,
            names: 0,
            fenced: false,
            restoring: false,
            policies,
            discard_copies: false,
        })
    }

    /// What this seed lets happen.
    pub(super) fn leave(&self) -> Leave {
        let faults = self.plan.faults.any();
        let (give_up, fail) = (self.policies & 2 != 0, self.policies & 8 != 0);
        // With any policy but `stall` the snapshots of a restore may go.
        let forgo = self.policies & !4 != 0;
        let away = self.machine.absent.bits();
        Leave { faults, give_up, forgo, fail, rotten: false, away }
    }

    /// Runs the story to its end.
    ///
    /// # Errors
    ///
    /// The violation.
    pub(super) fn run(&mut self) -> Result<(), Wrong> {
        for _ in 0..self.plan.turns {
            self.turn()?;
            self.glance()?;
            let crash = self.plan.crashes + if self.fenced { 500 } else { 0 };
            if self.rng.below(10_000) < crash {
                self.crash()?;
            } else if self.rng.below(10_000) < self.plan.closes && !self.fenced {
                self.close()?;
            }
        }
        self.finish()
    }

    pub(super) fn turn(&mut self) -> Result<(), Wrong> {
        self.now += 1;
        self.machine.now = self.now;
        let w = self.plan.weights;
        let waits = |i| self.machine.is_patient(i, self.now, &self.plan);
        let step = if (0..self.machine.open()).all(waits) { 0 } else { w.step };
        match self.rng.weighted(&[step, w.io, w.command, w.session, w.tick]) {
            0 if step > 0 => self.end_step()?,
            1 => {
                for _ in 0..self.rng.range(1, self.plan.burst) {
                    // INVARIANT: the moment when a request begins is its own: it names it.
                    self.now += 1;
                    self.ask()?;
                }
            }
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

    /// Which open step ends next. Those that are stuck end only when all others have.
    fn choose_step(&mut self) -> usize {
        let free: Vec<usize> = (0..self.machine.open())
            .filter(|&i| !self.machine.is_stuck(i, self.now, &self.plan))
            .filter(|&i| !self.machine.is_patient(i, self.now, &self.plan))
            .collect();
        let mut all: Vec<usize> = (0..self.machine.open()).collect();
        if !all.iter().all(|&i| self.machine.is_patient(i, self.now, &self.plan)) {
            all.retain(|&i| !self.machine.is_patient(i, self.now, &self.plan));
        }
        let from = if free.is_empty() { &all } else { &free };
        match self.plan.order {
            Order::Fifo => from[0],
            Order::Lifo => from[from.len() - 1],
            Order::Random => from[self.rng.index(from.len())],
            Order::Slow(slow) => {
                let quick: Vec<usize> =
                    from.iter().copied().filter(|&i| self.machine.device_of(i) != slow).collect();
                let from = if quick.is_empty() { from } else { &quick };
                from[self.rng.index(from.len())]
            }
        }
    }

    /// One open step ends, maybe badly.
    pub(super) fn end_step(&mut self) -> Result<(), Wrong> {
        let index = self.choose_step();
        let (dev, touch, at, blocks) = self.machine.touch(index);
        let fails = self.faults.strikes(&mut self.rng, dev, touch, at, blocks);
        self.trace.note(&[dev as u64, at, blocks, u64::from(fails)]);
        self.trace.say(|| {
            let end = if fails { "FAILS" } else { "ends" };
            format!("{:6} step {touch:?} dev {dev} {at}+{blocks} {end}", self.now)
        });
        self.tally.steps += 1;
        if fails {
            self.tally.kinds.saw(failure(dev, touch));
        }
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
}

/// What a failure is called.
const fn failure(dev: usize, touch: Touch) -> &'static str {
    match (dev, touch) {
        (0, Touch::Read) => "fault: read of the save volume",
        (0, Touch::Write) => "fault: write to the save volume",
        (0, Touch::Flush) => "fault: flush of the save volume",
        (_, Touch::Read) => "fault: read of production",
        (_, Touch::Write) => "fault: write to production",
        (_, Touch::Flush) => "fault: flush of production",
    }
}

/// What the production volume on this device is called.
#[must_use]
pub(super) fn production(dev: u16) -> String {
    if dev == 1 {
        "prod".into()
    } else {
        format!("prod{dev}")
    }
}
