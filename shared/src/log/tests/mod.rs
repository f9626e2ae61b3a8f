// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The writer and recovery: random histories with crashes, and all states of a small one.

mod world;

use super::*;
use crate::format::log::{open, seal, Entry, Header};
use crate::testing::TestPlatform;
use crate::units::{LogPos, PAGE};
use world::{entity, recover, World, BLOCKS, POOL, STAGE, T};

#[test]
fn what_was_acknowledged_survives_any_crash() {
    let (mut crashes, mut acknowledged, mut laps) = (0, 0, 0);
    for seed in 0..150 {
        let mut world = World::new(seed);
        for _ in 0..30 {
            for _ in 0..world.random.below(120) {
                world.step();
            }
            acknowledged += u32::from(world.writer.durable() > world.start.known_end);
            world.crash_and_check();
            crashes += 1;
        }
        laps += world.writer.head().0 / BLOCKS;
    }
    assert!(crashes == 4500 && acknowledged > 1000 && laps > 500, "{acknowledged} {laps}");
}

#[test]
fn a_bad_block_that_was_durable_is_damage() {
    let mut damaged = 0;
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..200 {
            world.step();
        }
        let durable = {
            let mut scan = Recovery::new(&world.start).unwrap();
            while let Want::Scan(pos) = scan.want() {
                let at = usize::try_from(pos.0 % BLOCKS).unwrap();
                scan.feed(&T, &world.media[at]).unwrap();
            }
            scan.durable()
        };
        for pos in world.start.pos.0..durable.0 {
            let at = usize::try_from(pos % BLOCKS).unwrap();
            let good = world.media[at].clone();
            for damage in 0..3 {
                match damage {
                    0 => world.media[at].fill(0),
                    1 => world.media[at].clear(),
                    _ => world.media[at][world.random.index(PAGE)] ^= 4,
                }
                // The last durable block may itself be the only one that says so; it is not, since
                // a block never claims itself.
                let found = world.recover().err();
                assert_eq!(found, Some(Damage::Durable(LogPos(pos))), "seed {seed}");
                damaged += 1;
                world.media[at].clone_from(&good);
            }
        }
    }
    assert!(damaged > 1000, "{damaged}");
}

/// A log of two durable blocks, then one by itself, a group of two and one by itself: all states
/// that a crash may leave the last four in, and a ring lap of leftovers below.
#[test]
fn each_state_of_four_blocks_in_flight() {
    let resume =
        Resume { generation: 3, super_generation: 3, start: LogPos(20), head: LogPos(20), hash: 5 };
    let mut writer = Writer::new(&T, POOL, BLOCKS, STAGE, &resume).unwrap();
    let group = |writer: &mut Writer<_>, count: usize| {
        writer.begin_group(count * 1016, Room::Common).unwrap();
        for n in 0..count {
            writer.push(&T, &Entry::Entity(&entity(n as u64)), Room::Common).unwrap();
        }
        writer.end_group();
        writer.seal(&T);
    };
    for count in [1, 2, 1, 6, 1] {
        group(&mut writer, count);
    }
    let mut blocks = Vec::new();
    while let Some(sealed) = writer.take() {
        blocks.push(writer.bytes(sealed.pos).to_vec());
    }
    assert_eq!(blocks.len(), 6);
    let leftover = |generation, position: u64, durable| {
        let resume =
            Resume { generation, head: LogPos(position), start: LogPos(position), ..resume };
        let mut old = Writer::new(&T, POOL, BLOCKS, STAGE, &resume).unwrap();
        old.set_durable(LogPos(durable));
        old.push(&T, &Entry::Note, Room::Common).unwrap();
        old.seal(&T);
        let pos = old.take().unwrap().pos;
        old.bytes(pos).to_vec()
    };
    let start = Start {
        pool: POOL,
        super_generation: 3,
        log_generation: 3,
        blocks: BLOCKS,
        pos: LogPos(20),
        hash: 5,
        known_end: LogPos(22),
        known_hash: open(&T, &blocks[1], POOL).unwrap().0.checksum,
        clean: false,
    };
    for state in 0..5_usize.pow(4) {
        let mut media = vec![vec![0; PAGE]; 16];
        let mut good = [true; 6];
        for (i, block) in blocks.iter().enumerate() {
            let kind =
                if i < 2 { 0 } else { state / 5_usize.pow(u32::try_from(i - 2).unwrap()) % 5 };
            let position = 20 + i as u64;
            good[i] = kind == 0;
            media[usize::try_from(position % BLOCKS).unwrap()] = match kind {
                0 => block.clone(),
                1 => vec![0; PAGE],
                2 => block[..100].iter().chain(&vec![0; PAGE - 100]).copied().collect(),
                // Of the lap before; of an older generation that a recovery cut off.
                3 => leftover(3, position - BLOCKS, 0),
                _ => leftover(2, position, position),
            };
        }
        let chained = good.iter().take_while(|&&g| g).count() as u64;
        let expected = if chained == 4 { 3 } else { chained };
        let (end, seen) = recover(&start, &media, |_| true).unwrap();
        assert_eq!((end.head, end.dropped), (LogPos(20 + expected), chained - expected));
        let entries = [0, 0, 3, 4, 4, 10, 11][usize::try_from(expected).unwrap()];
        assert_eq!(seen.len(), entries);
    }
}

