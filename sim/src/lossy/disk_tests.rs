// SPDX-License-Identifier: MIT

//! Disks against a naive model: what each block may hold after a power cut.

use super::*;
use crate::storm::Rng;

const BLOCK: usize = 512;
const BLOCKS: u64 = 64;
const ALL: Survive = Survive { seed: 1, keep: 100, torn: 0, tails: false, within: 0 };
const NONE: Survive = Survive { keep: 0, ..ALL };

/// A disk of zeros; its file has no name.
fn disk(cache: u64) -> Disk {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(BLOCKS * BLOCK as u64).expect("its size");
    Disk::new(file, 512, cache)
}

fn write(disk: &mut Disk, block: u64, value: u8, blocks: usize, fua: bool) -> u64 {
    disk.write(block * BLOCK as u64, Data::Bytes(vec![value; blocks * BLOCK]), fua)
}

/// The value that each block reads as; all of its bytes have it.
fn all(disk: &Disk) -> Vec<u8> {
    let mut data = [0; 64 * BLOCK];
    disk.read(0, &mut data).expect("it reads");
    let value = |block: &[u8]| {
        assert!(block.iter().all(|byte| *byte == block[0]), "a block is torn within");
        block[0]
    };
    data.chunks(BLOCK).map(value).collect()
}

fn get(disk: &Disk, block: usize) -> u8 {
    all(disk)[block]
}

#[test]
fn a_flush_covers_what_is_done_and_nothing_else() {
    let mut disk = disk(1 << 20);
    let first = write(&mut disk, 3, 7, 2, false);
    write(&mut disk, 4, 8, 2, false);
    disk.done(&[first]).unwrap();
    disk.flush().unwrap();
    assert_eq!([3, 4, 5].map(|block| get(&disk, block)), [7, 8, 8]);
    assert_eq!(disk.cut(NONE).unwrap(), Losses { lost: 1, kept: 0, torn: 0 });
    assert_eq!([3, 4, 5].map(|block| get(&disk, block)), [7, 7, 0]);
}

#[test]
fn fua_is_durable_when_done_and_older_data_does_not_come_back() {
    let mut disk = disk(1 << 20);
    let old = write(&mut disk, 0, 1, 8, false);
    disk.done(&[old]).unwrap();
    let fua = write(&mut disk, 2, 2, 3, true);
    disk.done(&[fua]).unwrap();
    assert_eq!(disk.cut(ALL).unwrap(), Losses { lost: 0, kept: 1, torn: 0 });
    assert_eq!(all(&disk)[..9], [1, 1, 2, 2, 2, 1, 1, 1, 0]);
}

#[test]
fn fua_in_flight_may_be_lost() {
    let mut disk = disk(1 << 20);
    write(&mut disk, 2, 2, 3, true);
    disk.flush().unwrap();
    disk.cut(NONE).unwrap();
    assert_eq!(get(&disk, 2), 0);
}

#[test]
fn a_full_cache_is_written_back() {
    let mut disk = disk(8 << 10);
    for block in 0..BLOCKS {
        let id = write(&mut disk, block, 1, 1, false);
        disk.done(&[id]).unwrap();
        assert!(disk.held <= 8 << 10);
    }
    disk.cut(NONE).unwrap();
    let kept = all(&disk).iter().filter(|value| **value == 1).count();
    assert!((48..64).contains(&kept), "{kept}");
}

#[test]
fn a_forgetful_disk_forgets() {
    let mut disk = disk(1 << 20);
    disk.forget_flushes();
    for fua in [false, true] {
        let id = write(&mut disk, 1, 5, 1, fua);
        disk.done(&[id]).unwrap();
        disk.flush().unwrap();
    }
    assert_eq!(get(&disk, 1), 5);
    assert_eq!(disk.cut(NONE).unwrap(), Losses { lost: 2, kept: 0, torn: 0 });
    assert_eq!(get(&disk, 1), 0);
}

