// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The phases of a checkpoint that write pages: catalogue, tree, slot bits, metadata bits.

use crate::engine::checkpoint::Phase;
use crate::engine::Core;
use crate::fault::Fault;
use crate::format::entity::{fill_page, Entity, PER_PAGE};
use crate::format::page::Owner as PageOwner;
use crate::format::record::GroupKey;
use crate::map::{pages_needed, Load, Miss, PageAlloc, Progress};
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::slots::Meta;
use crate::units::PageNo;

impl<P: Platform> PageAlloc for Meta<P> {
    fn alloc(&mut self) -> Option<PageNo> {
        Self::alloc(self)
    }

    fn free(&mut self, page: PageNo) {
        // A page that is freed twice stays in use: the checker reports it as a leak.
        let _ = self.free_page(page);
    }
}

/// Whether the next checkpoint finds pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageRoom {
    /// It does.
    Now,
    /// Not before a checkpoint.
    Later,
    /// Not before something is freed.
    Never,
}

/// Records and entities for which pages are kept, for what shrinks the pool: destroy, giving up and
/// sweep.
pub(crate) const SHRINK: (u32, u64) = (144, 24);

impl<P: Platform> Core<P> {
    /// What pages of this checkpoint are marked with.
    fn page_owner(&self) -> PageOwner {
        PageOwner {
            pool: self.superblock.pool_number(),
            generation: self.superblock.generation.get().saturating_add(1),
        }
    }

    /// The side of the bit maps that this checkpoint writes.
    pub(super) fn next_side(&self) -> u32 {
        1 ^ (self.superblock.map_side.get() & 1)
    }

    pub(super) fn begin_checkpoint(&mut self) -> Result<(), Fault> {
        if !self.checkpoint.wanted || !self.room_for_checkpoint() {
            return Ok(());
        }
        self.checkpoint.wanted = false;
        // One that begins while something is still under way is not the last.
        let clean = self.closing && self.is_at_rest() && self.layers.fresh.is_empty();
        self.log.seal(&self.platform);
        self.commit.wanted = true;
        self.note_usage();
        if clean {
            self.note_fingerprints()?;
        }
        self.layers.freeze()?;
        self.slot_phase = !self.slot_phase;
        self.space.freezing = core::mem::take(&mut self.space.freed);
        self.meta.begin();
        let changed = self.catalog.freeze();
        let old = (self.superblock.catalog_first.get(), self.superblock.catalog_pages.get());
        let c = &mut self.checkpoint;
        c.pos = self.log.head();
        c.hash = self.log.head_hash();
        c.counters = self.counters;
        c.clean = clean;
        c.index = 0;
        c.catalog = old;
        c.phase = Phase::Durable;
        if changed {
            self.free_catalog(old.0, old.1);
            self.begin_catalog()?;
        }
        Ok(())
    }

    /// Pages that a checkpoint of the active delta and of `records` and `entities` more needs at
    /// most.
    fn pages_for_checkpoint(&self, records: u32, entities: u64) -> u64 {
        let mut root = self.layers.root();
        if let Some(root) = root.as_mut().filter(|_| self.checkpoint.is_running()) {
            // The tree that is being made has at most so many more.
            root.pages = root.pages.saturating_add(self.checkpoint.pages);
        }
        let there = u64::try_from(self.catalog.len()).unwrap_or(u64::MAX);
        let catalog = (there.saturating_add(entities) / 4).saturating_add(2);
        let more = usize::try_from(records).unwrap_or(usize::MAX);
        pages_needed(&self.layers.active, more, root.as_ref()).saturating_add(catalog)
    }

    /// Pages that the next checkpoint can have: those that the one under way leaves.
    fn pages_free(&self) -> u64 {
        let c = &self.checkpoint;
        let taken = c.pages_before.saturating_sub(self.meta.free());
        let kept_back = if c.is_running() { c.pages.saturating_sub(taken) } else { 0 };
        self.meta.free().saturating_sub(kept_back)
    }

