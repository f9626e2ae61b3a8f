// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The records of one group in an array of their own, to be used again and again as scratch.

use core::mem::swap;

use crate::bug;
use crate::fault::Fault;
use crate::format::record::{Kind, Record};
use crate::map::list::{insert_at, pair, remove_at};
use crate::units::{Epoch, MapId, Slot, Word};

/// Records in a group at most: one for each chunk of the word.
pub const GROUP_MAX: usize = 64;

const BLANK: Record = Record {
    map: MapId(0),
    word: Word(0),
    epoch: Epoch(0),
    kind: Kind::Gone,
    mask: 0,
    slot: Slot(0),
};

/// Up to 64 records of one (map, word, epoch), in the order of their lowest chunks.
///
/// It takes 2.5 KiB: keep it in a structure, not on the stack.
///
/// # Invariants
///
/// The masks are disjoint and not zero, if those pushed were.
#[derive(Clone, Debug)]
pub struct Group {
    len: usize,
    records: [Record; GROUP_MAX],
}

impl Default for Group {
    fn default() -> Self {
        Self::new()
    }
}

impl Group {
    /// An empty one, to be copied to where it will stay.
    pub const EMPTY: Self = Self { len: 0, records: [BLANK; GROUP_MAX] };

    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self::EMPTY
    }

    /// Forgets all records.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The records.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        self.records.get(..self.len).unwrap_or_default()
    }

    /// All chunks that the records speak of.
    #[must_use]
    pub fn mask(&self) -> u64 {
        self.records().iter().fold(0, |mask, record| mask | record.mask)
    }

    /// The record of the chunk at `bit`.
    #[must_use]
    pub fn of(&self, bit: u32) -> Option<&Record> {
        self.records().iter().find(|record| record.mask & crate::units::bit(bit) != 0)
    }

    /// Adds a record in its place.
    pub fn push(&mut self, record: Record) -> Result<(), Fault> {
        let low = record.mask.trailing_zeros();
        let before = |other: &Record| other.mask.trailing_zeros() < low;
        let pos = self.records().iter().rposition(before).map_or(0, |at| at.saturating_add(1));
        insert_at(&mut self.records, self.len, pos, record).ok_or(bug!())?;
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Adds a record behind the others, for [`Self::sort`].
    pub(super) fn append(&mut self, record: Record) -> Result<(), Fault> {
        *self.records.get_mut(self.len).ok_or(bug!())? = record;
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Brings all into the order of their lowest chunks: these, counted, say where each belongs.
    pub(super) fn sort(&mut self) {
        if self.len < 2 {
            return;
        }
        let low = |record: &Record| record.mask & record.mask.wrapping_neg();
        let lows = self.records().iter().fold(0, |lows, record| lows | low(record));
        let mut at = 0;
        // Each turn passes a record that is in its place, or brings one there.
        for _ in 0..2 * GROUP_MAX {
            let Some(record) = self.records().get(at) else { return };
            let before = (lows & low(record).wrapping_sub(1)).count_ones();
            let place = usize::try_from(before).unwrap_or(at);
            match pair(&mut self.records, at, place) {
                Some((here, there)) => swap(here, there),
                None => at = at.saturating_add(1),
            }
        }
    }

    /// Takes the chunks of `mask` away from the records.
    pub fn cut(&mut self, mask: u64) -> Result<(), Fault> {
        let mut at = 0;
        while let Some(record) = self.records().get(at).copied() {
            if record.mask & mask == 0 {
                at = at.saturating_add(1);
                continue;
            }
            remove_at(&mut self.records, self.len, at, BLANK).ok_or(bug!())?;
            self.len = self.len.saturating_sub(1);
            // The pieces stand at `at` or after, and are passed over: they share nothing with
            // `mask`.
            for piece in record.only(!mask) {
                self.push(piece)?;
            }
        }
        Ok(())
    }

    /// Makes one record of those whose chunks and slots follow one another.
    pub fn coalesce(&mut self) {
        let mut kept = 0;
        for at in 0..self.len {
            let Some(record) = self.records.get(at).copied() else { return };
            let done = self.records.get_mut(..kept).unwrap_or_default();
            if done.iter_mut().any(|earlier| join(earlier, &record)) {
                continue;
            }
            if let Some(place) = self.records.get_mut(kept) {
                *place = record;
            }
            kept = kept.saturating_add(1);
        }
        self.len = kept;
    }
}

/// Adds `after` to `record` if both can be said in one: they are of the same kind and, where they
/// have slots, the chunks and slots of `after` follow those of `record`.
pub(super) fn join(record: &mut Record, after: &Record) -> bool {
    if record.kind != after.kind {
        return false;
    }
    if record.kind.has_slots() {
        // The slots first: they tell most records apart, and bits are slow to count.
        let between = after.slot.0.wrapping_sub(record.slot.0);
        if between > 64
            || between != u64::from(record.mask.count_ones())
            || after.mask.trailing_zeros() < 64_u32.saturating_sub(record.mask.leading_zeros())
        {
            return false;
        }
    }
    record.mask |= after.mask;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, mask: u64, slot: u64) -> Record {
        Record { kind, mask, slot: Slot(slot), ..BLANK }
    }

    #[test]
    fn sorting_is_pushing() {
        let records = |step: u32| (0..64).map(move |n| record(Kind::New, 1 << (n * step % 64), 0));
        for (step, len) in [(1, 64), (63, 64), (27, 64), (11, 40), (37, 3), (5, 1), (5, 0)] {
            let (mut pushed, mut sorted) = (Group::new(), Group::new());
            for record in records(step).take(len) {
                pushed.push(record).unwrap();
                sorted.append(record).unwrap();
            }
            sorted.sort();
            assert_eq!(sorted.records(), pushed.records());
        }
    }

    #[test]
    fn records_are_cut_and_joined_again() {
        let mut group = Group::new();
        group.push(record(Kind::New, 0xFF00, 100)).unwrap();
        group.push(record(Kind::Zero, 0x00F0, 0)).unwrap();
        group.cut(0x0FC0).unwrap();
        let left = [record(Kind::Zero, 0x30, 0), record(Kind::New, 0xF000, 104)];
        assert_eq!(group.records(), left);
        group.push(record(Kind::Zero, 0xC0, 0)).unwrap();
        group.push(record(Kind::New, 0x0F00, 100)).unwrap();
        group.coalesce();
        let all = [record(Kind::Zero, 0xF0, 0), record(Kind::New, 0xFF00, 100)];
        assert_eq!(group.records(), all);
        assert_eq!(group.mask(), 0xFFF0);
        assert_eq!(group.of(5).map(|r| r.kind), Some(Kind::Zero));
        assert!(group.of(0).is_none());
    }

    #[test]
    fn one_record_for_each_chunk_fits() {
        let mut group = Group::new();
        for bit in (0..64).rev() {
            group.push(record(Kind::New, 1 << bit, 5 * bit)).unwrap();
        }
        assert!(group.records().iter().zip(0..).all(|(r, bit)| r.mask == 1 << bit));
        assert!(group.push(record(Kind::New, 1, 0)).is_err());
        group.cut(u64::MAX).unwrap();
        assert!(group.records().is_empty());
    }
}
