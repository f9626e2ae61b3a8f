// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Counting what volumes and snapshots use and refer to.
//!
//! A first write must not cost more the more snapshots there are, so nobody keeps these numbers up
//! to date on its way: the count walks the records of all maps, when a command asks for it and
//! something has changed since, and once after a crash. What a snapshot *uses* are the slots that
//! it alone holds, which its end would free; what a volume uses are all slots of its map, those of
//! its snapshots among them. What they *refer* to are the slots that they read from.
//!
//! Each slot of a production's record at epoch q is read by the living snapshots behind the chunk's
//! record before it and not behind q (I-8); one of a clone's by those from q on and before the
//! chunk's next record, and without one by the clone too (I-9). The readers of a slot are thus a
//! range of the map's users in order of their epochs. A range is counted at its two ends alone, and
//! the sum is made at the end, so that the number of snapshots costs nothing. Chunks that a clone
//! hides are taken off what its base refers to.
//!
//! `tally.rs` has the numbers; here they are walked to.
//!
//! While a restore is under way, what snapshots taken since it began read through it is not counted
//! as theirs.

use crate::engine::{Core, Job, Levels, Stage, Stop, View, What, NONE};
use crate::fault::Fault;
use crate::format::entity::{Entity, Kind};
use crate::format::record::GroupKey;
use crate::lifecycle::tally::{Part, User};
use crate::map::Miss;
use crate::platform::Platform;
use crate::units::{EntityId, Epoch, MapId, Word};

impl<P: Platform> Core<P> {
    /// Whether the numbers are those of the pool as it is.
    pub(crate) fn is_counted(&self) -> bool {
        self.lifecycle.counter.counted == Some(self.versions.changes())
    }

    /// What volumes use has to be counted: a crash has lost it.
    pub(crate) fn count_is_due(&mut self) {
        self.lifecycle.counter.due = true;
        let _ = self.start_count();
    }

    /// The clock has moved: counts again what changed while it was counted.
    pub(crate) fn tick_count(&mut self) {
        if self.lifecycle.counter.due && self.started && !self.closing && self.fenced.is_none() {
            let _ = self.start_count();
        }
    }

    /// Lets a command wait until all is counted as it is now; false if that is so, or cannot be.
    pub(crate) fn wait_for_count(&mut self, t: u32) -> bool {
        let c = self.tasks.at(t).aux;
        let slot = self.lifecycle.slots.at_mut(c);
        if core::mem::replace(&mut slot.counted, true) || self.is_counted() {
            return false;
        }
        if self.fenced.is_some() || self.closing {
            return false;
        }
        if self.lifecycle.counter.task != NONE {
            self.queue_in(t, |core| &mut core.lifecycle.counter.later);
            return true;
        }
        if !self.start_count() {
            return false;
        }
        self.queue_in(t, |core| &mut core.lifecycle.counter.waiters);
        true
    }

    /// Begins to count; false if there is no task or memory for it.
    pub(crate) fn start_count(&mut self) -> bool {
        if self.lifecycle.counter.task != NONE {
            return true;
        }
        let n = self.catalog.len();
        let c = &mut self.lifecycle.counter;
        let room = c.parts.as_ref().map_or(0, |p| p.len());
        if room < n {
            let n = n.saturating_mul(2);
            c.parts = self.platform.array(n, &Part::default());
            c.users = self.platform.array(n, &User::default());
        }
        if c.parts.is_none() || c.users.is_none() {
            return false;
        }
        let Some(view) = self.views.take() else { return false };
        let Some(t) = self.tasks.take() else {
            self.views.give(view);
            return false;
        };
        *self.views.at_mut(view) = View::FREE;
        self.tasks.at_mut(t).renew(Job::Count, view);
        let c = &mut self.lifecycle.counter;
        c.task = t;
        c.view = view;
        c.began = self.versions.changes();
        c.map = MapId(0);
        c.part_count = 0;
        self.ready(t);
        true
    }

