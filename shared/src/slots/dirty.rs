// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which pages of a bit map a checkpoint has to write.
//!
//! A bit map has two sides on disk, and checkpoints write them in turn. The side that is to be
//! written is two checkpoints old: it lacks what this one changed and what the one before changed.

use super::bits;
use crate::platform::Platform;

/// The pages.
pub(super) struct Dirty<P: Platform> {
    /// Changed since the last checkpoint that is durable.
    now: P::Array<u64>,
    /// Changed by that checkpoint: right on its side, not on the other.
    before: P::Array<u64>,
    pages: u64,
}

impl<P: Platform> Dirty<P> {
    /// For a bit map of `pages` pages, none of them dirty.
    pub(super) fn new(platform: &P, pages: u64) -> Option<Self> {
        let words = usize::try_from(pages.div_ceil(64)).ok()?;
        Some(Self { now: platform.array(words, &0)?, before: platform.array(words, &0)?, pages })
    }

    /// Page `page` has changed.
    pub(super) fn mark(&mut self, page: u64) {
        bits::set(&mut self.now, page, 1);
    }

    /// Page `page` is not right on the side that is written next.
    pub(super) fn mark_other_side(&mut self, page: u64) {
        bits::set(&mut self.before, page, 1);
    }

    /// Page `page` is right on both sides.
    pub(super) fn unmark_other_side(&mut self, page: u64) {
        bits::clear(&mut self.before, page, 1);
    }

    /// The first page from `from` on that is to be written.
    pub(super) fn next(&self, from: u64) -> Option<u64> {
        let now = bits::find(&self.now, from, self.pages, 0);
        let before = bits::find(&self.before, from, self.pages, 0);
        match (now, before) {
            (Some(now), Some(before)) => Some(now.min(before)),
            (now, before) => now.or(before),
        }
    }

    /// The checkpoint is durable.
    pub(super) fn turn(&mut self) {
        for (before, now) in self.before.iter_mut().zip(self.now.iter_mut()) {
            *before = core::mem::take(now);
        }
    }

    /// Takes over the marks of a smaller bit map.
    pub(super) fn take_over(&mut self, smaller: &Self) {
        for (to, from) in self.now.iter_mut().zip(smaller.now.iter()) {
            *to |= *from;
        }
        for (to, from) in self.before.iter_mut().zip(smaller.before.iter()) {
            *to |= *from;
        }
    }
}
