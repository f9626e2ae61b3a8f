// SPDX-License-Identifier: MIT

//! What `list` says that volumes and snapshots use and refer to, against a count that is too simple
//! to be wrong: the slots that each of them reads, out of its map.

use std::collections::{BTreeMap, BTreeSet};

use rwsnap_core::api::Op;
use rwsnap_core::control::rows::PLACE_SLOT;
use rwsnap_core::control::{Reply, RunRow, Verb};
use zerocopy::FromBytes;

use super::world::{World, USUAL};

const CHUNK: u64 = 4096;

/// The slots that a volume or snapshot reads.
fn slots(w: &mut World, name: &str) -> BTreeSet<u64> {
    let reply = w.command(Verb::Map, name, "", &[]);
    let (head, rows) = Reply::ref_from_prefix(&reply).unwrap();
    assert_eq!((head.refusal.get(), head.next.get()), (0, u64::MAX), "{name}");
    let mut slots = BTreeSet::new();
    for row in rows.chunks(size_of::<RunRow>()) {
        let row = RunRow::ref_from_bytes(row).unwrap();
        if row.place.get() == PLACE_SLOT {
            slots.extend(row.at.get()..row.at.get() + row.count.get());
        }
    }
    slots
}

/// Compares all numbers. `all`: each volume or snapshot and what it is based on.
fn compare(w: &mut World, all: &BTreeMap<String, String>, when: &str) {
    let read: BTreeMap<&String, BTreeSet<u64>> =
        all.keys().map(|name| (name, slots(w, name))).collect();
    for (name, base) in all {
        let volume = name.split('@').next().unwrap();
        let own = |n: &&String| n.split('@').next().unwrap() == volume;
        let others = all.keys().filter(own).filter(|&n| n != name).map(|n| &read[n]);
        let base = if base.is_empty() { BTreeSet::new() } else { read[base].clone() };
        let others: BTreeSet<u64> = others.flatten().chain(&base).copied().collect();
        let used = if name.contains('@') {
            read[name].difference(&others).count()
        } else {
            others.union(&read[name]).filter(|&slot| !base.contains(slot)).count()
        };
        let row = w.info(name);
        assert_eq!(row.refer.get(), read[name].len() as u64 * CHUNK, "REFER of {name} {when}");
        assert_eq!(row.used.get(), used as u64 * CHUNK, "USED of {name} {when}");
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn write(w: &mut World, dice: &mut Dice, volume: &str) {
    for _ in 0..=dice.below(12) {
        let chunk = dice.below(150);
        // A request stays within a word.
        let len = (CHUNK * (1 + dice.below(3.min(64 - chunk % 64)))) as usize;
        match dice.below(6) {
            0 => drop(w.request(volume, Op::Zero { fua: false }, chunk * CHUNK, vec![0; len])),
            _ => w.write(volume, chunk * CHUNK, dice.below(200) as u8, len),
        }
    }
}

#[test]
fn used_and_referred_are_what_a_naive_count_finds() {
    for seed in 0..6 {
        let mut dice = Dice(seed);
        let mut w = World::new();
        let mut all = BTreeMap::from([("prod".to_owned(), String::new())]);
        for turn in 0..40 {
            let volumes: Vec<String> = all.keys().filter(|n| !n.contains('@')).cloned().collect();
            let volume = volumes[dice.below(volumes.len() as u64) as usize].clone();
            let snapshots: Vec<String> = all.keys().filter(|n| n.contains('@')).cloned().collect();
            let some = snapshots.get(dice.below(snapshots.len().max(1) as u64) as usize);
            match (dice.below(6), some) {
                (0, Some(snapshot)) if volumes.len() < 6 => {
                    let clone = format!("c{turn}");
                    w.done(Verb::Clone, snapshot, &clone, &[]);
                    all.insert(clone, snapshot.clone());
                }
                (1, Some(snapshot)) if !all.values().any(|base| base == snapshot) => {
                    w.done(Verb::Destroy, "", "", &[snapshot]);
                    all.remove(snapshot);
                }
                (0..=2, _) => {
                    let name = format!("{volume}@s{turn}");
                    w.done(Verb::Snapshot, "", "", &[&name]);
                    all.insert(name, all[&volume].clone());
                }
                _ => write(&mut w, &mut dice, &volume),
            }
            if turn % 8 == 7 {
                compare(&mut w, &all, &format!("in turn {turn} of {seed}"));
            }
        }
        for volume in all.keys().filter(|n| !n.contains('@')) {
            w.flush(volume);
        }
        let mut w = World::open_with(USUAL, w.disks);
        compare(&mut w, &all, &format!("after a crash, {seed}"));
    }
}

/// A note came between the first writes that a test counted, when the machine was busy.
#[test]
fn what_is_noted_when_nothing_happens_is_no_part_of_what_writes_take() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    let mut now = 0;
    let mut idle = |w: &mut World| {
        for _ in 0..4 {
            now += 100_000_000;
            w.core.tick(now);
            w.drain();
        }
    };
    let (before, records) = (w.status(), w.status().log_records.get());
    for chunk in 0..20 {
        idle(&mut w);
        w.write("prod", chunk * 7 * CHUNK, 9, CHUNK as usize);
    }
    idle(&mut w);
    let after = w.status();
    let took: Vec<u64> =
        after.io.iter().zip(before.io).map(|(after, before)| after.get() - before.get()).collect();
    assert_eq!(took, [0, 40, 20, 20, 20, 0], "a read and three writes each, and a flush");
    assert_eq!(after.log_records.get() - records, 41, "the snapshot's note, too");
    assert_eq!(after.notes.get() - before.notes.get(), 42, "a write and a flush each");
}
