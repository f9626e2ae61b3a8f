// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writing production in place: the first write to a chunk copies its old data.
//!
//! Begin: claim the chunks that may need copying. Lookup: which of them have no record of the
//! newest epoch or later? Fill: read those. Commit: slots, record and one flush, together with all
//! that came meanwhile. Gate: wait for readers in place, then set the bits (I-1). Last: the write
//! itself. A snapshot that was taken on the way makes the task begin again under its epoch.

use crate::api::{Op, Step};
use crate::engine::places::What;
use crate::engine::step::{Owner, Piece, SEGS};
use crate::engine::task::{Job, Stage};
use crate::engine::view::{Dir, Level};
use crate::engine::walk::{Levels, Stop};
use crate::engine::Core;
use crate::fault::Fault;
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::{bit_range, runs, Dev, Epoch};

/// Tag of a read of old data: what it cannot read is lost for the snapshots alone.
pub(crate) const OLD: u64 = 1 << 63;

impl<P: Platform> Core<P> {
    /// Begins a write, discard or zero of production that goes in place.
    pub(crate) fn begin_copy(&mut self, t: u32) {
        let vol = self.vol_of(t);
        let newest = self.vols.at(vol).newest;
        let task = self.tasks.at_mut(t);
        task.epoch = newest;
        if task.op == Op::Discard {
            self.whole_discard(t, newest);
        }
        let want = self.uncopied(t, newest);
        if newest == Epoch(0) || want == 0 {
            return self.write_in_place(t);
        }
        self.lock_to_copy(t, want);
    }

    /// The chunks that the task writes in place and that are not known to be copied at `newest`.
    pub(crate) fn uncopied(&self, t: u32, newest: Epoch) -> u64 {
        let task = self.tasks.at(t);
        let vol = self.vols.at(self.vol_of(t));
        let known = vol.fast.as_ref().map_or(0, |fast| fast.copied(task.word, newest));
        task.in_place & !known
    }

    /// Claims `want`, and the rest of its copy span as far as it is free.
    fn lock_to_copy(&mut self, t: u32, want: u64) {
        let vol = self.vol_of(t);
        let map = self.vols.at(vol).map;
        let word = self.tasks.at(t).word;
        if self.claims.locked(map, word, want) {
            return self.wait_for_claim(t, map, word);
        }
        let mut all = want;
        let stream = self.note_stream(t, want);
        for (first, len) in runs(self.span_of(t, want, stream) & !want) {
            for bit in first..first.saturating_add(len) {
                let one = bit_range(bit, 1);
                if !self.claims.locked(map, word, one) {
                    all |= one;
                }
            }
        }
        let Some(lock) = self.claims.lock(map, word, all) else {
            return self.wait_for_claim(t, map, word);
        };
        let task = self.tasks.at_mut(t);
        task.lock = lock;
        task.need = all;
        task.stage = Stage::Lookup;
        self.copy_span(t);
        self.copy_lookup(t);
    }

    /// The copy spans that `want` touches and what is copied ahead of it in its word, inside the
    /// volume and without restoring chunks or those known to be copied.
    fn span_of(&self, t: u32, want: u64, stream: u64) -> u64 {
        let task = self.tasks.at(t);
        let vol = self.vols.at(self.vol_of(t));
        let span = self.span_chunks.min(64);
        if (span <= 1 && stream == 0) || vol.redirect.is_some() {
            return want;
        }
        let mut out = stream;
        for (first, len) in runs(want) {
            let from = first & !span.saturating_sub(1);
            let last = first.saturating_add(len).saturating_sub(1) | span.saturating_sub(1);
            out |= bit_range(from, last.saturating_sub(from).saturating_add(1));
        }
        let known = vol.fast.as_ref().map_or(0, |fast| fast.copied(task.word, task.epoch));
        out & self.inside(task.word, vol.size) & !known
    }

    /// Looks which of the claimed chunks have a record already.
    pub(crate) fn copy_lookup(&mut self, t: u32) {
        let need = self.tasks.at(t).need;
        let (map, lo) = (self.vols.at(self.vol_of(t)).map, self.tasks.at(t).epoch);
        let level = Level { map, lo, hi: Epoch(u32::MAX), dir: Dir::First };
        match self.look_up(t, need, Levels::One(level)) {
            Err(Stop::Waits) => return,
            Err(Stop::Fault(fault)) => return self.fail_task(t, fault),
            Ok(()) => {}
        }
        let vol = self.vol_of(t);
        let task = self.tasks.at_mut(t);
        let have = task.placed(need, |w| w != What::Unset);
        task.need &= !have;
        let (word, epoch, need) = (task.word, task.epoch, task.need);
        if let Some(fast) = &self.vols.at(vol).fast {
            fast.mark_copied(word, have, epoch);
        }
        if need == 0 {
            self.unlock(t);
            return self.write_in_place(t);
        }
        self.tasks.at_mut(t).stage = Stage::Fill;
        self.read_old(t);
    }

