// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Clients' requests: how they come in, which way they go, and how they end.

use crate::api::{Op, Request, Step, Submit};
use crate::engine::places::What;
use crate::engine::slab::NONE;
use crate::engine::task::{Job, Stage};
use crate::engine::view::changes;
use crate::engine::Core;
use crate::fault::Fault;
use crate::format::record::{free_run, Kind, Record};
use crate::platform::Platform;
use crate::units::{bit, Slot};

impl<P: Platform> Core<P> {
    /// Takes a request. It ends with `Step::Finish` of its cookie.
    pub fn submit(&mut self, request: &Request) -> Submit {
        let view = self.views.at(request.volume.0);
        if !view.open || self.closing {
            self.steps.tell(Step::Finish { cookie: request.cookie, outcome: Err(Fault::Fenced) });
            return Submit::Queued;
        }
        if let Err(fault) = self.admit(request) {
            self.steps.tell(Step::Finish { cookie: request.cookie, outcome: Err(fault) });
            return Submit::Queued;
        }
        if self.tasks.left() <= self.tasks_reserved || self.steps.is_full() {
            self.busy = true;
            return Submit::Busy;
        }
        let Some(t) = self.tasks.take() else { return Submit::Busy };
        let word = self.geometry.word_of(request.at);
        let at = self.geometry.in_word(request.at);
        let mask = self.geometry.mask_of(at, request.len);
        let task = self.tasks.at_mut(t);
        task.renew(
            if request.op == Op::Flush { Job::Flush } else { Job::Client },
            request.volume.0,
        );
        task.cookie = request.cookie;
        task.op = request.op;
        task.word = word;
        task.at = at;
        task.len = request.len;
        task.mask = mask;
        self.count_served(t);
        self.ready(t);
        Submit::Queued
    }

    fn admit(&self, request: &Request) -> Result<(), Fault> {
        let view = self.views.at(request.volume.0);
        let block = u64::from(self.block).wrapping_sub(1);
        let len = u64::from(request.len);
        let end = request.at.checked_add(len).ok_or(Fault::Range)?;
        if view.lost {
            return Err(Fault::Fenced);
        }
        if changes(request.op) && !view.write {
            return Err(Fault::ReadOnly);
        }
        if request.op == Op::Flush {
            return Ok(());
        }
        let in_word = u64::from(self.geometry.in_word(request.at)).saturating_add(len);
        let aligned = (request.at | len) & block == 0;
        if end > view.size || len == 0 || !aligned || in_word > self.geometry.word_bytes() {
            return Err(Fault::Range);
        }
        Ok(())
    }

    fn count_served(&mut self, t: u32) {
        let task = self.tasks.at(t);
        let (op, vol) = (task.op, self.vol_of(t));
        if vol == NONE {
            return;
        }
        let vol = self.vols.at_mut(vol);
        match op {
            Op::Read => vol.reads_served = vol.reads_served.saturating_add(1),
            Op::Flush => {}
            _ => vol.writes_served = vol.writes_served.saturating_add(1),
        }
    }

    /// Runs a client's request from its stage.
    #[inline(never)]
    pub(crate) fn run_client(&mut self, t: u32) {
        if self.tasks.at(t).op == Op::Read {
            return self.run_read(t);
        }
        if self.tasks.at(t).io != 0 {
            return;
        }
        if self.tasks.at(t).fault.is_some() && self.tasks.at(t).stage != Stage::Last {
            return self.finish_task(t);
        }
        match self.tasks.at(t).stage {
            Stage::Begin => self.begin_write(t),
            Stage::Lookup if self.tasks.at(t).need != 0 && self.tasks.at(t).lock != NONE => {
                self.copy_lookup(t);
            }
            Stage::Lookup => self.redirect_lookup(t),
            Stage::LookupBase => self.base_lookup(t),
            Stage::Fill if self.tasks.at(t).lock != NONE => self.read_old(t),
            Stage::Fill => self.base_filled(t),
            Stage::Commit if self.tasks.at(t).lock != NONE => self.queue_copy(t),
            Stage::Commit => self.finish_task(t),
            Stage::Gate => self.pass_gate(t),
            Stage::Durable => self.write_in_place(t),
            _ => self.finish_write(t),
        }
    }

