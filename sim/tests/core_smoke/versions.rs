// SPDX-License-Identifier: MIT

//! A chunk that was written anew after each of many snapshots, during one restore.

use rwsnap_core::api::Step;
use rwsnap_core::control::rows::FLAG_RESTORING;
use rwsnap_core::control::{Command, Name, Verb};
use rwsnap_core::units::Dev;

use super::world::{Setup, World, USUAL};

const CHUNK: u64 = 4096;
/// Far more than one group of a log of 16 blocks can hand over.
const MANY: u64 = 500;
const TINY: Setup = Setup { log_blocks: 16, bytes: 16 << 20, ..USUAL };

/// What chunk 1 holds in the n-th snapshot.
fn held(n: u64) -> u8 {
    (n % 200) as u8 + 20
}

/// A restore that stands still while snapshots are taken; R's name.
fn paused() -> (World, String) {
    let mut w = World::with(TINY);
    w.done(Verb::Snapshot, "", "", &["prod@zero"]);
    w.write("prod", 0, 7, 3 * CHUNK as usize);
    w.restore("prod", "prod@zero", 0);
    let r = w.names().into_iter().find(|n| n.starts_with("prod@restored-")).unwrap();
    for n in 0..MANY {
        w.write("prod", CHUNK, held(n), CHUNK as usize);
        w.done(Verb::Snapshot, "", "", &[&format!("prod@s{n}")]);
    }
    w.write("prod", CHUNK, 15, CHUNK as usize);
    w.flush("prod");
    (w, r)
}

fn is_right(w: &mut World, r: &str) {
    assert_eq!((w.first("prod", 0), w.first("prod", CHUNK), w.first(r, CHUNK)), (0, 15, 1));
    for n in 0..MANY {
        assert_eq!(w.first(&format!("prod@s{n}"), CHUNK), held(n), "{n}");
    }
}

/// The versions were to be handed to their snapshots in one group of records: a small log never had
/// room for it, and the merge asked for checkpoints for ever.
#[test]
fn a_merge_hands_over_more_versions_of_a_chunk_than_its_log_holds() {
    let (mut w, r) = paused();
    is_right(&mut w, &r);
    w.rate("prod", u64::MAX);
    is_right(&mut w, &r);
    assert_eq!(w.info("prod").flags.get() & FLAG_RESTORING, 0);
    for n in (0..MANY).rev().filter(|n| n % 3 != 0) {
        w.done(Verb::Destroy, "", "", &[&format!("prod@s{n}")]);
    }
    for n in (0..MANY).step_by(3) {
        assert_eq!(w.first(&format!("prod@s{n}"), CHUNK), held(n), "{n}");
    }
    assert_eq!((w.first(&r, CHUNK), w.first(&r, 0)), (1, 0));
}

/// The same, cut off on its way: what was handed over is not handed over again.
#[test]
fn a_merge_goes_on_with_the_versions_that_are_left() {
    let (w, r) = paused();
    let mut amid = 0u32;
    for cut in (20..).step_by(7) {
        let mut w = World::open_with(TINY, w.disks.clone());
        let mut command = Command::new(Verb::RestoreRate, Name::new(b"prod").unwrap());
        command.value = u64::MAX.into();
        w.begin(command, &[]);
        for _ in 0..cut {
            match w.core.poll() {
                Some((id, step)) => w.carry_out(id, step),
                None => w.core.resume(),
            }
        }
        let mut w = World::open_with(TINY, w.disks);
        is_right(&mut w, &r);
        if !w.steps.iter().any(|step| matches!(step, Step::Write { dev: Dev(1), .. })) {
            break;
        }
        amid += 1;
    }
    assert!(amid > 3, "{amid}");
}
