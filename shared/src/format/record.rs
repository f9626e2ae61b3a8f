// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A record of the block map: which slots, or what else, some chunks of one word read from.
//!
//! On disk a record is 32 bytes (`docs/FORMAT.md`). Slots are consecutive in mask order: the
//! lowest set bit of the mask reads from `slot`, the next from the slot after it, and so on.
//! Records are ordered by (map, word, epoch, lowest bit); the masks of the records of one
//! (map, word, epoch) are disjoint, so that this key is unique.

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::units::{low_bits, Epoch, MapId, Slot, Word};

/// What a record says of its chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// In a delta alone: the chunks have no record at this (map, word, epoch) any more.
    Gone = 0,
    /// Old data of a production volume, in slots. It never changes.
    Copied = 1,
    /// New data of a clone, in slots. Overwritten in place within its epoch.
    New = 2,
    /// Reads as zeros; no slot.
    Zero = 3,
    /// Restore: the chunk's final data is in place; no slot.
    Settled = 4,
    /// The data could not be read when it had to be copied: reads fail; no slot.
    Lost = 5,
    /// In a delta and the log alone: slots that are free from here on. `map` is `MapId(u32::MAX)`,
    /// `word` is the first slot over 64, `mask` says which, and `epoch` and `slot` are zero.
    Free = 6,
}

impl Kind {
    /// The kind that a byte of the format stands for.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Gone,
            1 => Self::Copied,
            2 => Self::New,
            3 => Self::Zero,
            4 => Self::Settled,
            5 => Self::Lost,
            6 => Self::Free,
            _ => return None,
        })
    }

    /// Whether chunks of this kind read from slots.
    #[must_use]
    pub const fn has_slots(self) -> bool {
        matches!(self, Self::Copied | Self::New)
    }

    /// Whether records of this kind may stand in the tree; the others live in deltas alone.
    #[must_use]
    pub const fn in_tree(self) -> bool {
        !matches!(self, Self::Gone | Self::Free)
    }
}

/// The pseudo map whose words are groups of 64 slots.
pub const FREE_MAP: MapId = MapId(u32::MAX);

/// Where all the records of one (map, word, epoch) stand.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct GroupKey {
    /// The map.
    pub map: MapId,
    /// The word.
    pub word: Word,
    /// The epoch.
    pub epoch: Epoch,
}

impl GroupKey {
    /// The key of the first record that the group may hold.
    #[must_use]
    pub const fn first(self) -> Key {
        Key::new(self, 0)
    }

    /// The group after this one; `None` after the last.
    #[must_use]
    pub fn after(self) -> Option<Self> {
        let bits = (self.first().0 >> 16).wrapping_add(1);
        (bits >> 112 == 0).then(|| Key(bits << 16).group())
    }
}

/// The order of records as one number: map 32, word 48, epoch 32, lowest bit 16 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Key(pub u128);

impl Key {
    /// The key of a record of `group` whose lowest chunk is at `bit`.
    #[must_use]
    pub const fn new(group: GroupKey, bit: u32) -> Self {
        Self(
            ((group.map.0 as u128) << 96)
                | (((group.word.0 & 0xFFFF_FFFF_FFFF) as u128) << 48)
                | ((group.epoch.0 as u128) << 16)
                | (bit as u128 & 0xFFFF),
        )
    }

    /// The group that the record stands in.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "each field is cut out of the key whole")]
    pub const fn group(self) -> GroupKey {
        GroupKey {
            map: MapId((self.0 >> 96) as u32),
            word: Word((self.0 >> 48) as u64 & 0xFFFF_FFFF_FFFF),
            epoch: Epoch((self.0 >> 16) as u32),
        }
    }
}

/// A record in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// The map it belongs to.
    pub map: MapId,
    /// The word it speaks of.
    pub word: Word,
    /// The epoch it bears.
    pub epoch: Epoch,
    /// What it says.
    pub kind: Kind,
    /// Of which of the word's chunks. Never zero in a stored record.
    pub mask: u64,
    /// The slot of the lowest chunk; zero for kinds without slots.
    pub slot: Slot,
}

impl Record {
    /// The group the record stands in.
    #[must_use]
    pub const fn group(&self) -> GroupKey {
        GroupKey { map: self.map, word: self.word, epoch: self.epoch }
    }

    /// Its place in the order.
    #[must_use]
    pub const fn key(&self) -> Key {
        Key::new(self.group(), self.mask.trailing_zeros())
    }

    /// The slot that the chunk at `bit` reads from, if the record gives it one.
    #[must_use]
    pub const fn slot_of(&self, bit: u32) -> Option<Slot> {
        if !self.kind.has_slots() || bit >= 64 || self.mask >> bit & 1 == 0 {
            return None;
        }
        Some(self.slot.plus((self.mask & low_bits(bit)).count_ones() as u64))
    }

    /// How many slots the record holds.
    #[must_use]
    pub const fn slots(&self) -> u32 {
        if self.kind.has_slots() {
            self.mask.count_ones()
        } else {
            0
        }
    }

    /// The record cut to the chunks of `keep`, as records whose slots are consecutive again.
    ///
    /// At most 32 pieces with slots, one without.
    pub fn only(self, keep: u64) -> impl Iterator<Item = Self> {
        let mut left = self.mask & keep;
        core::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let mask = if self.kind.has_slots() { self.head_run(left) } else { left };
            left &= !mask;
            let slot = self.slot_of(mask.trailing_zeros()).unwrap_or_default();
            Some(Self { mask, slot, ..self })
        })
    }

    /// The lowest chunks of `left` whose slots follow one another: those with no chunk of the
    /// record between them that `left` lacks.
    fn head_run(&self, left: u64) -> u64 {
        let cut = self.mask & !left & !low_bits(left.trailing_zeros());
        left & low_bits(cut.trailing_zeros())
    }
}

