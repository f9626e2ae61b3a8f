// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A delta: an ordered set of records in memory.
//!
//! It is a B+tree whose nodes stand in two arrays, made when the pool is opened. An entry is a
//! record with a second mask of the chunks it still speaks of (`node::Entry`), so that a put
//! adds one entry at most, whatever it hides. Entries are ordered by group alone, and those of a
//! group, at most 64, may stand in several leaves next to each other.
//!
//! A leaf that is filled from left to right is split at its end and stays full, all others in the
//! middle. Nothing is merged when entries go; a node is freed when it is empty.
//!
//! # How much room there is
//!
//! `room` must be right whatever the next puts are, and cheap. A leaf has the *potential* of the
//! entries it holds beyond 16, plus those of its last entries that came in order (at most 16). An
//! entry more raises the sum over all leaves by two at most; a split takes 16 off it, as it leaves
//! 16 and 17 entries behind, or a full leaf whose row has ended. So `k` puts split at most
//! `(potential + 2 k) / 16` leaves. The same count over inner nodes, where a child more raises the
//! sum by one and a split takes 15 off, says how many splits of leaves they can take.

mod arena;
mod find;
mod grow;
mod node;
mod put;
mod shrink;
#[cfg(test)]
mod tests;

use crate::fault::Fault;
use crate::platform::Platform;
use node::{Inner, Leaf, INNER, LEAF, NONE};

pub use find::{Cursor, Spot};

/// Levels at most, the leaves' among them; 16 to the 9th power of leaves fit in any case.
const HEIGHT_MAX: usize = 10;

/// Records for which a leaf is provided.
const PER_LEAF: usize = LEAF / 2;

/// An ordered set of records in memory.
///
/// # Invariants
///
/// The masks of the entries of a group are disjoint. No node is empty. The leaves are linked in
/// order. The sums (`len`, `mapped`, `weight` and the potentials) are those of all entries and
/// nodes.
pub struct Delta<P: Platform> {
    leaves: P::Array<Leaf>,
    inners: P::Array<Inner>,
    leaf_free: Free,
    inner_free: Free,
    /// Levels; zero when it is empty.
    height: usize,
    root: u32,
    len: usize,
    /// Entries outside the pseudo map of free slots.
    mapped: usize,
    /// Records that the entries can add to a tree at most.
    weight: usize,
    leaf_potential: usize,
    inner_potential: usize,
}

/// The nodes of an array that are not in use: those in a list, and those never used since the last
/// `clear`.
#[derive(Clone, Copy)]
struct Free {
    head: u32,
    fresh: u32,
    count: u32,
}

impl Free {
    fn all(nodes: usize) -> Self {
        Self { head: NONE, fresh: 0, count: u32::try_from(nodes).unwrap_or(NONE) }
    }
}

impl<P: Platform> Delta<P> {
    /// An empty delta that holds about `records` records, in order or at random, before it runs out
    /// of `room`, and half of that in the worst order there is. It takes 82 bytes for each.
    pub fn new(p: &P, records: usize) -> Result<Self, Fault> {
        let mut delta = Self::bare();
        delta.make(p, records)?;
        Ok(delta)
    }

    /// A delta without room: [`Self::make`].
    #[inline(always)]
    pub(super) fn bare() -> Self {
        Self {
            leaves: P::Array::default(),
            inners: P::Array::default(),
            leaf_free: Free { head: NONE, fresh: 0, count: 0 },
            inner_free: Free { head: NONE, fresh: 0, count: 0 },
            height: 0,
            root: NONE,
            len: 0,
            mapped: 0,
            weight: 0,
            leaf_potential: 0,
            inner_potential: 0,
        }
    }

    /// Gives a bare delta its room, see [`Self::new`].
    pub(super) fn make(&mut self, p: &P, records: usize) -> Result<(), Fault> {
        let leaves = (records / PER_LEAF).saturating_add(8);
        let inners = (leaves / 8).saturating_add(2 * HEIGHT_MAX);
        if u32::try_from(leaves).is_err() {
            return Err(Fault::NoMemory);
        }
        self.leaves = p.blank(leaves, &Leaf::EMPTY).ok_or(Fault::NoMemory)?;
        self.inners = p.blank(inners, &Inner::EMPTY).ok_or(Fault::NoMemory)?;
        self.clear();
        Ok(())
    }

    /// Forgets all records, at once.
    pub fn clear(&mut self) {
        self.leaf_free = Free::all(self.leaves.len());
        self.inner_free = Free::all(self.inners.len());
        self.height = 0;
        self.root = NONE;
        self.len = 0;
        self.mapped = 0;
        self.weight = 0;
        self.leaf_potential = 0;
        self.inner_potential = 0;
    }

    /// Entries; a few more records may come out of it, as what is left of one may be several.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no record in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.height == 0
    }

    /// Entries that a checkpoint brings into the tree: all but freed slots.
    #[must_use]
    pub fn mapped(&self) -> usize {
        self.mapped
    }

    /// How many records the tree can get more by these entries, at most.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// How many puts are sure to succeed, whatever they are.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.height >= HEIGHT_MAX {
            return 0;
        }
        let free = |list: Free| usize::try_from(list.count).unwrap_or(0);
        // Each level that the tree may still grow by takes a root besides.
        let roots = HEIGHT_MAX.saturating_sub(self.height);
        let inner = free(self.inner_free).saturating_sub(roots).saturating_mul(INNER / 2 - 1);
        let first = usize::from(self.height == 0);
        let splits = free(self.leaf_free)
            .saturating_sub(first)
            .min(inner.saturating_sub(self.inner_potential));
        splits.saturating_mul(LEAF / 2).saturating_sub(self.leaf_potential) / 2
    }
}
