// SPDX-License-Identifier: MIT

//! Limits that are too small are refused before anything is done, and what can never have room is
//! refused instead of waiting for it.

use rwsnap_core::api::{Limits, Op, Step};
use rwsnap_core::control::{Command, Name, Refusal, Reply, Verb};
use rwsnap_core::engine::{OpenError, Short, DELTA_RECORDS_MIN};
use rwsnap_core::units::Dev;
use zerocopy::FromBytes;

use super::world::{Setup, World, LIMITS, USUAL};

#[test]
fn a_pool_says_which_limit_is_too_small_for_it() {
    let small = Limits { delta_records: 1024, ..LIMITS };
    let disks = USUAL.make();
    let opened = Setup { limits: small, ..USUAL }.core(&disks[0]);
    let need = u64::from(DELTA_RECORDS_MIN);
    assert_eq!(opened.err(), Some(OpenError::Limit { what: Short::DeltaRecords, need }));
}

/// With the smallest log and delta every command that fits has room, and a snapshot of more volumes
/// than the log can take at once is refused; it waited for ever, one checkpoint after another.
#[test]
fn what_the_log_can_never_take_is_refused() {
    let limits = Limits { delta_records: DELTA_RECORDS_MIN, ..LIMITS };
    let mut w = World::with(Setup { limits, log_blocks: 16, ..USUAL });
    w.done(Verb::Snapshot, "", "", &["prod@base"]);
    let clones: Vec<String> = (0..40).map(|n| format!("c{n}")).collect();
    for clone in &clones {
        w.done(Verb::Clone, "prod@base", clone, &[]);
    }
    let all: Vec<String> = clones.iter().map(|c| format!("{c}@one")).collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let reply = w.command(Verb::Snapshot, "", "", &names);
    let refusal = Reply::ref_from_prefix(&reply).unwrap().0.refusal.get();
    assert_eq!(Refusal::from_number(refusal), Some(Refusal::TooMany));
    for some in names.chunks(8) {
        w.done(Verb::Snapshot, "", "", some);
    }
    for some in names.chunks(8) {
        w.done(Verb::Destroy, "", "", some);
    }
}

/// The records of a clone that were not flushed asked for more pages than there was room for, and
/// the write that found so was woken at once, to find the same, for ever.
#[test]
fn a_clone_that_nobody_flushes_goes_on_when_pages_are_short() {
    let setup = Setup { when_full: 0, limit: 16 << 20, bytes: 2 << 20, ..USUAL };
    let mut w = World::with(setup);
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    for n in 0..1000 {
        w.write("dev1", n * 37 % 1000 * 4096, 77, 4096);
    }
    assert_eq!((w.first("dev1", 999 * 4096), w.first("dev1", 1000 * 4096)), (77, 232));
}

/// Who found pages short while a checkpoint was running asked for another one, which ran when he
/// looked again: one checkpoint after another, as long as somebody's page was being read. (Seed
/// 1053.)
#[test]
fn who_waits_for_a_checkpoint_does_not_ask_for_another() {
    let limits = Limits { cache_pages: 6, ..LIMITS };
    let setup = Setup { bytes: 3 << 20, log_blocks: 16, limits, ..USUAL };
    let mut w = World::with(setup);
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    w.done(Verb::Clone, "prod@one", "dev2", &[]);
    let op = Op::Write { fua: false };
    let mut scattered = (0..1024).map(|n| n * 37 % 1024 * 4096);
    let full = scattered.find(|&at| w.attempt("dev1", op, at, vec![5; 4096]).0.is_err());
    assert!(full.is_some(), "every slot is taken");
    w.flush("dev1");
    let refused = |n: u32| {
        let name = format!("dev2@s{n}");
        let reply = w.command(Verb::Snapshot, "", "", &[&name]);
        Reply::ref_from_prefix(&reply).unwrap().0.refusal.get() != 0
    };
    assert!((0..400).any(refused), "pages are short");
    w.core.close();
    w.drain();
    let mut w = World::open_with(setup, w.disks);
    // Whoever walks the map now waits for this read, which takes long.
    w.begin_read("dev1", 0, 4096);
    let (id, read) = w.core.poll().unwrap();
    assert!(matches!(read, Step::Read { dev: Dev::SAVE, .. }), "{read:?}");
    w.begin(Command::new(Verb::Destroy, Name::default()), &["dev2@s0"]);
    w.drain();
    for _ in 0..8 {
        for verb in [Verb::Hold, Verb::Release] {
            w.begin(Command::new(verb, Name::new(b"dev2@s5").unwrap()), &[]);
            w.drain();
        }
    }
    w.carry_out(id, read);
    w.drain();
    assert!(!w.names().iter().any(|name| name == "dev2@s0"));
}
