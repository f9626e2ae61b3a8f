// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Destroying snapshots and clones, in any order.
//!
//! What is destroyed leaves the catalogue at once; its slots come back with the sweep. Dependants
//! come first, in groups of a few, so that a crash leaves no object whose base is gone. A clone
//! that went back to a snapshot of its own hangs on itself: such a ring goes in one group.

use crate::control::rows::{FLAG_DEFERRED, FLAG_HELD, FREES_LATER};
use crate::control::{Name, Refusal, FLAG_DEFER, FLAG_DRY_RUN, FLAG_FORCE, FLAG_RECURSIVE};
use crate::engine::{Core, Stage, NONE};
use crate::fault::Fault;
use crate::format::entity::{Entity, Kind, SWEEP_ALL, SWEEP_VIEWS};
use crate::lifecycle::command::{Blamed, Whose};
use crate::lifecycle::moment::MOMENT;
use crate::platform::Platform;
use crate::units::{EntityId, MapId};

/// Objects that one group of log entries removes.
const GROUP: usize = 8;

/// Snapshots of its own that a clone may stand on, one below the other: with the clone, a group.
pub(crate) const OWN_CHAIN: usize = GROUP - 1;

impl<P: Platform> Core<P> {
    /// Runs the command `Destroy`.
    pub(crate) fn run_destroy(&mut self, t: u32) {
        if self.flag(t, FLAG_DRY_RUN) && self.wait_for_count(t) {
            return;
        }
        if !self.take_moment(t) {
            return;
        }
        if self.tasks.at(t).stage == Stage::Begin {
            if !self.may_destroy(t) {
                return;
            }
            if self.flag(t, FLAG_DRY_RUN) {
                return self.list_victims(t);
            }
            match self.defer_all(t) {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => return self.fence_command(t, fault),
            }
            if self.lifecycle.victim_count == 0 {
                return self.when_logged(t);
            }
            for n in 0..self.lifecycle.victim_count {
                if let Some(v) = self.victim(n).and_then(|id| self.vol_of_entity(id)) {
                    self.cut_off(self.vols.at(v).id);
                    self.hold(v);
                }
            }
            self.tasks.at_mut(t).stage = Stage::Step(MOMENT);
        }
        if !self.at_moment(t) {
            return;
        }
        while self.lifecycle.victim_count != 0 {
            if !self.may_change(t, 24) {
                return;
            }
            if let Err(fault) = self.record_victims(t) {
                return self.fence_command(t, fault);
            }
        }
        self.when_logged(t);
    }

    /// Lists the victims; refuses the command with all that is in its way.
    #[inline(never)]
    fn may_destroy(&mut self, t: u32) -> bool {
        self.choose_victims(t);
        self.check_victims(t);
        !self.refuse_blamed(t)
    }

    fn victim(&self, n: usize) -> Option<EntityId> {
        if n >= self.lifecycle.victim_count {
            return None;
        }
        self.lifecycle.victims.get(n).copied()
    }

    /// Lists the volume or snapshot, and all that could not be without it.
    pub(crate) fn choose_all_on(&mut self, id: EntityId) -> Result<(), Blamed> {
        self.lifecycle.victim_count = 0;
        self.add_victim(id);
        self.add_dependants()
    }

    pub(crate) fn is_victim(&self, id: EntityId) -> bool {
        self.lifecycle.victims.iter().take(self.lifecycle.victim_count).any(|&v| v == id)
    }

    /// Adds a victim; false if the list is full.
    fn add_victim(&mut self, id: EntityId) -> bool {
        if self.is_victim(id) {
            return true;
        }
        let life = &mut *self.lifecycle;
        match life.victims.get_mut(life.victim_count) {
            Some(place) => {
                *place = id;
                life.victim_count = life.victim_count.saturating_add(1);
                true
            }
            None => false,
        }
    }

    /// Lists what the command names and, if it is recursive, all that depends on it.
    fn choose_victims(&mut self, t: u32) {
        self.lifecycle.victim_count = 0;
        if self.items(t) == 0 {
            self.blame(t, Refusal::Malformed, Whose::Nobody);
        }
        if self.catalog.reserve(&self.platform, 64).is_err() {
            self.blame(t, Refusal::NoMemory, Whose::Nobody);
        }
        for n in 0..self.items(t) {
            let found = self.named(self.item_name(t, n)).map(|e| (e.id(), e.kind()));
            let whose = Whose::Item(n);
            match found {
                None => self.blame(t, Refusal::NotFound, whose),
                Some((_, Some(Kind::Production))) => self.blame(t, Refusal::WrongKind, whose),
                Some((id, _)) if self.is_deferred_by(t, id) => {}
                Some((id, _)) => {
                    if !self.add_victim(id) {
                        self.blame(t, Refusal::NoMemory, whose);
                    }
                }
            }
        }
        if self.flag(t, FLAG_RECURSIVE) {
            let added = self.add_dependants();
            self.blame_if(t, added);
        }
    }

