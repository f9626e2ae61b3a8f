// SPDX-License-Identifier: MIT

//! Bugs that the storm found, each told once more as a short script.

use rwsnap_core::api::{Done, Limits, Op, Step};
use rwsnap_core::control::{Command, Name, Refusal, Reply, Verb, FLAG_FORCE};
use rwsnap_core::fault::Fault;
use rwsnap_core::units::Dev;
use zerocopy::FromBytes;

use super::world::{Setup, World, LIMITS, USUAL};

const CHUNK: u64 = 4096;

fn refused(reply: &[u8]) -> Option<Refusal> {
    Refusal::from_number(Reply::ref_from_prefix(reply).unwrap().0.refusal.get())
}

/// Two clones, each on a snapshot of the other, hung on each other: neither could ever be
/// destroyed, and `destroy -r` met a bug.
#[test]
fn clones_do_not_hang_on_each_other() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    w.done(Verb::Clone, "prod@one", "dev2", &[]);
    w.done(Verb::Snapshot, "", "", &["dev1@t"]);
    w.done(Verb::Snapshot, "", "", &["dev2@s"]);
    w.done(Verb::Refresh, "dev1", "dev2@s", &[]);
    let reply = w.command(Verb::Refresh, "dev2", "dev1@t", &[]);
    assert_eq!(refused(&reply), Some(Refusal::Needed));
    // A clone may go back to a snapshot of its own.
    w.done(Verb::Refresh, "dev2", "dev2@s", &[]);
    w.destroy_all("prod@one");
    let reply = w.command(Verb::Clone, "dev1@t", "dev3", &[]);
    assert_eq!(refused(&reply), Some(Refusal::NotFound));
}

/// A pool that was closed while a map was still to be swept began the sweep anew for ever.
#[test]
fn a_pool_closes_amid_a_sweep() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    for n in 0..100 {
        w.write("dev1", n * CHUNK, 9, 512);
    }
    w.done(Verb::Snapshot, "", "", &["dev1@a"]);
    // The sweep waits until these are logged.
    for n in 0..100 {
        w.write("dev1", n * CHUNK, 10, 512);
    }
    w.begin(Command::new(Verb::Destroy, Name::default()), &["dev1@a"]);
    assert_eq!(refused(&w.until_answered()), Some(Refusal::None));
    w.core.close();
    w.drain();
    assert_eq!(w.core.closed(), Some(Ok(())));
    let mut w = World::open(w.disks);
    w.core.tick(1_000_000_000);
    w.drain();
    assert_eq!((w.first("dev1", CHUNK), w.info("dev1").used.get()), (10, 100 * CHUNK));
}

/// A read that found the table of steps full had claimed its chunks, and claimed them again when
/// it went on: the first claim stayed for ever, and no write of production passed its gate.
#[test]
fn a_read_that_waits_for_steps_holds_nothing() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    for n in 0..32 {
        w.write("prod", 2 * n * CHUNK, 9, CHUNK as usize);
    }
    // Each of them takes 64 steps, and only some 1000 can be open.
    for _ in 0..40 {
        w.begin_read("prod@one", 0, 64 * CHUNK);
    }
    w.drain();
    for n in 0..32 {
        let chunk = 2 * n + 1;
        w.write("prod", chunk * CHUNK, 10, CHUNK as usize);
        assert_eq!(
            (w.first("prod", chunk * CHUNK), w.first("prod@one", chunk * CHUNK)),
            (10, chunk as u8)
        );
    }
}

