// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Slots and metadata pages beside naive models, with checkpoints that fail half-way and openings.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::format::page::Owner;
use crate::format::record::free_run;
use crate::testing::{Random, TestPlatform};
use crate::units::{Epoch, MapId, PageNo, Word, PAGE};

const T: TestPlatform = TestPlatform;
const OWNER: Owner = Owner { pool: 5, generation: 2 };
const LIMIT: u64 = 2 * PAGE_BITS + 100;

fn put(run: Run) -> impl Iterator<Item = Record> {
    (0..run.len).map(move |i| Record {
        map: MapId(1),
        word: Word(1),
        epoch: Epoch(1),
        kind: Kind::Copied,
        mask: 1 << (i % 64),
        slot: run.first.plus(u64::from(i)),
    })
}

/// The state of each slot, by the table in the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Taken,
    Logged,
    Held,
    /// Freed in the delta; whether the checkpoint holds the slot still.
    Freed(bool),
}

struct World {
    random: Random,
    slots: Slots<TestPlatform>,
    model: BTreeMap<u64, State>,
    /// The two sides of the disk, and which one the superblock names.
    sides: [Vec<Vec<u8>>; 2],
    side: usize,
    /// The records since the last checkpoint.
    delta: Vec<Record>,
}

impl World {
    fn new(seed: u64, count: u64) -> Self {
        let mut slots = Slots::new(&T, count, LIMIT).unwrap();
        slots.mark_all();
        let none = vec![Vec::new(); 3];
        let mut world = Self {
            random: Random(seed),
            slots,
            model: BTreeMap::new(),
            sides: [none.clone(), none],
            side: 0,
            delta: Vec::new(),
        };
        world.checkpoint(false);
        world
    }

    fn take(&mut self) {
        let want = 1 + u32::try_from(self.random.below(300)).unwrap();
        let before: Vec<u64> = self.model.keys().copied().collect();
        let free = self.slots.count() - before.len() as u64;
        let run = self.slots.alloc_run(want, 0);
        assert_eq!(run.is_some(), free > 0, "{free} are free");
        let Some(run) = run else { return };
        assert!(
            run.len >= 1
                && run.len <= want
                && run.first.0 + u64::from(run.len) <= self.slots.count()
        );
        for slot in run.first.0..run.first.0 + u64::from(run.len) {
            assert!(self.model.insert(slot, State::Taken).is_none());
        }
        match self.random.below(5) {
            0 => {
                self.slots.release(run);
                self.model.retain(|_, state| *state != State::Taken);
            }
            _ => self.log(run),
        }
    }

    fn log(&mut self, run: Run) {
        self.delta.extend(put(run));
        for slot in run.first.0..run.first.0 + u64::from(run.len) {
            self.model.insert(slot, State::Logged);
        }
    }

    fn free(&mut self) {
        let from = self.random.below(self.slots.count());
        let n = self.random.below(200);
        let can = |s: &State| matches!(s, State::Logged | State::Held);
        let run: Vec<u64> =
            self.model.range(from..from + n).filter(|(_, s)| can(s)).map(|(k, _)| *k).collect();
        for slot in run {
            self.delta.extend(free_run(Slot(slot), 1));
            let held = self.model[&slot] == State::Held;
            self.model.insert(slot, State::Freed(held));
        }
    }

    /// Writes a checkpoint of the delta; with `fail`, the power goes before its superblock.
    fn checkpoint(&mut self, fail: bool) {
        // As the map does it: records by key, those of slots freed in the same delta are gone.
        let frozen = std::mem::take(&mut self.delta);
        for record in &frozen {
            let gone = self.model.get(&record.slot.0) == Some(&State::Freed(false));
            if record.kind == Kind::Free || !gone {
                self.slots.apply(record).unwrap();
            }
        }
        let mut at = 0;
        while let Some(page) = self.slots.next_dirty(at) {
            let mut bytes = vec![1; PAGE];
            self.slots.fill_page(&T, &OWNER, page, &mut bytes);
            if !fail || self.random.once_in(2) {
                self.sides[1 - self.side][usize::try_from(page).unwrap()] = bytes;
            }
            at = page + 1;
        }
        if fail {
            return self.reopen(&frozen);
        }
        self.side = 1 - self.side;
        self.slots.turn();
        for record in &frozen {
            self.slots.reclaim(record);
        }
        self.model.retain(|_, state| !matches!(state, State::Freed(_)));
        for state in self.model.values_mut().filter(|s| **s == State::Logged) {
            *state = State::Held;
        }
    }

    /// Loads the bit map and replays what was logged since.
    fn reopen(&mut self, log: &[Record]) {
        let mut slots = Slots::new(&T, self.slots.count(), LIMIT).unwrap();
        for page in 0..slots.pages() {
            let at = usize::try_from(page).unwrap();
            slots.load(&T, 5, page, &self.sides[self.side][at]).unwrap();
            slots.compare(&T, 5, page, &self.sides[1 - self.side][at]);
        }
        for record in log {
            slots.replay(record).unwrap();
        }
        self.slots = slots;
        self.delta = log.to_vec();
        self.model.retain(|_, state| *state != State::Taken);
    }

