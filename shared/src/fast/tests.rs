// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The hot path alone.

use super::*;
use crate::testing::TestPlatform;

const SIZE: u64 = 16 << 20;
const WRITE: Op = Op::Write { fua: false };

fn fast() -> Fast<TestPlatform> {
    let geometry = Geometry::new(4096).unwrap();
    Fast::new(&TestPlatform, Dev(1), geometry, SIZE).unwrap()
}

fn passes(fast: &Fast<TestPlatform>, op: Op, at: u64, len: u32) -> bool {
    match fast.route(3, op, at, len) {
        Route::Pass(pass) => {
            assert_eq!((pass.dev, pass.at), (Dev(1), at));
            let _ = fast.leave(5, pass.token);
            true
        }
        Route::Slow => false,
    }
}

/// A copy for a snapshot that is not the newest any more passed its gate late. Its bit was set all
/// the same, in a page that other requests read bits of the newer epoch from: they had looked at
/// the page's tag already.
#[test]
fn what_is_copied_for_an_older_snapshot_touches_no_bits() {
    let fast = fast();
    fast.set(Mode::Copy, Epoch(5));
    fast.mark_copied(Word(0), 0b1, Epoch(5));
    assert!(passes(&fast, WRITE, 0, 4096) && !passes(&fast, WRITE, 4096, 4096));
    fast.set(Mode::Copy, Epoch(6));
    assert!(!passes(&fast, WRITE, 0, 4096), "stale");
    fast.mark_copied(Word(0), 0b10, Epoch(6));
    fast.mark_copied(Word(0), 0b100, Epoch(5));
    assert_eq!((fast.copied(Word(0), Epoch(6)), fast.copied(Word(0), Epoch(5))), (0b10, 0));
    assert!(passes(&fast, WRITE, 4096, 4096) && !passes(&fast, WRITE, 8192, 4096));
}

#[test]
fn what_does_not_pass_is_not_counted_as_passed() {
    let fast = fast();
    fast.set(Mode::Copy, Epoch(5));
    assert!(!passes(&fast, WRITE, 0, 4096) && passes(&fast, Op::Read, 0, 4096));
    assert_eq!(fast.passed(), (1, 0));
    fast.set(Mode::Free, Epoch(0));
    assert!(passes(&fast, WRITE, 0, 4096) && !passes(&fast, WRITE, SIZE, 4096));
    assert!(passes(&fast, Op::Flush, 0, 0));
    assert_eq!(fast.passed(), (1, 1));
}

#[test]
fn a_drain_waits_for_those_before_it_alone() {
    let fast = fast();
    fast.set(Mode::Free, Epoch(0));
    let Route::Pass(before) = fast.route(0, WRITE, 0, 4096) else { panic!("slow") };
    fast.drain(Mode::Copy, Epoch(1));
    let Route::Pass(after) = fast.route(1, Op::Read, 0, 4096) else { panic!("slow") };
    assert!(!fast.drained());
    assert!(fast.leave(9, before.token), "somebody waits");
    assert!(fast.drained() && !fast.is_idle());
    assert!(!fast.leave(1, after.token), "nobody waits");
    assert!(fast.is_idle());
}

/// Ranges of one word and of several: a write passes if each of its chunks is copied.
#[test]
fn a_write_passes_where_all_its_chunks_are_copied() {
    let fast = fast();
    fast.set(Mode::Copy, Epoch(1));
    fast.mark_copied(Word(0), 0xFF << 56, Epoch(1));
    fast.mark_copied(Word(1), u64::MAX, Epoch(1));
    fast.mark_copied(Word(2), 0b1, Epoch(1));
    for first in 54..=130u64 {
        for last in first..=130 {
            let copied = first >= 56 && last <= 128;
            let (at, len) = (first * 4096 + 512, (last - first) * 4096 + 512);
            let len = u32::try_from(len).unwrap();
            assert_eq!(passes(&fast, WRITE, at, len), copied, "{first}..={last}");
        }
    }
    assert!(passes(&fast, WRITE, 63 * 4096, 4096) && !passes(&fast, WRITE, 55 * 4096, 8192));
}
