// SPDX-License-Identifier: MIT

//! Who may hold how much of a reactor's buffers.
//!
//! Each connection that can come is assured [`ASSURED`] bytes; what is beyond that is shared, up
//! to a limit for each. So neither slow nor greedy clients can stop the others.
//!
//! # Invariants
//!
//! `assured` is the sum over the connections of the smaller of what one holds and [`ASSURED`];
//! the bytes free are never fewer than what is assured and not held.

use crate::uring::pool::{Pool, GRAIN};
use crate::uring::Span;

/// Bytes that each connection can always have.
pub(crate) const ASSURED: u32 = 64 << 10;

/// The buffers.
#[derive(Debug)]
pub(crate) struct Memory {
    pool: Pool,
    /// Connections that can come.
    connections: u32,
    /// What one may hold.
    most: u32,
    assured: u32,
    /// Something was given back since this was last asked.
    freed: bool,
}

impl Memory {
    /// Over `span`, for that many connections.
    pub(crate) fn new(span: Span, connections: u32, most: u32) -> Self {
        let most = most.max(ASSURED);
        Self { pool: Pool::new(span), connections, most, assured: 0, freed: false }
    }

    /// Bytes that it takes for that many connections, with `shared` bytes beyond what is assured.
    pub(crate) fn bytes(connections: u32, shared: u32) -> u32 {
        connections.saturating_mul(ASSURED).saturating_add(shared)
    }

    /// A buffer of that many bytes for the holder of `held` bytes.
    pub(crate) fn take(&mut self, held: &mut u32, bytes: u32) -> Option<Span> {
        let block = Pool::block_bytes(bytes);
        let after = held.checked_add(block)?;
        if after > ASSURED {
            let promised = self.connections.saturating_mul(ASSURED).saturating_sub(self.assured);
            let beyond = after.saturating_sub((*held).max(ASSURED));
            let own = block.saturating_sub(beyond);
            let rest = self.pool.free().checked_sub(block)?;
            if after > self.most || rest < promised.saturating_sub(own) {
                return None;
            }
        }
        let span = self.pool.take(bytes)?;
        self.assured = self.assured.saturating_add(after.min(ASSURED) - (*held).min(ASSURED));
        *held = after;
        Some(span)
    }

    /// The same, or a smaller one if there is none so large; never smaller than a grain.
    pub(crate) fn take_some(&mut self, held: &mut u32, bytes: u32) -> Option<Span> {
        let mut want = bytes;
        loop {
            if let Some(span) = self.take(held, want) {
                return Some(span);
            }
            if want <= GRAIN {
                return None;
            }
            want = (want.div_ceil(2)).next_multiple_of(GRAIN);
        }
    }

    /// Gives a buffer back.
    pub(crate) fn give(&mut self, held: &mut u32, span: Span) {
        let before = self.pool.free();
        self.pool.give(span);
        let block = self.pool.free().saturating_sub(before);
        let after = held.saturating_sub(block);
        self.assured = self.assured.saturating_sub((*held).min(ASSURED) - after.min(ASSURED));
        *held = after;
        self.freed = true;
    }

    /// What was given back since `was_freed` was as `before` said had only just been taken: nobody
    /// who waits can do more with it than before.
    pub(crate) fn never_mind(&mut self, before: bool) {
        self.freed = before;
    }

    /// Whether something was given back and nobody was told.
    pub(crate) fn has_freed(&self) -> bool {
        self.freed
    }

    /// Whether something was given back since the last call.
    pub(crate) fn was_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::Arena;

    fn memory(connections: u32, shared: u32, most: u32) -> Memory {
        let span = Arena::new(Memory::bytes(connections, shared), 0).unwrap().whole();
        Memory::new(span, connections, most)
    }

    #[test]
    fn the_greedy_leave_what_is_assured() {
        let mut memory = memory(4, 1 << 20, 8 << 20);
        let mut held = [0; 4];
        while memory.take_some(&mut held[0], 256 << 10).is_some() {}
        assert_eq!(held[0], (1 << 20) + ASSURED);
        for other in &mut held[1..] {
            while memory.take_some(other, 256 << 10).is_some() {}
            assert_eq!(*other, ASSURED);
        }
    }

    #[test]
    fn one_holds_no_more_than_its_limit() {
        let mut memory = memory(4, 1 << 20, 128 << 10);
        let mut held = 0;
        let mut spans = Vec::new();
        spans.extend(std::iter::from_fn(|| memory.take(&mut held, 5000)));
        assert_eq!(held, 128 << 10);
        spans.drain(..).for_each(|span| memory.give(&mut held, span));
        assert_eq!((held, memory.assured, memory.was_freed()), (0, 0, true));
        assert!(!memory.was_freed());
    }
}
