// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The driver's copy units: which are free, and chains of those in use, with their checksums.

use crate::engine::slab::{Slab, NONE};
use crate::fault::Fault;
use crate::platform::Platform;

/// The copy units; each is one chunk of the driver's memory. The element is the unit's checksum.
pub(crate) struct CopyUnits<P: Platform> {
    units: Slab<P, u64>,
}

impl<P: Platform> CopyUnits<P> {
    /// What strays reach.
    pub(crate) fn sink(p: &P) -> Result<P::Box<u64>, Fault> {
        Slab::<P, _>::sink(p, &0)
    }

    /// No units yet: [`Self::make`].
    #[inline(always)]
    pub(crate) fn bare(sink: P::Box<u64>) -> Self {
        Self { units: Slab::bare(sink) }
    }

    pub(crate) fn make(&mut self, p: &P, len: u32) -> Result<(), Fault> {
        self.units.make(p, len, &0)
    }

    pub(crate) fn left(&self) -> u32 {
        self.units.left()
    }

    /// A chain of `n` units; `None`, and nothing taken, if there are not as many.
    pub(crate) fn chain(&mut self, n: u32) -> Option<u32> {
        if self.units.left() < n {
            return None;
        }
        let mut first = NONE;
        for _ in 0..n {
            let unit = self.units.take()?;
            self.units.set_link(unit, first);
            first = unit;
        }
        Some(first)
    }

    pub(crate) fn next(&self, unit: u32) -> u32 {
        self.units.link(unit)
    }

    /// The unit `n` places behind `unit` in its chain.
    pub(crate) fn nth(&self, unit: u32, n: u32) -> u32 {
        (0..n).fold(unit, |at, _| self.next(at))
    }

    /// Hangs the chain `next` behind the unit `last`.
    pub(crate) fn join(&mut self, last: u32, next: u32) {
        self.units.set_link(last, next);
    }

    /// Frees the first `n` units of the chain that begins at `first`.
    pub(crate) fn free(&mut self, first: u32, n: u32) {
        let mut at = first;
        for _ in 0..n {
            if at == NONE {
                return;
            }
            let next = self.units.link(at);
            self.units.give(at);
            at = next;
        }
    }

    pub(crate) fn set_sum(&mut self, unit: u32, sum: u64) {
        *self.units.at_mut(unit) = sum;
    }

    pub(crate) fn sum(&self, unit: u32) -> u64 {
        *self.units.at(unit)
    }
}