/// A read that had found a clone's data in a slot of its base was under way while the clone was
/// refreshed to something else and the base's snapshot went. The slot was then its owner's alone,
/// who overwrote it in place, and the read ended with what nobody had ever written to the clone.
#[test]
fn a_read_of_a_slot_that_its_view_does_not_keep_any_more_looks_again() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    w.write("dev1", 0, 9, CHUNK as usize);
    w.done(Verb::Snapshot, "", "", &["dev1@s"]);
    w.done(Verb::Clone, "dev1@s", "dev2", &[]);
    assert_eq!(w.first("dev2", 0), 9);
    w.begin_read("dev2", 0, CHUNK);
    let cookie = w.cookie;
    let (id, read) = w.core.poll().unwrap();
    assert!(matches!(read, Step::Read { dev: Dev::SAVE, .. }), "{read:?}");
    w.done(Verb::Refresh, "dev2", "prod@one", &[]);
    w.done(Verb::Destroy, "", "", &["dev1@s"]);
    w.write("dev1", 0, 10, CHUNK as usize);
    w.carry_out(id, read);
    w.drain();
    assert_eq!(w.finished.get(&cookie), Some(&Ok(())));
    assert_eq!(w.clients[&cookie][0], 0, "as prod@one has it");
    assert_eq!((w.first("dev1", 0), w.first("dev2", 0)), (10, 0));
}

/// First writes whose old data came when the pool was fenced already queued for a commit that never
/// began, and their clients waited for ever.
#[test]
fn a_first_write_ends_when_the_pool_is_fenced_while_its_old_data_is_read() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.begin_request("prod", Op::Write { fua: false }, 0, vec![9; CHUNK as usize]);
    let cookie = w.cookie;
    let (id, read) = w.core.poll().unwrap();
    assert!(matches!(read, Step::Read { dev: Dev(1), .. }), "{read:?}");
    w.fails = |step| matches!(step, Step::Write { dev: Dev::SAVE, .. });
    w.begin_request("prod", Op::Write { fua: false }, 99 * CHUNK, vec![9; CHUNK as usize]);
    w.drain();
    assert_eq!(w.finished.get(&w.cookie), Some(&Err(Fault::Fenced)));
    w.fails = |_| false;
    w.carry_out(id, read);
    w.drain();
    assert_eq!(w.finished.get(&cookie), Some(&Err(Fault::Fenced)));
    assert_eq!((w.first("prod", 0), w.first("prod@one", 0)), (0, 0));
}

/// A clone without snapshots acknowledged writes after the pool was fenced; that nothing of them
/// would ever be durable was said by its next flush.
#[test]
fn a_clone_of_a_fenced_pool_fails_its_writes_at_once() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    w.write("dev1", 0, 9, CHUNK as usize);
    w.flush("dev1");
    w.fails = |step| matches!(step, Step::Flush { dev: Dev::SAVE });
    w.write("dev1", 5 * CHUNK, 9, CHUNK as usize);
    assert_eq!(w.attempt("dev1", Op::Flush, 0, Vec::new()).0, Err(Fault::Fenced));
    w.fails = |_| false;
    for op in [Op::Write { fua: false }, Op::Zero { fua: false }, Op::Discard] {
        for chunk in [0, 1, 5] {
            let ended = w.attempt("dev1", op, chunk * CHUNK, vec![10; CHUNK as usize]).0;
            assert_eq!(ended, Err(Fault::Fenced), "{op:?} {chunk}");
        }
    }
    assert_eq!((w.first("dev1", 0), w.first("dev1", CHUNK)), (9, 1));
    assert_eq!((w.first("prod", 0), w.first("prod@one", 0)), (0, 0));
}

/// The merge's flush of the save volume failed, and only its words were told: a checkpoint whose
/// pages that flush had covered, and lost, believed its own flush a moment later. The bit map of
/// slots was an older one then, and half of the slots that the map names were free.
#[test]
fn a_failed_flush_of_the_merge_fences_the_pool() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.write("prod", 0, 9, CHUNK as usize);
    w.restore("prod", "prod@one", 0);
    w.steps.clear();
    let mut command = Command::new(Verb::RestoreRate, Name::new(b"prod").unwrap());
    command.value = u64::MAX.into();
    w.begin(command, &[]);
    let mut failed = 0;
    while failed == 0 {
        let Some((id, step)) = w.core.poll() else {
            assert!(w.core.is_behind(), "the merge is over");
            w.core.resume();
            continue;
        };
        // Home is written: what is flushed next is flushed for the merge.
        let home = w.steps.iter().any(|s| matches!(s, Step::Write { dev: Dev(1), .. }));
        if home && step == (Step::Flush { dev: Dev::SAVE }) {
            failed += 1;
            w.core.complete(id, &Done::failed(Fault::Io));
        } else {
            w.carry_out(id, step);
        }
    }
    w.drain();
    assert_eq!(failed, 1);
    assert_ne!(w.status().fenced.get(), 0);
}

