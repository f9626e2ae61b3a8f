// SPDX-License-Identifier: MIT

//! What a power cut leaves of superblocks that are being written: some sectors and not others.

use rwsnap_core::api::Step;
use rwsnap_core::format::superblock::{Superblock, COPIES};
use rwsnap_core::units::Dev;

use super::counting::Counting as Host;
use super::world::{Setup, World, USUAL};

const CHUNK: u64 = 4096;
const SECTOR: usize = 512;

fn copy(save: &[u8], n: usize) -> &[u8] {
    let at = COPIES[n] as usize;
    &save[at..at + 4096]
}

/// The generation of the n-th copy, if it is sound.
fn generation(save: &[u8], n: usize) -> Option<u64> {
    Superblock::parse(&Host, copy(save, n)).ok().map(|s| s.generation.get())
}

/// The newest generation on the save volume.
fn newest(save: &[u8]) -> u64 {
    (0..4).filter_map(|n| generation(save, n)).max().unwrap()
}

/// Goes on until both copies of a generation are written and not flushed yet; gives what the save
/// volume held at its last flush.
fn until_written(w: &mut World, wanted: u64) -> Vec<u8> {
    let mut flushed = w.disks[0].clone();
    let first = (wanted & 1) as usize;
    while [first, first + 2].map(|n| generation(&w.disks[0], n)) != [Some(wanted); 2] {
        let (id, step) = w.core.poll().expect("a superblock");
        w.carry_out(id, step);
        if step == (Step::Flush { dev: Dev::SAVE }) {
            flushed = w.disks[0].clone();
        }
    }
    flushed
}

/// Takes some sectors of a copy as they were at the last flush.
fn lose(save: &mut [u8], flushed: &[u8], n: usize, sectors: std::ops::Range<usize>) {
    let at = COPIES[n] as usize;
    let bytes = at + sectors.start * SECTOR..at + sectors.end * SECTOR;
    save[bytes.clone()].copy_from_slice(&flushed[bytes]);
}

/// A pool with its newest checkpoint's superblocks, of generation 4, on their way; and what the
/// save volume held at the flush before. It has a tree of one page, as it had in generation 3, and
/// had none in generation 2.
fn amid_a_checkpoint() -> (World, Vec<u8>) {
    let mut w = World::with(Setup { log_blocks: 16, ..USUAL });
    w.done(rwsnap_core::control::Verb::Snapshot, "", "", &["prod@one"]);
    let mut n = 0;
    while newest(&w.disks[0]) < 3 {
        w.write("prod", n * 37 % 1000 * CHUNK, 200, CHUNK as usize);
        n += 1;
    }
    w.core.close();
    let flushed = until_written(&mut w, 4);
    let tree = |n| Superblock::parse(&Host, copy(&w.disks[0], n)).unwrap().tree_pages.get();
    assert_eq!((generation(&flushed, 0), tree(1), tree(0)), (Some(2), 1, 1));
    (w, flushed)
}

/// A power cut left the first sector of a checkpoint's superblock. The recovery wrote its own of
/// the same generation over it, and was cut off as well when all sectors but the first were there.
/// They were what the checkpoint's would have been, so that its copy was sound after all, beside
/// the recovery's: two contents of one generation, and the pool did not open. (Seed 24326.)
#[test]
fn a_torn_superblock_does_not_come_back_to_life() {
    let (mut w, flushed) = amid_a_checkpoint();
    for n in [0, 2] {
        lose(&mut w.disks[0], &flushed, n, 1..8);
    }
    assert_eq!(newest(&w.disks[0]), 3);
    let mut w = World::opening(USUAL, w.disks);
    let flushed = until_written(&mut w, 4);
    lose(&mut w.disks[0], &flushed, 0, 0..1);
    let mut w = World::open(w.disks);
    assert_eq!((w.first("prod", 0), w.first("prod@one", 0)), (200, 0));
}

/// What is whole of the pair to be written stays until a newer superblock is written over it.
#[test]
fn only_a_copy_that_is_not_sound_is_wiped() {
    let (mut w, flushed) = amid_a_checkpoint();
    w.disks[0] = flushed;
    lose_first(&mut w.disks[0]);
    let mut w = World::opening(USUAL, w.disks);
    let flushed = until_written(&mut w, 4);
    assert_eq!((generation(&flushed, 0), generation(&flushed, 2)), (None, Some(2)));
    assert!(copy(&flushed, 0).iter().all(|&byte| byte == 0));
    w.drain();
    assert_eq!(w.core.opened(), Some(Ok(())));
}

/// Spoils the first copy.
fn lose_first(save: &mut [u8]) {
    save[COPIES[0] as usize + 3000] ^= 1;
}

/// A copy that cannot be read is written all the same, and its contents do not count.
#[test]
fn a_copy_that_cannot_be_read_is_wiped() {
    let (mut w, flushed) = amid_a_checkpoint();
    w.disks[0] = flushed;
    let mut w = World::opening(USUAL, w.disks);
    w.fails = |step| matches!(step, Step::Read { at, .. } if *at == COPIES[2]);
    let flushed = until_written(&mut w, 4);
    assert_eq!((generation(&flushed, 0), generation(&flushed, 2)), (Some(2), None));
    w.drain();
    assert_eq!(w.core.opened(), Some(Ok(())));
}
