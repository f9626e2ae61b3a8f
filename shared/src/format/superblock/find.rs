// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Reading superblocks: what is wrong with one, and which of the four copies counts.

use zerocopy::FromBytes;

use super::{Superblock, CHECKSUM_XXH64, COPIES, FIRST_REGION, KNOWN_INCOMPAT, MAGIC};
use crate::platform::Platform;
use crate::units::PAGE_BYTES;

/// Why some bytes are no superblock that can be used. Ordered: the later says more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum WhyBad {
    /// No rwsnap wrote them.
    Foreign,
    /// A superblock, but damaged, or one that contradicts itself or another copy.
    Corrupt,
    /// A sound superblock with features that this code does not know.
    Version {
        /// The features, as bits.
        unknown: u64,
    },
}

impl Superblock {
    /// The superblock in these 4096 bytes.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn parse<'a, P: Platform>(platform: &P, bytes: &'a [u8]) -> Result<&'a Self, WhyBad> {
        let found = Self::ref_from_bytes(bytes).map_err(|_| WhyBad::Foreign)?;
        if found.magic != MAGIC {
            return Err(WhyBad::Foreign);
        }
        if found.checksum.get() != found.sum(platform) {
            return Err(WhyBad::Corrupt);
        }
        let unknown = found.incompat.get() & !KNOWN_INCOMPAT;
        if unknown != 0 {
            return Err(WhyBad::Version { unknown });
        }
        if found.is_coherent() {
            Ok(found)
        } else {
            Err(WhyBad::Corrupt)
        }
    }

    /// Whether the numbers fit together. The checksum is right: only a bug could make this false.
    fn is_coherent(&self) -> bool {
        let block = self.block.get();
        let blocks_fit = (512..=4096).contains(&block) && block.is_power_of_two();
        self.geometry().is_some()
            && blocks_fit
            && self.checksum_id.get() == CHECKSUM_XXH64
            && self.map_side.get() < 2
            && self.slots.get() <= self.slot_limit.get()
            && self.log_is_coherent()
            && self.regions_fit()
    }

    /// Whether the positions in the log follow one another and fit into the ring.
    fn log_is_coherent(&self) -> bool {
        let (start, known) = (self.log_pos.get(), self.known_end.get());
        let blocks = self.log_blocks.get();
        blocks >= 2
            && start <= known
            && known.saturating_sub(start) <= blocks
            && self.log_generation.get() <= self.generation.get()
    }

    /// Whether the fixed regions lie behind one another and before the slots, and the extents
    /// before the end.
    fn regions_fit(&self) -> bool {
        let [side_a, side_b] = self.slot_map;
        let map = self.slot_map_pages.get();
        let mut end = FIRST_REGION;
        for (start, pages) in [
            (self.log_start.get(), self.log_blocks.get()),
            (side_a.get(), map),
            (side_b.get(), map),
        ] {
            let Some(next) = pages.checked_mul(PAGE_BYTES).and_then(|n| start.checked_add(n))
            else {
                return false;
            };
            if start < end {
                return false;
            }
            end = next;
        }
        let room = usize::try_from(self.extents_used.get()).is_ok_and(|n| n <= self.extents.len());
        room && end <= self.slots_start.get()
            && self.end() < u64::MAX
            && self.extents().all(|e| {
                let last = e.start.saturating_add(e.bytes());
                e.start >= end && last <= self.end()
            })
    }
}

/// Finds the superblock that counts, when it is given the four copies one after another.
#[derive(Clone)]
pub struct Finder {
    best: Superblock,
    found: bool,
    sound: u32,
    clash: bool,
    why: WhyBad,
}

impl Default for Finder {
    fn default() -> Self {
        Self::NEW
    }
}

impl Finder {
    /// One that has seen nothing. It takes 4 KiB: where the stack is small, copy it to the heap.
    pub const NEW: Self =
        Self { best: Superblock::ZERO, found: false, sound: 0, clash: false, why: WhyBad::Foreign };

    /// Looks at one copy; at none if it could not be read (`bytes` is empty).
    pub fn feed<P: Platform>(&mut self, platform: &P, bytes: &[u8]) {
        match Superblock::parse(platform, bytes) {
            Ok(copy) => self.consider(copy),
            Err(why) => self.why = self.why.max(why),
        }
    }

    /// Keeps the copy if it is newer than what was found so far.
    fn consider(&mut self, copy: &Superblock) {
        self.sound = self.sound.saturating_add(1);
        if !self.found {
            self.found = true;
            self.best = *copy;
            return;
        }
        let (new, old) = (copy.generation.get(), self.best.generation.get());
        let same = copy.checksum.get() == self.best.checksum.get();
        self.clash |= copy.pool != self.best.pool || (new == old && !same);
        if new > old {
            self.best = *copy;
        }
    }

    /// The newest superblock of those seen.
    ///
    /// # Errors
    ///
    /// There was none, or one has features that are not known, or two copies that ought to be alike
    /// are not: copies of two pools, or two contents under one generation.
    pub fn finish(&self) -> Result<&Superblock, WhyBad> {
        match self.why {
            WhyBad::Version { .. } => Err(self.why),
            _ if self.clash => Err(WhyBad::Corrupt),
            _ if self.found => Ok(&self.best),
            why => Err(why),
        }
    }

    /// Copies that are sound, of four.
    #[must_use]
    pub fn sound(&self) -> u32 {
        self.sound
    }

    /// Where the copies are to be read, as bytes of the save volume.
    #[must_use]
    pub fn places() -> [u64; 4] {
        COPIES
    }
}
