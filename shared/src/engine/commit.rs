// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The commit pipeline: copies and records become durable in batches, in the order of the log.
//!
//! State: idle; *writing* (slots and log blocks of a batch are on their way); *flushing*. A batch
//! takes all that waits when it begins; what comes meanwhile forms the next. The flush is given out
//! when all writes of the batch, and so of all batches before it, are complete: what it covers is a
//! prefix of the log (I-6).

use crate::api::{Op, Step};
use crate::engine::checkpoint::PageRoom;
use crate::engine::slab::{Queue, NONE};
use crate::engine::step::{Owner, Piece, SEGS};
use crate::engine::{Core, Job};
use crate::fault::Fault;
use crate::format::entity::Entity;
use crate::format::log::{Entry, Fold};
use crate::format::record::{Kind, Record};
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::{bit, low_bits, runs, Dev, Epoch, LogPos, MapId, Slot, PAGE_BYTES};

/// Copies of a batch that is written with FUA instead of a flush, at most.
const FUA_COPIES: u32 = 4;
/// Chunks that one slot write takes at most.
const RUN_MAX: u32 = 256;

/// Where the pipeline stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Phase {
    #[default]
    Idle,
    Writing,
    Flushing,
}

/// The pipeline.
#[derive(Default)]
pub(crate) struct Commit {
    pub(crate) phase: Phase,
    /// Copies whose old data has been read, in order.
    pub(crate) copies: Queue,
    pub(crate) copy_count: u32,
    /// Tasks that wait for their `Task::pos` to be durable.
    pub(crate) waiters: Queue,
    /// The batch under way is written with FUA.
    fua: bool,
    /// A record, or a superblock, names all before it as durable.
    pub(crate) noted: LogPos,
    /// The batch under way is a note, and nothing else.
    pub(crate) note: bool,
    /// What was durable when the clock moved last.
    still: LogPos,
    /// Something wants to be written.
    pub(crate) wanted: bool,
    /// Writes of the batch under way.
    pub(crate) io: u32,
    /// Log position at the batch's end.
    pub(crate) upto: LogPos,
    /// All records below it are durable.
    pub(crate) durable: LogPos,
}

/// Adjacent slots being gathered into one write.
#[derive(Clone, Copy)]
struct Gather {
    slot: Slot,
    n: u32,
    first: u32,
    last: u32,
}

const EMPTY: Gather = Gather { slot: Slot(0), n: 0, first: NONE, last: NONE };

impl<P: Platform> Core<P> {
    /// Begins a batch if the pipeline is idle and something waits.
    pub(crate) fn run_commit(&mut self) {
        if self.commit.phase != Phase::Idle || !self.commit.wanted || self.fenced.is_some() {
            return;
        }
        // Up to 319 chunks, each in a write of its own, and the log's.
        if self.steps.room() < 330 {
            return;
        }
        self.commit.wanted = false;
        self.commit.note = false;
        // All before the batch is durable: what it writes with FUA is a prefix too (I-6). Of many
        // writes each would pay for itself what one flush does for all; a block alone need not wait
        // for its flush to be asked for, even where that is what FUA comes to.
        let copies = self.commit.copy_count;
        let may = self.save.volatile
            && !self.mutant(Mutant::WriteBeforeFlush)
            && !self.mutant(Mutant::FlushBeforeWrites);
        self.commit.fua = may && self.save.fua && copies <= FUA_COPIES;
        self.take_copies();
        self.log.seal(&self.platform);
        self.commit.fua |= may && copies == 0 && self.log.is_one_run();
        self.commit.upto = self.log.head();
        self.write_log();
        self.commit.phase = Phase::Writing;
        if self.mutant(Mutant::FlushBeforeWrites) {
            return self.batch_written();
        }
        if self.commit.io == 0 {
            self.batch_written();
        }
    }

