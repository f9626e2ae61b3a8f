// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A sorted array of links: a key of three numbers, and the place of an entity in the table.
//!
//! # Invariants
//!
//! The first `len` links are in strictly ascending order of (key, place).

use crate::fault::Fault;
use crate::platform::Platform;

/// What links are ordered by.
pub(super) type Key = [u32; 3];

/// A key, and which entity bears it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Link {
    /// The key.
    pub(super) key: Key,
    /// The entity's place in the table.
    pub(super) place: u32,
}

/// The array.
pub(super) struct Sorted<P: Platform> {
    links: P::Array<Link>,
    len: usize,
}

impl<P: Platform> Sorted<P> {
    /// No room: [`Self::make`].
    #[inline(always)]
    pub(super) fn bare() -> Self {
        Self { links: P::Array::default(), len: 0 }
    }

    /// Room for `capacity` links, none of which is there.
    pub(super) fn make(&mut self, platform: &P, capacity: usize) -> Result<(), Fault> {
        self.links = platform.array(capacity, &Link::default()).ok_or(Fault::NoMemory)?;
        Ok(())
    }

    /// The links, in order.
    pub(super) fn all(&self) -> &[Link] {
        self.links.get(..self.len).unwrap_or(&[])
    }

    /// The links from the first with a key of at least `key` on.
    pub(super) fn from(&self, key: Key) -> &[Link] {
        self.all().get(self.below(key)..).unwrap_or(&[])
    }

    /// The links whose key begins with `head`, from `head, second` on.
    pub(super) fn under(&self, head: u32, second: u32) -> impl Iterator<Item = &Link> {
        self.from([head, second, 0]).iter().take_while(move |l| l.key[0] == head)
    }

    /// The last link before the first with a key of at least `key`.
    pub(super) fn last_below(&self, key: Key) -> Option<&Link> {
        self.all().get(self.below(key).checked_sub(1)?)
    }

    /// Adds a link; false if there is no room or it is there already.
    pub(super) fn insert(&mut self, link: Link) -> bool {
        let at = self.all().partition_point(|l| *l < link);
        if self.len >= self.links.len() || self.all().get(at) == Some(&link) {
            return false;
        }
        self.len = self.len.saturating_add(1);
        let mut carried = link;
        for place in self.links.get_mut(at..self.len).unwrap_or(&mut []) {
            core::mem::swap(place, &mut carried);
        }
        true
    }

    /// Removes a link; false if it is not there.
    pub(super) fn remove(&mut self, link: Link) -> bool {
        let at = self.all().partition_point(|l| *l < link);
        if self.all().get(at) != Some(&link) {
            return false;
        }
        let mut carried = Link::default();
        for place in self.links.get_mut(at..self.len).unwrap_or(&mut []).iter_mut().rev() {
            core::mem::swap(place, &mut carried);
        }
        self.len = self.len.saturating_sub(1);
        true
    }

    /// Takes over the links of a smaller array.
    pub(super) fn take_over(&mut self, smaller: &Self) {
        for (to, from) in self.links.iter_mut().zip(smaller.all()) {
            *to = *from;
        }
        self.len = smaller.len.min(self.links.len());
    }

    /// How many links have a key less than `key`.
    fn below(&self, key: Key) -> usize {
        self.all().partition_point(|l| l.key < key)
    }
}
