// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the engine says to the log: records, entities, counters, groups, and whether there is room.

use crate::engine::checkpoint::{PageRoom, SHRINK};
use crate::engine::Core;
use crate::fault::Fault;
use crate::format::log::{Entry, ENTRY_MAX};
use crate::format::record::{Kind, Record};
use crate::log::{Full, Room};
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::{EntityId, Epoch, LogPos, MapId};

/// Blocks of the log that only shrinking and checkpoints may take.
pub(crate) const RESERVE: u64 = 2;
/// Blocks of the log that may be on their way at once.
const STAGED: u64 = 60;
/// Records that take as much of the log as one entity.
const ENTITY_RECORDS: u32 = 26;

/// Blocks of the log that so many records take at most.
fn log_blocks(records: u32) -> u64 {
    u64::from(records / 64).saturating_add(2)
}

impl<P: Platform> Core<P> {
    pub(crate) fn push_entry(&mut self, entry: &Entry<'_>) -> Result<LogPos, Fault> {
        self.log.push(&self.platform, entry, Room::Reserve).map_err(|full| match full {
            Full::Ring | Full::Stage => crate::bug!(),
        })
    }

    /// Logs a record; with the fold of its slots' checksums, recovery compares them.
    pub(crate) fn log_record(&mut self, record: &Record, sum: Option<u64>) -> Result<(), Fault> {
        let entry = match sum {
            Some(sum) => Entry::PutSummed(*record, sum),
            None => Entry::Put(*record),
        };
        self.push_entry(&entry).map(|_| ())
    }

    /// Puts a record into the log and into the active delta.
    pub(crate) fn put_logged(&mut self, record: &Record, sum: Option<u64>) -> Result<(), Fault> {
        self.log_record(record, sum)?;
        self.put_active(record)
    }

    /// Puts a record that is in the log into the active delta, and counts it.
    pub(crate) fn put_active(&mut self, record: &Record) -> Result<(), Fault> {
        self.layers.active.put(*record)?;
        self.versions.bump(record.word);
        if record.kind == Kind::Free {
            let slots = u64::from(record.mask.count_ones());
            self.space.freed = self.space.freed.saturating_add(slots);
            if self.mutant(Mutant::ReuseAtOnce) {
                self.slots.reclaim(record);
            }
        }
        if record.kind == Kind::Copied {
            self.count_copied(record.map, record.epoch, u64::from(record.slots()));
        }
        Ok(())
    }

    /// Counts slots for the snapshot that they were copied for, and for its volume.
    fn count_copied(&mut self, map: MapId, epoch: Epoch, slots: u64) {
        if let Some(snapshot) = self.catalog.snapshot_at(map, epoch) {
            let (id, used, refer) = (snapshot.id(), snapshot.used.get(), snapshot.refer.get());
            // As if none of it were older: the count (`lifecycle/count.rs`) knows better.
            let refer = refer.saturating_add(slots);
            self.catalog.set_used(id, used.saturating_add(slots), refer);
        }
        self.count_used(map, i64::try_from(slots).unwrap_or(0));
    }

    /// Begins a group of log entries; `entities` of them may be entities.
    pub(crate) fn begin_group(&mut self, entities: usize) -> Result<(), Fault> {
        let bytes = entities.saturating_mul(ENTRY_MAX).saturating_add(512);
        self.log.begin_group(bytes, Room::Reserve).map_err(|_| crate::bug!())
    }

    /// Ends the group, with the counters as they are now.
    pub(crate) fn end_group(&mut self) -> Result<(), Fault> {
        let counters = self.counters;
        self.push_entry(&Entry::Counters(counters))?;
        let _ = self.log.end_group();
        Ok(())
    }

    /// Logs the draft and puts it into the catalogue.
    pub(crate) fn put_draft(&mut self) -> Result<EntityId, Fault> {
        let draft = &self.lifecycle.draft;
        self.log
            .push(&self.platform, &Entry::Entity(draft), Room::Reserve)
            .map_err(|_| crate::bug!())?;
        self.catalog.put(draft)?;
        self.versions.changed();
        Ok(draft.id())
    }

