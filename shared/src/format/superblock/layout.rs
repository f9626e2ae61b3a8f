// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where everything lies in a new pool: superblocks, log, slot bit map (two sides), metadata,
//! slots.

use super::{Extent, RawExtent, Superblock, CHECKSUM_XXH64, EXTENTS, FIRST_REGION};
use crate::format::page::PAGE_BITS;
use crate::units::{Geometry, PAGE_BYTES};

/// The log of a pool with room for it.
const LOG_BYTES: u64 = 16 << 20;
/// The least that a log gets unless it is told otherwise, and metadata likewise.
const SMALL_BYTES: u64 = 65_536;
/// Volumes from this size on align their slots to 1 MiB.
const LARGE_VOLUME: u64 = 64 << 20;
/// No volume is larger.
const LARGEST_VOLUME: u64 = 1 << 60;

/// The smallest log that can be asked for, in blocks: what settles one word of a restore takes 7 of
/// them at once, what removes a few objects 11, and 2 are kept back.
pub const LEAST_LOG: u64 = 16;
/// The fewest metadata pages that can be asked for.
const LEAST_PAGES: u64 = 16;
/// The fewest metadata pages that are usual: a full pool needs some to shrink.
const USUAL_PAGES: u64 = 64;
/// The fewest slots.
const LEAST_SLOTS: u64 = 4;

/// What a new pool shall be like. Zero stands for "as is usual".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Bytes in the save volume.
    pub bytes: u64,
    /// Bytes that it can ever grow to: there is room for a bit for each slot.
    pub limit: u64,
    /// Bytes that it may grow to until somebody says otherwise.
    pub grow: u64,
    /// Bytes in a chunk.
    pub chunk: u32,
    /// Logical block.
    pub block: u32,
    /// Blocks of the log.
    pub log_blocks: u64,
    /// Metadata pages of the first extent.
    pub pages: u64,
    /// A power of two from the logical block on that slots are aligned to, in bytes.
    pub align: u64,
}

/// Why a pool cannot be laid out so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LayoutError {
    /// A chunk is a power of two from 4 KiB to 64 KiB.
    Chunk,
    /// A logical block is a power of two from 512 bytes to 4 KiB.
    Block,
    /// The alignment is no power of two, or out of range.
    Align,
    /// The log or the metadata is smaller than a pool can do with.
    Regions,
    /// The save volume is too small.
    TooSmall {
        /// Bytes that it takes with these options.
        need: u64,
    },
    /// The save volume is larger than the format knows.
    TooLarge,
}

impl Options {
    /// The options with all that is zero filled in.
    fn filled(mut self) -> Result<(Self, Geometry), LayoutError> {
        let usual = |asked: u64, usual: u64| if asked == 0 { usual } else { asked };
        let of = |part: u64| part.max(SMALL_BYTES) / PAGE_BYTES;
        self.chunk = if self.chunk == 0 { 4096 } else { self.chunk };
        self.block = if self.block == 0 { 512 } else { self.block };
        self.limit = self.limit.max(self.bytes).max(self.grow);
        self.grow = usual(self.grow, self.limit).max(self.bytes);
        self.log_blocks = usual(self.log_blocks, of((self.bytes / 16).min(LOG_BYTES)));
        self.pages = usual(self.pages, of(self.bytes / 128).max(USUAL_PAGES));
        let align = if self.bytes >= LARGE_VOLUME { 1 << 20 } else { SMALL_BYTES };
        self.align = usual(self.align, align);
        let geometry = Geometry::new(self.chunk).ok_or(LayoutError::Chunk)?;
        self.check()?;
        Ok((self, geometry))
    }

    /// Whether the options make sense by themselves.
    fn check(&self) -> Result<(), LayoutError> {
        if !(512..=4096).contains(&self.block) || !self.block.is_power_of_two() {
            return Err(LayoutError::Block);
        }
        if !(PAGE_BYTES..=1 << 30).contains(&self.align) || !self.align.is_power_of_two() {
            return Err(LayoutError::Align);
        }
        if self.log_blocks < LEAST_LOG || self.pages < LEAST_PAGES {
            return Err(LayoutError::Regions);
        }
        if [self.limit, self.log_blocks, self.pages].iter().any(|&n| n > LARGEST_VOLUME) {
            return Err(LayoutError::TooLarge);
        }
        Ok(())
    }
}

impl Superblock {
    /// Fills in where the regions of a new pool lie; the rest is as in an empty pool of generation
    /// zero: no tree, no catalogue, the log empty at position zero.
    ///
    /// # Errors
    ///
    /// The options cannot be met; the superblock is not changed.
    pub fn lay_out(&mut self, options: &Options) -> Result<(), LayoutError> {
        let (options, geometry) = options.filled()?;
        let slot_limit = geometry.chunks_for(options.limit);
        let map_pages = slot_limit.div_ceil(PAGE_BITS);
        let after = |start: u64, pages: u64| start.saturating_add(pages.saturating_mul(PAGE_BYTES));
        let map_a = after(FIRST_REGION, options.log_blocks);
        let map_b = after(map_a, map_pages);
        let extent = Extent { start: after(map_b, map_pages), pages: options.pages };
        let slots_start = align_up(extent.start.saturating_add(extent.bytes()), options.align);
        let room = options.bytes.saturating_sub(slots_start);
        let slots = geometry.chunk_of(room).0;
        if slots < LEAST_SLOTS {
            let least = u64::from(options.chunk).saturating_mul(LEAST_SLOTS);
            return Err(LayoutError::TooSmall { need: slots_start.saturating_add(least) });
        }
        self.empty();
        self.chunk = options.chunk.into();
        self.block = options.block.into();
        self.base_align = options.align.into();
        self.log_start = FIRST_REGION.into();
        self.log_blocks = options.log_blocks.into();
        self.slot_map = [map_a.into(), map_b.into()];
        self.slot_map_pages = map_pages.into();
        self.slots_start = slots_start.into();
        self.slots = slots.into();
        self.slot_limit = slot_limit.into();
        self.save_limit = options.grow.into();
        self.extents_used = 0.into();
        self.extents = [RawExtent::default(); EXTENTS];
        self.add_extent(extent);
        Ok(())
    }

    /// The counters and the checkpoint of a pool in which nothing has happened.
    fn empty(&mut self) {
        self.checksum_id = CHECKSUM_XXH64.into();
        self.tree_root = u64::MAX.into();
        self.catalog_first = u64::MAX.into();
        self.next_entity = 1.into();
        self.next_map = 1.into();
        for zero in [
            &mut self.generation,
            &mut self.log_pos,
            &mut self.log_hash,
            &mut self.known_end,
            &mut self.known_hash,
            &mut self.log_generation,
            &mut self.tree_records,
            &mut self.catalog_pages,
            &mut self.slots_used,
            &mut self.pages_used,
        ] {
            *zero = 0.into();
        }
        for zero in [&mut self.tree_height, &mut self.epoch, &mut self.map_side] {
            *zero = 0.into();
        }
    }
}

/// The first multiple of `align`, a power of two, from `at` on.
const fn align_up(at: u64, align: u64) -> u64 {
    let below = align.saturating_sub(1);
    at.saturating_add(below) & !below
}
