// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The engine: requests and commands go in, steps come out, completions go back.
//!
//! Work is done by *tasks* (`task.rs`), each a small state machine that runs until it has to wait
//! for one thing. Beside them stand three machines of which there is one each: the commit pipeline
//! (`commit.rs`), the flush rounds (`flush.rs`) and the checkpoint (`checkpoint.rs`). Nothing is
//! done in `complete` but noting the result and making somebody run; all work happens in `poll`,
//! until nothing can run any more. The driver drains `poll` after every call.
//!
//! A request's way: `client.rs` takes it; reads go through `read.rs`, writes of production through
//! `cow.rs`, writes of clones and of unsettled chunks through `redirect.rs`.

mod ahead;
pub(crate) mod checkpoint;
mod claims;
mod client;
mod commit;
mod cow;
mod debug;
mod flush;
mod journal;
mod open;
mod page;
mod places;
pub(crate) mod prints;
mod promise;
mod read;
mod redirect;
mod slab;
mod space;
mod step;
mod task;
mod units;
mod view;
mod views;
mod walk;
mod water;

pub use open::{
    OpenError, Production, Short, CACHE_PAGES_MIN, COPY_UNITS_MIN, DELTA_RECORDS_MIN, VIEWS,
    VOLUMES,
};
pub use views::Attached;

use crate::api::{Device, Done, Limits, Seg, Step, StepId};
use crate::catalog::Catalog;
use crate::fault::Fault;
use crate::format::log::Counters;
use crate::format::superblock::Superblock;
use crate::log::Writer;
use crate::map::{Group, Layers};
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::slots::{Meta, Slots};
use crate::units::{Dev, Geometry, LogPos, PageNo, Slot, Word};
pub(crate) use claims::Claims;
pub(crate) use commit::Commit;
pub(crate) use flush::Flush;
pub(crate) use places::{Place, Places, What};
pub(crate) use promise::HINTS;
pub(crate) use slab::{Queue, Slab, NONE};
pub(crate) use step::{Owner, Piece, Steps, SEGS};
pub(crate) use task::{Job, Stage, Task};
pub(crate) use units::CopyUnits;
pub(crate) use view::{Dir, Level, View, Volume, LEVELS};
pub(crate) use walk::{Levels, Stop};

/// For each of some hashes of words, how often a record of such a word changed.
pub(crate) struct Versions<P: Platform> {
    words: P::Array<u64>,
    /// How often anything changed: records, or who reads them.
    changes: u64,
}

impl<P: Platform> Versions<P> {
    fn index(word: Word) -> usize {
        usize::try_from(word.0 & 1023).unwrap_or(0)
    }

    pub(crate) fn of(&self, word: Word) -> u64 {
        self.words.get(Self::index(word)).copied().unwrap_or(0)
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Views are made of something else.
    pub(crate) fn changed(&mut self) {
        self.changes = self.changes.wrapping_add(1);
    }

    fn bump_all(&mut self) {
        self.changed();
        for n in self.words.iter_mut() {
            *n = n.wrapping_add(1);
        }
    }

    pub(crate) fn bump(&mut self, word: Word) {
        self.changed();
        if let Some(n) = self.words.get_mut(Self::index(word)) {
            *n = n.wrapping_add(1);
        }
    }
}

/// Counts since the pool was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) copied: u64,
    /// Reads, writes and flushes of the save volume, then of production.
    pub(crate) io: [u64; 6],
    /// Steps of notes, which are not in `io`.
    pub(crate) notes: u64,
    pub(crate) log_records: u64,
    pub(crate) checkpoints: u64,
}

/// An opened pool.
pub struct Core<P: Platform> {
    pub(crate) platform: P,
    pub(crate) geometry: Geometry,
    pub(crate) block: u32,
    pub(crate) save: Device,
    pub(crate) superblock: P::Box<Superblock>,
    pub(crate) limits: Limits,
    pub(crate) mutant: Option<Mutant>,

    pub(crate) catalog: P::Box<Catalog<P>>,
    pub(crate) layers: P::Box<Layers<P>>,
    pub(crate) group: P::Box<Group>,
    pub(crate) slots: P::Box<Slots<P>>,
    pub(crate) meta: P::Box<Meta<P>>,
    pub(crate) log: P::Box<Writer<P>>,