    fn compare(&self) {
        assert_eq!(self.slots.used(), self.model.len() as u64);
        assert_eq!(self.slots.free() + self.slots.used(), self.slots.count());
        for slot in 0..self.slots.count() {
            let state = self.model.get(&slot);
            assert_eq!(self.slots.is_used(Slot(slot)), state.is_some(), "{slot}");
            let kept = matches!(state, Some(State::Held | State::Freed(true)));
            assert_eq!(self.slots.is_kept(Slot(slot)), kept, "{slot} {state:?}");
        }
    }
}

#[test]
fn slots_follow_a_model() {
    for (seed, count) in [(1, 300), (2, PAGE_BITS + 50), (3, 2 * PAGE_BITS), (4, 64), (5, LIMIT)] {
        let mut world = World::new(seed, count);
        for round in 0..600 {
            match world.random.below(12) {
                0..6 => world.take(),
                6..10 => world.free(),
                10 => world.checkpoint(false),
                _ if world.random.once_in(2) => world.checkpoint(true),
                _ => {
                    let more = world.slots.count() + world.random.below(40);
                    world.slots.grow(more);
                }
            }
            if round % 40 == 0 {
                world.compare();
            }
        }
        world.compare();
    }
}

#[test]
fn a_whole_run_is_preferred_and_a_short_one_taken() {
    let mut slots = Slots::new(&T, 200, 200).unwrap();
    let all = slots.alloc_run(200, 0).unwrap();
    assert_eq!((all, slots.alloc_run(1, 0)), (Run { first: Slot(0), len: 200 }, None));
    for (first, len) in [(10, 3), (50, 8), (100, 20)] {
        slots.release(Run { first: Slot(first), len });
    }
    assert_eq!(slots.alloc_exact(21, 0), None);
    assert_eq!(slots.alloc_run(8, 0), Some(Run { first: Slot(50), len: 8 }));
    assert_eq!(slots.alloc_run(64, 0), Some(Run { first: Slot(100), len: 20 }));
    assert_eq!(slots.alloc_exact(4, 0), None);
    assert_eq!(slots.alloc_run(64, 0), Some(Run { first: Slot(10), len: 3 }));
    assert_eq!((slots.free(), slots.alloc_run(1, 0)), (0, None));
}

#[test]
fn what_is_reserved_is_for_its_holder() {
    let mut slots = Slots::new(&T, 100, 100).unwrap();
    assert!(slots.reserve(60) && !slots.reserve(41) && slots.reserve(30));
    assert_eq!((slots.available_to(0), slots.available_to(30)), (10, 40));
    assert_eq!(slots.alloc_run(50, 0).unwrap().len, 10);
    assert_eq!(slots.alloc_run(50, 0), None);
    assert_eq!(slots.alloc_run(50, 60).unwrap().len, 50);
    assert_eq!((slots.reserved(), slots.free()), (40, 40));
    assert_eq!(slots.alloc_run(50, 10).unwrap().len, 10);
    slots.unreserve(30);
    assert_eq!(slots.available_to(0), 30);
}

#[test]
fn slots_that_are_none_are_corrupt() {
    let mut slots = Slots::new(&T, 100, 200).unwrap();
    let beyond = put(Run { first: Slot(100), len: 1 }).next().unwrap();
    assert_eq!(slots.apply(&beyond), Err(Fault::Corrupt));
    assert_eq!(slots.replay(&beyond), Err(Fault::Corrupt));
    let freed = free_run(Slot(99), 2).next().unwrap();
    assert_eq!(slots.apply(&freed), Err(Fault::Corrupt));
    slots.grow(101);
    assert_eq!((slots.apply(&beyond), slots.apply(&freed)), (Ok(()), Ok(())));
    let mut page = vec![0; PAGE];
    slots.keep(Slot(100), 1);
    slots.fill_page(&T, &OWNER, 0, &mut page);
    assert_eq!(slots.load(&T, 5, 0, &page), Ok(()));
    assert_eq!(slots.load(&T, 6, 0, &page), Err(Fault::Corrupt));
    let mut smaller = Slots::new(&T, 100, 200).unwrap();
    assert_eq!(smaller.load(&T, 5, 0, &page), Err(Fault::Corrupt));
}

/// Metadata pages, with the sides of their bit map on a disk.
struct Pages {
    meta: Meta<TestPlatform>,
    extents: Vec<u64>,
    held: BTreeSet<u64>,
    fresh: BTreeSet<u64>,
    freed: BTreeSet<u64>,
    sides: [Vec<Vec<u8>>; 2],
    side: usize,
}

impl Pages {
    fn write(&mut self, random: &mut Random, fail: bool) {
        let mut at = 0;
        while let Some(page) = self.meta.next_dirty(at) {
            let mut bytes = vec![1; PAGE];
            self.meta.fill_page(&T, &OWNER, page, &mut bytes);
            let index = usize::try_from(page).unwrap();
            for side in &mut self.sides {
                side.resize(side.len().max(index + 1), Vec::new());
            }
            if !fail || random.once_in(2) {
                self.sides[1 - self.side][index] = bytes;
            }
            at = page + 1;
        }
    }

