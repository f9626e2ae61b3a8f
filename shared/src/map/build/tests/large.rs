// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Trees of several levels, where inner nodes are filled up, split and emptied too.

#![expect(clippy::cast_possible_truncation, reason = "numbers of tests are small")]

use std::collections::BTreeMap;

use super::{one, Pool};
use crate::fault::Fault;
use crate::format::record::{Kind, Record};
use crate::map::model::Store;
use crate::map::{Miss, PageAlloc, Progress};
use crate::testing::{Bench, Rng};
use crate::units::{PageNo, Slot};

fn gone(word: u64) -> Record {
    Record { kind: Kind::Gone, mask: u64::MAX, slot: Slot(0), ..one(word, 0) }
}

/// A pool, and which slot each word's record has.
struct Lockstep {
    pool: Pool,
    model: BTreeMap<u64, u64>,
}

impl Lockstep {
    fn new(records: usize) -> Self {
        Self { pool: Pool::new(records, 8), model: BTreeMap::new() }
    }

    fn put(&mut self, word: u64, slot: u64) {
        self.pool.layers.active.put(one(word, slot)).unwrap();
        self.model.insert(word, slot);
    }

    fn drop(&mut self, word: u64) {
        self.pool.layers.active.put(gone(word)).unwrap();
        self.model.remove(&word);
    }

    fn compare(&self) {
        let (records, _) = self.pool.store.audit(self.pool.layers.root());
        let all = records.iter().map(|record| (record.word.0, record.slot.0));
        assert!(all.eq(self.model.iter().map(|(word, slot)| (*word, *slot))));
    }
}

fn change(rng: &mut Rng, steps: &mut Lockstep, words: u64) {
    let first = rng.below(words);
    let end = (first + 1 + rng.below(words / 3)).min(words);
    match rng.below(5) {
        // Nearly all of a range goes.
        0 | 1 => {
            let every = 2 + rng.below(500);
            (first..end).filter(|word| word % every != 0).for_each(|word| steps.drop(word));
        }
        // All of it.
        2 => (first..end).for_each(|word| steps.drop(word)),
        // It is filled again.
        3 => (first..end).for_each(|word| steps.put(word, 3 * word + 1)),
        // A few records here and there.
        _ => {
            for _ in 0..rng.below(300) {
                steps.put(rng.below(words), rng.below(1 << 40));
            }
        }
    }
}

#[test]
fn inner_nodes_stay_half_full() {
    const WORDS: u64 = 120_000;
    for seed in 0..6 {
        let mut rng = Rng::new(seed);
        let mut steps = Lockstep::new(600_000);
        (0..WORDS).for_each(|word| steps.put(word, 3 * word));
        steps.pool.checkpoint();
        for _ in 0..12 {
            for _ in 0..=rng.below(2) {
                change(&mut rng, &mut steps, WORDS);
            }
            steps.pool.checkpoint();
            steps.compare();
        }
    }
}

#[test]
fn four_levels_are_made_and_changed() {
    const WORDS: u64 = 3_600_000;
    const BATCH: u64 = 300_000;
    let mut rng = Rng::new(4);
    let mut steps = Lockstep::new(310_000);
    for first in (0..WORDS).step_by(BATCH as usize) {
        (first..first + BATCH).for_each(|word| steps.put(word, 3 * word));
        steps.pool.checkpoint();
    }
    assert_eq!(steps.pool.layers.root().unwrap().height, 4);
    let mut taken = 0;
    for round in 0..4 {
        for _ in 0..rng.below(100) {
            steps.put(rng.below(WORDS), rng.below(1 << 40));
        }
        let first = 700_000 * round;
        (first..first + 60_000).for_each(|word| steps.drop(word));
        taken += steps.pool.checkpoint();
    }
    assert!(taken < 1000, "{taken}");
    steps.compare();
}

/// Groups of many records leave a leaf so full that two pages are cut from it one after the other.
/// When the first of them filled the node above to its end, the second found no place there, and
/// the pool was fenced (a million records, written at random).
#[test]
fn leaves_that_are_cut_twice_find_room_above() {
    for seed in 0..30 {
        let mut rng = Rng::new(seed);
        let mut pool = Pool::new(200_000, 8);
        let mut expected = 0;
        for word in 0..2500 {
            // No two of them lie side by side: each chunk is a record.
            for chunk in 0..61 + rng.below(4) {
                let (mask, slot) = (1 << chunk, Slot(1000 * word + 2 * chunk));
                pool.layers.active.put(Record { mask, slot, ..one(word, 0) }).unwrap();
                expected += 1;
            }
        }
        pool.checkpoint();
        let (records, _) = pool.store.audit(pool.layers.root());
        assert_eq!(records.len(), expected, "seed {seed}");
    }
}

#[test]
fn the_worst_case_is_announced() {
    let mut steps = Lockstep::new(110_000);
    (0..100_000).for_each(|n| steps.put(2 * n, n));
    steps.pool.checkpoint();
    // One record more in every other full leaf: each makes two, and no two of them are neighbours.
    let touched = (60..100_000).step_by(2 * 126);
    touched.clone().for_each(|n| steps.put(2 * n + 1, 7));
    let taken = steps.pool.checkpoint();
    assert!(taken >= 2 * touched.count() as u64, "{taken}");
    steps.compare();
}

/// Gives out so many pages and no more.
struct Short<'a>(&'a mut Store, u32);

impl PageAlloc for Short<'_> {
    fn alloc(&mut self) -> Option<PageNo> {
        self.1 = self.1.checked_sub(1)?;
        self.0.alloc()
    }
    fn free(&mut self, page: PageNo) {
        self.0.free(page);
    }
}

/// A checkpoint that fails is begun again, with the same frozen delta and another generation.
#[test]
fn a_build_that_fails_can_begin_again() {
    let mut steps = Lockstep::new(50_000);
    (0..20_000).for_each(|word| steps.put(2 * word, word));
    steps.pool.checkpoint();
    (0..2000).for_each(|word| steps.put(20 * word + 1, word));
    let Pool { layers, builder, store, .. } = &mut steps.pool;
    layers.freeze().unwrap();
    let root = layers.root();
    builder.start(layers, 5).unwrap();
    let mut short = Short(store, 20);
    let fault = loop {
        match builder.step(&Bench, layers, &mut short) {
            Ok(Progress::Done(_)) => panic!("done with 20 pages"),
            Ok(_) => {}
            Err(Miss::Fault(fault)) => break fault,
            Err(miss) => short.0.load(layers, miss),
        }
    };
    assert_eq!(fault, Fault::NoSpace);
    assert_eq!(layers.root(), root);
    store.freed.clear();
    store.checkpoint(layers, builder, 6);
    steps.compare();
}
