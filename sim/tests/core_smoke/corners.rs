// SPDX-License-Identifier: MIT

//! Stories of bugs that a reader found before a run did.

use rwsnap_core::api::{Limits, Op, Step};
use rwsnap_core::control::{
    Command, Name, Refusal, Reply, RestoreRow, Verb, FLAG_DEFER, FLAG_DRY_RUN,
};
use rwsnap_core::format::superblock::COPIES;
use rwsnap_core::units::Dev;
use zerocopy::FromBytes;

use super::world::{Setup, World, LIMITS, USUAL};

const CHUNK: u64 = 4096;

/// Whether a step reads production's chunk 1.
fn reads_chunk_one(step: &Step) -> bool {
    let hits = |at: u64, len: u32| at <= CHUNK && at + u64::from(len) > CHUNK;
    matches!(*step, Step::Read { dev: Dev(1), at, len } if hits(at, len))
}

/// All that was left to be copied with a write could not be read and was not the write's own: no
/// record was logged, and the write waited for one.
#[test]
fn a_write_goes_on_when_all_that_would_be_copied_with_it_is_unreadable() {
    let mut w = World::new();
    assert_eq!(w.set("", "copy-span", "4096").0, Some(Refusal::None));
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.write("prod", 0, 7, CHUNK as usize);
    assert_eq!(w.set("", "copy-span", "8192").0, Some(Refusal::None));
    // Reopened, nobody knows any more that chunk 0 is copied.
    let mut w = World::open(w.disks);
    w.fails = reads_chunk_one;
    w.write("prod", 0, 8, CHUNK as usize);
    assert_eq!((w.first("prod", 0), w.first("prod@one", 0)), (8, 0));
    w.fails = |_| false;
    w.write("prod", CHUNK, 9, CHUNK as usize);
    assert_eq!((w.first("prod", CHUNK), w.first("prod@one", CHUNK)), (9, 1));
}

fn is_superblock(step: &Step) -> bool {
    matches!(*step, Step::Write { dev: Dev::SAVE, at, .. } if COPIES.contains(&at))
}

/// Where the n-th write goes: none beside the one before, so that each makes a record of its own.
fn place(n: u64) -> u64 {
    n * 37 % 1000 * CHUNK
}

/// A clone with a write that nobody flushed, in a pool of which so many chunks are written, or as
/// many as it takes until there is a checkpoint; and how many those were.
fn written(writes: u64) -> (World, u64) {
    let limits = Limits { delta_records: 2048, ..LIMITS };
    let mut w = World::with(Setup { limits, log_blocks: 2048, bytes: 32 << 20, ..USUAL });
    w.done(Verb::Snapshot, "", "", &["prod@zero"]);
    w.done(Verb::Clone, "prod@zero", "dev1", &[]);
    w.steps.clear();
    for n in 0..writes {
        if n % 1000 == 0 {
            w.done(Verb::Snapshot, "", "", &[&format!("prod@s{n}")]);
            w.write("dev1", 5 * CHUNK, 77, CHUNK as usize);
        }
        w.write("prod", place(n), 7, CHUNK as usize);
        if w.steps.iter().any(is_superblock) {
            return (w, n);
        }
    }
    (w, writes)
}

/// A checkpoint that began while the pool was being closed, but before all was done, was taken for
/// the last one: what came behind it was not waited for, and what clones had not flushed was lost.
#[test]
fn the_checkpoint_that_closes_a_pool_is_the_one_behind_everything() {
    let last = written(5000).1;
    assert!(last < 5000 && last % 1000 != 0);
    let mut w = written(last).0;
    assert!(!w.steps.iter().any(is_superblock));
    w.begin_request("prod", Op::Write { fua: false }, place(last), vec![8; CHUNK as usize]);
    let mut closing = false;
    while let Some((id, step)) = w.core.poll() {
        if step == (Step::Flush { dev: Dev::SAVE }) && !closing {
            w.core.close();
            closing = true;
        }
        w.carry_out(id, step);
        if w.core.closed().is_some() {
            break;
        }
    }
    assert_eq!((closing, w.core.closed()), (true, Some(Ok(()))));
    let mut w = World::open(w.disks);
    assert_eq!((w.first("dev1", 5 * CHUNK), w.first("prod", place(last))), (77, 8));
}

