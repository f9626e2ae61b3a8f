// SPDX-License-Identifier: MIT

//! A fingerprint of a production volume, taken when a pool is closed and compared when it is
//! opened: the only way to see that the volume was written to while rwsnap did not look.
//!
//! It is XXH64 over the size and a sample of the blocks, less than 2 MiB however large the volume
//! is: the first and the last 64 KiB, where file systems and partition tables note that they were
//! used, and 256 blocks of 4 KiB that are spread evenly. A mount is seen; a single changed block
//! in the middle of a volume is seen only if it is one of the sample.
//!
//! Reads this small cost their waiting and not much else, so a few threads share them.

use std::collections::BTreeSet;
use std::io;
use std::thread;

use super::{StoreError, Volume};

/// Bytes in a block of the sample.
pub const BLOCK: u64 = 4096;
/// Blocks of it at the start and at the end.
const EDGE: u64 = 16;
/// Blocks of it in between.
const SPREAD: u64 = 256;

/// Bytes that are read of a volume at most.
pub const BYTES: u64 = (2 * EDGE + SPREAD) * BLOCK;

/// Threads that read.
const READERS: usize = 8;

/// The fingerprint of a volume as it is now.
pub fn of(volume: &Volume) -> Result<u64, StoreError> {
    let size = volume.device().size;
    let mut hash = xxhash_rust::xxh64::Xxh64::new(0);
    hash.update(&size.to_le_bytes());
    let blocks = sample(size);
    let share = blocks.len().div_ceil(READERS).max(1);
    thread::scope(|scope| {
        let start = |part| scope.spawn(move || read(volume, part));
        let readers: Vec<_> = blocks.chunks(share).map(start).collect();
        for reader in readers {
            let panicked =
                |_| Err(StoreError::io(volume.path(), "read")(io::ErrorKind::Other.into()));
            hash.update(&reader.join().unwrap_or_else(panicked)?);
        }
        Ok(hash.digest())
    })
}

/// Blocks, one after the other; zeros behind the end.
fn read(volume: &Volume, blocks: &[u64]) -> Result<Vec<u8>, StoreError> {
    let mut all = Vec::with_capacity(blocks.len() * 4096);
    let mut room = vec![0_u8; 8192];
    let lead = room.as_ptr().align_offset(4096);
    let bytes = room.get_mut(lead..lead + 4096).unwrap_or_default();
    for block in blocks {
        bytes.fill(0);
        volume.read_up_to(bytes, block * BLOCK)?;
        all.extend_from_slice(bytes);
    }
    Ok(all)
}

/// The blocks to look at, in order. The last may be short.
#[must_use]
pub fn sample(size: u64) -> Vec<u64> {
    let blocks = size.div_ceil(BLOCK);
    let spread = (0..SPREAD).map(|n| {
        let place = u128::from(blocks) * u128::from(n) / u128::from(SPREAD);
        u64::try_from(place).unwrap_or(0)
    });
    let edges = (0..EDGE).chain(blocks.saturating_sub(EDGE)..blocks);
    let all: BTreeSet<u64> = spread.chain(edges).filter(|&block| block < blocks).collect();
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Access, Cache};
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_change_at_the_edges_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prod");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len((3 << 20) + 512).unwrap();
        let print = || of(&Volume::open(&path, Access::Own, Cache::Direct).unwrap()).unwrap();
        let mut seen = vec![print()];
        assert_eq!(seen, [print()]);
        for at in [1024, (3 << 20) + 511, 384 << 12] {
            file.write_all_at(b"x", at).unwrap();
            let next = print();
            assert!(!seen.contains(&next));
            seen.push(next);
        }
        file.set_len(3 << 20).unwrap();
        assert!(!seen.contains(&print()));
    }

    #[test]
    fn the_sample_is_bounded_and_in_range() {
        for size in [0, 512, 4096, 100_000, 1 << 30, 1 << 46, u64::MAX] {
            let blocks = sample(size);
            assert!(blocks.len() as u64 <= SPREAD + 2 * EDGE);
            assert!(blocks.iter().all(|b| b * BLOCK < size));
        }
        assert_eq!(sample(100_000).len(), 25);
    }
}