    /// Gives slots and records to the copies that wait.
    fn take_copies(&mut self) {
        let mut gather = EMPTY;
        let mut run = (Slot(0), 0u32);
        let (mut budget, mut later) = (256u32, false);
        while self.commit.copies.head != NONE && budget > 0 {
            let t = self.commit.copies.head;
            let task = self.tasks.at(t);
            let vol = self.vols.at(self.vol_of(t));
            let late = task.epoch != vol.newest && !self.mutant(Mutant::StaleEpoch);
            let stale = late || vol.lowers.is_some();
            if task.job == Job::Ahead && stale {
                self.unqueue_copy();
                self.finish_task(t);
                continue;
            }
            if task.job == Job::Client && stale {
                // A snapshot came or went: whether the copy is needed has to be looked up again.
                self.unqueue_copy();
                self.begin_again(t);
                continue;
            }
            let gone = self.catalog.snapshot_at(vol.map, task.epoch).is_none();
            if task.job == Job::Merge && gone {
                // What it saves is for nobody now: nobody would ever free it.
                self.unqueue_copy();
                self.end_word(t, true);
                continue;
            }
            let (job, op) = (task.job, task.op);
            let chunks = (task.need & !task.lost).count_ones();
            let total = self.commit.copy_count.saturating_mul(chunks.max(1));
            let room = self.may_grow(chunks.saturating_add(4));
            if room == PageRoom::Later {
                later = true;
                break;
            }
            let own = if job == Job::Merge { self.space.restoring } else { 0 };
            if room == PageRoom::Never || u64::from(chunks) > self.slots.available_to(own) {
                if job == Job::Ahead || (job == Job::Client && op == Op::Discard) {
                    // Nobody asked for it, or it is advice that there is no room to follow.
                    self.unqueue_copy();
                    self.finish_task(t);
                    continue;
                }
                if job != Job::Merge {
                    self.save_full(u64::from(chunks));
                    break;
                }
                self.unqueue_copy();
                self.starve_merge(t, u64::from(chunks));
                continue;
            }
            self.unqueue_copy();
            if let Err(fault) = self.take_copy(t, &mut run, &mut gather, total) {
                self.fence(fault);
                return;
            }
            budget = budget.saturating_sub(chunks.max(1));
            self.wait_for_copy(t);
        }
        self.write_slots(&mut gather);
        if run.1 != 0 {
            self.release_slots(run.0, run.1);
        }
        // Room comes with a flush or a checkpoint, and they say so.
        self.commit.wanted |= self.space_state_ok() && !later && self.copies_wait();
    }

    fn copies_wait(&self) -> bool {
        self.commit.copies.head != NONE
    }

    /// There may be room in the log again: copies that wait for it go on.
    pub(crate) fn wake_copies(&mut self) {
        self.commit.wanted |= self.space_state_ok() && self.copies_wait();
    }

    /// Lets a task wait for its copies' records, unless nothing was left of them: what could not be
    /// read had not to be.
    fn wait_for_copy(&mut self, t: u32) {
        if self.tasks.at(t).need == 0 {
            return self.ready(t);
        }
        let pos = self.log.last();
        self.wait_durable(t, pos);
    }

    /// Takes the first copy out of the queue.
    fn unqueue_copy(&mut self) {
        if let Some(t) = self.tasks.pop(&mut self.commit.copies) {
            self.commit.copy_count = self.commit.copy_count.saturating_sub(1);
            self.tasks.at_mut(t).queued = false;
        }
    }

    /// Records one copy, in pieces whose slots are adjacent.
    fn take_copy(
        &mut self,
        t: u32,
        run: &mut (Slot, u32),
        gather: &mut Gather,
        want: u32,
    ) -> Result<(), Fault> {
        let task = self.tasks.at(t);
        let (need, lost, word, epoch) = (task.need, task.lost, task.word, task.epoch);
        let merge = task.job == Job::Merge;
        let vol = self.vols.at(self.vol_of(t));
        let map = vol.map;
        if let (Some(m), Job::Client) = (vol.redirect, self.tasks.at(t).job) {
            self.settle_copied(t, m)?;
        }
        self.claims.set_copying(self.tasks.at(t).lock, need & !lost);
        let blank = Record { map, word, epoch, kind: Kind::Copied, mask: 0, slot: Slot(0) };
        let mut unit = self.tasks.at(t).units;
        let mut piece = blank;
        let mut sum = Fold::default();
        for (first, len) in runs(need) {
            for b in first..first.saturating_add(len) {
                let next = self.units.next(unit);
                if lost & bit(b) == 0 {
                    if run.1 == 0 {
                        let left = (need & !lost & !low_bits(b)).count_ones();
                        let got = if merge {
                            self.take_slots_to_restore(left)
                        } else {
                            self.take_slots(want.max(left))
                        };
                        *run = got.ok_or(crate::bug!())?;
                    }
                    let slot = run.0;
                    *run = (slot.next(), run.1.saturating_sub(1));
                    if piece.mask != 0 && slot != piece.slot.plus(u64::from(piece.slots())) {
                        self.put_logged(&piece, Some(sum.end()))?;
                        piece = blank;
                    }
                    if piece.mask == 0 {
                        piece.slot = slot;
                        sum = Fold::default();
                    }
                    piece.mask |= bit(b);
                    sum.add(self.units.sum(unit));
                    self.gather(gather, slot, unit);
                }
                unit = next;
            }
        }
        if piece.mask != 0 {
            self.put_logged(&piece, Some(sum.end()))?;
        }
        // What the client does not write stays in place, where it may be read some other day.
        let spared = if merge { 0 } else { lost & !self.tasks.at(t).in_place };
        self.tasks.at_mut(t).need &= !spared;
        let lost = lost & !spared;
        if lost != 0 {
            self.put_logged(&Record { kind: Kind::Lost, mask: lost, ..blank }, None)?;
            self.note_damage(map, epoch);
        }
        let copied = u64::from((need & !lost & !spared).count_ones());
        self.stats.copied = self.stats.copied.saturating_add(copied);
        self.versions.bump(word);
        Ok(())
    }