/// Which word has the next record was asked of one map after the other, and anew from the first one
/// with each page that was missed: with more maps than pages in the cache that never ended.
#[test]
fn the_map_of_a_clone_of_many_clones_is_shown_with_a_tiny_cache() {
    let limits = Limits { cache_pages: 6, ..LIMITS };
    let setup = Setup { limits, bytes: 32 << 20, ..USUAL };
    let mut w = World::with(setup);
    w.done(Verb::Snapshot, "", "", &["prod@s"]);
    let mut base = "prod@s".to_owned();
    for n in 0..12u64 {
        let clone = format!("c{n}");
        w.done(Verb::Clone, &base, &clone, &[]);
        for chunk in 0..300 {
            w.write(&clone, (chunk * 37 % 300 * 3 + n % 2) * CHUNK, 100 + n as u8, CHUNK as usize);
        }
        base = format!("{clone}@s");
        w.done(Verb::Snapshot, "", "", &[&base]);
    }
    w.core.close();
    w.drain();
    let mut w = World::open_with(setup, w.disks);
    let reply = w.command(Verb::Map, "c11", "", &[]);
    let head = Reply::ref_from_prefix(&reply).unwrap().0;
    assert_eq!((head.refusal.get(), w.first("c11", CHUNK)), (0, 111));
}

/// A read of a production that was just restored found the record of a first write's copy, whose
/// slot was still being written: it looked for who copies in another map, and read what the slot
/// held before. (Seed 22455.)
#[test]
fn a_restored_production_does_not_read_a_copy_that_is_not_there_yet() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.begin_request("prod", Op::Write { fua: false }, 5 * CHUNK, vec![9; CHUNK as usize]);
    let (id, read) = w.core.poll().unwrap();
    w.carry_out(id, read);
    let (late, slot) = w.core.poll().unwrap();
    assert!(matches!(slot, Step::Write { dev: Dev::SAVE, .. }), "{slot:?}");
    let mut command = Command::new(Verb::Restore, Name::new(b"prod").unwrap());
    command.other = Name::new(b"prod@one").unwrap();
    command.flags = FLAG_FORCE.into();
    w.begin(command, &[]);
    w.drain();
    w.begin_read("prod", 5 * CHUNK, CHUNK);
    let cookie = w.cookie;
    w.drain();
    w.carry_out(late, slot);
    w.drain();
    assert_eq!((w.finished.get(&cookie), w.clients[&cookie][0]), (Some(&Ok(())), 5));
}

/// A write that came after the last snapshot was destroyed, and before that was durable, waited for
/// ever if it never became so.
#[test]
fn a_write_behind_a_destroyed_snapshot_ends_when_the_pool_is_fenced() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.begin(Command::new(Verb::Destroy, Name::default()), &["prod@one"]);
    let record = loop {
        match w.core.poll().unwrap() {
            (id, Step::Write { dev: Dev::SAVE, .. }) => break id,
            (id, step) => w.carry_out(id, step),
        }
    };
    w.begin_request("prod", Op::Write { fua: false }, 0, vec![9; CHUNK as usize]);
    let cookie = w.cookie;
    w.drain();
    assert_eq!(w.finished.get(&cookie), None, "it waits");
    w.core.complete(record, &Done::failed(Fault::Io));
    w.drain();
    assert_eq!(w.finished.get(&cookie), Some(&Err(Fault::Fenced)));
}
