// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! When the save volume fills.
//!
//! A copy that finds no slot makes production wait, then: freed slots are reclaimed by a checkpoint
//! if there are any; else the policy decides. *grow*: the save volume grows by an eighth, up to its
//! limit.
//! *oldest*: the oldest snapshot without clones is given up, durably, before production goes on
//! (rule 7). *stall*: production waits until somebody frees space. *fail*: its write fails. When
//! grow has reached its limit, or every snapshot has clones or is held, it stalls. A clone that
//! finds no slot gets an error at once and loses nothing.

use crate::api::Step;
use crate::control::rows::{FLAG_DEFERRED, FLAG_GIVEN_UP, FLAG_HELD};
use crate::engine::checkpoint::PageRoom;
use crate::engine::{Core, Job, Owner, Piece, Stage, SEGS};
use crate::fault::Fault;
use crate::format::entity::{Entity, Kind, PER_PAGE};
use crate::lifecycle::event::{FULL, GIVEN_UP, GROWN};
use crate::platform::Platform;
use crate::units::{EntityId, LogPos, PageNo, Slot};

/// What is known of space.
pub(crate) struct Space<P: Platform> {
    /// Slots freed by records that no checkpoint contains yet.
    pub(crate) freed: u64,
    /// Slots that the running checkpoint frees.
    pub(crate) freezing: u64,
    /// The pages of the catalogue on disk.
    pub(crate) catalog_pages: PageList<P>,
    /// The save volume is growing to so many bytes.
    growing: Option<u64>,
    /// Slots that the last who found none needs.
    need: u64,
    /// Production waits for slots.
    pub(crate) full: bool,
    /// Nobody may be there to make room: what finds none, and no policy to make some, fails.
    pub(crate) impatient: bool,
    /// The record that gives up a snapshot must be durable before production goes on.
    pub(crate) giving_up: Option<LogPos>,
    /// Below low water, and told so.
    pub(crate) low: bool,
    /// `FULL` was told.
    told: bool,
    /// Free slots that are promised to the restore under way (`promise.rs`).
    pub(crate) restoring: u64,
}

impl<P: Platform> Space<P> {
    /// With no room for the catalogue's pages yet: [`PageList::make`].
    #[inline(always)]
    pub(crate) fn bare() -> Self {
        Self {
            freed: 0,
            freezing: 0,
            catalog_pages: PageList { pages: P::Array::default(), len: 0 },
            growing: None,
            need: 0,
            full: false,
            impatient: false,
            giving_up: None,
            low: false,
            told: false,
            restoring: 0,
        }
    }
}

/// A list of pages.
pub(crate) struct PageList<P: Platform> {
    pages: P::Array<PageNo>,
    len: usize,
}

/// Pages that the catalogue may have.
const CATALOG_PAGES: usize = crate::catalog::ENTITIES.div_ceil(PER_PAGE);

impl<P: Platform> PageList<P> {
    pub(crate) fn make(&mut self, p: &P) -> Result<(), Fault> {
        self.pages = p.array(CATALOG_PAGES, &PageNo(0)).ok_or(Fault::NoMemory)?;
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, n: usize) -> Option<&PageNo> {
        self.pages.get(n).filter(|_| n < self.len)
    }

    pub(crate) fn push(&mut self, page: PageNo) -> Result<(), Fault> {
        *self.pages.get_mut(self.len).ok_or(Fault::NoMemory)? = page;
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}

impl<P: Platform> Core<P> {
    /// Whether copies may try to get slots.
    pub(crate) fn space_state_ok(&self) -> bool {
        !self.space.full
    }

    /// From here on no request waits until somebody makes room: for a driver that ends, or that
    /// has the pool for itself.
    pub fn wait_no_more(&mut self) {
        self.space.impatient = true;
        self.make_space();
        let mut waiters = core::mem::take(&mut self.room_waiters);
        self.wake_all(&mut waiters);
    }

    /// Somebody found no slots, and needs so many.
    pub(crate) fn save_full(&mut self, need: u64) {
        self.space.full = true;
        self.space.need = need;
        self.drop_ahead();
        if !core::mem::replace(&mut self.space.told, true) {
            self.event(FULL, 0, &crate::control::Name::default(), self.save.size);
        }
        self.make_space();
    }

    /// Does what the policy says; production goes on when there are slots again.
    pub(crate) fn make_space(&mut self) {
        if !self.space.full || self.fenced.is_some() || self.space.growing.is_some() {
            return;
        }
        let slots = self.slots.available_to(0) >= self.space.need.max(1);
        // No less than what a copy asks for: else it would be told in vain.
        if slots && self.may_grow(72) != PageRoom::Never {
            return self.space_again();
        }
        let fails = self.space.impatient || self.superblock.when_full.get() == 3;
        if !self.ask_for_space() && fails {
            self.fail_copies();
        }
    }

