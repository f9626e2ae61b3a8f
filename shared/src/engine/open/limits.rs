// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What a pool takes at least, checked before it is opened: with less, some step could wait for
//! room that no checkpoint ever makes.

use super::OpenError;
use crate::api::Limits;
use crate::format::superblock::{Superblock, LEAST_LOG};

/// Records of a delta: the largest step (a settled word) asks for 320 in the worst order.
pub const DELTA_RECORDS_MIN: u32 = 2048;
/// Copy units: the merge of a word takes one for each chunk, and one more for what R keeps of it.
pub const COPY_UNITS_MIN: u32 = 128;
/// Pages of the cache, however low the tree is.
pub const CACHE_PAGES_MIN: u32 = 4;

/// What there is too little of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Short {
    /// `Limits::cache_pages`: a look-up holds a page of each level of the tree.
    CachePages,
    /// `Limits::delta_records`.
    DeltaRecords,
    /// `Limits::requests`.
    Requests,
    /// `Limits::copy_units`.
    CopyUnits,
    /// Blocks of the pool's log; fixed when the pool was made.
    LogBlocks,
}

/// Whether the limits and the pool are large enough.
pub(super) fn check(limits: &Limits, superblock: &Superblock) -> Result<(), OpenError> {
    let cache = CACHE_PAGES_MIN.max(superblock.tree_height.get());
    for (what, have, need) in [
        (Short::CachePages, u64::from(limits.cache_pages), u64::from(cache)),
        (Short::DeltaRecords, u64::from(limits.delta_records), u64::from(DELTA_RECORDS_MIN)),
        (Short::Requests, u64::from(limits.requests), 1),
        (Short::CopyUnits, u64::from(limits.copy_units), u64::from(COPY_UNITS_MIN)),
        (Short::LogBlocks, superblock.log_blocks.get(), LEAST_LOG),
    ] {
        if have < need {
            return Err(OpenError::Limit { what, need });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_small_is_named_with_what_is_needed() {
        let enough = Limits { cache_pages: 4, delta_records: 2048, requests: 1, copy_units: 128 };
        let mut pool = Superblock::ZERO;
        pool.log_blocks = LEAST_LOG.into();
        assert_eq!(check(&enough, &pool), Ok(()));
        for (limits, what, need) in [
            (Limits { cache_pages: 3, ..enough }, Short::CachePages, 4),
            (Limits { delta_records: 2047, ..enough }, Short::DeltaRecords, 2048),
            (Limits { requests: 0, ..enough }, Short::Requests, 1),
            (Limits { copy_units: 127, ..enough }, Short::CopyUnits, 128),
        ] {
            assert_eq!(check(&limits, &pool), Err(OpenError::Limit { what, need }));
        }
        pool.tree_height = 6.into();
        let higher = OpenError::Limit { what: Short::CachePages, need: 6 };
        assert_eq!(check(&enough, &pool), Err(higher));
        pool.tree_height = 1.into();
        pool.log_blocks = (LEAST_LOG - 1).into();
        let longer = OpenError::Limit { what: Short::LogBlocks, need: LEAST_LOG };
        assert_eq!(check(&enough, &pool), Err(longer));
    }
}
