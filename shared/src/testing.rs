// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The platform that the core's own tests run on, and a random number generator for them.

use std::sync::atomic::{fence, AtomicU64, Ordering};
use std::sync::Arc;

use crate::platform;

/// The heap, `Arc`, the standard atomics and XXH64.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TestPlatform;

/// An `AtomicU64`.
#[derive(Debug, Default)]
pub(crate) struct TestAtom(AtomicU64);

impl platform::Atom for TestAtom {
    fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }
    fn load(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
    fn store(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }
    fn add(&self, value: u64) -> u64 {
        self.0.fetch_add(value, Ordering::SeqCst)
    }
    fn sub(&self, value: u64) -> u64 {
        self.0.fetch_sub(value, Ordering::SeqCst)
    }
    fn set(&self, bits: u64) -> u64 {
        self.0.fetch_or(bits, Ordering::SeqCst)
    }
    fn clear(&self, bits: u64) -> u64 {
        self.0.fetch_and(!bits, Ordering::SeqCst)
    }
    fn fence() {
        fence(Ordering::SeqCst);
    }
}

impl platform::Platform for TestPlatform {
    type Array<T> = Vec<T>;
    type Box<T> = Box<T>;
    type Ref<T> = Arc<T>;
    type Atom = TestAtom;

    fn array<T: Clone>(&self, len: usize, fill: &T) -> Option<Vec<T>> {
        Some(vec![fill.clone(); len])
    }

    fn boxed<T>(&self, make: impl FnOnce() -> T) -> Option<Box<T>> {
        Some(Box::new(make()))
    }

    fn atoms(&self, len: usize) -> Option<Vec<TestAtom>> {
        Some((0..len).map(|_| TestAtom::default()).collect())
    }

    fn share<T>(&self, value: T) -> Option<Arc<T>> {
        Some(Arc::new(value))
    }

    fn hash(&self, seed: u64, bytes: &[u8]) -> u64 {
        xxh64(seed, bytes)
    }
}

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

fn lane(at: &[u8]) -> u64 {
    u64::from_le_bytes(at[..8].try_into().unwrap())
}

fn round(sum: u64, lane: u64) -> u64 {
    sum.wrapping_add(lane.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

/// XXH64, as its specification has it.
pub(crate) fn xxh64(seed: u64, bytes: &[u8]) -> u64 {
    let mut rest = bytes;
    let mut hash = if bytes.len() < 32 {
        seed.wrapping_add(P5)
    } else {
        let mut sums = [
            seed.wrapping_add(P1).wrapping_add(P2),
            seed.wrapping_add(P2),
            seed,
            seed.wrapping_sub(P1),
        ];
        while rest.len() >= 32 {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = round(*sum, lane(&rest[i * 8..]));
            }
            rest = &rest[32..];
        }
        let mut hash = [1, 7, 12, 18]
            .iter()
            .zip(sums)
            .fold(0u64, |hash, (&turn, sum)| hash.wrapping_add(sum.rotate_left(turn)));
        for sum in sums {
            hash = (hash ^ round(0, sum)).wrapping_mul(P1).wrapping_add(P4);
        }
        hash
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    while rest.len() >= 8 {
        hash = (hash ^ round(0, lane(rest))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        rest = &rest[8..];
    }
    if rest.len() >= 4 {
        let half = u64::from(u32::from_le_bytes(rest[..4].try_into().unwrap()));
        hash = (hash ^ half.wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = &rest[4..];
    }
    for &byte in rest {
        hash = (hash ^ u64::from(byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

/// Random numbers from a seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(P1);
        xxh64(0, &self.0.to_le_bytes())
    }

    /// A number below `n`, which is not zero.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// An index below `n`, which is not zero.
    pub(crate) fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[test]
fn xxh64_knows_its_vectors() {
    assert_eq!(xxh64(0, b""), 0xEF46_DB37_51D8_E999);
    assert_eq!(xxh64(0, b"abc"), 0x44BC_2CF5_AD77_0999);
    let long: Vec<u8> = (0..100).collect();
    assert_ne!(xxh64(0, &long), xxh64(1, &long));
}

pub(crate) use TestPlatform as Bench;

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The same numbers for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_F491_4F6C_DD1D).wrapping_add(1))
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is not zero.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
