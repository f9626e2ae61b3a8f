// SPDX-License-Identifier: MIT

//! The bit maps on disk: which slots and which metadata pages are in use.

use rwsnap_core::format::page::{open, Place, PAGE_BITS, TYPE_META_BITS, TYPE_SLOT_BITS};
use rwsnap_core::format::superblock::Superblock;

use crate::platform::Host;

use super::image::Image;
use super::report::Report;

/// As many bits as there are things.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: u64,
}

impl Bits {
    /// All of them clear.
    pub(super) fn new(len: u64) -> Self {
        let words = usize::try_from(len.div_ceil(64)).unwrap_or(0);
        Self { words: vec![0; words], len }
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn get(&self, bit: u64) -> bool {
        self.word(bit).is_some_and(|word| word >> (bit & 63) & 1 == 1)
    }

    /// Sets or clears a bit; what it was. Bits beyond the end stay clear.
    pub(super) fn set(&mut self, bit: u64, on: bool) -> bool {
        let was = self.get(bit);
        let word = usize::try_from(bit >> 6).ok().and_then(|n| self.words.get_mut(n));
        if let Some(word) = word.filter(|_| bit < self.len) {
            let mask = 1 << (bit & 63);
            *word = if on { *word | mask } else { *word & !mask };
        }
        was
    }

    fn word(&self, bit: u64) -> Option<u64> {
        self.words.get(usize::try_from(bit >> 6).ok()?).copied()
    }

    /// How many are set.
    pub(super) fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Runs of bits that are set here and clear in `other`: first and how many.
    pub(super) fn runs_without(&self, other: &Self) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let words = (0u64..).step_by(64).zip(self.words.iter().enumerate());
        for (base, (n, word)) in words {
            let mut left = word & !other.words.get(n).copied().unwrap_or(0);
            while left != 0 {
                let bit = base + u64::from(left.trailing_zeros());
                left &= left - 1;
                match runs.last_mut() {
                    Some((first, count)) if *first + *count == bit => *count += 1,
                    _ => runs.push((bit, 1)),
                }
            }
        }
        runs
    }
}

/// Which page of a bit map it is, for messages and for its header.
struct Part<'a> {
    what: &'a str,
    place: Place,
    /// The bit that its first bit stands for.
    first: u64,
    at: Option<u64>,
}

/// Adds a page's bits to `bits`.
fn add(image: &Image, pool: u64, part: &Part<'_>, bits: &mut Bits, report: &mut Report) {
    let page = part.at.and_then(|at| image.page(at));
    let Some((_, body)) = page.and_then(|page| open(&Host, page, pool, part.place)) else {
        let (what, page) = (part.what, part.place.page);
        report.corrupt(format!("page {page} of the bit map of {what} is damaged"));
        return;
    };
    for (n, word) in (0u64..).step_by(64).zip(body.chunks_exact(8)) {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
            let bit = part.first + n + bit;
            if bit < bits.len() {
                bits.set(bit, true);
            } else {
                report.corrupt(format!("the bit map of {} has a bit for {bit}", part.what));
            }
        }
    }
}

/// Slots in use at the checkpoint.
pub(super) fn slots(image: &Image, superblock: &Superblock, report: &mut Report) -> Bits {
    let mut bits = Bits::new(superblock.slots.get());
    let side = superblock.map_side.get();
    for index in 0..superblock.slots.get().div_ceil(PAGE_BITS) {
        let part = Part {
            what: "slots",
            place: Place { page_type: TYPE_SLOT_BITS, page: index },
            first: index * PAGE_BITS,
            at: superblock.slot_map_byte(side, index),
        };
        add(image, superblock.pool_number(), &part, &mut bits, report);
    }
    bits
}

/// Metadata pages in use at the checkpoint.
pub(super) fn pages(image: &Image, superblock: &Superblock, report: &mut Report) -> Bits {
    let mut bits = Bits::new(superblock.pages());
    let side = superblock.map_side.get();
    let mut first = 0;
    let mut number = 0;
    for extent in superblock.extents() {
        for index in 0..extent.map_pages() {
            let part = Part {
                what: "metadata pages",
                place: Place { page_type: TYPE_META_BITS, page: number },
                first: first + index * PAGE_BITS,
                at: Some(extent.map_byte(side, index)),
            };
            add(image, superblock.pool_number(), &part, &mut bits, report);
            number += 1;
        }
        first += extent.pages;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_what_the_other_lacks() {
        let (mut a, mut b) = (Bits::new(200), Bits::new(200));
        for bit in [3, 62, 63, 64, 65, 199] {
            a.set(bit, true);
        }
        b.set(64, true);
        assert_eq!(a.runs_without(&b), [(3, 1), (62, 2), (65, 1), (199, 1)]);
        assert_eq!(b.runs_without(&a), []);
        assert_eq!(a.count(), 6);
        assert!(!a.set(200, true) && !a.get(200) && a.set(3, false) && !a.get(3));
    }
}
