// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Checkpoint after checkpoint beside a naive model.

mod large;

use super::{pages_needed, Builder};
use crate::fault::Fault;
use crate::format::record::{GroupKey, Kind, Record};
use crate::map::model::{freed, group, record, Model, Spread, Store, FIRST, LAST, POOL};
use crate::map::{Group, Layers, Load, Miss, Sizes};
use crate::testing::{Bench, Rng};
use crate::units::{Epoch, MapId, Slot, Word};

struct Pool {
    layers: Layers<Bench>,
    builder: Builder<Bench>,
    store: Store,
    generation: u64,
}

impl Pool {
    fn new(delta: usize, cache: usize) -> Self {
        let sizes = Sizes { delta, pending: 1000, cache };
        Self {
            layers: *Layers::new(&Bench, sizes, POOL, None).unwrap(),
            builder: Builder::new(&Bench, POOL).unwrap(),
            store: Store::default(),
            generation: 0,
        }
    }

    /// Freezes and writes; checks the tree and that no more pages were taken than announced.
    fn checkpoint(&mut self) -> u64 {
        self.generation += 1;
        self.layers.freeze().unwrap();
        let root = self.layers.root();
        let bound = pages_needed(self.layers.frozen().unwrap(), 0, root.as_ref());
        let taken = self.store.checkpoint(&mut self.layers, &mut self.builder, self.generation);
        assert!(taken <= bound, "{taken} pages, not {bound}");
        taken
    }

    fn tree(&self) -> Model {
        Model::of(&self.store.audit(self.layers.root()).0)
    }

    /// Everything that shows, by `next_group`.
    fn dump(&mut self) -> Model {
        let mut model = Model::default();
        let mut out = Group::new();
        let mut from = Some(FIRST);
        while let Some(at) = from {
            let Some(found) = self.store.next_group(&mut self.layers, at, LAST, &mut out) else {
                break;
            };
            assert!(found >= at && !out.records().is_empty());
            assert!(out.records().is_sorted_by_key(Record::key));
            assert!(out.records().iter().all(|record| record.group() == found));
            model.add(out.records());
            from = found.after();
        }
        model
    }
}

/// Random puts in all layers with checkpoints between.
fn lockstep(seed: u64, rounds: u64, ops: u64, spread: Spread, cache: usize) {
    let mut rng = Rng::new(seed);
    let mut pool = Pool::new(8000, cache);
    let (mut tree, mut frozen, mut active, mut pending) =
        (Model::default(), Model::default(), Model::default(), Model::default());
    for _ in 0..rounds {
        let wipe = rng.once_in(6);
        for _ in 0..rng.below(ops) {
            let mut record = record(&mut rng, spread);
            if wipe {
                (record.kind, record.mask, record.slot) = (Kind::Gone, u64::MAX, Slot(0));
            }
            if rng.once_in(10) {
                record = freed(&mut rng);
            }
            if rng.once_in(12) {
                pool.layers.pending.put(record).unwrap();
                pending.put(&record);
            } else {
                pool.layers.active.put(record).unwrap();
                active.put(&record);
            }
        }
        // What shows is the same while frozen and after.
        frozen = std::mem::take(&mut active);
        pool.layers.freeze().unwrap();
        for _ in 0..rng.below(20) {
            let record = record(&mut rng, spread);
            pool.layers.active.put(record).unwrap();
            active.put(&record);
        }
        let all = tree.clone().under(&frozen).under(&active).under(&pending).visible();
        assert_eq!(pool.dump(), all);
        point_lookups(&mut rng, &mut pool, &all, spread);

        let bound = pages_needed(pool.layers.frozen().unwrap(), 0, pool.layers.root().as_ref());
        pool.generation += 1;
        let taken = pool.store.checkpoint(&mut pool.layers, &mut pool.builder, pool.generation);
        assert!(taken <= bound, "{taken} pages, not {bound}");
        tree = tree.under(&frozen).visible();
        assert_eq!(pool.tree(), tree);
        assert_eq!(pool.dump(), all);
        if rng.once_in(3) {
            pool.layers.pending.clear();
            pending = Model::default();
        }
    }
    drop(frozen);
}

fn point_lookups(rng: &mut Rng, pool: &mut Pool, all: &Model, spread: Spread) {
    let mut out = Group::new();
    for _ in 0..20 {
        let (from, end) = (group(rng, spread), group(rng, spread));
        let found = pool.store.next_group(&mut pool.layers, from, end, &mut out);
        let expected = all.next_group(from).filter(|group| *group < end);
        assert_eq!(found, expected);
        if let Some(found) = found {
            assert_eq!(Model::of(out.records()), all.group(found));
        }
    }
}

