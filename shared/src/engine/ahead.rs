// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Copying ahead of first writes: the rest of a copy span that is larger than a word, and what lies
//! before a stream of writes.
//!
//! A write copies in its own word alone. For other words it starts tasks that copy and write
//! nothing. They are never waited for: one that finds its chunks claimed, the volume held or
//! restoring, no slot, or old data that cannot be read, just ends, and the write that comes later
//! sees to it. So that a moment never meets one half way they count among the volume's writes.

use crate::engine::task::{Job, Stage};
use crate::engine::view::View;
use crate::engine::{Core, NONE};
use crate::platform::Platform;
use crate::units::{bit_range, Epoch, Word};

/// First writes in a row, each from where the one before ended, that make a stream.
const STREAM: u32 = 2;

impl<P: Platform> Core<P> {
    /// Notes a first write to the chunks `want`; gives what to copy with it because it is one of a
    /// stream: the rest of its word.
    pub(crate) fn note_stream(&mut self, t: u32, want: u64) -> u64 {
        let (vol, word) = (self.vol_of(t), self.tasks.at(t).word);
        let first = want.trailing_zeros().min(63);
        let end = word.chunk(want.checked_ilog2().unwrap_or(0)).0.saturating_add(1);
        let idle = self.may_copy_ahead();
        let v = self.vols.at_mut(vol);
        let follows = v.last_end == word.chunk(first).0 && want != 0;
        v.streak = if follows { v.streak.saturating_add(1) } else { 0 };
        v.last_end = end;
        if v.streak < STREAM || v.redirect.is_some() || !idle {
            return 0;
        }
        v.last_end = Word(word.0.saturating_add(2)).chunk(0).0;
        self.start_ahead(vol, word.next());
        bit_range(first, 64)
    }

    /// Copies the other words of the span that a first write to `word` lies in.
    pub(crate) fn copy_span(&mut self, t: u32) {
        let (vol, word) = (self.vol_of(t), self.tasks.at(t).word);
        let words = u64::from(self.span_chunks >> 6);
        if words < 2 || self.vols.at(vol).redirect.is_some() {
            return;
        }
        let from = word.0 & !words.saturating_sub(1);
        for other in from..from.saturating_add(words) {
            if other != word.0 && self.may_copy_ahead() {
                self.start_ahead(vol, Word(other));
            }
        }
    }

    /// Whether there is enough of everything to spend some on what nobody asked for.
    fn may_copy_ahead(&self) -> bool {
        let tasks = self.tasks.left() > self.tasks_reserved.saturating_add(self.tasks.len() / 4);
        // A quarter of the slots is left to those who ask for them.
        let free = self.slots.available_to(0).saturating_mul(4) > self.slots.count();
        let space = !self.space.full && free;
        tasks && space && self.units.left() >= 256 && self.steps.room() >= 256
    }

    fn start_ahead(&mut self, v: u32, word: Word) {
        let vol = self.vols.at(v);
        let (id, size, newest) = (vol.id, vol.size, vol.newest);
        let mask = self.inside(word, size);
        let known = vol.fast.as_ref().map_or(u64::MAX, |fast| fast.copied(word, newest));
        if mask & !known == 0 || newest == Epoch(0) {
            return;
        }
        if self.vols.at(v).ahead == NONE {
            let Some(view) = self.views.take() else { return };
            *self.views.at_mut(view) = View { id, vol: v, size, ..View::FREE };
            self.vols.at_mut(v).ahead = view;
        }
        let view = self.vols.at(v).ahead;
        let Some(t) = self.tasks.take() else { return };
        let task = self.tasks.at_mut(t);
        task.renew(Job::Ahead, view);
        task.word = word;
        task.mask = mask & !known;
        task.counted = true;
        let vol = self.vols.at_mut(v);
        vol.writes = vol.writes.saturating_add(1);
        self.ready(t);
    }

    /// Runs a copy ahead from its stage.
    #[inline(never)]
    pub(crate) fn run_ahead(&mut self, t: u32) {
        let task = self.tasks.at(t);
        if task.io != 0 {
            return;
        }
        if task.fault.is_some() {
            return self.finish_task(t);
        }
        match task.stage {
            Stage::Begin => self.begin_ahead(t),
            Stage::Lookup => self.copy_lookup(t),
            Stage::Fill => self.read_old(t),
            Stage::Commit if task.lost != 0 => self.finish_task(t),
            Stage::Commit => self.queue_copy(t),
            Stage::Gate => self.pass_gate(t),
            _ => self.finish_task(t),
        }
    }

    fn begin_ahead(&mut self, t: u32) {
        let vol = self.vols.at(self.vol_of(t));
        let (map, newest) = (vol.map, vol.newest);
        let still = vol.hold || vol.redirect.is_some() || vol.lowers.is_some();
        let (word, mut all) = (self.tasks.at(t).word, self.tasks.at(t).mask);
        for b in 0..64 {
            if self.claims.locked(map, word, all & bit_range(b, 1)) {
                all &= !bit_range(b, 1);
            }
        }
        let stop = still || self.fenced.is_some() || self.closing || !self.space_state_ok();
        if stop || newest == Epoch(0) || all == 0 || self.units.left() < 128 {
            return self.finish_task(t);
        }
        let Some(lock) = self.claims.lock(map, word, all) else { return self.finish_task(t) };
        let task = self.tasks.at_mut(t);
        task.lock = lock;
        task.epoch = newest;
        task.need = all;
        task.stage = Stage::Lookup;
        self.copy_lookup(t);
    }

    /// Takes what copies ahead out of the queue of copies: there are no slots for it.
    pub(crate) fn drop_ahead(&mut self) {
        let mut copies = core::mem::take(&mut self.commit.copies);
        while let Some(t) = self.tasks.pop(&mut copies) {
            if self.tasks.at(t).job == Job::Ahead {
                self.commit.copy_count = self.commit.copy_count.saturating_sub(1);
                self.tasks.at_mut(t).queued = false;
                self.finish_task(t);
            } else {
                self.tasks.push(&mut self.commit.copies, t);
            }
        }
    }
}