    /// Runs the count: a bounded number of groups each time.
    #[inline(never)]
    pub(crate) fn run_count(&mut self, t: u32) {
        if self.fenced.is_some() || self.closing || self.tasks.at(t).fault.is_some() {
            return self.end_count(t, false);
        }
        if self.tasks.at(t).stage == Stage::Begin {
            if self.list_parts().is_err() {
                return self.end_count(t, false);
            }
            if !self.next_counted_map() {
                return self.end_count(t, true);
            }
            self.tasks.at_mut(t).stage = Stage::Step(1);
        }
        for _ in 0..64 {
            match self.count_group(t) {
                Ok(true) => {}
                Ok(false) if self.end_counted_map() => {}
                Ok(false) => return self.end_count(t, true),
                Err(Stop::Waits) => return,
                Err(Stop::Fault(_)) => return self.end_count(t, false),
            }
        }
        self.ready(t);
    }

    /// One part for each volume and snapshot.
    fn list_parts(&mut self) -> Result<(), Fault> {
        let c = &mut self.lifecycle.counter;
        let mut count = 0usize;
        let parts = c.parts.as_mut().ok_or(Fault::NoMemory)?;
        for e in self.catalog.iter() {
            let part = parts.get_mut(count).ok_or(Fault::NoMemory)?;
            let base = e.base().unwrap_or_default();
            *part = Part { id: e.id(), base, used: e.used.get(), refer: 0 };
            count = count.saturating_add(1);
        }
        c.part_count = count;
        Ok(())
    }

    /// Goes on to the next map that somebody reads; false after the last.
    fn next_counted_map(&mut self) -> bool {
        loop {
            let after = self.lifecycle.counter.map;
            let Some(map) = self.catalog.map_after(after) else { return false };
            self.lifecycle.counter.map = map;
            if self.list_users(map).is_ok() && self.lifecycle.counter.user_count != 0 {
                self.begin_counted_map(map, false);
                return true;
            }
        }
    }

    fn begin_counted_map(&mut self, map: MapId, restored: bool) {
        let c = &mut self.lifecycle.counter;
        c.restored = restored;
        c.from = GroupKey { map, word: Word(0), epoch: Epoch(0) };
        c.word = Word(0);
        c.before = [Epoch(0); 64];
        c.slots = 0;
        if !restored {
            c.total = 0;
        }
    }

    /// Lists who reads the map, in order of epochs; its volume last.
    fn list_users(&mut self, map: MapId) -> Result<(), Fault> {
        let c = &mut self.lifecycle.counter;
        c.user_count = 0;
        c.volume = EntityId(0);
        c.production = false;
        let (mut base, mut last) = (None, None);
        for e in self.catalog.snapshots_of_map(map) {
            c.add_user(e.epoch(), e.id())?;
            base = e.base();
        }
        if let Some(volume) = self.catalog.volume_of_map(map) {
            c.volume = volume.id();
            c.production = volume.kind() == Some(Kind::Production);
            base = volume.base();
            last = Some(volume.id());
        }
        if let Some(id) = last {
            c.add_user(Epoch(u32::MAX), id)?;
        }
        let view = c.view;
        *self.views.at_mut(view) = View::FREE;
        if let Some(base) = base {
            self.views.at_mut(view).id = base;
            if !self.fill_view(view) {
                return Err(crate::bug!());
            }
        }
        Ok(())
    }