    /// Chunks of a restoring production that are in place because X's data is: with R gone, their
    /// copies are X's as well, and only a settled chunk goes on reading in place.
    fn settle_copied(&mut self, t: u32, m: MapId) -> Result<(), Fault> {
        let task = self.tasks.at(t);
        let (word, mask, epoch) = (task.word, task.need, task.epoch);
        let id = self.vols.at(self.vol_of(t)).id;
        let restore = self.catalog.get(id).and_then(Entity::restoring);
        if restore.is_none_or(|r| epoch.0 >= r.r_epoch.get()) {
            return Ok(());
        }
        let slot = Slot(0);
        let settled = Record { map: m, word, epoch: Epoch(0), kind: Kind::Settled, mask, slot };
        self.put_logged(&settled, None)
    }

    /// Adds a slot's data to the write being gathered, or begins another.
    fn gather(&mut self, gather: &mut Gather, slot: Slot, unit: u32) {
        let follows = gather.n != 0
            && gather.n < RUN_MAX
            && gather.slot.plus(u64::from(gather.n)) == slot
            // Chains are joined at their ends alone: a unit in the middle stays its task's.
            && (self.units.next(gather.last) == NONE || self.units.next(gather.last) == unit);
        if !follows {
            self.write_slots(gather);
            *gather = Gather { slot, n: 0, first: unit, last: NONE };
        }
        if gather.last != NONE {
            self.units.join(gather.last, unit);
        }
        gather.last = unit;
        gather.n = gather.n.saturating_add(1);
    }

    fn write_slots(&mut self, gather: &mut Gather) {
        let g = core::mem::replace(gather, EMPTY);
        if g.n == 0 {
            return;
        }
        let mut pieces = [Piece::None; SEGS];
        if let Some(piece) = pieces.first_mut() {
            *piece = Piece::Chain(g.first, g.n, self.geometry.chunk_bytes());
        }
        let at = self.slot_byte(g.slot);
        let fua = self.commit.fua;
        let step = Step::Write { dev: Dev::SAVE, at, len: g.n << self.geometry.shift(), fua };
        self.open_step(Owner::Commit, step, pieces, 0);
        self.commit.io = self.commit.io.saturating_add(1);
    }

    /// Gives out the log blocks that are sealed and not yet written, adjacent ones together.
    fn write_log(&mut self) {
        let mut run: Option<(LogPos, u64, u32)> = None;
        while let Some(sealed) = self.log.take() {
            match &mut run {
                Some((_, block, n)) if block.saturating_add(u64::from(*n)) == sealed.block => {
                    *n = n.saturating_add(1);
                }
                _ => {
                    self.write_blocks(run);
                    run = Some((sealed.pos, sealed.block, 1));
                }
            }
        }
        self.write_blocks(run);
    }

    fn write_blocks(&mut self, run: Option<(LogPos, u64, u32)>) {
        let Some((pos, block, n)) = run else { return };
        let start = self.superblock.log_start.get();
        let at = start.saturating_add(block.saturating_mul(PAGE_BYTES));
        let pieces = [Piece::Log(pos.0, n), Piece::None, Piece::None, Piece::None];
        let fua = self.commit.fua;
        let step = Step::Write { dev: Dev::SAVE, at, len: n.saturating_mul(4096), fua };
        self.open_step(Owner::Log, step, pieces, pos.0 << 8 | u64::from(n));
        self.commit.io = self.commit.io.saturating_add(1);
        self.stats.log_records = self.stats.log_records.saturating_add(u64::from(n));
    }

