// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Opening volumes and snapshots, and what their views are made of.

use crate::api::Handle;
use crate::control::rows::FLAG_HIDDEN;
use crate::control::{Name, Refusal};
use crate::engine::prints::{known_fingerprint, Print};
use crate::engine::view::{Dir, Level, View, Volume};
use crate::engine::{Core, NONE};
use crate::fast::Fast;
use crate::fault::Fault;
use crate::format::entity::{Entity, Kind};
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::{Dev, EntityId, Epoch, MapId};

/// What opening a volume gives.
pub struct Attached<P: Platform> {
    /// For requests.
    pub handle: Handle,
    /// Bytes.
    pub size: u64,
    /// It cannot be written.
    pub read_only: bool,
    /// The hot path, of a production.
    pub fast: Option<P::Ref<Fast<P>>>,
    /// Its number.
    pub id: EntityId,
}

impl<P: Platform> Core<P> {
    /// Opens a volume or snapshot by its name for I/O.
    ///
    /// # Errors
    ///
    /// Not found, its data is lost, its device is missing, or too many are open.
    pub fn attach(&mut self, name: &[u8], write: bool) -> Result<Attached<P>, Refusal> {
        let entity = self.catalog.by_name(name).ok_or(Refusal::NotFound)?;
        let (id, kind, size) = (entity.id(), entity.kind(), entity.size.get());
        if kind == Some(Kind::Snapshot) && !entity.is_living_snapshot() {
            return Err(Refusal::Lost);
        }
        let write = write && kind != Some(Kind::Snapshot);
        let vol = self.vol_of_entity(id).unwrap_or(NONE);
        if vol != NONE && !self.is_online(vol) {
            return Err(Refusal::Offline);
        }
        let at = self.views.take().ok_or(Refusal::TableFull)?;
        *self.views.at_mut(at) = View { open: true, id, write, vol, size, ..View::FREE };
        if !self.fill_view(at) {
            self.views.at_mut(at).open = false;
            self.views.give(at);
            return Err(Refusal::WrongKind);
        }
        let mut fast = None;
        if vol != NONE {
            let v = self.vols.at_mut(vol);
            v.readers = v.readers.saturating_add(1);
            v.writers = v.writers.saturating_add(u32::from(write));
            fast = v.fast.clone();
        }
        Ok(Attached { handle: Handle(at), size, read_only: !write, fast, id })
    }

    /// Closes what `attach` opened. Its requests must be done.
    pub fn detach(&mut self, handle: Handle) {
        let view = self.views.at(handle.0);
        if !view.open {
            return;
        }
        let (vol, write, lost) = (view.vol, view.write, view.lost);
        self.views.at_mut(handle.0).open = false;
        self.views.give(handle.0);
        if vol != NONE && !lost {
            let v = self.vols.at_mut(vol);
            v.readers = v.readers.saturating_sub(1);
            v.writers = v.writers.saturating_sub(u32::from(write));
        }
    }

    /// Calls `visit` with the name of each volume and snapshot that can be opened.
    pub fn names(&self, visit: &mut dyn FnMut(&Name)) {
        let serves = |e: &&Entity| match e.kind() {
            Some(Kind::Production | Kind::Clone) => !e.has(FLAG_HIDDEN),
            Some(Kind::Snapshot) => e.is_living_snapshot() && !e.has(FLAG_HIDDEN),
            _ => false,
        };
        self.catalog.iter().filter(serves).for_each(|e| visit(&e.name));
    }

    /// Whether a forced command has cut this one off: every request of it fails.
    pub fn handle_lost(&self, handle: Handle) -> bool {
        self.views.at(handle.0).lost
    }