    /// Whether the next checkpoint will find pages for so many records and entities more; takes an
    /// extent of slots for them if it must. A pool that is full must still be able to shrink, so
    /// that what lets it grow asks for [`SHRINK`] more.
    pub(crate) fn page_room(&mut self, records: u32, entities: u64) -> PageRoom {
        let need = self.pages_for_checkpoint(records, entities);
        if self.pages_free() >= need {
            return PageRoom::Now;
        }
        if self.checkpoint.is_running() {
            return PageRoom::Later;
        }
        // One that frees nothing would be followed by the next, for ever.
        if self.layers.active.mapped() != 0 || self.space.freed != 0 {
            self.want_checkpoint();
            return PageRoom::Later;
        }
        self.add_extent(need.saturating_sub(self.pages_free()).max(16));
        if self.pages_free() >= need {
            PageRoom::Now
        } else {
            PageRoom::Never
        }
    }

    /// Whether there are pages enough; takes an extent of slots for more if not.
    fn room_for_checkpoint(&mut self) -> bool {
        let need = self.pages_for_checkpoint(0, 0);
        // While there are slots, there are pages in good time.
        if self.meta.free() < need.saturating_add(self.meta.pages() / 8) {
            self.add_extent((self.meta.pages() / 2).max(16));
        }
        let free = self.meta.free();
        if free < need {
            self.add_extent(need.saturating_sub(free));
        }
        self.checkpoint.pages = need;
        self.checkpoint.pages_before = self.meta.free();
        self.meta.free() >= need
    }

    /// The pages of the catalogue as it was are free with this checkpoint. They lie one after
    /// another or not: the list is in `Checkpoint::old`.
    fn free_catalog(&mut self, first: u64, _pages: u64) {
        if first == u64::MAX {
            return;
        }
        for n in 0..self.space.catalog_pages.len() {
            let Some(page) = self.space.catalog_pages.get(n).copied() else { break };
            let _ = self.meta.free_page(page);
        }
        self.space.catalog_pages.clear();
    }

    /// Takes pages for the catalogue.
    fn begin_catalog(&mut self) -> Result<(), Fault> {
        let pages = self.catalog.frozen().len().div_ceil(PER_PAGE);
        let first = if pages == 0 { None } else { Some(self.meta.alloc().ok_or(Fault::NoSpace)?) };
        self.checkpoint.catalog =
            (first.map_or(u64::MAX, |p| p.0), u64::try_from(pages).unwrap_or(0));
        self.checkpoint.next_page = first;
        self.checkpoint.phase = Phase::Catalog;
        Ok(())
    }

    /// Writes the next pages of the catalogue.
    pub(super) fn write_catalog(&mut self) -> Result<(), Fault> {
        let owner = self.page_owner();
        while let Some(page) = self.checkpoint.next_page {
            if self.checkpoint.full() {
                return Ok(());
            }
            let at = usize::try_from(self.checkpoint.index).unwrap_or(0).saturating_mul(PER_PAGE);
            let rest = self.catalog.frozen().len().saturating_sub(at);
            let next =
                if rest > PER_PAGE { Some(self.meta.alloc().ok_or(Fault::NoSpace)?) } else { None };
            let place = self.superblock.page_byte(page).ok_or(crate::bug!())?;
            let entities = self.catalog.frozen().get(at..).unwrap_or(&[]);
            let buffer = self.checkpoint.next_buffer(place).ok_or(crate::bug!())?;
            let _ = fill_page(
                &self.platform,
                buffer,
                &owner,
                page,
                next,
                entities.iter().take(PER_PAGE) as core::iter::Take<core::slice::Iter<'_, Entity>>,
            );
            self.space.catalog_pages.push(page)?;
            self.checkpoint.index = self.checkpoint.index.saturating_add(1);
            self.checkpoint.next_page = next;
        }
        if self.written()? {
            self.checkpoint.phase = Phase::Durable;
        }
        Ok(())
    }

    pub(super) fn wait_for_records(&mut self) -> Result<(), Fault> {
        if self.commit.durable < self.checkpoint.pos && !self.mutant(Mutant::CheckpointEarly) {
            return Ok(());
        }
        let generation = self.page_owner().generation;
        self.checkpoint.builder.start(&self.layers, generation)?;
        self.checkpoint.phase = Phase::Tree;
        Ok(())
    }