    /// As `put_draft`, for the entity being changed.
    pub(crate) fn put_edit(&mut self) -> Result<(), Fault> {
        let edit = &self.lifecycle.edit;
        self.log
            .push(&self.platform, &Entry::Entity(edit), Room::Reserve)
            .map_err(|_| crate::bug!())?;
        self.versions.changed();
        self.catalog.put(edit)
    }

    /// Logs that an entity is removed, and removes it.
    pub(crate) fn log_remove(&mut self, id: EntityId) -> Result<(), Fault> {
        self.versions.changed();
        self.push_entry(&Entry::Remove(id))?;
        self.catalog.remove(id).map(|_| ())
    }

    /// Whether so many records can be logged and put now. If not, a checkpoint that makes room for
    /// them is asked for, or under way: who waits asks for none himself, since the next one would
    /// run when he looks again.
    pub(crate) fn log_has_room(&mut self, records: u32) -> bool {
        self.has_room(log_blocks(records), records)
            && self.page_room(records.min(SHRINK.0), 0) == PageRoom::Now
    }

    /// Whether so many entities can be logged now.
    pub(crate) fn log_has_room_for_entities(&mut self, entities: u32) -> bool {
        self.has_room(log_blocks(entities.saturating_mul(ENTITY_RECORDS)), 0)
            && self.page_room(0, 0) == PageRoom::Now
    }

    /// Whether so many entities can ever be logged at once: no checkpoint makes more room than
    /// there is when the log is empty.
    pub(crate) fn log_can_take_entities(&self, entities: u32) -> bool {
        let blocks = log_blocks(entities.saturating_mul(ENTITY_RECORDS));
        let ring = self.superblock.log_blocks.get();
        blocks < STAGED && blocks.saturating_add(RESERVE).saturating_add(1) < ring
    }

    fn has_room(&mut self, blocks: u64, records: u32) -> bool {
        let ring = self.log.free_blocks() > blocks.saturating_add(RESERVE);
        let staged = self.log.head().since(self.log.written());
        let stage = staged.saturating_add(blocks) < STAGED;
        let delta = self.layers.active.room() > usize::try_from(records).unwrap_or(usize::MAX);
        if !stage {
            self.commit.wanted = true;
        }
        if !(ring && delta || self.checkpoint.is_running()) {
            self.want_checkpoint();
        }
        ring && stage && delta
    }

    /// As `log_has_room`, for what makes the pool larger: a full pool keeps room to shrink.
    pub(crate) fn may_grow(&mut self, records: u32) -> PageRoom {
        let (more, entities) = SHRINK;
        let pages = self.page_room(records.saturating_add(more), entities);
        if pages == PageRoom::Now && !self.has_room(log_blocks(records), records) {
            return PageRoom::Later;
        }
        pages
    }

    /// A checkpoint pays, if the deltas or the log are half full.
    pub(crate) fn consider_checkpoint(&mut self) {
        let half = self.log.free_blocks().saturating_mul(2) < self.superblock.log_blocks.get();
        let delta = usize::try_from(self.limits.delta_records).unwrap_or(usize::MAX);
        if half || self.layers.active.len() > delta / 2 {
            self.want_checkpoint();
        }
    }

    /// The next epoch.
    pub(crate) fn next_epoch(&mut self) -> Epoch {
        self.counters.epoch = self.counters.epoch.next();
        self.counters.epoch
    }

    /// The newest epoch.
    pub(crate) fn epoch(&self) -> Epoch {
        self.counters.epoch
    }

    /// A fresh map id.
    pub(crate) fn next_map(&mut self) -> MapId {
        let map = self.counters.next_map;
        self.counters.next_map = map.next();
        map
    }

    /// A fresh entity id.
    pub(crate) fn next_entity(&mut self) -> EntityId {
        let id = self.counters.next_entity;
        self.counters.next_entity = id.next();
        id
    }
}