    /// Makes a view from the catalogue; false if it has too many levels.
    pub(crate) fn fill_view(&mut self, at: u32) -> bool {
        let view = self.views.at_mut(at);
        view.depth = 0;
        view.end = Dev::SAVE;
        view.end_map = MapId(0);
        let id = view.id;
        let Some(entity) = self.catalog.get(id) else { return false };
        match entity.kind() {
            Some(Kind::Production) => self.fill_production(at, id),
            Some(Kind::Clone) => {
                let level =
                    Level { map: entity.map(), lo: Epoch(0), hi: Epoch(u32::MAX), dir: Dir::Last };
                let base = entity.base();
                self.views.at_mut(at).push(level) && self.fill_snapshot(at, base, Epoch(u32::MAX))
            }
            Some(Kind::Snapshot) => self.fill_snapshot(at, Some(id), Epoch(u32::MAX)),
            _ => false,
        }
    }

    /// A production's own view: in place, but for what a restore has not settled.
    fn fill_production(&mut self, at: u32, id: EntityId) -> bool {
        let Some(entity) = self.catalog.get(id) else { return false };
        let dev = device_of(entity);
        let restore = entity.restoring().copied();
        self.views.at_mut(at).end = dev;
        let Some(restore) = restore else { return true };
        self.fill_restore(at, &restore, Epoch(u32::MAX)) && {
            // Its own reads in place need not be waited for: nobody overwrites what is settled.
            self.views.at_mut(at).end_map = MapId(0);
            true
        }
    }

    /// M up to `hi`, then what X holds.
    fn fill_restore(
        &mut self,
        at: u32,
        restore: &crate::format::entity::Restore,
        hi: Epoch,
    ) -> bool {
        let m = Level { map: MapId(restore.m_map.get()), lo: Epoch(0), hi, dir: Dir::Last };
        let limit = self.restore_epoch(restore).prev();
        let x = Some(EntityId(restore.x.get()));
        let pushed = self.views.at_mut(at).push(m);
        let view = self.views.at_mut(at);
        view.kept_from = view.depth;
        pushed && self.fill_snapshot(at, x, limit)
    }

    /// The epoch of R.
    pub(crate) fn restore_epoch(&self, restore: &crate::format::entity::Restore) -> Epoch {
        Epoch(restore.r_epoch.get())
    }

    /// Adds the levels of a snapshot; records of production later than `limit` do not count.
    fn fill_snapshot(&mut self, at: u32, id: Option<EntityId>, limit: Epoch) -> bool {
        let mut next = id;
        while let Some(id) = next {
            let Some(entity) = self.catalog.get(id) else { return false };
            let (map, epoch, base) = (entity.map(), entity.epoch(), entity.base());
            if base.is_some() {
                let level = Level { map, lo: Epoch(0), hi: epoch, dir: Dir::Last };
                if !self.views.at_mut(at).push(level) {
                    return false;
                }
                next = base;
                continue;
            }
            return self.fill_old(at, map, epoch, limit);
        }
        true
    }

    /// Adds the old data of a production's snapshot at `epoch`.
    fn fill_old(&mut self, at: u32, map: MapId, epoch: Epoch, limit: Epoch) -> bool {
        let Some(owner) = self.catalog.volume_of_map(map) else { return false };
        let (dev, restore) = (device_of(owner), owner.restoring().copied());
        let level = Level { map, lo: epoch, hi: limit, dir: Dir::First };
        let view = self.views.at_mut(at);
        view.end = dev;
        view.end_map = map;
        if !view.push(level) {
            return false;
        }
        match restore {
            Some(r) if limit == Epoch(u32::MAX) && epoch >= self.restore_epoch(&r) => {
                self.fill_restore(at, &r, epoch) && {
                    let view = self.views.at_mut(at);
                    view.end_map = map;
                    true
                }
            }
            _ => true,
        }
    }

    /// Makes all views anew: what they are made of has changed.
    pub(crate) fn rebuild_views(&mut self) {
        for at in 0..self.views.top() {
            let view = self.views.at(at);
            if view.open && !view.lost && !self.fill_view(at) {
                self.views.at_mut(at).lost = true;
            }
        }
        self.versions.bump_all();
        self.lifecycle.views_made = self.lifecycle.views_made.saturating_add(1);
    }