    pub(super) fn build_tree(&mut self) -> Result<(), Fault> {
        if self.checkpoint.waits_for.is_some() {
            return Ok(());
        }
        for _ in 0..64 {
            if self.checkpoint.full() {
                return Ok(());
            }
            let c = &mut self.checkpoint;
            match c.builder.step(&self.platform, &mut self.layers, &mut *self.meta) {
                Ok(Progress::More) => {}
                Ok(Progress::Emit { page }) => {
                    let place = self.superblock.page_byte(page).ok_or(crate::bug!())?;
                    c.emit(place)?;
                    self.layers.cache.forget(page);
                }
                Ok(Progress::Done(root)) => {
                    c.root = root;
                    let frozen = self.layers.frozen().ok_or(crate::bug!())?;
                    c.cursor = frozen.walk(GroupKey::default())?;
                    c.phase = Phase::Slots;
                    self.wake_walkers();
                    return Ok(());
                }
                Err(Miss::Page(page)) => {
                    if self.load_page(page)? != Load::Full {
                        self.checkpoint.waits_for = Some(page);
                    }
                    return Ok(());
                }
                Err(Miss::Fault(fault)) => return Err(fault),
            }
        }
        // More to do: after the requests that wait.
        self.checkpoint.turns = self.checkpoint.turns.wrapping_add(1);
        Ok(())
    }

    /// Brings the kept slot bits to the state at the checkpoint.
    pub(super) fn keep_slots(&mut self) -> Result<(), Fault> {
        if !self.written()? {
            return Ok(());
        }
        let frozen = self.layers.frozen().ok_or(crate::bug!())?;
        for _ in 0..8192 {
            let Some((record, left)) = frozen.step(&mut self.checkpoint.cursor)? else {
                self.checkpoint.index = 0;
                self.checkpoint.phase = Phase::SlotPages;
                return Ok(());
            };
            for piece in record.only(left) {
                self.slots.apply(&piece)?;
            }
        }
        self.checkpoint.turns = self.checkpoint.turns.wrapping_add(1);
        Ok(())
    }

    pub(super) fn write_slot_pages(&mut self) -> Result<(), Fault> {
        let (owner, side) = (self.page_owner(), self.next_side());
        while let Some(page) = self.slots.next_dirty(self.checkpoint.index) {
            if self.checkpoint.full() {
                return Ok(());
            }
            let place = self.superblock.slot_map_byte(side, page).ok_or(crate::bug!())?;
            let buffer = self.checkpoint.next_buffer(place).ok_or(crate::bug!())?;
            self.slots.fill_page(&self.platform, &owner, page, buffer);
            self.checkpoint.index = page.saturating_add(1);
        }
        if self.written()? {
            self.checkpoint.index = 0;
            self.checkpoint.phase = Phase::MetaPages;
        }
        Ok(())
    }

    pub(super) fn write_meta_pages(&mut self) -> Result<(), Fault> {
        let (owner, side) = (self.page_owner(), self.next_side());
        while let Some(page) = self.meta.next_dirty(self.checkpoint.index) {
            if self.checkpoint.full() {
                return Ok(());
            }
            let place = self.meta_map_byte(side, page).ok_or(crate::bug!())?;
            let buffer = self.checkpoint.next_buffer(place).ok_or(crate::bug!())?;
            self.meta.fill_page(&self.platform, &owner, page, buffer);
            self.checkpoint.index = page.saturating_add(1);
        }
        if self.written()? {
            self.checkpoint.index = 0;
            self.checkpoint.phase = Phase::Flush;
        }
        Ok(())
    }

    /// Where a page of the metadata bit map lies.
    pub(crate) fn meta_map_byte(&self, side: u32, page: u64) -> Option<u64> {
        let (extent, index) = self.meta.map_place(page)?;
        self.superblock.extents().nth(extent).map(|e| e.map_byte(side, index))
    }
}
