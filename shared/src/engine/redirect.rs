// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Writing a clone, or the unsettled chunks of a production that is being restored: new data goes
//! to slots of their own.
//!
//! Begin: claim the chunks in the redirect map. Lookup: which have a slot that no snapshot shares?
//! Those are overwritten in it. LookupBase, Fill: for chunks written in part, their base's data.
//! Then, if some chunks are settled, those go the way of `cow.rs`. Last: the data is on its way;
//! when it is complete the new records go into the fresh delta, and into the log with the next
//! flush, so that data is durable before its record (I-11).

use crate::api::{Op, Step};
use crate::engine::checkpoint::{PageRoom, SHRINK};
use crate::engine::places::{Place, What};
use crate::engine::slab::NONE;
use crate::engine::step::{Owner, Piece, SEGS};
use crate::engine::task::Stage;
use crate::engine::walk::{Levels, Stop};
use crate::engine::Core;
use crate::fault::Fault;
use crate::format::record::{Kind, Record};
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::{bit, bits, runs, Dev, Slot};

/// Records that a word's zeros may need: for each chunk the end of its record, and of its slot.
const ZEROS: u32 = 136;

impl<P: Platform> Core<P> {
    /// Begins a write of a volume whose new data is redirected.
    pub(crate) fn begin_redirect(&mut self, t: u32) {
        let vol = self.vols.at(self.vol_of(t));
        let Some(map) = vol.redirect else { return self.fail_task(t, crate::bug!()) };
        let task = self.tasks.at(t);
        let (word, mask) = (task.word, task.mask);
        match self.claims.lock(map, word, mask) {
            Some(lock) => {
                let task = self.tasks.at_mut(t);
                task.lock_new = lock;
                task.stage = Stage::Lookup;
                self.redirect_lookup(t);
            }
            None => self.wait_for_claim(t, map, word),
        }
    }

    /// Finds the chunks that have a slot of their own, and those that are settled.
    pub(crate) fn redirect_lookup(&mut self, t: u32) {
        let vol = self.vols.at(self.vol_of(t));
        let (clone, newest) = (vol.clone, vol.newest);
        let mask = self.tasks.at(t).mask;
        let levels = if clone { Levels::Own } else { Levels::All };
        match self.look_up(t, mask, levels) {
            Err(Stop::Waits) => return,
            Err(Stop::Fault(fault)) => return self.fail_task(t, fault),
            Ok(()) => {}
        }
        if !clone {
            self.settle_places(t, mask);
        }
        let views = self.lifecycle.views_made;
        let task = self.tasks.at_mut(t);
        // Which slots are its own holds under this epoch alone.
        task.views = views;
        task.epoch = newest;
        task.in_place = task.placed(mask, What::in_place);
        let redirect = mask & !task.in_place;
        let mut own = 0;
        for b in bits(mask) {
            let place = task.place(b);
            if place.what == What::New && place.level == 0 && place.epoch > newest {
                own |= bit(b);
            }
        }
        task.need = redirect & !own;
        match task.op {
            Op::Discard if !clone => task.need = 0,
            Op::Discard | Op::Zero { .. } => return self.begin_zero(t, redirect, own),
            _ => {}
        }
        self.fill_parts(t);
    }

    /// Chunks that get a new slot but are written in part only need their base's data.
    pub(crate) fn fill_parts(&mut self, t: u32) {
        let task = self.tasks.at(t);
        let part = task.need & !self.covered(t);
        if part == 0 {
            return self.redirect_filled(t);
        }
        self.tasks.at_mut(t).part = part;
        self.tasks.at_mut(t).stage = Stage::LookupBase;
        self.base_lookup(t);
    }

    /// The chunks that the request covers whole, or up to the volume's end.
    pub(crate) fn covered(&self, t: u32) -> u64 {
        let task = self.tasks.at(t);
        let size = self.views.at(task.view).size;
        let start = self.geometry.byte_of(task.word.chunk(0));
        let end = u64::from(task.at.saturating_add(task.len));
        let len = if start.saturating_add(end) >= size {
            // To the end of the last chunk that the volume has.
            let last = task.mask.checked_ilog2().unwrap_or(0).saturating_add(1);
            (last << self.geometry.shift()).saturating_sub(task.at)
        } else {
            task.len
        };
        self.geometry.mask_whole(task.at, len)
    }