    /// Whether views were made anew since the task looked up its chunks: what it read in place may
    /// have been overwritten since, for nobody needed it any more.
    pub(crate) fn has_new_view(&self, t: u32) -> bool {
        self.tasks.at(t).views != self.lifecycle.views_made
    }

    /// Cuts off all who have the object open.
    pub(crate) fn cut_off(&mut self, id: EntityId) {
        for at in 0..self.views.top() {
            let view = self.views.at_mut(at);
            if view.open && view.id == id {
                view.lost = true;
            }
        }
        if let Some(v) = self.vol_of_entity(id) {
            let vol = self.vols.at_mut(v);
            vol.readers = 0;
            vol.writers = 0;
        }
    }

    /// Cuts off those who have the volume open for writing.
    pub(crate) fn cut_off_writers(&mut self, v: u32) {
        for at in 0..self.views.top() {
            let view = self.views.at_mut(at);
            if view.open && view.vol == v && view.write {
                view.lost = true;
                let vol = self.vols.at_mut(v);
                vol.writers = vol.writers.saturating_sub(1);
                vol.readers = vol.readers.saturating_sub(1);
            }
        }
    }

    /// Whether anybody has the object open.
    pub(crate) fn is_open(&self, id: EntityId) -> bool {
        (0..self.views.top()).any(|at| {
            let view = self.views.at(at);
            view.open && !view.lost && view.id == id
        })
    }

    /// The volume of that name.
    pub(crate) fn vol_named(&self, name: &[u8]) -> Option<u32> {
        self.vol_of_entity(self.catalog.by_name(name)?.id())
    }

    /// The volume of an entity. There may be a great many snapshots, and they have none.
    pub(crate) fn vol_of_entity(&self, id: EntityId) -> Option<u32> {
        if self.catalog.get(id).is_some_and(|e| e.kind() == Some(Kind::Snapshot)) {
            return None;
        }
        (0..self.vols.top()).find(|&v| self.vols.at(v).live && self.vols.at(v).id == id)
    }

    /// Whether a volume's device, or that of its production, is there.
    pub(crate) fn is_online(&self, v: u32) -> bool {
        let vol = self.vols.at(v);
        if !vol.clone {
            return vol.fast.is_some();
        }
        let mut at = self.catalog.get(vol.id).and_then(Entity::base);
        while let Some(snapshot) = at.and_then(|id| self.catalog.get(id)) {
            if snapshot.base().is_none() {
                let owner = snapshot.owner();
                return self.vol_of_entity(owner).is_some_and(|v| self.vols.at(v).fast.is_some());
            }
            at = snapshot.base();
        }
        false
    }

    /// The full name of an object.
    pub(crate) fn name_of(&self, id: EntityId) -> &Name {
        self.catalog.get(id).map_or(&Name::EMPTY, |e| &e.name)
    }

    /// Enters a production or clone of the catalogue into the table of volumes.
    pub(crate) fn add_volume(&mut self, id: EntityId) -> Result<(), Fault> {
        let entity = self.catalog.get(id).ok_or(crate::bug!())?;
        let clone = entity.kind() == Some(Kind::Clone);
        let (dev, size) = (device_of(entity), entity.size.get());
        let (used, quota) = (entity.used.get(), entity.quota.get() >> self.geometry.shift());
        let reservation = self.slots_for(entity.reservation.get());
        let valid = known_fingerprint(entity).is_some();
        let print = if valid { Print::Valid } else { Print::Void };
        let v = self.vols.take().ok_or(Fault::NoMemory)?;
        *self.vols.at_mut(v) = Volume {
            live: true,
            id,
            clone,
            dev: if clone { Dev::SAVE } else { dev },
            size,
            used,
            quota,
            reservation,
            print,
            ..Volume::free()
        };
        self.refresh_volume(v);
        self.keep_promise(v);
        Ok(())
    }

