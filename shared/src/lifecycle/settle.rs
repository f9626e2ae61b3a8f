// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Merging one word: copy home, flush, settle.
//!
//! | step | what |
//! |---|---|
//! | 0, 1 | find what M and X have of the word; choose the chunks of this pass |
//! | 8 | find whose old versions were handed over before (`compose.rs`) |
//! | 2 | save the chunks in place for the newest snapshot before R, if it lacks them; gate |
//! | 3 | read what the chunks read as now, and X's data where M has hidden it |
//! | 4 | write the first in place, the second to slots that R will keep |
//! | 5, 6 | flush both devices, together with other words |
//! | 6 | one group of records (`compose.rs`) settles the chunks not written since step 3 (I-17) |
//! | 7 | it is durable: the chunks are in place from here on |

use crate::api::Step;
use crate::engine::{
    Core, Dir, Level, Levels, Owner, Piece, Place, Stage, Stop, Task, What, NONE, SEGS,
};
use crate::format::entity::Entity;
use crate::lifecycle::compose::RECORDS;
use crate::lifecycle::merge::Job64;
use crate::lifecycle::RETRY_NS;
use crate::map::Miss;
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::{bit, runs, Dev, Epoch, MapId, Slot, Word};

impl<P: Platform> Core<P> {
    pub(super) fn job(&mut self, t: u32) -> &mut Job64 {
        let j = self.tasks.at(t).aux;
        self.lifecycle.merge.jobs.at_mut(j)
    }

    fn task_and_job(&mut self, t: u32) -> (&Task, &mut Job64) {
        let task = self.tasks.at(t);
        (task, self.lifecycle.merge.jobs.at_mut(task.aux))
    }

    /// Runs the merge of a word from its stage.
    #[inline(never)]
    pub(crate) fn run_merge(&mut self, t: u32) {
        if self.tasks.at(t).io != 0 {
            return;
        }
        let broken = self.fenced.is_some() || self.lifecycle.merge.is_stopping();
        let durable = self.tasks.at(t).stage == Stage::Step(7);
        if self.tasks.at(t).fault.is_some() || (broken && !durable) {
            return self.end_word(t, true);
        }
        match self.tasks.at(t).stage {
            Stage::Begin => self.find_own(t),
            Stage::Step(1) => self.find_x(t),
            Stage::Step(2) | Stage::Lookup => self.find_saved(t),
            Stage::Fill => self.read_old(t),
            Stage::Commit => self.queue_copy(t),
            Stage::Gate => self.word_gate(t),
            Stage::Step(3) => self.read_home(t),
            Stage::Step(4) => self.write_home(t),
            Stage::Step(5) => self.join_merge_flush(t),
            Stage::Step(6) => self.settle(t),
            Stage::Step(8) => self.find_handed(t),
            _ => self.settled(t),
        }
    }

    /// Ends the word's task; `again`: some of its chunks have to go round again.
    #[inline(never)]
    pub(crate) fn end_word(&mut self, t: u32, again: bool) {
        if self.tasks.at(t).fault.is_some() {
            self.lifecycle.merge.retry_ns = self.now_ns.saturating_add(RETRY_NS);
        }
        let j = self.tasks.at(t).aux;
        let (units, count) = {
            let job = self.job(t);
            job.word = Word(u64::MAX);
            (job.x_units, core::mem::take(&mut job.x_count))
        };
        if count != 0 {
            self.units.free(units, count);
        }
        let keeps = core::mem::take(&mut self.job(t).keeps);
        for (first, len) in runs(keeps) {
            for b in first..first.saturating_add(len) {
                let slot = kept(self.job(t), b);
                self.release_slots(slot, 1);
            }
        }
        self.lifecycle.merge.jobs.give(j);
        let m = &mut self.lifecycle.merge;
        m.words = m.words.saturating_sub(1);
        if again {
            m.again = true;
            m.retried = m.retried.saturating_add(1);
        }
        self.release_all(t);
        self.free_task(t);
        self.wake_plan();
        self.merge_ended();
    }

    fn find_own(&mut self, t: u32) {
        let vol = self.vols.at(self.lifecycle.merge.vol);
        let mask = self.inside(self.tasks.at(t).word, vol.size);
        self.tasks.at_mut(t).mask = mask;
        match self.look_up(t, mask, Levels::Own) {
            Err(Stop::Waits) => return,
            Err(Stop::Fault(fault)) => return self.fail_task(t, fault),
            Ok(()) => {}
        }
        let (task, job) = self.task_and_job(t);
        job.own = task.places;
        self.tasks.at_mut(t).stage = Stage::Step(1);
        self.find_x(t);
    }