    fn begin_write(&mut self, t: u32) {
        if self.held(t) {
            return;
        }
        if self.views.at(self.tasks.at(t).view).lost {
            return self.fail_task(t, Fault::Fenced);
        }
        let vol = self.vols.at(self.vol_of(t));
        if !vol.live || (!vol.clone && vol.fast.is_none()) {
            return self.fail_task(t, Fault::Fenced);
        }
        // Nothing that needs a record will ever be durable: better to say so now than at the flush.
        if self.fenced.is_some() && (vol.newest.0 != 0 || vol.redirect.is_some()) {
            return self.fail_task(t, Fault::Fenced);
        }
        if vol.lowers.is_some() {
            let vol = self.vol_of(t);
            self.commit.wanted = true;
            return self.wait_for_volume(t, vol);
        }
        if self.waits_for_print(t) {
            return;
        }
        let vol = self.vols.at(self.vol_of(t));
        if vol.redirect.is_some() {
            return self.begin_redirect(t);
        }
        let task = self.tasks.at_mut(t);
        task.in_place = task.mask;
        self.begin_copy(t);
    }

    /// Discards or zeroes redirected chunks: whole ones become zeros in the map, parts are written.
    pub(crate) fn begin_zero(&mut self, t: u32, redirect: u64, own: u64) {
        let whole = redirect & self.covered(t);
        let task = self.tasks.at_mut(t);
        task.zero = whole;
        task.need = if task.op == Op::Discard { 0 } else { redirect & !whole & !own };
        self.fill_parts(t);
    }

    /// Logs the chunks of `mask` as zeros, and the slots that were theirs as free, all or nothing:
    /// else a crash would leave a slot that is free and yet named by the map, or used by nobody.
    /// It needs no flush before: there is no data.
    #[inline(never)]
    pub(crate) fn add_zeros(&mut self, t: u32, mask: u64) -> Result<(), Fault> {
        if mask == 0 {
            return Ok(());
        }
        let vol = self.vols.at(self.vol_of(t));
        let (newest, epoch) = (vol.newest, vol.write_epoch);
        let Some(map) = vol.redirect else { return Ok(()) };
        let word = self.tasks.at(t).word;
        let blank = Record { map, word, epoch, kind: Kind::Zero, mask, slot: Slot(0) };
        self.begin_group(4)?;
        for b in 0..64 {
            let place = self.tasks.at(t).place(b);
            let own = place.what == What::New && place.level == 0 && place.epoch > newest;
            if mask >> b & 1 == 0 || !own {
                continue;
            }
            let gone = Record { epoch: place.epoch, kind: Kind::Gone, mask: bit(b), ..blank };
            self.put_logged(&gone, None)?;
            self.layers.fresh.remove(gone.group(), bit(b))?;
            self.layers.pending.remove(gone.group(), bit(b))?;
            for free in free_run(place.slot, 1) {
                self.put_logged(&free, None)?;
            }
            self.count_used(map, -1);
        }
        self.put_logged(&blank, None)?;
        self.end_group()
    }

    /// Ends a request with its outcome and frees all that it holds.
    pub(crate) fn finish_task(&mut self, t: u32) {
        let task = self.tasks.at(t);
        let (cookie, job) = (task.cookie, task.job);
        let outcome = task.fault.map_or(Ok(()), Err);
        self.release_all(t);
        if matches!(job, Job::Client | Job::Flush) {
            self.steps.tell(Step::Finish { cookie, outcome });
        }
        self.free_task(t);
    }

    /// As `finish_task`, with this fault unless there was one before.
    pub(crate) fn fail_task(&mut self, t: u32, fault: Fault) {
        self.tasks.at_mut(t).fail(fault);
        if matches!(self.tasks.at(t).job, Job::Client | Job::Flush) {
            self.finish_task(t);
        } else {
            self.ready(t);
        }
    }

    /// Gives the task back, and its place to whoever was refused one.
    pub(crate) fn free_task(&mut self, t: u32) {
        self.tasks.at_mut(t).job = Job::Free;
        self.tasks.give(t);
    }

    /// Begins a task again, with nothing held: a snapshot was taken on its way.
    #[inline(never)]
    pub(crate) fn begin_again(&mut self, t: u32) {
        self.let_go(t);
        self.ready(t);
    }

