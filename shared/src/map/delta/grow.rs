// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A new entry, and the splits that make room for it.

use super::find::Path;
use super::node::{Entry, Inner, Leaf, Wide, HALF, INNER, LEAF, NONE, TAIL};
use super::Delta;
use crate::bug;
use crate::fault::Fault;
use crate::platform::Platform;

impl<P: Platform> Delta<P> {
    /// Adds an entry at `pos` of the leaf that `descend` finds for its group.
    pub(super) fn insert(&mut self, leaf: u32, pos: usize, entry: Entry) -> Result<(), Fault> {
        let (mapped, weight) = entry.weight()?;
        if self.leaf(leaf)?.len < LEAF {
            self.on_leaf(leaf, |leaf| leaf.insert(pos, entry))?;
        } else {
            self.split_leaf(leaf, pos, entry)?;
        }
        self.len = self.len.saturating_add(1);
        self.mapped = self.mapped.saturating_add(mapped);
        self.weight = self.weight.saturating_add(weight);
        Ok(())
    }

    #[inline(never)]
    fn split_leaf(&mut self, leaf: u32, pos: usize, entry: Entry) -> Result<(), Fault> {
        let (same, mut path) = self.descend_by(entry.group())?;
        if same != leaf {
            return Err(bug!());
        }
        let right = self.new_leaf()?;
        let next = self.on_leaves((leaf, right), |left, new| {
            divide_leaf(left, new, pos, entry)?;
            new.prev = leaf;
            new.next = left.next;
            left.next = right;
            Ok(new.next)
        })?;
        if next != NONE {
            self.on_leaf(next, |next| {
                next.prev = right;
                Ok(())
            })?;
        }
        let first = self.leaf(right)?.entries().first().ok_or(bug!())?.group();
        self.add_child(&mut path, Wide::new(first), right)
    }

    /// Adds a child after those at the end of the way.
    fn add_child(&mut self, path: &mut Path, key: Wide, kid: u32) -> Result<(), Fault> {
        let (mut key, mut kid) = (key, kid);
        while let Some((node, place)) = path.pop() {
            let place = place.saturating_add(1);
            if self.inner(node)?.len < INNER {
                return self.on_inner(node, |inner| inner.insert(place, key, kid));
            }
            let right = self.new_inner()?;
            key = self
                .on_inners((node, right), |left, new| divide_inner(left, new, place, key, kid))?;
            kid = right;
        }
        let (top, old) = (self.new_inner()?, self.root);
        self.on_inner(top, |inner| {
            inner.insert(0, Wide::ZERO, old)?;
            inner.insert(1, key, kid)
        })?;
        self.root = top;
        self.height = self.height.saturating_add(1);
        Ok(())
    }
}

/// Moves a part of the full leaf `left` to `right` and adds the entry.
fn divide_leaf(left: &mut Leaf, right: &mut Leaf, pos: usize, entry: Entry) -> Result<(), Fault> {
    let row = left.tail;
    left.tail = 0;
    if pos == LEAF && row >= TAIL {
        return right.insert(0, entry);
    }
    for (to, from) in right.entries.iter_mut().zip(left.entries.iter().skip(HALF)) {
        *to = *from;
    }
    left.len = HALF;
    right.len = LEAF - HALF;
    match pos.checked_sub(HALF) {
        None | Some(0) => left.insert(pos, entry)?,
        Some(pos) => {
            right.tail = row;
            right.insert(pos, entry)?;
        }
    }
    // A row is one of entries at the end of the leaf that they stand in.
    left.tail = 0;
    Ok(())
}

/// Moves half of the full node `left` to `right` and adds the child; gives the key of `right`.
fn divide_inner(
    left: &mut Inner,
    right: &mut Inner,
    place: usize,
    key: Wide,
    kid: u32,
) -> Result<Wide, Fault> {
    for (to, from) in right.keys.iter_mut().zip(left.keys.iter().skip(HALF)) {
        *to = *from;
    }
    for (to, from) in right.kids.iter_mut().zip(left.kids.iter().skip(HALF)) {
        *to = *from;
    }
    left.len = HALF;
    right.len = INNER - HALF;
    let middle = right.keys.first().copied().ok_or(bug!())?;
    match place.checked_sub(HALF) {
        None | Some(0) => left.insert(place, key, kid)?,
        Some(place) => right.insert(place, key, kid)?,
    }
    Ok(middle)
}