    /// Whether the command leaves this one for its last user to end.
    fn is_deferred_by(&self, t: u32, id: EntityId) -> bool {
        let snapshot = self.catalog.get(id).is_some_and(|e| e.kind() == Some(Kind::Snapshot));
        self.flag(t, FLAG_DEFER) && snapshot && self.is_needed(id)
    }

    /// Marks those that go later; false if there is no room to log that now.
    #[inline(never)]
    fn defer_all(&mut self, t: u32) -> Result<bool, Fault> {
        let items = u32::try_from(self.items(t)).unwrap_or(0);
        if !self.flag(t, FLAG_DEFER) {
            return Ok(true);
        }
        if !self.may_change(t, items) {
            return Ok(false);
        }
        for n in 0..self.items(t) {
            let Some(id) = self.id_of(self.item_name(t, n)) else { continue };
            if self.is_deferred_by(t, id) && !self.is_victim(id) {
                self.change(id, |e| e.set_flags(FLAG_DEFERRED, true))?;
            }
        }
        Ok(true)
    }

    fn is_needed(&self, id: EntityId) -> bool {
        self.catalog.dependants(id).next().is_some()
            || self.catalog.get(id).is_some_and(|e| e.has(FLAG_HELD))
            || self.pinned(id)
    }

    fn add_dependants(&mut self) -> Result<(), Blamed> {
        let mut n = 0;
        while let Some(id) = self.victim(n) {
            let mut last = EntityId(0);
            while let Some(next) = self.next_dependant(id, last) {
                if !self.add_victim(next) {
                    return Err((Refusal::NoMemory, Whose::Entity(id)));
                }
                last = next;
            }
            n = n.saturating_add(1);
        }
        Ok(())
    }

    /// The next object after `last` that cannot be without `id`: what is based on a snapshot, the
    /// snapshots of a clone.
    fn next_dependant(&self, id: EntityId, last: EntityId) -> Option<EntityId> {
        // A snapshot owns nothing, and on a clone nothing is based: at most one of both has some.
        let based = self.catalog.dependant_after(id, last);
        based.or_else(|| self.catalog.snapshot_after(id, last)).map(Entity::id)
    }

    /// Blames all that the victims are needed for, and what else is in the way.
    fn check_victims(&mut self, t: u32) {
        for n in 0..self.lifecycle.victim_count {
            let Some(id) = self.victim(n) else { break };
            let mut last = EntityId(0);
            while let Some(next) = self.next_dependant(id, last) {
                if !self.is_victim(next) {
                    self.blame(t, Refusal::Needed, Whose::Entity(next));
                }
                last = next;
            }
            let held = self.catalog.get(id).is_some_and(|e| e.has(FLAG_HELD));
            let open = self.is_open(id) && !self.flag(t, FLAG_FORCE);
            for (blocked, why) in [
                (held, Refusal::Held),
                (self.pinned(id), Refusal::Restoring),
                (open, Refusal::OpenForWriting),
            ] {
                if blocked {
                    self.blame(t, why, Whose::Entity(id));
                }
            }
        }
    }

    #[inline(never)]
    fn list_victims(&mut self, t: u32) {
        let shift = self.geometry.shift();
        for n in 0..self.lifecycle.victim_count {
            let Some(entity) = self.victim(n).and_then(|id| self.catalog.get(id)) else { break };
            let (name, used) = (entity.name, entity.used.get());
            self.blocker(t, &name, used.checked_shl(shift).unwrap_or(0));
        }
        for n in 0..self.items(t) {
            let name = self.item(t, n).map(|i| i.name).unwrap_or_default();
            let later = |id| self.is_deferred_by(t, id) && !self.is_victim(id);
            if self.id_of(&name).is_some_and(later) {
                self.blocker(t, &name, FREES_LATER);
            }
        }
        self.done(t);
    }

    /// The next victim to go: one that nothing needs any more. In a ring that is the clone, at the
    /// beginning of a group (`first`) so that its snapshots go with it.
    fn take_victim(&mut self, first: bool) -> Option<EntityId> {
        let count = self.lifecycle.victim_count;
        let gone = |core: &Self, n| core.victim(n).is_some_and(|id| core.catalog.get(id).is_none());
        let free = |core: &Self, n| {
            core.victim(n).is_some_and(|id| core.next_dependant(id, EntityId(0)).is_none())
        };
        let ring = |core: &Self, n| core.victim(n).is_some_and(|id| core.hangs_on_itself(id));
        let at = (0..count)
            .rev()
            .find(|&n| gone(self, n) || free(self, n))
            .or_else(|| (0..count).rev().find(|&n| first && ring(self, n)))?;
        let id = self.victim(at)?;
        let last = self.victim(count.saturating_sub(1))?;
        if let Some(place) = self.lifecycle.victims.get_mut(at) {
            *place = last;
        }
        self.lifecycle.victim_count = count.saturating_sub(1);
        Some(id)
    }

