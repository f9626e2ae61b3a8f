// SPDX-License-Identifier: MIT

//! A core and its simulated disks: a driver whose steps end when the scheduler says so.
//!
//! A step begins the moment the core gives it out, so that a flush covers as little as it may and
//! a read or write is in flight as long as it may.

mod begin;

use std::collections::{BTreeMap, VecDeque};

use rwsnap_core::api::{Done, Handle, Op, Request, Step, StepId, Submit};
use rwsnap_core::fault::Fault;
use rwsnap_core::units::Dev;

use super::away::Absent;
use super::block::Block;
use super::disk::{Disk, Flushing, Kind, Reading};
use super::engine::{Engine, Routed};
use super::fault::Touch;
use super::memory::{Memory, Piece};
use super::plan::Plan;
use super::rng::{mix, Rng};
use super::tally::Kinds;

/// What the storm found wrong, in words.
pub(super) type Wrong = String;

/// A client's request.
#[derive(Clone, Debug)]
pub(super) struct Io {
    /// The opened volume.
    pub handle: Handle,
    /// What to do.
    pub op: Op,
    /// First block.
    pub at: u64,
    /// The blocks: to be written, or as read.
    pub blocks: Vec<Block>,
    /// Parts that are not done.
    pub left: usize,
    /// How it fails, if it does.
    pub failed: Option<Fault>,
}

/// What happened to something that was handed in.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A request is done: its number and itself.
    Io(u64, Io),
    /// A command is done: its cookie and reply.
    Reply(u64, Vec<u8>),
}

/// What is under way on a disk.
#[derive(Debug)]
enum Work {
    Read(Reading, Vec<Piece>),
    Write(u64, Vec<Piece>),
    Zero(u64),
    Flush(Flushing),
    Clear(Vec<Piece>),
    Grow(u64),
    /// A read of a device that is away.
    Nothing,
}

/// Whose work it is.
enum Owner<E: Engine> {
    Core(StepId),
    Passed { io: u64, cpu: u32, token: E::Token, fast: E::Fast },
}

struct Open<E: Engine> {
    owner: Owner<E>,
    dev: usize,
    at: u64,
    blocks: u64,
    work: Work,
    /// When it began, and the how manyth it is.
    born: u64,
    serial: u64,
}

/// Something that was `Busy`.
#[derive(Clone, Debug)]
enum Waiting {
    Part(Request),
    Command(u64, Vec<u8>),
}

/// See the module.
pub(super) struct Machine<E: Engine> {
    /// The core.
    pub core: E,
    /// Its devices, the save volume first.
    pub disks: Vec<Disk>,
    /// What ended and was not looked at.
    pub events: VecDeque<Event>,
    /// Print what begins.
    pub verbose: bool,
    /// What was counted.
    pub kinds: Kinds,
    /// The scheduler's clock.
    pub now: u64,
    /// Productions that are away.
    pub absent: Absent,
    serial: u64,
    block: u64,
    save_limit: u64,
    memory: Memory,
    open: Vec<Open<E>>,
    ios: BTreeMap<u64, Io>,
    commands: BTreeMap<u64, ()>,
    waiting: VecDeque<Waiting>,
    woken: bool,
    next: u64,
}

/// Set in the cookies of commands.
const COMMAND: u64 = 1 << 63;

fn dev_index(dev: Dev) -> usize {
    usize::from(dev.0)
}

/// What a step is called.
const fn step_kind(step: &Step) -> &'static str {
    match step {
        Step::Read { dev: Dev::SAVE, .. } => "step: read of the save volume",
        Step::Read { .. } => "step: read of production",
        Step::Write { fua: true, .. } => "step: write, FUA",
        Step::Write { dev: Dev::SAVE, .. } => "step: write to the save volume",
        Step::Write { .. } => "step: write to production",
        Step::Discard { .. } => "step: discard",
        Step::Zero { .. } => "step: zero",
        Step::Flush { dev: Dev::SAVE } => "step: flush of the save volume",
        Step::Flush { .. } => "step: flush of production",
        Step::Clear { .. } => "step: clear",
        Step::Grow { .. } => "step: grow",
        Step::Finish { .. } => "step: finish",
        Step::Reply { .. } => "step: reply",
        Step::Wake => "step: wake",
    }
}