    fn end(&mut self, random: &mut Random) {
        match random.below(3) {
            0 => {
                self.meta.abandon();
                self.held.retain(|page| !self.fresh.contains(page));
            }
            1 if self.sides[self.side].len() == usize::try_from(self.meta.map_pages()).unwrap() => {
                self.write(random, true);
                self.meta = Meta::new(&T, self.extents.iter().copied()).unwrap();
                for page in 0..self.meta.map_pages() {
                    let at = usize::try_from(page).unwrap();
                    self.meta.load(&T, 5, page, &self.sides[self.side][at]).unwrap();
                    self.meta.compare(&T, 5, page, &self.sides[1 - self.side][at]);
                }
                self.held.retain(|page| !self.fresh.contains(page));
            }
            _ => {
                self.write(random, false);
                self.side = 1 - self.side;
                self.meta.commit();
                self.held.retain(|page| !self.freed.contains(page));
            }
        }
        self.fresh.clear();
        self.freed.clear();
        let used: BTreeSet<u64> =
            (0..self.meta.pages()).filter(|&p| self.meta.is_used(PageNo(p))).collect();
        assert_eq!(used, self.held);
        assert_eq!(self.meta.free(), self.meta.pages() - self.held.len() as u64);
    }

    fn step(&mut self, random: &mut Random) {
        if random.once_in(2) {
            let page = self.meta.alloc();
            assert_eq!(page.is_some(), (self.held.len() as u64) < self.meta.pages());
            if let Some(page) = page {
                assert!(self.held.insert(page.0) && self.fresh.insert(page.0));
            }
        } else if let Some(&page) = self.held.range(random.below(self.meta.pages())..).next() {
            let first = self.freed.insert(page);
            assert_eq!(self.meta.free_page(PageNo(page)).is_ok(), first);
        }
    }
}

#[test]
fn metadata_pages_follow_a_model() {
    for (seed, first) in [(1, 16), (2, 100), (3, PAGE_BITS + 7), (4, PAGE_BITS)] {
        let mut random = Random(seed);
        let mut meta = Meta::new(&T, std::iter::once(first)).unwrap();
        meta.mark_all();
        let mut pages = Pages {
            meta,
            extents: vec![first],
            held: BTreeSet::new(),
            fresh: BTreeSet::new(),
            freed: BTreeSet::new(),
            sides: [Vec::new(), Vec::new()],
            side: 0,
        };
        for _ in 0..40 {
            pages.meta.begin();
            for _ in 0..random.below(60) {
                pages.step(&mut random);
            }
            if random.once_in(12) {
                let more = 1 + random.below(PAGE_BITS * 2);
                pages.extents.push(more);
                pages.meta.add_extent(&T, more).unwrap();
            }
            pages.end(&mut random);
        }
    }
}

#[test]
fn a_checkpoint_gets_pages_in_a_row() {
    let mut meta = Meta::new(&T, [10, 30].into_iter()).unwrap();
    assert_eq!(meta.map_place(0), Some((0, 0)));
    assert_eq!((meta.map_place(1), meta.map_place(2)), (Some((1, 0)), None));
    meta.begin();
    let taken: Vec<_> = (0..40).filter_map(|_| meta.alloc()).map(|p| p.0).collect();
    assert_eq!(taken, (10..40).chain(0..10).collect::<Vec<_>>());
    assert_eq!(meta.alloc(), None);
    meta.commit();
    for page in [3, 20, 21, 22, 30] {
        meta.free_page(PageNo(page)).unwrap();
    }
    assert_eq!(meta.alloc(), None);
    assert_eq!(meta.free_page(PageNo(3)), Err(Fault::Corrupt));
    assert_eq!(meta.free_page(PageNo(40)), Err(Fault::Corrupt));
    meta.commit();
    meta.begin();
    let taken: Vec<_> = (0..5).filter_map(|_| meta.alloc()).map(|p| p.0).collect();
    assert_eq!(taken, [20, 21, 22, 30, 3]);
    meta.set_reserve(4);
    assert_eq!(meta.lacks(), 4);
    meta.abandon();
    assert_eq!((meta.lacks(), meta.free()), (0, 5));
}

/// A clone's write got a slot, another write hid it before a flush, and the flush logged the
/// freeing alone. After a crash the slot was handed out, and the checkpoint freed it once more.
#[test]
fn a_slot_freed_in_the_log_is_not_given_out_before_the_checkpoint() {
    let mut slots = Slots::new(&T, 64, 64).unwrap();
    let free = free_run(Slot(1), 2).next().unwrap();
    slots.replay(&free).unwrap();
    assert!(slots.is_used(Slot(1)) && slots.is_used(Slot(2)));
    assert_eq!(slots.alloc_run(3, 0).unwrap(), Run { first: Slot(3), len: 3 });
    slots.reclaim(&free);
    assert_eq!(slots.used(), 3);
}