    /// Sees to it that there will be more slots, as far as the policy has a way; false if it has
    /// none.
    pub(crate) fn ask_for_space(&mut self) -> bool {
        if self.space.growing.is_some() || self.fenced.is_some() {
            return true;
        }
        let grown = self.superblock.slots.get() > self.slots.count();
        if self.space.freed > 0 || grown {
            self.want_checkpoint();
        }
        if self.space.freed > 0 || grown || self.space.freezing > 0 || self.is_sweeping() {
            return true;
        }
        match self.superblock.when_full.get() {
            0 => self.grow() || self.forgo(),
            1 => self.forgo() || self.give_up_oldest(),
            3 => self.forgo(),
            _ => false,
        }
    }

    /// There are slots: copies go on.
    pub(crate) fn space_again(&mut self) {
        self.space.full = false;
        self.space.told = false;
        self.commit.wanted = true;
        let mut waiters = core::mem::take(&mut self.room_waiters);
        self.wake_all(&mut waiters);
    }

    /// Bytes in the save volume if there were all the slots that the pool can have.
    pub(crate) fn largest_save(&self) -> u64 {
        let slots = self.superblock.slot_limit.get() << self.geometry.shift();
        self.superblock.slots_start.get().saturating_add(slots)
    }

    /// Bytes that the save volume may grow to.
    pub(crate) fn save_limit(&self) -> u64 {
        self.superblock.save_limit.get().min(self.lifecycle.grows_to)
    }

    /// How large the save volume may become next; none at its limit.
    fn next_size(&self) -> Option<u64> {
        let most = self.save_limit().min(self.largest_save());
        let more = (self.save.size / 8).max(1 << 20);
        let bytes = self.save.size.saturating_add(more).min(most);
        (bytes > self.save.size).then_some(bytes)
    }

    /// Whether the save volume is becoming larger, or may.
    fn can_become_larger(&self) -> bool {
        let grown = self.superblock.slots.get() > self.slots.count();
        let may = self.superblock.when_full.get() == 0 && self.next_size().is_some();
        self.space.growing.is_some() || grown || may
    }

    /// Asks the driver for a larger save volume; false if the limit is reached.
    fn grow(&mut self) -> bool {
        let Some(bytes) = self.next_size() else { return false };
        self.space.growing = Some(bytes);
        self.open_step(Owner::Grow, Step::Grow { bytes }, [Piece::None; SEGS], 0);
        true
    }

    /// The save volume has grown, or could not.
    #[inline(never)]
    pub(crate) fn grown(&mut self, result: Result<(), Fault>) {
        let Some(bytes) = self.space.growing.take() else { return };
        if result.is_err() {
            self.lifecycle.grows_to = self.save.size;
            // Clones that waited for it have to be told.
            let mut waiters = core::mem::take(&mut self.room_waiters);
            self.wake_all(&mut waiters);
            return self.make_space();
        }
        self.save.size = bytes;
        let start = self.superblock.slots_start.get();
        let room = self.geometry.chunk_of(bytes.saturating_sub(start)).0;
        let slots = room.min(self.superblock.slot_limit.get());
        // The superblock that says so must be durable before a slot beyond the old end is used: the
        // checkpoint writes it, and only then `Slots` grows.
        self.superblock.slots = slots.into();
        self.event(GROWN, 0, &crate::control::Name::default(), bytes);
        self.want_checkpoint();
    }

    /// Whether no snapshot can be given up just now.
    fn must_wait(&mut self) -> bool {
        // A command at its moment has looked at its snapshots already.
        let moment = self.lifecycle.moment != crate::engine::NONE;
        moment || self.space.giving_up.is_some() || !self.log_has_room(80)
    }

    /// Gives up what a restore took for itself, if somebody waits for slots; false if there is
    /// nothing of that.
    fn forgo(&mut self) -> bool {
        let Some(id) = self.forgone().filter(|_| self.is_pressed()) else { return false };
        if self.must_wait() {
            return true;
        }
        if let Err(fault) = self.give_up(id) {
            self.fence(fault);
        }
        true
    }

