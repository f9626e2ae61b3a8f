// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The merge: brings a restored production home, word by word, behind its requests.
//!
//! The *plan* walks the maps that X is made of, one pass for each: X's own new data first and
//! production's old data last, or the other way round. A chunk belongs to the pass of the level
//! that its data comes from. For each word with such chunks one task (`settle.rs`) copies and
//! settles. Before the first pass all passes run once to count. When a pass skipped chunks that
//! were being written, all passes run again; what is settled is skipped. When nothing is left, the
//! restore is over.

use crate::api::Step;
use crate::engine::{Core, Job, Owner, Piece, Places, Queue, Slab, Stage, Stop, View, NONE, SEGS};
use crate::fault::Fault;
use crate::format::entity::Entity;
use crate::format::record::GroupKey;
use crate::lifecycle::RETRY_NS;
use crate::map::Miss;
use crate::platform::Platform;
use crate::units::{Dev, Epoch, LogPos, MapId, Slot, Word};

/// Words that are merged at once at most: two batches of 8 MiB at chunks of 4 KiB.
pub(crate) const WORDS: u32 = 64;

/// A word being merged.
#[derive(Clone, Debug)]
pub(crate) struct Job64 {
    pub(crate) word: Word,
    /// Chunks to settle.
    pub(crate) set: u64,
    /// Of those, written since the merge read them.
    pub(crate) touched: u64,
    /// Of those, with data of their own in M.
    pub(crate) in_m: u64,
    /// Chunks of which R, or who follows it, has what X holds already.
    pub(crate) handed: u64,
    /// What M has of each chunk: the last.
    pub(crate) own: Places,
    /// What X has of each.
    pub(crate) x: Places,
    /// The slot that X's data was copied to, for R.
    pub(crate) kept: [Slot; 64],
    /// Chunks with such a slot.
    pub(crate) keeps: u64,
    /// Chain of copy units with X's data for those, and their number.
    pub(crate) x_units: u32,
    pub(crate) x_count: u32,
}

const FREE: Job64 = Job64 {
    word: Word(0),
    set: 0,
    touched: 0,
    in_m: 0,
    handed: 0,
    own: Places::UNSET,
    x: Places::UNSET,
    kept: [Slot(0); 64],
    keeps: 0,
    x_units: NONE,
    x_count: 0,
};

/// The merge.
pub(crate) struct Merge<P: Platform> {
    pub(crate) jobs: Slab<P, Job64>,
    /// The production, and the view that its merge reads through.
    pub(crate) vol: u32,
    pub(crate) view: u32,
    pub(super) active: bool,
    /// It begins when the log is durable up to here: the restore's own record.
    after: LogPos,
    stopping: bool,
    /// The plan's task.
    plan: u32,
    plan_waits: bool,
    /// Word tasks under way, and of those the ones that wait for a flush.
    pub(crate) words: u32,
    pub(crate) flush_wait: Queue,
    pub(crate) waiting: u32,
    flushing: Queue,
    flush_io: u32,
    flush_fault: Option<Fault>,
    /// Pass, and the word that it goes on from.
    pass: u8,
    cursor: Word,
    /// The level that the pass is about.
    pub(crate) level: u8,
    /// The passes count what there is to do; nothing is copied yet.
    pub(crate) counting: bool,
    /// Chunks were skipped: go round again.
    pub(crate) again: bool,
    /// A word needs so many slots, and there were not as many; 0: none waits for slots.
    pub(super) starved: u64,
    /// A word could not be copied, or a page not read: the merge waits until then before it tries
    /// again.
    pub(super) retry_ns: u64,
    pub(crate) retried: u32,
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    /// Bytes that may be merged before the next tick, if there is a rate; less than zero if more
    /// than that was begun.
    pub(super) tokens: i64,
    pub(super) last_ns: u64,
    /// Commands that wait until the merge has stopped.
    pub(crate) enders: Queue,
}

impl<P: Platform> Merge<P> {
    /// What strays reach.
    pub(crate) fn sink(p: &P) -> Result<P::Box<Job64>, Fault> {
        Slab::<P, _>::sink(p, &FREE)
    }

