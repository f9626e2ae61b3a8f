// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The delta beside a naive model, and the promise of `room`.
#![expect(clippy::cast_possible_truncation, reason = "numbers of tests are small")]

use super::node::NONE;
use super::{Delta, INNER, LEAF};
use crate::fault::Fault;
use crate::format::record::{GroupKey, Kind, Record};
use crate::map::model::{freed, group, mask, record, Model, Spread, FIRST};
use crate::map::Group;
use crate::platform::Platform;
use crate::testing::{Bench, Rng};
use crate::units::{Epoch, MapId, Slot, Word};

impl<P: Platform> Delta<P> {
    /// Checks every invariant there is.
    fn audit(&self) {
        let mut leaves = Vec::new();
        let mut inners = 0;
        let mut inner_potential = 0;
        if !self.is_empty() {
            self.audit_node(self.root, self.height, &mut leaves, &mut inners, &mut inner_potential);
        }
        let (mut len, mut potential, mut weight, mut mapped) = (0, 0, 0, 0);
        let mut prev = NONE;
        for (i, node) in leaves.iter().enumerate() {
            let leaf = self.leaf(*node).unwrap();
            assert_eq!(leaf.prev, prev);
            assert_eq!(leaf.next, leaves.get(i + 1).copied().unwrap_or(NONE));
            prev = *node;
            len += leaf.len;
            potential += leaf.potential();
            for entry in leaf.entries() {
                assert_ne!(entry.live, 0);
                weight += entry.weight().unwrap().1;
                mapped += entry.weight().unwrap().0;
            }
        }
        assert_eq!((len, mapped, weight), (self.len, self.mapped, self.weight));
        assert_eq!((potential, inner_potential), (self.leaf_potential, self.inner_potential));
        assert_eq!(leaves.len() + self.leaf_free.count as usize, self.leaves.len());
        assert_eq!(inners + self.inner_free.count as usize, self.inners.len());
    }

    fn audit_node(
        &self,
        node: u32,
        height: usize,
        leaves: &mut Vec<u32>,
        inners: &mut usize,
        potential: &mut usize,
    ) -> (u128, u128) {
        if height == 1 {
            leaves.push(node);
            let groups: Vec<_> =
                self.leaf(node).unwrap().entries().iter().map(super::node::Entry::group).collect();
            assert!(!groups.is_empty() && groups.len() <= LEAF && groups.is_sorted());
            return (groups[0], groups[groups.len() - 1]);
        }
        *inners += 1;
        let inner = self.inner(node).unwrap();
        *potential += inner.potential();
        assert!(inner.len != 0 && inner.len <= INNER);
        let mut all: Option<(u128, u128)> = None;
        for (kid, key) in inner.kids.iter().zip(inner.keys).take(inner.len) {
            let (low, high) = self.audit_node(*kid, height - 1, leaves, inners, potential);
            assert!(low <= high);
            if let Some((_, before)) = all {
                assert!(before <= key.get() && key.get() <= low);
            }
            all = Some((all.map_or(low, |(first, _)| first), high));
        }
        all.unwrap()
    }

    /// All records, by groups.
    fn dump(&self) -> Model {
        let mut model = Model::default();
        let mut out = Group::new();
        let mut from = Some(FIRST);
        while let Some(group) = from.and_then(|from| self.next_group(from).unwrap()) {
            out.clear();
            self.group(group, &mut out).unwrap();
            assert!(out.records().is_sorted_by_key(Record::key) && !out.records().is_empty());
            assert!(out.records().iter().all(|record| record.group() == group));
            model.add(out.records());
            from = group.after();
        }
        model
    }

    /// All records, by the cursor.
    fn scan(&self) -> Model {
        let mut model = Model::default();
        let mut at = self.walk(FIRST).unwrap();
        let mut last = FIRST;
        while let Some((record, left)) = self.step(&mut at).unwrap() {
            assert!(record.group() >= last);
            last = record.group();
            let pieces: Vec<_> = record.only(left).collect();
            assert!(!pieces.is_empty());
            model.add(&pieces);
        }
        model
    }
}

fn one(word: u64, bit: u32, slot: u64) -> Record {
    Record {
        map: MapId(1),
        word: Word(word),
        epoch: Epoch(1),
        kind: Kind::Copied,
        mask: 1 << bit,
        slot: Slot(slot),
    }
}

fn lockstep(seed: u64, ops: u64, spread: Spread, removals: u64) {
    let mut rng = Rng::new(seed);
    let mut delta = Delta::new(&Bench, 20_000).unwrap();
    let mut model = Model::default();
    for op in 0..ops {
        match rng.below(20) {
            0..=9 => {
                let record = record(&mut rng, spread);
                delta.put(record).unwrap();
                model.put(&record);
            }
            10 => {
                let record = freed(&mut rng);
                delta.put(record).unwrap();
                model.put(&record);
            }
            11..=18 if rng.below(8) < removals => {
                let (group, mask) = (group(&mut rng, spread), mask(&mut rng));
                delta.remove(group, mask).unwrap();
                model.remove(group, mask);
            }
            19 if rng.once_in(100) => {
                delta.clear();
                model = Model::default();
            }
            _ => {
                let from = group(&mut rng, spread);
                assert_eq!(delta.next_group(from).unwrap(), model.next_group(from), "op {op}");
                let mut out = Group::new();
                delta.group(from, &mut out).unwrap();
                assert_eq!(Model::of(out.records()), model.group(from));
            }
        }
    }
    delta.audit();
    assert_eq!(delta.dump(), model);
    assert_eq!(delta.scan(), model);
    assert_eq!(delta.is_empty(), model.0.is_empty());
}

