// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Making a clone of a snapshot: a fresh map on it, nothing else.

use crate::control::{Name, Refusal};
use crate::engine::{Core, LEVELS};
use crate::fault::Fault;
use crate::format::entity::{Entity, Kind};
use crate::platform::Platform;
use crate::units::EntityId;

impl<P: Platform> Core<P> {
    /// Runs the command `Clone`.
    pub(crate) fn run_clone(&mut self, t: u32) {
        let Some((name, other)) = self.input(t).map(|c| (c.name, c.other)) else {
            return self.refuse(t, Refusal::Malformed);
        };
        self.check_clone(t, &name, &other);
        if self.refuse_blamed(t) {
            return;
        }
        if !self.may_add(t, 3) {
            return;
        }
        match self.record_clone(t, &name, &other) {
            Ok(()) => self.when_logged(t),
            Err(fault) => self.fence_command(t, fault),
        }
    }

    /// Blames all that is in the way of a clone.
    fn check_clone(&mut self, t: u32, name: &Name, other: &Name) {
        let base = self.check_base(name);
        self.blame_if(t, base);
        let fresh = self.check_new_name(other);
        self.blame_if(t, fresh);
        if self.catalog.reserve(&self.platform, 8).is_err() {
            self.blame(t, Refusal::NoMemory, other);
        }
        if self.vols.left() == 0 {
            self.blame(t, Refusal::TableFull, other);
        }
    }

    /// Whether a clone can stand on what bears this name.
    pub(crate) fn check_base(&self, name: &Name) -> Result<(), (Refusal, Name)> {
        let Some(snapshot) = self.named(name) else { return Err((Refusal::NotFound, *name)) };
        if snapshot.kind() != Some(Kind::Snapshot) {
            return Err((Refusal::WrongKind, *name));
        }
        if !snapshot.is_living_snapshot() {
            return Err((Refusal::Lost, *name));
        }
        if self.depth_of(snapshot.id()) >= LEVELS.saturating_sub(4) {
            return Err((Refusal::TooDeep, *name));
        }
        Ok(())
    }

    /// Whether a volume may get this name.
    pub(crate) fn check_new_name(&self, name: &Name) -> Result<(), (Refusal, Name)> {
        if !Name::part_is_valid(name.bytes()) {
            return Err((Refusal::BadName, *name));
        }
        if self.named(name).is_some() {
            return Err((Refusal::Exists, *name));
        }
        Ok(())
    }

    fn record_clone(&mut self, t: u32, name: &Name, other: &Name) -> Result<(), Fault> {
        let base = self.id_of(name).ok_or(crate::bug!())?;
        self.begin_group(2)?;
        self.begin_draft(t, Kind::Clone, other, 1);
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