    /// With no room for jobs yet: [`Self::make`].
    #[inline(always)]
    pub(crate) fn bare(sink: P::Box<Job64>) -> Self {
        Self {
            jobs: Slab::bare(sink),
            vol: NONE,
            view: NONE,
            active: false,
            after: LogPos(0),
            stopping: false,
            plan: NONE,
            plan_waits: false,
            words: 0,
            flush_wait: Queue::default(),
            waiting: 0,
            flushing: Queue::default(),
            flush_io: 0,
            flush_fault: None,
            pass: 0,
            cursor: Word(0),
            level: 0,
            counting: false,
            again: false,
            starved: 0,
            retry_ns: 0,
            retried: 0,
            done: 0,
            total: 0,
            reads: 0,
            writes: 0,
            tokens: 0,
            last_ns: 0,
            enders: Queue::default(),
        }
    }

    pub(crate) fn make(&mut self, p: &P) -> Result<(), Fault> {
        self.jobs.make(p, WORDS, &FREE)
    }

    /// A restore of the volume begins.
    pub(crate) fn begin(&mut self, vol: u32, after: LogPos, reads: u64, writes: u64) {
        self.after = after;
        self.vol = vol;
        self.active = true;
        self.stopping = false;
        self.pass = 0;
        self.cursor = Word(0);
        self.counting = true;
        self.again = false;
        self.starved = 0;
        self.retry_ns = 0;
        self.retried = 0;
        self.done = 0;
        self.total = 0;
        self.reads = reads;
        self.writes = writes;
        self.tokens = 0;
    }

    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    /// Whether it waits for slots.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved != 0
    }

    /// Its tasks must come to an end, or may go on.
    pub(crate) fn stop(&mut self, stop: bool) {
        self.stopping = stop;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether its tasks are under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.words != 0 || self.plan != NONE
    }
}

impl<P: Platform> Core<P> {
    /// Starts the plan if there is something to merge, and the flush that words wait for.
    pub(crate) fn start_merge(&mut self) {
        self.start_merge_flush();
        self.feed_merge();
        let m = &self.lifecycle.merge;
        if self.commit.durable < m.after {
            return;
        }
        if !m.active || m.stopping || m.plan != NONE || self.closing {
            return;
        }
        if !self.is_online(m.vol) {
            return;
        }
        if m.view == NONE {
            let Some(view) = self.views.take() else { return };
            self.lifecycle.merge.view = view;
        }
        let (vol, view) = (self.lifecycle.merge.vol, self.lifecycle.merge.view);
        let (id, size) = (self.vols.at(vol).id, self.vols.at(vol).size);
        *self.views.at_mut(view) = View { open: true, id, vol, size, ..View::FREE };
        if !self.fill_view(view) {
            return;
        }
        let Some(t) = self.tasks.take() else { return };
        self.tasks.at_mut(t).renew(Job::MergePlan, view);
        self.lifecycle.merge.plan = t;
        self.ready(t);
    }

    /// Runs the plan: gives out words as long as there is room.
    #[inline(never)]
    pub(crate) fn run_plan(&mut self, t: u32) {
        loop {
            let m = &self.lifecycle.merge;
            if self.fenced.is_some()
                || m.stopping
                || self.closing
                || self.tasks.at(t).fault.is_some()
            {
                return self.end_plan(t);
            }
            if !self.may_merge() {
                self.end_walk(t);
                self.lifecycle.merge.plan_waits = true;
                return;
            }
            match self.next_word() {
                Ok(Some(word)) => self.merge_word(word),
                Ok(None) if self.lifecycle.merge.words != 0 => {
                    self.end_walk(t);
                    self.lifecycle.merge.plan_waits = true;
                    return;
                }
                Ok(None) => match self.next_pass() {
                    Some(true) => {}
                    // Round again, but not at once: whoever writes those chunks has to end first.
                    Some(false) => {
                        self.end_walk(t);
                        self.lifecycle.merge.plan_waits = true;
                        return;
                    }
                    None => return self.merged(t),
                },
                Err(Miss::Page(page)) => {
                    if let Stop::Fault(fault) = self.wait_for_page(t, page) {
                        self.fence(fault);
                        self.end_plan(t);
                    }
                    return;
                }
                Err(Miss::Fault(fault)) => {
                    self.fence(fault);
                    return self.end_plan(t);
                }
            }
        }
    }

