// SPDX-License-Identifier: MIT

//! The pool as it stands: the checkpoint with the entries of the log applied.

use std::collections::{BTreeMap, BTreeSet};

use rwsnap_core::control::Name;
use rwsnap_core::format::entity::{Entity, Kind as EntityKind};
use rwsnap_core::format::log::{Counters, Entry};
use rwsnap_core::format::record::{GroupKey, Kind, Record};
use rwsnap_core::format::superblock::Superblock;
use rwsnap_core::units::{EntityId, Epoch, LogPos, MapId};

use super::bits::Bits;
use super::report::Report;

/// The pool as it stands.
pub(super) struct State {
    /// Records of the tree, in order.
    tree: Vec<Record>,
    /// What the log says of groups; it hides what the tree says of the same chunks.
    over: BTreeMap<GroupKey, Vec<Record>>,
    /// Volumes, snapshots, and the rest of the catalogue.
    pub(super) entities: BTreeMap<u32, Entity>,
    /// Slots in use.
    pub(super) slots: Bits,
    /// Slots that the log frees: none is used again before the next checkpoint.
    freed: BTreeSet<u64>,
    /// The counters.
    pub(super) counters: Counters,
}

impl State {
    /// As the checkpoint left it.
    pub(super) fn new(
        superblock: &Superblock,
        tree: Vec<Record>,
        entities: BTreeMap<u32, Entity>,
        slots: Bits,
    ) -> Self {
        let counters = Counters {
            epoch: Epoch(superblock.epoch.get()),
            next_map: MapId(superblock.next_map.get()),
            next_entity: EntityId(superblock.next_entity.get()),
            slots: superblock.slots.get(),
        };
        let (over, freed) = (BTreeMap::new(), BTreeSet::new());
        Self { tree, over, entities, slots, freed, counters }
    }

    /// Applies an entry of the log.
    pub(super) fn apply(&mut self, pos: LogPos, entry: &Entry<'_>, report: &mut Report) {
        match entry {
            Entry::Put(record) | Entry::PutSummed(record, _) => self.put(pos, record, report),
            Entry::Entity(entity) => {
                if !entity.check() {
                    report.corrupt(format!("log block {} has a bad entity {entity:?}", pos.0));
                }
                self.entities.insert(entity.id.get(), **entity);
            }
            Entry::Remove(id) => {
                if self.entities.remove(&id.0).is_none() {
                    report.corrupt(format!("log block {} removes {}, no entity", pos.0, id.0));
                }
            }
            Entry::Counters(counters) => self.counters = *counters,
            Entry::Note => {}
            Entry::Rename(id, name) => self.rename(pos, *id, *name, report),
        }
    }

    /// Adds a record; it hides what was said of its chunks before.
    fn put(&mut self, pos: LogPos, record: &Record, report: &mut Report) {
        if record.kind == Kind::Free {
            return self.free(pos, record, report);
        }
        for slot in (0..64).filter_map(|bit| record.slot_of(bit)) {
            if slot.0 >= self.slots.len() {
                report.corrupt(format!("log block {} uses slot {}, which is none", pos.0, slot.0));
            }
            if self.freed.contains(&slot.0) {
                let slot = slot.0;
                report.corrupt(format!("log block {} uses slot {slot}, just freed", pos.0));
            }
            self.slots.set(slot.0, true);
        }
        let group = self.over.entry(record.group()).or_default();
        let former = std::mem::take(group);
        group.extend(former.into_iter().flat_map(|old| old.only(!record.mask)));
        group.push(*record);
    }

    /// Frees slots. They need not have been in use: what a clone wrote and then hid before any
    /// flush was never logged, but its freeing is.
    fn free(&mut self, pos: LogPos, record: &Record, report: &mut Report) {
        for bit in (0..64).filter(|bit| record.mask >> bit & 1 == 1) {
            let slot = record.word.chunk(bit).0;
            self.slots.set(slot, false);
            if !self.freed.insert(slot) {
                report.corrupt(format!("log block {} frees slot {slot} once more", pos.0));
            }
        }
    }

    /// Renames a volume and its snapshots, which bear its name.
    fn rename(&mut self, pos: LogPos, id: EntityId, name: Name, report: &mut Report) {
        let Some(volume) = self.entities.get_mut(&id.0) else {
            return report.corrupt(format!("log block {} renames {}, no entity", pos.0, id.0));
        };
        volume.name = name;
        let owned = self
            .entities
            .values_mut()
            .filter(|e| e.kind() == Some(EntityKind::Snapshot) && e.owner() == id);
        for snapshot in owned {
            let part = snapshot.name.split().1.unwrap_or_default().to_vec();
            let full = [name.bytes(), b"@", &part].concat();
            snapshot.name = Name::new(&full).unwrap_or_default();
        }
    }

    /// All records as they stand, in the order of their groups.
    pub(super) fn each(&self, mut f: impl FnMut(&Record)) {
        let mut over = self.over.iter().peekable();
        let mut at = 0;
        while let Some(first) = self.tree.get(at) {
            let group = first.group();
            while let Some((_, records)) = over.next_if(|(key, _)| **key < group) {
                shown(records).for_each(&mut f);
            }
            let rest = self.tree.get(at..).unwrap_or_default();
            let len = rest.iter().take_while(|record| record.group() == group).count();
            let hiding = over.next_if(|(key, _)| **key == group).map(|(_, records)| records);
            let hidden = hiding.iter().flat_map(|r| r.iter()).fold(0, |mask, r| mask | r.mask);
            for record in rest.iter().take(len) {
                record.only(!hidden).for_each(|piece| f(&piece));
            }
            if let Some(records) = hiding {
                shown(records).for_each(&mut f);
            }
            at += len;
        }
        over.for_each(|(_, records)| shown(records).for_each(&mut f));
    }
}

/// Those that say more than that there is nothing.
fn shown(records: &[Record]) -> impl Iterator<Item = &Record> {
    records.iter().filter(|record| record.kind != Kind::Gone)
}