#[test]
fn small_maps_agree_with_the_model() {
    for seed in 0..1000 {
        let spread = Spread { maps: 2, words: 1 + seed % 50, epochs: 1 + seed % 4 };
        lockstep(seed, 5, 50, spread, 4);
    }
}

#[test]
fn larger_maps_agree_with_the_model() {
    for seed in 0..18 {
        let spread = Spread { maps: 3, words: 100 << (seed % 6), epochs: 3 };
        lockstep(seed, 8, 1500, spread, 4 + (seed % 20) as usize);
    }
}

fn one(word: u64, slot: u64) -> Record {
    Record {
        map: MapId(1),
        word: Word(word),
        epoch: Epoch(1),
        kind: Kind::Copied,
        mask: 0x11,
        slot: Slot(slot),
    }
}

#[test]
fn records_in_order_make_full_leaves() {
    let mut pool = Pool::new(101_000, 8);
    for n in 0..100_000 {
        pool.layers.active.put(one(n, 3 * n)).unwrap();
    }
    let taken = pool.checkpoint();
    let root = pool.layers.root().unwrap();
    let (records, leaves) = pool.store.audit(Some(root));
    assert_eq!((records.len(), root.height, root.pages), (100_000, 3, taken));
    assert_eq!(leaves, 100_000_u64.div_ceil(126));
    assert_eq!(taken, leaves + 5 + 1);
}

#[test]
fn a_small_change_rewrites_one_path() {
    let mut pool = Pool::new(200_000, 2000);
    let mut model = Model::default();
    for n in 0..100_000 {
        pool.layers.active.put(one(2 * n, 3 * n)).unwrap();
        model.put(&one(2 * n, 3 * n));
    }
    pool.checkpoint();
    let mut rng = Rng::new(1);
    for n in 0..200 {
        let record = one(rng.below(200_000), n);
        pool.layers.active.put(record).unwrap();
        model.put(&record);
        let taken = pool.checkpoint();
        assert!(taken <= 5, "{taken} pages for one record");
    }
    assert_eq!(pool.tree(), model);
    // Spread over all leaves: each is split at most once, and stays at least half full.
    for n in 0..2000 {
        let record = one(100 * n + 51, n);
        pool.layers.active.put(record).unwrap();
        model.put(&record);
    }
    pool.checkpoint();
    let (_, leaves) = pool.store.audit(pool.layers.root());
    assert!(leaves <= 102_200 / 63);
    assert_eq!(pool.tree(), model);
}

#[test]
fn trees_shrink_to_nothing_and_grow_again() {
    let mut pool = Pool::new(60_000, 6);
    let gone = |n| Record { kind: Kind::Gone, mask: u64::MAX, slot: Slot(0), ..one(n, 0) };
    for _ in 0..3 {
        for n in 0..40_000 {
            pool.layers.active.put(one(n, 3 * n)).unwrap();
        }
        pool.checkpoint();
        assert_eq!(pool.layers.root().unwrap().height, 3);
        for n in 0..40_000 {
            if n != 20_000 {
                pool.layers.active.put(gone(n)).unwrap();
            }
        }
        pool.checkpoint();
        let root = pool.layers.root().unwrap();
        assert_eq!((root.height, root.records, root.pages), (1, 1, 1));
        pool.layers.active.put(gone(20_000)).unwrap();
        pool.checkpoint();
        assert_eq!(pool.layers.root(), None);
        assert!(pool.store.pages.is_empty());
    }
}

#[test]
fn freed_slots_alone_leave_the_tree_as_it_is() {
    let mut pool = Pool::new(1000, 4);
    let mut rng = Rng::new(3);
    pool.layers.active.put(freed(&mut rng)).unwrap();
    assert_eq!(pool.checkpoint(), 0);
    assert_eq!(pool.layers.root(), None);
    pool.layers.active.put(one(1, 1)).unwrap();
    pool.checkpoint();
    let root = pool.layers.root();
    pool.layers.active.put(freed(&mut rng)).unwrap();
    assert_eq!(pool.checkpoint(), 0);
    assert_eq!(pool.layers.root(), root);
}