    /// Takes a volume out of the table.
    pub(crate) fn drop_volume(&mut self, v: u32) {
        for at in 0..self.views.top() {
            let view = self.views.at_mut(at);
            if view.vol == v {
                view.vol = NONE;
                view.lost = true;
            }
        }
        self.drop_promise(v);
        let vol = self.vols.at_mut(v);
        vol.live = false;
        vol.hold = false;
        let ahead = core::mem::replace(&mut vol.ahead, NONE);
        let fast = vol.fast.take();
        let mut held = core::mem::take(&mut vol.held);
        if let Some(fast) = fast {
            fast.set(crate::fast::Mode::Slow, Epoch(0));
        }
        self.wake_all(&mut held);
        if ahead != NONE {
            self.views.give(ahead);
        }
        self.vols.give(v);
    }

    /// Brings what a volume knows of its snapshots and map up to date with the catalogue.
    pub(crate) fn refresh_volume(&mut self, v: u32) {
        let id = self.vols.at(v).id;
        let Some(entity) = self.catalog.get(id) else { return };
        let map = entity.map();
        let newest = self.catalog.newest_epoch(map).unwrap_or_default();
        let restore = entity.restoring().copied();
        let epoch = entity.epoch();
        let (last, durable) = (self.log.last(), self.commit.durable);
        let at_once = self.mutant(Mutant::GiveUpNotDurable) || last <= durable;
        let vol = self.vols.at_mut(v);
        let other = vol.map != map;
        vol.map = map;
        if newest >= vol.newest || other || at_once {
            vol.newest = newest;
            if vol.lowers.take().is_some() {
                let mut held = core::mem::take(&mut vol.held);
                self.wake_all(&mut held);
            }
        } else {
            // The last of several that went counts.
            vol.lowers = Some(last);
            self.lowering = true;
        }
        // Later than all that M has: when snapshots go, the newest one's epoch falls.
        let next = self.epoch().next();
        let vol = self.vols.at_mut(v);
        if vol.clone {
            vol.redirect = Some(map);
            vol.write_epoch = epoch;
        } else {
            vol.redirect = restore.map(|r| MapId(r.m_map.get()));
            vol.write_epoch = next;
        }
        self.set_mode(v);
    }

    /// Goes on with volumes whose newest snapshot is durably gone.
    #[inline(never)]
    pub(crate) fn look_at_lowering(&mut self) {
        if !core::mem::take(&mut self.lowering) {
            return;
        }
        for v in 0..self.vols.top() {
            self.look_at_print(v);
            // Writes under way were resolved under the newest epoch as it still is (I-13).
            let quiet = self.vols.at(v).writes == 0 || self.vols.at(v).redirect.is_none();
            match self.vols.at(v).lowers {
                Some(pos) if pos <= self.commit.durable && quiet => {
                    let vol = self.vols.at_mut(v);
                    vol.lowers = None;
                    vol.newest = Epoch(0);
                    let mut held = core::mem::take(&mut vol.held);
                    self.wake_all(&mut held);
                    self.refresh_volume(v);
                }
                Some(pos) => {
                    self.lowering = true;
                    self.commit.wanted |= pos > self.commit.durable;
                }
                None => {}
            }
        }
    }

    /// As `refresh_volume`, for all of them: snapshots have gone, as the log's last record says.
    pub(crate) fn refresh_volumes(&mut self) {
        self.lifecycle.removed = self.log.last();
        self.lifecycle.deferred = true;
        for v in 0..self.vols.top() {
            if self.vols.at(v).live {
                self.refresh_volume(v);
            }
        }
    }
}

/// The driver's number for a production's device.
pub(crate) fn device_of(entity: &Entity) -> Dev {
    Dev(u16::try_from(entity.device.get()).unwrap_or(0))
}