#[test]
fn a_lost_superblock_is_noticed() {
    let mut world = World::new(4);
    while world.start.super_generation < 3 {
        let before = world.start;
        world.step();
        if world.start.super_generation == before.super_generation {
            continue;
        }
        // Something is logged and durable after the checkpoint; then its superblock is lost.
        let head = world.writer.head();
        for _ in 0..500 {
            world.push_unit();
            world.issue();
            world.complete();
            world.flush();
        }
        if world.writer.durable() <= head {
            continue;
        }
        let found = recover(&before, &world.media, |_| true).err();
        assert!(found.is_some(), "{found:?}");
    }
}

/// One block, sealed by hand, behind a checkpoint at position 20 of log generation 3.
fn one_block(change: impl Fn(&mut Header)) -> Result<LogPos, Damage> {
    let mut header = Header {
        generation: 3,
        super_generation: 3,
        position: LogPos(20),
        group_start: LogPos(20),
        before: 5,
        ..Header::default()
    };
    change(&mut header);
    let mut media = vec![vec![0; PAGE]; 16];
    seal(&T, &mut media[4], POOL, &header, 0);
    let start = Start {
        pool: POOL,
        super_generation: 3,
        log_generation: 3,
        blocks: BLOCKS,
        pos: LogPos(20),
        hash: 5,
        known_end: LogPos(20),
        known_hash: 5,
        clean: false,
    };
    recover(&start, &media, |_| true).map(|(end, _)| end.head)
}

#[test]
fn a_block_must_fit_in_every_respect() {
    assert_eq!(one_block(|_| ()), Ok(LogPos(21)));
    assert_eq!(one_block(|h| h.before = 6), Ok(LogPos(20)));
    // Cut off by a recovery for the sake of its data: it is chained, but must not come back.
    assert_eq!(one_block(|h| h.generation = 2), Ok(LogPos(20)));
    assert_eq!(one_block(|h| h.position = LogPos(21)), Ok(LogPos(20)));
    let lost = |pos| Err(Damage::Superblock(LogPos(pos)));
    assert_eq!(one_block(|h| h.super_generation = 4), lost(20));
    assert_eq!(one_block(|h| h.generation = 4), lost(20));
    assert_eq!(one_block(|h| h.position = LogPos(20 + BLOCKS)), lost(20 + BLOCKS));
}

/// How many blocks the scan looks at after a close in order at position 20, and what it finds, with
/// these blocks in the ring: where, and what their headers say.
fn scan_of_clean(ring: &[(u64, Header)]) -> (u64, Result<LogPos, Damage>) {
    let mut media = vec![vec![0; PAGE]; 16];
    for (at, header) in ring {
        seal(&T, &mut media[usize::try_from(at % BLOCKS).unwrap()], POOL, header, 0);
    }
    scan_of_clean_media(&media)
}

fn scan_of_clean_media(media: &[Vec<u8>]) -> (u64, Result<LogPos, Damage>) {
    let start = Start {
        pool: POOL,
        super_generation: 4,
        log_generation: 3,
        blocks: BLOCKS,
        pos: LogPos(20),
        hash: 5,
        known_end: LogPos(20),
        known_hash: 5,
        clean: true,
    };
    let mut recovery = Recovery::new(&start).unwrap();
    let mut looked_at = 0;
    while let Want::Scan(pos) = recovery.want() {
        assert_eq!(recovery.ahead(), if looked_at == 0 { 1 } else { BLOCKS - looked_at });
        looked_at += 1;
        if let Err(damage) =
            recovery.feed(&T, &media[usize::try_from(pos.0 % BLOCKS).unwrap()]).map(drop)
        {
            return (looked_at, Err(damage));
        }
    }
    (looked_at, Ok(recovery.end().head))
}

