// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The superblock: who the pool is, where its regions lie, and its last checkpoint.
//!
//! Four copies lie near the start of the save volume ([`COPIES`]). A generation is written to two
//! of them, the pair that its parity picks, so that the generation before it stays whole until
//! this one is durable. The first 4 KiB of the volume stay free and zero.
//!
//! # Invariants
//!
//! A superblock that [`Superblock::parse`] accepts was written by rwsnap whole, has no feature that
//! this code does not know, and its regions lie behind one another without an overlap.

mod find;
mod layout;

pub use find::{Finder, WhyBad};
pub use layout::{LayoutError, Options, LEAST_LOG};

use zerocopy::little_endian::{U32, U64};
use zerocopy::IntoBytes;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::page::PAGE_BITS;
use crate::platform::Platform;
use crate::units::{Geometry, LogPos, PageNo, Slot, PAGE, PAGE_BYTES};

/// First bytes of a superblock.
pub const MAGIC: [u8; 8] = *b"rwsnap\0\x01";

/// Where the copies lie, in bytes. Copy `i` is written in the generations of parity `i & 1`.
pub const COPIES: [u64; 4] = [4096, 20_480, 36_864, 53_248];

/// The first byte behind the copies that a region may begin at.
pub const FIRST_REGION: u64 = 65_536;

/// Entries of the table of metadata extents.
pub const EXTENTS: usize = 64;

/// Incompatible features that this code knows.
pub const KNOWN_INCOMPAT: u64 = 0;

/// Features that this code must know to *write* the pool.
pub const KNOWN_RO_COMPAT: u64 = 0;

/// Checksum id: XXH64.
pub const CHECKSUM_XXH64: u32 = 1;

/// A stretch of the save volume with metadata pages: a bit map for each of the two sides, then the
/// pages that it speaks of.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Default)]
#[repr(C)]
pub struct RawExtent {
    /// First byte.
    pub start: U64,
    /// Pages behind the bit maps: those that page numbers count.
    pub pages: U64,
}

/// A metadata extent in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// First byte, that of side A of its bit map.
    pub start: u64,
    /// Pages behind the bit maps.
    pub pages: u64,
}

impl Extent {
    /// Pages of its bit map, of one side.
    #[must_use]
    pub const fn map_pages(self) -> u64 {
        self.pages.div_ceil(PAGE_BITS)
    }

    /// All its bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.map_pages().saturating_mul(2).saturating_add(self.pages).saturating_mul(PAGE_BYTES)
    }

    /// The first byte of its page `index`.
    #[must_use]
    pub const fn page_byte(self, index: u64) -> u64 {
        let before = self.map_pages().saturating_mul(2).saturating_add(index);
        self.start.saturating_add(before.saturating_mul(PAGE_BYTES))
    }

    /// The first byte of page `index` of its bit map on `side`, 0 or 1.
    #[must_use]
    pub const fn map_byte(self, side: u32, index: u64) -> u64 {
        let side = if side == 0 { 0 } else { self.map_pages() };
        self.start.saturating_add(side.saturating_add(index).saturating_mul(PAGE_BYTES))
    }
}

/// A superblock as it is stored: 4 KiB.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Superblock {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// XXH64, seed 0, of the bytes 16 to 4095.
    pub checksum: U64,
    /// Features that may be ignored.
    pub compat: U64,
    /// Features that may be ignored by who only reads.
    pub ro_compat: U64,
    /// Features that must be known.
    pub incompat: U64,
    /// Grows with each superblock written.
    pub generation: U64,
    /// UUID of the pool.
    pub pool: [u8; 16],
    /// Name of the pool, padded with zeros.
    pub label: [u8; 64],
    /// 1: XXH64.
    pub checksum_id: U32,
    /// Bytes in a chunk and in a slot.
    pub chunk: U32,
    /// Logical block: 512 to 4096 bytes.
    pub block: U32,
    /// 1 if the pool was closed in order: the log beyond `log_pos` is empty.
    pub clean: U32,
    /// All regions of slots begin at a multiple of it, in bytes.
    pub base_align: U64,
    /// First byte of the log.
    pub log_start: U64,
    /// Blocks of the log.
    pub log_blocks: U64,
    /// First byte of the slot bit map, sides A and B.
    pub slot_map: [U64; 2],
    /// Pages of the slot bit map, of one side.
    pub slot_map_pages: U64,
    /// First byte of slot 0.
    pub slots_start: U64,
    /// Slots there are.
    pub slots: U64,
    /// Slots that the bit map has room for.
    pub slot_limit: U64,
    /// Which side of the bit maps, of slots and of metadata, is the checkpoint's: 0 A, 1 B.
    pub map_side: U32,
    /// Metadata extents in use.
    pub extents_used: U32,
    /// Checkpoint: the log position that it contains all records before.
    pub log_pos: U64,
    /// Checksum of the log record before `log_pos`.
    pub log_hash: U64,
    /// All log records before this position were durable when this was written.
    pub known_end: U64,
    /// Checksum of the log record before `known_end`.
    pub known_hash: U64,
    /// Log records from `known_end` on bear this generation.
    pub log_generation: U64,
    /// Root page of the tree; `u64::MAX` if there is none.
    pub tree_root: U64,
    /// Records in the tree.
    pub tree_records: U64,
    /// First page of the catalogue; `u64::MAX` if there is none.
    pub catalog_first: U64,
    /// Pages of the catalogue.
    pub catalog_pages: U64,
    /// Levels of the tree: 0 none, 1 a leaf.
    pub tree_height: U32,
    /// Next entity id.
    pub next_entity: U32,
    /// Next map id.
    pub next_map: U32,
    /// The epoch counter: that of the newest snapshot ever taken.
    pub epoch: U32,
    /// Slots in use at the checkpoint.
    pub slots_used: U64,
    /// Metadata pages in use at the checkpoint.
    pub pages_used: U64,
    /// Records that a delta must hold to open the pool.
    pub delta_records: U64,
    /// Slots kept back for shrinking, metadata pages for a checkpoint, log blocks for shrinking.
    pub reserves: [U64; 3],
    /// What to do when the save volume is full: 0 grow, 1 oldest, 2 stall, 3 fail.
    pub when_full: U32,
    /// Bytes that a first write copies.
    pub copy_span: U32,
    /// Discards of production chunks not copied yet: 0 ignored, 1 copied first.
    pub discard: U32,
    /// Percent of slots below which room is made.
    pub low_water: U32,
    /// Bytes that the save volume may grow to; 0: it does not grow.
    pub save_limit: U64,
    /// Times that the pool was opened.
    pub opened: U64,
    /// Of them, after a crash.
    pub recovered: U64,
    /// When this was written: ns since 1970.
    pub written_ns: U64,
    /// Who has the pool open: text, padded with zeros; zero if none.
    pub attached: [u8; 64],
    /// Metadata extents.
    pub extents: [RawExtent; EXTENTS],
    /// Pages of the tree.
    pub tree_pages: U64,
    /// Zero.
    pub reserved: [u8; 2592],
}