    /// Whether only snapshots that a clone itself stands on are in the way of its going.
    fn hangs_on_itself(&self, id: EntityId) -> bool {
        let Some(mut at) = self.catalog.get(id).map(Entity::base) else { return false };
        let mut below = 0usize;
        while let Some(base) = at.and_then(|base| self.catalog.get(base)) {
            below = below.saturating_add(usize::from(base.owner() == id));
            at = base.base();
        }
        let own = self.catalog.snapshots_of_volume(id);
        below != 0 && own.fold(0usize, |n, _| n.saturating_add(1)) == below
    }

    /// Removes a few victims.
    #[inline(never)]
    fn record_victims(&mut self, t: u32) -> Result<(), Fault> {
        let mut maps = [(MapId(0), EntityId(0)); GROUP];
        self.begin_group(24)?;
        let (mut taken, before) = (0, self.lifecycle.victim_count);
        for entry in &mut maps {
            let Some(id) = self.take_victim(taken == 0) else { break };
            let Some(entity) = self.catalog.get(id) else { continue };
            *entry = (entity.map(), entity.base().unwrap_or_default());
            taken = 1;
            self.remove_entity(id)?;
        }
        if self.lifecycle.victim_count == before {
            return Err(crate::bug!());
        }
        if taken != 0 {
            for (map, base) in maps {
                if map != MapId(0) {
                    self.log_sweep(t, map)?;
                }
                if base != EntityId(0) {
                    self.drop_deferred(t, base)?;
                }
            }
        }
        self.end_group()?;
        self.refresh_volumes();
        self.rebuild_views();
        Ok(())
    }

    /// Takes an entity out of the catalogue, and its volume away.
    pub(crate) fn remove_entity(&mut self, id: EntityId) -> Result<(), Fault> {
        self.cut_off(id);
        self.log_remove(id)?;
        if let Some(v) = self.vol_of_entity(id) {
            self.drop_volume(v);
        }
        Ok(())
    }

    /// Sees to it that a map is swept: of all its records, or of those that no view needs.
    pub(crate) fn log_sweep(&mut self, t: u32, map: MapId) -> Result<(), Fault> {
        let mut what = SWEEP_ALL;
        let mut sweep = None;
        for user in self.catalog.users_of_map(map) {
            match user.kind() {
                Some(Kind::Sweep) => sweep = Some(user.id()),
                _ => what = SWEEP_VIEWS,
            }
        }
        self.lifecycle.sweeper.again(map);
        if let Some(id) = sweep {
            return self.change(id, |e| e.sweep.what = what.into());
        }
        self.begin_draft(t, Kind::Sweep, &Name::default(), 9);
        let draft = &mut self.lifecycle.draft;
        draft.map = map.0.into();
        draft.sweep.what = what.into();
        self.put_draft().map(|_| ())
    }

    /// Removes a snapshot that was only waiting for its last user to go.
    pub(crate) fn drop_deferred(&mut self, t: u32, id: EntityId) -> Result<(), Fault> {
        let Some(entity) = self.catalog.get(id) else { return Ok(()) };
        if !entity.has(FLAG_DEFERRED) || self.is_needed(id) {
            return Ok(());
        }
        let map = entity.map();
        self.remove_entity(id)?;
        self.log_sweep(t, map)
    }

    /// Removes snapshots that wait for nobody any more: those below one that went in this way, or
    /// that a restore needed, or that a crash spared. Each goes in a group of its own.
    pub(crate) fn look_at_deferred(&mut self) {
        while self.lifecycle.deferred {
            // A command at its moment has looked at its snapshots already.
            if self.lifecycle.moment != NONE || self.space.giving_up.is_some() || self.closing {
                return;
            }
            let waits = |e: &&Entity| e.has(FLAG_DEFERRED) && !self.is_needed(e.id());
            let Some(id) = self.catalog.iter().find(waits).map(Entity::id) else {
                self.lifecycle.deferred = false;
                return;
            };
            let memory = self.catalog.reserve(&self.platform, 4).is_ok();
            if !memory || !self.log_has_room_for_entities(4) {
                return;
            }
            if let Err(fault) = self.record_deferred(id) {
                return self.fence(fault);
            }
        }
    }

    fn record_deferred(&mut self, id: EntityId) -> Result<(), Fault> {
        self.begin_group(4)?;
        self.drop_deferred(NONE, id)?;
        self.end_group()?;
        self.commit.wanted = true;
        self.refresh_volumes();
        self.rebuild_views();
        Ok(())
    }
}
