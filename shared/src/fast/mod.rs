// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The hot path of a production volume: may a request go straight to the device?
//!
//! State encoding of `Fast::state`: bits 0-7 the mode, bit 8 the guard's phase, bits 32-63 the
//! epoch of the newest living snapshot. One load gives all three, so that they agree.
//!
//! # Invariants
//!
//! - I-3: a request enters the guard before it loads a bit and leaves when its I/O is complete.
//! - I-4: a bit is set only after the record that it stands for is durable and the readers in place
//!   of its chunk are drained. A bit that is 0 says nothing: ask the map.
//! - Only the core, which its driver keeps behind one lock, changes the state and the bits.

mod bits;
mod guard;
#[cfg(test)]
mod tests;

pub use guard::Token;

use crate::api::Op;
use crate::fault::Fault;
use crate::platform::{Atom, Platform};
use crate::units::{low_bits, Dev, Epoch, Geometry, Word};
use bits::Bits;
use guard::{Guard, Kind};

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Route {
    /// Straight to the device, the same length; `Fast::leave` when it is complete.
    Pass(Pass),
    /// To the core, cut at the words.
    Slow,
}

/// A request that may go straight to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// The device.
    pub dev: Dev,
    /// First byte on it.
    pub at: u64,
    /// To be handed back to `Fast::leave`.
    pub token: Token,
}

/// How requests are routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// Everything to the core: offline, draining, or fenced.
    Slow = 0,
    /// No living snapshot: everything passes.
    Free = 1,
    /// Reads pass; writes pass where the bits are set.
    Copy = 2,
    /// As `Copy`, but only where the settled bits are set.
    Restore = 3,
}

impl Mode {
    const fn from_state(state: u64) -> Self {
        match state & 0xFF {
            1 => Self::Free,
            2 => Self::Copy,
            3 => Self::Restore,
            _ => Self::Slow,
        }
    }
}

/// The hot path of one production volume; shared by the core and all that submit to it.
pub struct Fast<P: Platform> {
    dev: Dev,
    geometry: Geometry,
    size: u64,
    state: P::Atom,
    guard: Guard<P>,
    copied: Bits<P>,
    settled: Bits<P>,
}

const PHASE: u64 = 1 << 8;

impl<P: Platform> Fast<P> {
    /// For a volume of `size` bytes on `dev`, all of it slow at first. Takes two bits of memory for
    /// each chunk.
    pub(crate) fn new(p: &P, dev: Dev, geometry: Geometry, size: u64) -> Result<Self, Fault> {
        let words = geometry.chunks_for(size).saturating_add(63) >> 6;
        Ok(Self {
            dev,
            geometry,
            size,
            state: P::Atom::new(0),
            guard: Guard::new(p)?,
            copied: Bits::new(p, words)?,
            settled: Bits::new(p, words)?,
        })
    }

    /// Where a request for `len` bytes from `at` goes. It may cross words.
    pub fn route(&self, cpu: u32, op: Op, at: u64, len: u32) -> Route {
        let kind = match op {
            Op::Read => Kind::Read,
            Op::Write { .. } => Kind::Write,
            Op::Flush | Op::Discard | Op::Zero { .. } => Kind::Other,
        };
        let (token, state) = self.enter(cpu, kind);
        if self.passes(state, op, at, len) {
            return Route::Pass(Pass { dev: self.dev, at, token });
        }
        // A drain may have begun since `enter`. Its end must not be missed, but the caller goes to
        // the core now, which looks at the guard whenever it is called.
        self.guard.turn_back(cpu, token, kind);
        Route::Slow
    }

    /// The I/O of a passed request is complete. True if a drain waits for it: then call
    /// `Core::kick`.
    #[must_use]
    pub fn leave(&self, cpu: u32, token: Token) -> bool {
        self.guard.leave(cpu, token)
    }

