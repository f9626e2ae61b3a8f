// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Making a clone of a snapshot: a fresh map on it, nothing else.

use crate::control::{Name, Refusal};
use crate::engine::{Core, LEVELS};
use crate::fault::Fault;
use crate::format::entity::{Entity, Kind};
use crate::lifecycle::command::Whose;
use crate::platform::Platform;
use crate::units::EntityId;

impl<P: Platform> Core<P> {
    /// Runs the command `Clone`.
    pub(crate) fn run_clone(&mut self, t: u32) {
        self.check_clone(t);
        if self.refuse_blamed(t) || !self.may_add(t, 3) {
            return;
        }
        match self.record_clone(t) {
            Ok(()) => self.when_logged(t),
            Err(fault) => self.fence_command(t, fault),
        }
    }

    /// Blames all that is in the way of a clone.
    fn check_clone(&mut self, t: u32) {
        let base = self.check_base(self.name(t));
        self.blame_if(t, base.map_err(|why| (why, Whose::Name)));
        let fresh = self.check_new_name(self.other(t));
        self.blame_if(t, fresh.map_err(|why| (why, Whose::Other)));
        if self.catalog.reserve(&self.platform, 8).is_err() {
            self.blame(t, Refusal::NoMemory, Whose::Other);
        }
        if self.vols.left() == 0 {
            self.blame(t, Refusal::TableFull, Whose::Other);
        }
    }

    /// Whether a clone can stand on what bears this name.
    pub(crate) fn check_base(&self, name: &Name) -> Result<(), Refusal> {
        let Some(snapshot) = self.named(name) else { return Err(Refusal::NotFound) };
        if snapshot.kind() != Some(Kind::Snapshot) {
            return Err(Refusal::WrongKind);
        }
        if !snapshot.is_living_snapshot() {
            return Err(Refusal::Lost);
        }
        if self.depth_of(snapshot.id()) >= LEVELS.saturating_sub(4) {
            return Err(Refusal::TooDeep);
        }
        Ok(())
    }

    /// Whether a volume may get this name.
    pub(crate) fn check_new_name(&self, name: &Name) -> Result<(), Refusal> {
        if !Name::part_is_valid(name.bytes()) {
            return Err(Refusal::BadName);
        }
        if self.named(name).is_some() {
            return Err(Refusal::Exists);
        }
        Ok(())
    }

    #[inline(never)]
    fn record_clone(&mut self, t: u32) -> Result<(), Fault> {
        let base = self.id_of(self.name(t)).ok_or(crate::bug!())?;
        let name = *self.other(t);
        self.begin_group(2)?;
        self.begin_draft(t, Kind::Clone, &name, 1);
        self.fill_clone_draft(base)?;
        let id = self.put_draft()?;
        self.end_group()?;
        self.add_volume(id)
    }

    /// Makes the draft a clone of the snapshot `base`, with a map of its own.
    pub(crate) fn fill_clone_draft(&mut self, base: EntityId) -> Result<(), Fault> {
        let size = self.catalog.get(base).map(|s| s.size.get()).ok_or(crate::bug!())?;
        let map = self.next_map();
        let epoch = self.epoch().next();
        let draft = &mut self.lifecycle.draft;
        draft.map = map.0.into();
        draft.base = base.0.into();
        draft.epoch = epoch.0.into();
        draft.size = size.into();
        Ok(())
    }

    /// How many clones lie between a snapshot and production.
    pub(crate) fn depth_of(&self, snapshot: EntityId) -> usize {
        let mut depth = 0usize;
        let mut at = Some(snapshot);
        while let Some(id) = at {
            at = self.catalog.get(id).and_then(Entity::base);
            depth = depth.saturating_add(1);
            if depth > LEVELS {
                break;
            }
        }
        depth
    }
}
