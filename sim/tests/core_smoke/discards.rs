// SPDX-License-Identifier: MIT

//! Discards and zeroes of production while there is a snapshot.

use rwsnap_core::api::{Op, Step};
use rwsnap_core::control::{Refusal, Verb};
use rwsnap_core::units::Dev;

use super::world::World;

const CHUNK: u64 = 4096;

fn discards(w: &World) -> usize {
    w.steps.iter().filter(|s| matches!(s, Step::Discard { dev: Dev(1), .. })).count()
}

#[test]
fn a_discard_of_what_is_not_copied_is_ignored_unless_the_pool_copies() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.write("prod", 0, 99, CHUNK as usize);
    let used = w.status().slots_used.get();
    w.request("prod", Op::Discard, 0, vec![0; 4 * CHUNK as usize]);
    assert_eq!((w.first("prod", 0), w.first("prod", CHUNK)), (0, 1), "what is copied alone goes");
    assert_eq!(w.status().slots_used.get(), used);

    assert_eq!(w.set("", "discard", "copy").0, Some(Refusal::None));
    let before = discards(&w);
    w.request("prod", Op::Discard, 4 * CHUNK + 512, vec![0; 3 * CHUNK as usize]);
    assert_eq!(discards(&w), before + 1);
    assert_eq!(w.status().slots_used.get(), used + 2, "whole chunks alone are copied");
    assert_eq!((w.first("prod", 5 * CHUNK), w.first("prod", 6 * CHUNK)), (0, 0));
    assert_eq!((w.first("prod", 4 * CHUNK), w.first("prod", 7 * CHUNK)), (4, 7));
    for chunk in 0..10 {
        assert_eq!(w.first("prod@one", chunk * CHUNK), chunk as u8);
    }
}

#[test]
fn zeroes_are_copied_first_whatever_the_pool_does_with_discards() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.request("prod", Op::Zero { fua: false }, 3 * CHUNK, vec![0; 2 * CHUNK as usize]);
    assert_eq!((w.first("prod", 3 * CHUNK), w.first("prod", 4 * CHUNK)), (0, 0));
    assert_eq!((w.first("prod@one", 3 * CHUNK), w.first("prod@one", 4 * CHUNK)), (3, 4));
}
