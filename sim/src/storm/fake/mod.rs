// SPDX-License-Identifier: MIT

//! A core that is too simple to be wrong: a snapshot or clone is a copy of a whole volume, one
//! command at a time runs while no request does, and the catalogue is a text. With it the storm
//! is tested: it must find nothing, and it must find each of the faults planted here.

mod admin;
mod catalogue;
mod engine;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use rwsnap_core::api::{Device, Op, Request, Step, StepId};
use rwsnap_core::control::{EntityRow, Refusal, Reply};
use rwsnap_core::fault::Fault;
use rwsnap_core::units::Dev;
use zerocopy::IntoBytes;

use self::catalogue::Catalogue;
use super::plan::Plan;

/// The planted faults, as `Plan::mutant`.
pub(super) const MUTANTS: [&str; 6] = [
    "none",
    "a snapshot does not flush production",
    "the catalogue is not flushed",
    "a client's flush does nothing",
    "a restore is not announced before it begins",
    "a refresh copies the first chunk only",
];

const REGIONS: u64 = 65536;
const TEXT: u64 = 32768;

#[derive(Clone, Debug)]
enum Memory {
    Request(u64, u32),
    Units(u32),
    Bytes(Vec<u8>),
    Meta(u32),
    Nothing,
}

#[derive(Debug)]
pub(super) struct State {
    slow: Cell<bool>,
    inside: Cell<u32>,
}

impl State {
    const fn new(slow: bool) -> Self {
        Self { slow: Cell::new(slow), inside: Cell::new(0) }
    }
}

#[derive(Clone, Debug)]
pub(super) struct FakeFast {
    dev: u16,
    state: Rc<State>,
}

pub(super) struct Fake {
    plan: Plan,
    catalogue: Catalogue,
    opened: Option<Result<(), String>>,
    save: Device,
    handles: Vec<u32>,
    fast: BTreeMap<u32, FakeFast>,
    steps: VecDeque<(StepId, Step)>,
    memory: BTreeMap<u32, (Memory, Option<u64>)>,
    next: u32,
    /// Requests on their way.
    flying: usize,
    /// Requests that wait for the command to end.
    held: Vec<Request>,
    commands: VecDeque<(u64, Vec<u8>)>,
    /// What the running command does, one after the other.
    acts: VecDeque<(Step, Memory)>,
    running: Option<(u64, Catalogue)>,
    broken: bool,
    replies: BTreeMap<u64, Vec<u8>>,
    found: Vec<Option<Catalogue>>,
    closing: bool,
    busy: bool,
    /// Writes with `fua` to a device without: the flush that follows.
    flush_after: BTreeMap<u32, Dev>,
}

fn reply(refusal: Refusal, rows: &[EntityRow]) -> Vec<u8> {
    let head = Reply {
        magic: rwsnap_core::control::MAGIC.into(),
        version: rwsnap_core::control::VERSION.into(),
        refusal: (refusal as u16).into(),
        count: u32::try_from(rows.len()).unwrap_or(0).into(),
        row_bytes: 464.into(),
        next: u64::MAX.into(),
        value: 0.into(),
    };
    let mut bytes = head.as_bytes().to_vec();
    rows.iter().for_each(|row| bytes.extend_from_slice(row.as_bytes()));
    bytes
}

impl Fake {
    fn step(&mut self, step: Step, memory: Memory, cookie: Option<u64>) {
        self.next += 1;
        self.memory.insert(self.next, (memory, cookie));
        self.steps.push_back((StepId { index: self.next, generation: 0 }, step));
    }

    fn tell(&mut self, step: Step) {
        self.steps.push_back((StepId { index: 0, generation: 0 }, step));
    }

    fn go(&mut self, request: &Request) {
        let id = self.handles[request.volume.0 as usize];
        let entry = self.catalogue.get(id).cloned();
        // What a failed command left on the disk is not known: nothing may be built on it.
        let Some(entry) = entry.filter(|_| !self.broken) else {
            let (cookie, outcome) = (request.cookie, Err(Fault::Fenced));
            return self.tell(Step::Finish { cookie, outcome });
        };
        self.flying += 1;
        let (dev, at, len) = (Dev(entry.dev), entry.start + request.at, request.len);
        let memory = Memory::Request(request.cookie, len);
        let plan = self.plan.clone();
        let real = |fua: bool| fua && plan.devices().nth(entry.dev.into()).unwrap().fua;
        let step = match request.op {
            Op::Read => Step::Read { dev, at, len },
            Op::Write { fua } => Step::Write { dev, at, len, fua: real(fua) },
            Op::Discard if entry.dev != 0 => Step::Discard { dev, at, len: len.into() },
            Op::Discard => Step::Zero { dev, at, len: len.into(), fua: false },
            Op::Zero { fua } => Step::Zero { dev, at, len: len.into(), fua: real(fua) },
            Op::Flush if self.plan.mutant == 3 => Step::Clear { len: 0 },
            Op::Flush => Step::Flush { dev },
        };
        self.step(step, memory, Some(request.cookie));
        let asks = matches!(request.op, Op::Write { fua: true } | Op::Zero { fua: true });
        if asks && !real(true) {
            self.flush_after.insert(self.next, dev);
        }
    }

    fn set_slow(&self, slow: bool) {
        self.fast.values().for_each(|f| f.state.slow.set(slow));
    }

    /// Goes on with the commands, as far as it goes.
    fn advance(&mut self) {
        loop {
            if !self.memory.is_empty() && self.running.is_some() {
                return;
            }
            if self.running.is_some() {
                match self.acts.pop_front() {
                    Some(_) if self.broken => {}
                    Some((step, memory)) => self.step(step, memory, None),
                    None => self.done(),
                }
                continue;
            }
            let Some((cookie, bytes)) = self.commands.front().cloned() else { return };
            self.set_slow(true);
            let inside: u32 = self.fast.values().map(|f| f.state.inside.get()).sum();
            if inside > 0 || self.flying > 0 {
                return;
            }
            self.commands.pop_front();
            let before = self.catalogue.clone();
            match self.compile(&bytes) {
                Ok(()) => self.running = Some((cookie, before)),
                Err(refusal) => {
                    self.catalogue = before;
                    self.acts.clear();
                    self.answer(cookie, reply(refusal, &[]));
                }
            }
        }
    }

    fn done(&mut self) {
        let Some((cookie, before)) = self.running.take() else { return };
        let refusal = if self.broken { Refusal::Io } else { Refusal::None };
        if self.broken {
            self.catalogue = before;
        }
        self.answer(cookie, reply(refusal, &[]));
    }

    fn answer(&mut self, cookie: u64, bytes: Vec<u8>) {
        self.replies.insert(cookie, bytes);
        self.tell(Step::Reply { cookie });
        if self.commands.is_empty() {
            self.set_slow(self.broken);
            for request in std::mem::take(&mut self.held) {
                self.go(&request);
            }
        }
    }
}
