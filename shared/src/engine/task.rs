// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A task: one request, or one piece of background work, on its way through the engine.
//!
//! A task is a small state machine. It runs until it has to wait for one thing: its own I/O, a
//! claim, a page, room, a position of the log, the end of a hold. What it waits for puts it back
//! into the queue of those that can run, and it goes on from its stage. Everything that it holds is
//! in its own record, so that giving up is one function.

use core::ops::{Deref, DerefMut};

use crate::api::Op;
use crate::engine::places::{Place, Places, What};
use crate::engine::slab::NONE;
use crate::fault::Fault;
use crate::units::{bit, bits, Epoch, LogPos, Word};

/// How far the look-up of a word has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Walk {
    /// Under way: `version` is valid.
    pub(crate) begun: bool,
    /// The level being searched.
    pub(crate) level: u8,
    /// Its search goes on from here.
    pub(crate) from: Epoch,
    /// Chunks not yet found in the levels before.
    pub(crate) missing: u64,
    /// Of those, the ones that this level has given.
    pub(crate) found: u64,
    /// The map's version for the word when the walk began: changed, it begins again.
    pub(crate) version: u64,
}

/// What a task is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Job {
    /// Nothing: free.
    Free,
    /// A client's read, write, discard or zero.
    Client,
    /// A client's flush.
    Flush,
    /// A command: `Task::aux` is its number in the table of commands.
    Command,
    /// Sweeps maps.
    Sweep,
    /// A batch of the merge: `Task::aux` is its number.
    Merge,
    /// Plans the batches of the merge.
    MergePlan,
    /// Copies ahead of first writes.
    Ahead,
    /// Counts what volumes and snapshots use.
    Count,
}

/// Where a task goes on. Each job uses the stages in the order of its own module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// From the beginning.
    Begin,
    /// Look up places.
    Lookup,
    /// Look up places again, all levels (partial writes).
    LookupBase,
    /// Old or base data is being read.
    Fill,
    /// In the commit pipeline, or waiting for a position of the log.
    Commit,
    /// Durable; readers in place must drain.
    Gate,
    /// The last I/O is under way.
    Last,
    /// Done but for a flush.
    Durable,
    /// Own numbering of longer jobs.
    Step(u8),
}

/// A task: its state, and the places that it has looked up. These are most of it, and are neither
/// cleared nor copied when it is made anew.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) state: State,
    pub(crate) places: Places,
}

impl Deref for Task {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Task {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

/// The state of a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub(crate) job: Job,
    pub(crate) stage: Stage,
    /// In a queue of waiters or of those that can run.
    pub(crate) queued: bool,
    pub(crate) cookie: u64,
    /// The view it reads or writes through.
    pub(crate) view: u32,
    pub(crate) op: Op,
    pub(crate) word: Word,
    /// First byte in the word.
    pub(crate) at: u32,
    /// Bytes.
    pub(crate) len: u32,
    /// The word's chunks that those bytes touch.
    pub(crate) mask: u64,
    /// Chunks that need copying, allocating or merging.
    pub(crate) need: u64,
    /// Of those, the ones that could not be read.
    pub(crate) lost: u64,
    /// Redirected chunks that get a slot.
    pub(crate) fresh_need: u64,
    /// Redirected chunks written in part, which need their base's data.
    pub(crate) part: u64,
    /// Redirected chunks that become zeros.
    pub(crate) zero: u64,
    /// The base's data of at most two such chunks: (chunk of the word, copy unit).
    pub(crate) base: [(u32, u32); 2],
    /// The epoch it works under.
    pub(crate) epoch: Epoch,
    /// The views that it looked up through: their number at the time.
    pub(crate) views: u64,
    /// Steps under way.
    pub(crate) io: u32,
    pub(crate) fault: Option<Fault>,
    pub(crate) walk: Walk,
    /// The page it waits for.
    pub(crate) page: crate::units::PageNo,
    /// Counted among those that may load pages.
    pub(crate) walker: bool,
    /// Its exclusive claim.
    pub(crate) lock: u32,
    /// A second one: on M, while production is being restored.
    pub(crate) lock_new: u32,
    /// The chunks that it writes in place.
    pub(crate) in_place: u64,
    /// Its claim as a reader in place, or as a writer of slots in place.
    pub(crate) share: u32,
    /// Its chain of copy units and their number.
    pub(crate) units: u32,
    pub(crate) unit_count: u32,
    /// The log position it waits for.
    pub(crate) pos: LogPos,
    /// The slot phase it is counted in, if it does I/O on slots.
    pub(crate) slot_phase: Option<bool>,
    /// Puts into the fresh delta that are reserved for it.
    pub(crate) reserved: usize,
    /// Counted among its volume's writes under way.
    pub(crate) counted: bool,
    pub(crate) aux: u32,
}

impl State {
    /// That of none.
    const FREE: Self = Self {
        job: Job::Free,
        stage: Stage::Begin,
        queued: false,
        cookie: 0,
        view: NONE,
        op: Op::Flush,
        word: Word(0),
        at: 0,
        len: 0,
        mask: 0,
        need: 0,
        lost: 0,
        fresh_need: 0,
        part: 0,
        zero: 0,
        base: [(0, NONE); 2],
        epoch: Epoch(0),
        views: 0,
        io: 0,
        fault: None,
        walk: Walk { begun: false, level: 0, from: Epoch(0), missing: 0, found: 0, version: 0 },
        page: crate::units::PageNo(u64::MAX),
        walker: false,
        lock: NONE,
        lock_new: NONE,
        in_place: 0,
        share: NONE,
        units: NONE,
        unit_count: 0,
        pos: LogPos(0),
        slot_phase: None,
        reserved: 0,
        counted: false,
        aux: 0,
    };

    /// The copy unit that holds the base of the chunk at `bit`.
    pub(crate) fn base_unit(&self, bit: u32) -> u32 {
        self.base.iter().find(|b| b.0 == bit && b.1 != NONE).map_or(NONE, |b| b.1)
    }

    pub(crate) fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

impl Task {
    /// None; over 1 KiB, so that it is copied to its place in the table, not built on the stack.
    pub(crate) const FREE: Self = Self { state: State::FREE, places: Places::UNSET };

    /// Makes it a task of this kind, on this view; all else is as in `FREE`.
    pub(crate) fn renew(&mut self, job: Job, view: u32) {
        self.state = State { job, view, ..State::FREE };
        self.places.forget(u64::MAX);
    }

    /// The place of the chunk at `bit`.
    pub(crate) fn place(&self, bit: u32) -> Place {
        self.places.get(bit)
    }

    pub(crate) fn set_place(&mut self, bit: u32, place: Place) {
        self.places.set(bit, place);
    }

    /// The chunks of `mask` whose place is as `is` says.
    pub(crate) fn placed(&self, mask: u64, is: impl Fn(What) -> bool) -> u64 {
        bits(mask).filter(|at| is(self.place(*at).what)).fold(0, |out, at| out | bit(at))
    }
}
