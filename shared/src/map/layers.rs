// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The layers of the map, read as one.
//!
//! Within a group an upper layer hides the lower ones chunk by chunk: fresh, pending, active,
//! frozen, tree. `Gone` hides without showing anything, and freed slots are never shown.

use super::cache::Cache;
use super::delta::{Delta, Spot};
use super::group::Group;
use super::tree::{Root, Tree};
use super::Miss;
use crate::bug;
use crate::fault::Fault;
use crate::format::record::{GroupKey, FREE_MAP};
use crate::platform::Platform;
use crate::units::{Epoch, Word};

/// How much memory the map may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Records of the active delta, and of the frozen one.
    pub delta: usize,
    /// Records of clones that are not logged yet.
    pub pending: usize,
    /// Pages of the tree.
    pub cache: usize,
}

/// The map.
///
/// # Invariants
///
/// While `freezing` is false the frozen delta is empty. The tree does not change while it is true.
pub struct Layers<P: Platform> {
    /// New records of clones since the last flush round began.
    pub fresh: Delta<P>,
    /// Those of the round under way: their data is being flushed, or they are being logged.
    pub pending: Delta<P>,
    /// Everything logged since the last freeze.
    pub active: Delta<P>,
    pub(super) frozen: Delta<P>,
    freezing: bool,
    pub(super) tree: Tree,
    /// Pages of the tree.
    pub cache: Cache<P>,
}

/// The first group that any delta has, and where in each.
struct Front {
    group: GroupKey,
    spots: [Option<Spot>; 4],
}

impl<P: Platform> Layers<P> {
    /// The map of the pool `pool` that a checkpoint left as `root`.
    pub fn new(p: &P, sizes: Sizes, pool: u64, root: Option<Root>) -> Result<P::Box<Self>, Fault> {
        let bare = || Self {
            fresh: Delta::bare(),
            pending: Delta::bare(),
            active: Delta::bare(),
            frozen: Delta::bare(),
            freezing: false,
            tree: Tree::new(root),
            cache: Cache::bare(pool),
        };
        let mut made = p.boxed(bare).ok_or(Fault::NoMemory)?;
        made.fresh.make(p, sizes.pending)?;
        made.pending.make(p, sizes.pending)?;
        made.active.make(p, sizes.delta)?;
        made.frozen.make(p, sizes.delta)?;
        made.cache.make(p, sizes.cache)?;
        Ok(made)
    }

    /// The tree that lookups use.
    #[must_use]
    pub fn root(&self) -> Option<Root> {
        self.tree.root()
    }

    /// The frozen delta, if there is one.
    #[must_use]
    pub fn frozen(&self) -> Option<&Delta<P>> {
        self.freezing.then_some(&self.frozen)
    }

    /// Makes the fresh delta the pending one; that must be empty.
    pub fn stage_fresh(&mut self) {
        if self.pending.is_empty() {
            core::mem::swap(&mut self.fresh, &mut self.pending);
        }
    }

    /// Makes the active delta the frozen one; there must not be one.
    pub fn freeze(&mut self) -> Result<(), Fault> {
        if self.freezing || !self.frozen.is_empty() {
            return Err(bug!());
        }
        core::mem::swap(&mut self.active, &mut self.frozen);
        self.freezing = true;
        Ok(())
    }

    /// The frozen delta is in the tree `root`, which is durable: from here on that is the tree.
    pub fn drop_frozen(&mut self, root: Option<Root>) -> Result<(), Fault> {
        if !self.freezing {
            return Err(bug!());
        }
        self.frozen.clear();
        self.freezing = false;
        self.tree = Tree::new(root);
        Ok(())
    }

