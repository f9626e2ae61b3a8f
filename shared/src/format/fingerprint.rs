// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The fingerprint of a production volume: which of its bytes are looked at, so that all drivers
//! find the same one.
//!
//! It is XXH64, with the seed 0, over [`head`], which is the volume's size, then over the blocks
//! of [`sample`] in order: the first and the last 64 KiB, and 256 blocks that are spread evenly.
//! The last block of a volume may be short; behind its end it is hashed as zeros.

/// Bytes in a block of the sample.
pub const BLOCK: u64 = 4096;

/// Blocks of it at the start and at the end.
const EDGE: u64 = 16;

/// `SPREAD` blocks in between, as a shift.
const SPREAD_SHIFT: u32 = 8;

/// Blocks of it in between.
const SPREAD: u64 = 1 << SPREAD_SHIFT;

/// Blocks in the sample of any volume, at most.
pub const BLOCKS_MAX: u64 = 2 * EDGE + SPREAD;

/// What is hashed before the blocks of a volume of `size` bytes.
#[must_use]
pub const fn head(size: u64) -> [u8; 8] {
    size.to_le_bytes()
}

/// The blocks to look at, in order, each once.
#[must_use]
pub const fn sample(size: u64) -> Sample {
    Sample { blocks: size.div_ceil(BLOCK), next: 0, spread: 0 }
}

/// The blocks of a sample that are still to come.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Blocks in the volume.
    blocks: u64,
    /// All before this one came already.
    next: u64,
    /// Of those that are spread, the first that may still come.
    spread: u64,
}

impl Sample {
    /// The `n`th of the blocks that are spread. A volume has at most 2^52 blocks, so that nothing
    /// is ever cut off.
    const fn place(&self, n: u64) -> u64 {
        self.blocks.saturating_mul(n) >> SPREAD_SHIFT
    }
}

impl Iterator for Sample {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        while self.spread < SPREAD && self.place(self.spread) < self.next {
            self.spread = self.spread.saturating_add(1);
        }
        let first = if self.next < EDGE { self.next } else { u64::MAX };
        let last = self.next.max(self.blocks.saturating_sub(EDGE));
        let spread = if self.spread < SPREAD { self.place(self.spread) } else { u64::MAX };
        let block = first.min(last).min(spread);
        if block >= self.blocks {
            return None;
        }
        self.next = block.saturating_add(1);
        Some(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The rule as it was first written down.
    fn model(size: u64) -> Vec<u64> {
        let blocks = size.div_ceil(BLOCK);
        let spread = (0..SPREAD).map(|n| {
            let place = u128::from(blocks) * u128::from(n) / u128::from(SPREAD);
            u64::try_from(place).unwrap_or(0)
        });
        let edges = (0..EDGE).chain(blocks.saturating_sub(EDGE)..blocks);
        let all: BTreeSet<u64> = spread.chain(edges).filter(|&block| block < blocks).collect();
        all.into_iter().collect()
    }

    #[test]
    fn each_volume_has_the_sample_that_it_always_had() {
        let same = |size: u64| {
            let blocks: Vec<u64> = sample(size).collect();
            assert_eq!(blocks, model(size), "{size}");
            assert!(blocks.len() as u64 <= BLOCKS_MAX);
            assert!(blocks.iter().all(|block| block * BLOCK < size));
        };
        (0..2000).for_each(|blocks| same(blocks * BLOCK));
        for shift in 0..64 {
            for near in [-4097, -4096, -513, -1, 0, 1, 512, 4096, 65_536] {
                same((1_u64 << shift).saturating_add_signed(near));
                same((u64::MAX >> shift).saturating_add_signed(near));
            }
        }
        let mut size = 1_u64;
        for round in 0..2000_u32 {
            size = size.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_041);
            same(size >> (round % 64));
        }
        assert_eq!(sample(100_000).count(), 25);
    }
}
