// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Counts the requests that passed, so that a snapshot can wait for those before it.
//!
//! Two phases, as in sleepable RCU: a drain turns the phase and waits until the old one is empty,
//! while new requests count in the new one. Each CPU has counters of its own, a cache line apart; a
//! request may leave on another CPU. What came in and what left are counted apart and never reset,
//! so that the same counters tell how much has passed.
//!
//! # Why it is sound where memory is weakly ordered
//!
//! Entering: count, full barrier, load the state. Draining: store the state, full barrier, load the
//! counts. Of two such threads at least one sees what the other stored: so whoever did not see the
//! new phase is among those counted in, and whoever saw it counts in the new phase, or takes its
//! count back. What left is loaded before what came in, with acquire: who is seen to have left is
//! seen to have come in, so that those who are inside are never reckoned too few. A count of what
//! left is stored with release, so that what the leavers did is before what the drain does next.
//!
//! Leaving: count, full barrier, load `waiting`. Expecting: store `waiting`, full barrier, load the
//! counts. Again one of them sees the other: no drain waits for somebody who does not kick it.

use crate::fault::Fault;
use crate::platform::{Atom, Platform};

/// Counters are spread over this many lines.
const LINES: u32 = 16;
/// Atomics in a cache line of 64 bytes.
const LINE: usize = 8;

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Read = 0,
    Write = 1,
    /// Neither.
    Other = 2,
}

const KINDS: usize = 3;

/// That a request is in the guard, and in which phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(bool);

pub(super) struct Guard<P: Platform> {
    /// For each line: what came in in phase 0, by kind; the same in phase 1; what left each.
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

    fn lines(&self) -> impl Iterator<Item = &[P::Atom; LINE]> {
        (0..LINES).filter_map(|cpu| self.line(cpu))
    }

    fn came(&self, cpu: u32, phase: bool, kind: Kind) -> Option<&P::Atom> {
        let line = usize::try_from(cpu & (LINES - 1)).unwrap_or(0).wrapping_mul(LINE);
        let place = if phase { KINDS } else { 0 };
        self.counts.get(line.wrapping_add(place).wrapping_add(kind as usize))
    }

    /// Reads and writes that passed.
    pub(super) fn passed(&self) -> (u64, u64) {
        self.lines().fold((0u64, 0u64), |(reads, writes), [r0, w0, _, r1, w1, ..]| {
            let sum = |sum: u64, a: &P::Atom, b: &P::Atom| {
                sum.wrapping_add(a.load()).wrapping_add(b.load())
            };
            (sum(reads, r0, r1), sum(writes, w0, w1))
        })
    }

    /// Counts one in; what is loaded next is loaded behind a full barrier.
    pub(super) fn enter(&self, cpu: u32, phase: bool, kind: Kind) -> Token {
        if let Some(count) = self.came(cpu, phase, kind) {
            count.add_fenced(1);
        }
        Token(phase)
    }

    /// One that entered on this CPU does not pass after all.
    pub(super) fn turn_back(&self, cpu: u32, token: Token, kind: Kind) {
        if let Some(count) = self.came(cpu, token.0, kind) {
            let _ = count.sub(1);
        }
    }

    /// Counts one out; true if a drain waits.
    pub(super) fn leave(&self, cpu: u32, token: Token) -> bool {
        if let Some([.., left0, left1]) = self.line(cpu) {
            if token.0 { left1 } else { left0 }.add_fenced(1);
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
        let left = self.lines().fold(0u64, |sum, [.., left0, left1]| {
            sum.wrapping_add(if phase { left1 } else { left0 }.load())
        });
        let came = self.lines().fold(0u64, |sum, [r0, w0, o0, r1, w1, o1, ..]| {
            let all = if phase { [r1, w1, o1] } else { [r0, w0, o0] };
            all.iter().fold(sum, |sum, count| sum.wrapping_add(count.load()))
        });
        came == left
    }
}
