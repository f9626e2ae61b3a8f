// SPDX-License-Identifier: MIT

//! The core's platform on a stock system: the heap, `Arc`, the standard atomics and XXH64.

use std::sync::atomic::{fence, AtomicU64, Ordering};
use std::sync::Arc;

use rwsnap_core::platform;
use zerocopy::FromZeros;

/// An `AtomicU64` with the orderings that the core asks for.
#[derive(Debug, Default)]
pub struct Atom(AtomicU64);

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

/// The heap, `Arc` and XXH64.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

impl platform::Platform for Host {
    type Array<T> = Vec<T>;
    type Box<T> = Box<T>;
    type Ref<T> = Arc<T>;
    type Atom = Atom;

    fn array<T: Clone>(&self, len: usize, fill: &T) -> Option<Vec<T>> {
        let mut array = Vec::new();
        array.try_reserve_exact(len).ok()?;
        array.resize(len, fill.clone());
        Some(array)
    }

    fn blank<T: Clone + FromZeros>(&self, len: usize, _any: &T) -> Option<Vec<T>> {
        T::new_vec_zeroed(len).ok()
    }

    fn boxed<T>(&self, make: impl FnOnce() -> T) -> Option<Box<T>> {
        Some(Box::new(make()))
    }

    fn atoms(&self, len: usize) -> Option<Vec<Atom>> {
        let mut array = Vec::new();
        array.try_reserve_exact(len).ok()?;
        array.resize_with(len, Atom::default);
        Some(array)
    }

    fn share<T>(&self, value: T) -> Option<Arc<T>> {
        Some(Arc::new(value))
    }

    fn hash(&self, seed: u64, bytes: &[u8]) -> u64 {
        xxhash_rust::xxh64::xxh64(bytes, seed)
    }
}