/// That the save volume could not grow once was stored as its limit for ever.
#[test]
fn a_save_volume_that_could_not_grow_may_try_again_when_it_is_opened_again() {
    let setup = Setup { when_full: 0, limit: 16 << 20, bytes: 2 << 20, ..USUAL };
    let mut w = World::with(setup);
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.fails = |step| matches!(step, Step::Grow { .. });
    assert!((0..1000).any(|n| w.write_or_stall("prod", n * CHUNK, 7)));
    w.core.close();
    w.drain();
    assert_eq!(w.core.closed(), Some(Ok(())));
    let mut w = World::open_with(setup, w.disks);
    for n in 0..1000 {
        w.write("prod", n * CHUNK, 8, CHUNK as usize);
    }
    assert_eq!((w.first("prod@one", 900 * CHUNK), w.first("prod", 900 * CHUNK)), (132, 8));
}

/// The same in a pool whose limit is set anew, which says that there is room again.
#[test]
fn a_save_volume_that_could_not_grow_may_try_again_when_its_limit_is_set() {
    let mut w = World::with(Setup { when_full: 0, limit: 16 << 20, bytes: 2 << 20, ..USUAL });
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.fails = |step| matches!(step, Step::Grow { .. });
    assert!((0..1000).any(|n| w.write_or_stall("prod", n * CHUNK, 7)));
    w.fails = |_| false;
    assert_eq!(w.set("", "save-limit", "15000000").0, Some(Refusal::None));
    assert!((0..1000).all(|n| !w.write_or_stall("prod", n * CHUNK, 8)));
}

/// The table of steps was full of clients' when a snapshot flushed its volumes: the pool was
/// fenced.
#[test]
fn a_moment_finds_its_steps_when_requests_have_all_the_others() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    for n in 0..32 {
        w.write("prod", 2 * n * CHUNK, 9, CHUNK as usize);
    }
    for _ in 0..14 {
        w.begin_read("prod@one", 0, 64 * CHUNK);
    }
    w.begin_read("prod@one", 0, 62 * CHUNK);
    w.begin_read("prod@one", 0, 64 * CHUNK);
    let mut held: Vec<_> = std::iter::from_fn(|| w.core.poll()).collect();
    for _ in 0..4 {
        w.begin_request("prod", Op::Flush, 0, Vec::new());
    }
    held.extend(std::iter::from_fn(|| w.core.poll()));
    let command = Command::new(Verb::Snapshot, Name::default());
    w.begin(command, &["prod@two"]);
    held.extend(std::iter::from_fn(|| w.core.poll()));
    for (id, step) in held {
        w.carry_out(id, step);
    }
    w.drain();
    assert!(!w.events().contains(&5), "fenced");
    w.write("prod", 0, 10, CHUNK as usize);
    assert_eq!((w.first("prod@one", 0), w.first("prod@two", 0)), (0, 9));
}

fn destroy(w: &mut World, flags: u32, names: &[&str]) -> Option<Refusal> {
    let mut command = Command::new(Verb::Destroy, Name::default());
    command.flags = flags.into();
    w.begin(command, names);
    let reply = w.until_answered();
    w.drain();
    Refusal::from_number(Reply::ref_from_prefix(&reply).unwrap().0.refusal.get())
}

/// What a refused `destroy --defer` named before what was in the way went with its last clone, and
/// so did what was only asked about.
#[test]
fn a_destroy_that_is_refused_or_tried_defers_nothing() {
    for (flags, names) in [
        (FLAG_DEFER, &["prod@one", "prod@none"][..]),
        (FLAG_DEFER | FLAG_DRY_RUN, &["prod@one"][..]),
    ] {
        let mut w = World::new();
        w.done(Verb::Snapshot, "", "", &["prod@one"]);
        w.done(Verb::Clone, "prod@one", "dev1", &[]);
        let refusal = destroy(&mut w, flags, names);
        assert_eq!(refusal == Some(Refusal::None), flags & FLAG_DRY_RUN != 0);
        assert_eq!(destroy(&mut w, 0, &["dev1"]), Some(Refusal::None));
        assert_eq!(w.first("prod@one", CHUNK), 1);
    }
}

