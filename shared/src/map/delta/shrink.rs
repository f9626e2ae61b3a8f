// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Entries of which nothing is left, and nodes that get empty with them.

use super::find::Path;
use super::node::{Entry, Wide, NONE};
use super::Delta;
use crate::bug;
use crate::fault::Fault;
use crate::map::list::remove_at;
use crate::platform::Platform;

impl<P: Platform> Delta<P> {
    /// Takes `dead` entries without chunks out of the group `key`.
    pub(super) fn bury(&mut self, key: u128, dead: usize) -> Result<(), Fault> {
        for _ in 0..dead {
            self.bury_one(key)?;
        }
        Ok(())
    }

    fn bury_one(&mut self, key: u128) -> Result<(), Fault> {
        let (mut leaf, mut path) = self.descend_by(key)?;
        let mut pos = self.leaf(leaf)?.lower(key);
        loop {
            let here = self.leaf(leaf)?;
            if pos >= here.len {
                leaf = self.next_leaf(&mut path)?.ok_or(bug!())?;
                pos = 0;
                continue;
            }
            let entry = here.entries().get(pos).ok_or(bug!())?;
            if entry.group() != key {
                return Err(bug!());
            }
            if entry.live == 0 {
                let (mapped, _) = entry.weight()?;
                self.mapped = self.mapped.saturating_sub(mapped);
                return self.take_out(leaf, &mut path, pos);
            }
            pos = pos.saturating_add(1);
        }
    }

    /// Moves the way on to the next leaf.
    #[inline(never)]
    fn next_leaf(&self, path: &mut Path) -> Result<Option<u32>, Fault> {
        let mut down: usize = 0;
        while let Some((node, place)) = path.pop() {
            let place = place.saturating_add(1);
            let Some(mut kid) = self.inner(node)?.kid(place) else {
                down = down.saturating_add(1);
                continue;
            };
            path.push(node, place)?;
            for _ in 0..down {
                path.push(kid, 0)?;
                kid = self.inner(kid)?.kid(0).ok_or(bug!())?;
            }
            return Ok(Some(kid));
        }
        Ok(None)
    }

    #[inline(never)]
    fn take_out(&mut self, leaf: u32, path: &mut Path, pos: usize) -> Result<(), Fault> {
        let left = self.on_leaf(leaf, |leaf| {
            remove_at(&mut leaf.entries, leaf.len, pos, Entry::EMPTY).ok_or(bug!())?;
            leaf.len = leaf.len.saturating_sub(1);
            Ok(leaf.len)
        })?;
        self.len = self.len.saturating_sub(1);
        if left == 0 {
            self.unlink(leaf)?;
            self.drop_leaf(leaf)?;
            self.drop_child(path)?;
        }
        Ok(())
    }

    fn unlink(&mut self, leaf: u32) -> Result<(), Fault> {
        let here = self.leaf(leaf)?;
        let (prev, next) = (here.prev, here.next);
        if prev != NONE {
            self.on_leaf(prev, |leaf| {
                leaf.next = next;
                Ok(())
            })?;
        }
        if next != NONE {
            self.on_leaf(next, |leaf| {
                leaf.prev = prev;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Drops the child at the end of the way, and all nodes above it that it leaves empty.
    fn drop_child(&mut self, path: &mut Path) -> Result<(), Fault> {
        while let Some((node, place)) = path.pop() {
            let left = self.on_inner(node, |inner| {
                remove_at(&mut inner.keys, inner.len, place, Wide::ZERO).ok_or(bug!())?;
                remove_at(&mut inner.kids, inner.len, place, NONE).ok_or(bug!())?;
                inner.len = inner.len.saturating_sub(1);
                Ok(inner.len)
            })?;
            if left != 0 {
                return self.lower_root();
            }
            self.drop_inner(node)?;
        }
        self.clear();
        Ok(())
    }

    /// A root with one child is not needed.
    fn lower_root(&mut self) -> Result<(), Fault> {
        while self.height > 1 && self.inner(self.root)?.len == 1 {
            let old = self.root;
            self.root = self.inner(old)?.kid(0).ok_or(bug!())?;
            self.height = self.height.saturating_sub(1);
            self.drop_inner(old)?;
        }
        Ok(())
    }
}