    /// Fills `out` with what is to be seen of the first group at or after `from` and before `end`
    /// of which anything is to be seen; with nothing, where deltas hide all that the tree has. Of
    /// such groups there may be more than the cache has room for: who walks goes on behind each.
    ///
    /// After a miss `out` holds nothing of use; ask again when the page is there.
    pub fn next_group(
        &mut self,
        from: GroupKey,
        end: GroupKey,
        out: &mut Group,
    ) -> Result<Option<GroupKey>, Miss> {
        self.next_group_of(from, end, (u64::MAX, true), out)
    }

    /// As [`Self::next_group`], but of the records only what they say of the chunks `wanted`; with
    /// fewer than all chunks wanted that may be nothing. Without `tree` in the deltas alone, for
    /// groups of which the caller knows that the tree has none.
    ///
    /// A request for one chunk of a word need not pay for the records of the others.
    pub fn next_group_of(
        &mut self,
        from: GroupKey,
        end: GroupKey,
        (wanted, tree): (u64, bool),
        out: &mut Group,
    ) -> Result<Option<GroupKey>, Miss> {
        let end = end.min(GroupKey { map: FREE_MAP, word: Word(0), epoch: Epoch(0) });
        let mut from = from;
        let mut front = Front { group: from, spots: [None; 4] };
        while from < end {
            let any = self.front(from, end, &mut front)?;
            // Where the deltas have all that is wanted of the first group, the tree is not asked.
            let front = any.then_some(&front);
            if let Some(front) = front.filter(|front| front.group == from) {
                out.clear();
                if self.collect(front, wanted, out)? | !wanted == u64::MAX {
                    if wanted != u64::MAX || !out.records().is_empty() {
                        return Ok(Some(from));
                    }
                    let Some(after) = from.after() else { break };
                    from = after;
                    continue;
                }
            }
            // A walk that is interrupted by a page goes on behind the groups that it was given.
            return self.below(from, end, front, (wanted, tree), out);
        }
        Ok(None)
    }

    /// The first group at or after `from` and before `end` that any delta has; false if none has
    /// one.
    #[inline(never)]
    fn front(&self, from: GroupKey, end: GroupKey, front: &mut Front) -> Result<bool, Fault> {
        let deltas = [&self.fresh, &self.pending, &self.active, &self.frozen];
        for (delta, spot) in deltas.into_iter().zip(&mut front.spots) {
            *spot = delta.find(from)?;
        }
        let first = front.spots.iter().flatten().map(Spot::group).min();
        let Some(first) = first.filter(|group| *group < end) else { return Ok(false) };
        front.group = first;
        Ok(true)
    }

    /// Adds what is to be seen of the chunks `wanted` of the front's group in the deltas; gives all
    /// the chunks that they have something to say of.
    fn collect(&self, front: &Front, wanted: u64, out: &mut Group) -> Result<u64, Fault> {
        let mut seen = 0;
        for (delta, spot) in
            [&self.fresh, &self.pending, &self.active, &self.frozen].iter().zip(&front.spots)
        {
            if let Some(spot) = spot.filter(|spot| spot.group() == front.group) {
                seen |= delta.collect(spot, wanted & !seen, false, out)?;
            }
        }
        Ok(seen)
    }

    /// Fills `out` with the first of the groups in front of the deltas and, with `tree`, of the
    /// tree.
    #[inline(never)]
    fn below(
        &mut self,
        from: GroupKey,
        end: GroupKey,
        front: Option<&Front>,
        (wanted, tree): (u64, bool),
        out: &mut Group,
    ) -> Result<Option<GroupKey>, Miss> {
        let place = if tree { self.tree.find(&mut self.cache, from, end)? } else { None };
        out.clear();
        let below = place.map(|place| place.group);
        let Some(group) = front.map(|front| front.group).into_iter().chain(below).min() else {
            return Ok(None);
        };
        let mut seen = 0;
        if let Some(front) = front.filter(|front| front.group == group) {
            seen = self.collect(front, wanted, out)?;
        }
        if let Some(place) = place.filter(|place| place.group == group) {
            self.tree.collect(&mut self.cache, place, wanted & !seen, out)?;
        }
        Ok(Some(group))
    }
}
