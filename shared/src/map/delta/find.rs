// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Finding groups and records in a delta.

use super::node::NONE;
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

/// How far a walk over the entries has come; good until the delta changes.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    leaf: u32,
    pos: usize,
}

impl Cursor {
    /// There is no other entry.
    pub const END: Self = Self { leaf: NONE, pos: 0 };
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
    /// `out`; those that only hide or free something are left out unless `all`. Gives the chunks
    /// that the group speaks of: of `allow` all.
    pub fn collect(
        &self,
        spot: Spot,
        allow: u64,
        all: bool,
        out: &mut Group,
    ) -> Result<u64, Fault> {
        let mask = self.gather(spot, allow, all, out)?;
        out.sort();
        Ok(mask)
    }

    /// The same, the records in no order.
    fn gather(&self, spot: Spot, allow: u64, all: bool, out: &mut Group) -> Result<u64, Fault> {
        let mut mask = 0;
        let (mut leaf, mut pos) = (spot.leaf, spot.pos);
        while leaf != NONE {
            let here = self.leaf(leaf)?;
            let (end, more) = here.end_of(pos, spot.group);
            for entry in here.entries.get(pos..end).unwrap_or_default() {
                mask |= entry.live;
                if entry.live & allow == 0 {
                    continue;
                }
                let record = entry.record()?;
                if all || record.kind.in_tree() {
                    for piece in record.only(entry.live & allow) {
                        out.append(piece)?;
                    }
                }
                // The masks are disjoint: nothing more to be found, if all was.
                if mask & allow == allow {
                    return Ok(mask);
                }
            }
            if !more {
                break;
            }
            (leaf, pos) = (here.next, 0);
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

    /// Begins a walk over all entries of the groups at or after `from`.
    pub fn walk(&self, from: GroupKey) -> Result<Cursor, Fault> {
        Ok(self.find(from)?.map_or(Cursor::END, |spot| Cursor { leaf: spot.leaf, pos: spot.pos }))
    }

    /// The next entry of a walk, as a record and the chunks of it that are left
    /// ([`Record::only`]): group by group, those of a group in no order.
    pub fn step(&self, at: &mut Cursor) -> Result<Option<(Record, u64)>, Fault> {
        if at.leaf == NONE {
            return Ok(None);
        }
        let here = self.leaf(at.leaf)?;
        let entry = here.entries().get(at.pos).ok_or(bug!())?;
        at.pos = at.pos.saturating_add(1);
        if at.pos >= here.len {
            *at = Cursor { leaf: here.next, pos: 0 };
        }
        Ok(Some((entry.record()?, entry.live)))
    }
}