#[test]
fn zeros_are_writes_of_zeros() {
    let mut disk = disk(1 << 20);
    let id = write(&mut disk, 0, 9, 16, true);
    disk.done(&[id]).unwrap();
    disk.write(4 * BLOCK as u64, Data::Zeros(4 * BLOCK as u64), false);
    assert_eq!([3, 4, 7, 8].map(|block| get(&disk, block)), [9, 0, 0, 9]);
    disk.cut(ALL).unwrap();
    assert_eq!([3, 4, 7, 8].map(|block| get(&disk, block)), [9, 0, 0, 9]);
}

/// What a block may hold after a cut: what is durable, and all that came later.
#[derive(Clone, Default)]
struct Model(Vec<(u64, u8)>);

/// A write that is not durable as far as the model knows.
#[derive(Clone, Copy)]
struct Sent {
    id: u64,
    first: u64,
    blocks: u64,
    fua: bool,
}

#[test]
fn each_block_holds_what_is_durable_or_something_later() {
    let mut seen = Losses::default();
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let mut disk = disk(1 << rng.range(10, 16));
        let mut model = vec![Model(vec![(0, 0)]); 64];
        let mut flying: Vec<Sent> = Vec::new();
        let (mut done, mut value) = (Vec::new(), 0);
        for _ in 0..rng.range(5, 60) {
            let first = rng.below(BLOCKS);
            let blocks = rng.range(1, (BLOCKS - first).min(9));
            let fua = rng.chance(20);
            match rng.below(4) {
                0 => {
                    disk.flush().unwrap();
                    done.drain(..).for_each(|write| settle(&mut model, write));
                }
                1 => {
                    let (now, rest): (Vec<Sent>, _) =
                        flying.drain(..).partition(|_| rng.chance(60));
                    let ids: Vec<u64> = now.iter().map(|sent| sent.id).collect();
                    disk.done(&ids).unwrap();
                    let (fua, plain): (Vec<Sent>, _) = now.into_iter().partition(|sent| sent.fua);
                    fua.into_iter().for_each(|sent| settle(&mut model, sent));
                    done.extend::<Vec<Sent>>(plain);
                    flying = rest;
                }
                _ => {
                    value += 1;
                    let count = usize::try_from(blocks).unwrap();
                    let id = write(&mut disk, first, value, count, fua);
                    flying.push(Sent { id, first, blocks, fua });
                    for block in first..first + blocks {
                        model[usize::try_from(block).unwrap()].0.push((id, value));
                    }
                }
            }
            newest(&disk, &model);
        }
        seen += disk.cut(Survive::drawn(1, &mut rng)[0]).unwrap();
        for (block, (got, Model(may))) in all(&disk).into_iter().zip(&model).enumerate() {
            assert!(may.iter().any(|(_, value)| *value == got), "seed {seed}: {block} holds {got}");
        }
    }
    assert!(seen.lost > 500 && seen.kept > 500 && seen.torn > 100, "{seen:?}");
}

fn newest(disk: &Disk, model: &[Model]) {
    for (got, Model(may)) in all(disk).into_iter().zip(model) {
        assert_eq!(Some(got), may.last().map(|(_, value)| *value));
    }
}

/// A write is durable: what came before it cannot be seen any more.
fn settle(model: &mut [Model], sent: Sent) {
    for block in sent.first..sent.first + sent.blocks {
        model[usize::try_from(block).unwrap()].0.retain(|(other, _)| *other >= sent.id);
    }
}

#[test]
fn the_same_seed_leaves_the_same() {
    let image = |seed| {
        let mut disk = disk(1 << 20);
        for (value, block) in (1..40).zip((0..50).step_by(2)) {
            write(&mut disk, block, value, 5, false);
        }
        let survive = Survive { seed, keep: 50, torn: 50, ..NONE };
        let losses = disk.cut(survive).unwrap();
        (losses, all(&disk))
    };
    assert_eq!(image(5), image(5));
    assert_ne!(image(5), image(6));
}