    #[inline(never)]
    fn end_plan(&mut self, t: u32) {
        if self.tasks.at(t).fault.is_some() {
            self.lifecycle.merge.retry_ns = self.now_ns.saturating_add(RETRY_NS);
        }
        self.end_walk(t);
        self.lifecycle.merge.plan = NONE;
        self.lifecycle.merge.plan_waits = false;
        self.free_task(t);
        self.merge_ended();
    }

    /// Wakes those who wait until the merge has stopped.
    pub(crate) fn merge_ended(&mut self) {
        if !self.lifecycle.merge.is_busy() {
            let mut enders = core::mem::take(&mut self.lifecycle.merge.enders);
            self.wake_all(&mut enders);
        }
    }

    /// Whether old data goes first.
    fn old_first(&self) -> bool {
        let id = self.vols.at(self.lifecycle.merge.vol).id;
        self.catalog.get(id).and_then(Entity::restoring).is_some_and(|r| r.order == 1)
    }

    /// The level of the pass: M is level 0, X's levels follow.
    fn level_of_pass(&self) -> Option<u8> {
        let m = &self.lifecycle.merge;
        let depth = self.views.at(m.view).depth;
        let levels = depth.saturating_sub(1);
        if m.pass >= levels {
            return None;
        }
        Some(if self.old_first() {
            depth.saturating_sub(1).saturating_sub(m.pass)
        } else {
            m.pass.saturating_add(1)
        })
    }

    /// The next word of the pass that has records.
    #[inline(never)]
    fn next_word(&mut self) -> Result<Option<Word>, Miss> {
        let Some(at) = self.level_of_pass() else { return Ok(None) };
        let Some(level) = self.views.at(self.lifecycle.merge.view).level(at) else {
            return Ok(None);
        };
        let from = GroupKey { map: level.map, word: self.lifecycle.merge.cursor, epoch: Epoch(0) };
        let end =
            GroupKey { map: MapId(level.map.0.saturating_add(1)), word: Word(0), epoch: Epoch(0) };
        let Some(key) = self.layers.next_group(from, end, &mut self.group)? else {
            return Ok(None);
        };
        self.lifecycle.merge.cursor = key.word.next();
        self.lifecycle.merge.level = at;
        Ok(Some(key.word))
    }

    /// Goes on to the next pass (true), or to the first one again (false), or all is done.
    #[inline(never)]
    fn next_pass(&mut self) -> Option<bool> {
        let m = &mut self.lifecycle.merge;
        m.pass = m.pass.saturating_add(1);
        m.cursor = Word(0);
        if self.level_of_pass().is_some() {
            return Some(true);
        }
        let m = &mut self.lifecycle.merge;
        m.pass = 0;
        if core::mem::replace(&mut m.counting, false) {
            return Some(true);
        }
        core::mem::replace(&mut m.again, false).then_some(false)
    }

    /// Begins to merge a word.
    #[inline(never)]
    fn merge_word(&mut self, word: Word) {
        let (Some(t), Some(j)) = (self.tasks.take(), self.lifecycle.merge.jobs.take()) else {
            self.lifecycle.merge.again = true;
            return;
        };
        let job = self.lifecycle.merge.jobs.at_mut(j);
        *job = FREE;
        job.word = word;
        let view = self.lifecycle.merge.view;
        let task = self.tasks.at_mut(t);
        task.renew(Job::Merge, view);
        task.word = word;
        task.aux = j;
        self.lifecycle.merge.words = self.lifecycle.merge.words.saturating_add(1);
        self.spend_word();
        self.ready(t);
    }

