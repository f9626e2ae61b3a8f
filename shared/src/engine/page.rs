// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Loading metadata pages on demand, and what else tasks wait for.
//!
//! Only a few tasks at a time may load pages (*walkers*): as many as the cache has room for their
//! paths, so that nobody's path is thrown out before it is used.

use crate::api::Step;
use crate::engine::slab::Queue;
use crate::engine::step::{Owner, Piece};
use crate::engine::task::Job;
use crate::engine::walk::Stop;
use crate::engine::Core;
use crate::fault::Fault;
use crate::map::Load;
use crate::platform::Platform;
use crate::units::{Dev, MapId, PageNo, Word};

/// Levels that a tree may have, at most.
const PATH: u32 = 4;

fn bucket(page: PageNo) -> usize {
    usize::try_from(page.0 & 63).unwrap_or(0)
}

impl<P: Platform> Core<P> {
    /// The task misses a page: it waits for its load, or for its turn to load one.
    pub(crate) fn wait_for_page(&mut self, t: u32, page: PageNo) -> Stop {
        if !self.tasks.at(t).walker {
            if self.walkers >= self.walkers_max() {
                self.queue_in(t, |core| &mut core.walker_waiters);
                return Stop::Waits;
            }
            self.walkers = self.walkers.saturating_add(1);
            self.tasks.at_mut(t).walker = true;
        }
        match self.load_page(page) {
            Ok(Load::Begin | Load::Shared) => {
                let task = self.tasks.at_mut(t);
                task.queued = true;
                task.page = page;
                if let Some(queue) = self.page_waiters.get_mut(bucket(page)) {
                    self.tasks.push(queue, t);
                }
                Stop::Waits
            }
            Ok(Load::Ready) => {
                self.ready(t);
                Stop::Waits
            }
            Ok(Load::Full) => {
                self.queue_in(t, |core| &mut core.walker_waiters);
                Stop::Waits
            }
            Err(fault) => Stop::Fault(fault),
        }
    }

    fn walkers_max(&self) -> u32 {
        if self.cache_pages < 16 && self.checkpoint.reads_tree() && self.fenced.is_none() {
            // A tiny cache has room for the checkpoint's path alone.
            return 0;
        }
        (self.cache_pages / PATH).max(1)
    }

    /// Begins to load a page unless it is being loaded.
    pub(crate) fn load_page(&mut self, page: PageNo) -> Result<Load, Fault> {
        if self.steps.room() == 0 {
            return Ok(Load::Full);
        }
        let load = self.layers.cache.start(page);
        if load == Load::Begin {
            let at = self.superblock.page_byte(page).ok_or(Fault::Corrupt)?;
            let pieces = [Piece::Meta(4096), Piece::None, Piece::None, Piece::None];
            let step = Step::Read { dev: Dev::SAVE, at, len: 4096 };
            self.open_step(Owner::Page(page.0), step, pieces, page.0);
        }
        Ok(load)
    }

    /// A page has been read.
    #[inline(never)]
    pub(crate) fn page_read(&mut self, page: PageNo, result: Result<(), Fault>, bytes: &[u8]) {
        let result = match result {
            Ok(()) => self.layers.cache.fill(&self.platform, page, bytes),
            Err(fault) => {
                self.layers.cache.fail(page);
                Err(fault)
            }
        };
        let Some(queue) = self.page_waiters.get_mut(bucket(page)) else { return };
        let mut waiters = core::mem::take(queue);
        while let Some(t) = self.tasks.pop(&mut waiters) {
            self.tasks.at_mut(t).queued = false;
            if let Err(fault) = result {
                if self.tasks.at(t).page == page {
                    self.tasks.at_mut(t).fail(fault);
                }
            }
            self.ready(t);
        }
        if self.checkpoint.waits_for == Some(page) {
            self.checkpoint.waits_for = None;
            if let Err(fault) = result {
                self.fence(fault);
            }
        }
        self.wake_walkers();
    }

    /// The task does not look up any more.
    pub(crate) fn end_walk(&mut self, t: u32) {
        if core::mem::replace(&mut self.tasks.at_mut(t).walker, false) {
            self.walkers = self.walkers.saturating_sub(1);
            self.wake_walkers();
        }
    }

    pub(crate) fn wake_walkers(&mut self) {
        let mut waiters = core::mem::take(&mut self.walker_waiters);
        self.wake_all(&mut waiters);
    }

    /// Puts a task into one of the engine's queues of waiters.
    pub(crate) fn queue_in(&mut self, t: u32, queue: impl Fn(&mut Self) -> &mut Queue) {
        self.tasks.at_mut(t).queued = true;
        let mut taken = core::mem::take(queue(self));
        self.tasks.push(&mut taken, t);
        *queue(self) = taken;
    }

    /// The task waits for room in the table of steps.
    pub(crate) fn wait_for_steps(&mut self, t: u32) {
        self.queue_in(t, |core| &mut core.step_waiters);
    }

    /// The task waits for copy units.
    pub(crate) fn wait_for_units(&mut self, t: u32) {
        self.queue_in(t, |core| &mut core.unit_waiters);
    }

    /// The pool is fenced: the task ends, and does not wait for what will never be.
    pub(crate) fn end_fenced(&mut self, t: u32) {
        self.tasks.at_mut(t).fail(Fault::Fenced);
        self.ready(t);
    }

    /// The task waits for room in deltas, log or slots: until a flush round or checkpoint is done.
    pub(crate) fn wait_for_room(&mut self, t: u32) {
        if self.fenced.is_some() {
            return self.end_fenced(t);
        }
        self.queue_in(t, |core| &mut core.room_waiters);
    }

    /// The task waits until a claim on a word ends.
    pub(crate) fn wait_for_claim(&mut self, t: u32, map: MapId, word: Word) {
        self.tasks.at_mut(t).queued = true;
        if let Some(queue) = self.claims.queue(map, word) {
            self.tasks.push(queue, t);
        }
    }

    /// Whether the task's volume is held; then the task waits for the end of that.
    pub(crate) fn held(&mut self, t: u32) -> bool {
        let vol = self.vol_of(t);
        if vol == crate::engine::slab::NONE || !self.vols.at(vol).hold {
            return false;
        }
        self.wait_for_volume(t, vol);
        true
    }

    /// The task waits until the volume is not held any more, or its newest epoch has fallen.
    pub(crate) fn wait_for_volume(&mut self, t: u32, vol: u32) {
        self.tasks.at_mut(t).queued = true;
        let mut queue = core::mem::take(&mut self.vols.at_mut(vol).held);
        self.tasks.push(&mut queue, t);
        self.vols.at_mut(vol).held = queue;
    }

    /// Makes all of a queue run again.
    pub(crate) fn wake_all(&mut self, waiters: &mut Queue) {
        let mut at = waiters.head;
        while at != crate::engine::slab::NONE {
            self.tasks.at_mut(at).queued = true;
            at = self.tasks.link(at);
        }
        self.tasks.append(&mut self.run, waiters);
    }

    /// Makes a task run again, unless it is queued already: at once, or with the next slice of the
    /// work in the background.
    pub(crate) fn ready(&mut self, t: u32) {
        if !self.tasks.at(t).queued {
            self.tasks.at_mut(t).queued = true;
            let hurry = !matches!(self.tasks.at(t).job, Job::Sweep | Job::Count | Job::MergePlan);
            let queue = if hurry { &mut self.run } else { &mut self.lifecycle.background };
            self.tasks.push(queue, t);
        }
    }
}
