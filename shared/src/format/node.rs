// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A page of the block map's tree.
//!
//! A page is a header of 64 bytes and an array of entries. A leaf (level 0) holds up to 126
//! records in the order of their keys; an inner page up to 168 children in the order of the first
//! key that may stand below each. All records of a group stand in one leaf, and the first key of
//! a child is that of a whole group (bit zero), so that one descent finds all of a group.
//!
//! A page names itself: magic, its own number, the pool, and a hash over all of it but the hash.
//! [`check`] is run once, when a page comes from the device; [`Node::parse`] relies on nothing all
//! the same.

use zerocopy::little_endian::{U128, U16, U32, U64};
use zerocopy::{FromBytes as _, IntoBytes as _};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::fault::Fault;
use crate::format::record::{Key, RawRecord, Record};
use crate::platform::Platform;
use crate::units::{PageNo, PAGE};

/// The bytes of a page.
pub type Page = [u8; PAGE];

/// Records that a leaf holds.
pub const LEAF_MAX: usize = 126;

/// Children that an inner page holds.
pub const INNER_MAX: usize = 168;

/// Levels that a tree may have, the leaves' among them.
pub const LEVELS: usize = 8;

/// "rwsn" in the order of the bytes.
const MAGIC: u32 = u32::from_le_bytes(*b"rwsn");
const TYPE_LEAF: u8 = 1;
const TYPE_INNER: u8 = 2;

/// The first 64 bytes of a page.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
pub struct NodeHeader {
    /// Over all that follows in the page.
    checksum: U64,
    magic: U32,
    /// Leaf or inner.
    node_type: u8,
    /// Above the leaves, which are at level zero.
    level: u8,
    /// Entries in use.
    count: U16,
    /// The page's own number.
    page: U64,
    pool: U64,
    /// Of the checkpoint that wrote the page.
    generation: U64,
    reserved: [u8; 24],
}

/// A child of an inner page.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Default)]
#[repr(C)]
pub struct RawChild {
    first: U128,
    page: U64,
}

impl RawChild {
    /// The stored form.
    #[must_use]
    pub fn new(first: Key, page: PageNo) -> Self {
        Self { first: first.0.into(), page: page.0.into() }
    }

    /// No record below the child comes before this, the very first child of a level excepted.
    #[must_use]
    pub fn first(&self) -> Key {
        Key(self.first.get())
    }

    /// Where the child lies.
    #[must_use]
    pub fn page(&self) -> PageNo {
        PageNo(self.page.get())
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LeafPage {
    header: NodeHeader,
    records: [RawRecord; LEAF_MAX],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct InnerPage {
    header: NodeHeader,
    kids: [RawChild; INNER_MAX],
}

const _: () = assert!(size_of::<NodeHeader>() == 64);
const _: () = assert!(size_of::<RawChild>() == 24);
const _: () = assert!(size_of::<LeafPage>() == PAGE);
const _: () = assert!(size_of::<InnerPage>() == PAGE);

/// A page taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Above the leaves.
    pub level: u8,
    /// Of the checkpoint that wrote it.
    pub generation: u64,
    /// What it holds.
    pub entries: Entries<'a>,
}

/// The entries of a page.
#[derive(Clone, Copy, Debug)]
pub enum Entries<'a> {
    /// Of a leaf.
    Leaf(&'a [RawRecord]),
    /// Of an inner page.
    Inner(&'a [RawChild]),
}

impl<'a> Node<'a> {
    /// The page taken apart, or `None` if its header makes no sense.
    #[must_use]
    pub fn parse(page: &'a Page) -> Option<Self> {
        let (header, _) = NodeHeader::ref_from_prefix(page).ok()?;
        let count = usize::from(header.count.get());
        let entries = match (header.node_type, header.level) {
            (TYPE_LEAF, 0) => {
                Entries::Leaf(LeafPage::ref_from_bytes(page).ok()?.records.get(..count)?)
            }
            (TYPE_INNER, 1..) => {
                Entries::Inner(InnerPage::ref_from_bytes(page).ok()?.kids.get(..count)?)
            }
            _ => return None,
        };
        Some(Self { level: header.level, generation: header.generation.get(), entries })
    }

    /// The records, if it is a leaf.
    #[must_use]
    pub fn records(&self) -> Option<&'a [RawRecord]> {
        match self.entries {
            Entries::Leaf(records) => Some(records),
            Entries::Inner(_) => None,
        }
    }

    /// The children, if it is an inner page.
    #[must_use]
    pub fn kids(&self) -> Option<&'a [RawChild]> {
        match self.entries {
            Entries::Leaf(_) => None,
            Entries::Inner(kids) => Some(kids),
        }
    }
}

/// What a page says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its number.
    pub page: PageNo,
    /// The pool it belongs to.
    pub pool: u64,
    /// The checkpoint that writes it.
    pub generation: u64,
}

