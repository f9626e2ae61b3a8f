// SPDX-License-Identifier: MIT

//! Flushes are given out where they mean something: none to a device without a volatile cache, and
//! none behind a small batch that a save volume with FUA can make durable by itself.

use rwsnap_core::api::{Op, Step};
use rwsnap_core::control::Verb;
use rwsnap_core::units::Dev;

use super::world::{Setup, World, USUAL};

const CHUNK: u64 = 4096;

/// The steps of one first write.
fn first_write(setup: Setup) -> Vec<Step> {
    let mut w = World::with(setup);
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.steps.clear();
    w.write("prod", 0, 99, CHUNK as usize);
    assert_eq!(w.first("prod@one", 0), 0);
    w.steps.into_iter().filter(|s| !matches!(s, Step::Finish { .. } | Step::Wake)).collect()
}

fn flushes(steps: &[Step]) -> usize {
    steps.iter().filter(|s| matches!(s, Step::Flush { .. })).count()
}

#[test]
fn a_first_write_is_one_read_three_writes_and_a_flush_or_fua() {
    for (setup, flushed, by_fua) in [
        (USUAL, 1, 0),
        (Setup { fua: true, ..USUAL }, 0, 2),
        (Setup { volatile: false, ..USUAL }, 0, 0),
    ] {
        let steps = first_write(setup);
        let save = |s: &&Step| matches!(s, Step::Write { dev: Dev(0), .. });
        let fua = |s: &&Step| matches!(s, Step::Write { dev: Dev(0), fua: true, .. });
        let old = |s: &&Step| matches!(s, Step::Read { dev: Dev(1), .. });
        assert_eq!(steps.iter().filter(save).count(), 2, "slot and log");
        assert_eq!(steps.iter().filter(fua).count(), by_fua);
        assert_eq!(flushes(&steps), flushed);
        assert!(steps.iter().any(|s| old(&s)));
        let last = steps.iter().rposition(|s| save(&s) || matches!(s, Step::Flush { .. }));
        let write = steps.iter().position(|s| matches!(s, Step::Write { dev: Dev(1), .. }));
        assert!(write > last, "production is written last");
    }
}

#[test]
fn a_device_without_a_volatile_cache_is_never_flushed() {
    let mut w = World::with(Setup { volatile: false, ..USUAL });
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    for n in 0..20 {
        w.write("prod", n * CHUNK, 5, CHUNK as usize);
        w.write("dev1", n * CHUNK, 6, CHUNK as usize);
    }
    w.flush("dev1");
    w.done(Verb::Restore, "prod", "dev1", &[]);
    w.request("prod", Op::Flush, 0, Vec::new());
    assert_eq!(w.first("prod", 0), 6);
    assert_eq!(flushes(&w.steps), 0);
}

/// The first write after a snapshot read a page of the map each, although no old data of a snapshot
/// that was taken since the last checkpoint can be there.
#[test]
fn first_writes_after_a_snapshot_do_not_read_the_map() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    for n in 0..500 {
        w.write("prod", n * 37 % 1000 * CHUNK, 5, CHUNK as usize);
    }
    w.core.close();
    w.drain();
    let mut w = World::open(w.disks);
    w.done(Verb::Snapshot, "", "", &["prod@two"]);
    w.steps.clear();
    for n in 0..500 {
        w.write("prod", n * 37 % 1000 * CHUNK, 6, CHUNK as usize);
    }
    let read = w.steps.iter().filter(|s| matches!(s, Step::Read { dev: Dev(0), .. })).count();
    assert_eq!(read, 0);
    for n in 0..1000 {
        let (one, two) = (n as u8, if n * 973 % 1000 < 500 { 5 } else { n as u8 });
        assert_eq!(w.first("prod@one", n * CHUNK), one, "{n}");
        assert_eq!(w.first("prod@two", n * CHUNK), two, "{n}");
    }
}

/// Damage to what was durable is known from a record behind it: without one the last batch could be
/// cut off in silence.
#[test]
fn an_idle_pool_records_what_is_durable_once() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    let before = w.status().log_records.get();
    for tick in 1..10 {
        w.core.tick(tick * 100_000_000);
        w.drain();
    }
    assert_eq!(w.status().log_records.get(), before + 1);
    w.write("prod", 0, 1, 512);
    assert_eq!(w.status().log_records.get(), before + 2);
    for tick in 10..20 {
        w.core.tick(tick * 100_000_000);
        w.drain();
    }
    assert_eq!(w.status().log_records.get(), before + 3);
    let mut w = World::open(w.disks);
    assert_eq!(w.first("prod@one", 0), 0);
}
