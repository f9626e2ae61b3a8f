// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Counts the requests that passed, so that a snapshot can wait for those before it.
//!
//! Two phases, as in sleepable RCU: a drain turns the phase and waits until the old one is empty,
//! while new requests count in the new one. Each CPU has counters of its own, a cache line apart; a
//! request may leave on another CPU, so that only their sum means anything.
//!
//! # Why it is sound where memory is weakly ordered
//!
//! Entering: count, full barrier, load the state. Draining: store the state, full barrier, load the
//! counts. Of two such threads at least one sees what the other stored: so whoever did not see the
//! new phase is in the sum, and whoever saw it counts in the new phase or leaves again. Who counted
//! in the old phase after it had turned leaves by the line that it came in by, which is loaded
//! once: it is in the sum with one or with zero, and never with less. All others that are in the
//! old phase came in before, so that the sum has their entries, and their leaving or not: a sum of
//! zero is never premature. A count is left with release and loaded with acquire, so that what the
//! leavers did is before what the drain does next.
//!
//! Leaving: count, full barrier, load `waiting`. Expecting: store `waiting`, full barrier, load the
//! counts. Again one of them sees the other: no drain waits for somebody who does not kick it.

use crate::fault::Fault;
use crate::platform::{Atom, Platform};

/// Counters are spread over this many lines.
const LINES: u32 = 16;
/// Atomics in a cache line of 64 bytes.
const LINE: usize = 8;

/// That a request is in the guard, and in which phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(bool);

pub(super) struct Guard<P: Platform> {
    /// For each line: phase 0, phase 1, reads and writes that passed, then padding.
    counts: P::Array<P::Atom>,
    /// 1 while a drain waits.
    waiting: P::Atom,
}

impl<P: Platform> Guard<P> {
    pub(super) fn new(p: &P) -> Result<Self, Fault> {
        let len = usize::try_from(LINES).unwrap_or(0).saturating_mul(LINE);
        Ok(Self { counts: p.atoms(len).ok_or(Fault::NoMemory)?, waiting: P::Atom::new(0) })
    }

    fn line(&self, cpu: u32) -> Option<&[P::Atom; LINE]> {
        let at = usize::try_from(cpu & (LINES - 1)).unwrap_or(0).wrapping_mul(LINE);
        self.counts.get(at..).and_then(<[P::Atom]>::first_chunk)
    }

    fn count(&self, cpu: u32, phase: bool) -> Option<&P::Atom> {
        let [first, second, ..] = self.line(cpu)?;
        Some(if phase { second } else { first })
    }

    /// Counts a read or write that passes, in a line that no other CPU writes to meanwhile.
    pub(super) fn note_passed(&self, cpu: u32, write: bool) {
        if let Some([_, _, reads, writes, ..]) = self.line(cpu) {
            let _ = if write { writes } else { reads }.add(1);
        }
    }

    /// Reads and writes that passed.
    pub(super) fn passed(&self) -> (u64, u64) {
        let mut passed = (0u64, 0u64);
        for [_, _, reads, writes, ..] in (0..LINES).filter_map(|cpu| self.line(cpu)) {
            passed.0 = passed.0.wrapping_add(reads.load());
            passed.1 = passed.1.wrapping_add(writes.load());
        }
        passed
    }

    /// Counts one in; what is loaded next is loaded behind a full barrier.
    pub(super) fn enter(&self, cpu: u32, phase: bool) -> Token {
        if let Some(count) = self.count(cpu, phase) {
            count.add_fenced(1);
        }
        Token(phase)
    }

    pub(super) fn leave(&self, cpu: u32, token: Token) -> bool {
        if let Some(count) = self.count(cpu, token.0) {
            count.sub_fenced(1);
        }
        self.waiting.load() != 0
    }

    pub(super) fn expect_drain(&self) {
        self.waiting.store(1);
        P::Atom::fence();
    }

    /// Whether nobody is left in the phase; then no drain waits any more.
    pub(super) fn drained(&self, phase: bool) -> bool {
        let drained = self.is_empty(phase);
        if drained {
            self.waiting.store(0);
        }
        drained
    }

    /// Whether nobody is in the phase.
    pub(super) fn is_empty(&self, phase: bool) -> bool {
        P::Atom::fence();
        let counts = (0..LINES).filter_map(|line| self.count(line, phase));
        counts.fold(0u64, |sum, count| sum.wrapping_add(count.load())) == 0
    }
}
