// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Loading metadata pages on demand, and what else tasks wait for.
//!
//! Only a few tasks at a time may load pages (*walkers*): as many as the cache has room for their
//! paths, so that nobody's path is thrown out before it is used.

use crate::api::Step;
use crate::engine::slab::Queue;
use crate::engine::step::{Owner, Piece, SEGS};
use crate::engine::walk::Stop;
use crate::engine::Core;
use crate::fault::Fault;
use crate::map::Load;
use crate::platform::Platform;
use crate::units::{Dev, MapId, PageNo, Word, PAGE_BYTES};

/// Levels that a tree may have, at most.
const PATH: u32 = 4;

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
            Ok(Some(frame)) => {
                self.tasks.at_mut(t).queued = true;
                if let Some(queue) = usize::try_from(frame).ok().and_then(|f| self.page_waiters.get_mut(f)) {
                    self.tasks.push(queue, t);
                }
                Stop::Waits
            }
            Ok(None) => {
                self.queue_in(t, |core| &mut core.walker_waiters);
                Stop::Waits
            }
            Err(fault) => Stop::Fault(fault),
        }
    }

    fn walkers_max(&self) -> u32 {
        (self.cache_pages / PATH).max(1)
    }

    /// Begins to load a page unless it is being loaded; the frame, or `None` if there is none free.
    pub(crate) fn load_page(&mut self, page: PageNo) -> Result<Option<u32>, Fault> {
        if self.steps.room() == 0 {
            return Ok(None);
        }
        match self.layers.cache.start(page) {
            Load::Loading(frame) => Ok(Some(frame)),
            Load::Begin(frame) => {
                let at = self.page_byte(page).ok_or(Fault::Corrupt)?;
                let len = 4096;
                let mut pieces = [Piece::None; SEGS];
                if let Some(piece) = pieces.first_mut() {
                    *piece = Piece::Meta(len);
                }
                let step = Step::Read { dev: Dev::SAVE, at, len };
                self.open_step(Owner::Page(frame), step, pieces, page.0);
                Ok(Some(frame))
            }
            Load::Full => Ok(None),
        }
    }

    /// A page has been read.
    pub(crate) fn page_read(&mut self, frame: u32, result: Result<(), Fault>, bytes: &[u8]) {
        let result = result.and_then(|()| self.layers.cache.fill(&self.platform, frame, bytes));
        if result.is_err() {
            self.layers.cache.fail(frame);
        }
        let Some(queue) = usize::try_from(frame).ok().and_then(|f| self.page_waiters.get_mut(f))
        else {
            return;
        };
        let mut waiters = core::mem::take(queue);
        while let Some(t) = self.tasks.pop(&mut waiters) {
            self.tasks.at_mut(t).queued = false;
            if let Err(fault) = result {
                self.tasks.at_mut(t).fail(fault);
            }
            self.ready(t);
        }
        if let Err(fault) = result {
            if self.checkpoint.waits_for == Some(frame) {
                self.fence(fault);
            }
        }
        self.checkpoint.waits_for = None;
        self.wake_walkers();
    }

    /// The task does not look up any more.
    pub(crate) fn end_walk(&mut self, t: u32) {
        if core::mem::replace(&mut self.tasks.at_mut(t).walker, false) {
            self.walkers = self.walkers.saturating_sub(1);
            self.wake_walkers();
        }
    }

    fn wake_walkers(&mut self) {
        let mut waiters = core::mem::take(&mut self.walker_waiters);
        self.wake_all(&mut waiters);
    }

    /// Where a page lies on the save volume.
    pub(crate) fn page_byte(&self, page: PageNo) -> Option<u64> {
        self.superblock.page_byte(page).filter(|at| at % PAGE_BYTES == 0)
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

    /// The task waits for room in deltas, log or slots: until a flush round or checkpoint is done.
    pub(crate) fn wait_for_room(&mut self, t: u32) {
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
        self.tasks.at_mut(t).queued = true;
        let mut queue = core::mem::take(&mut self.vols.at_mut(vol).held);
        self.tasks.push(&mut queue, t);
        self.vols.at_mut(vol).held = queue;
        true
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

    /// Makes a task run again, unless it is queued already.
    pub(crate) fn ready(&mut self, t: u32) {
        if !self.tasks.at(t).queued {
            self.tasks.at_mut(t).queued = true;
            self.tasks.push(&mut self.run, t);
        }
    }
}