    /// Reads the old data of `Task::need` into copy units.
    pub(crate) fn read_old(&mut self, t: u32) {
        let need = self.tasks.at(t).need;
        if self.tasks.at(t).unit_count == 0 {
            let n = need.count_ones();
            let Some(units) = self.units.chain(n) else { return self.wait_for_units(t) };
            let task = self.tasks.at_mut(t);
            task.units = units;
            task.unit_count = n;
            task.lost = 0;
        }
        if self.steps.room() < 66 {
            return self.wait_for_steps(t);
        }
        let vol = self.vols.at(self.vol_of(t));
        let (dev, size) = (vol.dev, vol.size);
        let mut unit = self.tasks.at(t).units;
        for (first, len) in runs(need) {
            let chunk = self.tasks.at(t).word.chunk(first);
            let at = self.geometry.byte_of(chunk);
            let whole = u64::from(len) << self.geometry.shift();
            let bytes = u32::try_from(whole.min(size.saturating_sub(at))).unwrap_or(0);
            let last = bytes.saturating_sub(len.saturating_sub(1) << self.geometry.shift());
            let mut pieces = [Piece::None; SEGS];
            if let Some(piece) = pieces.first_mut() {
                *piece = Piece::Chain(unit, len, last);
            }
            let step = Step::Read { dev, at, len: bytes };
            let tag = OLD | u64::from(len << 8) | u64::from(first);
            self.open_step(Owner::Task(t), step, pieces, tag);
            unit = self.units.nth(unit, len);
        }
        self.tasks.at_mut(t).stage = Stage::Commit;
    }

    /// The old data is there: into the commit pipeline.
    pub(crate) fn queue_copy(&mut self, t: u32) {
        if self.fenced.is_some() {
            return self.end_fenced(t);
        }
        if self.mutant(Mutant::BitBeforeRecord) {
            let task = self.tasks.at(t);
            if let Some(fast) = &self.vols.at(self.vol_of(t)).fast {
                fast.mark_copied(task.word, task.need, task.epoch);
            }
        }
        self.tasks.at_mut(t).stage = Stage::Gate;
        self.tasks.push(&mut self.commit.copies, t);
        self.tasks.at_mut(t).queued = true;
        self.commit.copy_count = self.commit.copy_count.saturating_add(1);
        self.commit.wanted = true;
    }

    /// The records are durable. Readers in place of the chunks must be gone before the bits say
    /// that they may be overwritten.
    pub(crate) fn pass_gate(&mut self, t: u32) {
        let vol = self.vol_of(t);
        let task = self.tasks.at(t);
        let (word, need, epoch) = (task.word, task.need, task.epoch);
        let map = self.vols.at(vol).map;
        self.free_old(t);
        self.end_copying(t);
        if self.claims.shared(map, word, need) && !self.mutant(Mutant::NoGate) {
            return self.wait_for_claim(t, map, word);
        }
        if let Some(fast) = &self.vols.at(vol).fast {
            fast.mark_copied(word, need, epoch);
        }
        self.tasks.at_mut(t).need = 0;
        self.unlock(t);
        self.write_in_place(t);
    }

    /// All chunks that the task writes in place are copied, unless a snapshot was taken meanwhile.
    pub(crate) fn write_in_place(&mut self, t: u32) {
        if self.tasks.at(t).job == Job::Ahead {
            return self.finish_task(t);
        }
        let vol = self.vol_of(t);
        let stale = self.vols.at(vol).newest != self.tasks.at(t).epoch;
        let lost = self.views.at(self.tasks.at(t).view).lost;
        if lost || self.vols.at(vol).hold || (stale && !self.mutant(Mutant::StaleEpoch)) {
            return self.begin_again(t);
        }
        self.write_all(t);
    }

    /// Gives out the steps for the bytes that go in place.
    pub(crate) fn emit_in_place(&mut self, t: u32) {
        let vol = self.vols.at(self.vol_of(t));
        let (dev, size) = (vol.dev, vol.size);
        let task = self.tasks.at(t);
        let (op, cookie, word) = (task.op, task.cookie, task.word);
        let (from, to) = (task.at, task.at.saturating_add(task.len));
        let shift = self.geometry.shift();
        for (first, len) in runs(task.in_place) {
            let lo = from.max(first << shift);
            let hi = to.min(first.saturating_add(len) << shift);
            let at = self.geometry.byte_of(word.chunk(0)).saturating_add(u64::from(lo));
            let bytes = hi.saturating_sub(lo);
            if at.saturating_add(u64::from(bytes)) > size {
                self.tasks.at_mut(t).fail(Fault::Range);
                continue;
            }
            let mut pieces = [Piece::None; SEGS];
            let step = match op {
                Op::Zero { fua } => Step::Zero { dev, at, len: u64::from(bytes), fua },
                Op::Discard => Step::Discard { dev, at, len: u64::from(bytes) },
                _ => {
                    if let Some(piece) = pieces.first_mut() {
                        *piece = Piece::Client(cookie, lo.saturating_sub(from), bytes);
                    }
                    let fua = op == Op::Write { fua: true };
                    Step::Write { dev, at, len: bytes, fua }
                }
            };
            self.open_step(Owner::Task(t), step, pieces, 0);
        }
    }

    /// The whole chunks that a discard is about. A discard is advice and must not fill the save
    /// volume: what is not copied stays, unless the pool says that it be copied first.
    fn whole_discard(&mut self, t: u32, newest: Epoch) {
        let mut chunks = self.tasks.at(t).in_place & self.covered(t);
        if newest != Epoch(0) && self.superblock.discard.get() == 0 {
            chunks &= !self.uncopied(t, newest);
        }
        self.tasks.at_mut(t).in_place = chunks;
    }

    /// The chunks of a word that lie inside a volume of `size` bytes.
    pub(crate) fn inside(&self, word: crate::units::Word, size: u64) -> u64 {
        let chunks = self.geometry.chunks_for(size).saturating_sub(word.chunk(0).0);
        crate::units::low_bits(u32::try_from(chunks.min(64)).unwrap_or(64))
    }

    /// The device of a production by its number.
    pub(crate) fn vol_by_dev(&self, dev: Dev) -> Option<u32> {
        (0..self.vols.top()).find(|&v| {
            let vol = self.vols.at(v);
            vol.live && !vol.clone && vol.dev == dev
        })
    }
}
