// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Questions to the catalogue: by id, name, map, epoch and parent.

use super::{name_hash, Catalog, BASES, EPOCHS, IDS, MAPS, NAMES, OWNERS, SWEEPS};
use crate::format::entity::{Entity, Kind};
use crate::platform::Platform;
use crate::units::{EntityId, Epoch, MapId};

impl<P: Platform> Catalog<P> {
    /// The entity of this id.
    #[must_use]
    pub fn get(&self, id: EntityId) -> Option<&Entity> {
        self.at(self.place(id)?)
    }

    /// The volume or snapshot of this full name.
    #[must_use]
    pub fn by_name(&self, name: &[u8]) -> Option<&Entity> {
        let [high, low] = name_hash(name);
        self.linked(NAMES, high, low)
            .take_while(|(key, _)| key[1] == low)
            .map(|(_, entity)| entity)
            .find(|entity| entity.name.bytes() == name)
    }

    /// All entities from `first` on, in order of ids.
    pub fn from(&self, first: EntityId) -> impl Iterator<Item = &Entity> {
        let links = self.index(IDS).map_or(&[][..], |ids| ids.from([first.0, 0, 0]));
        links.iter().filter_map(|link| self.at(link.place))
    }

    /// All entities, in order of ids.
    pub fn iter(&self) -> impl Iterator<Item = &Entity> {
        self.from(EntityId(0))
    }

    /// The living snapshots of a map, oldest first.
    pub fn snapshots_of_map(&self, map: MapId) -> impl Iterator<Item = &Entity> {
        self.linked(EPOCHS, map.0, 0).map(|(_, entity)| entity)
    }

    /// All snapshots named after a volume, oldest first, those of its former maps among them.
    pub fn snapshots_of_volume(&self, volume: EntityId) -> impl Iterator<Item = &Entity> {
        self.linked(OWNERS, volume.0, 0).map(|(_, entity)| entity)
    }

    /// What is based on a snapshot, in order of ids: clones, and snapshots of what was a clone.
    pub fn dependants(&self, snapshot: EntityId) -> impl Iterator<Item = &Entity> {
        self.linked(BASES, snapshot.0, 0).map(|(_, entity)| entity)
    }

    /// The first of them after `last`.
    #[must_use]
    pub fn dependant_after(&self, snapshot: EntityId, last: EntityId) -> Option<&Entity> {
        self.linked(BASES, snapshot.0, last.0.checked_add(1)?).map(|(_, entity)| entity).next()
    }

    /// The first snapshot named after a volume that is younger than `last`; the oldest, if that is
    /// none of them.
    #[must_use]
    pub fn snapshot_after(&self, volume: EntityId, last: EntityId) -> Option<&Entity> {
        let own = |e: &&Entity| e.kind() == Some(Kind::Snapshot) && e.owner() == volume;
        let from = self.get(last).filter(own).map_or((0, 0), |e| (e.epoch().0, last.0));
        let younger = |(key, _): &([u32; 3], &Entity)| (key[1], key[2]) > from;
        self.linked(OWNERS, volume.0, from.0).find(younger).map(|(_, entity)| entity)
    }

    /// The first sweep.
    #[must_use]
    pub fn first_sweep(&self) -> Option<&Entity> {
        let link = self.index(SWEEPS)?.all().first()?;
        self.at(link.place)
    }

    /// The clones of a snapshot, in order of ids.
    pub fn clones_of(&self, snapshot: EntityId) -> impl Iterator<Item = &Entity> {
        self.dependants(snapshot).filter(|entity| entity.kind() == Some(Kind::Clone))
    }

    /// Everything that a map belongs to, in order of ids: a volume, snapshots, a sweep.
    pub fn users_of_map(&self, map: MapId) -> impl Iterator<Item = &Entity> {
        self.linked(MAPS, map.0, 0).map(|(_, entity)| entity)
    }

    /// The volume whose current map this is.
    #[must_use]
    pub fn volume_of_map(&self, map: MapId) -> Option<&Entity> {
        let is_volume = |e: &&Entity| matches!(e.kind(), Some(Kind::Production | Kind::Clone));
        self.users_of_map(map).find(is_volume)
    }

    /// The first map behind `map` that belongs to anything.
    #[must_use]
    pub fn map_after(&self, map: MapId) -> Option<MapId> {
        let [next, ..] = self.index(MAPS)?.from([map.0.checked_add(1)?, 0, 0]).first()?.key;
        Some(MapId(next))
    }

    /// The epoch of the newest living snapshot of a map.
    #[must_use]
    pub fn newest_epoch(&self, map: MapId) -> Option<Epoch> {
        self.last_epoch_before(map, u64::from(u32::MAX).saturating_add(1))
    }

    /// The epoch of the newest living snapshot of a map that is older than `before`.
    #[must_use]
    pub fn epoch_before(&self, map: MapId, before: Epoch) -> Option<Epoch> {
        self.last_epoch_before(map, u64::from(before.0))
    }

    /// The last living epoch of a map below `before`, which may be beyond all epochs.
    fn last_epoch_before(&self, map: MapId, before: u64) -> Option<Epoch> {
        let key = match u32::try_from(before) {
            Ok(before) => [map.0, before, 0],
            // Ids are never u32::MAX at epoch u32::MAX: counters saturate before that.
            Err(_) => [map.0, u32::MAX, u32::MAX],
        };
        let [found, epoch, _] = self.index(EPOCHS)?.last_below(key)?.key;
        (found == map.0).then_some(Epoch(epoch))
    }

    /// The epoch of the oldest living snapshot of a map from `least` on.
    #[must_use]
    pub fn next_epoch_at_or_after(&self, map: MapId, least: Epoch) -> Option<Epoch> {
        let [found, epoch, _] = self.index(EPOCHS)?.from([map.0, least.0, 0]).first()?.key;
        (found == map.0).then_some(Epoch(epoch))
    }

    /// Whether a living snapshot of the map has an epoch of more than `low` and at most `high`.
    #[must_use]
    pub fn epoch_in(&self, map: MapId, low: Epoch, high: Epoch) -> bool {
        low < high && self.next_epoch_at_or_after(map, low.next()).is_some_and(|e| e <= high)
    }

    /// The living snapshot of a map at this epoch.
    #[must_use]
    pub fn snapshot_at(&self, map: MapId, epoch: Epoch) -> Option<&Entity> {
        let (key, entity) = self.linked(EPOCHS, map.0, epoch.0).next()?;
        (key[1] == epoch.0).then_some(entity)
    }

    /// The entities that an index has under `head`, from `second` on, with their keys.
    fn linked(
        &self,
        index: usize,
        head: u32,
        second: u32,
    ) -> impl Iterator<Item = ([u32; 3], &Entity)> {
        let links = self.index(index).into_iter().flat_map(move |i| i.under(head, second));
        links.filter_map(|link| Some((link.key, self.at(link.place)?)))
    }
}
