// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An entity of the catalogue: a volume, a snapshot, a map to be swept, or the pool's properties.
//!
//! All kinds share one struct of 1008 bytes, four to a catalogue page; a field that a kind has no
//! use for is zero. The stored form is the form in memory too: the fields are little-endian
//! wherever they lie. The flags are those of `control::rows`, with some that are only stored.
//!
//! # Invariants
//!
//! An entity that [`Entity::check`] accepts has a kind, an id, a name that fits the kind, and a
//! restore only if it is a production.

mod page;
mod props;

pub use page::{fill_page, read_page, PER_PAGE};
pub use props::{PropertyError, PROPERTY_BYTES, VALUE_MAX};

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::control::rows::FLAG_GIVEN_UP;
use crate::control::Name;
use crate::units::{EntityId, Epoch, MapId};

/// Bytes in an entity.
pub const ENTITY_BYTES: usize = 1008;

/// Stored flag: `fingerprint` is that of the production device at the last orderly close.
pub const FLAG_FINGERPRINT: u32 = 1 << 16;
/// Stored flag, of a snapshot: made by a restore, to undo it with.
pub const FLAG_BEFORE_RESTORE: u32 = 1 << 17;

/// What an entity is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A volume whose data stays in place, on its own device.
    Production = 1,
    /// A writable volume based on a snapshot.
    Clone = 2,
    /// A moment of a volume.
    Snapshot = 3,
    /// A map whose records are to be freed: all of them, or those that no living view needs.
    Sweep = 4,
    /// The properties of the pool.
    Pool = 5,
}

impl Kind {
    /// The kind that a byte of the format stands for.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Production,
            2 => Self::Clone,
            3 => Self::Snapshot,
            4 => Self::Sweep,
            5 => Self::Pool,
            _ => return None,
        })
    }
}

/// `Sweep::what`: free all records of the map.
pub const SWEEP_ALL: u32 = 1;
/// `Sweep::what`: free the records that no living view of the map resolves to.
pub const SWEEP_VIEWS: u32 = 2;

/// The state of a restore, in the production that is being restored.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Default)]
#[repr(C)]
pub struct Restore {
    /// 1 while it is under way.
    pub active: u8,
    /// 0 new data first, 1 old data first.
    pub order: u8,
    /// Which of the order's passes the merge is in.
    pub phase: u8,
    /// Zero.
    pub reserved: u8,
    /// The newest epoch before R: chunks in place are saved for it.
    pub before_epoch: U32,
    /// The epoch of R.
    pub r_epoch: U32,
    /// X: a snapshot; a hidden one stands for a clone as it was.
    pub x: U32,
    /// The map M of what is written from the restore's beginning on.
    pub m_map: U32,
    /// The snapshot R: what X held when the restore began.
    pub r: U32,
    /// The snapshot that was taken before, to undo it with; 0 for none.
    pub before: U32,
    /// Chunks that had to go round again.
    pub retried: U32,
    /// Reserved for the word that the merge goes on from: 0, it looks at all.
    pub cursor: U64,
    /// Bytes a second; `u64::MAX` for no limit, 0 for paused.
    pub rate: U64,
    /// When it began: ns since 1970.
    pub started_ns: U64,
    /// Bytes to be merged, as far as known.
    pub total: U64,
    /// Bytes merged.
    pub done: U64,
}

/// What is left to do for a map that is to be swept.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Default)]
#[repr(C)]
pub struct Sweep {
    /// Reserved for the word that the sweep goes on from: 0, it looks at all.
    pub cursor: U64,
    /// `SWEEP_*`.
    pub what: U32,
    /// Zero.
    pub reserved: U32,
}