    pub(crate) tasks: Slab<P, Task>,
    pub(crate) tasks_reserved: u32,
    pub(crate) views: Slab<P, View>,
    pub(crate) vols: Slab<P, Volume<P>>,
    pub(crate) claims: Claims<P>,
    pub(crate) steps: Steps<P>,
    pub(crate) units: CopyUnits<P>,
    pub(crate) versions: Versions<P>,

    pub(crate) run: Queue,
    pub(crate) walker_waiters: Queue,
    pub(crate) step_waiters: Queue,
    pub(crate) unit_waiters: Queue,
    pub(crate) room_waiters: Queue,
    pub(crate) page_waiters: P::Array<Queue>,
    pub(crate) walkers: u32,

    pub(crate) commit: Commit,
    pub(crate) flush: Flush,
    pub(crate) checkpoint: P::Box<checkpoint::Checkpoint<P>>,
    pub(crate) opening: P::Box<open::Opening<P>>,
    pub(crate) space: space::Space<P>,
    pub(crate) lifecycle: P::Box<crate::lifecycle::Lifecycle<P>>,

    pub(crate) counters: Counters,
    /// Tasks with I/O on slots under way, in each phase (I-12).
    pub(crate) slot_io: [u32; 2],
    pub(crate) slot_phase: bool,
    /// Records that writes under way will put into the fresh delta at most.
    pub(crate) fresh_reserved: usize,
    /// Some volume waits for `Volume::lowers`.
    pub(crate) lowering: bool,
    pub(crate) span_chunks: u32,
    pub(crate) cache_pages: u32,
    pub(crate) now_ns: u64,
    pub(crate) busy: bool,
    pub(crate) started: bool,
    pub(crate) closed: Option<Result<(), Fault>>,
    pub(crate) closing: bool,
    pub(crate) fenced: Option<Fault>,
    pub(crate) stats: P::Box<Stats>,
}

