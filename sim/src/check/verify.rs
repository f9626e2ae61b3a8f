// SPDX-License-Identifier: MIT

//! Whether the parts agree: every slot and every page used once or free, every record owned.

use std::collections::{BTreeMap, BTreeSet};

use rwsnap_core::format::entity::Kind as EntityKind;
use rwsnap_core::format::record::Record;
use rwsnap_core::format::superblock::Superblock;

use super::bits::{self, Bits};
use super::image::Image;
use super::report::Report;
use super::state::State;

/// Metadata pages: those in use are marked, and no others.
pub(super) fn pages(
    image: &Image,
    superblock: &Superblock,
    tree: &BTreeSet<u64>,
    catalog: &BTreeSet<u64>,
    report: &mut Report,
) {
    let marked = bits::pages(image, superblock, report);
    let mut used = Bits::new(superblock.pages());
    for page in tree.iter().chain(catalog) {
        if used.set(*page, true) {
            report.corrupt(format!("page {page} is in the tree and in the catalogue"));
        }
    }
    for (first, count) in used.runs_without(&marked) {
        report.corrupt(format!("{count} pages from {first} on are in use and marked free"));
    }
    for (first, count) in marked.runs_without(&used) {
        report.pages_leaked += count;
        report.leak(format!("{count} metadata pages from {first} on are marked and not in use"));
    }
    report.pages = used.count();
}

/// Slots at the checkpoint: what the bit map marks is what the tree's records use.
pub(super) fn checkpoint(
    superblock: &Superblock,
    records: &[Record],
    marked: &Bits,
    report: &mut Report,
) {
    let mut used = metadata_slots(superblock);
    for record in records {
        for slot in (0..64).filter_map(|bit| record.slot_of(bit)) {
            used.set(slot.0, true);
        }
    }
    for (first, count) in used.runs_without(marked) {
        let what = "are used by the checkpoint's map and marked free";
        report.corrupt(format!("{count} slots from {first} on {what}"));
    }
}

/// Slots that hold metadata: extents that were added later lie among the slots.
fn metadata_slots(superblock: &Superblock) -> Bits {
    let mut used = Bits::new(superblock.slots.get());
    let (start, chunk) = (superblock.slots_start.get(), u64::from(superblock.chunk.get()));
    for extent in superblock.extents().filter(|extent| extent.start >= start) {
        let first = (extent.start - start) / chunk;
        let end = (extent.start - start + extent.bytes()).div_ceil(chunk);
        for slot in first..end {
            used.set(slot, true);
        }
    }
    used
}

/// What may bear records: how many chunks, if that is known.
fn maps(superblock: &Superblock, state: &State) -> BTreeMap<u32, Option<u64>> {
    let mut maps: BTreeMap<u32, Option<u64>> = BTreeMap::new();
    let chunk = u64::from(superblock.chunk.get());
    let mut add = |map: u32, chunks: Option<u64>| {
        let known = maps.entry(map).or_insert(Some(0));
        *known = known.zip(chunks).map(|(a, b)| a.max(b));
    };
    for entity in state.entities.values() {
        match entity.kind() {
            Some(EntityKind::Sweep) => add(entity.map.get(), None),
            Some(EntityKind::Pool) | None => {}
            Some(_) => add(entity.map.get(), Some(entity.size.get().div_ceil(chunk))),
        }
        if let Some(restore) = entity.restoring() {
            add(restore.m_map.get(), None);
        }
    }
    maps
}

/// The pool as it stands: records are owned and in range, and slots are used once or free.
pub(super) fn state(superblock: &Superblock, state: &State, report: &mut Report) {
    let maps = maps(superblock, state);
    let mut used = metadata_slots(superblock);
    let mut twice = Vec::new();
    let mut orphans: BTreeMap<u32, u64> = BTreeMap::new();
    state.each(|record| {
        report.records += 1;
        match maps.get(&record.map.0) {
            None => *orphans.entry(record.map.0).or_default() += 1,
            Some(chunks) => in_range(record, *chunks, report),
        }
        if record.epoch.0 > state.counters.epoch.0.saturating_add(1) {
            report.corrupt(format!("a record is of an epoch that never was: {record:?}"));
        }
        for slot in (0..64).filter_map(|bit| record.slot_of(bit)) {
            if slot.0 >= used.len() {
                report.corrupt(format!("a record uses slot {}, which is none", slot.0));
            } else if used.set(slot.0, true) {
                twice.push(slot.0);
            }
        }
    });
    for (map, count) in orphans {
        report.leak(format!("{count} records are of map {map}, which nothing has"));
    }
    name_owners(state, &twice, report);
    slots(state, &used, report);
}

fn in_range(record: &Record, chunks: Option<u64>, report: &mut Report) {
    let last = record.word.chunk(63 - record.mask.leading_zeros()).0;
    if chunks.is_some_and(|chunks| last >= chunks) {
        report.corrupt(format!("a record lies beyond the end of its volume: {record:?}"));
    }
}

/// Says who uses slots that are used twice.
fn name_owners(state: &State, twice: &[u64], report: &mut Report) {
    for slot in twice.iter().take(10) {
        let mut owners = Vec::new();
        state.each(|record| {
            if (0..64).filter_map(|bit| record.slot_of(bit)).any(|s| s.0 == *slot) {
                owners.push(format!("{record:?}"));
            }
        });
        report.corrupt(format!(
            "slot {slot} is used {} times: {}",
            owners.len(),
            owners.join(", ")
        ));
    }
    if twice.len() > 10 {
        report.corrupt(format!("{} more slots are used more than once", twice.len() - 10));
    }
}

/// Compares the slots in use with those marked.
fn slots(state: &State, used: &Bits, report: &mut Report) {
    report.slots_used = used.count();
    for (first, count) in used.runs_without(&state.slots) {
        report.corrupt(format!("{count} slots from {first} on are in use and marked free"));
    }
    for (first, count) in state.slots.runs_without(used) {
        report.slots_leaked += count;
        report.leak(format!("{count} slots from {first} on are marked and not in use"));
    }
}
