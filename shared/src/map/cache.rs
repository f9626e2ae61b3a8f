// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Pages of the tree in memory: a fixed number of frames, found by page number, the one that was
//! not used for the longest time given up first.
//!
//! A frame is empty, *ready*, *loading* or *doomed*. A page is loaded by whoever gets
//! [`Load::Begin`] for it; others that ask meanwhile share that load. A frame under load is not
//! given up; all others stand in one list in the order of their last use. So one walk down a tree
//! that is lower than the cache has frames to spare always gets to the bottom.
//!
//! A page that is forgotten or written anew while it is being read is doomed: what the read brings
//! may be old, and is dropped when it ends.

use crate::bug;
use crate::fault::Fault;
use crate::format::node::{check, Page};
use crate::platform::Platform;
use crate::units::{PageNo, PAGE};

#[cfg(test)]
mod tests;

const NONE: u32 = u32::MAX;

/// Frames at least.
const FRAMES_MIN: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Empty,
    Ready,
    Loading,
    Doomed,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    page: PageNo,
    state: State,
    /// The next frame whose page falls into the same bucket.
    chain: u32,
    newer: u32,
    older: u32,
}

/// What is to be done for a page that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// Nothing: it is there by now.
    Ready,
    /// Read it, then `fill` or `fail`.
    Begin,
    /// Wait: somebody else is reading it.
    Shared,
    /// Wait for any load to end: every frame is under load.
    Full,
}

/// Pages in memory.
///
/// # Invariants
///
/// A frame stands in the chain of its page's bucket unless it is empty, and in the list of uses
/// unless it is under load. A page has one frame at most.
pub struct Cache<P: Platform> {
    pages: P::Array<Page>,
    frames: P::Array<Frame>,
    buckets: P::Array<u32>,
    newest: u32,
    oldest: u32,
    loads: usize,
    pool: u64,
}

fn at(frame: u32) -> usize {
    usize::try_from(frame).unwrap_or(usize::MAX)
}

impl<P: Platform> Cache<P> {
    /// An empty cache of so many frames (at least four) for the pages of `pool`.
    pub fn new(p: &P, frames: usize, pool: u64) -> Result<Self, Fault> {
        let mut cache = Self::bare(pool);
        cache.make(p, frames)?;
        Ok(cache)
    }

    /// A cache without frames: [`Self::make`].
    #[inline(always)]
    pub(super) fn bare(pool: u64) -> Self {
        Self {
            pages: P::Array::default(),
            frames: P::Array::default(),
            buckets: P::Array::default(),
            newest: NONE,
            oldest: NONE,
            loads: 0,
            pool,
        }
    }

    /// Gives a bare cache its frames, see [`Self::new`].
    pub(super) fn make(&mut self, p: &P, frames: usize) -> Result<(), Fault> {
        let count = frames.max(FRAMES_MIN);
        let last = u32::try_from(count).map_err(|_| Fault::NoMemory)?;
        let buckets = count.checked_next_power_of_two().ok_or(Fault::NoMemory)?;
        let blank =
            Frame { page: PageNo(0), state: State::Empty, chain: NONE, newer: NONE, older: NONE };
        self.pages = p.blank(count, &[0; PAGE]).ok_or(Fault::NoMemory)?;
        self.frames = p.array(count, &blank).ok_or(Fault::NoMemory)?;
        self.buckets = p.array(buckets, &NONE).ok_or(Fault::NoMemory)?;
        for frame in 0..last {
            self.link_oldest(frame);
        }
        Ok(())
    }

    /// How many pages are being read.
    #[must_use]
    pub fn loads(&self) -> usize {
        self.loads
    }

    /// The page, if it is there; it counts as used.
    pub fn get(&mut self, page: PageNo) -> Option<&Page> {
        let frame = self.find(page)?;
        if self.frames.get(at(frame))?.state != State::Ready {
            return None;
        }
        if self.newest != frame {
            self.unlink(frame);
            self.link_newest(frame);
        }
        self.pages.get(at(frame))
    }

    /// Sees to it that the page gets here.
    pub fn start(&mut self, page: PageNo) -> Load {
        match self.find(page).and_then(|frame| self.frames.get(at(frame))) {
            Some(frame) if frame.state == State::Ready => return Load::Ready,
            Some(_) => return Load::Shared,
            None => {}
        }
        let Some(frame) = self.give_up() else { return Load::Full };
        self.unlink(frame);
        self.enter(frame, page, State::Loading);
        self.loads = self.loads.saturating_add(1);
        Load::Begin
    }

    /// A page has been read. If it is not what it should be, it does not get in.
    pub fn fill(&mut self, p: &P, page: PageNo, bytes: &[u8]) -> Result<(), Fault> {
        let Some((frame, state)) = self.loading(page) else { return Err(bug!()) };
        let result = if state == State::Doomed { Ok(false) } else { self.admit(p, frame, bytes) };
        self.loads = self.loads.saturating_sub(1);
        if result == Ok(true) {
            self.set_state(frame, State::Ready);
            self.link_newest(frame);
        } else {
            self.leave(frame);
            self.link_oldest(frame);
        }
        result.map(|_| ())
    }