#[test]
fn small_deltas_agree_with_the_model() {
    for seed in 0..2000 {
        let spread = Spread { maps: 2, words: 1 + seed % 40, epochs: 1 + seed % 3 };
        lockstep(seed, 100, spread, seed % 9);
    }
}

#[test]
fn large_deltas_agree_with_the_model() {
    for seed in 0..20 {
        let spread = Spread { maps: 3, words: 200 + 300 * (seed % 5), epochs: 2 };
        lockstep(seed, 8000, spread, seed % 9);
    }
}

#[test]
fn many_records_of_one_group_stand_in_several_leaves() {
    let mut rng = Rng::new(5);
    for _ in 0..200 {
        let mut delta = Delta::new(&Bench, 4000).unwrap();
        let mut model = Model::default();
        for _ in 0..800 {
            let mut record = one(rng.below(4), rng.below(64) as u32, rng.below(1 << 40));
            if rng.once_in(30) {
                record.mask = mask(&mut rng);
            }
            delta.put(record).unwrap();
            model.put(&record);
            if rng.once_in(40) {
                let word = GroupKey { word: Word(rng.below(4)), ..record.group() };
                let mask = rng.next();
                delta.remove(word, mask).unwrap();
                model.remove(word, mask);
            }
        }
        delta.audit();
        assert_eq!(delta.dump(), model);
        assert_eq!(delta.scan(), model);
    }
}

/// Fills a delta as `next` says and checks again and again that `room` was right.
fn keep_promise(records: usize, mut next: impl FnMut(u64, usize) -> Record) {
    let mut delta = Delta::new(&Bench, records).unwrap();
    let mut n = 0;
    let mut promised = delta.room();
    assert!(promised >= records / 2);
    while promised != 0 {
        // A promise given at any time holds whatever comes.
        for kept in 0..promised {
            assert!(delta.room() >= promised - kept);
            delta.put(next(n, delta.room())).unwrap();
            n += 1;
        }
        promised = delta.room();
    }
    let (len, before) = (delta.len(), delta.dump());
    assert_eq!(delta.put(next(n, 0)), Err(Fault::NoMemory));
    assert_eq!((delta.len(), delta.dump()), (len, before));
    delta.audit();
}

#[test]
fn room_is_right_whatever_comes() {
    for records in [0, 100, 1000, 6000] {
        keep_promise(records, |n, _| one(n, 0, 7 * n));
        keep_promise(records, |n, _| one(1_000_000 - n, 0, 7 * n));
        let mut rng = Rng::new(records as u64);
        keep_promise(records, |_, _| one(rng.below(1 << 40), 0, rng.below(1 << 40)));
        keep_promise(records, |_, _| {
            one(rng.below(1000), rng.below(64) as u32, rng.below(1 << 40))
        });
        // Rows that fill leaves and split them at the end, then one in the middle of each.
        let step = LEAF as u64;
        keep_promise(records, move |n, _| {
            let (block, at) = (n / (step + 1), n % (step + 1));
            let word = if at == step { 1000 * block + 5 } else { 1000 * block + 10 * at };
            one(word, 0, 7 * n)
        });
        keep_promise(records, |_, _| record(&mut rng, Spread { maps: 9, words: 9999, epochs: 9 }));
    }
}

#[test]
fn records_in_order_fill_their_leaves() {
    let mut delta = Delta::new(&Bench, 10_000).unwrap();
    let mut n = 0;
    while delta.room() != 0 {
        // Four streams side by side.
        let mut record = one(n / 4, 0, 3 * n);
        record.map = MapId((n % 4) as u32);
        delta.put(record).unwrap();
        n += 1;
    }
    assert!(n >= 10_000, "{n}");
    let used = delta.leaves.iter().filter(|leaf| leaf.len != 0).count();
    assert!(delta.len() * 10 > used * LEAF * 9, "{} in {used} leaves", delta.len());
}

#[test]
fn neighbours_become_one() {
    let mut delta = Delta::new(&Bench, 100).unwrap();
    for bit in 0..64 {
        delta.put(one(5, bit, 100 + u64::from(bit))).unwrap();
    }
    for bit in (0..64).rev() {
        delta.put(one(6, bit, 100 + u64::from(bit))).unwrap();
    }
    assert_eq!(delta.len(), 2);
    let first = delta.step(&mut delta.walk(FIRST).unwrap()).unwrap();
    assert_eq!(first.map(|(r, left)| (r.mask, r.slot.0, left)), Some((u64::MAX, 100, u64::MAX)));
}

#[test]
fn nothing_is_left_when_all_is_removed() {
    let mut rng = Rng::new(9);
    let mut delta = Delta::new(&Bench, 10_000).unwrap();
    let room = delta.room();
    let records: Vec<_> = (0..4000).map(|n| one(rng.below(1 << 30), 0, n)).collect();
    for record in &records {
        delta.put(*record).unwrap();
    }
    for (n, record) in records.iter().enumerate() {
        delta.remove(record.group(), u64::MAX).unwrap();
        if n % 500 == 0 {
            delta.audit();
        }
    }
    assert!(delta.is_empty());
    assert_eq!((delta.len(), delta.room(), delta.weight()), (0, room, 0));
    delta.audit();
}

#[test]
fn what_no_record_can_say_is_refused() {
    let mut delta = Delta::new(&Bench, 100).unwrap();
    for bad in [Record { mask: 0, ..one(1, 0, 0) }, one(1 << 48, 0, 0), one(1, 0, 1 << 48)] {
        assert!(matches!(delta.put(bad), Err(Fault::Bug(_))));
    }
    assert!(delta.is_empty());
}
