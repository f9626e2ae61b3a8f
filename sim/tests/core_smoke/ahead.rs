// SPDX-License-Identifier: MIT

//! Copy spans beyond a word, and copying ahead of a stream of first writes.

use rwsnap_core::api::Step;
use rwsnap_core::control::{Refusal, Verb};
use rwsnap_core::units::Dev;

use super::world::World;

const CHUNK: u64 = 4096;

fn reads(w: &World) -> usize {
    w.steps.iter().filter(|s| matches!(s, Step::Read { dev: Dev(1), .. })).count()
}

#[test]
fn a_span_of_a_megabyte_is_copied_with_one_first_write() {
    let mut w = World::new();
    assert_eq!(w.set("", "copy-span", "1048576").0, Some(Refusal::None));
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.write("prod", 300 * CHUNK, 9, 512);
    assert_eq!(w.status().copied.get(), 256);
    w.steps.clear();
    for chunk in 256..512 {
        w.write("prod", chunk * CHUNK, 200, CHUNK as usize);
    }
    assert_eq!((reads(&w), w.status().copied.get()), (0, 256));
    w.write("prod", 512 * CHUNK, 200, CHUNK as usize);
    assert_eq!(w.status().copied.get(), 512);
    w.done(Verb::Snapshot, "", "", &["prod@two"]);
    for chunk in 0..1024 {
        assert_eq!(w.first("prod@one", chunk * CHUNK), chunk as u8, "{chunk}");
    }
}

#[test]
fn a_stream_of_first_writes_is_copied_ahead_of() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.steps.clear();
    for chunk in 5..400 {
        w.write("prod", chunk * CHUNK, 200, CHUNK as usize);
    }
    let (copied, reads_of_stream) = (w.status().copied.get(), reads(&w));
    assert!(reads_of_stream < 20, "{reads_of_stream} reads of old data for 395 first writes");
    assert!((395..395 + 128).contains(&copied), "{copied}");
    // Writes here and there copy what they write and nothing else.
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    for n in 0..100 {
        w.write("prod", (n * 37 % 1000) * CHUNK, 200, CHUNK as usize);
    }
    assert_eq!(w.status().copied.get(), 100);
}

#[test]
fn what_was_copied_ahead_is_what_the_snapshot_reads() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    for chunk in 0..100 {
        w.write("prod", chunk * CHUNK, 200, CHUNK as usize);
    }
    w.done(Verb::Snapshot, "", "", &["prod@two"]);
    for chunk in 100..200 {
        w.write("prod", chunk * CHUNK, 201, CHUNK as usize);
    }
    w.flush("prod");
    let mut w = World::open(w.disks);
    for chunk in 0..300 {
        assert_eq!(w.first("prod@one", chunk * CHUNK), chunk as u8, "{chunk}");
        let two = if chunk < 100 { 200 } else { chunk as u8 };
        assert_eq!(w.first("prod@two", chunk * CHUNK), two, "{chunk}");
    }
}
