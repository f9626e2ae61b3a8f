// SPDX-License-Identifier: MIT

//! Low water: it is told once, and the policies begin to make room.

use rwsnap_core::api::Op;
use rwsnap_core::control::{Refusal, Verb};
use rwsnap_core::fault::Fault;

use super::world::{Setup, World, USUAL};

const CHUNK: u64 = 4096;
const LOW: u32 = 1;
const FULL: u32 = 2;
const GROWN: u32 = 3;
const GIVEN_UP: u32 = 4;

/// Writes production's chunks, but not one after another, until an event of this kind, and says how
/// many slots were free then.
fn write_until(w: &mut World, kind: u32, from: u64) -> u64 {
    for n in from..1000 {
        let chunk = n * 37 % 1000;
        let free = w.status().slots.get() - w.status().slots_used.get();
        w.write("prod", chunk * CHUNK, 9, CHUNK as usize);
        w.core.tick(n * 100_000_000);
        w.drain();
        if w.events().contains(&kind) {
            return free;
        }
    }
    panic!("no such event");
}

#[test]
fn low_water_is_told_once_and_again_after_there_was_more() {
    let mut w = World::with(Setup { when_full: 2, bytes: 2 << 20, ..USUAL });
    assert_eq!(w.set("", "low-water", "51").0, Some(Refusal::BadProperty));
    assert_eq!(w.set("", "low-water", "20").0, Some(Refusal::None));
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    let slots = w.status().slots.get();
    let free = write_until(&mut w, LOW, 0);
    assert!(free <= slots / 5 + 1 && free + 2 >= slots / 5, "{free} of {slots}");
    for chunk in 1000..1004 {
        w.write("prod", chunk * CHUNK, 9, CHUNK as usize);
    }
    let told = |w: &mut World| w.events().iter().filter(|&&kind| kind == LOW).count();
    assert_eq!(told(&mut w), 1);
    w.done(Verb::Destroy, "", "", &["prod@one"]);
    w.done(Verb::Snapshot, "", "", &["prod@two"]);
    for n in 0..slots * 9 / 10 {
        w.write("prod", n * 37 % 1000 * CHUNK, 8, CHUNK as usize);
    }
    assert_eq!(told(&mut w), 2);
}

#[test]
fn the_oldest_snapshot_goes_at_low_water_before_it_is_full() {
    let mut w = World::with(Setup { when_full: 1, bytes: 2 << 20, ..USUAL });
    assert_eq!(w.set("", "low-water", "25").0, Some(Refusal::None));
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    for chunk in 0..50 {
        w.write("prod", chunk * CHUNK, 7, CHUNK as usize);
    }
    w.done(Verb::Snapshot, "", "", &["prod@two"]);
    write_until(&mut w, GIVEN_UP, 0);
    assert!(!w.events().contains(&FULL));
    assert!(w.core.attach(b"prod@one", false).is_err(), "it was the oldest");
    assert_eq!(w.first("prod@two", 0), 7);
    assert_eq!(w.first("prod@two", 60 * CHUNK), 60);
}

#[test]
fn a_save_volume_that_may_grow_does_so_at_low_water() {
    let mut w = World::with(Setup { when_full: 0, limit: 16 << 20, bytes: 2 << 20, ..USUAL });
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    let before = w.status().slots.get();
    write_until(&mut w, GROWN, 0);
    assert!(!w.events().contains(&FULL));
    let s = w.status();
    assert!(s.slots.get() > before, "{s:?}");
    for chunk in 0..1000 {
        w.request("prod", Op::Write { fua: false }, chunk * CHUNK, vec![3; CHUNK as usize]);
    }
    assert_eq!(w.first("prod@one", 900 * CHUNK), 900_u64 as u8);
}

/// A clone's write waited for ever for a save volume that could grow no further.
#[test]
fn a_clone_is_told_that_a_save_volume_at_its_limit_is_full() {
    let mut w = World::with(Setup { when_full: 0, limit: 3 << 20, bytes: 2 << 20, ..USUAL });
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    let mut outcomes = Vec::new();
    for chunk in 0..1000 {
        let op = Op::Write { fua: false };
        outcomes.push(w.attempt("dev1", op, chunk * CHUNK, vec![9; CHUNK as usize]).0);
    }
    assert!(w.events().contains(&GROWN));
    let full = outcomes.iter().position(|o| *o == Err(Fault::NoSpace)).unwrap();
    for chunk in 0..1000 {
        let wanted =
            if outcomes[usize::try_from(chunk).unwrap()].is_ok() { 9 } else { chunk as u8 };
        assert_eq!(w.first("dev1", chunk * CHUNK), wanted, "{chunk}, full at {full}");
    }
    assert!(w.write_or_stall("prod", 0, 7), "production waits for room");
    w.done(Verb::Destroy, "", "", &["dev1"]);
    w.core.tick(1_000_000_000);
    w.drain();
    assert_eq!((w.first("prod", 0), w.first("prod@one", 0)), (7, 0));
}

#[test]
fn nobody_waits_for_room_when_there_is_nobody_to_make_it() {
    let mut w = World::with(Setup { when_full: 2, bytes: 2 << 20, ..USUAL });
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.core.wait_no_more();
    let mut outcomes = Vec::new();
    for chunk in 0..1000 {
        let op = Op::Write { fua: false };
        outcomes.push(w.attempt("prod", op, chunk * CHUNK, vec![9; CHUNK as usize]).0);
    }
    assert!(outcomes.contains(&Err(Fault::NoSpace)));
    for (chunk, outcome) in (0..1000).zip(outcomes) {
        assert_eq!(w.first("prod", chunk * CHUNK), if outcome.is_ok() { 9 } else { chunk as u8 });
        assert_eq!(w.first("prod@one", chunk * CHUNK), chunk as u8);
    }
}