    fn find_x(&mut self, t: u32) {
        let mask = self.tasks.at(t).mask;
        match self.look_up(t, mask, Levels::Base) {
            Err(Stop::Waits) => return,
            Err(Stop::Fault(fault)) => return self.fail_task(t, fault),
            Ok(()) => {}
        }
        let level = self.lifecycle.merge.level;
        let (task, job) = self.task_and_job(t);
        job.x = task.places;
        if task.placed(mask, |w| w == What::Lost) != 0 {
            self.lost_of_x();
        }
        let vol = self.vols.at(self.lifecycle.merge.vol);
        let m = vol.redirect.unwrap_or_default();
        let word = self.tasks.at(t).word;
        let (mut set, mut in_m) = (0, 0);
        let (mut all, mut to_do) = (0, 0);
        let mut skipped = false;
        for b in 0..64 {
            let x = self.tasks.at(t).place(b);
            let own = self.job(t).own.get(b);
            let home = x.what == What::Unset || x.what.in_place();
            if mask & bit(b) == 0 || home || x.level != level || x.what == What::Lost {
                continue;
            }
            all |= bit(b);
            if own.what == What::Settled {
                continue;
            }
            to_do |= bit(b);
            if self.claims.locked(m, word, bit(b)) || self.job(t).touched & bit(b) != 0 {
                skipped = true;
                continue;
            }
            set |= bit(b);
            in_m |= if own.what == What::Unset { 0 } else { bit(b) };
        }
        if self.lifecycle.merge.counting {
            return self.count_word(t, all, to_do);
        }
        (self.job(t).set, self.job(t).in_m) = (set, in_m);
        self.give_back(set.count_zeros());
        if set == 0 {
            return self.end_word(t, skipped);
        }
        self.lifecycle.merge.again |= skipped;
        self.find_handed(t);
    }

    /// Some of X is lost: production keeps what it has there, and R is marked as damaged.
    #[inline(never)]
    fn lost_of_x(&mut self) {
        let vol = self.vols.at(self.lifecycle.merge.vol);
        let (map, id) = (vol.map, vol.id);
        let restore = self.catalog.get(id).and_then(Entity::restoring);
        if let Some(epoch) = restore.map(|r| Epoch(r.r_epoch.get())) {
            self.note_damage(map, epoch);
        }
    }

    #[inline(never)]
    pub(super) fn lock_to_save(&mut self, t: u32) {
        let set = self.job(t).set;
        let map = self.vols.at(self.lifecycle.merge.vol).map;
        let word = self.tasks.at(t).word;
        self.tasks.at_mut(t).stage = Stage::Step(2);
        match self.claims.lock(map, word, set) {
            Some(lock) => {
                self.tasks.at_mut(t).lock = lock;
                self.tasks.at_mut(t).need = set;
                self.find_saved(t);
            }
            None => self.wait_for_claim(t, map, word),
        }
    }

    /// Step 2: which chunks does the newest snapshot before R lack?
    fn find_saved(&mut self, t: u32) {
        if self.tasks.at(t).lock == NONE {
            return self.lock_to_save(t);
        }
        let vol = self.vols.at(self.lifecycle.merge.vol);
        let (map, id) = (vol.map, vol.id);
        let Some(r) = self.catalog.get(id).and_then(Entity::restoring).copied() else {
            return self.end_word(t, false);
        };
        let lo = self.epoch_to_save(&r);
        let level = Level { map, lo, hi: Epoch(r.r_epoch.get()).prev(), dir: Dir::First };
        let set = self.job(t).set;
        match self.look_up(t, set, Levels::One(level)) {
            Err(Stop::Waits) => return,
            Err(Stop::Fault(fault)) => return self.fail_task(t, fault),
            Ok(()) => {}
        }
        let task = self.tasks.at_mut(t);
        task.need = set & !task.placed(set, |w| w != What::Unset);
        task.epoch = lo;
        if task.need == 0 || lo == Epoch(0) {
            if self.are_gone_for_good(t) {
                self.tasks.at_mut(t).stage = Stage::Gate;
                self.word_gate(t);
            }
            return;
        }
        task.stage = Stage::Fill;
        self.read_old(t);
    }

    /// The old data is safe. Readers in place must be gone before it is overwritten.
    fn word_gate(&mut self, t: u32) {
        self.free_old(t);
        self.end_copying(t);
        self.tasks.at_mut(t).lost = 0;
        let set = self.job(t).set;
        let map = self.vols.at(self.lifecycle.merge.vol).map;
        let word = self.tasks.at(t).word;
        if self.claims.shared(map, word, set) && !self.mutant(Mutant::NoGate) {
            return self.wait_for_claim(t, map, word);
        }
        self.unlock(t);
        self.tasks.at_mut(t).stage = Stage::Step(3);
        self.read_home(t);
    }