/// A record as it is stored in a page and in the log: 32 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Default)]
#[repr(C)]
pub struct RawRecord {
    pub(crate) map: U32,
    pub(crate) epoch: U32,
    /// Word in the low 48 bits, then the kind, then flags (zero).
    pub(crate) word_kind: U64,
    pub(crate) mask: U64,
    /// Save device in the low 16 bits (zero: the first), slot in the high 48.
    pub(crate) slot: U64,
}

const _: () = assert!(size_of::<RawRecord>() == 32);

impl RawRecord {
    /// The stored form.
    #[must_use]
    pub fn new(record: &Record) -> Self {
        let word = record.word.0 & 0xFFFF_FFFF_FFFF;
        Self {
            map: record.map.0.into(),
            epoch: record.epoch.0.into(),
            word_kind: (word | (u64::from(record.kind as u8) << 48)).into(),
            mask: record.mask.into(),
            slot: (record.slot.0 << 16).into(),
        }
    }

    /// The group it stands in, without a look at the rest of the record.
    #[must_use]
    pub fn group(&self) -> GroupKey {
        GroupKey {
            map: MapId(self.map.get()),
            word: Word(self.word_kind.get() & 0xFFFF_FFFF_FFFF),
            epoch: Epoch(self.epoch.get()),
        }
    }

    /// The record, or `None` if no rwsnap wrote these bytes.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the kind is one byte of the field")]
    pub fn get(&self) -> Option<Record> {
        let (word_kind, slot) = (self.word_kind.get(), self.slot.get());
        let kind = Kind::from_byte((word_kind >> 48) as u8)?;
        let (mask, flags, device) = (self.mask.get(), word_kind >> 56, slot & 0xFFFF);
        (mask != 0 && flags == 0 && device == 0).then_some(Record {
            map: MapId(self.map.get()),
            word: Word(word_kind & 0xFFFF_FFFF_FFFF),
            epoch: Epoch(self.epoch.get()),
            kind,
            mask,
            slot: Slot(slot >> 16),
        })
    }
}

/// The records that free the slots `first..first + n`, one for each group of 64.
pub fn free_run(first: Slot, n: u64) -> impl Iterator<Item = Record> {
    let end = first.0.saturating_add(n);
    let mut at = first.0;
    core::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let word = at >> 6;
        let stop = ((word << 6) | 63).saturating_add(1).min(end);
        let below = u32::try_from(stop.saturating_sub(word << 6)).unwrap_or(64);
        let mask = low_bits(below) & !low_bits((at & 63) as u32);
        at = stop;
        Some(Record {
            map: FREE_MAP,
            word: Word(word),
            epoch: Epoch(0),
            kind: Kind::Free,
            mask,
            slot: Slot(0),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(mask: u64) -> Record {
        Record {
            map: MapId(3),
            word: Word(9),
            epoch: Epoch(4),
            kind: Kind::Copied,
            mask,
            slot: Slot(100),
        }
    }

    #[test]
    fn slots_follow_the_mask() {
        let r = record(0b1_0110);
        assert_eq!(r.slot_of(1), Some(Slot(100)));
        assert_eq!(r.slot_of(2), Some(Slot(101)));
        assert_eq!(r.slot_of(4), Some(Slot(102)));
        assert_eq!(r.slot_of(0), None);
    }

    #[test]
    fn cutting_keeps_every_slot() {
        for mask in [0b1_0110u64, u64::MAX, 0x8000_0000_0000_0001, 0xAAAA_5555_F0F0_3C3C] {
            for keep in [0u64, 1, u64::MAX, 0x5555_5555_5555_5555, 0xFFFF_0000_0FF0_0000] {
                let whole = record(mask);
                let mut seen = 0;
                for piece in whole.only(keep) {
                    assert_eq!(seen & piece.mask, 0);
                    seen |= piece.mask;
                    for bit in 0..64 {
                        if piece.mask >> bit & 1 == 1 {
                            assert_eq!(piece.slot_of(bit), whole.slot_of(bit));
                        }
                    }
                }
                assert_eq!(seen, mask & keep);
            }
        }
    }

    #[test]
    fn stored_and_read_back() {
        let r = record(0xF00);
        assert_eq!(RawRecord::new(&r).get(), Some(r));
        assert_eq!(r.key().group(), r.group());
        assert!(RawRecord::default().get().is_none());
    }

    #[test]
    fn groups_are_ordered() {
        let g = GroupKey { map: MapId(1), word: Word(2), epoch: Epoch(u32::MAX) };
        let next = g.after().unwrap();
        assert_eq!((next.word, next.epoch), (Word(3), Epoch(0)));
        let last =
            GroupKey { map: MapId(u32::MAX), word: Word(0xFFFF_FFFF_FFFF), epoch: Epoch(u32::MAX) };
        assert!(last.after().is_none());
    }

    #[test]
    fn freed_slots_are_all_named() {
        for (first, n) in [(0u64, 1u64), (63, 2), (10, 300), (64, 64), (5, 0)] {
            let mut seen = Vec::new();
            for r in free_run(Slot(first), n) {
                for b in 0..64 {
                    if r.mask >> b & 1 == 1 {
                        seen.push(r.word.chunk(b).0);
                    }
                }
            }
            assert_eq!(seen, (first..first + n).collect::<Vec<_>>());
        }
    }
}