    /// Gives up the oldest snapshot that nobody needs; false if there is none.
    fn give_up_oldest(&mut self) -> bool {
        if self.must_wait() {
            return true;
        }
        let restore = self.restore_now().filter(|_| self.is_pressed());
        let restoring = (0..self.vols.top()).any(|v| {
            let vol = self.vols.at(v);
            vol.live && !vol.clone && vol.redirect.is_some()
        });
        let spared = |id: EntityId| match &restore {
            // Of those that destroying spares it needs but what it reads from.
            Some(r) => [r.x.get(), r.r.get(), r.before.get()].contains(&id.0),
            None => restoring && self.pinned(id),
        };
        let victim = self
            .catalog
            .iter()
            .filter(|e| e.kind() == Some(Kind::Snapshot) && e.base().is_none())
            .filter(|e| e.is_living_snapshot() && !e.has(FLAG_HELD))
            .filter(|e| self.catalog.dependants(e.id()).next().is_none() && !spared(e.id()))
            .min_by_key(|e| e.epoch())
            .map(Entity::id);
        let Some(id) = victim else { return false };
        if let Err(fault) = self.give_up(id) {
            self.fence(fault);
        }
        true
    }

    fn give_up(&mut self, id: EntityId) -> Result<(), Fault> {
        let (map, name) = self.catalog.get(id).map(|e| (e.map(), e.name)).ok_or(crate::bug!())?;
        self.catalog.reserve(&self.platform, 4)?;
        self.begin_group(4)?;
        self.change(id, |e| {
            e.set_flags(FLAG_GIVEN_UP, true);
            e.set_flags(FLAG_DEFERRED, false);
            e.reason = 1.into();
        })?;
        let production = self.catalog.volume_of_map(map).map(Entity::id).unwrap_or_default();
        let undoes = |e: &&Entity| e.restoring().is_some_and(|r| r.before.get() == id.0);
        if self.catalog.get(production).filter(undoes).is_some() {
            self.change(production, |e| e.restore.before = 0.into())?;
        }
        self.log_sweep(crate::engine::NONE, map)?;
        self.end_group()?;
        self.cut_off(id);
        self.event(GIVEN_UP, 1, &name, 0);
        if self.mutant(crate::mutants::Mutant::GiveUpNotDurable) {
            return self.given_up();
        }
        self.lifecycle.removed = self.log.last();
        self.space.giving_up = Some(self.lifecycle.removed);
        self.commit.wanted = true;
        Ok(())
    }

    /// The giving up is durable: production need not copy for that snapshot any more.
    #[inline(never)]
    pub(crate) fn look_at_given_up(&mut self) {
        if self.space.giving_up.is_some_and(|pos| pos <= self.commit.durable) {
            if let Err(fault) = self.given_up() {
                self.fence(fault);
            }
        }
    }

    fn given_up(&mut self) -> Result<(), Fault> {
        self.space.giving_up = None;
        self.refresh_volumes();
        self.rebuild_views();
        self.commit.wanted = true;
        self.make_space();
        Ok(())
    }

    /// Fails the writes that wait for slots.
    fn fail_copies(&mut self) {
        let mut copies = core::mem::take(&mut self.commit.copies);
        self.commit.copy_count = 0;
        self.space.full = false;
        while let Some(t) = self.tasks.pop(&mut copies) {
            self.tasks.at_mut(t).queued = false;
            if self.tasks.at(t).job == Job::Merge {
                // It waits: nobody is told of its failure.
                self.starve_merge(t, 1);
                continue;
            }
            self.fail_task(t, Fault::NoSpace);
        }
    }

    /// A redirected write found no slots.
    pub(crate) fn no_slots(&mut self, t: u32) {
        let clone = self.vols.at(self.vol_of(t)).clone;
        let freed = self.space.freed.saturating_add(self.space.freezing);
        let policy = self.superblock.when_full.get();
        let forgoes = !clone && (self.space.giving_up.is_some() || self.forgone().is_some());
        let hopeless = clone && !self.can_become_larger();
        let fails = hopeless || (policy == 3 && !forgoes) || self.space.impatient;
        if freed == 0 && fails {
            return self.fail_task(t, Fault::NoSpace);
        }
        if !clone {
            return self.wait_for_settling(t);
        }
        self.tasks.at_mut(t).stage = Stage::Durable;
        self.wait_for_room(t);
        self.save_full(u64::from(self.tasks.at(t).fresh_need.count_ones()));
    }

    /// Takes adjacent slots, up to `want`.
    pub(crate) fn take_slots(&mut self, want: u32) -> Option<(Slot, u32)> {
        self.slots.alloc_run(want, 0).map(|run| (run.first, run.len))
    }

    /// Gives back slots that no record names.
    pub(crate) fn release_slots(&mut self, first: Slot, len: u32) {
        self.slots.release(crate::slots::Run { first, len });
    }
}
