// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Finding groups and records in a delta.

use super::node::{Entry, NONE};
use super::{Delta, HEIGHT_MAX};
use crate::bug;
use crate::fault::Fault;
use crate::format::record::{GroupKey, Key, Record};
use crate::map::group::Group;
use crate::platform::Platform;

/// The way down to a leaf: the inner nodes, and the place of the child taken in each.
pub(super) struct Path {
    steps: [(u32, usize); HEIGHT_MAX],
    len: usize,
}

impl Path {
    pub(super) const fn new() -> Self {
        Self { steps: [(NONE, 0); HEIGHT_MAX], len: 0 }
    }

    pub(super) fn push(&mut self, node: u32, place: usize) -> Result<(), Fault> {
        *self.steps.get_mut(self.len).ok_or(bug!())? = (node, place);
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<(u32, usize)> {
        self.len = self.len.checked_sub(1)?;
        self.steps.get(self.len).copied()
    }
}

/// Where an entry stands; good until the delta changes.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    pub(super) leaf: u32,
    pub(super) pos: usize,
    /// The key of its group.
    pub(super) group: u128,
}

impl Spot {
    /// The group that the entry belongs to.
    #[must_use]
    pub fn group(&self) -> GroupKey {
        Key(self.group).group()
    }
}

impl<P: Platform> Delta<P> {
    /// The leaf where the first entry of the group `key` or of one after it stands, unless all of
    /// that leaf come before: then it is the first of the next leaf.
    pub(super) fn descend(&self, key: u128) -> Result<u32, Fault> {
        let mut node = self.root;
        for _ in 1..self.height {
            let inner = self.inner(node)?;
            node = inner.kid(inner.place(key)).ok_or(bug!())?;
        }
        Ok(node)
    }

    /// The same, with the way.
    pub(super) fn descend_by(&self, key: u128) -> Result<(u32, Path), Fault> {
        let mut path = Path::new();
        let mut node = self.root;
        for _ in 1..self.height {
            let inner = self.inner(node)?;
            let place = inner.place(key);
            path.push(node, place)?;
            node = inner.kid(place).ok_or(bug!())?;
        }
        Ok((node, path))
    }

    /// The entry at `pos` of a leaf, or the first of the next leaf if `pos` is its end.
    pub(super) fn spot(&self, leaf: u32, pos: usize) -> Result<Option<Spot>, Fault> {
        let (mut leaf, mut pos) = (leaf, pos);
        let mut here = self.leaf(leaf)?;
        if pos >= here.len {
            if here.next == NONE {
                return Ok(None);
            }
            (leaf, pos) = (here.next, 0);
            here = self.leaf(leaf)?;
        }
        let group = here.entries().get(pos).ok_or(bug!())?.group();
        Ok(Some(Spot { leaf, pos, group }))
    }

    /// The entry after this one, if it belongs to the same group.
    pub(super) fn sibling(&self, spot: Spot) -> Result<Option<Spot>, Fault> {
        let next = self.spot(spot.leaf, spot.pos.saturating_add(1))?;
        Ok(next.filter(|next| next.group == spot.group))
    }

    pub(super) fn entry(&self, spot: Spot) -> Result<&Entry, Fault> {
        self.leaf(spot.leaf)?.entries().get(spot.pos).ok_or(bug!())
    }

    /// The first entry of the first group at or after `from`.
    pub fn find(&self, from: GroupKey) -> Result<Option<Spot>, Fault> {
        if self.is_empty() {
            return Ok(None);
        }
        let key = from.first().0;
        let leaf = self.descend(key)?;
        self.spot(leaf, self.leaf(leaf)?.lower(key))
    }

    /// Adds the records of the group that begins at `spot`, cut to the chunks of `allow`, to
    /// `out`; those that only hide or free something are left out unless `all`. Gives all chunks
    /// that the group speaks of.
    pub fn collect(
        &self,
        spot: Spot,
        allow: u64,
        all: bool,
        out: &mut Group,
    ) -> Result<u64, Fault> {
        let mut mask = 0;
        let mut next = Some(spot);
        while let Some(spot) = next {
            let entry = self.entry(spot)?;
            mask |= entry.live;
            if entry.live & allow != 0 {
                let record = entry.record()?;
                if all || record.kind.in_tree() {
                    for piece in record.only(entry.live & allow) {
                        out.push(piece)?;
                    }
                }
            }
            next = self.sibling(spot)?;
        }
        Ok(mask)
    }

    /// Adds the records of exactly this group to `out`.
    pub fn group(&self, key: GroupKey, out: &mut Group) -> Result<(), Fault> {
        if let Some(spot) = self.find(key)?.filter(|spot| spot.group() == key) {
            self.collect(spot, u64::MAX, true, out)?;
        }
        Ok(())
    }

    /// The smallest group at or after `from` that has records.
    pub fn next_group(&self, from: GroupKey) -> Result<Option<GroupKey>, Fault> {
        Ok(self.find(from)?.map(|spot| spot.group()))
    }

    /// The first record whose key is `from` or comes after it: a cursor over all records.
    pub fn next_from(&self, from: Key) -> Result<Option<Record>, Fault> {
        let mut group = from.group();
        while let Some(spot) = self.find(group)? {
            if let Some(record) = self.first_of(spot, from)? {
                return Ok(Some(record));
            }
            let Some(after) = spot.group().after() else { break };
            group = after;
        }
        Ok(None)
    }

    /// The first record whose key comes after `key`.
    pub fn next_after(&self, key: Key) -> Result<Option<Record>, Fault> {
        key.0.checked_add(1).map_or(Ok(None), |next| self.next_from(Key(next)))
    }

    /// The first record of the group at `spot` whose key is not before `from`.
    fn first_of(&self, spot: Spot, from: Key) -> Result<Option<Record>, Fault> {
        let mut best: Option<Record> = None;
        let mut next = Some(spot);
        while let Some(spot) = next {
            let entry = self.entry(spot)?;
            let later = |piece: &Record| piece.key() >= from;
            if let Some(piece) = entry.record()?.only(entry.live).find(later) {
                best = best.filter(|best| best.key() < piece.key()).or(Some(piece));
            }
            next = self.sibling(spot)?;
        }
        Ok(best)
    }
}