/// An entity, as stored and in memory.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Entity {
    /// Its number, never zero.
    pub id: U32,
    /// A [`Kind`]; zero for no entity.
    pub kind: u8,
    /// Zero.
    pub reserved_kind: [u8; 3],
    /// `FLAG_*`.
    pub flags: U32,
    /// The map that its data belongs to; of a sweep, the map to be swept.
    pub map: U32,
    /// UUID.
    pub uuid: [u8; 16],
    /// Full name; empty for a sweep and for the pool.
    pub name: Name,
    /// When it was made: ns since 1970.
    pub created_ns: U64,
    /// Bytes.
    pub size: U64,
    /// Slots that it alone holds.
    pub used: U64,
    /// Slots that it reads from, shared or not.
    pub refer: U64,
    /// The snapshot that its map is based on, 0 for none: of a clone, and of a clone's snapshot.
    pub base: U32,
    /// Of a snapshot, its epoch; of a clone, the epoch that its writes bear.
    pub epoch: U32,
    /// Of a snapshot, the volume it is named after.
    pub owner: U32,
    /// Of a production, the driver's number for its device.
    pub device: U32,
    /// Of a snapshot, the number of the moment that it shares with others; else 0.
    pub group: U64,
    /// Of a clone, bytes, 0 for none.
    pub quota: U64,
    /// Of a clone, bytes, 0 for none.
    pub reservation: U64,
    /// Of a production, what its device looked like when it was closed in order.
    pub fingerprint: U64,
    /// Of a production, the UUID of its device.
    pub device_uuid: [u8; 16],
    /// Of a snapshot, why it was given up: 0 not, 1 no space, 2 an I/O error, 3 on demand.
    pub reason: U32,
    /// Zero.
    pub reserved_reason: U32,
    /// Of a production.
    pub restore: Restore,
    /// Of a sweep.
    pub sweep: Sweep,
    /// Zero.
    pub reserved: [u8; 144],
    /// Properties: key length, value length, key, value; a key length of zero ends them.
    pub props: [u8; PROPERTY_BYTES],
}

const _: () = assert!(size_of::<Restore>() == 72);
const _: () = assert!(size_of::<Sweep>() == 16);
const _: () = assert!(size_of::<Entity>() == ENTITY_BYTES);

impl Default for Entity {
    fn default() -> Self {
        Self::ZERO
    }
}

impl core::fmt::Debug for Entity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} {} {:?}", self.kind(), self.id, self.name)
    }
}

impl Entity {
    /// No entity: all zero.
    pub const ZERO: Self = zerocopy::transmute!([0u8; ENTITY_BYTES]);

    /// An entity of this kind; all else is zero.
    #[must_use]
    pub fn new(kind: Kind, id: EntityId) -> Self {
        Self { id: id.0.into(), kind: kind as u8, ..Self::default() }
    }

    /// What it is, unless the bytes are not an entity's.
    #[must_use]
    pub const fn kind(&self) -> Option<Kind> {
        Kind::from_byte(self.kind)
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> EntityId {
        EntityId(self.id.get())
    }

    /// The map that its data belongs to.
    #[must_use]
    pub fn map(&self) -> MapId {
        MapId(self.map.get())
    }

    /// Of a snapshot, its epoch; of a clone, the epoch that its writes bear.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.get())
    }

    /// The snapshot that its map is based on.
    #[must_use]
    pub fn base(&self) -> Option<EntityId> {
        Some(EntityId(self.base.get())).filter(|id| id.0 != 0)
    }

    /// Of a snapshot, the volume it is named after.
    #[must_use]
    pub fn owner(&self) -> EntityId {
        EntityId(self.owner.get())
    }

    /// Whether one of these flags is set.
    #[must_use]
    pub fn has(&self, flags: u32) -> bool {
        self.flags.get() & flags != 0
    }

    /// Sets or clears flags.
    pub fn set_flags(&mut self, flags: u32, on: bool) {
        let now = self.flags.get();
        self.flags = if on { now | flags } else { now & !flags }.into();
    }

    /// Whether it is a snapshot whose data is still kept: records are copied and kept for its sake.
    #[must_use]
    pub fn is_living_snapshot(&self) -> bool {
        self.kind() == Some(Kind::Snapshot) && !self.has(FLAG_GIVEN_UP)
    }

    /// The restore that is under way.
    #[must_use]
    pub fn restoring(&self) -> Option<&Restore> {
        Some(&self.restore).filter(|r| r.active != 0)
    }

    /// Whether rwsnap can have written it.
    #[must_use]
    pub fn check(&self) -> bool {
        let Some(kind) = self.kind() else { return false };
        let named = !self.name.bytes().is_empty();
        let padded = self.name.0.iter().skip(self.name.bytes().len()).all(|&b| b == 0);
        let fits = match kind {
            Kind::Production | Kind::Clone | Kind::Snapshot => named,
            Kind::Sweep => !named && matches!(self.sweep.what.get(), SWEEP_ALL | SWEEP_VIEWS),
            Kind::Pool => !named,
        };
        let restores =
            self.restore.active == 0 || (self.restore.active == 1 && kind == Kind::Production);
        self.id.get() != 0 && padded && fits && restores && self.properties_are_sound()
    }
}

#[cfg(test)]
mod tests;
