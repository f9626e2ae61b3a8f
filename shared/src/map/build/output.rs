// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The open nodes of the tree that is being made, one for each level.
//!
//! A node gathers up to half a page more than a page holds before a page is cut from it, so that
//! what remains is always enough for at least half a page.

use crate::bug;
use crate::fault::Fault;
use crate::format::node::{
    write_inner, write_leaf, Identity, Page, RawChild, INNER_MAX, LEAF_MAX, LEVELS,
};
use crate::format::record::{Key, RawRecord};
use crate::map::group::GROUP_MAX;
use crate::map::list::shift;
use crate::platform::Platform;
use crate::units::PAGE;

/// Records from which on a leaf is cut off.
const LEAF_FULL: usize = LEAF_MAX + LEAF_MAX / 2;

/// Children from which on an inner page is cut off.
const INNER_FULL: usize = INNER_MAX + INNER_MAX / 2;

/// A whole group comes at a time.
const LEAF_ROOM: usize = LEAF_FULL + GROUP_MAX;

/// The open nodes.
///
/// # Invariants
///
/// Keys only ever grow: `last` is the group that came last, into whichever level.
pub(super) struct Output<P: Platform> {
    records: P::Array<RawRecord>,
    /// `INNER_FULL` places for each level but the leaves'.
    kids: P::Array<RawChild>,
    lens: [usize; LEVELS],
    last: Option<Key>,
    page: P::Array<Page>,
}

impl<P: Platform> Output<P> {
    /// Nodes without room: [`Self::make`].
    #[inline(always)]
    pub(super) fn bare() -> Self {
        Self {
            records: P::Array::default(),
            kids: P::Array::default(),
            lens: [0; LEVELS],
            last: None,
            page: P::Array::default(),
        }
    }

    pub(super) fn make(&mut self, p: &P) -> Result<(), Fault> {
        let kids = INNER_FULL * (LEVELS - 1);
        self.records = p.array(LEAF_ROOM, &RawRecord::default()).ok_or(Fault::NoMemory)?;
        self.kids = p.array(kids, &RawChild::default()).ok_or(Fault::NoMemory)?;
        self.page = p.array(1, &[0; PAGE]).ok_or(Fault::NoMemory)?;
        Ok(())
    }

    pub(super) fn clear(&mut self) {
        self.lens = [0; LEVELS];
        self.last = None;
    }

    pub(super) fn page(&self) -> Option<&Page> {
        self.page.first()
    }

    fn len(&self, level: usize) -> usize {
        self.lens.get(level).copied().unwrap_or(0)
    }

    /// The entries that a level of inner nodes has room for.
    fn kids(&mut self, level: usize) -> Option<&mut [RawChild]> {
        self.kids.chunks_exact_mut(INNER_FULL).nth(level.checked_sub(1)?)
    }

    /// Adds a record.
    pub(super) fn push_record(&mut self, record: RawRecord) -> Result<(), Fault> {
        self.grow(record.group().first(), false)?;
        let len = self.len(0);
        *self.records.get_mut(len).ok_or(bug!())? = record;
        self.count(0)
    }

    /// Adds a child to the open node of a level.
    pub(super) fn push_kid(&mut self, level: usize, kid: RawChild) -> Result<(), Fault> {
        self.grow(kid.first(), true)?;
        self.add_kid(level, kid)
    }

    fn add_kid(&mut self, level: usize, kid: RawChild) -> Result<(), Fault> {
        let len = self.len(level);
        *self.kids(level).ok_or(bug!())?.get_mut(len).ok_or(bug!())? = kid;
        self.count(level)
    }

    fn count(&mut self, level: usize) -> Result<(), Fault> {
        let len = self.lens.get_mut(level).ok_or(bug!())?;
        *len = len.saturating_add(1);
        Ok(())
    }

    /// Old pages that contradict each other would break the order.
    fn grow(&mut self, key: Key, beyond: bool) -> Result<(), Fault> {
        if self.last.is_some_and(|last| key < last || (beyond && key == last)) {
            return Err(Fault::Corrupt);
        }
        self.last = Some(key);
        Ok(())
    }

    /// The highest level that has gathered so much that a page has to be cut from it: that page is
    /// a child of the level above, which so has room. (A leaf may have to be cut twice.)
    pub(super) fn overfull(&self) -> Option<usize> {
        let full =
            |(level, len): (usize, usize)| len >= if level == 0 { LEAF_FULL } else { INNER_FULL };
        self.lens.iter().copied().enumerate().rposition(full)
    }

    /// The lowest level whose node is not empty.
    pub(super) fn lowest(&self) -> Option<usize> {
        self.lens.iter().position(|len| *len != 0)
    }