/// Fills `out` with a leaf of these records. Too many of them do not fit.
#[must_use]
pub fn write_leaf<P: Platform>(p: &P, out: &mut Page, id: Identity, records: &[RawRecord]) -> bool {
    out.fill(0);
    let Ok(leaf) = LeafPage::mut_from_bytes(out) else { return false };
    let Some(room) = leaf.records.get_mut(..records.len()) else { return false };
    for (to, from) in room.iter_mut().zip(records) {
        *to = *from;
    }
    seal(p, out, id, TYPE_LEAF, 0, records.len())
}

/// Fills `out` with an inner page of these children. Too many of them do not fit.
#[must_use]
pub fn write_inner<P: Platform>(
    p: &P,
    out: &mut Page,
    id: Identity,
    level: u8,
    kids: &[RawChild],
) -> bool {
    out.fill(0);
    let Ok(inner) = InnerPage::mut_from_bytes(out) else { return false };
    let Some(room) = inner.kids.get_mut(..kids.len()) else { return false };
    for (to, from) in room.iter_mut().zip(kids) {
        *to = *from;
    }
    seal(p, out, id, TYPE_INNER, level, kids.len())
}

fn seal<P: Platform>(
    p: &P,
    out: &mut Page,
    id: Identity,
    node_type: u8,
    level: u8,
    count: usize,
) -> bool {
    let Ok(count) = u16::try_from(count) else { return false };
    let Ok((header, _)) = NodeHeader::mut_from_prefix(out) else { return false };
    *header = NodeHeader {
        checksum: U64::ZERO,
        magic: MAGIC.into(),
        node_type,
        level,
        count: count.into(),
        page: id.page.0.into(),
        pool: id.pool.into(),
        generation: id.generation.into(),
        reserved: [0; 24],
    };
    let sum = checksum(p, out);
    let Ok((header, _)) = NodeHeader::mut_from_prefix(out) else { return false };
    header.checksum = sum.into();
    true
}

fn checksum<P: Platform>(p: &P, page: &Page) -> u64 {
    p.hash(0, page.as_bytes().get(8..).unwrap_or_default())
}

/// Whether these bytes are page `page` of `pool`, whole and in order.
pub fn check<P: Platform>(p: &P, bytes: &Page, page: PageNo, pool: u64) -> Result<(), Fault> {
    let (header, _) = NodeHeader::ref_from_prefix(bytes).map_err(|_| Fault::Corrupt)?;
    let named = header.magic.get() == MAGIC
        && header.page.get() == page.0
        && header.pool.get() == pool
        && usize::from(header.level) < LEVELS
        && header.count.get() != 0;
    if !named || header.checksum.get() != checksum(p, bytes) {
        return Err(Fault::Corrupt);
    }
    let node = Node::parse(bytes).ok_or(Fault::Corrupt)?;
    let good = match node.entries {
        Entries::Leaf(records) => sound_leaf(records),
        Entries::Inner(kids) => {
            kids.iter().zip(kids.iter().skip(1)).all(|(a, b)| a.first() < b.first())
        }
    };
    if good {
        Ok(())
    } else {
        Err(Fault::Corrupt)
    }
}