#[test]
fn after_a_close_in_order_one_block_shows_that_nothing_follows() {
    let header = |position| Header {
        generation: 3,
        super_generation: 3,
        position: LogPos(position),
        group_start: LogPos(position),
        before: 5,
        ..Header::default()
    };
    // Never written, or of the lap before.
    assert_eq!(scan_of_clean(&[]), (1, Ok(LogPos(20))));
    assert_eq!(scan_of_clean(&[(20, header(4)), (21, header(5))]), (1, Ok(LogPos(20))));
    // Something follows after all: all of it counts.
    assert_eq!(scan_of_clean(&[(20, header(20))]), (BLOCKS, Ok(LogPos(21))));
    // The pool was opened again, and the superblock that says so is lost: at once, or laps ago.
    let lost = |pos| (1, Err(Damage::Superblock(LogPos(pos))));
    let newer = |position| Header { generation: 5, super_generation: 5, ..header(position) };
    assert_eq!(scan_of_clean(&[(20, newer(20))]), lost(20));
    assert_eq!(scan_of_clean(&[(20, newer(20 + BLOCKS))]), lost(20 + BLOCKS));
    assert_eq!(scan_of_clean(&[(20, header(20 + BLOCKS))]), lost(20 + BLOCKS));
    // The first block is damaged: what lies behind it has to tell.
    let mut media = vec![vec![0; PAGE]; 16];
    media[4][100] = 1;
    assert_eq!(scan_of_clean_media(&media), (BLOCKS, Ok(LogPos(20))));
    seal(&T, &mut media[5], POOL, &newer(21), 0);
    assert_eq!(scan_of_clean_media(&media), (2, Err(Damage::Superblock(LogPos(21)))));
}

#[test]
fn a_known_end_of_another_history_is_noticed() {
    let start = Start { pool: POOL, blocks: BLOCKS, known_hash: 1, ..Start::default() };
    assert_eq!(Recovery::new(&start).err(), Some(Damage::Chain(LogPos(0))));
}

#[test]
fn ring_and_stage_fill_and_empty() {
    let resume =
        Resume { generation: 1, super_generation: 1, start: LogPos(0), head: LogPos(0), hash: 0 };
    let mut writer = Writer::new(&T, POOL, BLOCKS, STAGE, &resume).unwrap();
    writer.set_reserve(2);
    let push = |w: &mut Writer<_>, room| w.push(&T, &Entry::Entity(&entity(1)), room).err();
    let write_all = |w: &mut Writer<TestPlatform>| {
        w.seal(&T);
        while let Some(sealed) = w.take() {
            w.completed(sealed.pos);
        }
    };
    // Three entities fill a block; the stage holds eight.
    let pushed = (0..100).take_while(|_| push(&mut writer, Room::Common).is_none()).count();
    assert_eq!((pushed, push(&mut writer, Room::Reserve)), (24, Some(Full::Stage)));
    assert_eq!(writer.begin_group(8000, Room::Reserve), Err(Full::Stage));
    write_all(&mut writer);
    assert_eq!((writer.written(), writer.free_blocks()), (LogPos(8), 8));
    let pushed = (0..100).take_while(|_| push(&mut writer, Room::Common).is_none()).count();
    assert_eq!((pushed, push(&mut writer, Room::Common)), (18, Some(Full::Ring)));
    let pushed = (0..100).take_while(|_| push(&mut writer, Room::Reserve).is_none()).count();
    assert_eq!((pushed, push(&mut writer, Room::Reserve)), (6, Some(Full::Ring)));
    write_all(&mut writer);
    assert_eq!(writer.free_blocks(), 0);
    writer.set_durable(LogPos(100));
    assert_eq!(writer.durable(), LogPos(16));
    writer.set_start(LogPos(5), 2);
    assert_eq!((writer.free_blocks(), push(&mut writer, Room::Common)), (5, None));
    assert!(Writer::new(&T, POOL, BLOCKS, 3, &resume).is_none());
}
