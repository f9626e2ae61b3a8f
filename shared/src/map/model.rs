// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the tests of the map compare it with: a naive model, a store of pages, random records.
#![expect(clippy::cast_possible_truncation, reason = "numbers of tests are small")]

use std::collections::{BTreeMap, BTreeSet};

use super::{Builder, Group, Layers, Load, Miss, PageAlloc, Progress, Root};
use crate::format::node::{Node, Page, RawChild, INNER_MAX, LEAF_MAX};
use crate::format::record::{free_run, GroupKey, Key, Kind, Record};
use crate::testing::{Bench, Rng};
use crate::units::{bit_range, Epoch, MapId, PageNo, Slot, Word};

pub(super) const POOL: u64 = 0xB00C;

pub(super) const FIRST: GroupKey = GroupKey { map: MapId(0), word: Word(0), epoch: Epoch(0) };
pub(super) const LAST: GroupKey =
    GroupKey { map: MapId(u32::MAX), word: Word(0xFFFF_FFFF_FFFF), epoch: Epoch(u32::MAX) };

/// What each chunk of each group says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model(pub(super) BTreeMap<(GroupKey, u32), (Kind, Option<Slot>)>);

impl Model {
    pub(super) fn put(&mut self, record: &Record) {
        for bit in 0..64 {
            if record.mask >> bit & 1 == 1 {
                self.0.insert((record.group(), bit), (record.kind, record.slot_of(bit)));
            }
        }
    }

    pub(super) fn remove(&mut self, group: GroupKey, mask: u64) {
        self.0.retain(|(g, bit), _| *g != group || mask >> bit & 1 == 0);
    }

    /// Adds records that must not overlap.
    pub(super) fn add(&mut self, records: &[Record]) {
        for record in records {
            let before = self.0.len();
            self.put(record);
            assert_eq!(self.0.len(), before + record.mask.count_ones() as usize, "{record:?}");
        }
    }

    /// This with `upper` over it.
    pub(super) fn under(mut self, upper: &Self) -> Self {
        self.0.extend(upper.0.iter().map(|(at, what)| (*at, *what)));
        self
    }

    /// What of it shows.
    pub(super) fn visible(mut self) -> Self {
        self.0.retain(|_, (kind, _)| kind.in_tree());
        self
    }

    pub(super) fn next_group(&self, from: GroupKey) -> Option<GroupKey> {
        self.0.range((from, 0)..).next().map(|((group, _), _)| *group)
    }

    pub(super) fn group(&self, group: GroupKey) -> Self {
        Self(self.0.range((group, 0)..=(group, 63)).map(|(at, what)| (*at, *what)).collect())
    }

    pub(super) fn of(records: &[Record]) -> Self {
        let mut model = Self::default();
        model.add(records);
        model
    }
}

/// How wide the random records are spread.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub(super) maps: u64,
    pub(super) words: u64,
    pub(super) epochs: u64,
}

pub(super) fn group(rng: &mut Rng, spread: Spread) -> GroupKey {
    GroupKey {
        map: MapId(rng.below(spread.maps) as u32),
        word: Word(rng.below(spread.words)),
        epoch: Epoch(rng.below(spread.epochs) as u32),
    }
}

pub(super) fn mask(rng: &mut Rng) -> u64 {
    let first = rng.below(64) as u32;
    let mask = match rng.below(6) {
        0 => bit_range(first, 1),
        1 => u64::MAX,
        2 => rng.next() & rng.next(),
        3 => 0x5555_5555_5555_5555 << (first & 1),
        _ => bit_range(first, 1 + rng.below(20) as u32),
    };
    mask.max(1)
}

/// A record; slots are often such that it continues another one.
pub(super) fn record(rng: &mut Rng, spread: Spread) -> Record {
    let GroupKey { map, word, epoch } = group(rng, spread);
    let kinds =
        [Kind::Gone, Kind::Gone, Kind::Copied, Kind::New, Kind::Zero, Kind::Settled, Kind::Lost];
    let kind = if rng.once_in(2) { Kind::Copied } else { kinds[rng.below(7) as usize] };
    let mask = mask(rng);
    let near = 1000 + u64::from(mask.trailing_zeros());
    let slot = if rng.once_in(3) { rng.below(1 << 30) } else { near };
    let slot = Slot(if kind.has_slots() { slot } else { 0 });
    Record { map, word, epoch, kind, mask, slot }
}

/// A record that frees slots.
pub(super) fn freed(rng: &mut Rng) -> Record {
    free_run(Slot(rng.below(100_000)), 1).next().unwrap()
}

/// Pages on a device, and who uses them.
#[derive(Default)]
pub(super) struct Store {
    pub(super) pages: BTreeMap<u64, Box<Page>>,
    free: Vec<u64>,
    next: u64,
    pub(super) freed: Vec<PageNo>,
    pub(super) taken: u64,
    pub(super) loads: u64,
}