    /// Step 3: reads what goes home, and what R keeps.
    fn read_home(&mut self, t: u32) {
        let in_m = self.job(t).in_m;
        let (live, xs) = self.sources(t);
        let read = self.restore_now().is_some_and(|r| self.is_r_read(&r));
        let keeps = if read { in_m & xs & !self.job(t).handed } else { 0 };
        if self.steps.room() < 140 {
            return self.wait_for_steps(t);
        }
        if self.units.left() < live.count_ones().saturating_add(keeps.count_ones()) {
            return self.wait_for_units(t);
        }
        if !self.give_kept_slots(t, keeps) {
            return;
        }
        self.count_slot_io(t);
        if live != 0 {
            let Some(units) = self.units.chain(live.count_ones()) else { return };
            let task = self.tasks.at_mut(t);
            task.units = units;
            task.unit_count = live.count_ones();
            self.read_slots(t, live, units, true);
        }
        if keeps != 0 {
            let Some(units) = self.units.chain(keeps.count_ones()) else { return };
            self.job(t).x_units = units;
            self.job(t).x_count = keeps.count_ones();
            self.read_slots(t, keeps, units, false);
        }
        self.tasks.at_mut(t).stage = Stage::Step(4);
        if self.tasks.at(t).io == 0 {
            self.write_home(t);
        }
    }

    fn locked_chunks(&self, map: MapId, word: Word, set: u64) -> u64 {
        let locked = |b: &u64| set & b != 0 && self.claims.locked(map, word, *b);
        (0..64).map(bit).filter(locked).fold(0, |all, b| all | b)
    }

    /// The chunks whose live data lies in slots, and those whose data in X does.
    fn sources(&mut self, t: u32) -> (u64, u64) {
        let job = self.job(t);
        let (mut live, mut xs) = (0, 0);
        for b in 0..64 {
            if job.set & bit(b) == 0 {
                continue;
            }
            live |= if source(job, b).what.in_slot() { bit(b) } else { 0 };
            xs |= if job.x.get(b).what.in_slot() { bit(b) } else { 0 };
        }
        (live, xs)
    }

    /// Gives slots to the chunks whose data in X R has to keep; false if there are none, and the
    /// word's task has ended.
    fn give_kept_slots(&mut self, t: u32, keeps: u64) -> bool {
        let mut left = keeps & !self.job(t).keeps;
        while left != 0 {
            let Some((slot, n)) = self.take_slots_to_restore(left.count_ones()) else {
                self.starve_merge(t, u64::from(left.count_ones()));
                return false;
            };
            for i in 0..u64::from(n) {
                let b = left.trailing_zeros();
                left &= !bit(b);
                let job = self.job(t);
                job.keeps |= bit(b);
                if let Some(k) = usize::try_from(b).ok().and_then(|b| job.kept.get_mut(b)) {
                    *k = slot.plus(i);
                }
            }
        }
        true
    }

    /// Reads slots into a chain of units: the live data of chunks, or X's.
    fn read_slots(&mut self, t: u32, mask: u64, units: u32, live: bool) {
        let mut unit = units;
        let mut left = mask;
        while left != 0 {
            let first = left.trailing_zeros();
            let pick = |job: &Job64, b: u32| {
                if live {
                    source(job, b).slot
                } else {
                    job.x.get(b).slot
                }
            };
            let slot = pick(self.job(t), first);
            let mut n = 1u32;
            left &= !bit(first);
            while left != 0 {
                let next = left.trailing_zeros();
                if pick(self.job(t), next) != slot.plus(u64::from(n)) {
                    break;
                }
                left &= !bit(next);
                n = n.saturating_add(1);
            }
            let pieces = chain(unit, n, self.geometry.chunk_bytes());
            let at = self.slot_byte(slot);
            let len = n << self.geometry.shift();
            self.open_step(Owner::Task(t), Step::Read { dev: Dev::SAVE, at, len }, pieces, 0);
            unit = self.units.nth(unit, n);
        }
    }

    /// Step 4: writes home what was read, and R's slots.
    fn write_home(&mut self, t: u32) {
        if self.steps.room() < 140 {
            return self.wait_for_steps(t);
        }
        self.tasks.at_mut(t).stage = Stage::Step(5);
        let (live, _) = self.sources(t);
        let set = self.job(t).set;
        let units = self.tasks.at(t).units;
        self.write_data(t, live, units);
        self.write_zeros(t, set & !live);
        let (mut left, mut unit) = (self.job(t).keeps, self.job(t).x_units);
        while left != 0 {
            let first = left.trailing_zeros();
            let slot = kept(self.job(t), first);
            let mut n = 1u32;
            left &= !bit(first);
            while left != 0 && kept(self.job(t), left.trailing_zeros()) == slot.plus(u64::from(n)) {
                left &= left.wrapping_sub(1);
                n = n.saturating_add(1);
            }
            let pieces = chain(unit, n, self.geometry.chunk_bytes());
            let at = self.slot_byte(slot);
            let len = n << self.geometry.shift();
            let step = Step::Write { dev: Dev::SAVE, at, len, fua: false };
            self.open_step(Owner::Task(t), step, pieces, 0);
            unit = self.units.nth(unit, n);
        }
        if self.tasks.at(t).io == 0 {
            self.join_merge_flush(t);
        }
    }

