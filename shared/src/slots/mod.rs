// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which slots and which metadata pages are free.
//!
//! Two bit maps for slots: `used` is the allocator's, now; `kept` is that of the checkpoint, the
//! last one or the one under way, and what is on disk. A slot goes through these states:
//!
//! | state | `used` | `kept` | left by |
//! |---|---|---|---|
//! | free | 0 | 0 | [`Slots::alloc_run`] |
//! | taken, not logged | 1 | 0 | [`Slots::release`], or the log |
//! | logged | 1 | 0 | the checkpoint: [`Slots::apply`] of the record |
//! | held | 1 | 1 | the log: a `Free` record |
//! | freed | 1 | 1, then 0 | `apply` of the `Free`, then [`Slots::reclaim`] once it is durable |
//!
//! A slot is never used again before the checkpoint that contains its freeing is durable and its
//! `Free` was reclaimed; the engine reclaims once no I/O of before the freeze is under way.
//!
//! # Invariants
//!
//! 1. Slots from the count on are neither used nor kept; they are no slots yet.
//! 2. `room` of a page is how many slots of its part are free; `free` is the sum of all.
//! 3. `reserved <= free`: what is promised can be had. (Recovery may break it until the engine has
//!    taken its reservations anew.)

mod bits;
mod dirty;
mod disk;
mod meta;
mod page;
mod search;

pub use meta::Meta;

use crate::fault::Fault;
use crate::format::page::{PAGE_BITS, PAGE_WORDS};
use crate::format::record::{Kind, Record};
use crate::platform::Platform;
use crate::units::{runs, Slot};
use dirty::Dirty;

/// Adjacent slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The first.
    pub first: Slot,
    /// How many.
    pub len: u32,
}

/// The slots of the save volume.
pub struct Slots<P: Platform> {
    used: P::Array<u64>,
    kept: P::Array<u64>,
    room: P::Array<u32>,
    dirty: Dirty<P>,
    count: u64,
    limit: u64,
    free: u64,
    reserved: u64,
    cursor: u64,
}

impl<P: Platform> Slots<P> {
    /// For `count` slots, all free, and room for `limit`.
    pub fn new(platform: &P, count: u64, limit: u64) -> Option<Self> {
        let limit = limit.max(count);
        let pages = limit.div_ceil(PAGE_BITS);
        let words = usize::try_from(pages).ok()?.checked_mul(PAGE_WORDS)?;
        let mut made = Self {
            used: platform.array(words, &0)?,
            kept: platform.array(words, &0)?,
            room: platform.array(usize::try_from(pages).ok()?, &0)?,
            dirty: Dirty::new(platform, pages)?,
            count: 0,
            limit,
            free: 0,
            reserved: 0,
            cursor: 0,
        };
        made.grow(count);
        Some(made)
    }

    /// Makes `count` slots of it, no more than the limit; never fewer.
    pub fn grow(&mut self, count: u64) {
        self.count = self.count.max(count.min(self.limit));
        for page in 0..self.pages() {
            self.recount(page);
        }
    }

