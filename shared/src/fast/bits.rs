// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! One bit a chunk, forgotten all at once by a new epoch.
//!
//! A page of 512 words has a tag: the epoch that its bits are valid for. A reader trusts a bit only
//! under the tag that it expects; a writer that finds another tag clears the page first and sets
//! the tag last. A reader that still expects the old tag is in the guard (I-3), and the core begins
//! to set bits of a new epoch only after that guard is drained. It never sets bits of an epoch that
//! has passed (`Fast::mark_copied`): so a page's tag does not change between a reader's two loads,
//! the tag's and the bits', unless the newest snapshot goes; then the bits that it may read by
//! mistake stand for records of an older living one, and nobody needs more than those.
//!
//! The tag is stored with release behind the cleared words and loaded with acquire before the bits:
//! who sees a new tag sees no bit from before it. The full barrier behind the zero tag keeps the
//! clearing from being seen under the old tag's promise by one that enters later. A bit is set with
//! a full barrier after its record is durable and its readers are drained; who loads it with
//! acquire and then submits a write submits it after both.

use crate::fault::Fault;
use crate::platform::{Atom, Platform};
use crate::units::Word;

const PAGE_SHIFT: u32 = 9;

pub(super) struct Bits<P: Platform> {
    words: P::Array<P::Atom>,
    tags: P::Array<P::Atom>,
}

fn index(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

impl<P: Platform> Bits<P> {
    pub(super) fn new(p: &P, words: u64) -> Result<Self, Fault> {
        let pages = (words >> PAGE_SHIFT).saturating_add(1);
        Ok(Self {
            words: p.atoms(index(words)).ok_or(Fault::NoMemory)?,
            tags: p.atoms(index(pages)).ok_or(Fault::NoMemory)?,
        })
    }

    /// The word's bits, if its page is valid for `epoch`. Tags hold the epoch plus one.
    pub(super) fn get(&self, word: Word, epoch: u64) -> u64 {
        match (self.tags.get(index(word.0 >> PAGE_SHIFT)), self.words.get(index(word.0))) {
            (Some(tag), Some(bits)) if tag.load() == epoch.wrapping_add(1) => bits.load(),
            _ => 0,
        }
    }

    pub(super) fn test(&self, word: Word, mask: u64, epoch: u64) -> bool {
        self.get(word, epoch) & mask == mask
    }

    pub(super) fn set(&self, word: Word, mask: u64, epoch: u64) {
        let page = word.0 >> PAGE_SHIFT;
        let Some(tag) = self.tags.get(index(page)) else { return };
        if tag.load() != epoch.wrapping_add(1) {
            tag.store(0);
            P::Atom::fence();
            let first = page << PAGE_SHIFT;
            for at in first..first.saturating_add(1 << PAGE_SHIFT) {
                if let Some(bits) = self.words.get(index(at)) {
                    bits.store(0);
                }
            }
            tag.store(epoch.wrapping_add(1));
        }
        if let Some(bits) = self.words.get(index(word.0)) {
            let _ = bits.set(mask);
        }
    }

    pub(super) fn forget(&self) {
        for tag in self.tags.iter() {
            tag.store(0);
        }
    }
}
