// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Counts the requests that passed, so that a snapshot can wait for those before it.
//!
//! Two phases, as in sleepable RCU: a drain turns the phase and waits until the old one is empty,
//! while new requests count in the new one. Each CPU has counters of its own, a cache line apart; a
//! request may leave on another CPU, so that only their sum means anything. After the phase has
//! turned, entries of the old phase are final, so that a sum of zero is never premature.

use crate::fault::Fault;
use crate::platform::{Atom, Platform};

/// Counters are spread over this many lines.
const LINES: u32 = 16;
/// Atomics in a cache line of 64 bytes.
const LINE: u32 = 8;

/// That a request is in the guard, and in which phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(bool);

pub(super) struct Guard<P: Platform> {
    /// For each line: phase 0, phase 1, then padding.
    counts: P::Array<P::Atom>,
    /// 1 while a drain waits.
    waiting: P::Atom,
}

impl<P: Platform> Guard<P> {
    pub(super) fn new(p: &P) -> Result<Self, Fault> {
        let len = usize::try_from(LINES * LINE).unwrap_or(0);
        Ok(Self { counts: p.atoms(len).ok_or(Fault::NoMemory)?, waiting: P::Atom::new(0) })
    }

    fn count(&self, cpu: u32, phase: bool) -> Option<&P::Atom> {
        let at = (cpu & (LINES - 1)) * LINE + u32::from(phase);
        self.counts.get(usize::try_from(at).unwrap_or(usize::MAX))
    }

    pub(super) fn enter(&self, cpu: u32, phase: bool) -> Token {
        if let Some(count) = self.count(cpu, phase) {
            let _ = count.add(1);
        }
        Token(phase)
    }

    pub(super) fn leave(&self, cpu: u32, token: Token) -> bool {
        if let Some(count) = self.count(cpu, token.0) {
            let _ = count.sub(1);
        }
        P::Atom::fence();
        self.waiting.load() != 0
    }

    pub(super) fn expect_drain(&self) {
        self.waiting.store(1);
        P::Atom::fence();
    }

    /// Whether nobody is left in the phase; then no drain waits any more.
    pub(super) fn drained(&self, phase: bool) -> bool {
        P::Atom::fence();
        let mut sum = 0u64;
        for line in 0..LINES {
            sum = sum.wrapping_add(self.count(line, phase).map_or(0, Atom::load));
        }
        if sum == 0 {
            self.waiting.store(0);
        }
        sum == 0
    }
}