impl<E: Engine> Machine<E> {
    /// A core that begins to open the pool on these disks.
    pub(super) fn new(core: E, disks: Vec<Disk>, plan: &Plan) -> Self {
        let block = disks.first().map_or(512, |d| d.device.block);
        Self {
            absent: if E::OPENS_ALONE { Absent::all(disks.len() - 1) } else { Absent::default() },
            core,
            disks,
            events: VecDeque::new(),
            verbose: plan.loud,
            kinds: Kinds::default(),
            now: 0,
            serial: 0,
            block: u64::from(block),
            save_limit: plan.save_limit,
            memory: Memory::new(block),
            open: Vec::new(),
            ios: BTreeMap::new(),
            commands: BTreeMap::new(),
            waiting: VecDeque::new(),
            woken: false,
            next: 1,
        }
    }

    /// How many steps are open.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Which device an open step is on.
    pub(super) fn device_of(&self, index: usize) -> usize {
        self.open[index].dev
    }

    /// Whether an open step is one of the few that take long.
    pub(super) fn is_stuck(&self, index: usize, now: u64, plan: &Plan) -> bool {
        let open = &self.open[index];
        let chance = mix(plan.seed ^ mix(open.serial));
        chance % 100 < plan.stuck && now < open.born + 20 + (chance >> 8) % 300
    }

    /// Whether it is a client's read of a slot that waits for all else.
    pub(super) fn is_patient(&self, index: usize, now: u64, plan: &Plan) -> bool {
        let open = &self.open[index];
        let chance = mix(plan.seed ^ mix(!open.serial));
        let client = |pieces: &[Piece]| matches!(pieces.first(), Some(Piece::Client { .. }));
        let slot = matches!(&open.work, Work::Read(_, pieces) if open.dev == 0 && client(pieces));
        slot && chance % 100 < plan.patient && now < open.born + 100 + (chance >> 8) % 1500
    }

    /// Requests and commands that have not ended.
    pub(super) fn pending(&self) -> usize {
        self.ios.len() + self.commands.len()
    }

    /// Hands in a request; gives its number.
    ///
    /// # Errors
    ///
    /// What the core did wrong.
    pub(super) fn request(
        &mut self,
        io: Io,
        fast: Option<&E::Fast>,
        cpu: u32,
    ) -> Result<u64, Wrong> {
        let number = self.next;
        self.next += 1;
        let (op, at) = (io.op, io.at * self.block);
        let len = io.blocks.len() as u64 * self.block;
        let len = u32::try_from(len).map_err(|_| "a request is too long".to_string())?;
        if let Some(fast) = fast {
            if let Routed::Pass(dev, at, token) = E::route(fast, cpu, op, at, len) {
                self.kinds.saw("passed straight through");
                self.ios.insert(number, Io { left: 1, ..io });
                let owner = Owner::Passed { io: number, cpu, token, fast: fast.clone() };
                self.pass(owner, number, dev, at)?;
                return Ok(number);
            }
        }
        self.slow(number, io, at, u64::from(len))?;
        Ok(number)
    }

    /// Cuts a request at the words and hands the parts to the core.
    fn slow(&mut self, number: u64, io: Io, at: u64, len: u64) -> Result<(), Wrong> {
        let word = self.core.geometry().word_bytes();
        let (handle, op) = (io.handle, io.op);
        let mut parts = Vec::new();
        let mut from = at;
        while from < at + len || (op == Op::Flush && parts.is_empty()) {
            let to = (at + len).min((from / word + 1) * word);
            let cookie = self.next;
            self.next += 1;
            let first = usize::try_from((from - at) / self.block).unwrap_or(0);
            self.memory.buffer(cookie, number, first);
            let len = u32::try_from(to - from).unwrap_or(0);
            parts.push(Request { volume: handle, op, at: from, len, cookie });
            from = to.max(from + 1);
        }
        self.ios.insert(number, Io { left: parts.len(), ..io });
        for part in parts {
            if self.core.submit(&part) == Submit::Busy {
                self.waiting.push_back(Waiting::Part(part));
            }
            self.drain()?;
        }
        Ok(())
    }