    fn write_data(&mut self, t: u32, live: u64, units: u32) {
        let vol = self.vols.at(self.lifecycle.merge.vol);
        let (dev, size) = (vol.dev, vol.size);
        let mut unit = units;
        for (first, n) in runs(live) {
            let at = self.geometry.byte_of(self.tasks.at(t).word.chunk(first));
            let whole = u64::from(n) << self.geometry.shift();
            let len = u32::try_from(whole.min(size.saturating_sub(at))).unwrap_or(0);
            let last = len.saturating_sub(n.saturating_sub(1) << self.geometry.shift());
            let step = Step::Write { dev, at, len, fua: false };
            self.open_step(Owner::Task(t), step, chain(unit, n, last), 0);
            unit = self.units.nth(unit, n);
        }
    }

    fn write_zeros(&mut self, t: u32, zeros: u64) {
        let vol = self.vols.at(self.lifecycle.merge.vol);
        let (dev, size) = (vol.dev, vol.size);
        for (first, n) in runs(zeros) {
            let at = self.geometry.byte_of(self.tasks.at(t).word.chunk(first));
            let whole = u64::from(n) << self.geometry.shift();
            let len = whole.min(size.saturating_sub(at));
            let step = Step::Zero { dev, at, len, fua: false };
            self.open_step(Owner::Task(t), step, [Piece::None; SEGS], 0);
        }
    }

    /// Step 6: all is durable; settles the chunks that were not written meanwhile.
    fn settle(&mut self, t: u32) {
        let Some(m) = self.vols.at(self.lifecycle.merge.vol).redirect else {
            return self.end_word(t, false);
        };
        let word = self.tasks.at(t).word;
        let (mut set, touched) = (self.job(t).set, self.job(t).touched);
        if !self.mutant(Mutant::SettleWritten) {
            set &= !touched & !self.locked_chunks(m, word, set);
        }
        if set == 0 {
            return self.end_word(t, true);
        }
        // Looked at once for its pages, then for good.
        let until = match self.part_to_settle(t, m, set) {
            Ok(until) => until,
            Err(Miss::Page(page)) => {
                if let Stop::Fault(fault) = self.wait_for_page(t, page) {
                    self.fence(fault);
                }
                return;
            }
            Err(Miss::Fault(fault)) => {
                self.fence(fault);
                return self.end_word(t, true);
            }
        };
        if !self.log_has_room(RECORDS) {
            return self.wait_for_room(t);
        }
        if let Err(miss) = self.compose(t, m, set, until) {
            self.fence(if let Miss::Fault(fault) = miss { fault } else { crate::bug!() });
            return self.end_word(t, true);
        }
        self.end_walk(t);
        if until.is_some() {
            return self.ready(t);
        }
        let again = set != self.job(t).set;
        self.job(t).set = set;
        self.lifecycle.merge.again |= again;
        if let Some(lock) = self.claims.lock(m, word, set) {
            self.tasks.at_mut(t).lock_new = lock;
        }
        self.versions.bump(word);
        self.tasks.at_mut(t).stage = Stage::Step(7);
        let pos = self.log.last();
        self.wait_durable(t, pos);
    }

    /// Step 7: the records are durable.
    fn settled(&mut self, t: u32) {
        let set = self.job(t).set;
        let word = self.tasks.at(t).word;
        let vol = self.lifecycle.merge.vol;
        if self.vols.at(vol).redirect.is_some() {
            if let Some(fast) = &self.vols.at(vol).fast {
                fast.mark_settled(word, set);
            }
        }
        let bytes = u64::from(set.count_ones()) << self.geometry.shift();
        self.lifecycle.merge.done = self.lifecycle.merge.done.saturating_add(bytes);
        self.end_word(t, false);
        self.wake_unsettled();
    }
}

/// What a chunk reads as now: M's data, else X's.
fn source(job: &Job64, b: u32) -> Place {
    let own = job.own.get(b);
    if own.what == What::Unset {
        job.x.get(b)
    } else {
        own
    }
}

pub(super) fn kept(job: &Job64, b: u32) -> Slot {
    usize::try_from(b).ok().and_then(|b| job.kept.get(b)).copied().unwrap_or_default()
}

fn chain(unit: u32, n: u32, last: u32) -> [Piece; SEGS] {
    [Piece::Chain(unit, n, last), Piece::None, Piece::None, Piece::None]
}
