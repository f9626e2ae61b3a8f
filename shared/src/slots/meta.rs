// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which metadata pages are free. Only a checkpoint takes and frees them.
//!
//! A page that a checkpoint frees is the last checkpoint's still: it is taken again only after this
//! one is durable ([`Meta::commit`]). What is written to disk is the state after that.
//!
//! Page numbers count through the extents without a gap. The bit map has whole pages for each
//! extent, so that bits and page numbers are apart; bits behind an extent's last page are clear.
//!
//! # Invariants
//!
//! 1. A page is `fresh` (taken by this checkpoint) or `freed` (by it) only if it is `used`.
//! 2. `free` is how many pages are not `used`.

use super::dirty::Dirty;
use super::{bits, page};
use crate::bug;
use crate::fault::Fault;
use crate::format::page::{Owner, Place, PAGE_BITS, PAGE_WORDS, TYPE_META_BITS};
use crate::format::superblock::EXTENTS;
use crate::platform::Platform;
use crate::units::PageNo;

/// Where an extent stands among the page numbers and the pages of the bit map.
#[derive(Clone, Copy, Debug, Default)]
struct Area {
    /// Its first page.
    first: u64,
    /// How many pages.
    pages: u64,
    /// The first page of its bit map.
    map: u64,
}

impl Area {
    /// The bit of its first page.
    const fn bit(self) -> u64 {
        self.map.saturating_mul(PAGE_BITS)
    }

    /// The bit behind that of its last page.
    const fn end(self) -> u64 {
        self.bit().saturating_add(self.pages)
    }
}

/// The allocator of metadata pages.
pub struct Meta<P: Platform> {
    used: P::Array<u64>,
    fresh: P::Array<u64>,
    freed: P::Array<u64>,
    dirty: Dirty<P>,
    areas: P::Array<Area>,
    areas_len: usize,
    map_pages: u64,
    pages: u64,
    free: u64,
    cursor: u64,
    reserve: u64,
}

impl<P: Platform> Meta<P> {
    /// For extents with these numbers of pages, all free.
    pub fn new(platform: &P, extents: impl Iterator<Item = u64> + Clone) -> Option<Self> {
        let map_pages =
            extents.clone().fold(0_u64, |sum, pages| sum.saturating_add(pages.div_ceil(PAGE_BITS)));
        let words = usize::try_from(map_pages).ok()?.checked_mul(PAGE_WORDS)?;
        let mut made = Self {
            used: platform.array(words, &0)?,
            fresh: platform.array(words, &0)?,
            freed: platform.array(words, &0)?,
            dirty: Dirty::new(platform, map_pages)?,
            areas: platform.array(EXTENTS, &Area::default())?,
            areas_len: 0,
            map_pages: 0,
            pages: 0,
            free: 0,
            cursor: 0,
            reserve: 0,
        };
        for pages in extents {
            made.append(pages)?;
        }
        Some(made)
    }

    /// Adds an extent for which the arrays have room.
    fn append(&mut self, pages: u64) -> Option<()> {
        let area = Area { first: self.pages, pages, map: self.map_pages };
        *self.areas.get_mut(self.areas_len)? = area;
        self.areas_len = self.areas_len.saturating_add(1);
        self.map_pages = self.map_pages.saturating_add(pages.div_ceil(PAGE_BITS));
        self.pages = self.pages.saturating_add(pages);
        self.free = self.free.saturating_add(pages);
        Some(())
    }

    /// Adds an extent of `pages` pages; takes memory, so not in the request path. The next
    /// checkpoint writes its bit map.
    ///
    /// # Errors
    ///
    /// `NoMemory`: there is none, or the table of extents is full; nothing is changed.
    pub fn add_extent(&mut self, platform: &P, pages: u64) -> Result<(), Fault> {
        let now = self.areas().map(|area| area.pages);
        let mut larger = Self::new(platform, now.chain([pages])).ok_or(Fault::NoMemory)?;
        for (to, from) in [
            (&mut larger.used, &self.used),
            (&mut larger.fresh, &self.fresh),
            (&mut larger.freed, &self.freed),
        ] {
            for (to, from) in to.iter_mut().zip(from.iter()) {
                *to = *from;
            }
        }
        larger.dirty.take_over(&self.dirty);
        for page in self.map_pages..larger.map_pages {
            larger.dirty.mark(page);
        }
        larger.free = self.free.saturating_add(pages);
        (larger.cursor, larger.reserve) = (self.cursor, self.reserve);
        *self = larger;
        Ok(())
    }

