// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The search for free slots: next fit, for runs as long as are wanted.
//!
//! A batch wants adjacent slots, so that it is one write. The search goes on from where the last
//! one ended, and over the end to the beginning; it is bounded by the number of runs it looks at.

use super::{bits, Run, Slots};
use crate::format::page::PAGE_BITS;
use crate::platform::Platform;
use crate::units::Slot;

/// Free runs that a search looks at before it takes the longest it has seen.
const SEARCH_RUNS: u32 = 64;

impl<P: Platform> Slots<P> {
    /// Takes adjacent slots: `want` of them if a run of that length is near, else the longest run
    /// near, at least one. `own` is how many reserved slots the taker holds; what it takes is taken
    /// from them first, so that afterwards it holds `own - len` (zero if that is less than zero).
    pub fn alloc_run(&mut self, want: u32, own: u64) -> Option<Run> {
        let want = u64::from(want).min(self.available_to(own));
        let (first, len) = self.search(want, SEARCH_RUNS)?;
        self.take(first, len, own)
    }

    /// Takes exactly `want` adjacent slots, wherever they are.
    pub fn alloc_exact(&mut self, want: u32, own: u64) -> Option<Run> {
        let want = u64::from(want);
        if want > self.available_to(own) {
            return None;
        }
        let (first, len) = self.search(want, u32::MAX)?;
        if len < want {
            return None;
        }
        self.take(first, len, own)
    }

    /// The first run of `want` free slots from the cursor on, or the longest of `budget` runs.
    fn search(&self, want: u64, budget: u32) -> Option<(u64, u64)> {
        if want == 0 {
            return None;
        }
        let mut best: Option<(u64, u64)> = None;
        let mut budget = budget;
        for (from, end) in [(self.cursor, self.count), (0, self.cursor)] {
            let mut at = from;
            while let Some(first) = self.first_free(at, end) {
                let stop = bits::find_set(&self.used, first, first.saturating_add(want).min(end));
                let len = stop.saturating_sub(first);
                if best.is_none_or(|(_, longest)| len > longest) {
                    best = Some((first, len));
                }
                budget = budget.saturating_sub(1);
                if len >= want || budget == 0 {
                    return best;
                }
                at = stop;
            }
        }
        best
    }

    /// The first free slot of `from..end`; passes over pages without room.
    fn first_free(&self, from: u64, end: u64) -> Option<u64> {
        let mut at = from;
        while at < end {
            let page = at / PAGE_BITS;
            let stop = page.saturating_add(1).saturating_mul(PAGE_BITS).min(end);
            let room = usize::try_from(page).ok().and_then(|page| self.room.get(page));
            if room.is_some_and(|&room| room > 0) {
                let found = bits::find_clear(&self.used, at, stop);
                if found.is_some() {
                    return found;
                }
            }
            at = stop;
        }
        None
    }

    /// Marks a run used, and takes it from the taker's reservation.
    fn take(&mut self, first: u64, len: u64, own: u64) -> Option<Run> {
        let run = Run { first: Slot(first), len: u32::try_from(len).ok()? };
        self.set_used(first, len);
        self.reserved = self.reserved.saturating_sub(own.min(len));
        self.cursor = first.saturating_add(len);
        Some(run)
    }
}