/// What a word's chunks held for each snapshot taken since the restore began was logged in one
/// group, however many that were: too many, and the pool was fenced.
#[test]
fn a_word_with_many_versions_is_settled_in_several_groups() {
    let limits = Limits { delta_records: 2048, ..LIMITS };
    let mut w = World::with(Setup { limits, log_blocks: 16, bytes: 32 << 20, ..USUAL });
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.write("prod", 0, 5, 64 * CHUNK as usize);
    w.restore("prod", "prod@one", 0);
    for n in 0..24 {
        for chunk in 0..64 {
            w.write("prod", (chunk * 37 % 64) * CHUNK, 100 + n, CHUNK as usize);
        }
        let name = format!("prod@s{n}");
        w.done(Verb::Snapshot, "", "", &[&name]);
    }
    w.rate("prod", u64::MAX);
    for n in 1..200 {
        w.core.tick(n * 1_000_000_000);
        w.drain();
    }
    assert!(!w.events().contains(&5), "fenced");
    let status = w.command(Verb::RestoreStatus, "prod", "", &[]);
    assert_eq!(Reply::ref_from_prefix(&status).unwrap().0.count.get(), 0, "still merging");
    for chunk in 0..64 {
        assert_eq!(w.first("prod", chunk * CHUNK), 123);
        for n in 0..24 {
            assert_eq!(w.first(&format!("prod@s{n}"), chunk * CHUNK), 100 + n, "{n} {chunk}");
        }
    }
}

/// What a released snapshot that was to go left behind was logged piece by piece, and that a number
/// was given to its sweep was not logged at all: after a crash somebody else got it.
#[test]
fn the_number_of_a_released_snapshots_sweep_is_not_given_again() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    let one = w.info("prod@one").id.get();
    w.done(Verb::Hold, "prod@one", "", &[]);
    w.write("prod", 0, 7, CHUNK as usize);
    assert_eq!(destroy(&mut w, FLAG_DEFER, &["prod@one"]), Some(Refusal::None));
    w.begin(Command::new(Verb::Release, Name::new(b"prod@one").unwrap()), &[]);
    w.until_answered();
    let mut w = World::open(w.disks);
    w.done(Verb::Snapshot, "", "", &["prod@two"]);
    assert!(w.core.attach(b"prod@one", false).is_err());
    assert_eq!(w.info("prod@two").id.get(), one + 2);
}

/// At the end of all epochs two snapshots would have got the same.
#[test]
fn a_pool_whose_numbers_have_come_to_an_end_can_still_shrink() {
    let last = u32::MAX - (1 << 20);
    let mut w = World::with(Setup { epoch: Some(last - 1), ..USUAL });
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.write("prod", 0, 7, CHUNK as usize);
    w.done(Verb::Snapshot, "", "", &["prod@two"]);
    let reply = w.command(Verb::Snapshot, "", "", &["prod@three"]);
    let refusal = Reply::ref_from_prefix(&reply).unwrap().0.refusal.get();
    assert_eq!(Refusal::from_number(refusal), Some(Refusal::TableFull));
    assert_eq!((w.first("prod@one", 0), w.first("prod@two", 0)), (0, 7));
    assert_eq!(destroy(&mut w, 0, &["prod@one"]), Some(Refusal::None));
    assert_eq!(destroy(&mut w, 0, &["prod@two"]), Some(Refusal::None));
    assert_eq!(w.status().slots_used.get(), 0);
}

/// Words were begun as long as anything was left of what the rate allowed, and taken off it when
/// they were chosen: each tick began as many as there can be, whatever the rate. Unlimited words,
/// before or after, neither lend nor borrow.
#[test]
fn a_merge_is_not_faster_than_its_rate() {
    const SECOND_NS: u64 = 1_000_000_000;
    let word = 64 * CHUNK;
    let mut w = World::with(Setup { bytes: 32 << 20, ..USUAL });
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    for n in 0..16 {
        w.write("prod", n * word, 5, word as usize);
    }
    w.core.tick(SECOND_NS);
    w.restore("prod", "prod@one", 0);
    w.drain();
    let mut now_ns = SECOND_NS;
    w.rate("prod", word);
    for tick in 1..=800 {
        now_ns += SECOND_NS / 100;
        w.core.tick(now_ns);
        w.drain();
        let status = w.command(Verb::RestoreStatus, "prod", "", &[]);
        let (_, rows) = Reply::read_from_prefix(&status).unwrap();
        let done = RestoreRow::read_from_prefix(rows).unwrap().0.done.get();
        // What a second allows may come at once, and what is begun is ended.
        assert!(done <= word * tick / 100 + 2 * word, "{done} after {tick}");
        assert!(tick < 800 || done >= 6 * word, "{done} at the end");
    }
    w.rate("prod", u64::MAX);
    for _ in 0..10 {
        now_ns += SECOND_NS / 100;
        w.core.tick(now_ns);
        w.drain();
    }
    let status = w.command(Verb::RestoreStatus, "prod", "", &[]);
    assert_eq!(Reply::ref_from_prefix(&status).unwrap().0.count.get(), 0, "still merging");
}
