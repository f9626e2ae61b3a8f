// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What the core is handed by its driver: memory, shared ownership, atomics and a checksum.
//!
//! The core allocates through this trait alone, when a pool is opened or a volume is made, and
//! never on the way of a request.

use core::ops::{Deref, DerefMut};

use zerocopy::FromZeros;

/// A 64-bit atomic. Apart from `core::sync::atomic` so that the kernel's memory model, or a model
/// checker's, can stand behind it. Every operation is sequentially consistent unless it says so.
pub trait Atom: Send + Sync {
    /// With this value.
    fn new(value: u64) -> Self;
    /// Loads, with acquire ordering.
    fn load(&self) -> u64;
    /// Stores, with release ordering.
    fn store(&self, value: u64);
    /// Adds, wrapping; gives the value before.
    fn add(&self, value: u64) -> u64;
    /// Subtracts, wrapping; gives the value before.
    fn sub(&self, value: u64) -> u64;
    /// Sets bits; gives the value before.
    fn set(&self, bits: u64) -> u64;
    /// Clears the bits given; gives the value before.
    fn clear(&self, bits: u64) -> u64;
    /// A full barrier.
    fn fence();
    /// Adds, with a full barrier behind it: cheaper where adding is one by itself.
    fn add_fenced(&self, value: u64) {
        let _ = self.add(value);
        Self::fence();
    }
}

/// The driver's side of the core's needs: a handle, if it is anything at all.
pub trait Platform: Copy {
    /// A fixed-length array; the default one is empty and takes no memory.
    type Array<T>: DerefMut<Target = [T]> + Default;
    /// One value in memory of its own.
    type Box<T>: DerefMut<Target = T>;
    /// A shared, counted reference.
    type Ref<T>: Deref<Target = T> + Clone;
    /// A 64-bit atomic.
    type Atom: Atom;

    /// An array of `len` times `fill`, or `None` if memory is not to be had.
    fn array<T: Clone>(&self, len: usize, fill: &T) -> Option<Self::Array<T>>;

    /// An array of `len` values that are written before they are looked at: they hold `any`, or all
    /// zeros where memory comes like that, which is then not touched before it is used.
    fn blank<T: Clone + FromZeros>(&self, len: usize, any: &T) -> Option<Self::Array<T>> {
        self.array(len, any)
    }

    /// What `make` gives, in memory of its own: for what is too large to be moved about. It is
    /// made where it will stay, as far as the compiler can see to it.
    fn boxed<T>(&self, make: impl FnOnce() -> T) -> Option<Self::Box<T>>;

    /// An array of `len` atomics that hold zero.
    fn atoms(&self, len: usize) -> Option<Self::Array<Self::Atom>>;

    /// Puts a value under shared ownership.
    fn share<T>(&self, value: T) -> Option<Self::Ref<T>>;

    /// XXH64 of the bytes (checksum id 1 of the format).
    fn hash(&self, seed: u64, bytes: &[u8]) -> u64;
}