impl<P: Platform> Core<P> {
    /// Whether work waits that nobody waits for (a sweep, a count, the way of a merge). It goes on
    /// slice by slice, so that requests need not wait for more than one: a driver that has nothing
    /// more urgent, or has looked at what is, says [`Self::resume`] and drains `poll` again.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.lifecycle.background.is_empty()
    }

    /// The next `poll` goes on with a slice of the work in the background.
    pub fn resume(&mut self) {
        self.lifecycle.slice = true;
    }

    /// The next thing that the driver has to do.
    pub fn poll(&mut self) -> Option<(StepId, Step)> {
        if self.steps.is_empty() {
            self.work();
        }
        let next = self.steps.pop();
        if let Some((id, step)) = next {
            self.count_step(id, step);
        }
        next
    }

    /// Runs tasks and machines until none of them can go on.
    fn work(&mut self) {
        // The machines may make work for each other, and for tasks: go round until nobody does.
        for _ in 0..64 {
            if core::mem::take(&mut self.lifecycle.slice) || self.closing || self.fenced.is_some() {
                self.tasks.append(&mut self.run, &mut self.lifecycle.background);
            }
            self.run_drains();
            while let Some(t) = self.tasks.pop(&mut self.run) {
                self.tasks.at_mut(t).queued = false;
                self.run_task(t);
                if !self.steps.has_out_room() {
                    return;
                }
            }
            self.look_at_lowering();
            self.run_lifecycle();
            self.look_at_given_up();
            self.run_close();
            self.run_rounds();
            self.run_checkpoint();
            self.run_commit();
            let ended = core::mem::take(&mut self.checkpoint.ended);
            if self.run.is_empty() && !ended && !self.may_go_on() {
                break;
            }
        }
        let room = self.tasks.left() > self.tasks_reserved && !self.steps.is_full();
        if self.busy && room && self.lifecycle.slots.left() > 0 {
            self.busy = false;
            self.steps.tell(Step::Wake);
        }
        let strays = self.steps.strays().max(self.tasks.strays).max(self.claims.strays());
        if strays != 0 {
            self.fence(Fault::Bug(strays));
        }
    }

    /// Whether a machine that could not go on before can now.
    fn may_go_on(&self) -> bool {
        let commit = self.commit.wanted && self.commit.phase == commit::Phase::Idle;
        let round = self.flush.wanted && self.flush.round == flush::Round::Idle;
        self.fenced.is_none() && (commit || round || self.checkpoint.can_go_on(&self.commit))
    }

    fn run_task(&mut self, t: u32) {
        match self.tasks.at(t).job {
            Job::Free => {}
            Job::Client => self.run_client(t),
            Job::Flush => self.run_flush(t),
            Job::Command => self.run_command(t),
            Job::Sweep => self.run_sweep(t),
            Job::Merge => self.run_merge(t),
            Job::MergePlan => self.run_plan(t),
            Job::Count => self.run_count(t),
            Job::Ahead => self.run_ahead(t),
        }
    }

    /// Snapshots and the like that wait for what passed before them.
    fn run_drains(&mut self) {
        if self.lifecycle.draining != 0 {
            self.look_at_drains();
        }
    }

    /// `Fast::leave` said that somebody waits.
    pub fn kick(&mut self) {
        self.run_drains();
    }

    /// The time is `now_ns` (wall clock). To be called some ten times a second.
    pub fn tick(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.lifecycle.slice = true;
        self.tick_lifecycle();
    }

    /// Opens a step for somebody.
    #[track_caller]
    pub(crate) fn open_step(&mut self, owner: Owner, step: Step, pieces: [Piece; SEGS], tag: u64) {
        if let Owner::Task(t) = owner {
            let task = self.tasks.at_mut(t);
            task.io = task.io.saturating_add(1);
        }
        self.steps.open(owner, step, pieces, tag);
    }

    /// A step has ended.
    pub fn complete(&mut self, id: StepId, done: &Done<'_>) {
        let none = self.steps.room() == 0;
        let Some(open) = self.steps.close(id) else { return };
        if none && self.steps.room() != 0 {
            self.wake_walkers();
        }
        let result = done.result;
        self.look_at_flush(&open, result);
        match open.owner {
            Owner::Task(t) => self.task_step_done(t, &open, done),
            Owner::Commit => self.commit_written(result),
            Owner::Log => self.log_written(open.tag, result),
            Owner::MergeFlush => self.merge_flushed(result),
            Owner::CommitFlush => self.commit_flushed(self.believed(result)),
            Owner::Settle => self.data_flushed(self.believed(result)),
            Owner::Page(page) => self.page_read(PageNo(page), result, done.bytes),
            Owner::Checkpoint => self.checkpoint_step_done(result),
            Owner::Open(tag) => self.open_step_done(tag, &open, done),
            Owner::Grow => self.grown(result),
            Owner::Nobody => {}
        }
        if !self.step_waiters.is_empty() && self.steps.room() >= self.steps.enough() {
            let mut waiters = core::mem::take(&mut self.step_waiters);
            self.wake_all(&mut waiters);
        }
    }

    /// A flush of the save volume that failed covered more than its own task's writes, and one that
    /// succeeds later says nothing of them (I-18).
    fn look_at_flush(&mut self, open: &step::Closed, result: Result<(), Fault>) {
        let shared = matches!(open.owner, Owner::Task(_) | Owner::MergeFlush);
        let flush = open.step == Step::Flush { dev: Dev::SAVE };
        if let (true, true, Err(fault)) = (shared, flush, self.believed(result)) {
            self.fence(fault);
        }
    }

    /// What a failed flush means: never success (rule 8).
    fn believed(&self, result: Result<(), Fault>) -> Result<(), Fault> {
        if self.mutant(Mutant::BelieveFlush) {
            Ok(())
        } else {
            result
        }
    }

    fn task_step_done(&mut self, t: u32, open: &step::Closed, done: &Done<'_>) {
        if let Piece::Chain(first, n, _) = open.first {
            let mut unit = first;
            for i in 0..n {
                let sum = usize::try_from(i).ok().and_then(|i| done.sums.get(i)).copied();
                self.units.set_sum(unit, sum.unwrap_or(0));
                unit = self.units.next(unit);
            }
        }
        let task = self.tasks.at_mut(t);
        task.io = task.io.saturating_sub(1);
        if let Err(fault) = done.result {
            if open.tag & cow::OLD != 0 {
                // Old data that cannot be read is lost for the snapshots, not for production.
                let first = u32::try_from(open.tag & 0xFF).unwrap_or(0);
                let len = u32::try_from(open.tag >> 8 & 0xFF).unwrap_or(0);
                task.lost |= crate::units::bit_range(first, len);
            } else {
                task.fail(fault);
            }
        }
        if self.tasks.at(t).io == 0 {
            self.ready(t);
        }
    }

    /// Whether an open step moves clients' memory and copy units only: no bytes of the core's own.
    #[must_use]
    pub fn is_data(&self, id: StepId) -> bool {
        let own =
            |piece: &Piece| matches!(piece, Piece::Log(..) | Piece::Pages(..) | Piece::Meta(..));
        self.steps.get(id).is_some_and(|open| !open.pieces.iter().any(own))
    }

    /// Names the memory that an open step moves, piece by piece, in the order of the device.
    pub fn segs(&self, id: StepId, f: &mut dyn FnMut(Seg<'_>)) {
        let Some(open) = self.steps.get(id) else { return };
        for piece in &open.pieces {
            self.seg(*piece, f);
        }
    }

    fn seg(&self, piece: Piece, f: &mut dyn FnMut(Seg<'_>)) {
        match piece {
            Piece::None => {}
            Piece::Client(cookie, at, len) => f(Seg::Client { cookie, at, len }),
            Piece::Unit(unit, at, len) => f(Seg::Copy { unit, at, len }),
            Piece::Zeros(len) => f(Seg::Zeros { len }),
            Piece::Meta(len) => f(Seg::Meta { len }),
            Piece::Chain(first, n, last) => {
                let mut unit = first;
                for i in 0..n {
                    let whole = self.geometry.chunk_bytes();
                    let len = if i.saturating_add(1) == n { last } else { whole };
                    f(Seg::Copy { unit, at: 0, len });
                    unit = self.units.next(unit);
                }
            }
            Piece::Log(pos, n) => {
                for i in 0..u64::from(n) {
                    f(Seg::Bytes(self.log.bytes(LogPos(pos.saturating_add(i)))));
                }
            }
            Piece::Pages(first, n) => {
                for i in 0..n {
                    f(Seg::Bytes(self.checkpoint.buffer(first.saturating_add(i))));
                }
            }
        }
    }

    fn count_step(&mut self, id: StepId, step: Step) {
        let (dev, kind) = match step {
            Step::Read { dev, .. } => (dev, 0),
            Step::Write { dev, .. } | Step::Zero { dev, .. } => (dev, 1),
            Step::Flush { dev } => (dev, 2),
            _ => return,
        };
        // Without FUA of its own the device, or who drives it, flushes behind the write.
        let durable = matches!(step, Step::Write { dev: Dev::SAVE, fua: true, .. });
        let flush = u64::from(durable && !self.save.fua);
        let owner = self.steps.get(id).map(|open| open.owner);
        if self.commit.note && matches!(owner, Some(Owner::Log | Owner::CommitFlush)) {
            self.stats.notes = self.stats.notes.saturating_add(1).saturating_add(flush);
            return;
        }
        let at = if dev.0 == 0 { kind } else { 3 + kind };
        for (at, more) in [(at, 1), (2, flush)] {
            if let Some(n) = self.stats.io.get_mut(at) {
                *n = n.saturating_add(more);
            }
        }
    }

    /// The task's volume, or `NONE`.
    pub(crate) fn vol_of(&self, t: u32) -> u32 {
        self.views.at(self.tasks.at(t).view).vol
    }

    /// Where a slot begins on the save volume.
    pub(crate) fn slot_byte(&self, slot: Slot) -> u64 {
        self.superblock.slot_byte(slot).unwrap_or(u64::MAX)
    }

    /// Whether this bug is planted.
    pub(crate) fn mutant(&self, which: Mutant) -> bool {
        cfg!(feature = "mutants") && self.mutant == Some(which)
    }

    /// Stops all that would change metadata: what is on the disk is no longer known.
    pub(crate) fn fence(&mut self, fault: Fault) {
        if self.fenced.is_none() {
            self.fenced = Some(fault);
            self.event_fenced(fault);
        }
        self.commit.wanted = false;
        let mut copies = core::mem::take(&mut self.commit.copies);
        self.commit.copy_count = 0;
        while let Some(t) = self.tasks.pop(&mut copies) {
            self.tasks.at_mut(t).queued = false;
            self.tasks.at_mut(t).fail(Fault::Fenced);
            self.ready(t);
        }
        if self.commit.io == 0 {
            self.wake_durable();
        }
        let mut waiters = core::mem::take(&mut self.room_waiters);
        self.wake_all(&mut waiters);
        // Those who wait for a snapshot to be durably gone, too: it never will be.
        for v in 0..self.vols.top() {
            let mut held = core::mem::take(&mut self.vols.at_mut(v).held);
            self.wake_all(&mut held);
        }
        self.wake_walkers();
    }

    /// The size and alignment of chunks.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The logical block that requests must be aligned to, in bytes.
    pub fn block(&self) -> u32 {
        self.block
    }
}
