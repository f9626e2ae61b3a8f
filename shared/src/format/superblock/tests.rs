// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Layouts, and the choice among superblock copies.

use super::*;
use crate::testing::{Random, TestPlatform};

const T: TestPlatform = TestPlatform;

fn tiny() -> Options {
    Options { bytes: 1 << 20, log_blocks: 16, pages: 16, align: 4096, ..Options::default() }
}

fn made(generation: u64) -> Superblock {
    let mut made = Superblock::default();
    made.lay_out(&tiny()).unwrap();
    made.pool = [7; 16];
    made.generation = generation.into();
    made.seal(&T);
    made
}

#[test]
fn each_flipped_bit_is_seen() {
    let made = made(3);
    let mut bytes = made.as_bytes().to_vec();
    assert!(Superblock::parse(&T, &bytes).is_ok());
    for bit in 0..PAGE * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let why = Superblock::parse(&T, &bytes).err();
        let expected = if bit < 64 { WhyBad::Foreign } else { WhyBad::Corrupt };
        assert_eq!(why, Some(expected), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn foreign_version_and_corrupt_are_told_apart() {
    let why = |bytes: &[u8]| Superblock::parse(&T, bytes).err();
    assert_eq!(why(&[0; PAGE]), Some(WhyBad::Foreign));
    assert_eq!(why(&[]), Some(WhyBad::Foreign));
    let mut newer = made(3);
    newer.incompat = 4.into();
    newer.seal(&T);
    assert_eq!(why(newer.as_bytes()), Some(WhyBad::Version { unknown: 4 }));
    let mut overlap = made(3);
    overlap.slot_map = [overlap.log_start; 2];
    overlap.seal(&T);
    assert_eq!(why(overlap.as_bytes()), Some(WhyBad::Corrupt));
    let mut read_only = made(3);
    read_only.ro_compat = 1.into();
    read_only.seal(&T);
    assert!(Superblock::parse(&T, read_only.as_bytes()).unwrap().read_only());
}

#[test]
fn the_newest_of_four_counts() {
    let (old, new) = (made(4), made(5));
    assert!(old.pair().iter().all(|at| !new.pair().contains(at)));
    let find = |copies: [&[u8]; 4]| {
        let mut finder = Finder::default();
        for copy in copies {
            finder.feed(&T, copy);
        }
        finder.finish().map(|s| s.generation.get())
    };
    let (o, n) = (old.as_bytes(), new.as_bytes());
    let mut torn = n.to_vec();
    torn[3000..].fill(9);
    assert_eq!(find([o, n, o, n]), Ok(5));
    assert_eq!(find([o, &torn, o, n]), Ok(5));
    assert_eq!(find([o, &torn, o, &torn]), Ok(4));
    assert_eq!(find([&[], &torn, o, &[]]), Ok(4));
    assert_eq!(find([&[], &torn, &[], &[]]), Err(WhyBad::Corrupt));
    assert_eq!(find([&[0; PAGE]; 4]), Err(WhyBad::Foreign));
}

#[test]
fn copies_that_contradict_one_another_are_refused() {
    let find = |a: &Superblock, b: &Superblock| {
        let mut finder = Finder::default();
        finder.feed(&T, a.as_bytes());
        finder.feed(&T, b.as_bytes());
        finder.finish().map(|_| ())
    };
    let (one, mut other) = (made(4), made(4));
    assert_eq!(find(&one, &other), Ok(()));
    other.written_ns = 77.into();
    other.seal(&T);
    assert_eq!(find(&one, &other), Err(WhyBad::Corrupt));
    let mut of_another_pool = made(5);
    of_another_pool.pool = [8; 16];
    of_another_pool.seal(&T);
    assert_eq!(find(&one, &of_another_pool), Err(WhyBad::Corrupt));
}

/// All regions of a laid out pool, as (name, first byte, bytes).
fn regions(pool: &Superblock) -> Vec<(&'static str, u64, u64)> {
    let mut all: Vec<_> = COPIES.iter().map(|&at| ("copy", at, PAGE_BYTES)).collect();
    all.push(("zero", 0, PAGE_BYTES));
    all.push(("log", pool.log_start.get(), pool.log_blocks.get() * PAGE_BYTES));
    for side in pool.slot_map {
        all.push(("map", side.get(), pool.slot_map_pages.get() * PAGE_BYTES));
    }
    all.extend(pool.extents().map(|e| ("extent", e.start, e.bytes())));
    all.push(("slots", pool.slots_start.get(), pool.slots.get() * u64::from(pool.chunk.get())));
    all.sort_by_key(|r| r.1);
    all
}

#[test]
fn no_layout_overlaps() {
    let mut random = Random(1);
    let mut fitted = 0;
    for round in 0..4000 {
        let bytes = (1 << (16 + random.below(30))) + random.below(1 << 20);
        let chunk = 4096 << random.below(5);
        let explicit = round % 2 == 0;
        let asked = |n: u64| if explicit { n } else { 0 };
        let options = Options {
            bytes,
            grow: 0,
            limit: asked(bytes * 3),
            chunk,
            block: 512,
            log_blocks: asked(16 + random.below(64)),
            pages: asked(16 + random.below(40_000)),
            align: asked(4096 << random.below(9)),
        };
        let mut pool = Superblock::default();
        match pool.lay_out(&options) {
            Ok(()) => fitted += 1,
            Err(LayoutError::TooSmall { need }) => {
                assert!(need > bytes);
                assert!(need < 80 << 20 || explicit, "{options:?}");
                let enough = Options { bytes: need, limit: asked(bytes * 3), ..options };
                assert!(options.limit < need || pool.lay_out(&enough).is_ok());
                continue;
            }
            Err(other) => panic!("{other:?} {options:?}"),
        }
        pool.seal(&T);
        assert!(Superblock::parse(&T, pool.as_bytes()).is_ok());
        let all = regions(&pool);
        assert!(all.windows(2).all(|w| w[0].1 + w[0].2 <= w[1].1), "{all:?}");
        assert!(pool.end() <= bytes && bytes - pool.end() < u64::from(chunk));
        assert!(pool.slots.get() <= pool.slot_limit.get());
        assert!(pool.slot_map_pages.get() * PAGE_BITS >= pool.slot_limit.get());
        assert_eq!(pool.slots_start.get() % pool.base_align.get(), 0);
    }
    assert!(fitted > 2000);
}

#[test]
fn usual_sizes_are_as_documented() {
    let lay = |bytes| {
        let mut pool = Superblock::default();
        pool.lay_out(&Options { bytes, ..Options::default() }).unwrap();
        pool
    };
    let large = lay(1 << 40);
    assert_eq!(large.log_blocks.get(), 4096);
    assert_eq!(large.pages(), (1 << 33) / PAGE_BYTES);
    assert_eq!(large.slots_start.get() % (1 << 20), 0);
    let small = lay(16 << 20);
    assert_eq!(small.log_blocks.get(), 256);
    assert_eq!(small.pages(), 64);
    assert_eq!(small.slots_start.get() % 65_536, 0);
    let mut least = Superblock::default();
    least.lay_out(&Options { bytes: 232 << 10, ..tiny() }).unwrap();
    assert!(least.slots.get() >= 4);
}

#[test]
fn bad_options_are_named() {
    let mut pool = Superblock::default();
    let mut lay = |o: Options| pool.lay_out(&o).err();
    assert_eq!(lay(Options { chunk: 5000, ..tiny() }), Some(LayoutError::Chunk));
    assert_eq!(lay(Options { block: 256, ..tiny() }), Some(LayoutError::Block));
    assert_eq!(lay(Options { align: 5000, ..tiny() }), Some(LayoutError::Align));
    assert_eq!(lay(Options { log_blocks: 15, ..tiny() }), Some(LayoutError::Regions));
    assert_eq!(lay(Options { pages: 15, ..tiny() }), Some(LayoutError::Regions));
    assert_eq!(lay(Options { limit: u64::MAX, ..tiny() }), Some(LayoutError::TooLarge));
    assert!(matches!(
        lay(Options { bytes: 100_000, ..tiny() }),
        Some(LayoutError::TooSmall { need: 100_001.. })
    ));
}

#[test]
fn pages_slots_and_blocks_have_their_places() {
    let mut pool = made(1);
    assert!(pool.add_extent(Extent { start: 500 << 10, pages: 3 }));
    let first = pool.extents().next().unwrap();
    assert_eq!(first.map_pages(), 1);
    assert_eq!(pool.page_byte(PageNo(0)), Some(first.start + 2 * PAGE_BYTES));
    assert_eq!(pool.page_byte(PageNo(15)), Some(first.start + 17 * PAGE_BYTES));
    assert_eq!(pool.page_byte(PageNo(16)), Some((500 << 10) + 2 * PAGE_BYTES));
    assert_eq!(pool.page_byte(PageNo(18)), Some((500 << 10) + 4 * PAGE_BYTES));
    assert_eq!(pool.page_byte(PageNo(19)), None);
    assert_eq!(pool.pages(), 19);
    let slots = pool.slots.get();
    assert_eq!(pool.slot_byte(Slot(slots - 1)), Some(pool.end() - 4096));
    assert_eq!(pool.slot_byte(Slot(slots)), None);
    assert_eq!(pool.log_byte(LogPos(16)), pool.log_byte(LogPos(0)));
    assert_eq!(pool.log_byte(LogPos(19)), Some(pool.log_start.get() + 3 * PAGE_BYTES));
    assert_eq!(pool.slot_map_byte(1, 0), Some(pool.slot_map[1].get()));
    assert_eq!(pool.slot_map_byte(1, 1), None);
    assert_eq!(pool.slot_map_byte(2, 0), None);
    let more = (0..100).filter(|_| pool.add_extent(first)).count();
    assert_eq!(more, EXTENTS - 2);
}