    /// A page could not be read.
    pub fn fail(&mut self, page: PageNo) {
        if let Some((frame, _)) = self.loading(page) {
            self.loads = self.loads.saturating_sub(1);
            self.leave(frame);
            self.link_oldest(frame);
        }
    }

    /// The page is not what it was any more.
    pub fn forget(&mut self, page: PageNo) {
        let Some(frame) = self.find(page) else { return };
        if self.loading(page).is_some() {
            self.set_state(frame, State::Doomed);
        } else {
            self.unlink(frame);
            self.leave(frame);
            self.link_oldest(frame);
        }
    }

    /// A page that is being written. It need not get in.
    pub fn insert(&mut self, page: PageNo, bytes: &Page) {
        if self.loading(page).is_some() {
            self.forget(page);
            return;
        }
        let frame = match self.find(page) {
            Some(frame) => frame,
            None => {
                let Some(frame) = self.give_up() else { return };
                self.enter(frame, page, State::Ready);
                frame
            }
        };
        self.unlink(frame);
        self.link_newest(frame);
        if let Some(place) = self.pages.get_mut(at(frame)) {
            *place = *bytes;
        }
    }

    /// Checks what was read and takes it over.
    fn admit(&mut self, p: &P, frame: u32, bytes: &[u8]) -> Result<bool, Fault> {
        let page = self.frames.get(at(frame)).ok_or(bug!())?.page;
        let place = self.pages.get_mut(at(frame)).ok_or(bug!())?;
        *place = *<&Page>::try_from(bytes).map_err(|_| bug!())?;
        check(p, place, page, self.pool).map(|()| true)
    }

    fn bucket(&self, page: PageNo) -> usize {
        let mixed = page.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from(mixed).unwrap_or(0) & self.buckets.len().wrapping_sub(1)
    }

    fn find(&self, page: PageNo) -> Option<u32> {
        let mut frame = self.buckets.get(self.bucket(page)).copied()?;
        loop {
            let here = self.frames.get(at(frame))?;
            if here.page == page {
                return Some(frame);
            }
            frame = here.chain;
        }
    }

    fn loading(&self, page: PageNo) -> Option<(u32, State)> {
        let frame = self.find(page)?;
        let state = self.frames.get(at(frame))?.state;
        matches!(state, State::Loading | State::Doomed).then_some((frame, state))
    }

    fn set_state(&mut self, frame: u32, state: State) {
        if let Some(here) = self.frames.get_mut(at(frame)) {
            here.state = state;
        }
    }

    /// Empties the frame whose page was not used for the longest time. It stays in the list.
    fn give_up(&mut self) -> Option<u32> {
        let frame = self.oldest;
        if self.frames.get(at(frame))?.state != State::Empty {
            self.leave(frame);
        }
        Some(frame)
    }

    /// Puts an empty frame to use.
    fn enter(&mut self, frame: u32, page: PageNo, state: State) {
        let bucket = self.bucket(page);
        let Some(head) = self.buckets.get_mut(bucket) else { return };
        let Some(here) = self.frames.get_mut(at(frame)) else { return };
        here.page = page;
        here.state = state;
        here.chain = core::mem::replace(head, frame);
    }

    /// Takes a frame out of its bucket; it is empty then.
    fn leave(&mut self, frame: u32) {
        let Some(here) = self.frames.get(at(frame)).copied() else { return };
        let bucket = self.bucket(here.page);
        let Some(head) = self.buckets.get_mut(bucket) else { return };
        if *head == frame {
            *head = here.chain;
        } else {
            let mut before = *head;
            while let Some(link) = self.frames.get_mut(at(before)) {
                before = link.chain;
                if before == frame {
                    link.chain = here.chain;
                }
            }
        }
        self.set_state(frame, State::Empty);
    }

    fn unlink(&mut self, frame: u32) {
        let Some(Frame { newer, older, .. }) = self.frames.get(at(frame)).copied() else { return };
        match self.frames.get_mut(at(newer)) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        match self.frames.get_mut(at(older)) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, frame: u32) {
        let old = core::mem::replace(&mut self.newest, frame);
        if let Some(here) = self.frames.get_mut(at(frame)) {
            (here.newer, here.older) = (NONE, old);
        }
        match self.frames.get_mut(at(old)) {
            Some(old) => old.newer = frame,
            None => self.oldest = frame,
        }
    }

    fn link_oldest(&mut self, frame: u32) {
        let old = core::mem::replace(&mut self.oldest, frame);
        if let Some(here) = self.frames.get_mut(at(frame)) {
            (here.newer, here.older) = (old, NONE);
        }
        match self.frames.get_mut(at(old)) {
            Some(old) => old.older = frame,
            None => self.newest = frame,
        }
    }
}
