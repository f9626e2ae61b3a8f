// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The cache beside a list in the order of use.

#![expect(clippy::cast_possible_truncation, reason = "numbers of tests are small")]

use std::collections::BTreeMap;

use super::{Cache, Load, FRAMES_MIN};
use crate::fault::Fault;
use crate::format::node::{write_leaf, Identity, Node, Page};
use crate::format::record::{Kind, RawRecord, Record};
use crate::testing::{Bench, Rng};
use crate::units::{Epoch, MapId, PageNo, Slot, Word, PAGE};

const POOL: u64 = 5;

/// A good page; its generation tells its versions apart.
fn page(number: u64, generation: u64) -> Page {
    let record = Record {
        map: MapId(1),
        word: Word(number),
        epoch: Epoch(1),
        kind: Kind::Zero,
        mask: 1,
        slot: Slot(0),
    };
    let mut out = [0; PAGE];
    let id = Identity { page: PageNo(number), pool: POOL, generation };
    assert!(write_leaf(&Bench, &mut out, id, &[RawRecord::new(&record)]));
    out
}

fn get(cache: &mut Cache<Bench>, number: u64) -> Option<u64> {
    Node::parse(cache.get(PageNo(number))?).map(|node| node.generation)
}

#[derive(Default)]
struct Model {
    /// Page and version, the one used last at the end.
    ready: Vec<(u64, u64)>,
    /// Page, the version that was there when the read began, and whether that is still good.
    loading: BTreeMap<u64, (u64, bool)>,
    frames: usize,
}

impl Model {
    fn evict(&mut self) -> bool {
        if self.ready.len() + self.loading.len() < self.frames {
            return true;
        }
        let some = !self.ready.is_empty();
        if some {
            self.ready.remove(0);
        }
        some
    }

    fn take(&mut self, number: u64) -> Option<u64> {
        let at = self.ready.iter().position(|(own, _)| *own == number)?;
        Some(self.ready.remove(at).1)
    }

    fn start(&mut self, number: u64, version: u64) -> Load {
        if self.ready.iter().any(|(own, _)| *own == number) {
            return Load::Ready;
        }
        if self.loading.contains_key(&number) {
            return Load::Shared;
        }
        if !self.evict() {
            return Load::Full;
        }
        self.loading.insert(number, (version, true));
        Load::Begin
    }
}

#[test]
fn agrees_with_a_list_of_uses() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let frames = 4 + seed % 9;
        let mut cache = Cache::new(&Bench, frames as usize, POOL).unwrap();
        let mut model = Model { frames: frames as usize, ..Model::default() };
        let mut version = BTreeMap::new();
        for op in 0..400 {
            let number = rng.below(2 * frames + 2);
            let now = version.entry(number).or_insert(1);
            match rng.below(10) {
                0..=2 => assert_eq!(cache.start(PageNo(number)), model.start(number, *now)),
                3 | 4 => finish(&mut rng, &mut cache, &mut model, number),
                5 => {
                    *now = op + 2;
                    cache.forget(PageNo(number));
                    model.take(number);
                    model.loading.entry(number).and_modify(|load| load.1 = false);
                }
                6 => {
                    *now = op + 2;
                    cache.insert(PageNo(number), &page(number, *now));
                    if let Some(load) = model.loading.get_mut(&number) {
                        load.1 = false;
                    } else if model.take(number).is_some() || model.evict() {
                        model.ready.push((number, *now));
                    }
                }
                _ => {
                    let expected = model.take(number);
                    model.ready.extend(expected.map(|version| (number, version)));
                    assert_eq!(get(&mut cache, number), expected);
                    assert!(expected.is_none_or(|version| version == *now), "an old page");
                }
            }
            assert_eq!(cache.loads(), model.loading.len());
        }
    }
}

/// Ends a read of the page, if there is one, in one way or the other.
fn finish(rng: &mut Rng, cache: &mut Cache<Bench>, model: &mut Model, number: u64) {
    let Some((version, good)) = model.loading.remove(&number) else {
        cache.fail(PageNo(number));
        return;
    };
    match rng.below(4) {
        0 => cache.fail(PageNo(number)),
        1 if good => {
            let wrong = page(number + 1, version);
            assert_eq!(cache.fill(&Bench, PageNo(number), &wrong), Err(Fault::Corrupt));
        }
        _ => {
            cache.fill(&Bench, PageNo(number), &page(number, version)).unwrap();
            if good {
                model.ready.push((number, version));
            }
        }
    }
}

#[test]
fn what_is_under_load_is_never_given_up() {
    let mut cache = Cache::new(&Bench, 0, POOL).unwrap();
    for number in 0..FRAMES_MIN as u64 {
        assert_eq!(cache.start(PageNo(number)), Load::Begin);
    }
    assert_eq!(cache.start(PageNo(99)), Load::Full);
    cache.insert(PageNo(99), &page(99, 1));
    assert_eq!(get(&mut cache, 99), None);
    cache.fill(&Bench, PageNo(2), &page(2, 1)).unwrap();
    assert_eq!(get(&mut cache, 2), Some(1));
    assert_eq!(cache.start(PageNo(99)), Load::Begin);
    assert_eq!(get(&mut cache, 2), None);
}

#[test]
fn a_read_from_before_a_rewrite_does_not_get_in() {
    let mut cache = Cache::new(&Bench, 4, POOL).unwrap();
    assert_eq!(cache.start(PageNo(7)), Load::Begin);
    cache.forget(PageNo(7));
    cache.insert(PageNo(7), &page(7, 2));
    assert_eq!(cache.start(PageNo(7)), Load::Shared);
    cache.fill(&Bench, PageNo(7), &page(7, 1)).unwrap();
    assert_eq!(get(&mut cache, 7), None);
    assert_eq!(cache.start(PageNo(7)), Load::Begin);
    cache.fill(&Bench, PageNo(7), &page(7, 2)).unwrap();
    assert_eq!(get(&mut cache, 7), Some(2));
}

#[test]
fn a_fill_that_nobody_asked_for_is_a_bug() {
    let mut cache = Cache::new(&Bench, 4, POOL).unwrap();
    assert!(matches!(cache.fill(&Bench, PageNo(1), &page(1, 1)), Err(Fault::Bug(_))));
    assert_eq!(cache.start(PageNo(1)), Load::Begin);
    assert!(matches!(cache.fill(&Bench, PageNo(1), &[0; 10]), Err(Fault::Bug(_))));
    assert_eq!(cache.start(PageNo(1)), Load::Begin);
}
