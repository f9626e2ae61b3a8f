// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The nodes of a delta's tree.

use crate::bug;
use crate::fault::Fault;
use crate::format::record::{GroupKey, Key, Kind, Record};
use crate::map::group::join;
use crate::map::list::insert_at;
use crate::units::{bit_range, low_bits, Slot};
use zerocopy_derive::FromZeros;

/// Entries in a leaf.
pub(super) const LEAF: usize = 32;

/// Children of an inner node.
pub(super) const INNER: usize = 32;

/// What stays on the left when a node is split in the middle.
pub(super) const HALF: usize = 16;

/// After so many entries in a row that were added at the end of a leaf, it is split at the end.
pub(super) const TAIL: u8 = 16;

/// No node.
pub(super) const NONE: u32 = u32::MAX;

/// Place in an array of the node of this number.
pub(super) fn at(node: u32) -> usize {
    usize::try_from(node).unwrap_or(usize::MAX)
}

/// A 128-bit number in two halves, which do not ask for an alignment of 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, FromZeros)]
pub(super) struct Wide([u64; 2]);

impl Wide {
    pub(super) const ZERO: Self = Self([0; 2]);

    #[expect(clippy::cast_possible_truncation, reason = "the halves are cut out whole")]
    pub(super) const fn new(number: u128) -> Self {
        Self([(number >> 64) as u64, number as u64])
    }

    pub(super) fn get(self) -> u128 {
        let [high, low] = self.0;
        (u128::from(high) << 64) | u128::from(low)
    }
}

/// A record, or what later ones have left of it.
///
/// Its slots are those that `mask` counts out, although it speaks of the chunks of `live` alone.
/// So a later record never breaks it into pieces, and a put makes at most one entry more.
///
/// # Invariants
///
/// `live` is a part of `mask`, and both have the same lowest and highest bit. Without slots they
/// are equal. `live` is not zero but between the two steps of a change.
#[derive(Clone, Copy, Debug, FromZeros)]
pub(super) struct Entry {
    /// The group's key; its low 16 bits, where the chunk would stand, hold the kind.
    key: Wide,
    mask: u64,
    pub(super) live: u64,
    slot: u64,
}

impl Entry {
    pub(super) const EMPTY: Self = Self { key: Wide::ZERO, mask: 0, live: 0, slot: 0 };

    pub(super) fn new(record: &Record) -> Self {
        let key = record.group().first().0 | u128::from(record.kind as u8);
        // INVARIANT: all of the record is alive.
        Self {
            key: Wide::new(key),
            mask: record.mask,
            live: record.mask,
            slot: if record.kind.has_slots() { record.slot.0 } else { 0 },
        }
    }

    /// The key of its group.
    pub(super) fn group(&self) -> u128 {
        self.key.get() & !0xFFFF
    }

    /// The record that it began as, or as much of it as is needed to count out the slots.
    pub(super) fn record(&self) -> Result<Record, Fault> {
        let key = self.key.get();
        let GroupKey { map, word, epoch } = Key(key).group();
        let kind = u8::try_from(key & 0xFFFF).ok().and_then(Kind::from_byte).ok_or(bug!())?;
        Ok(Record { map, word, epoch, kind, mask: self.mask, slot: Slot(self.slot) })
    }

    /// Takes the chunks of `cut` away.
    fn cut(&mut self, cut: u64) -> Result<(), Fault> {
        let record = self.record()?;
        self.live &= !cut;
        // INVARIANT: the mask is cut to what lies between the ends of `live`.
        let low = self.live.trailing_zeros();
        let span = 64_u32.saturating_sub(self.live.leading_zeros()).saturating_sub(low);
        self.mask &= bit_range(low, span);
        if record.kind.has_slots() {
            let skipped = record.mask & low_bits(low);
            self.slot = record.slot.plus(u64::from(skipped.count_ones())).0;
        } else {
            self.mask = self.live;
        }
        Ok(())
    }

    /// Takes the chunks of `cut` away, and takes `record`, of the same group, in if it can; says
    /// whether it has. Nothing may be left of it then.
    pub(super) fn take(&mut self, cut: u64, record: Option<&Record>) -> Result<bool, Fault> {
        if self.live & cut != 0 {
            self.cut(cut)?;
        }
        let Some(record) = record else { return Ok(false) };
        if self.live == 0 {
            *self = Self::new(record);
            return Ok(true);
        }
        self.absorb(record)
    }

    /// Whether it is worth asking whether it can take `record` in: no if they are of two kinds, or
    /// their slots too far apart.
    pub(super) fn may_absorb(&self, record: &Record) -> bool {
        let Wide([_, low]) = self.key;
        let near = self.slot.wrapping_sub(record.slot.0).wrapping_add(64) <= 128;
        low & 0xFFFF == u64::from(record.kind as u8) && (near || !record.kind.has_slots())
    }