    fn areas(&self) -> impl Iterator<Item = Area> + Clone + '_ {
        self.areas.iter().take(self.areas_len).copied()
    }

    /// Pages there are.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages that can be taken.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Pages in use, those that the checkpoint under way frees among them.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.pages.saturating_sub(self.free)
    }

    /// Sets how many pages must be free for a checkpoint to finish, whatever it has to write.
    pub fn set_reserve(&mut self, pages: u64) {
        self.reserve = pages;
    }

    /// How many pages there ought to be more: an extent of at least as many is to be added before
    /// more is put into the deltas.
    #[must_use]
    pub fn lacks(&self) -> u64 {
        self.reserve.saturating_sub(self.free)
    }

    /// Begins a checkpoint: its pages are taken from the longest free run on.
    pub fn begin(&mut self) {
        let mut best = (0, 0);
        for area in self.areas() {
            let mut at = area.bit();
            while let Some(first) = bits::find_clear(&self.used, at, area.end()) {
                at = bits::find_set(&self.used, first, area.end());
                let len = at.saturating_sub(first);
                best = if len > best.1 { (first, len) } else { best };
            }
        }
        self.cursor = best.0;
    }

    /// Takes the next free page: the one after the page taken before, if that is free.
    pub fn alloc(&mut self) -> Option<PageNo> {
        let bit = self.next_free(self.cursor).or_else(|| self.next_free(0))?;
        let page = self.page_of(bit)?;
        bits::set(&mut self.used, bit, 1);
        bits::set(&mut self.fresh, bit, 1);
        self.dirty.mark(bit / PAGE_BITS);
        self.free = self.free.saturating_sub(1);
        self.cursor = bit.saturating_add(1);
        Some(page)
    }

    /// The first free bit from `from` on.
    fn next_free(&self, from: u64) -> Option<u64> {
        self.areas().find_map(|area| bits::find_clear(&self.used, area.bit().max(from), area.end()))
    }

    /// Frees a page; it can be taken again once the checkpoint is committed.
    ///
    /// # Errors
    ///
    /// `Corrupt`: there is no such page, or it is not in use, or freed already.
    pub fn free_page(&mut self, page: PageNo) -> Result<(), Fault> {
        let bit = self.bit_of(page).ok_or(Fault::Corrupt)?;
        if !bits::get(&self.used, bit) || bits::set(&mut self.freed, bit, 1) == 0 {
            return Err(Fault::Corrupt);
        }
        self.dirty.mark(bit / PAGE_BITS);
        Ok(())
    }

    /// The checkpoint is durable: what it freed is free.
    pub fn commit(&mut self) {
        let mut gained = 0_u64;
        let taken = self.freed.iter_mut().zip(self.fresh.iter_mut());
        for (used, (freed, fresh)) in self.used.iter_mut().zip(taken) {
            gained = gained.saturating_add(u64::from((*used & *freed).count_ones()));
            *used &= !*freed;
            (*freed, *fresh) = (0, 0);
        }
        self.free = self.free.saturating_add(gained);
        self.dirty.turn();
    }

    /// The checkpoint failed before its superblock was written: it took and freed nothing.
    pub fn abandon(&mut self) {
        let mut gained = 0_u64;
        let taken = self.freed.iter_mut().zip(self.fresh.iter_mut());
        for (used, (freed, fresh)) in self.used.iter_mut().zip(taken) {
            gained = gained.saturating_add(u64::from((*used & *fresh).count_ones()));
            *used &= !*fresh;
            (*freed, *fresh) = (0, 0);
        }
        self.free = self.free.saturating_add(gained);
    }

    /// Whether a page is in use.
    #[must_use]
    pub fn is_used(&self, page: PageNo) -> bool {
        self.bit_of(page).is_some_and(|bit| bits::get(&self.used, bit))
    }

    /// Pages of the bit map, of one side, of all extents.
    #[must_use]
    pub fn map_pages(&self) -> u64 {
        self.map_pages
    }

    /// Where page `page` of the bit map belongs: which extent, and which page of its bit map (see
    /// `Extent::map_byte`).
    #[must_use]
    pub fn map_place(&self, page: u64) -> Option<(usize, u64)> {
        let extent = self.areas().take_while(|area| area.map <= page).count().checked_sub(1)?;
        let first = self.areas.get(extent)?.map;
        (page < self.map_pages).then(|| (extent, page.saturating_sub(first)))
    }

    /// The first page of the bit map from `from` on that the checkpoint has to write.
    #[must_use]
    pub fn next_dirty(&self, from: u64) -> Option<u64> {
        self.dirty.next(from)
    }

    /// Fills `out`, 4096 bytes, with page `page` of the bit map, as of the checkpoint under way.
    pub fn fill_page(&self, platform: &P, owner: &Owner, page: u64, out: &mut [u8]) {
        let first = page::first_word(page);
        let pairs = self.used.iter().zip(self.freed.iter()).skip(first);
        page::fill(platform, out, owner, place(page), pairs.map(|(used, freed)| used & !freed));
    }

    /// A new pool: the first checkpoint has to write all pages, and so has the one after it.
    pub fn mark_all(&mut self) {
        for page in 0..self.map_pages {
            self.dirty.mark(page);
        }
    }

    /// Opening: takes over page `page` of the bit map, of the side that the superblock names.
    ///
    /// # Errors
    ///
    /// `Corrupt`: the page is not sound, or has bits of pages that there are not.
    pub fn load(&mut self, platform: &P, pool: u64, page: u64, bytes: &[u8]) -> Result<(), Fault> {
        let words = page::words(platform, bytes, pool, place(page))?;
        let (extent, _) = self.map_place(page).ok_or(bug!())?;
        let area = *self.areas.get(extent).ok_or(bug!())?;
        let first = page::first_word(page);
        let start = page.saturating_mul(PAGE_BITS);
        let before = bits::count(&self.used, start, PAGE_BITS);
        for (to, word) in self.used.iter_mut().skip(first).zip(words) {
            *to = word.get();
        }
        // Until `compare` has seen the other side, it is taken to differ.
        self.dirty.mark_other_side(page);
        let now = bits::count(&self.used, start, PAGE_BITS);
        self.free = self.free.saturating_add(before).saturating_sub(now);
        let beyond = start.max(area.end());
        let end = start.saturating_add(PAGE_BITS);
        if bits::count(&self.used, beyond, end.saturating_sub(beyond)) > 0 {
            return Err(Fault::Corrupt);
        }
        Ok(())
    }

    /// Opening: looks at page `page` of the other side, so that it need not be written if it is
    /// alike. Not to be called if it cannot be read.
    pub fn compare(&mut self, platform: &P, pool: u64, page: u64, bytes: &[u8]) {
        let Ok(words) = page::words(platform, bytes, pool, place(page)) else { return };
        let used = self.used.iter().skip(page::first_word(page));
        if used.zip(words).all(|(used, word)| *used == word.get()) {
            self.dirty.unmark_other_side(page);
        }
    }

    fn bit_of(&self, page: PageNo) -> Option<u64> {
        let within = |area: &Area| page.0.checked_sub(area.first).is_some_and(|n| n < area.pages);
        let area = self.areas().find(within)?;
        Some(area.bit().saturating_add(page.0.saturating_sub(area.first)))
    }

    fn page_of(&self, bit: u64) -> Option<PageNo> {
        let area = self.areas().find(|area| (area.bit()..area.end()).contains(&bit))?;
        Some(PageNo(area.first.saturating_add(bit.saturating_sub(area.bit()))))
    }
}

/// The place of a page of the metadata bit map.
const fn place(page: u64) -> Place {
    Place { page_type: TYPE_META_BITS, page }
}
