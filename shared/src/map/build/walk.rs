// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The way through the old tree: what the delta touches is entered and merged, the rest attached.

use super::{mapped, Builder, Input, PageAlloc, Phase, Progress, Subtree, NO_INPUT};
use crate::bug;
use crate::fault::Fault;
use crate::format::node::RawChild;
use crate::format::record::{GroupKey, Key, RawRecord};
use crate::map::delta::Delta;
use crate::map::group::GROUP_MAX;
use crate::map::layers::Layers;
use crate::map::tree::open;
use crate::map::Miss;
use crate::platform::Platform;
use crate::units::PageNo;

impl<P: Platform> Builder<P> {
    /// Enters the old root, if there is anything to do.
    pub(super) fn begin(
        &mut self,
        layers: &mut Layers<P>,
        alloc: &mut impl PageAlloc,
    ) -> Result<Progress, Miss> {
        match (self.next, self.old) {
            (None, old) => {
                self.phase = Phase::Idle;
                return Ok(Progress::Done(old));
            }
            (_, None) => self.push(NO_INPUT)?,
            (_, Some(root)) => {
                let level = root.height.checked_sub(1).ok_or(Fault::Corrupt)?;
                self.enter(layers, alloc, root.page, level, None)?;
            }
        }
        self.phase = Phase::Walk;
        Ok(Progress::More)
    }

    /// Looks at the next entry of the open page of the old tree.
    pub(super) fn walk(
        &mut self,
        layers: &mut Layers<P>,
        alloc: &mut impl PageAlloc,
    ) -> Result<(), Miss> {
        let Some(top) = self.depth.checked_sub(1) else {
            self.phase = Phase::Finish;
            return Ok(());
        };
        let input = *self.path.get(top).ok_or(bug!())?;
        let passed = if input.level == 0 {
            self.walk_leaf(layers, input)?
        } else {
            self.walk_inner(layers, input, alloc)?
        };
        match passed {
            None => self.depth = top,
            Some(n) => {
                let input = self.path.get_mut(top).ok_or(bug!())?;
                input.pos = input.pos.saturating_add(n);
            }
        }
        Ok(())
    }

    /// Enters or attaches the next child; `None` if there is no other.
    fn walk_inner(
        &mut self,
        layers: &mut Layers<P>,
        input: Input,
        alloc: &mut impl PageAlloc,
    ) -> Result<Option<usize>, Miss> {
        let page = input.page.ok_or(bug!())?;
        let node = open(&mut layers.cache, page, input.level, self.old_generation())?;
        let kids = node.kids().ok_or(Fault::Corrupt)?;
        let Some(kid) = kids.get(input.pos).copied() else { return Ok(None) };
        let next = kids.get(input.pos.saturating_add(1));
        let high = next.map(RawChild::first).or(input.high);
        let level = input.level.checked_sub(1).ok_or(bug!())?;
        if self.touches(high).is_some() || !self.output.may_close(usize::from(level)) {
            self.enter(layers, alloc, kid.page(), level, high)?;
        } else {
            self.attach = Some(Subtree { level, kid });
        }
        Ok(Some(1))
    }

    /// Merges the next group; `None` if there is no other. Gives how many old records it took.
    fn walk_leaf(&mut self, layers: &mut Layers<P>, input: Input) -> Result<Option<usize>, Miss> {
        let generation = self.old_generation();
        let records = match input.page {
            None => &[],
            Some(page) => {
                open(&mut layers.cache, page, 0, generation)?.records().ok_or(Fault::Corrupt)?
            }
        };
        let rest = records.get(input.pos..).unwrap_or_default();
        let fresh = self.touches(input.high);
        let old = rest.first().map(RawRecord::group);
        let Some(group) = old.into_iter().chain(fresh).min() else { return Ok(None) };
        let len = rest.iter().take_while(|raw| raw.group() == group).count();
        let run = rest.get(..len).filter(|run| run.len() <= GROUP_MAX).ok_or(Fault::Corrupt)?;
        if fresh == Some(group) {
            self.merge(&layers.frozen, group, run)?;
        } else {
            for raw in run {
                self.output.push_record(*raw)?;
            }
        }
        Ok(Some(len))
    }

    /// Merges the old records of a group with what the delta has.
    fn merge(
        &mut self,
        frozen: &Delta<P>,
        group: GroupKey,
        old: &[RawRecord],
    ) -> Result<(), Fault> {
        let [merged, patch, ..] = &mut *self.scratch else { return Err(bug!()) };
        merged.clear();
        patch.clear();
        frozen.group(group, patch)?;
        let hidden = patch.mask();
        for raw in old {
            for piece in raw.get().ok_or(Fault::Corrupt)?.only(!hidden) {
                merged.push(piece)?;
            }
        }
        for record in patch.records().iter().filter(|record| record.kind.in_tree()) {
            merged.push(*record)?;
        }
        merged.coalesce();
        for record in merged.records() {
            self.output.push_record(RawRecord::new(record))?;
        }
        let count = |n: usize| u64::try_from(n).unwrap_or(0);
        let records = self.records.saturating_add(count(merged.records().len()));
        self.records = records.saturating_sub(count(old.len()));
        self.next = match group.after() {
            Some(after) => mapped(frozen.next_group(after)?),
            None => None,
        };
        Ok(())
    }

    /// The next group of the delta, if it comes before `high`.
    fn touches(&self, high: Option<Key>) -> Option<GroupKey> {
        self.next.filter(|next| high.is_none_or(|high| next.first() < high))
    }

    fn old_generation(&self) -> u64 {
        self.old.map_or(0, |root| root.generation)
    }

    /// Opens a page of the old tree, which the new one will not have.
    fn enter(
        &mut self,
        layers: &mut Layers<P>,
        alloc: &mut impl PageAlloc,
        page: PageNo,
        level: u8,
        high: Option<Key>,
    ) -> Result<(), Miss> {
        open(&mut layers.cache, page, level, self.old_generation())?;
        self.push(Input { page: Some(page), level, pos: 0, high })?;
        self.pages = self.pages.saturating_sub(1);
        alloc.free(page);
        Ok(())
    }

    fn push(&mut self, input: Input) -> Result<(), Fault> {
        *self.path.get_mut(self.depth).ok_or(Fault::Corrupt)? = input;
        self.depth = self.depth.saturating_add(1);
        Ok(())
    }
}
