// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A metadata page: a header of 64 bytes, then 4032 bytes that the type of page decides on.
//!
//! # Invariants
//!
//! A page that [`open`] accepts has a checksum over all its bytes, and names its type, its own
//! number and its pool: a page of another pool, or one written to a wrong place, is refused.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::platform::Platform;
use crate::units::PAGE;

/// Bytes in the header of a page.
pub const HEADER: usize = 64;

/// Bytes in a page behind its header.
pub const BODY: usize = PAGE - HEADER;

/// Bits in a page of a bit map: it holds nothing but bits behind its header.
pub const PAGE_BITS: u64 = 32_256;

/// 64-bit words in a page of a bit map.
pub const PAGE_WORDS: usize = 504;

const _: () = assert!(PAGE_WORDS * 8 == BODY && PAGE_WORDS as u64 * 64 == PAGE_BITS);

/// "rwsn" in the order of the bytes.
const MAGIC: u32 = u32::from_le_bytes(*b"rwsn");

/// Type of page: entities of the catalogue. (1 and 2 are the tree's leaves and inner pages.)
pub const TYPE_CATALOG: u8 = 3;
/// Type of page: bits of the slot bit map.
pub const TYPE_SLOT_BITS: u8 = 4;
/// Type of page: bits of the metadata bit map.
pub const TYPE_META_BITS: u8 = 5;

/// The pool that bytes belong to, and the generation of the superblock that they are written for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Owner {
    /// The pool's number: the first 8 bytes of its UUID.
    pub pool: u64,
    /// Generation of the superblock.
    pub generation: u64,
}

/// What each metadata page begins with.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
pub struct Header {
    /// XXH64, seed 0, of the bytes 8 to 4095.
    pub checksum: U64,
    /// "rwsn".
    pub magic: U32,
    /// `TYPE_*`.
    pub page_type: u8,
    /// Level in the tree; zero in all other pages.
    pub level: u8,
    /// Entities, records or entries in the page; zero in a page of bits.
    pub count: U16,
    /// The page's own number.
    pub page: U64,
    /// The pool's number.
    pub pool: U64,
    /// Generation of the superblock that it was written for.
    pub generation: U64,
    /// The next page of a chain, `u64::MAX` for none; zero where there are no chains.
    pub next: U64,
    /// Zero.
    pub reserved: [U64; 2],
}

const _: () = assert!(size_of::<Header>() == HEADER);

/// Where a page stands: what [`open`] compares its header with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// `TYPE_*`.
    pub page_type: u8,
    /// The page's number.
    pub page: u64,
}

/// Puts the header on a page whose body is filled, and its checksum.
///
/// Does nothing to a slice that is not a page.
pub fn seal<P: Platform>(
    platform: &P,
    page: &mut [u8],
    owner: &Owner,
    place: Place,
    count: u16,
    next: u64,
) {
    if page.len() != PAGE {
        return;
    }
    let header = Header {
        checksum: 0.into(),
        magic: MAGIC.into(),
        page_type: place.page_type,
        level: 0,
        count: count.into(),
        page: place.page.into(),
        pool: owner.pool.into(),
        generation: owner.generation.into(),
        next: next.into(),
        reserved: [0.into(); 2],
    };
    copy(page, 0, header.as_bytes());
    let sum = platform.hash(0, page.get(8..).unwrap_or(&[]));
    copy(page, 0, &sum.to_le_bytes());
}

/// The header and the body of a page that is sound and stands where it should.
pub fn open<'a, P: Platform>(
    platform: &P,
    page: &'a [u8],
    pool: u64,
    place: Place,
) -> Option<(&'a Header, &'a [u8])> {
    if page.len() != PAGE {
        return None;
    }
    let (header, body) = Header::ref_from_prefix(page).ok()?;
    let sum = platform.hash(0, page.get(8..)?);
    let sound = header.checksum.get() == sum && header.magic.get() == MAGIC;
    let here = header.page_type == place.page_type && header.page.get() == place.page;
    (sound && here && header.pool.get() == pool).then_some((header, body))
}

/// Copies `from` into `to` from byte `at` on, as far as there is room.
pub(crate) fn copy(to: &mut [u8], at: usize, from: &[u8]) {
    for (to, from) in to.get_mut(at..).unwrap_or(&mut []).iter_mut().zip(from) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestPlatform;

    const PLACE: Place = Place { page_type: TYPE_SLOT_BITS, page: 7 };

    fn sealed() -> Vec<u8> {
        let mut page = vec![0xA5; PAGE];
        let owner = Owner { pool: 9, generation: 3 };
        seal(&TestPlatform, &mut page, &owner, PLACE, 2, u64::MAX);
        page
    }

    #[test]
    fn opens_where_it_stands() {
        let page = sealed();
        let (header, body) = open(&TestPlatform, &page, 9, PLACE).unwrap();
        assert_eq!((header.count.get(), header.next.get()), (2, u64::MAX));
        assert_eq!(body.len(), BODY);
        assert!(body.iter().all(|&b| b == 0xA5));
        for place in [Place { page_type: TYPE_CATALOG, page: 7 }, Place { page: 8, ..PLACE }] {
            assert!(open(&TestPlatform, &page, 9, place).is_none());
        }
        assert!(open(&TestPlatform, &page, 8, PLACE).is_none());
        assert!(open(&TestPlatform, &page[..4095], 9, PLACE).is_none());
    }

    #[test]
    fn each_flipped_bit_is_seen() {
        let mut page = sealed();
        for bit in 0..PAGE * 8 {
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&TestPlatform, &page, 9, PLACE).is_none(), "bit {bit}");
            page[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