    /// Looks up the base of the chunks written in part and reads it.
    pub(crate) fn base_lookup(&mut self, t: u32) {
        let part = self.tasks.at(t).part;
        match self.look_up(t, part, Levels::All) {
            Err(Stop::Waits) => return,
            Err(Stop::Fault(fault)) => return self.fail_task(t, fault),
            Ok(()) => {}
        }
        self.settle_places(t, part);
        if self.tasks.at(t).placed(part, |w| w == What::Lost) != 0 {
            return self.fail_task(t, Fault::Lost);
        }
        if self.units.left() < 2 {
            return self.wait_for_units(t);
        }
        if self.steps.room() < 8 {
            return self.wait_for_steps(t);
        }
        if !self.share_in_place(t, part) {
            return;
        }
        self.count_slot_io(t);
        self.tasks.at_mut(t).stage = Stage::Fill;
        for (first, len) in runs(part) {
            for at in first..first.saturating_add(len) {
                self.read_base(t, at);
            }
        }
        if self.tasks.at(t).io == 0 {
            self.base_filled(t);
        }
    }

    /// Reads one chunk's base into a unit of its own; zeros need none.
    fn read_base(&mut self, t: u32, at_bit: u32) {
        let Some((Some(dev), at)) = self.locate(t, at_bit) else { return };
        let Some(unit) = self.units.chain(1) else { return };
        let task = self.tasks.at_mut(t);
        for base in &mut task.base {
            if base.1 == NONE {
                *base = (at_bit, unit);
                break;
            }
        }
        let size = self.views.at(task.view).size;
        let chunk = u64::from(self.geometry.chunk_bytes());
        let end = if dev == Dev::SAVE {
            chunk
        } else {
            size.saturating_sub(self.geometry.byte_of(task.word.chunk(at_bit))).min(chunk)
        };
        let len = u32::try_from(end).unwrap_or(0);
        let mut pieces = [Piece::None; SEGS];
        if let Some(piece) = pieces.first_mut() {
            *piece = Piece::Unit(unit, 0, len);
        }
        self.open_step(Owner::Task(t), Step::Read { dev, at, len }, pieces, 0);
    }

    /// The base's data is there.
    pub(crate) fn base_filled(&mut self, t: u32) {
        if let Some(fault) = self.tasks.at(t).fault {
            return self.fail_task(t, fault);
        }
        self.unshare(t);
        self.uncount_slot_io(t);
        self.redirect_filled(t);
    }

    /// All that the new slots need is known; settled chunks go the way of production first.
    fn redirect_filled(&mut self, t: u32) {
        let newest = self.vols.at(self.vol_of(t)).newest;
        if self.tasks.at(t).epoch != newest || self.has_new_view(t) {
            // A snapshot came or went while the base was read, or the clone has another base.
            return self.begin_again(t);
        }
        let task = self.tasks.at_mut(t);
        task.fresh_need = task.need;
        task.need = 0;
        if task.in_place != 0 {
            return self.begin_copy(t);
        }
        self.write_in_place(t);
    }

    /// Everything is ready: gets slots and gives out the writes.
    #[inline(never)]
    pub(crate) fn write_all(&mut self, t: u32) {
        if self.steps.room() < 130 {
            self.tasks.at_mut(t).stage = Stage::Durable;
            return self.wait_for_steps(t);
        }
        let task = self.tasks.at(t);
        if (task.fresh_need != 0 || task.zero != 0) && !self.take_room(t) {
            return;
        }
        self.count_slot_io(t);
        self.emit_all(t);
        if self.tasks.at(t).io == 0 {
            self.finish_write(t);
        }
    }

    /// Room for the records of what a write puts in slots, and the slots; false if the task waits
    /// for them or has failed.
    #[inline(never)]
    fn take_room(&mut self, t: u32) -> bool {
        let need = self.tasks.at(t).fresh_need;
        let vol = self.vols.at(self.vol_of(t));
        let more = u64::from(need.count_ones());
        let over = more != 0 && vol.quota != 0 && vol.used.saturating_add(more) > vol.quota;
        if over {
            self.fail_task(t, Fault::NoSpace);
            return false;
        }
        let zero = self.tasks.at(t).zero;
        let puts = usize::try_from(need.count_ones()).unwrap_or(0).saturating_add(1);
        if zero != 0 && !self.log_has_room(ZEROS) {
            self.tasks.at_mut(t).stage = Stage::Durable;
            self.wait_for_room(t);
            return false;
        }
        if self.layers.fresh.room() <= self.fresh_reserved.saturating_add(puts) {
            self.tasks.at_mut(t).stage = Stage::Durable;
            self.flush.wanted = true;
            self.wait_for_room(t);
            return false;
        }
        match self.page_room_for_fresh(puts) {
            PageRoom::Now => {}
            PageRoom::Later => {
                self.tasks.at_mut(t).stage = Stage::Durable;
                self.wait_for_room(t);
                return false;
            }
            PageRoom::Never => {
                self.no_pages(t);
                return false;
            }
        }
        if !self.give_slots(t, need) {
            return false;
        }
        self.fresh_reserved = self.fresh_reserved.saturating_add(puts);
        self.tasks.at_mut(t).reserved = puts;
        true
    }

