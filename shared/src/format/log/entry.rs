// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The entries of a log record: what each says, and how they lie behind one another.
//!
//! An entry is a header of 8 bytes (type u16, bytes u16, zero u32) and a body, a multiple of 8
//! bytes long. Map records that follow one another share one entry: its body is an array.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::control::Name;
use crate::fault::Fault;
use crate::format::entity::{Entity, ENTITY_BYTES};
use crate::format::page::copy;
use crate::format::record::{RawRecord, Record};
use crate::units::{EntityId, Epoch, MapId};

/// The most bytes that one entry takes, its header among them.
pub const ENTRY_MAX: usize = HEAD + ENTITY_BYTES;

/// Bytes in the header of an entry.
const HEAD: usize = 8;

const TYPE_PUT: u16 = 1;
const TYPE_PUT_SUMMED: u16 = 2;
const TYPE_ENTITY: u16 = 3;
const TYPE_REMOVE: u16 = 4;
const TYPE_COUNTERS: u16 = 5;
const TYPE_NOTE: u16 = 6;
const TYPE_RENAME: u16 = 7;

/// The pool's counters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// That of the newest snapshot ever taken.
    pub epoch: Epoch,
    /// The next map id.
    pub next_map: MapId,
    /// The next entity id.
    pub next_entity: EntityId,
    /// Slots of the save volume: it may have grown since the superblock was written.
    pub slots: u64,
}

/// What an entry says.
#[derive(Clone, Copy, Debug)]
pub enum Entry<'a> {
    /// A record of the block map is put.
    Put(Record),
    /// The same, with the [`fold`] of the checksums of its slots' data. If the entry is not known
    /// to be durable, recovery reads the slots and takes the entry only if they match.
    PutSummed(Record, u64),
    /// An entity is added or replaced.
    Entity(&'a Entity),
    /// An entity is removed.
    Remove(EntityId),
    /// The counters are set.
    Counters(Counters),
    /// Nothing: the record is there to name a durable position.
    Note,
    /// A volume, and with it its snapshots, bears this name from here on.
    Rename(EntityId, Name),
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawHead {
    pub(crate) entry_type: U16,
    pub(crate) bytes: U16,
    pub(crate) zero: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawSummed {
    pub(crate) record: RawRecord,
    pub(crate) sum: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawCounters {
    pub(crate) epoch: U32,
    pub(crate) next_map: U32,
    pub(crate) next_entity: U32,
    pub(crate) zero: U32,
    pub(crate) slots: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawRename {
    pub(crate) id: U32,
    pub(crate) zero: U32,
    pub(crate) name: Name,
}

const _: () = assert!(size_of::<RawHead>() == HEAD);
const _: () = assert!(size_of::<RawSummed>() == 40);
const _: () = assert!(size_of::<RawCounters>() == 24);
const _: () = assert!(size_of::<RawRename>() == 136);

impl Entry<'_> {
    /// Bytes that the entry takes at most: less if it joins the entry before it.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        HEAD.saturating_add(self.body())
    }

    /// Bytes of the body.
    const fn body(&self) -> usize {
        match self {
            Self::Put(_) => 32,
            Self::PutSummed(..) => 40,
            Self::Entity(_) => ENTITY_BYTES,
            Self::Remove(_) => 8,
            Self::Counters(_) => 24,
            Self::Note => 0,
            Self::Rename(..) => 136,
        }
    }

    const fn number(&self) -> u16 {
        match self {
            Self::Put(_) => TYPE_PUT,
            Self::PutSummed(..) => TYPE_PUT_SUMMED,
            Self::Entity(_) => TYPE_ENTITY,
            Self::Remove(_) => TYPE_REMOVE,
            Self::Counters(_) => TYPE_COUNTERS,
            Self::Note => TYPE_NOTE,
            Self::Rename(..) => TYPE_RENAME,
        }
    }

    /// Writes the body to `payload` from `at` on.
    fn write(&self, payload: &mut [u8], at: usize) {
        match self {
            Self::Put(record) => copy(payload, at, RawRecord::new(record).as_bytes()),
            Self::PutSummed(record, sum) => {
                let raw = RawSummed { record: RawRecord::new(record), sum: (*sum).into() };
                copy(payload, at, raw.as_bytes());
            }
            Self::Entity(entity) => copy(payload, at, entity.as_bytes()),
            Self::Remove(id) => copy(payload, at, &u64::from(id.0).to_le_bytes()),
            Self::Counters(counters) => {
                let raw = RawCounters {
                    epoch: counters.epoch.0.into(),
                    next_map: counters.next_map.0.into(),
                    next_entity: counters.next_entity.0.into(),
                    zero: 0.into(),
                    slots: counters.slots.into(),
                };
                copy(payload, at, raw.as_bytes());
            }
            Self::Note => {}
            Self::Rename(id, name) => {
                let raw = RawRename { id: id.0.into(), zero: 0.into(), name: *name };
                copy(payload, at, raw.as_bytes());
            }
        }
    }
}

/// How far the payload of a block is filled.
///
/// # Invariants
///
/// If `last` is there, it is where the header of the last entry lies, and the entry is an array
/// that more may join.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fill {
    used: usize,
    last: Option<(usize, u16)>,
}

impl Fill {
    /// Bytes filled.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.used
    }

    /// As if these bytes had been filled, with nothing that could be joined.
    #[must_use]
    pub const fn at(used: usize) -> Self {
        Self { used, last: None }
    }

    /// Sees to it that the next entry joins none before it.
    pub fn part(&mut self) {
        self.last = None;
    }

    /// Adds an entry to `payload`; false, and nothing done, if there is no room for it.
    pub fn push(&mut self, payload: &mut [u8], entry: &Entry<'_>) -> bool {
        let (number, body) = (entry.number(), entry.body());
        let joined = self.last.filter(|(_, last)| *last == number);
        let head = if joined.is_some() { 0 } else { HEAD };
        let at = self.used.saturating_add(head);
        let end = at.saturating_add(body);
        if end > payload.len() {
            return false;
        }
        let start = joined.map_or(self.used, |(start, _)| start);
        let bytes = end.saturating_sub(start).saturating_sub(HEAD);
        let raw = RawHead {
            entry_type: number.into(),
            bytes: u16::try_from(bytes).unwrap_or(0).into(),
            zero: 0.into(),
        };
        copy(payload, start, raw.as_bytes());
        entry.write(payload, at);
        self.used = end;
        // INVARIANT: only arrays are joined.
        let is_array = matches!(number, TYPE_PUT | TYPE_PUT_SUMMED);
        self.last = is_array.then_some((start, number));
        true
    }
}