    /// Lets go of everything: the task is where it began.
    pub(crate) fn let_go(&mut self, t: u32) {
        self.release_all(t);
        let task = self.tasks.at_mut(t);
        task.stage = Stage::Begin;
        task.walk.begun = false;
        task.need = 0;
        task.fresh_need = 0;
        task.zero = 0;
        task.part = 0;
        task.in_place = 0;
    }

    /// Lets go of claims, copy units and counts.
    pub(crate) fn release_all(&mut self, t: u32) {
        self.unshare(t);
        self.unlock(t);
        let lock = core::mem::replace(&mut self.tasks.at_mut(t).lock_new, NONE);
        self.end_claim(lock);
        self.free_units(t);
        self.uncount_slot_io(t);
        self.uncount_write(t);
        self.end_walk(t);
    }

    pub(crate) fn unshare(&mut self, t: u32) {
        let share = core::mem::replace(&mut self.tasks.at_mut(t).share, NONE);
        self.end_claim(share);
    }

    pub(crate) fn unlock(&mut self, t: u32) {
        let lock = core::mem::replace(&mut self.tasks.at_mut(t).lock, NONE);
        if lock != NONE && self.fenced.is_some() && self.claims.is_copying(lock) {
            // The slots were perhaps never written: nobody may ever read them. The claim stays.
            let (map, word, _) = self.claims.held(lock);
            let mut waiters = self.claims.queue(map, word).map(core::mem::take).unwrap_or_default();
            return self.wake_all(&mut waiters);
        }
        self.end_claim(lock);
    }

    /// The slots of the task's copies can be read.
    pub(crate) fn end_copying(&mut self, t: u32) {
        let lock = self.tasks.at(t).lock;
        if lock != NONE && self.claims.is_copying(lock) {
            let (map, word, _) = self.claims.held(lock);
            self.claims.set_copying(lock, 0);
            let mut waiters = self.claims.queue(map, word).map(core::mem::take).unwrap_or_default();
            self.wake_all(&mut waiters);
        }
    }

    pub(crate) fn end_claim(&mut self, claim: u32) {
        if claim != NONE {
            let mut waiters = self.claims.end(claim);
            self.wake_all(&mut waiters);
        }
    }

    /// Frees the copy units with the task's old data.
    pub(crate) fn free_old(&mut self, t: u32) {
        let task = self.tasks.at_mut(t);
        let (first, n) = (task.units, task.unit_count);
        task.units = NONE;
        task.unit_count = 0;
        if n != 0 {
            self.units.free(first, n);
        }
        let mut waiters = core::mem::take(&mut self.unit_waiters);
        self.wake_all(&mut waiters);
    }

    /// Frees all of the task's copy units.
    pub(crate) fn free_units(&mut self, t: u32) {
        self.free_old(t);
        let base = core::mem::replace(&mut self.tasks.at_mut(t).base, [(0, NONE); 2]);
        for (_, unit) in base {
            if unit != NONE {
                self.units.free(unit, 1);
            }
        }
        let mut waiters = core::mem::take(&mut self.unit_waiters);
        self.wake_all(&mut waiters);
    }

    /// Counts the task among those with I/O on slots (I-12).
    pub(crate) fn count_slot_io(&mut self, t: u32) {
        let task = self.tasks.at_mut(t);
        if task.slot_phase.is_none() {
            task.slot_phase = Some(self.slot_phase);
            if let Some(n) = self.slot_io.get_mut(usize::from(self.slot_phase)) {
                *n = n.saturating_add(1);
            }
        }
    }

    pub(crate) fn uncount_slot_io(&mut self, t: u32) {
        if let Some(phase) = self.tasks.at_mut(t).slot_phase.take() {
            if let Some(n) = self.slot_io.get_mut(usize::from(phase)) {
                *n = n.saturating_sub(1);
            }
        }
    }

    /// Its volume has one write less under way.
    pub(crate) fn uncount_write(&mut self, t: u32) {
        let reserved = core::mem::take(&mut self.tasks.at_mut(t).reserved);
        if reserved != 0 {
            self.fresh_reserved = self.fresh_reserved.saturating_sub(reserved);
            let mut waiters = core::mem::take(&mut self.room_waiters);
            self.wake_all(&mut waiters);
        }
        if core::mem::replace(&mut self.tasks.at_mut(t).counted, false) {
            let vol = self.vol_of(t);
            let vol = self.vols.at_mut(vol);
            vol.writes = vol.writes.saturating_sub(1);
        }
    }
}