    #[inline(never)]
    fn merged(&mut self, t: u32) {
        if !self.log_has_room(300) {
            return self.wait_for_room(t);
        }
        let vol = self.lifecycle.merge.vol;
        let finished = self.catalog.reserve(&self.platform, 8);
        let finished = finished.and_then(|()| self.finish_restore(t, vol));
        self.lifecycle.merge.active = false;
        let view = core::mem::replace(&mut self.lifecycle.merge.view, NONE);
        self.views.at_mut(view).open = false;
        self.views.give(view);
        if let Err(fault) = finished {
            self.fence(fault);
        }
        self.end_plan(t);
    }

    /// Lets the plan go on: a word is done, or the rate has changed.
    pub(crate) fn wake_plan(&mut self) {
        let m = &mut self.lifecycle.merge;
        if core::mem::replace(&mut m.plan_waits, false) {
            let t = m.plan;
            self.ready(t);
        }
    }

    /// A word waits for production and save volume to be flushed.
    pub(crate) fn join_merge_flush(&mut self, t: u32) {
        // Its I/O on slots is over: a checkpoint must not wait for it while it waits for words
        // that wait for the checkpoint.
        self.uncount_slot_io(t);
        self.queue_in(t, |core| &mut core.lifecycle.merge.flush_wait);
        self.lifecycle.merge.waiting = self.lifecycle.merge.waiting.saturating_add(1);
    }

    fn start_merge_flush(&mut self) {
        let m = &self.lifecycle.merge;
        // Words that wait for copy units get none before those that have some are flushed.
        let starved = !self.unit_waiters.is_empty();
        let enough = m.waiting == m.words || m.waiting >= WORDS / 2 || starved;
        if m.waiting == 0 || m.flush_io != 0 || !enough || self.steps.room() < 4 {
            return;
        }
        let (dev, volatile) = (self.vols.at(m.vol).dev, self.vols.at(m.vol).volatile);
        let m = &mut self.lifecycle.merge;
        m.flushing = core::mem::take(&mut m.flush_wait);
        m.waiting = 0;
        m.flush_io = 1;
        m.flush_fault = None;
        let skip = self.mutant(crate::mutants::Mutant::SettleNoFlush);
        if self.save.volatile {
            self.lifecycle.merge.flush_io = 2;
            let step = Step::Flush { dev: Dev::SAVE };
            self.open_step(Owner::MergeFlush, step, [Piece::None; SEGS], 0);
        }
        if skip || !volatile {
            return self.merge_flushed(Ok(()));
        }
        self.open_step(Owner::MergeFlush, Step::Flush { dev }, [Piece::None; SEGS], 0);
    }

    /// One of the two flushes has ended.
    pub(crate) fn merge_flushed(&mut self, result: Result<(), Fault>) {
        let m = &mut self.lifecycle.merge;
        m.flush_io = m.flush_io.saturating_sub(1);
        if let Err(fault) = result {
            m.flush_fault.get_or_insert(fault);
        }
        if m.flush_io != 0 {
            return;
        }
        let fault = m.flush_fault;
        let mut words = core::mem::take(&mut m.flushing);
        while let Some(t) = self.tasks.pop(&mut words) {
            let task = self.tasks.at_mut(t);
            task.queued = false;
            if let Some(fault) = fault {
                task.fail(fault);
            }
            task.stage = Stage::Step(6);
            self.ready(t);
        }
    }

    /// A write of production's redirected chunks is complete: what the merge read before of them is
    /// not the last any more.
    pub(crate) fn touch_merge(&mut self, t: u32) {
        if !self.lifecycle.merge.active || self.vol_of(t) != self.lifecycle.merge.vol {
            return;
        }
        if self.lifecycle.merge.words == 0 {
            self.wake_plan();
        }
        let task = self.tasks.at(t);
        let (word, mask) = (task.word, task.mask & !task.in_place);
        for j in 0..WORDS {
            let job = self.lifecycle.merge.jobs.at_mut(j);
            if job.word == word {
                job.touched |= mask;
            }
        }
    }
}
