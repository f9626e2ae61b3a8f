// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Who works on which chunks just now.
//!
//! An *exclusive* claim is held by the one task that copies, allocates, discards or settles a
//! chunk. A *shared* claim is held while a chunk is read in place for a snapshot, or while a slot
//! of a clone is rewritten. Exclusive claims on a chunk exclude each other; a shared claim does not
//! wait for anything by itself: its holder asks [`Claims::locked`] first, and the gate waits with
//! [`Claims::shared`].
//!
//! Claims hang in buckets by (map, word); the tasks that wait for any claim of a bucket to end wait
//! in the bucket's queue, and all of them are woken: each looks again.

use crate::engine::slab::{Queue, Slab, NONE};
use crate::fault::Fault;
use crate::platform::Platform;
use crate::units::{MapId, Word};

const BUCKETS: u32 = 1024;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    map: MapId,
    word: Word,
    mask: u64,
    exclusive: bool,
    /// Of an exclusive claim: chunks whose copies' records can be seen while their slots cannot be
    /// read yet.
    copying: u64,
}

const FREE: Claim = Claim { map: MapId(0), word: Word(0), mask: 0, exclusive: false, copying: 0 };

pub(crate) struct Claims<P: Platform> {
    claims: Slab<P, Claim>,
    heads: P::Array<u32>,
    waiters: P::Array<Queue>,
}

fn bucket(map: MapId, word: Word) -> usize {
    let mixed = (u64::from(map.0).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ word.0)
        .wrapping_mul(0xD6E8_FEB8_6659_FD93);
    usize::try_from(mixed >> 54).unwrap_or(0)
}

impl<P: Platform> Claims<P> {
    /// What strays reach.
    pub(crate) fn sink(p: &P) -> Result<P::Box<Claim>, Fault> {
        Slab::<P, _>::sink(p, &FREE)
    }

    /// No room yet: [`Self::make`].
    #[inline(always)]
    pub(crate) fn bare(sink: P::Box<Claim>) -> Self {
        Self { claims: Slab::bare(sink), heads: P::Array::default(), waiters: P::Array::default() }
    }

    /// Room for `len` claims.
    pub(crate) fn make(&mut self, p: &P, len: u32) -> Result<(), Fault> {
        let buckets = usize::try_from(BUCKETS).unwrap_or(0);
        self.claims.make(p, len, &FREE)?;
        self.heads = p.array(buckets, &NONE).ok_or(Fault::NoMemory)?;
        self.waiters = p.array(buckets, &Queue::default()).ok_or(Fault::NoMemory)?;
        Ok(())
    }

    fn any(&self, map: MapId, word: Word, mask: u64, exclusive: bool) -> bool {
        let mut at = self.heads.get(bucket(map, word)).copied().unwrap_or(NONE);
        while at != NONE {
            let c = self.claims.at(at);
            if c.map == map && c.word == word && c.mask & mask != 0 && c.exclusive == exclusive {
                return true;
            }
            at = self.claims.link(at);
        }
        false
    }

    /// Whether anybody holds one of the chunks exclusively.
    pub(crate) fn locked(&self, map: MapId, word: Word, mask: u64) -> bool {
        self.any(map, word, mask, true)
    }

    /// Whether anybody shares one of the chunks.
    pub(crate) fn shared(&self, map: MapId, word: Word, mask: u64) -> bool {
        self.any(map, word, mask, false)
    }

    #[track_caller]
    fn add(&mut self, claim: Claim) -> u32 {
        let Some(at) = self.claims.take() else {
            self.claims.stray();
            return NONE;
        };
        *self.claims.at_mut(at) = claim;
        if let Some(head) = self.heads.get_mut(bucket(claim.map, claim.word)) {
            self.claims.set_link(at, *head);
            *head = at;
        }
        at
    }

    /// Claims chunks exclusively, unless somebody else has one of them so.
    #[track_caller]
    pub(crate) fn lock(&mut self, map: MapId, word: Word, mask: u64) -> Option<u32> {
        if self.locked(map, word, mask) {
            return None;
        }
        Some(self.add(Claim { map, word, mask, exclusive: true, copying: 0 }))
    }

    /// Shares chunks.
    #[track_caller]
    pub(crate) fn share(&mut self, map: MapId, word: Word, mask: u64) -> u32 {
        self.add(Claim { map, word, mask, exclusive: false, copying: 0 })
    }

    /// The slots of these chunks' copies are being written from now on; 0: they can be read.
    pub(crate) fn set_copying(&mut self, at: u32, mask: u64) {
        if at != NONE {
            self.claims.at_mut(at).copying = mask;
        }
    }

    /// Whether slots of the claim's chunks are being written.
    pub(crate) fn is_copying(&self, at: u32) -> bool {
        self.claims.at(at).copying != 0
    }

    /// Whether the slot of one of the chunks' copies is being written.
    pub(crate) fn copying(&self, map: MapId, word: Word, mask: u64) -> bool {
        let mut at = self.heads.get(bucket(map, word)).copied().unwrap_or(NONE);
        while at != NONE {
            let c = self.claims.at(at);
            if c.map == map && c.word == word && c.copying & mask != 0 {
                return true;
            }
            at = self.claims.link(at);
        }
        false
    }

    /// What a claim holds: its map, word and chunks.
    pub(crate) fn held(&self, at: u32) -> (MapId, Word, u64) {
        let c = self.claims.at(at);
        (c.map, c.word, c.mask)
    }

    /// Ends a claim and gives the tasks that waited in its bucket.
    pub(crate) fn end(&mut self, at: u32) -> Queue {
        let (map, word, _) = self.held(at);
        let Some(head) = self.heads.get_mut(bucket(map, word)) else { return Queue::default() };
        let next = self.claims.link(at);
        if *head == at {
            *head = next;
        } else {
            let mut before = *head;
            while before != NONE && self.claims.link(before) != at {
                before = self.claims.link(before);
            }
            if before != NONE {
                self.claims.set_link(before, next);
            }
        }
        self.claims.give(at);
        self.waiters.get_mut(bucket(map, word)).map(core::mem::take).unwrap_or_default()
    }

    /// The queue of those who wait for claims on a word to end.
    pub(crate) fn queue(&mut self, map: MapId, word: Word) -> Option<&mut Queue> {
        self.waiters.get_mut(bucket(map, word))
    }

    pub(crate) fn strays(&self) -> u32 {
        self.claims.strays
    }
}
