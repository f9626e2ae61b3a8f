// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Nodes are taken and given back here, and changed here alone, so that the potentials keep up.

use super::node::{at, Inner, Leaf, NONE};
use super::{Delta, Free};
use crate::bug;
use crate::fault::Fault;
use crate::map::list::pair;
use crate::platform::Platform;

/// Takes a node: the head of the list, whose next `next` gives, else the first never used.
fn take(free: &mut Free, next: impl FnOnce(u32) -> Option<u32>) -> Result<u32, Fault> {
    free.count = free.count.checked_sub(1).ok_or(Fault::NoMemory)?;
    if free.head == NONE {
        let node = free.fresh;
        free.fresh = free.fresh.saturating_add(1);
        return Ok(node);
    }
    let node = free.head;
    free.head = next(node).ok_or(bug!())?;
    Ok(node)
}

impl<P: Platform> Delta<P> {
    pub(super) fn leaf(&self, node: u32) -> Result<&Leaf, Fault> {
        self.leaves.get(at(node)).ok_or(bug!())
    }

    pub(super) fn inner(&self, node: u32) -> Result<&Inner, Fault> {
        self.inners.get(at(node)).ok_or(bug!())
    }

    /// Lets `change` work on a leaf.
    pub(super) fn on_leaf<T>(
        &mut self,
        node: u32,
        change: impl FnOnce(&mut Leaf) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let leaf = self.leaves.get_mut(at(node)).ok_or(bug!())?;
        let before = leaf.potential();
        let result = change(leaf);
        let sum = self.leaf_potential.saturating_sub(before);
        self.leaf_potential = sum.saturating_add(leaf.potential());
        result
    }

    /// Lets `change` work on two leaves.
    pub(super) fn on_leaves<T>(
        &mut self,
        (a, b): (u32, u32),
        change: impl FnOnce(&mut Leaf, &mut Leaf) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let (a, b) = pair(&mut self.leaves, at(a), at(b)).ok_or(bug!())?;
        let before = a.potential().saturating_add(b.potential());
        let result = change(a, b);
        let after = a.potential().saturating_add(b.potential());
        self.leaf_potential = self.leaf_potential.saturating_sub(before).saturating_add(after);
        result
    }

    /// Lets `change` work on an inner node.
    pub(super) fn on_inner<T>(
        &mut self,
        node: u32,
        change: impl FnOnce(&mut Inner) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let inner = self.inners.get_mut(at(node)).ok_or(bug!())?;
        let before = inner.potential();
        let result = change(inner);
        let sum = self.inner_potential.saturating_sub(before);
        self.inner_potential = sum.saturating_add(inner.potential());
        result
    }

    /// Lets `change` work on two inner nodes.
    pub(super) fn on_inners<T>(
        &mut self,
        (a, b): (u32, u32),
        change: impl FnOnce(&mut Inner, &mut Inner) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let (a, b) = pair(&mut self.inners, at(a), at(b)).ok_or(bug!())?;
        let before = a.potential().saturating_add(b.potential());
        let result = change(a, b);
        let after = a.potential().saturating_add(b.potential());
        self.inner_potential = self.inner_potential.saturating_sub(before).saturating_add(after);
        result
    }

    /// An empty leaf.
    pub(super) fn new_leaf(&mut self) -> Result<u32, Fault> {
        let leaves = &mut self.leaves;
        let node = take(&mut self.leaf_free, |node| leaves.get(at(node)).map(|leaf| leaf.next))?;
        let leaf = leaves.get_mut(at(node)).ok_or(bug!())?;
        leaf.len = 0;
        leaf.tail = 0;
        leaf.prev = NONE;
        leaf.next = NONE;
        Ok(node)
    }

    /// An empty inner node.
    pub(super) fn new_inner(&mut self) -> Result<u32, Fault> {
        let inners = &mut self.inners;
        let next = |node| inners.get(at(node)).and_then(|inner| inner.kids.first().copied());
        let node = take(&mut self.inner_free, next)?;
        inners.get_mut(at(node)).ok_or(bug!())?.len = 0;
        Ok(node)
    }

    /// Gives a leaf back that nothing points to.
    pub(super) fn drop_leaf(&mut self, node: u32) -> Result<(), Fault> {
        let head = self.leaf_free.head;
        self.on_leaf(node, |leaf| {
            leaf.len = 0;
            leaf.tail = 0;
            leaf.next = head;
            Ok(())
        })?;
        self.leaf_free.head = node;
        self.leaf_free.count = self.leaf_free.count.saturating_add(1);
        Ok(())
    }

    /// Gives an inner node back that nothing points to.
    pub(super) fn drop_inner(&mut self, node: u32) -> Result<(), Fault> {
        let head = self.inner_free.head;
        self.on_inner(node, |inner| {
            inner.len = 0;
            *inner.kids.first_mut().ok_or(bug!())? = head;
            Ok(())
        })?;
        self.inner_free.head = node;
        self.inner_free.count = self.inner_free.count.saturating_add(1);
        Ok(())
    }
}
