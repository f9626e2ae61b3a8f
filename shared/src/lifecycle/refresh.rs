// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Refreshing a clone: it keeps its name and UUID and gets a fresh map on another snapshot.
//!
//! The map it had is swept in the background, but for what the clone's own snapshots need; or it
//! goes to a clone that keeps the former state.

use crate::control::{Refusal, FLAG_FORCE};
use crate::engine::{Core, Stage, NONE};
use crate::fault::Fault;
use crate::format::entity::{Entity, Kind};
use crate::lifecycle::command::{Blamed, Whose};
use crate::lifecycle::destroy::OWN_CHAIN;
use crate::lifecycle::moment::MOMENT;
use crate::platform::Platform;
use crate::units::EntityId;

impl<P: Platform> Core<P> {
    /// Runs the command `Refresh`.
    pub(crate) fn run_refresh(&mut self, t: u32) {
        if !self.take_moment(t) {
            return;
        }
        if self.tasks.at(t).stage == Stage::Begin {
            self.check_refresh(t);
            if self.refuse_blamed(t) {
                return;
            }
            if let Some(v) = self.vol_named(self.name(t).bytes()) {
                self.cut_off_writers(v);
                self.hold(v);
                if self.other(t).bytes().is_empty() {
                    if let Some(base) = self.base_volume(v) {
                        self.hold(base);
                    }
                }
            }
            self.tasks.at_mut(t).stage = Stage::Step(MOMENT);
        }
        if !self.at_moment(t) || !self.may_add(t, 8) {
            return;
        }
        match self.record_refresh(t) {
            Ok(()) => self.when_logged(t),
            Err(fault) => self.fence_command(t, fault),
        }
    }

    /// Blames all that is in the way of the refresh.
    #[inline(never)]
    fn check_refresh(&mut self, t: u32) {
        let clone = self.check_clone_of(t);
        let v = clone.unwrap_or(NONE);
        self.blame_if(t, clone.map(|_| ()).map_err(|why| (why, Whose::Name)));
        let base = match (v, self.other(t).bytes()) {
            (NONE, []) => Ok(()),
            (_, []) => self.check_base_volume(v),
            _ => self
                .check_base(self.other(t))
                .and_then(|()| self.check_refresh_to(t, v))
                .map_err(|why| (why, Whose::Other)),
        };
        self.blame_if(t, base);
        if self.items(t) != 0 {
            let fresh = self.check_new_name(self.item_name(t, 0));
            self.blame_if(t, fresh.map_err(|why| (why, Whose::Item(0))));
            if self.vols.left() == 0 {
                self.blame(t, Refusal::TableFull, Whose::Item(0));
            }
        }
        if self.catalog.reserve(&self.platform, 8).is_err() {
            self.blame(t, Refusal::NoMemory, Whose::Name);
        }
    }

    /// The clone, if it can be refreshed now.
    fn check_clone_of(&self, t: u32) -> Result<u32, Refusal> {
        let name = self.name(t);
        let Some(clone) = self.named(name) else { return Err(Refusal::NotFound) };
        if clone.kind() != Some(Kind::Clone) {
            return Err(Refusal::WrongKind);
        }
        let v = self.vol_named(name.bytes()).ok_or(Refusal::NotFound)?;
        if self.vols.at(v).writers != 0 && !self.flag(t, FLAG_FORCE) {
            return Err(Refusal::OpenForWriting);
        }
        Ok(v)
    }

    /// Whether a new snapshot can be taken of the volume that the clone stands on.
    fn check_base_volume(&self, v: u32) -> Result<(), Blamed> {
        let base = self.base_volume(v).ok_or((Refusal::NotFound, Whose::Name))?;
        if !self.is_online(base) {
            return Err((Refusal::Offline, Whose::Entity(self.vols.at(base).id)));
        }
        Ok(())
    }

    /// Whether the clone `v` can go to a snapshot that a clone can stand on.
    fn check_refresh_to(&mut self, t: u32, v: u32) -> Result<(), Refusal> {
        let to = self.other(t);
        let Some(snapshot) = self.named(to).filter(|_| v != NONE) else { return Ok(()) };
        if snapshot.size.get() != self.vols.at(v).size {
            return Err(Refusal::Unrelated);
        }
        let id = snapshot.id();
        self.check_ring(self.vols.at(v).id, id)
    }