impl PageAlloc for Store {
    fn alloc(&mut self) -> Option<PageNo> {
        self.taken += 1;
        self.next += 1;
        Some(PageNo(self.free.pop().unwrap_or(self.next)))
    }
    fn free(&mut self, page: PageNo) {
        self.freed.push(page);
    }
}

impl Store {
    /// Loads what was missed; anything else is a failure of the test.
    pub(super) fn load(&mut self, layers: &mut Layers<Bench>, miss: Miss) {
        let Miss::Page(page) = miss else { panic!("{miss:?}") };
        assert_eq!(layers.cache.start(page), Load::Begin);
        assert_eq!(layers.cache.start(page), Load::Shared);
        self.loads += 1;
        layers.cache.fill(&Bench, page, &self.pages[&page.0][..]).unwrap();
    }

    pub(super) fn next_group(
        &mut self,
        layers: &mut Layers<Bench>,
        from: GroupKey,
        end: GroupKey,
        out: &mut Group,
    ) -> Option<GroupKey> {
        let (mut from, mut misses) = (from, 0);
        while misses < 100 {
            match layers.next_group(from, end, out) {
                Ok(Some(hidden)) if out.records().is_empty() => match hidden.after() {
                    Some(after) => (from, misses) = (after, 0),
                    None => return None,
                },
                Ok(group) => return group,
                Err(miss) => {
                    misses += 1;
                    self.load(layers, miss);
                }
            }
        }
        panic!("no progress");
    }

    /// A whole checkpoint of what is frozen; gives how many pages it took.
    pub(super) fn checkpoint(
        &mut self,
        layers: &mut Layers<Bench>,
        builder: &mut Builder<Bench>,
        generation: u64,
    ) -> u64 {
        let before = self.taken;
        builder.start(layers, generation).unwrap();
        let root = loop {
            match builder.step(&Bench, layers, self) {
                Ok(Progress::More) => {}
                Ok(Progress::Emit { page }) => {
                    let bytes = Box::new(*builder.page_bytes().unwrap());
                    if generation & 1 == 0 {
                        layers.cache.insert(page, &bytes);
                    }
                    assert!(self.pages.insert(page.0, bytes).is_none(), "page in use");
                }
                Ok(Progress::Done(root)) => break root,
                Err(miss) => self.load(layers, miss),
            }
        };
        layers.drop_frozen(root).unwrap();
        for page in std::mem::take(&mut self.freed) {
            layers.cache.forget(page);
            assert!(self.pages.remove(&page.0).is_some(), "freed twice: {page:?}");
            self.free.push(page.0);
        }
        self.taken - before
    }

    /// Walks the tree: all in order, each page once, none lost, none nearly empty. Gives the
    /// records, and the number of leaves.
    pub(super) fn audit(&self, root: Option<Root>) -> (Vec<Record>, u64) {
        let mut audit =
            Audit { store: self, seen: BTreeSet::new(), records: Vec::new(), leaves: 0 };
        if let Some(root) = root {
            audit.page(root.page, root.height - 1, root.generation, (Key(0), None));
            assert_eq!(root.records, audit.records.len() as u64);
            assert_eq!(root.pages, audit.seen.len() as u64);
        }
        assert_eq!(audit.seen.len(), self.pages.len(), "pages lost");
        (audit.records, audit.leaves)
    }
}

struct Audit<'a> {
    store: &'a Store,
    seen: BTreeSet<u64>,
    records: Vec<Record>,
    leaves: u64,
}

impl Audit<'_> {
    fn page(&mut self, page: PageNo, level: u8, generation: u64, (low, high): (Key, Option<Key>)) {
        assert!(self.seen.insert(page.0));
        let bytes = &self.store.pages[&page.0];
        crate::format::node::check(&Bench, bytes, page, POOL).unwrap();
        let node = Node::parse(bytes).unwrap();
        assert_eq!(node.level, level);
        assert!(node.generation <= generation);
        let last = high.is_none();
        if let Some(records) = node.records() {
            self.leaves += 1;
            assert!(last || records.len() >= LEAF_MAX / 4, "leaf of {}", records.len());
            for record in records.iter().map(|raw| raw.get().unwrap()) {
                assert!(self.records.last().is_none_or(|before| before.key() < record.key()));
                assert!(low <= record.group().first() && high.is_none_or(|h| record.key() < h));
                self.records.push(record);
            }
        }
        let kids = node.kids().unwrap_or_default();
        assert!(last || node.level == 0 || kids.len() >= INNER_MAX / 2, "{} kids", kids.len());
        for (at, kid) in kids.iter().enumerate() {
            let low = if at == 0 { low } else { kid.first() };
            let high = kids.get(at + 1).map(RawChild::first).or(high);
            self.page(kid.page(), level - 1, node.generation, (low, high));
        }
    }
}
