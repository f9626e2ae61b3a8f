// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the tests of the core stand on: a platform of the standard library and a small random
//! generator, so that a seed alone reproduces a failure.

use std::sync::atomic::{fence, AtomicU64, Ordering};
use std::sync::Arc;

use crate::platform;

/// An `AtomicU64`.
#[derive(Debug, Default)]
pub(crate) struct Atom(AtomicU64);

impl platform::Atom for Atom {
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

/// `Vec`, `Arc` and a multiplying hash that is good enough to notice a changed bit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bench;

impl platform::Platform for Bench {
    type Array<T> = Vec<T>;
    type Ref<T> = Arc<T>;
    type Atom = Atom;

    fn array<T: Clone>(&self, len: usize, fill: T) -> Option<Vec<T>> {
        Some(vec![fill; len])
    }

    fn atoms(&self, len: usize) -> Option<Vec<Atom>> {
        Some((0..len).map(|_| Atom::default()).collect())
    }

    fn share<T>(&self, value: T) -> Option<Arc<T>> {
        Some(Arc::new(value))
    }

    fn hash(&self, seed: u64, bytes: &[u8]) -> u64 {
        let mut sum = seed ^ 0x51_7C_C1_B7_27_22_0A_95;
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            sum = (sum.rotate_left(23) ^ u64::from_le_bytes(word))
                .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
        let sum = (sum ^ bytes.len() as u64 ^ (sum >> 31)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        sum ^ (sum >> 32)
    }
}

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
