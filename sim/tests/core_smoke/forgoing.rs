// SPDX-License-Identifier: MIT

//! A save volume that fills while a restore is under way: what the restore took for itself goes
//! first, and then writes wait for the merge, paused or not, and lose nothing.

use rwsnap_core::api::Op;
use rwsnap_core::control::{Refusal, Reply, Verb};
use rwsnap_core::fault::Fault;
use zerocopy::FromBytes;

use super::world::{Setup, World, USUAL};

const CHUNK: u64 = 4096;
const GIVEN_UP: u32 = 4;

/// A paused restore from a clone with its own data in the chunks 0 to 119, and old data of
/// production's in 200 to 239.
fn paused(when_full: u32) -> World {
    let limit = if when_full == 2 { 16 << 20 } else { 0 };
    let mut w = World::with(Setup { when_full, limit, bytes: 2 << 20, ..USUAL });
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    for n in 0..40 {
        w.write("prod", (200 + n * 7 % 40) * CHUNK, 250, CHUNK as usize);
    }
    for n in 0..120 {
        w.write("dev1", n * CHUNK, 251, CHUNK as usize);
    }
    let reply = w.restore("prod", "dev1", 0);
    let refusal = Reply::ref_from_prefix(&reply).unwrap().0.refusal.get();
    assert_eq!(Refusal::from_number(refusal), Some(Refusal::None));
    w
}

fn restored(chunk: u64) -> u8 {
    if chunk < 120 {
        251
    } else {
        chunk as u8
    }
}

fn given_up(w: &mut World) -> usize {
    w.events().iter().filter(|&&kind| kind == GIVEN_UP).count()
}

#[test]
fn a_write_without_a_slot_is_settled_first_and_goes_in_place() {
    let mut w = paused(0);
    assert_eq!((w.first("prod", 0), w.first("prod", 210 * CHUNK)), (251, 210));
    let all: Vec<u64> = (0..120).chain(200..240).collect();
    for &chunk in &all {
        w.write("prod", chunk * CHUNK + 512, 252, 512);
    }
    assert_eq!(given_up(&mut w), 2, "R and what could undo it");
    for &chunk in &all {
        assert_eq!(w.first("prod", chunk * CHUNK), restored(chunk), "{chunk}");
        assert_eq!(w.first("prod", chunk * CHUNK + 512), 252, "{chunk}");
        assert_eq!(w.first("dev1", chunk * CHUNK + 512), restored(chunk), "{chunk}");
        assert_eq!(w.first("prod@one", chunk * CHUNK + 512), chunk as u8, "{chunk}");
    }
    // It can no more be undone.
    let reply = w.command(Verb::RestoreCancel, "prod", "", &[]);
    assert_ne!(Reply::ref_from_prefix(&reply).unwrap().0.refusal.get(), 0);
    // It goes on after a crash, to its end.
    w.flush("prod");
    let mut w = World::open_with(Setup { when_full: 0, bytes: 2 << 20, ..USUAL }, w.disks);
    w.rate("prod", u64::MAX);
    w.core.tick(1_000_000_000);
    w.drain();
    let status = w.command(Verb::RestoreStatus, "prod", "", &[]);
    assert_eq!(Reply::ref_from_prefix(&status).unwrap().0.count.get(), 0, "still merging");
    for chunk in 0..300 {
        let second = if all.contains(&chunk) { 252 } else { chunk as u8 };
        assert_eq!(w.first("prod", chunk * CHUNK), restored(chunk), "{chunk}");
        assert_eq!(w.first("prod", chunk * CHUNK + 512), second, "{chunk}");
        assert_eq!(w.first("prod@one", chunk * CHUNK), chunk as u8, "{chunk}");
    }
}

#[test]
fn a_pool_that_stalls_gives_up_nothing_and_goes_on_with_room() {
    let mut w = paused(2);
    let all: Vec<u64> = (0..120).chain(200..240).collect();
    let stalled = all.iter().filter(|&&chunk| w.write_or_stall("prod", chunk * CHUNK, 252)).count();
    assert!(stalled > 0);
    assert_eq!(given_up(&mut w), 0);
    assert_eq!(w.set("", "when-full", "grow").0, Some(Refusal::None));
    w.rate("prod", u64::MAX);
    w.core.tick(1_000_000_000);
    w.drain();
    assert_eq!(given_up(&mut w), 0);
    for chunk in all {
        assert_eq!(w.first("prod", chunk * CHUNK), 252, "{chunk}");
        assert_eq!(w.first("prod@one", chunk * CHUNK), chunk as u8, "{chunk}");
    }
}

#[test]
fn a_pool_that_fails_when_full_fails_after_the_restore_has_given_up_what_it_took() {
    let mut w = paused(3);
    let mut outcomes = Vec::new();
    for chunk in (0..120).chain(200..240) {
        let op = Op::Write { fua: false };
        outcomes.push(w.attempt("prod", op, chunk * CHUNK, vec![252; CHUNK as usize]).0);
    }
    assert_eq!(given_up(&mut w), 2);
    assert!(outcomes.iter().all(|o| matches!(o, Ok(()) | Err(Fault::NoSpace))));
    for (chunk, outcome) in (0..120).chain(200..240).zip(outcomes) {
        let now = if outcome.is_ok() { 252 } else { restored(chunk) };
        assert_eq!(w.first("prod", chunk * CHUNK), now, "{chunk}");
    }
}
