// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Names, holds, properties, and the production volumes of the pool.

use crate::api::Device;
use crate::control::rows::FLAG_HELD;
use crate::control::{Name, Refusal};
use crate::engine::{Core, Stage};
use crate::fault::Fault;
use crate::format::entity::{Entity, Kind};
use crate::format::log::Entry;
use crate::lifecycle::command::{item_of, Whose};
use crate::lifecycle::moment::MOMENT;
use crate::lifecycle::{part, INPUT};
use crate::platform::Platform;
use crate::units::{Dev, EntityId};

/// What a `Set` may change of the pool itself or of a clone; all else is the user's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Quota,
    Reservation,
    WhenFull,
    CopySpan,
    Discard,
    SaveLimit,
    LowWater,
}

fn known(key: &[u8]) -> Option<Known> {
    Some(match key {
        b"quota" => Known::Quota,
        b"reservation" => Known::Reservation,
        b"when-full" => Known::WhenFull,
        b"copy-span" => Known::CopySpan,
        b"discard" => Known::Discard,
        b"save-limit" => Known::SaveLimit,
        b"low-water" => Known::LowWater,
        _ => return None,
    })
}

/// A number in decimal; empty is zero.
fn decimal(value: &[u8]) -> Option<u64> {
    value.iter().try_fold(0u64, |sum, &b| {
        let digit = b.is_ascii_digit().then_some(u64::from(b & 15))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

fn value_of(bytes: &[u8; 192]) -> &[u8] {
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    bytes.get(..len).unwrap_or(&[])
}

impl<P: Platform> Core<P> {
    /// Runs the command `Rename`.
    pub(crate) fn run_rename(&mut self, t: u32) {
        let (name, other) = (self.name(t), self.other(t));
        let found = self.named(name).map(|e| (e.id(), e.kind()));
        let snapshot = found.is_some_and(|(_, kind)| kind == Some(Kind::Snapshot));
        let (volume, part) = other.split();
        let fits = match part {
            Some(part) => snapshot && volume == name.split().0 && Name::part_is_valid(part),
            None => !snapshot && Name::part_is_valid(volume),
        };
        if found.is_none() {
            self.blame(t, Refusal::NotFound, Whose::Name);
        } else if !fits {
            self.blame(t, Refusal::BadName, Whose::Other);
        }
        if self.named(self.other(t)).is_some() {
            self.blame(t, Refusal::Exists, Whose::Other);
        }
        if self.refuse_blamed(t) {
            return;
        }
        let Some((id, _)) = found else { return };
        if !self.may_change(t, 4) {
            return;
        }
        match self.record_rename(t, id, snapshot) {
            Ok(()) => self.when_logged(t),
            Err(fault) => self.fence_command(t, fault),
        }
    }

    #[inline(never)]
    fn record_rename(&mut self, t: u32, id: EntityId, snapshot: bool) -> Result<(), Fault> {
        let name = *self.other(t);
        if snapshot {
            self.change(id, |e| e.name = name)
        } else {
            self.rename_volume(id, &name)
        }
    }

    /// A volume's snapshots bear its name: one entry renames all of them.
    fn rename_volume(&mut self, id: EntityId, name: &Name) -> Result<(), Fault> {
        self.push_entry(&Entry::Rename(id, *name))?;
        self.apply_rename(id, name)
    }

    /// Does what the log's rename says.
    pub(crate) fn apply_rename(&mut self, id: EntityId, name: &Name) -> Result<(), Fault> {
        *self.lifecycle.edit = *self.catalog.get(id).ok_or(Fault::Corrupt)?;
        self.lifecycle.edit.name = *name;
        self.catalog.put(&self.lifecycle.edit)?;
        let mut last = EntityId(0);
        while let Some(next) = self.catalog.snapshot_after(id, last).map(Entity::id) {
            last = next;
            let entity = self.catalog.get(next).ok_or(Fault::Corrupt)?;
            let edit = &mut self.lifecycle.edit;
            **edit = *entity;
            let part = entity.name.split().1.unwrap_or(&[]);
            Self::put_snapshot_name(&mut edit.name, name.bytes(), part).ok_or(Fault::Corrupt)?;
            self.catalog.put(edit)?;
        }
        Ok(())
    }

    /// Runs the commands `Hold` and `Release`.
    pub(crate) fn run_hold(&mut self, t: u32, on: bool) {
        let Some((id, kind)) = self.named(self.name(t)).map(|e| (e.id(), e.kind())) else {
            return self.refuse_for(t, Refusal::NotFound, Whose::Name);
        };
        if kind != Some(Kind::Snapshot) {
            return self.refuse_for(t, Refusal::WrongKind, Whose::Name);
        }
        if !self.may_change(t, 6) {
            return;
        }
        let change = |core: &mut Self| core.change(id, |e| e.set_flags(FLAG_HELD, on));
        let changed = if on { change(self) } else { self.release_deferred(t, id, change) };
        match changed {
            Ok(()) => self.when_logged(t),
            Err(fault) => self.fence_command(t, fault),
        }
    }

    /// Nobody holds a snapshot any more, and perhaps nobody needs it: it goes, with its sweep.
    fn release_deferred(
        &mut self,
        t: u32,
        id: EntityId,
        release: impl FnOnce(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.catalog.reserve(&self.platform, 8)?;
        self.begin_group(6)?;
        release(self)?;
        self.drop_deferred(t, id)?;
        self.end_group()?;
        self.refresh_volumes();
        self.rebuild_views();
        Ok(())
    }

    /// Runs the command `Set`.
    pub(crate) fn run_set(&mut self, t: u32) {
        let name = self.name(t);
        let pool = name.bytes().is_empty();
        let found = if pool { self.pool_entity() } else { self.id_of(name) };
        let Some(id) = found else { return self.refuse_for(t, Refusal::NotFound, Whose::Name) };
        let (mut bad, mut most) = (false, 0);
        for n in 0..self.items(t) {
            if !self.item_is_valid(t, n, id) {
                if pool && known(self.item_name(t, n).bytes()) == Some(Known::SaveLimit) {
                    most = self.largest_save();
                }
                let why = if self.item_has_place(t, n, id) {
                    Refusal::BadProperty
                } else {
                    Refusal::WrongKind
                };
                self.blame(t, why, Whose::Item(n));
                bad = true;
            }
        }
        if bad {
            return self.answer(t, Refusal::BadProperty, u64::MAX, most);
        }
        let lacks = self.reservation_lacks(t, id);
        if lacks != 0 {
            self.blame(t, Refusal::NoSpace, Whose::Name);
            return self.answer(t, Refusal::NoSpace, u64::MAX, lacks);
        }
        if !self.may_change(t, 4) {
            return;
        }
        match self.set_items(t, id) {
            Ok(()) => self.when_logged(t),
            Err(fault) => self.fence_command(t, fault),
        }
    }

    /// Whether an object of this kind has such a property.
    fn item_has_place(&self, t: u32, n: usize, id: EntityId) -> bool {
        let kind = self.catalog.get(id).and_then(Entity::kind);
        match self.item(t, n).and_then(|item| known(item.name.bytes())) {
            None => true,
            Some(Known::Quota | Known::Reservation) => kind == Some(Kind::Clone),
            Some(_) => kind == Some(Kind::Pool),
        }
    }

    fn item_is_valid(&self, t: u32, n: usize, id: EntityId) -> bool {
        let (Some(item), Some(entity)) = (self.item(t, n), self.catalog.get(id)) else {
            return false;
        };
        let (key, value) = (item.name.bytes(), value_of(&item.value));
        let clone = entity.kind() == Some(Kind::Clone);
        let pool = entity.kind() == Some(Kind::Pool);
        match known(key) {
            Some(Known::Quota | Known::Reservation) => {
                let (quota, reservation) = self.bounds_asked(t, entity);
                let fits = quota == 0 || reservation <= quota;
                clone && decimal(value).is_some() && fits
            }
            Some(Known::WhenFull) => {
                pool && matches!(value, b"grow" | b"oldest" | b"stall" | b"fail")
            }
            Some(Known::CopySpan) => {
                let span = decimal(value).unwrap_or(0);
                let least = u64::from(self.geometry.chunk_bytes());
                pool && span.is_power_of_two() && (least..=1 << 20).contains(&span)
            }
            Some(Known::Discard) => pool && matches!(value, b"ignore" | b"copy"),
            Some(Known::SaveLimit) => {
                pool && decimal(value).is_some_and(|n| n <= self.largest_save())
            }
            Some(Known::LowWater) => pool && decimal(value).is_some_and(|n| n <= 50),
            None => {
                let bytes = |sum: usize, (k, v): (&[u8], &[u8])| {
                    sum.saturating_add(k.len()).saturating_add(v.len()).saturating_add(2)
                };
                !key.is_empty() && entity.properties().fold(bytes(0, (key, value)), bytes) <= 512
            }
        }
    }

    /// Quota and reservation as the command would leave them, in bytes.
    fn bounds_asked(&self, t: u32, entity: &Entity) -> (u64, u64) {
        let mut bounds = (entity.quota.get(), entity.reservation.get());
        for n in 0..self.items(t) {
            let Some(item) = self.item(t, n) else { continue };
            let value = decimal(value_of(&item.value)).unwrap_or(0);
            match known(item.name.bytes()) {
                Some(Known::Quota) => bounds.0 = value,
                Some(Known::Reservation) => bounds.1 = value,
                _ => {}
            }
        }
        bounds
    }

    /// Bytes that the save volume lacks to promise what the command asks for.
    fn reservation_lacks(&self, t: u32, id: EntityId) -> u64 {
        let (Some(v), Some(entity)) = (self.vol_of_entity(id), self.catalog.get(id)) else {
            return 0;
        };
        let more = self.lacks(v, self.slots_for(self.bounds_asked(t, entity).1));
        more.saturating_sub(self.slots.available_to(0)) << self.geometry.shift()
    }

    #[inline(never)]
    fn set_items(&mut self, t: u32, id: EntityId) -> Result<(), Fault> {
        *self.lifecycle.edit = *self.catalog.get(id).ok_or(crate::bug!())?;
        for n in 0..self.items(t) {
            self.edit_item(t, n)?;
        }
        self.put_edit()?;
        self.take_pool_properties();
        self.make_space();
        if let Some(v) = self.vol_of_entity(id) {
            let edit = &self.lifecycle.edit;
            let (quota, reservation) = (edit.quota.get(), edit.reservation.get());
            let reservation = self.slots_for(reservation);
            let vol = self.vols.at_mut(v);
            vol.quota = quota >> self.geometry.shift();
            vol.reservation = reservation;
            self.keep_promise(v);
        }
        Ok(())
    }

    /// Does to the entity being changed what an item says.
    #[inline(never)]
    fn edit_item(&mut self, t: u32, n: usize) -> Result<(), Fault> {
        let c = self.tasks.at(t).aux;
        let life = &mut *self.lifecycle;
        let bytes = part(&life.inputs, c, INPUT).get(..life.slots.at(c).input_len);
        let Some(item) = bytes.and_then(|bytes| item_of(bytes, n)) else { return Ok(()) };
        let (key, value) = (item.name.bytes(), value_of(&item.value));
        let edit = &mut life.edit;
        match known(key) {
            Some(Known::Quota) => edit.quota = decimal(value).unwrap_or(0).into(),
            Some(Known::Reservation) => edit.reservation = decimal(value).unwrap_or(0).into(),
            // Those of the pool are kept as properties too: see `take_pool_properties`.
            _ => edit.set_property(key, value).map_err(|_| Fault::NoSpace)?,
        }
        Ok(())
    }

    /// Takes over what the pool's properties say of its policies.
    pub(crate) fn take_pool_properties(&mut self) {
        let Some(entity) = self.pool_entity().and_then(|id| self.catalog.get(id)) else { return };
        // What could not grow may try again.
        self.lifecycle.grows_to = u64::MAX;
        let s = &mut self.superblock;
        if let Some(value) = entity.property(b"when-full") {
            s.when_full = match value {
                b"grow" => 0u32,
                b"oldest" => 1,
                b"fail" => 3,
                _ => 2,
            }
            .into();
        }
        if let Some(span) = entity.property(b"copy-span").and_then(decimal) {
            s.copy_span = u32::try_from(span).unwrap_or(0).into();
        }
        if let Some(value) = entity.property(b"discard") {
            s.discard = u32::from(value == b"copy").into();
        }
        if let Some(limit) = entity.property(b"save-limit").and_then(decimal) {
            s.save_limit = limit.into();
        }
        if let Some(percent) = entity.property(b"low-water").and_then(decimal) {
            s.low_water = u32::try_from(percent).unwrap_or(0).into();
        }
        self.span_chunks = (s.copy_span.get() >> self.geometry.shift()).max(1);
    }

    /// Runs the command `Add`: the driver has opened the device and bears its number in `value`.
    pub(crate) fn run_add(&mut self, t: u32) {
        let (value, size) = self.input(t).map_or((0, 0), |c| (c.value.get(), c.limit.get()));
        if let Err(refusal) = self.check_new_name(self.name(t)) {
            return self.refuse_for(t, refusal, Whose::Name);
        }
        let dev = u16::try_from(value).unwrap_or(0);
        let block = u64::from(self.block).wrapping_sub(1);
        if dev == 0 || size == 0 || size & block != 0 || self.vol_by_dev(Dev(dev)).is_some() {
            return self.refuse(t, Refusal::Malformed);
        }
        if self.vols.left() == 0 {
            return self.refuse_for(t, Refusal::TableFull, Whose::Name);
        }
        if self.catalog.reserve(&self.platform, 8).is_err() {
            return self.refuse(t, Refusal::NoMemory);
        }
        if !self.may_add(t, 4) {
            return;
        }
        match self.record_production(t, dev, size) {
            Ok(()) => self.when_logged(t),
            Err(fault) => self.fence_command(t, fault),
        }
    }

    #[inline(never)]
    fn record_production(&mut self, t: u32, dev: u16, size: u64) -> Result<(), Fault> {
        self.begin_group(2)?;
        self.draft_production(t, dev, size);
        let id = self.put_draft()?;
        self.end_group()?;
        self.add_volume(id)?;
        let device = Device { size, block: self.block, volatile: true, fua: false };
        self.online(Dev(dev), device, 0, true).map_err(|_| Fault::NoMemory)
    }

    #[inline(never)]
    fn draft_production(&mut self, t: u32, dev: u16, size: u64) {
        let name = *self.name(t);
        self.begin_draft(t, Kind::Production, &name, 4);
        let map = self.next_map();
        let path = self.item(t, 0).map(|item| item.value);
        let draft = &mut self.lifecycle.draft;
        draft.map = map.0.into();
        draft.size = size.into();
        draft.device = u32::from(dev).into();
        if let Some(path) = &path {
            let _ = draft.set_property(b"path", value_of(path));
        }
    }

    /// Runs the command `Remove`.
    pub(crate) fn run_remove(&mut self, t: u32) {
        if !self.take_moment(t) {
            return;
        }
        let Some((id, kind)) = self.named(self.name(t)).map(|e| (e.id(), e.kind())) else {
            return self.refuse_for(t, Refusal::NotFound, Whose::Name);
        };
        if self.tasks.at(t).stage == Stage::Begin {
            if kind != Some(Kind::Production) {
                return self.refuse_for(t, Refusal::WrongKind, Whose::Name);
            }
            let mut last = EntityId(0);
            while let Some(next) = self.catalog.snapshot_after(id, last).map(Entity::id) {
                last = next;
                self.blame(t, Refusal::Needed, Whose::Entity(next));
            }
            if self.is_open(id) && !self.flag(t, crate::control::FLAG_FORCE) {
                self.blame(t, Refusal::OpenForWriting, Whose::Name);
            }
            if self.refuse_blamed(t) {
                return;
            }
            if let Some(v) = self.vol_of_entity(id) {
                self.cut_off(id);
                self.hold(v);
            }
            self.tasks.at_mut(t).stage = Stage::Step(MOMENT);
        }
        if !self.at_moment(t) || !self.may_change(t, 4) {
            return;
        }
        let removed = self
            .begin_group(2)
            .and_then(|()| self.remove_entity(id))
            .and_then(|()| self.end_group());
        match removed {
            Ok(()) => self.when_logged(t),
            Err(fault) => self.fence_command(t, fault),
        }
    }
}