    /// Takes `record`, of the same group, in, if both can be said in one.
    fn absorb(&mut self, record: &Record) -> Result<bool, Fault> {
        if self.live != self.mask || self.live == 0 {
            return Ok(false);
        }
        let (mut own, mut other) = (self.record()?, *record);
        let joined = if join(&mut own, record) {
            Some(own)
        } else {
            join(&mut other, &own).then_some(other)
        };
        if let Some(joined) = joined {
            *self = Self::new(&joined);
        }
        Ok(joined.is_some())
    }

    /// Whether it counts for the tree at all, and how many records it can add to the tree at most:
    /// its own pieces, and the cuts that it makes into others.
    pub(super) fn weight(&self) -> Result<(usize, usize), Fault> {
        let record = self.record()?;
        let chunks = self.live.count_ones();
        let cuts = chunks.min(64_u32.saturating_sub(chunks));
        let pieces = match record.kind {
            Kind::Free => return Ok((0, 0)),
            _ if self.live == 0 => return Ok((1, 0)),
            Kind::Gone => 0,
            _ if self.live == self.mask => 1,
            _ => record.only(self.live).fold(0_usize, |n, _| n.saturating_add(1)),
        };
        Ok((1, pieces.saturating_add(usize::try_from(cuts).unwrap_or(64))))
    }
}

/// A node with entries, in the order of their groups; those of one group in no order.
#[derive(Clone, FromZeros)]
pub(super) struct Leaf {
    pub(super) len: usize,
    /// How many entries in a row were added at the end, counted up to `TAIL`.
    pub(super) tail: u8,
    pub(super) prev: u32,
    /// The next leaf, or the next free one.
    pub(super) next: u32,
    pub(super) entries: [Entry; LEAF],
}

impl Leaf {
    pub(super) const EMPTY: Self =
        Self { len: 0, tail: 0, prev: NONE, next: NONE, entries: [Entry::EMPTY; LEAF] };

    pub(super) fn entries(&self) -> &[Entry] {
        self.entries.get(..self.len).unwrap_or_default()
    }

    /// Where the first entry of the group `key`, or of one after it, stands.
    pub(super) fn lower(&self, key: u128) -> usize {
        self.entries().partition_point(|entry| entry.key.get() < key)
    }

    /// Where those of the group `key` end of which one stands at `pos`; also says whether the next
    /// leaf may have more of them.
    pub(super) fn end_of(&self, pos: usize, key: u128) -> (usize, bool) {
        let rest = self.entries().get(pos..).unwrap_or_default();
        if rest.last().is_some_and(|last| last.group() == key) {
            return (self.len, true);
        }
        let len = rest.iter().take_while(|entry| entry.group() == key).count();
        (pos.saturating_add(len), false)
    }

    pub(super) fn insert(&mut self, pos: usize, entry: Entry) -> Result<(), Fault> {
        self.tail = if pos == self.len { self.tail.saturating_add(1).min(TAIL) } else { 0 };
        insert_at(&mut self.entries, self.len, pos, entry).ok_or(bug!())?;
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// What the leaf has gathered towards its next split (see `Delta::room`).
    pub(super) fn potential(&self) -> usize {
        self.len.saturating_sub(HALF).saturating_add(usize::from(self.tail))
    }
}

/// A node with children.
///
/// # Invariants
///
/// All groups below a child come at or after its key, and at or before the key of the next. The
/// key of the first child is not looked at.
#[derive(Clone, FromZeros)]
pub(super) struct Inner {
    pub(super) len: usize,
    pub(super) keys: [Wide; INNER],
    /// Nodes; of a free node the first is the next free one.
    pub(super) kids: [u32; INNER],
}

impl Inner {
    pub(super) const EMPTY: Self = Self { len: 0, keys: [Wide::ZERO; INNER], kids: [NONE; INNER] };

    /// The place of the child below which the first entry of the group `key` stands, if any does:
    /// the last one whose key comes before it.
    pub(super) fn place(&self, key: u128) -> usize {
        self.keys.get(1..self.len).unwrap_or_default().partition_point(|own| own.get() < key)
    }

    pub(super) fn kid(&self, place: usize) -> Option<u32> {
        self.kids.get(..self.len)?.get(place).copied()
    }

    pub(super) fn insert(&mut self, place: usize, key: Wide, kid: u32) -> Result<(), Fault> {
        insert_at(&mut self.keys, self.len, place, key).ok_or(bug!())?;
        insert_at(&mut self.kids, self.len, place, kid).ok_or(bug!())?;
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// As for a leaf.
    pub(super) fn potential(&self) -> usize {
        self.len.saturating_sub(HALF)
    }
}