    /// Blocks of the log are written.
    pub(crate) fn log_written(&mut self, tag: u64, result: Result<(), Fault>) {
        if result.is_ok() {
            for n in 0..tag & 0xFF {
                self.log.completed(LogPos((tag >> 8).saturating_add(n)));
            }
        }
        self.commit_written(result);
    }

    /// A write of the batch is complete.
    pub(crate) fn commit_written(&mut self, result: Result<(), Fault>) {
        self.commit.io = self.commit.io.saturating_sub(1);
        if let Err(fault) = result {
            self.fence(fault);
        }
        if self.fenced.is_some() {
            // Only now nobody writes from the copy units of the batch any more.
            if self.commit.io == 0 {
                self.wake_durable();
            }
            return;
        }
        if self.commit.io == 0 && self.commit.phase == Phase::Writing {
            self.batch_written();
        }
    }

    fn batch_written(&mut self) {
        if self.commit.upto == self.commit.durable {
            self.commit.phase = Phase::Idle;
            return;
        }
        self.commit.phase = Phase::Flushing;
        let flush = self.save.volatile && !self.commit.fua;
        if flush && !self.mutant(Mutant::WriteBeforeFlush) {
            let step = Step::Flush { dev: Dev::SAVE };
            self.open_step(Owner::CommitFlush, step, [Piece::None; SEGS], 0);
        } else {
            self.commit_flushed(Ok(()));
        }
    }

    /// The batch is durable, and with it all before it.
    pub(crate) fn commit_flushed(&mut self, result: Result<(), Fault>) {
        if let Err(fault) = result {
            return self.fence(fault);
        }
        self.commit.phase = Phase::Idle;
        self.commit.durable = self.commit.upto;
        self.log.set_durable(self.commit.durable);
        self.wake_durable();
        self.consider_checkpoint();
        self.wake_copies();
        let mut waiters = core::mem::take(&mut self.room_waiters);
        self.wake_all(&mut waiters);
    }

    /// Wakes those whose position is durable, or all of them if the pool is fenced.
    pub(crate) fn wake_durable(&mut self) {
        let mut waiters = core::mem::take(&mut self.commit.waiters);
        while let Some(t) = self.tasks.pop(&mut waiters) {
            self.tasks.at_mut(t).queued = false;
            if self.tasks.at(t).pos <= self.commit.durable {
                self.ready(t);
            } else if self.fenced.is_some() {
                self.tasks.at_mut(t).fail(Fault::Fenced);
                self.ready(t);
            } else {
                let pos = self.tasks.at(t).pos;
                self.wait_durable(t, pos);
            }
        }
    }

    /// Queues a task until the log is durable up to `pos`.
    pub(crate) fn wait_durable(&mut self, t: u32, pos: LogPos) {
        if self.fenced.is_some() && self.commit.io == 0 {
            return self.end_fenced(t);
        }
        let task = self.tasks.at_mut(t);
        task.pos = pos;
        task.queued = true;
        self.tasks.push(&mut self.commit.waiters, t);
        self.commit.wanted = true;
    }

    /// The clock has moved: when nothing happened since it did before, a record names what is
    /// durable, so that recovery would know of damage to any of it (I-7).
    pub(crate) fn tick_note(&mut self) {
        let c = &mut self.commit;
        let durable = c.durable;
        let still = core::mem::replace(&mut c.still, durable) == durable;
        let idle = c.phase == Phase::Idle && !c.wanted && self.log.last() == durable;
        if !still || !idle || durable <= c.noted || !self.started || self.fenced.is_some() {
            return;
        }
        if self.closing || self.checkpoint.is_running() || !self.log_has_room(1) {
            return;
        }
        match self.push_entry(&Entry::Note) {
            Ok(pos) => self.commit.noted = pos,
            Err(fault) => self.fence(fault),
        }
        self.commit.wanted = true;
        // At once: nobody who comes later in this turn shares its record.
        let alone = self.commit.copies.head == NONE;
        self.run_commit();
        self.commit.note = alone && self.commit.phase != Phase::Idle;
    }
}
