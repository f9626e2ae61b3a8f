// SPDX-License-Identifier: MIT

//! A fingerprint of a production volume, taken when a pool is closed and compared when it is
//! opened: the only way to see that the volume was written to while rwsnap did not look.
//!
//! It is XXH64 over the size and a sample of the blocks, less than 2 MiB however large the volume
//! is: the first and the last 64 KiB, where file systems and partition tables note that they were
//! used, and 256 blocks of 4 KiB that are spread evenly. A mount is seen; a single changed block
//! in the middle of a volume is seen only if it is one of the sample. The core has the rule
//! (`rwsnap_core::format::fingerprint`); this is the reading.
//!
//! Reads this small cost their waiting and not much else, so a few threads share them.

use std::io;
use std::thread;

use rwsnap_core::format::fingerprint::{head, sample, BLOCK, BLOCKS_MAX};

use super::{StoreError, Volume};

/// Bytes that are read of a volume at most.
pub const BYTES: u64 = BLOCKS_MAX * BLOCK;

/// Threads that read.
const READERS: usize = 8;

/// The fingerprint of a volume as it is now.
pub fn of(volume: &Volume) -> Result<u64, StoreError> {
    let size = volume.device().size;
    let mut hash = xxhash_rust::xxh64::Xxh64::new(0);
    hash.update(&head(size));
    let blocks: Vec<u64> = sample(size).collect();
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
}
