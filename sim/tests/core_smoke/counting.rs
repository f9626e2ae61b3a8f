// SPDX-License-Identifier: MIT

//! The usual platform, but for arrays that count how often they are looked into: what a request or
//! a command costs can be compared without a clock.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use rwsnap::platform::{Atom, Host};
use rwsnap_core::platform::Platform;
use zerocopy::FromZeros;

thread_local! {
    static LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has looked into an array of the core's.
pub(crate) fn looks() -> u64 {
    LOOKS.get()
}

/// An array of the core's.
pub(crate) struct Counted<T>(Vec<T>);

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for Counted<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        LOOKS.set(LOOKS.get() + 1);
        &self.0
    }
}

impl<T> DerefMut for Counted<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        LOOKS.set(LOOKS.get() + 1);
        &mut self.0
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Counting;

impl Platform for Counting {
    type Array<T> = Counted<T>;
    type Box<T> = Box<T>;
    type Ref<T> = Arc<T>;
    type Atom = Atom;

    fn array<T: Clone>(&self, len: usize, fill: &T) -> Option<Counted<T>> {
        Host.array(len, fill).map(Counted)
    }

    fn blank<T: Clone + FromZeros>(&self, len: usize, any: &T) -> Option<Counted<T>> {
        Host.blank(len, any).map(Counted)
    }

    fn boxed<T>(&self, make: impl FnOnce() -> T) -> Option<Box<T>> {
        Host.boxed(make)
    }

    fn atoms(&self, len: usize) -> Option<Counted<Atom>> {
        Host.atoms(len).map(Counted)
    }

    fn share<T>(&self, value: T) -> Option<Arc<T>> {
        Host.share(value)
    }

    fn hash(&self, seed: u64, bytes: &[u8]) -> u64 {
        Host.hash(seed, bytes)
    }
}