    /// Pages of the bit map, of one side.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.limit.div_ceil(PAGE_BITS)
    }

    /// Slots there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Slots in use, freed ones that are not reclaimed yet among them.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.count.saturating_sub(self.free)
    }

    /// Slots that can be taken, reserved ones among them.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Free slots that are promised.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Free slots that can be had by who holds `own` of the reserved ones.
    #[must_use]
    pub fn available_to(&self, own: u64) -> u64 {
        self.free().saturating_sub(self.reserved.saturating_sub(own))
    }

    /// Promises `n` free slots; false if there are not as many that are not promised already.
    pub fn reserve(&mut self, n: u64) -> bool {
        let granted = self.available_to(0) >= n;
        if granted {
            self.reserved = self.reserved.saturating_add(n);
        }
        granted
    }

    /// Takes a promise back.
    pub fn unreserve(&mut self, n: u64) {
        self.reserved = self.reserved.saturating_sub(n);
    }

    /// Gives back slots that no log record names.
    pub fn release(&mut self, run: Run) {
        self.clear_used(run.first.0, u64::from(run.len));
    }

    /// Recovery: a record of the log is put, so its slots are in use. So are those that it frees,
    /// until the next checkpoint: a clone's slots may be freed before any record that named them
    /// was logged.
    ///
    /// # Errors
    ///
    /// `Corrupt`: there are no such slots.
    pub fn replay(&mut self, record: &Record) -> Result<(), Fault> {
        self.check(record)?;
        self.set_used(record.slot.0, u64::from(record.slots()));
        if record.kind == Kind::Free {
            for (first, len) in freed(record) {
                self.set_used(first, len);
            }
        }
        Ok(())
    }

    /// The checkpoint that freed these slots is durable, and no I/O of them is under way: they are
    /// free.
    pub fn reclaim(&mut self, record: &Record) {
        if record.kind == Kind::Free {
            for (first, len) in freed(record) {
                self.clear_used(first, len);
            }
        }
    }

    /// Whether a slot is in use.
    #[must_use]
    pub fn is_used(&self, slot: Slot) -> bool {
        bits::get(&self.used, slot.0)
    }

    /// Whether a slot is in use in the checkpoint.
    #[must_use]
    pub fn is_kept(&self, slot: Slot) -> bool {
        bits::get(&self.kept, slot.0)
    }

    /// Counts the free slots of a page's part, and all used ones with it.
    fn recount(&mut self, page: u64) {
        let start = page.saturating_mul(PAGE_BITS).min(self.count);
        let slots = PAGE_BITS.min(self.count.saturating_sub(start));
        let used = bits::count(&self.used, start, slots);
        let room = u32::try_from(slots.saturating_sub(used)).unwrap_or(0);
        let Some(entry) = usize::try_from(page).ok().and_then(|page| self.room.get_mut(page))
        else {
            return;
        };
        self.free = self.free.saturating_sub(u64::from(*entry)).saturating_add(u64::from(room));
        *entry = room;
    }

    /// Whether the slots that a record names are there.
    fn check(&self, record: &Record) -> Result<(), Fault> {
        let end = if record.kind == Kind::Free {
            let last = 63_u32.saturating_sub(record.mask.leading_zeros());
            record.word.chunk(last).0.saturating_add(1)
        } else {
            record.slot.0.saturating_add(u64::from(record.slots()))
        };
        if end > self.count {
            return Err(Fault::Corrupt);
        }
        Ok(())
    }

    fn set_used(&mut self, first: u64, n: u64) {
        self.each_page(first, n, |slots, page, first, n| {
            let changed = bits::set(&mut slots.used, first, n);
            slots.free = slots.free.saturating_sub(changed);
            if let Some(room) = slots.room.get_mut(page) {
                *room = room.saturating_sub(u32::try_from(changed).unwrap_or(u32::MAX));
            }
        });
    }

    fn clear_used(&mut self, first: u64, n: u64) {
        self.each_page(first, n, |slots, page, first, n| {
            let changed = bits::clear(&mut slots.used, first, n);
            slots.free = slots.free.saturating_add(changed);
            if let Some(room) = slots.room.get_mut(page) {
                *room = room.saturating_add(u32::try_from(changed).unwrap_or(u32::MAX));
            }
        });
    }

    /// Does something to the part of `first..first + n` that lies in each page.
    fn each_page(&mut self, first: u64, n: u64, mut act: impl FnMut(&mut Self, usize, u64, u64)) {
        let end = first.saturating_add(n).min(self.count);
        let mut at = first;
        while at < end {
            let page = at / PAGE_BITS;
            let stop = page.saturating_add(1).saturating_mul(PAGE_BITS).min(end);
            act(self, usize::try_from(page).unwrap_or(usize::MAX), at, stop.saturating_sub(at));
            at = stop;
        }
    }
}

/// The runs of slots that a `Free` record names.
fn freed(record: &Record) -> impl Iterator<Item = (u64, u64)> {
    let word = record.word;
    runs(record.mask).map(move |(bit, len)| (word.chunk(bit).0, u64::from(len)))
}

#[cfg(test)]
mod tests;
