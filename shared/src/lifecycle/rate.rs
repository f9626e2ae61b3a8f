// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How fast the merge of a restore may go, and how far its way is.

use crate::engine::Core;
use crate::format::entity::Entity;
use crate::lifecycle::merge::WORDS;
use crate::platform::Platform;

impl<P: Platform> Core<P> {
    /// Whether another word may begin: room, copy units, and the rate.
    pub(super) fn may_merge(&self) -> bool {
        let m = &self.lifecycle.merge;
        let rate = self.merge_rate();
        let spent = rate != u64::MAX && m.tokens <= 0 && !m.counting;
        let busy = m.words >= WORDS || self.units.left() < 192 || self.tasks.left() < 8;
        !(m.jobs.left() == 0
            || m.starved != 0
            || m.retry_ns > self.now_ns
            || (busy && m.words != 0)
            // Clients that wait for slots wait for the merge: it must not be slow, or paused.
            || (!self.space.full && (rate == 0 || spent)))
    }

    fn merge_rate(&self) -> u64 {
        let id = self.vols.at(self.lifecycle.merge.vol).id;
        self.catalog.get(id).and_then(Entity::restoring).map_or(0, |r| r.rate.get())
    }

    /// Whether a rate governs the words that are begun now.
    fn is_rated(&self) -> bool {
        self.merge_rate() != u64::MAX && !self.lifecycle.merge.counting && !self.space.full
    }

    /// Takes the bytes of a word that is begun out of what the rate allows: all of them, because
    /// many words begin before the first of them knows which of its chunks it will copy.
    pub(super) fn spend_word(&mut self) {
        if self.is_rated() {
            let bytes = self.bytes_of(64);
            let m = &mut self.lifecycle.merge;
            m.tokens = m.tokens.saturating_sub(bytes);
        }
    }

    /// So many chunks of a word are not copied.
    pub(super) fn give_back(&mut self, chunks: u32) {
        if self.is_rated() {
            let bytes = self.bytes_of(chunks);
            let m = &mut self.lifecycle.merge;
            m.tokens = m.tokens.saturating_add(bytes);
        }
    }

    fn bytes_of(&self, chunks: u32) -> i64 {
        i64::from(chunks) << self.geometry.shift()
    }

    /// The clock has moved: the rate allows some more.
    pub(crate) fn tick_merge(&mut self) {
        let rate = self.merge_rate();
        let m = &mut self.lifecycle.merge;
        if !m.is_active() {
            return;
        }
        if rate == u64::MAX {
            m.tokens = 0;
            return self.wake_plan();
        }
        let passed_us = self.now_ns.saturating_sub(m.last_ns).min(1_000_000_000) / 1000;
        m.last_ns = self.now_ns;
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let more = rate.saturating_mul(passed_us) / 1_000_000;
        m.tokens = m.tokens.saturating_add(signed(more)).min(signed(rate));
        self.wake_plan();
    }

    /// Ends a word that was only looked at: of these chunks, some are still to be settled.
    #[inline(never)]
    pub(super) fn count_word(&mut self, t: u32, all: u64, to_do: u64) {
        let bytes = |mask: u64| u64::from(mask.count_ones()) << self.geometry.shift();
        let (all, settled) = (bytes(all), bytes(all & !to_do));
        let m = &mut self.lifecycle.merge;
        m.total = m.total.saturating_add(all);
        m.done = m.done.saturating_add(settled);
        self.end_word(t, false);
    }
}
