// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A platform whose memory and checksum come from functions that the compiler cannot see into.
//!
//! The shape is the kernel's: an array is a pointer and a length, and memory may not be had. This
//! is the one file of the core's folder with unsafe code; it is no part of what ships.
//!
//! # Invariants
//!
//! A [`Slice`] holds `len` initialised values at `at`, and alone reaches them. An [`Owned`] points
//! to a value, and alone reaches it; a [`Shared`] to one that many reach and that is never freed.

use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::{fence, AtomicU64, Ordering};

use rwsnap_core::platform::{Atom, Platform};

extern "C" {
    /// That many zeroed bytes, aligned for anything, or null.
    fn rwsnap_nopanic_take(bytes: usize) -> *mut u8;
    /// Gives memory back that [`rwsnap_nopanic_take`] gave.
    fn rwsnap_nopanic_give(memory: *mut u8);
    /// XXH64, say.
    fn rwsnap_nopanic_hash(seed: u64, bytes: *const u8, len: usize) -> u64;
}

/// The platform.
#[derive(Clone, Copy, Debug)]
pub struct Opaque;

/// An array.
#[derive(Debug)]
pub struct Slice<T> {
    at: NonNull<T>,
    len: usize,
}

impl<T> Default for Slice<T> {
    fn default() -> Self {
        // INVARIANT: there are no values.
        Self { at: NonNull::dangling(), len: 0 }
    }
}

impl<T> Drop for Slice<T> {
    fn drop(&mut self) {
        // SAFETY: by the type's invariant the values are there, and nobody else reaches them.
        unsafe { core::ptr::drop_in_place(core::ptr::from_mut::<[T]>(self)) };
        if self.len != 0 {
            // SAFETY: an array that is not empty has its memory from `take`.
            unsafe { rwsnap_nopanic_give(self.at.as_ptr().cast()) };
        }
    }
}

impl<T> Deref for Slice<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: by the type's invariant there are `len` values at `at`.
        unsafe { core::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Slice<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: by the type's invariant there are `len` values at `at`, reached by `self` alone.
        unsafe { core::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

/// One value.
#[derive(Debug)]
pub struct Owned<T>(NonNull<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: by the type's invariant the value is there, and nobody else reaches it.
        unsafe { core::ptr::drop_in_place(self.0.as_ptr()) };
        // SAFETY: it lies in memory from `take`.
        unsafe { rwsnap_nopanic_give(self.0.as_ptr().cast()) };
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: by the type's invariant the value is there.
        unsafe { self.0.as_ref() }
    }
}

impl<T> DerefMut for Owned<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: by the type's invariant the value is there, reached by `self` alone.
        unsafe { self.0.as_mut() }
    }
}

/// A counted reference whose count never falls to zero.
#[derive(Debug)]
pub struct Shared<T>(NonNull<T>);

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: by the type's invariant the value is there for ever.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

/// An atomic of `core`.
#[derive(Debug)]
pub struct Word(AtomicU64);

impl Atom for Word {
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

/// Room for `len` values, not initialised.
fn take<T>(len: usize) -> Option<NonNull<T>> {
    let bytes = len.checked_mul(size_of::<T>())?;
    // SAFETY: the function has no conditions.
    NonNull::new(unsafe { rwsnap_nopanic_take(bytes) }.cast())
}

/// An array of what `make` gives, `len` times.
fn filled<T>(len: usize, mut make: impl FnMut() -> T) -> Option<Slice<T>> {
    let at = take::<T>(len)?;
    for i in 0..len {
        // SAFETY: `i < len`, and there is room for `len` values.
        unsafe { at.add(i).write(make()) };
    }
    // INVARIANT: all `len` values were written; nobody else has the pointer.
    Some(Slice { at, len })
}

impl Platform for Opaque {
    type Array<T> = Slice<T>;
    type Box<T> = Owned<T>;
    type Ref<T> = Shared<T>;
    type Atom = Word;

    fn array<T: Clone>(&self, len: usize, fill: &T) -> Option<Slice<T>> {
        filled(len, || fill.clone())
    }

    fn boxed<T>(&self, make: impl FnOnce() -> T) -> Option<Owned<T>> {
        let at = take::<T>(1)?;
        // SAFETY: there is room for one value.
        unsafe { at.write(make()) };
        // INVARIANT: it was written; nobody else has the pointer.
        Some(Owned(at))
    }

    fn atoms(&self, len: usize) -> Option<Slice<Word>> {
        filled(len, || Word::new(0))
    }

    fn share<T>(&self, value: T) -> Option<Shared<T>> {
        let at = take::<T>(1)?;
        // SAFETY: there is room for one value.
        unsafe { at.write(value) };
        // INVARIANT: it was written, and nothing here frees.
        Some(Shared(at))
    }

    fn hash(&self, seed: u64, bytes: &[u8]) -> u64 {
        // SAFETY: the pointer and the length are a slice's.
        unsafe { rwsnap_nopanic_hash(seed, bytes.as_ptr(), bytes.len()) }
    }
}