    /// Puts a passed request on its device.
    fn pass(&mut self, owner: Owner<E>, io: u64, dev: Dev, at: u64) -> Result<(), Wrong> {
        let Some(request) = self.ios.get(&io) else { return Ok(()) };
        let (op, data) = (request.op, request.blocks.clone());
        let blocks = data.len() as u64;
        let dev = dev_index(dev);
        if self.absent.has(dev) {
            return Err(format!("{op:?} is passed to device {dev}, which is away"));
        }
        let at = self.extent(dev, at, blocks * self.block)?.0;
        let disk = &mut self.disks[dev];
        let work = match op {
            Op::Read => Work::Read(disk.begin_read(at, blocks), Vec::new()),
            Op::Write { fua } => {
                Work::Write(disk.begin_write(at, data, Kind::Write { fua }), Vec::new())
            }
            Op::Zero { fua } => Work::Zero(disk.begin_write(at, data, Kind::Write { fua })),
            Op::Discard => Work::Zero(disk.begin_write(at, data, Kind::Discard)),
            Op::Flush => Work::Flush(disk.begin_flush()),
        };
        self.push(owner, dev, at, blocks, work);
        Ok(())
    }

    /// Hands in a command; gives its cookie.
    ///
    /// # Errors
    ///
    /// What the core did wrong.
    pub(super) fn command(&mut self, bytes: Vec<u8>) -> Result<u64, Wrong> {
        let cookie = self.next | COMMAND;
        self.next += 1;
        self.commands.insert(cookie, ());
        if self.core.command(cookie, &bytes) == Submit::Busy {
            self.waiting.push_back(Waiting::Command(cookie, bytes));
        }
        self.drain()?;
        Ok(cookie)
    }

    /// Takes all that the core gives out.
    ///
    /// # Errors
    ///
    /// What the core did wrong.
    pub(super) fn drain(&mut self) -> Result<(), Wrong> {
        self.core.resume();
        loop {
            while let Some((id, step)) = self.core.poll() {
                self.begin(id, step)?;
            }
            if !self.woken {
                if self.open.is_empty() && self.core.is_behind() {
                    self.core.resume();
                    continue;
                }
                return Ok(());
            }
            self.woken = false;
            for waiting in std::mem::take(&mut self.waiting) {
                let submit = match &waiting {
                    Waiting::Part(request) => self.core.submit(request),
                    Waiting::Command(cookie, bytes) => self.core.command(*cookie, bytes),
                };
                if submit == Submit::Busy {
                    self.waiting.push_back(waiting);
                }
            }
        }
    }

    fn begin(&mut self, id: StepId, step: Step) -> Result<(), Wrong> {
        self.kinds.saw(step_kind(&step));
        if let Some(dev) = self.away_of(&step)? {
            self.push(Owner::Core(id), dev, 0, 0, Work::Nothing);
            return Ok(());
        }
        let (dev, at, blocks, work) = match step {
            Step::Finish { cookie, outcome } => return self.finish(cookie, outcome),
            Step::Reply { cookie } => return self.replied(cookie),
            Step::Wake => {
                self.woken = true;
                return Ok(());
            }
            Step::Read { dev, at, len } => self.begin_read(id, dev, at, len)?,
            Step::Write { dev, at, len, fua } => self.begin_write(id, dev, at, len, fua)?,
            Step::Zero { dev, at, len, fua } => {
                self.begin_zero(dev, at, len, Kind::Write { fua })?
            }
            Step::Discard { dev, at, len } => self.begin_zero(dev, at, len, Kind::Discard)?,
            Step::Flush { dev } => {
                let dev = dev_index(dev);
                let disk = self.disks.get_mut(dev).ok_or("flush of no device")?;
                (dev, 0, 0, Work::Flush(disk.begin_flush()))
            }
            Step::Clear { len } => {
                (0, 0, 0, Work::Clear(self.memory.pieces(&self.core, id, u64::from(len))?))
            }
            Step::Grow { bytes } => (0, 0, 0, Work::Grow(bytes)),
        };
        if self.verbose {
            println!("       begins {step:?} = {at}+{blocks}");
        }
        self.push(Owner::Core(id), dev, at, blocks, work);
        Ok(())
    }

    fn push(&mut self, owner: Owner<E>, dev: usize, at: u64, blocks: u64, work: Work) {
        self.serial += 1;
        let (born, serial) = (self.now, self.serial);
        self.open.push(Open { owner, dev, at, blocks, work, born, serial });
    }

