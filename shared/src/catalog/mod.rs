// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The catalogue: all volumes, snapshots and sweeps of the pool, in memory.
//!
//! [`Catalog::put`], [`Catalog::remove`] and [`Catalog::rename`] are exactly what the log's entries
//! do, so that recovery and the commands take one way. Entities stand in a table; sorted arrays of
//! links lead to them by id, name, (map, epoch), base, owner and map. Memory is taken by
//! [`Catalog::reserve`] alone.
//!
//! A checkpoint contains the catalogue as of its log position: [`Catalog::freeze`] copies it when
//! it has changed, and the copy is written while the catalogue changes on.
//!
//! # Invariants
//!
//! 1. Each entity has one link in every index that has a key for it, and no other.
//! 2. The table, the indices and the copy have room for the same number of entities: an entity
//!    that finds a place finds its links too.

mod query;
mod sorted;

use crate::bug;
use crate::control::Name;
use crate::fault::Fault;
use crate::format::entity::{Entity, Kind};
use crate::format::page::copy;
use crate::platform::Platform;
use crate::units::EntityId;

use sorted::{Key, Link, Sorted};

/// Index: by id.
const IDS: usize = 0;
/// Index: by hash of the name, then id.
const NAMES: usize = 1;
/// Index: living snapshots by map, epoch, id.
const EPOCHS: usize = 2;
/// Index: what is based on a snapshot: by base, id.
const BASES: usize = 3;
/// Index: snapshots by the volume they are named after, epoch, id.
const OWNERS: usize = 4;
/// Index: everything that has a map, by map, id.
const MAPS: usize = 5;
/// Index: sweeps by id.
const SWEEPS: usize = 6;
/// How many indices there are.
const INDICES: usize = 7;

/// Entities that a catalogue can have: its pages on disk are listed in a table of fixed size.
pub const ENTITIES: usize = 65_536;

/// Of those, so many come without being asked for: with a snapshot that is given up comes a sweep.
pub const KEPT_BACK: usize = 2048;

/// The catalogue.
pub struct Catalog<P: Platform> {
    table: P::Array<Entity>,
    /// Places of the table that are free: the first `free_len` entries, last one first.
    free: P::Array<u32>,
    free_len: usize,
    indices: [Sorted<P>; INDICES],
    frozen: P::Array<Entity>,
    frozen_len: usize,
    changed: bool,
}