    /// A clone may stand on snapshots of its own, a few of them one below the other: they go with
    /// it in one group. It must not hang on itself in any other way, or nothing of it could ever be
    /// destroyed.
    fn check_ring(&mut self, clone: EntityId, to: EntityId) -> Result<(), Refusal> {
        self.choose_all_on(clone).map_err(|_| Refusal::NoMemory)?;
        let (mut at, mut own) = (Some(to), 0usize);
        while let Some(s) = at.and_then(|id| self.catalog.get(id)) {
            if s.owner() != clone {
                // Those below hang on the clone only if this one does.
                return if self.is_victim(s.id()) { Err(Refusal::Needed) } else { Ok(()) };
            }
            own = own.saturating_add(1);
            if own > OWN_CHAIN {
                return Err(Refusal::Needed);
            }
            at = s.base();
        }
        Ok(())
    }

    /// The volume that a clone's base is a snapshot of.
    pub(crate) fn base_volume(&self, v: u32) -> Option<u32> {
        let base = self.catalog.get(self.vols.at(v).id)?.base()?;
        let owner = self.catalog.get(base)?.owner();
        self.vol_of_entity(owner)
    }

    #[inline(never)]
    fn record_refresh(&mut self, t: u32) -> Result<(), Fault> {
        let v = self.vol_named(self.name(t).bytes()).ok_or(crate::bug!())?;
        let id = self.vols.at(v).id;
        let former = self.catalog.get(id).and_then(Entity::base);
        self.begin_group(6)?;
        let base = if self.other(t).bytes().is_empty() {
            self.record_base(t, v)?
        } else {
            self.id_of(self.other(t)).ok_or(crate::bug!())?
        };
        let mut kept = None;
        if self.items(t) != 0 {
            kept = Some(self.keep_former(t, id)?);
        } else {
            self.log_sweep(t, self.vols.at(v).map)?;
        }
        let map = self.next_map();
        let epoch = self.epoch().next();
        self.change(id, |clone| {
            clone.map = map.0.into();
            clone.base = base.0.into();
            clone.epoch = epoch.0.into();
            clone.used = 0.into();
        })?;
        if kept.is_none() {
            if let Some(former) = former {
                self.drop_deferred(t, former)?;
            }
        }
        self.end_group()?;
        self.vols.at_mut(v).used = 0;
        self.keep_promise(v);
        if let Some(kept) = kept {
            self.add_volume(kept)?;
        }
        // The new base's volume has one snapshot more, the former base's perhaps one less.
        self.refresh_volumes();
        self.rebuild_views();
        Ok(())
    }

    /// A new snapshot of the base's volume; it goes when the clone does not need it any more.
    #[inline(never)]
    fn record_base(&mut self, t: u32, v: u32) -> Result<EntityId, Fault> {
        let source = self.base_volume(v).ok_or(crate::bug!())?;
        let epoch = self.next_epoch();
        let owner = self.name_of(self.vols.at(source).id);
        let snapshot = self.auto_name(owner.bytes(), self.name(t).bytes(), epoch);
        self.draft_snapshot(t, source, &snapshot, epoch, 2);
        self.lifecycle.draft.set_flags(crate::control::rows::FLAG_DEFERRED, true);
        let id = self.put_draft()?;
        self.bump_write_epoch(source, epoch)?;
        Ok(id)
    }

    /// Puts the clone's former state under another name.
    #[inline(never)]
    fn keep_former(&mut self, t: u32, id: EntityId) -> Result<EntityId, Fault> {
        let old = self.catalog.get(id).ok_or(crate::bug!())?;
        let (map, base, epoch, size) = (old.map, old.base, old.epoch, old.size);
        let used = self.vol_of_entity(id).map_or(0, |v| self.vols.at(v).used);
        let keep = *self.item_name(t, 0);
        self.begin_draft(t, Kind::Clone, &keep, 3);
        let draft = &mut self.lifecycle.draft;
        draft.map = map;
        draft.base = base;
        draft.epoch = epoch;
        draft.size = size;
        draft.used = used.into();
        self.put_draft()
    }
}
