// SPDX-License-Identifier: MIT

//! Quotas and reservations of clones.

use rwsnap_core::api::Op;
use rwsnap_core::control::{Refusal, Reply, Verb};
use rwsnap_core::fault::Fault;
use zerocopy::FromBytes;

use super::world::{Setup, World, USUAL};

const CHUNK: u64 = 4096;

fn write(w: &mut World, name: &str, chunk: u64, byte: u8) -> Result<(), Fault> {
    w.attempt(name, Op::Write { fua: false }, chunk * CHUNK, vec![byte; CHUNK as usize]).0
}

fn with_clones(setup: Setup) -> World {
    let mut w = World::with(setup);
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    w.done(Verb::Clone, "prod@one", "dev2", &[]);
    w
}

#[test]
fn a_quota_ends_what_a_clone_takes_and_loses_nothing() {
    let mut w = with_clones(USUAL);
    assert_eq!(w.set("dev1", "quota", "40960"), (Some(Refusal::None), 0));
    for n in 0..10 {
        assert_eq!(write(&mut w, "dev1", n, 7), Ok(()), "{n}");
    }
    assert_eq!(write(&mut w, "dev1", 10, 7), Err(Fault::NoSpace));
    assert_eq!(w.first("dev1", 10 * CHUNK), 10, "the base still shows");
    for n in 0..10 {
        assert_eq!(write(&mut w, "dev1", n, 8), Ok(()), "rewriting takes nothing");
    }
    assert_eq!(write(&mut w, "dev2", 10, 9), Ok(()));
    // What is zeroed gives its room back, after a crash too.
    w.request("dev1", Op::Zero { fua: false }, 0, vec![0; CHUNK as usize]);
    assert_eq!(write(&mut w, "dev1", 11, 7), Ok(()));
    assert_eq!(write(&mut w, "dev1", 12, 7), Err(Fault::NoSpace));
    w.flush("dev1");
    let mut w = World::open(w.disks);
    assert_eq!(w.info("dev1").used.get(), 10 * CHUNK);
    assert_eq!(w.info("dev1").quota.get(), 10 * CHUNK);
    assert_eq!(write(&mut w, "dev1", 12, 7), Err(Fault::NoSpace));
    assert_eq!(w.set("dev1", "quota", ""), (Some(Refusal::None), 0));
    assert_eq!(write(&mut w, "dev1", 12, 7), Ok(()));
}

#[test]
fn what_is_reserved_for_one_clone_nobody_else_takes() {
    let mut w = with_clones(Setup { when_full: 3, bytes: 2 << 20, ..USUAL });
    let free = |w: &mut World| {
        let s = w.status();
        s.slots.get() - s.slots_used.get() - s.slots_reserved.get()
    };
    let before = free(&mut w);
    assert_eq!(w.set("dev1", "reservation", &(20 * CHUNK).to_string()).0, Some(Refusal::None));
    assert_eq!(w.status().slots_reserved.get(), 20);
    // The other clone and production take all else.
    let mut taken = 0;
    while write(&mut w, "dev2", taken, 5).is_ok() {
        taken += 1;
    }
    assert!(taken + 20 <= before && free(&mut w) == 0, "{taken} of {before}");
    let production = w.attempt("prod", Op::Write { fua: false }, 0, vec![1; 4096]).0;
    assert_eq!(production, Err(Fault::NoSpace), "the policy is to fail");
    // More cannot be promised, and the refusal says how much is missing.
    let more = w.set("dev2", "reservation", &((taken + 3) * CHUNK).to_string());
    assert_eq!(more, (Some(Refusal::NoSpace), 3 * CHUNK));
    assert_eq!(w.status().slots_reserved.get(), 20);
    // It has all of its own, also after it was opened anew.
    for n in 0..10 {
        assert_eq!(write(&mut w, "dev1", n, 6), Ok(()), "{n}");
    }
    assert_eq!(w.status().slots_reserved.get(), 10);
    w.flush("dev1");
    w.core.close();
    w.drain();
    assert_eq!(w.core.closed(), Some(Ok(())));
    let mut w = World::open_with(Setup { when_full: 3, bytes: 2 << 20, ..USUAL }, w.disks);
    assert_eq!(w.status().slots_reserved.get(), 10);
    assert_eq!(write(&mut w, "dev2", taken, 5), Err(Fault::NoSpace));
    for n in 10..20 {
        assert_eq!(write(&mut w, "dev1", n, 6), Ok(()), "{n}");
    }
    assert_eq!(write(&mut w, "dev1", 20, 6), Err(Fault::NoSpace));
    // When the clone goes, so does its promise.
    w.done(Verb::Destroy, "", "", &["dev1"]);
    assert_eq!(w.status().slots_reserved.get(), 0);
    assert_eq!(write(&mut w, "dev2", taken, 5), Ok(()));
}

#[test]
fn a_restore_without_room_is_refused_with_what_is_missing() {
    let setup = Setup { when_full: 2, bytes: 2 << 20, ..USUAL };
    let mut w = with_clones(setup);
    for n in 0..40 {
        assert_eq!(write(&mut w, "dev1", n, 7), Ok(()));
    }
    let free = |w: &mut World| w.status().slots.get() - w.status().slots_used.get();
    let keep = free(&mut w) - 30;
    assert_eq!(w.set("dev2", "reservation", &(keep * CHUNK).to_string()).0, Some(Refusal::None));
    let reply = w.command(Verb::Restore, "prod", "dev1", &[]);
    let head = Reply::ref_from_prefix(&reply).unwrap().0;
    assert_eq!(Refusal::from_number(head.refusal.get()), Some(Refusal::NoSpace));
    assert_eq!(head.value.get(), 10 * CHUNK);
    assert_eq!(w.first("prod", 0), 0, "nothing was changed");
    // With room it goes, and gives back what it was promised.
    assert_eq!(w.set("dev2", "reservation", "").0, Some(Refusal::None));
    w.done(Verb::Restore, "prod", "dev1", &[]);
    assert_eq!(w.first("prod", 39 * CHUNK), 7);
    assert_eq!(w.status().slots_reserved.get(), 0);
}

#[test]
fn a_reservation_beyond_the_quota_is_refused() {
    let mut w = with_clones(USUAL);
    assert_eq!(w.set("dev1", "quota", "8192").0, Some(Refusal::None));
    assert_eq!(w.set("dev1", "reservation", "12288").0, Some(Refusal::BadProperty));
    assert_eq!(w.set("dev1", "reservation", "8192").0, Some(Refusal::None));
    assert_eq!(w.set("dev1", "quota", "4096").0, Some(Refusal::BadProperty));
    assert_eq!(w.set("prod", "quota", "4096").0, Some(Refusal::BadProperty));
}