    /// Whether nothing that passed is under way. For a driver that has seen to it that nothing
    /// comes any more.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.guard.is_empty(false) && self.guard.is_empty(true)
    }

    /// Reads and writes that passed since the volume was opened.
    pub fn passed(&self) -> (u64, u64) {
        self.guard.passed()
    }

    fn enter(&self, cpu: u32, kind: Kind) -> (Token, u64) {
        loop {
            let before = self.state.load();
            let token = self.guard.enter(cpu, before & PHASE != 0, kind);
            let state = self.state.load();
            if (state ^ before) & PHASE == 0 {
                return (token, state);
            }
            self.guard.turn_back(cpu, token, kind);
        }
    }

    fn passes(&self, state: u64, op: Op, at: u64, len: u32) -> bool {
        let mode = Mode::from_state(state);
        let epoch = state >> 32;
        let inside = at.checked_add(u64::from(len)).is_some_and(|end| end <= self.size);
        if mode == Mode::Slow || !inside {
            return false;
        }
        match op {
            Op::Read => {
                mode != Mode::Restore || self.all(at, len, |w, m| self.settled.test(w, m, 1))
            }
            Op::Write { .. } => {
                mode == Mode::Free
                    || self.all(at, len, |w, m| {
                        self.copied.test(w, m, epoch)
                            && (mode != Mode::Restore || self.settled.test(w, m, 1))
                    })
            }
            Op::Flush => mode != Mode::Restore,
            Op::Discard | Op::Zero { .. } => mode == Mode::Free,
        }
    }

    /// Whether `test` holds for the chunks that the bytes touch, word by word.
    fn all(&self, at: u64, len: u32, test: impl Fn(Word, u64) -> bool) -> bool {
        if len == 0 {
            return true;
        }
        let first = self.geometry.chunk_of(at);
        let last = self.geometry.chunk_of(at.saturating_add(u64::from(len)).saturating_sub(1));
        let mut word = first.word();
        if word == last.word() {
            let behind = u64::MAX.wrapping_shl(first.bit());
            return test(word, behind & u64::MAX.wrapping_shr(63u32.wrapping_sub(last.bit())));
        }
        while word <= last.word() {
            let from = if word == first.word() { !low_bits(first.bit()) } else { u64::MAX };
            let to =
                if word == last.word() { low_bits(last.bit().saturating_add(1)) } else { u64::MAX };
            if !test(word, from & to) {
                return false;
            }
            word = word.next();
        }
        true
    }

    /// Sets mode and epoch. What passed before may still be under way: see [`Self::drain`].
    pub(crate) fn set(&self, mode: Mode, epoch: Epoch) {
        let phase = self.state.load() & PHASE;
        self.state.store((u64::from(epoch.0) << 32) | phase | mode as u64);
        P::Atom::fence();
    }

    /// Begins to drain: sets mode and epoch and turns the guard's phase. The drain before must
    /// have ended.
    pub(crate) fn drain(&self, mode: Mode, epoch: Epoch) {
        self.guard.expect_drain();
        let phase = (self.state.load() & PHASE) ^ PHASE;
        self.state.store((u64::from(epoch.0) << 32) | phase | mode as u64);
        P::Atom::fence();
    }

    /// Whether all that passed before the drain began is complete; ends the drain if so.
    pub(crate) fn drained(&self) -> bool {
        self.guard.drained(self.state.load() & PHASE == 0)
    }

    /// Marks chunks as copied at `epoch`.
    ///
    /// A copy for a snapshot that is not the newest any more leaves no bit: to make the page that
    /// epoch's would pull it away under requests that have looked at its tag already, and take the
    /// bits that they read next for those of their own epoch (I-5).
    pub(crate) fn mark_copied(&self, word: Word, mask: u64, epoch: Epoch) {
        if self.state.load() >> 32 != u64::from(epoch.0) {
            return;
        }
        self.copied.set(word, mask, u64::from(epoch.0));
    }

    /// Which of the word's chunks are known to be copied at `epoch`.
    pub(crate) fn copied(&self, word: Word, epoch: Epoch) -> u64 {
        self.copied.get(word, u64::from(epoch.0))
    }

    /// Marks chunks of a restoring volume as settled.
    pub(crate) fn mark_settled(&self, word: Word, mask: u64) {
        self.settled.set(word, mask, 1);
    }

    /// Forgets all settled bits.
    pub(crate) fn forget_settled(&self) {
        self.settled.forget();
    }
}