/// The entries of a block, one after another. An entry that makes no sense is `Corrupt`, and the
/// last one given.
#[derive(Clone, Debug, Default)]
pub struct Entries<'a> {
    rest: &'a [u8],
    array: &'a [u8],
    array_type: u16,
}

impl<'a> Entries<'a> {
    /// Those in a payload.
    #[must_use]
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload, array: &[], array_type: 0 }
    }

    /// The next, if it makes sense.
    fn parse(&mut self) -> Option<Entry<'a>> {
        if !self.array.is_empty() {
            return self.next_of_array();
        }
        let (head, rest) = RawHead::read_from_prefix(self.rest).ok()?;
        let (body, rest) = rest.split_at_checked(usize::from(head.bytes.get()))?;
        self.rest = rest;
        let number = head.entry_type.get();
        match number {
            TYPE_PUT | TYPE_PUT_SUMMED => {
                (self.array, self.array_type) = (body, number);
                self.next_of_array()
            }
            TYPE_ENTITY => Entity::ref_from_bytes(body).ok().map(Entry::Entity),
            TYPE_REMOVE => {
                let id = u64::from_le_bytes(*body.first_chunk().filter(|_| body.len() == 8)?);
                Some(Entry::Remove(EntityId(u32::try_from(id).ok()?)))
            }
            TYPE_COUNTERS => RawCounters::ref_from_bytes(body).ok().map(|raw| {
                Entry::Counters(Counters {
                    epoch: Epoch(raw.epoch.get()),
                    next_map: MapId(raw.next_map.get()),
                    next_entity: EntityId(raw.next_entity.get()),
                    slots: raw.slots.get(),
                })
            }),
            TYPE_NOTE => body.is_empty().then_some(Entry::Note),
            TYPE_RENAME => {
                let raw = RawRename::ref_from_bytes(body).ok()?;
                Some(Entry::Rename(EntityId(raw.id.get()), raw.name))
            }
            _ => None,
        }
    }

    fn next_of_array(&mut self) -> Option<Entry<'a>> {
        if self.array_type == TYPE_PUT {
            let (raw, rest) = RawRecord::ref_from_prefix(self.array).ok()?;
            self.array = rest;
            return raw.get().map(Entry::Put);
        }
        let (raw, rest) = RawSummed::ref_from_prefix(self.array).ok()?;
        self.array = rest;
        raw.record.get().map(|record| Entry::PutSummed(record, raw.sum.get()))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() && self.array.is_empty() {
            return None;
        }
        let parsed = self.parse();
        if parsed.is_none() {
            (self.rest, self.array) = (&[], &[]);
        }
        Some(parsed.ok_or(Fault::Corrupt))
    }
}

/// The checksum of a record's data: the checksums of its chunks, in mask order, folded into one.
///
/// Each step is a bijection of the state and of the checksum, and depends on all before it: chunks
/// that changed places are noticed.
pub fn fold(sums: impl IntoIterator<Item = u64>) -> u64 {
    let mut fold = Fold::default();
    for sum in sums {
        fold.add(sum);
    }
    fold.end()
}

/// A [`fold`] under way.
#[derive(Clone, Copy, Debug)]
pub struct Fold(u64);

impl Default for Fold {
    fn default() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }
}

impl Fold {
    /// Adds the checksum of the next chunk.
    pub fn add(&mut self, sum: u64) {
        self.0 = (self.0 ^ sum).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(32);
    }

    /// The checksum of all of them.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }
}