#[test]
fn groups_of_64_records_are_not_torn() {
    let mut pool = Pool::new(20_000, 5);
    let mut model = Model::default();
    for word in 0..60 {
        for bit in 0..64 {
            let record = Record { mask: 1 << bit, ..one(word, 1000 * word + 5 * bit) };
            pool.layers.active.put(record).unwrap();
            model.put(&record);
        }
        if word % 7 == 0 {
            pool.checkpoint();
        }
    }
    pool.checkpoint();
    assert_eq!(pool.tree(), model);
    // 63 of each remain, then one.
    for (left, bit) in [(63, 5), (1, 6)] {
        for word in 0..60 {
            let mask = if left == 63 { 1 << bit } else { !(1 << bit) };
            let gone = Record { kind: Kind::Gone, mask, slot: Slot(0), ..one(word, 0) };
            pool.layers.active.put(gone).unwrap();
            model.remove(gone.group(), mask);
        }
        pool.checkpoint();
        assert_eq!(pool.tree(), model);
        assert_eq!(pool.dump(), model);
    }
}

#[test]
fn a_full_delta_hides_the_tree_without_a_read() {
    let mut pool = Pool::new(1000, 4);
    pool.layers.active.put(one(3, 30)).unwrap();
    pool.checkpoint();
    let whole = Record { mask: u64::MAX, ..one(3, 100) };
    pool.layers.pending.put(whole).unwrap();
    let mut out = Group::new();
    let end = whole.group().after().unwrap();
    pool.layers.cache.forget(pool.layers.root().unwrap().page);
    assert_eq!(pool.layers.next_group(whole.group(), end, &mut out), Ok(Some(whole.group())));
    assert_eq!(out.records(), [whole]);
    let miss = pool.layers.next_group(FIRST, end, &mut out);
    assert_eq!(miss, Err(Miss::Page(pool.layers.root().unwrap().page)));
}

#[test]
fn a_bad_page_is_noticed_and_not_kept() {
    let mut pool = Pool::new(10_000, 4);
    for n in 0..2000 {
        pool.layers.active.put(one(n, 3 * n)).unwrap();
    }
    pool.checkpoint();
    let page = pool.layers.root().unwrap().page;
    pool.layers.cache.forget(page);
    assert_eq!(pool.layers.cache.start(page), Load::Begin);
    let mut bad = *pool.store.pages[&page.0];
    bad[100] ^= 1;
    assert_eq!(pool.layers.cache.fill(&Bench, page, &bad), Err(Fault::Corrupt));
    assert!(pool.layers.cache.get(page).is_none());
    // A good page in the wrong place, of the wrong level.
    let leaf = *pool.store.pages.keys().find(|at| **at != page.0).unwrap();
    assert_eq!(pool.layers.cache.start(page), Load::Begin);
    let other = pool.store.pages[&leaf].clone();
    assert_eq!(pool.layers.cache.fill(&Bench, page, &other[..]), Err(Fault::Corrupt));
    assert_eq!(pool.dump().0.len(), 4000);
}

#[test]
fn only_one_delta_can_be_frozen() {
    let mut pool = Pool::new(100, 4);
    assert!(pool.layers.frozen().is_none());
    assert!(pool.builder.start(&pool.layers, 1).is_err());
    pool.layers.freeze().unwrap();
    assert!(pool.layers.freeze().is_err());
    pool.layers.drop_frozen(None).unwrap();
    assert!(pool.layers.drop_frozen(None).is_err());
}

#[test]
fn the_end_of_a_range_is_not_read_beyond() {
    let mut pool = Pool::new(10_000, 4);
    for n in 0..2000 {
        pool.layers.active.put(one(10 * n, 3 * n)).unwrap();
    }
    pool.checkpoint();
    let at = |word| GroupKey { map: MapId(1), word: Word(word), epoch: Epoch(0) };
    let mut out = Group::new();
    for word in 0..20_000 {
        let before = pool.store.loads;
        let found = pool.store.next_group(&mut pool.layers, at(word), at(word + 1), &mut out);
        assert_eq!(found.is_some(), word % 10 == 0);
        assert!(pool.store.loads - before <= 2);
    }
}

/// A walk began anew with each page that it missed among groups that a delta hides: with more of
/// their pages than the cache has room for, it never got to the next one that shows.
#[test]
fn a_walk_gets_past_more_hidden_groups_than_the_cache_holds() {
    let mut pool = Pool::new(10_000, 4);
    for n in 0..2000 {
        pool.layers.active.put(one(n, 3 * n)).unwrap();
    }
    pool.checkpoint();
    for n in 0..1500 {
        let hidden = Record { kind: Kind::Gone, slot: Slot(0), ..one(n, 0) };
        pool.layers.active.put(hidden).unwrap();
    }
    let mut out = Group::new();
    let found = pool.store.next_group(&mut pool.layers, FIRST, LAST, &mut out);
    assert_eq!((found, out.records()), (Some(one(1500, 0).group()), &[one(1500, 4500)][..]));
}