    /// The child of an inner node that has no other.
    pub(super) fn only_kid(&mut self, level: usize) -> Option<RawChild> {
        let alone = self.len(level) == 1;
        self.kids(level)?.first().copied().filter(|_| alone)
    }

    /// Whether all of the tree hangs on the one child of the node of this level.
    pub(super) fn is_root(&self, level: usize) -> bool {
        let above = self.lens.iter().skip(level.saturating_add(1));
        level != 0 && self.len(level) == 1 && above.copied().all(|len| len == 0)
    }

    /// Whether all nodes up to the level `top` can be closed without one less than half full.
    pub(super) fn may_close(&self, top: usize) -> bool {
        let mut below = 0;
        for (level, len) in self.lens.iter().enumerate().take(top.saturating_add(1)) {
            let max = if level == 0 { LEAF_MAX } else { INNER_MAX };
            let len = len.saturating_add(below);
            if len != 0 && len < max / 2 {
                return false;
            }
            below = usize::from(len != 0).saturating_add(usize::from(len > max));
        }
        true
    }

    /// How many entries the next page of a level takes: as many as fit, or, when the node is being
    /// closed, all of them or about half. Groups are not torn.
    pub(super) fn cut(&self, level: usize, closing: bool) -> Result<usize, Fault> {
        let len = self.len(level);
        if level != 0 {
            let half = if closing { len.div_ceil(2) } else { INNER_MAX };
            return Ok(if closing && len <= INNER_MAX { len } else { half });
        }
        if len <= LEAF_MAX {
            return Ok(len);
        }
        let rest = len.saturating_sub(LEAF_MAX);
        if !closing {
            return self.seam(rest.min(LEAF_MAX / 2), LEAF_MAX).ok_or(bug!());
        }
        let half = len / 2;
        let (low, high) = (self.seam(rest, half), self.seam_up(half, LEAF_MAX));
        match (low, high) {
            (Some(low), Some(high)) => {
                let below = half.saturating_sub(low) < high.saturating_sub(half);
                Ok(if below { low } else { high })
            }
            _ => low.or(high).ok_or(bug!()),
        }
    }

    /// Whether a group ends before the record at `pos`.
    fn ends_at(&self, pos: usize) -> bool {
        let group = |at: usize| self.records.get(at).map(RawRecord::group);
        pos.checked_sub(1).and_then(group) != group(pos)
    }

    fn seam(&self, low: usize, high: usize) -> Option<usize> {
        (low..=high).rev().find(|pos| self.ends_at(*pos))
    }

    fn seam_up(&self, low: usize, high: usize) -> Option<usize> {
        (low..=high).find(|pos| self.ends_at(*pos))
    }

    /// Makes a page of the first `count` entries of a level, and a child of the level above of it.
    pub(super) fn emit(
        &mut self,
        p: &P,
        level: usize,
        count: usize,
        id: Identity,
    ) -> Result<(), Fault> {
        let len = self.len(level);
        let first = if level == 0 {
            self.emit_leaf(p, len, count, id)?
        } else {
            self.emit_inner(p, level, (len, count), id)?
        };
        *self.lens.get_mut(level).ok_or(bug!())? = len.checked_sub(count).ok_or(bug!())?;
        self.add_kid(level.saturating_add(1), RawChild::new(first, id.page))
    }

    fn emit_leaf(&mut self, p: &P, len: usize, count: usize, id: Identity) -> Result<Key, Fault> {
        let page = self.page.first_mut().ok_or(bug!())?;
        let entries = self.records.get(..count).ok_or(bug!())?;
        let first = entries.first().ok_or(bug!())?.group().first();
        if !write_leaf(p, page, id, entries) {
            return Err(bug!());
        }
        shift(&mut self.records, len, count);
        Ok(first)
    }

    fn emit_inner(
        &mut self,
        p: &P,
        level: usize,
        (len, count): (usize, usize),
        id: Identity,
    ) -> Result<Key, Fault> {
        let page = self.page.first_mut().ok_or(bug!())?;
        let above = level.checked_sub(1).ok_or(bug!())?;
        let kids = self.kids.chunks_exact_mut(INNER_FULL).nth(above).ok_or(bug!())?;
        let entries = kids.get(..count).ok_or(bug!())?;
        let first = entries.first().ok_or(bug!())?.first();
        let level = u8::try_from(level).map_err(|_| bug!())?;
        if !write_inner(p, page, id, level, entries) {
            return Err(bug!());
        }
        shift(kids, len, count);
        Ok(first)
    }
}