/// Whether the records are in order, of kinds that a tree holds, and disjoint within a group.
fn sound_leaf(records: &[RawRecord]) -> bool {
    let mut before: Option<Record> = None;
    let mut seen = 0;
    for raw in records {
        let Some(record) = raw.get() else { return false };
        if !record.kind.in_tree() {
            return false;
        }
        if let Some(before) = before {
            if before.key() >= record.key() {
                return false;
            }
            seen = if before.group() == record.group() { seen } else { 0 };
        }
        if seen & record.mask != 0 {
            return false;
        }
        seen |= record.mask;
        before = Some(record);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::{GroupKey, Kind};
    use crate::testing::Bench;
    use crate::units::{Epoch, MapId, Slot, Word};

    const ID: Identity = Identity { page: PageNo(7), pool: 99, generation: 3 };

    fn records(n: usize) -> Vec<RawRecord> {
        let record = |i: usize| Record {
            map: MapId(1),
            word: Word(i as u64),
            epoch: Epoch(2),
            kind: Kind::Copied,
            mask: 3,
            slot: Slot(2 * i as u64),
        };
        (0..n).map(|i| RawRecord::new(&record(i))).collect()
    }

    #[test]
    fn pages_hold_what_was_written() {
        let mut page = [0xAA; PAGE];
        assert!(write_leaf(&Bench, &mut page, ID, &records(LEAF_MAX)));
        check(&Bench, &page, ID.page, ID.pool).unwrap();
        let node = Node::parse(&page).unwrap();
        assert_eq!((node.level, node.generation), (0, 3));
        assert_eq!(node.records().unwrap().len(), LEAF_MAX);

        let kid = |i: u64| {
            let group = GroupKey { map: MapId(1), word: Word(i), epoch: Epoch(0) };
            RawChild::new(group.first(), PageNo(i))
        };
        let kids: Vec<_> = (0..INNER_MAX as u64).map(kid).collect();
        assert!(write_inner(&Bench, &mut page, ID, 2, &kids));
        check(&Bench, &page, ID.page, ID.pool).unwrap();
        assert_eq!(Node::parse(&page).unwrap().kids().unwrap()[5].page(), PageNo(5));
    }

    #[test]
    fn too_many_do_not_fit() {
        assert!(!write_leaf(&Bench, &mut [0; PAGE], ID, &records(LEAF_MAX + 1)));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let mut page = [0; PAGE];
        assert!(write_leaf(&Bench, &mut page, ID, &records(100)));
        for at in 0..PAGE {
            let mut bad = page;
            bad[at] ^= 0x10;
            assert_eq!(check(&Bench, &bad, ID.page, ID.pool), Err(Fault::Corrupt), "byte {at}");
        }
        assert_eq!(check(&Bench, &page, PageNo(8), ID.pool), Err(Fault::Corrupt));
        assert_eq!(check(&Bench, &page, ID.page, 98), Err(Fault::Corrupt));
        assert_eq!(check(&Bench, &[0; PAGE], ID.page, 0), Err(Fault::Corrupt));
    }

    #[test]
    fn disorder_is_noticed_in_spite_of_a_good_sum() {
        let mut page = [0; PAGE];
        let mut list = records(10);
        list.swap(3, 4);
        assert!(write_leaf(&Bench, &mut page, ID, &list));
        assert_eq!(check(&Bench, &page, ID.page, ID.pool), Err(Fault::Corrupt));
        assert!(write_leaf(&Bench, &mut page, ID, &[]));
        assert_eq!(check(&Bench, &page, ID.page, ID.pool), Err(Fault::Corrupt));
    }
}