    /// Looks at one group; false after the last of the map.
    fn count_group(&mut self, t: u32) -> Result<bool, Stop> {
        let from = self.lifecycle.counter.from;
        let end =
            GroupKey { map: MapId(from.map.0.saturating_add(1)), word: Word(0), epoch: Epoch(0) };
        let key = match self.layers.next_group(from, end, &mut self.group) {
            Ok(key) => key,
            Err(Miss::Page(page)) => return Err(self.wait_for_page(t, page)),
            Err(Miss::Fault(fault)) => return Err(Stop::Fault(fault)),
        };
        let word = key.map_or(Word(u64::MAX), |k| k.word);
        if word != self.lifecycle.counter.word {
            self.end_counted_word(t)?;
            self.lifecycle.counter.word = word;
            // The look-up in the base may have read pages: the group is found anew.
            if key.is_some() {
                return Ok(true);
            }
        }
        let Some(key) = key else { return Ok(false) };
        let c = &mut self.lifecycle.counter;
        for record in self.group.records() {
            if c.restored {
                c.total = c.total.saturating_add(u64::from(record.slots()));
            } else {
                c.record(record);
            }
        }
        match key.after() {
            Some(after) => c.from = after,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn end_counted_word(&mut self, t: u32) -> Result<(), Stop> {
        let c = &self.lifecycle.counter;
        let mask = if c.restored || c.production { 0 } else { c.recorded() };
        let mut base = 0;
        if mask != 0 && self.views.at(c.view).depth != 0 {
            self.tasks.at_mut(t).word = c.word;
            self.look_up(t, mask, Levels::All)?;
            base = self.tasks.at(t).placed(mask, What::in_slot);
        }
        self.lifecycle.counter.end_word(base);
        Ok(())
    }

    /// A map is counted; false after the last.
    fn end_counted_map(&mut self) -> bool {
        let c = &mut self.lifecycle.counter;
        let volume = c.volume;
        if !c.restored {
            // What is written during a restore lies in a map of its own.
            let m = self.catalog.get(volume).and_then(Entity::restoring).map(|r| r.m_map.get());
            if let Some(m) = m {
                self.lifecycle.counter.end_map();
                self.begin_counted_map(MapId(m), true);
                return true;
            }
        }
        self.lifecycle.counter.end_map();
        self.next_counted_map()
    }

    /// Ends the count; with success the numbers are entered.
    fn end_count(&mut self, t: u32, success: bool) {
        if success {
            self.enter_counts();
            self.trim_restore_promise();
        }
        let c = &mut self.lifecycle.counter;
        c.task = NONE;
        let view = core::mem::replace(&mut c.view, NONE);
        if success {
            c.counted = Some(c.began);
            c.due &= c.began != self.versions.changes();
        }
        let mut waiters = core::mem::take(&mut c.waiters);
        c.waiters = core::mem::take(&mut c.later);
        let more = !c.waiters.is_empty();
        self.views.give(view);
        self.end_walk(t);
        self.free_task(t);
        self.wake_all(&mut waiters);
        if more && !(success && self.start_count()) {
            let mut waiters = core::mem::take(&mut self.lifecycle.counter.waiters);
            self.wake_all(&mut waiters);
        }
    }

    /// Enters what was counted. What volumes use is kept up to date by those who write: it is
    /// taken over only if nothing has changed meanwhile.
    fn enter_counts(&mut self) {
        let still = self.lifecycle.counter.began == self.versions.changes();
        for n in 0..self.lifecycle.counter.part_count {
            let Some(part) = self.lifecycle.counter.parts().get(n).copied() else { break };
            let mut refer = part.refer;
            let mut base = part.base;
            while base != EntityId(0) {
                let parts = self.lifecycle.counter.parts();
                let at = parts.partition_point(|p| p.id < base);
                let Some(under) = parts.get(at).filter(|p| p.id == base) else { break };
                refer = refer.saturating_add(under.refer);
                base = under.base;
            }
            let refer = u64::try_from(refer).unwrap_or(0);
            let vol = self.vol_of_entity(part.id);
            if let (Some(v), true) = (vol, still) {
                self.vols.at_mut(v).used = part.used;
                self.keep_promise(v);
            }
            let used = vol.map_or(part.used, |v| self.vols.at(v).used);
            let known = self.catalog.get(part.id).map(|e| (e.used.get(), e.refer.get()));
            if known.is_some_and(|known| known != (used, refer)) {
                self.catalog.set_used(part.id, used, refer);
            }
        }
    }
}