    /// What an open step touches: device, kind, first block, blocks.
    pub(super) fn touch(&self, index: usize) -> (usize, Touch, u64, u64) {
        let open = &self.open[index];
        let touch = match open.work {
            Work::Read(..) => Touch::Read,
            Work::Write(..) | Work::Zero(_) => Touch::Write,
            Work::Flush(_) => Touch::Flush,
            Work::Clear(_) | Work::Grow(_) | Work::Nothing => {
                return (usize::MAX, Touch::Read, 0, 0)
            }
        };
        (open.dev, touch, open.at, open.blocks)
    }

    /// Ends an open step, well or not.
    ///
    /// # Errors
    ///
    /// What the core did wrong.
    pub(super) fn end(&mut self, index: usize, ok: bool, rng: &mut Rng) -> Result<(), Wrong> {
        let Open { owner, dev, work, .. } = self.open.remove(index);
        let mut result = if ok { Ok(()) } else { Err(Fault::Io) };
        let (mut bytes, mut sums) = (Vec::new(), Vec::new());
        match work {
            Work::Read(reading, pieces) => {
                let found = self.disks[dev].end_read(reading, rng);
                match &owner {
                    Owner::Passed { io, .. } => self.found(*io, ok, found),
                    Owner::Core(_) if ok => {
                        let chunk = self.core.geometry().chunk_bytes();
                        self.memory.scatter(&pieces, found, &mut self.ios, chunk);
                        (bytes, sums) = self.memory.taken();
                    }
                    Owner::Core(_) => {}
                }
            }
            Work::Write(write, pieces) => {
                if let Owner::Core(id) = owner {
                    self.unchanged(id, dev, write, &pieces)?;
                }
                self.disks[dev].end_write(write, ok, rng);
            }
            Work::Zero(write) => self.disks[dev].end_write(write, ok, rng),
            Work::Flush(flush) => self.disks[dev].end_flush(flush, ok),
            Work::Clear(pieces) => self.memory.clear(&pieces, &mut self.ios),
            Work::Nothing => result = Err(Fault::Io),
            Work::Grow(to) if to > self.save_limit || !ok => result = Err(Fault::NoSpace),
            Work::Grow(to) => {
                self.kinds.saw("the save volume has grown");
                self.disks[0].grow(to);
            }
        }
        match owner {
            Owner::Core(id) => {
                self.core.complete(id, &Done { result, bytes: &bytes, sums: &sums });
            }
            Owner::Passed { io, cpu, token, fast } => {
                self.part_done(io, result);
                if E::leave(&fast, cpu, token) {
                    self.core.kick();
                }
            }
        }
        self.drain()
    }

    fn found(&mut self, io: u64, ok: bool, found: Vec<Block>) {
        if let Some(io) = self.ios.get_mut(&io).filter(|_| ok) {
            io.blocks = found;
        }
    }

    /// The memory of a write must not change while it is under way.
    fn unchanged(&self, id: StepId, dev: usize, write: u64, old: &[Piece]) -> Result<(), Wrong> {
        let len = old.iter().map(Piece::len).sum();
        let (data, pieces) = self.memory.gather(&self.core, id, len, &self.ios)?;
        if pieces != old || self.disks[dev].data_of(write) != Some(data.as_slice()) {
            return Err(format!("the memory of a write to device {dev} changed under way"));
        }
        Ok(())
    }

    fn finish(&mut self, cookie: u64, outcome: Result<(), Fault>) -> Result<(), Wrong> {
        let Some(io) = self.memory.release(cookie) else {
            return Err(format!("request {cookie} ended twice or never began"));
        };
        if let Err(Fault::Bug(line)) = outcome {
            return Err(format!("the core's invariant at line {line} does not hold"));
        }
        self.part_done(io, outcome);
        Ok(())
    }

    fn part_done(&mut self, number: u64, outcome: Result<(), Fault>) {
        let Some(io) = self.ios.get_mut(&number) else { return };
        io.left -= 1;
        io.failed = io.failed.or(outcome.err());
        if io.left == 0 {
            if let Some(io) = self.ios.remove(&number) {
                self.events.push_back(Event::Io(number, io));
            }
        }
    }

    fn replied(&mut self, cookie: u64) -> Result<(), Wrong> {
        if self.commands.remove(&cookie).is_none() {
            return Err(format!("command {cookie} ended twice or never began"));
        }
        let bytes = self.core.reply(cookie);
        self.events.push_back(Event::Reply(cookie, bytes));
        Ok(())
    }
}
