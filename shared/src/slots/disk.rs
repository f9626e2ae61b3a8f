// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The slot bit map on disk: what a checkpoint changes and writes, and how it is loaded.

use super::{bits, freed, page, Slots};
use crate::fault::Fault;
use crate::format::page::{Owner, Place, PAGE_BITS, TYPE_SLOT_BITS};
use crate::format::record::{Kind, Record};
use crate::platform::Platform;
use crate::units::Slot;

impl<P: Platform> Slots<P> {
    /// Checkpoint: a record of the frozen delta becomes part of it.
    ///
    /// # Errors
    ///
    /// `Corrupt`: there are no such slots.
    pub fn apply(&mut self, record: &Record) -> Result<(), Fault> {
        self.check(record)?;
        if record.kind != Kind::Free {
            self.keep(record.slot, u64::from(record.slots()));
            return Ok(());
        }
        for (first, len) in freed(record) {
            if bits::clear(&mut self.kept, first, len) > 0 {
                self.mark(first, len);
            }
        }
        Ok(())
    }

    /// Checkpoint: slots that hold metadata, of no record, become part of it.
    pub fn keep(&mut self, first: Slot, n: u64) {
        if bits::set(&mut self.kept, first.0, n) > 0 {
            self.mark(first.0, n);
        }
    }

    /// The first page of the bit map from `from` on that the checkpoint has to write.
    #[must_use]
    pub fn next_dirty(&self, from: u64) -> Option<u64> {
        self.dirty.next(from)
    }

    /// Fills `out`, 4096 bytes, with page `page` of the bit map.
    pub fn fill_page(&self, platform: &P, owner: &Owner, page: u64, out: &mut [u8]) {
        let words = self.kept.iter().skip(page::first_word(page)).copied();
        page::fill(platform, out, owner, place(page), words);
    }

    /// The superblock of the checkpoint is durable: the other side is to be written next.
    pub fn turn(&mut self) {
        self.dirty.turn();
    }

    /// A new pool: the first checkpoint has to write all pages, and so has the one after it.
    pub fn mark_all(&mut self) {
        for page in 0..self.pages() {
            self.dirty.mark(page);
        }
    }

    /// Opening: takes over page `page` of the side that the superblock names.
    ///
    /// # Errors
    ///
    /// `Corrupt`: the page is not sound, or has bits of slots that there are not.
    pub fn load(&mut self, platform: &P, pool: u64, page: u64, bytes: &[u8]) -> Result<(), Fault> {
        let words = page::words(platform, bytes, pool, place(page))?;
        let first = page::first_word(page);
        for (to, word) in self.kept.iter_mut().skip(first).zip(words) {
            *to = word.get();
        }
        for (to, word) in self.used.iter_mut().skip(first).zip(words) {
            *to = word.get();
        }
        // Until `compare` has seen the other side, it is taken to differ.
        self.dirty.mark_other_side(page);
        let start = page.saturating_mul(PAGE_BITS);
        let end = start.saturating_add(PAGE_BITS);
        let beyond = start.max(self.count).min(end);
        if bits::count(&self.used, beyond, end.saturating_sub(beyond)) > 0 {
            return Err(Fault::Corrupt);
        }
        self.recount(page);
        Ok(())
    }

    /// Opening: looks at page `page` of the other side, so that it need not be written if it is
    /// alike. Not to be called if it cannot be read.
    pub fn compare(&mut self, platform: &P, pool: u64, page: u64, bytes: &[u8]) {
        let Ok(words) = page::words(platform, bytes, pool, place(page)) else { return };
        let kept = self.kept.iter().skip(page::first_word(page));
        if kept.zip(words).all(|(kept, word)| *kept == word.get()) {
            self.dirty.unmark_other_side(page);
        }
    }

    /// Marks the pages of some slots dirty.
    fn mark(&mut self, first: u64, n: u64) {
        self.each_page(first, n, |slots, page, _, _| {
            slots.dirty.mark(u64::try_from(page).unwrap_or(u64::MAX));
        });
    }
}

/// The place of a page of the slot bit map.
const fn place(page: u64) -> Place {
    Place { page_type: TYPE_SLOT_BITS, page }
}