    /// Gives out the steps of a write.
    #[inline(never)]
    fn emit_all(&mut self, t: u32) {
        let vol = self.vol_of(t);
        let task = self.tasks.at_mut(t);
        task.stage = Stage::Last;
        task.counted = true;
        let mut left = task.mask & !task.in_place & !task.zero;
        if task.op == Op::Discard {
            left = 0;
        }
        let live = self.vols.at_mut(vol);
        live.writes = live.writes.saturating_add(1);
        self.emit_in_place(t);
        while let Some(extent) = self.next_extent(t, &mut left) {
            self.emit_redirect(t, extent.bit, extent.bits, extent.dev);
        }
    }

    /// Whether the records of clones that are not logged yet, and `puts` more, will find pages.
    fn page_room_for_fresh(&mut self, puts: usize) -> PageRoom {
        let (fresh, pending) = (self.layers.fresh.len(), self.layers.pending.len());
        let all = fresh.saturating_add(pending).saturating_add(self.fresh_reserved);
        let records = u32::try_from(all.saturating_add(puts)).unwrap_or(u32::MAX);
        self.page_room(records.saturating_add(SHRINK.0), SHRINK.1)
    }

    /// A redirected write found no pages. Records of clones that are not logged yet ask for as many
    /// as they could need: in the tree they ask for none, so that they have to get there first.
    fn no_pages(&mut self, t: u32) {
        let (fresh, pending) = (self.layers.fresh.is_empty(), self.layers.pending.is_empty());
        if fresh && pending && self.fresh_reserved == 0 {
            return self.no_slots(t);
        }
        self.flush.wanted |= !fresh;
        self.tasks.at_mut(t).stage = Stage::Durable;
        self.wait_for_room(t);
    }

    /// Gives each chunk of `need` a slot; false if the task waits or failed for want of them.
    ///
    /// Where a record of its own that no snapshot shares has no slot (zeros), the new one takes its
    /// epoch, and with it its place: else a sweep under way might free the older one, believing in
    /// the newer before it is logged.
    fn give_slots(&mut self, t: u32, need: u64) -> bool {
        let vol = self.vols.at(self.vol_of(t));
        let (latest, newest) = (vol.write_epoch, vol.newest);
        let mut run = (Slot(0), 0u32);
        let mut given = 0;
        for (first, len) in runs(need) {
            for at in first..first.saturating_add(len) {
                if run.1 == 0 {
                    let want = (need & !given).count_ones();
                    match self.take_slots_for(self.vol_of(t), want) {
                        Some(got) => run = got,
                        None => {
                            self.take_back_slots(t, given);
                            self.no_slots(t);
                            return false;
                        }
                    }
                }
                let old = self.tasks.at(t).place(at);
                let own = old.level == 0 && old.epoch > newest;
                let epoch = if own { old.epoch } else { latest };
                let place = Place { what: What::New, level: 0, epoch, slot: run.0 };
                self.tasks.at_mut(t).set_place(at, place);
                given |= bit(at);
                run = (run.0.next(), run.1.saturating_sub(1));
            }
        }
        true
    }

    /// Frees slots that were given but never named by a record.
    #[inline(never)]
    pub(crate) fn take_back_slots(&mut self, t: u32, mask: u64) {
        for (first, len) in runs(mask) {
            for at in first..first.saturating_add(len) {
                let place = self.tasks.at(t).place(at);
                self.release_slots(place.slot, 1);
                if let Some(map) = self.vols.at(self.vol_of(t)).redirect {
                    self.count_used(map, -1);
                }
            }
        }
    }