const _: () = assert!(size_of::<Superblock>() == PAGE);

impl Default for Superblock {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Superblock {
    /// All zero.
    pub const ZERO: Self = zerocopy::transmute!([0u8; PAGE]);

    /// Sets magic and checksum; from here on the bytes may be written.
    pub fn seal<P: Platform>(&mut self, platform: &P) {
        self.magic = MAGIC;
        self.checksum = self.sum(platform).into();
    }

    /// What the checksum ought to be.
    fn sum<P: Platform>(&self, platform: &P) -> u64 {
        platform.hash(0, self.as_bytes().get(16..).unwrap_or(&[]))
    }

    /// The two copies that this generation is written to, as bytes of the save volume.
    #[must_use]
    pub fn pair(&self) -> [u64; 2] {
        Self::pair_of(self.generation.get())
    }

    /// The two copies that a generation is written to.
    #[must_use]
    pub const fn pair_of(generation: u64) -> [u64; 2] {
        let [even, odd, even_too, odd_too] = COPIES;
        if generation & 1 == 0 {
            [even, even_too]
        } else {
            [odd, odd_too]
        }
    }

    /// The pool's number in pages and log records: the first 8 bytes of its UUID.
    #[must_use]
    pub fn pool_number(&self) -> u64 {
        u64::from_le_bytes(self.pool.first_chunk().copied().unwrap_or_default())
    }

    /// How chunks lie on devices.
    #[must_use]
    pub fn geometry(&self) -> Option<Geometry> {
        Geometry::new(self.chunk.get())
    }

    /// The metadata extents, in the order that page numbers count them.
    pub fn extents(&self) -> impl Iterator<Item = Extent> + Clone + '_ {
        let used = usize::try_from(self.extents_used.get()).unwrap_or(0);
        self.extents
            .iter()
            .take(used)
            .map(|e| Extent { start: e.start.get(), pages: e.pages.get() })
    }

    /// Adds a metadata extent; false if the table is full.
    pub fn add_extent(&mut self, extent: Extent) -> bool {
        let used = self.extents_used.get();
        let Some(entry) = usize::try_from(used).ok().and_then(|i| self.extents.get_mut(i)) else {
            return false;
        };
        *entry = RawExtent { start: extent.start.into(), pages: extent.pages.into() };
        self.extents_used = used.saturating_add(1).into();
        true
    }

    /// Metadata pages in all extents.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.extents().fold(0, |sum, e| sum.saturating_add(e.pages))
    }

    /// The byte of the save volume that a metadata page begins at.
    #[must_use]
    pub fn page_byte(&self, page: PageNo) -> Option<u64> {
        let mut index = page.0;
        for extent in self.extents() {
            if index < extent.pages {
                return Some(extent.page_byte(index));
            }
            index = index.saturating_sub(extent.pages);
        }
        None
    }

    /// The byte of the save volume that a slot begins at.
    #[must_use]
    pub fn slot_byte(&self, slot: Slot) -> Option<u64> {
        if slot.0 >= self.slots.get() {
            return None;
        }
        Some(self.slots_start.get().saturating_add(self.geometry()?.byte_of_slot(slot)))
    }

    /// The byte of the save volume that page `index` of the slot bit map begins at, on `side`.
    #[must_use]
    pub fn slot_map_byte(&self, side: u32, index: u64) -> Option<u64> {
        let start = self.slot_map.get(usize::try_from(side).ok()?)?.get();
        let within = index < self.slot_map_pages.get();
        within.then(|| start.saturating_add(index.saturating_mul(PAGE_BYTES)))
    }

    /// The byte of the save volume that the log's block for `pos` begins at.
    #[must_use]
    pub fn log_byte(&self, pos: LogPos) -> Option<u64> {
        let block = pos.0.checked_rem(self.log_blocks.get())?;
        Some(self.log_start.get().saturating_add(block.saturating_mul(PAGE_BYTES)))
    }

    /// The first byte behind the last slot.
    #[must_use]
    pub fn end(&self) -> u64 {
        let chunk = u64::from(self.chunk.get());
        self.slots_start.get().saturating_add(self.slots.get().saturating_mul(chunk))
    }

    /// Whether the pool has features that forbid this code to write it.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.ro_compat.get() & !KNOWN_RO_COMPAT != 0
    }
}

#[cfg(test)]
mod tests;
