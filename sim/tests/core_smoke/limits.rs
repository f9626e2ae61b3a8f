// SPDX-License-Identifier: MIT

//! Limits that are too small are refused before anything is done, and what can never have room is
//! refused instead of waiting for it.

use rwsnap_core::api::Limits;
use rwsnap_core::control::{Refusal, Reply, Verb};
use rwsnap_core::engine::{OpenError, Short, DELTA_RECORDS_MIN};
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
