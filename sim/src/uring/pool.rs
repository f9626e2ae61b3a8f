// SPDX-License-Identifier: MIT

//! A buddy allocator over a span: blocks of 4 KiB times a power of two, up to 1 MiB.
//!
//! All its memory is allocated when it is made; taking and giving back cost a few array accesses.
//!
//! # State
//!
//! `state[page]` of the first page of a block says what the block is; the other pages say
//! `INNER`. The free blocks of each order are a doubly linked list through `next` and `prev`.

use super::arena::Span;

/// Bytes of the smallest block.
pub const GRAIN: u32 = 4096;

/// log2 of the grains in the largest block.
const TOP: usize = 8;

/// Bytes of the largest block.
pub const LARGEST: u32 = GRAIN << TOP;

const NONE: u32 = u32::MAX;
const INNER: u8 = 0xFF;
const TAKEN: u8 = 0x80;

/// The allocator.
#[derive(Debug)]
pub struct Pool {
    span: Span,
    pages: u32,
    free_pages: u32,
    heads: [u32; TOP + 1],
    state: Vec<u8>,
    next: Vec<u32>,
    prev: Vec<u32>,
}

fn index(page: u32) -> usize {
    usize::try_from(page).unwrap_or(usize::MAX)
}

fn order_byte(order: usize) -> u8 {
    u8::try_from(order).unwrap_or(INNER)
}

/// The order of the smallest block that holds `bytes`.
fn order_for(bytes: u32) -> usize {
    let grains = bytes.div_ceil(GRAIN).max(1);
    index(grains.next_power_of_two().trailing_zeros())
}

impl Pool {
    /// Manages the whole grains of `span`.
    #[must_use]
    pub fn new(span: Span) -> Self {
        let pages = span.len() / GRAIN;
        let mut pool = Self {
            span,
            pages,
            free_pages: 0,
            heads: [NONE; TOP + 1],
            state: vec![INNER; index(pages)],
            next: vec![NONE; index(pages)],
            prev: vec![NONE; index(pages)],
        };
        let mut page = 0;
        while page < pages {
            let aligned = if page == 0 { TOP } else { index(page.trailing_zeros()).min(TOP) };
            let fits = index((pages - page).ilog2()).min(aligned);
            pool.link(page, fits);
            pool.free_pages += 1 << fits;
            page += 1 << fits;
        }
        pool
    }

    /// Bytes not taken.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.free_pages * GRAIN
    }

    /// Bytes of the block that `take` would give for `bytes`.
    #[must_use]
    pub fn block_bytes(bytes: u32) -> u32 {
        GRAIN << order_for(bytes).min(TOP)
    }

    /// A block of at least `bytes`, cut to that length; `None` if there is none.
    pub fn take(&mut self, bytes: u32) -> Option<Span> {
        let order = order_for(bytes);
        let found = (order..=TOP).find(|&o| self.heads[o] != NONE)?;
        let page = self.heads[found];
        self.unlink(page, found);
        for lower in (order..found).rev() {
            self.link(page + (1 << lower), lower);
        }
        self.state[index(page)] = TAKEN | order_byte(order);
        self.free_pages -= 1 << order;
        Some(self.span.cut(page * GRAIN, bytes))
    }

    /// Gives a block back, named by any span that begins where the block does.
    ///
    /// # Panics
    ///
    /// If no block that is taken begins there.
    pub fn give(&mut self, span: Span) {
        let mut page = (span.at() - self.span.at()) / GRAIN;
        let state = self.state[index(page)];
        assert!(state != INNER && state & TAKEN != 0, "a block given back twice");
        let mut order = usize::from(state & !TAKEN);
        self.free_pages += 1 << order;
        self.state[index(page)] = INNER;
        while order < TOP {
            let buddy = page ^ (1 << order);
            if buddy >= self.pages || self.state[index(buddy)] != order_byte(order) {
                break;
            }
            self.unlink(buddy, order);
            page &= !(1 << order);
            order += 1;
        }
        self.link(page, order);
    }

    fn link(&mut self, page: u32, order: usize) {
        let head = self.heads[order];
        self.state[index(page)] = order_byte(order);
        self.next[index(page)] = head;
        self.prev[index(page)] = NONE;
        if head != NONE {
            self.prev[index(head)] = page;
        }
        self.heads[order] = page;
    }

    fn unlink(&mut self, page: u32, order: usize) {
        let (next, prev) = (self.next[index(page)], self.prev[index(page)]);
        match prev {
            NONE => self.heads[order] = next,
            _ => self.next[index(prev)] = next,
        }
        if next != NONE {
            self.prev[index(next)] = prev;
        }
        self.state[index(page)] = INNER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::Arena;

    fn pool(bytes: u32) -> Pool {
        Pool::new(Arena::new(bytes, 0).unwrap().whole())
    }

    #[test]
    fn all_of_it_can_be_taken_and_comes_back() {
        let mut pool = pool(3 * LARGEST + 5 * GRAIN);
        let all = pool.free();
        let mut taken = Vec::new();
        while let Some(span) = pool.take(GRAIN) {
            taken.push(span);
        }
        assert_eq!(pool.free(), 0);
        assert_eq!(taken.len() as u64, u64::from(all / GRAIN));
        taken.drain(..).rev().for_each(|span| pool.give(span));
        assert_eq!(pool.free(), all);
        assert!((0..3).all(|_| pool.take(LARGEST).is_some()), "buddies merge again");
    }

    /// Lockstep with a naive model: a map of which grains are taken.
    #[test]
    fn random_use_never_overlaps() {
        let mut pool = pool(4 * LARGEST);
        let mut grains = vec![false; 4 << TOP];
        let mut live: Vec<Span> = Vec::new();
        let mut seed = 1u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let dice = (seed >> 33) as u32;
            if dice & 1 == 0 {
                let bytes = (1 << (dice >> 1 & 0xF)) * 64;
                if let Some(span) = pool.take(bytes) {
                    assert_eq!(span.len(), bytes);
                    for grain in span.at() / GRAIN..(span.at() + bytes).div_ceil(GRAIN) {
                        assert!(!std::mem::replace(&mut grains[grain as usize], true));
                    }
                    live.push(span);
                }
            } else if !live.is_empty() {
                let span = live.swap_remove(dice as usize % live.len());
                for grain in span.at() / GRAIN..(span.at() + span.len()).div_ceil(GRAIN) {
                    grains[grain as usize] = false;
                }
                pool.give(span);
            }
        }
        live.drain(..).for_each(|span| pool.give(span));
        assert_eq!(pool.free(), 4 * LARGEST);
    }

    #[test]
    #[should_panic(expected = "twice")]
    fn double_give_is_noticed() {
        let mut pool = pool(LARGEST);
        let span = pool.take(100).unwrap();
        pool.give(span);
        pool.give(span);
    }

    #[test]
    fn too_large_is_none() {
        assert!(pool(2 * LARGEST).take(LARGEST + 1).is_none());
    }
}