    /// Writes the request's bytes in the chunks `first..first + n`, whose slots are adjacent.
    /// Chunks whose slot is new are written whole.
    fn emit_redirect(&mut self, t: u32, first: u32, n: u32, dev: Option<Dev>) {
        let (Some(dev), Some((_, start))) = (dev, self.locate(t, first)) else { return };
        let shift = self.geometry.shift();
        let task = self.tasks.at(t);
        let end = task.at.saturating_add(task.len);
        let (run_lo, run_hi) = (first << shift, first.saturating_add(n) << shift);
        let last = first.saturating_add(n).saturating_sub(1);
        let new = |b: u32| task.fresh_need & bit(b) != 0;
        let lo = if new(first) { run_lo } else { run_lo.max(task.at) };
        let whole = new(last) && !self.mutant(Mutant::StaleSlot);
        let hi = if whole { run_hi } else { run_hi.min(end) };
        let (from, to) = (lo.max(task.at), hi.min(end));
        let in_chunk = self.geometry.chunk_bytes().saturating_sub(1);
        let fill = |unit: u32, lo: u32, len: u32| match (len, unit) {
            (0, _) => Piece::None,
            (_, NONE) => Piece::Zeros(len),
            _ => Piece::Unit(unit, lo & in_chunk, len),
        };
        let len = to.saturating_sub(from);
        let body = match task.op {
            Op::Zero { .. } => Piece::Zeros(len),
            _ => Piece::Client(task.cookie, from.saturating_sub(task.at), len),
        };
        let pieces = [
            fill(task.base_unit(first), lo, from.saturating_sub(lo)),
            body,
            fill(task.base_unit(last), to, hi.saturating_sub(to)),
            Piece::None,
        ];
        let at = start.saturating_add(u64::from(lo.saturating_sub(run_lo)));
        let step = Step::Write { dev, at, len: hi.saturating_sub(lo), fua: false };
        self.open_step(Owner::Task(t), step, pieces, 0);
    }

    /// The data is written: the new records become visible.
    pub(crate) fn finish_write(&mut self, t: u32) {
        let task = self.tasks.at(t);
        let (mut fault, fresh, zero) = (task.fault, task.fresh_need, task.zero);
        if zero != 0 && fault.is_none() && !self.log_has_room(ZEROS) {
            if self.fenced.is_none() {
                self.uncount_slot_io(t);
                return self.wait_for_room(t);
            }
            fault = Some(Fault::Fenced);
        }
        // Also if it failed: some of it may be in a slot that the merge has read before.
        self.touch_merge(t);
        self.uncount_write(t);
        if self.vol_of(t) == NONE {
            // The volume was destroyed meanwhile, and its map with it.
            fault = Some(Fault::Fenced);
        }
        if let Some(fault) = fault {
            self.take_back_slots(t, fresh);
            self.tasks.at_mut(t).fresh_need = 0;
            return self.fail_task(t, fault);
        }
        if let Err(fault) = self.add_fresh(t, fresh) {
            return self.fail_task(t, fault);
        }
        if let Err(fault) = self.add_zeros(t, zero) {
            return self.fail_task(t, fault);
        }
        let task = self.tasks.at_mut(t);
        task.fresh_need = 0;
        task.zero = 0;
        let durable = matches!(task.op, Op::Write { fua: true } | Op::Zero { fua: true });
        if durable && self.vols.at(self.vol_of(t)).redirect.is_some() {
            self.release_all(t);
            self.tasks.at_mut(t).stage = Stage::Commit;
            return self.join_flush(t);
        }
        self.finish_task(t);
    }

    /// Puts records for the chunks `mask`, whose places are their new slots, into the fresh delta.
    #[inline(never)]
    fn add_fresh(&mut self, t: u32, mask: u64) -> Result<(), Fault> {
        let vol = self.vol_of(t);
        let Some(map) = self.vols.at(vol).redirect else { return Ok(()) };
        let word = self.tasks.at(t).word;
        let mut left = mask;
        while left != 0 {
            let first = left.trailing_zeros();
            let head = self.tasks.at(t).place(first);
            let mut piece = bit(first);
            let mut next = head.slot.next();
            for b in bits(left & !bit(first)) {
                let place = self.tasks.at(t).place(b);
                if place.slot != next || place.epoch != head.epoch {
                    break;
                }
                piece |= bit(b);
                next = next.next();
            }
            left &= !piece;
            let record = Record {
                map,
                word,
                epoch: head.epoch,
                kind: Kind::New,
                mask: piece,
                slot: head.slot,
            };
            self.layers.fresh.put(record)?;
        }
        if mask != 0 {
            self.versions.bump(word);
        }
        Ok(())
    }
}