/// Two halves of a hash of a name; names that share it are told apart by their bytes.
fn name_hash(name: &[u8]) -> [u32; 2] {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for &byte in name {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// Puts another volume into a full name. What does not fit is cut; valid parts fit.
fn rename_volume(name: &mut Name, volume: &[u8]) {
    let old = *name;
    *name = Name::default();
    copy(&mut name.0, 0, volume);
    if let Some(snapshot) = old.split().1 {
        let at = volume.len();
        copy(&mut name.0, at, b"@");
        copy(&mut name.0, at.saturating_add(1), snapshot);
    }
    if let Some(last) = name.0.last_mut() {
        *last = 0;
    }
}

/// The keys that an entity has in each index.
fn keys(entity: &Entity) -> [Option<Key>; INDICES] {
    let (id, map, epoch) = (entity.id().0, entity.map().0, entity.epoch().0);
    let kind = entity.kind();
    let name = entity.name.bytes();
    let [high, low] = name_hash(name);
    [
        Some([id, 0, 0]),
        (!name.is_empty()).then_some([high, low, id]),
        entity.is_living_snapshot().then_some([map, epoch, id]),
        entity.base().map(|base| [base.0, id, 0]),
        (kind == Some(Kind::Snapshot)).then_some([entity.owner().0, epoch, id]),
        (kind != Some(Kind::Pool)).then_some([map, id, 0]),
        (kind == Some(Kind::Sweep)).then_some([id, 0, 0]),
    ]
}

impl<P: Platform> Catalog<P> {
    /// An empty catalogue with room for `capacity` entities.
    ///
    /// # Errors
    ///
    /// There is no memory.
    pub fn new(platform: &P, capacity: usize) -> Result<P::Box<Self>, Fault> {
        let mut made = platform.boxed(Self::bare).ok_or(Fault::NoMemory)?;
        made.table = platform.array(capacity, &Entity::ZERO).ok_or(Fault::NoMemory)?;
        made.free = platform.array(capacity, &0).ok_or(Fault::NoMemory)?;
        for index in &mut made.indices {
            index.make(platform, capacity)?;
        }
        made.frozen = platform.array(capacity, &Entity::ZERO).ok_or(Fault::NoMemory)?;
        made.free_from(0);
        Ok(made)
    }

    /// One that has no room, and no memory.
    #[inline(always)]
    fn bare() -> Self {
        Self {
            table: P::Array::default(),
            free: P::Array::default(),
            free_len: 0,
            indices: core::array::from_fn(|_| Sorted::bare()),
            frozen: P::Array::default(),
            frozen_len: 0,
            changed: false,
        }
    }

    /// Makes the places from `first` on free.
    fn free_from(&mut self, first: usize) {
        let count = self.table.len().saturating_sub(first);
        let places = (first..self.table.len()).rev();
        for (entry, place) in self.free.iter_mut().zip(places) {
            *entry = u32::try_from(place).unwrap_or(u32::MAX);
        }
        self.free_len = count;
    }

    /// Sees to it that `more` entities can be put; takes memory, so not in the request path.
    ///
    /// # Errors
    ///
    /// There is no memory; nothing is changed. The frozen copy, if there is one, is kept.
    pub fn reserve(&mut self, platform: &P, more: usize) -> Result<(), Fault> {
        if self.free_len >= more {
            return Ok(());
        }
        let capacity = self.len().saturating_mul(2).max(self.len().saturating_add(more));
        let mut larger = Self::new(platform, capacity)?;
        // Places keep their numbers: the old table becomes the head of the new one.
        for (to, from) in larger.table.iter_mut().zip(self.table.iter()) {
            *to = *from;
        }
        for (to, from) in larger.frozen.iter_mut().zip(self.frozen()) {
            *to = *from;
        }
        for (to, from) in larger.indices.iter_mut().zip(&self.indices) {
            to.take_over(from);
        }
        larger.frozen_len = self.frozen_len;
        larger.changed = self.changed;
        larger.free_from(self.table.len());
        let grown = larger.free_len;
        let old = self.free.iter().take(self.free_len);
        for (to, from) in larger.free.iter_mut().skip(grown).zip(old) {
            *to = *from;
        }
        larger.free_len = grown.saturating_add(self.free_len);
        core::mem::swap(self, &mut *larger);
        Ok(())
    }

    /// How many entities there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index(IDS).map_or(0, |ids| ids.all().len())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many more can be put without [`Catalog::reserve`].
    #[must_use]
    pub fn room(&self) -> usize {
        self.free_len
    }

    /// Adds an entity, or replaces the one of its id.
    ///
    /// Two entities may bear one name for the time of a group of log entries (a refresh that keeps
    /// the former state renames one and adds another); the lower id is found then.
    ///
    /// # Errors
    ///
    /// `NoMemory`: there is no room; [`Catalog::reserve`] was not asked. `Corrupt`: it is none that
    /// rwsnap can have made. Nothing is changed.
    pub fn put(&mut self, entity: &Entity) -> Result<(), Fault> {
        if !entity.check() {
            return Err(Fault::Corrupt);
        }
        let (place, before) = match self.place(entity.id()) {
            Some(place) => (place, keys(self.at(place).ok_or(bug!())?)),
            None => (self.take_place().ok_or(Fault::NoMemory)?, [None; INDICES]),
        };
        *self.at_mut(place).ok_or(bug!())? = *entity;
        self.changed = true;
        // A link that stays the same need not be moved past half of all others and back.
        let after = keys(entity);
        for ((index, old), new) in self.indices.iter_mut().zip(&before).zip(&after) {
            if old == new {
                continue;
            }
            let gone = old.is_none_or(|key| index.remove(Link { key, place }));
            if !gone || !new.is_none_or(|key| index.insert(Link { key, place })) {
                return Err(bug!());
            }
        }
        Ok(())
    }

    /// Removes the entity of this id; false if there is none.
    ///
    /// # Errors
    ///
    /// A broken invariant.
    pub fn remove(&mut self, id: EntityId) -> Result<bool, Fault> {
        let Some(place) = self.place(id) else { return Ok(false) };
        self.unlink(place)?;
        *self.at_mut(place).ok_or(bug!())? = Entity::ZERO;
        *self.free.get_mut(self.free_len).ok_or(bug!())? = place;
        self.free_len = self.free_len.saturating_add(1);
        self.changed = true;
        Ok(true)
    }

    /// Gives a volume another name, and its snapshots with it; false if there is no such volume.
    /// One log entry for all of them: a volume may have thousands.
    ///
    /// # Errors
    ///
    /// `Corrupt`: the name is none that a volume can bear.
    pub fn rename(&mut self, id: EntityId, name: &Name) -> Result<bool, Fault> {
        if !Self::name_is_valid(Kind::Production, name) {
            return Err(Fault::Corrupt);
        }
        let Some(place) = self.place(id) else { return Ok(false) };
        self.rename_at(place, name)?;
        let mut after = [id.0, 0, 0];
        loop {
            let next = self.index(OWNERS).and_then(|owners| owners.from(after).first().copied());
            let Some(link) = next.filter(|link| link.key[0] == id.0) else { return Ok(true) };
            self.rename_at(link.place, name)?;
            let [owner, epoch, snapshot] = link.key;
            let Some(next) = snapshot.checked_add(1) else { return Err(bug!()) };
            after = [owner, epoch, next];
        }
    }

    /// Changes the volume in one name, and the links with it.
    fn rename_at(&mut self, place: u32, volume: &Name) -> Result<(), Fault> {
        self.unlink(place)?;
        rename_volume(&mut self.at_mut(place).ok_or(bug!())?.name, volume.bytes());
        self.changed = true;
        self.link(place)
    }

    /// Sets how many slots an entity holds and reads from. This is not logged: it reaches the disk
    /// with the next checkpoint.
    pub fn set_used(&mut self, id: EntityId, used: u64, refer: u64) {
        let Some(entity) = self.place(id).and_then(|place| self.at_mut(place)) else { return };
        entity.used = used.into();
        entity.refer = refer.into();
        self.changed = true;
    }

    /// Copies the catalogue for a checkpoint; false if nothing has changed since the copy before,
    /// so that its pages are good still.
    pub fn freeze(&mut self) -> bool {
        if !self.changed {
            return false;
        }
        let links = self.indices.first().map_or(&[][..], Sorted::all);
        for (to, link) in self.frozen.iter_mut().zip(links) {
            let place = usize::try_from(link.place).ok();
            if let Some(from) = place.and_then(|place| self.table.get(place)) {
                *to = *from;
            }
        }
        self.frozen_len = links.len();
        self.changed = false;
        true
    }

    /// Says that the copy of the last [`Catalog::freeze`] did not reach the disk after all.
    pub fn thaw_unwritten(&mut self) {
        self.changed = true;
    }

    /// The copy made by [`Catalog::freeze`], in order of ids.
    #[must_use]
    pub fn frozen(&self) -> &[Entity] {
        self.frozen.get(..self.frozen_len).unwrap_or(&[])
    }

    /// Whether an entity of this kind may bear the name: `volume` or `volume@snapshot`.
    #[must_use]
    pub fn name_is_valid(kind: Kind, name: &Name) -> bool {
        let (volume, snapshot) = name.split();
        match kind {
            Kind::Production | Kind::Clone => Name::part_is_valid(volume) && snapshot.is_none(),
            Kind::Snapshot => {
                Name::part_is_valid(volume) && snapshot.is_some_and(Name::part_is_valid)
            }
            Kind::Sweep | Kind::Pool => name.bytes().is_empty(),
        }
    }

    fn index(&self, index: usize) -> Option<&Sorted<P>> {
        self.indices.get(index)
    }

    /// Where the entity of this id stands.
    fn place(&self, id: EntityId) -> Option<u32> {
        let link = self.index(IDS)?.from([id.0, 0, 0]).first()?;
        (link.key == [id.0, 0, 0]).then_some(link.place)
    }

    fn at(&self, place: u32) -> Option<&Entity> {
        self.table.get(usize::try_from(place).ok()?)
    }

    fn at_mut(&mut self, place: u32) -> Option<&mut Entity> {
        self.table.get_mut(usize::try_from(place).ok()?)
    }

    /// Takes a free place of the table.
    fn take_place(&mut self) -> Option<u32> {
        let len = self.free_len.checked_sub(1)?;
        let place = *self.free.get(len)?;
        self.free_len = len;
        Some(place)
    }

    /// Adds the links of the entity at `place`.
    fn link(&mut self, place: u32) -> Result<(), Fault> {
        let keys = keys(self.at(place).ok_or(bug!())?);
        for (index, key) in self.indices.iter_mut().zip(keys) {
            if !key.is_none_or(|key| index.insert(Link { key, place })) {
                return Err(bug!());
            }
        }
        Ok(())
    }

    /// Removes the links of the entity at `place`.
    fn unlink(&mut self, place: u32) -> Result<(), Fault> {
        let keys = keys(self.at(place).ok_or(bug!())?);
        for (index, key) in self.indices.iter_mut().zip(keys) {
            if !key.is_none_or(|key| index.remove(Link { key, place })) {
                return Err(bug!());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
