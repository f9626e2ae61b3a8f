// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Room for a restore: checked before it begins, and promised to its merge.
//!
//! The merge saves what it overwrites for the snapshot before, one slot for each chunk that the
//! source has in a slot. How many that are is known exactly after a count; before one, what the
//! source's maps hold in all is a bound that costs nothing. So a restore with plenty of room begins
//! at once; one with little is counted first. One that is forced begins in any case, and gives up
//! what it has to (`forgo.rs`). When a count ends, what was promised too much is
//! given back.

use crate::control::{FLAG_FORCE, FLAG_NO_UNDO};
use crate::engine::Core;
use crate::format::entity::{Entity, Kind};
use crate::platform::Platform;
use crate::units::EntityId;

impl<P: Platform> Core<P> {
    /// Slots that a restore of volume `v` from `source` takes at most.
    fn restore_takes(&self, v: u32, source: EntityId) -> u64 {
        if self.is_counted() {
            return self.catalog.get(source).map_or(0, |e| e.refer.get());
        }
        let mut sum = 0u64;
        let mut at = Some(source);
        while let Some(entity) = at.and_then(|id| self.catalog.get(id)) {
            let volume = self.catalog.volume_of_map(entity.map()).map(Entity::id);
            let held = volume.and_then(|id| self.vol_of_entity(id));
            sum = sum.saturating_add(held.map_or(u64::MAX, |v| self.vols.at(v).used));
            at = entity.base();
        }
        sum.min(self.geometry.chunks_for(self.vols.at(v).size))
    }

    /// Bytes that the merge has to bring home; as long as that is not counted, at most.
    pub(crate) fn merge_total(&self, x: EntityId) -> u64 {
        let merge = &self.lifecycle.merge;
        if !merge.counting {
            return merge.total;
        }
        self.restore_takes(merge.vol, x).saturating_mul(u64::from(self.geometry.chunk_bytes()))
    }

    /// Whether nothing has to be saved: the newest snapshot is restored and need not be undone.
    fn saves_nothing(&self, t: u32, v: u32, source: EntityId) -> bool {
        let newest = self.catalog.newest_epoch(self.vols.at(v).map);
        let newest = newest.and_then(|epoch| self.catalog.snapshot_at(self.vols.at(v).map, epoch));
        self.flag(t, FLAG_NO_UNDO) && newest.is_some_and(|s| s.id() == source)
    }

    /// Slots that are free, or that the save volume may grow by.
    fn slots_to_be_had(&self) -> u64 {
        let s = &self.superblock;
        let start = s.slots_start.get();
        let most = self.geometry.chunk_of(self.save_limit().saturating_sub(start)).0;
        let most = most.min(s.slot_limit.get()).saturating_sub(self.slots.count());
        let more = if s.when_full.get() == 0 { most } else { 0 };
        self.slots.available_to(0).saturating_add(more)
    }

    /// Slots that the restore of the command lacks; `None`: the task waits until that is
    /// known.
    pub(crate) fn restore_lacks(&mut self, t: u32) -> Option<u64> {
        let (name, from) = (self.name(t), self.other(t));
        let (Some(v), Some(source)) = (self.vol_named(name.bytes()), self.id_of(from)) else {
            return Some(0);
        };
        if self.catalog.get(self.vols.at(v).id).and_then(Entity::kind) != Some(Kind::Production)
            || self.flag(t, FLAG_FORCE)
            || self.saves_nothing(t, v, source)
        {
            return Some(0);
        }
        let lacks = self.restore_takes(v, source).saturating_sub(self.slots_to_be_had());
        if lacks != 0 && self.wait_for_count(t) {
            return None;
        }
        Some(self.restore_takes(v, source).saturating_sub(self.slots_to_be_had()))
    }

    /// Promises the merge what it takes, as far as there is as much.
    pub(crate) fn promise_to_restore(&mut self, v: u32) {
        self.drop_restore_promise();
        let restore = self.catalog.get(self.vols.at(v).id).and_then(Entity::restoring);
        let Some(x) = restore.map(|r| EntityId(r.x.get())) else { return };
        let free = self.slots.available_to(0);
        let takes = self.restore_takes(v, x).min(free);
        if self.slots.reserve(takes) {
            self.space.restoring = takes;
        }
        // A bound that leaves room enough for others need not be made exact: a count reads the map.
        if !self.is_counted() && takes > free / 2 {
            let _ = self.start_count();
        }
    }

    /// The restore is over: what it was promised is free.
    pub(crate) fn drop_restore_promise(&mut self) {
        let promised = core::mem::take(&mut self.space.restoring);
        self.slots.unreserve(promised);
    }

    /// A count has ended: the merge keeps what it takes for the chunks that are not home yet.
    pub(crate) fn trim_restore_promise(&mut self) {
        let promised = self.space.restoring;
        if promised == 0 {
            return;
        }
        let id = self.vols.at(self.lifecycle.merge.vol).id;
        let x = self.catalog.get(id).and_then(Entity::restoring).map(|r| EntityId(r.x.get()));
        let refer = x.and_then(|x| self.catalog.get(x)).map_or(0, |e| e.refer.get());
        let home = self.lifecycle.merge.done >> self.geometry.shift();
        let keeps = refer.saturating_sub(home).min(promised);
        self.slots.unreserve(promised.saturating_sub(keeps));
        self.space.restoring = keeps;
    }
}
