// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What a restore forgoes when the save volume is full all the same.
//!
//! In this order: R, the snapshot of what was restored; the snapshot from before, with which it
//! could be undone; then, if the pool gives up its oldest snapshots, all that X's view does not
//! need. Each is durable before anything counts on it (I-15). When there is nothing left to give
//! up, a client's write to a chunk that is not settled waits without a claim on it, so that the
//! merge can settle the chunk; then the write goes in place, for which everybody who needs the old
//! data has it. A pool that stalls when it is full waits for room instead: it was told to.

use crate::control::rows::FLAG_HELD;
use crate::engine::{Core, Stage};
use crate::format::entity::{Entity, Restore};
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::{EntityId, Epoch};

impl<P: Platform> Core<P> {
    /// The restore under way.
    pub(crate) fn restore_now(&self) -> Option<Restore> {
        if !self.lifecycle.merge.is_active() {
            return None;
        }
        let id = self.vols.at(self.lifecycle.merge.vol).id;
        self.catalog.get(id).and_then(Entity::restoring).copied()
    }

    /// Whether production or the merge waits for slots.
    pub(crate) fn is_pressed(&self) -> bool {
        self.space.full || self.lifecycle.merge.is_starved()
    }

    /// The next of the restore's own snapshots to be given up.
    pub(crate) fn forgone(&self) -> Option<EntityId> {
        let restore = self.restore_now()?;
        let free = |id: &EntityId| {
            let living = |e: &Entity| e.is_living_snapshot() && !e.has(FLAG_HELD);
            self.catalog.get(*id).is_some_and(living)
                && self.catalog.dependants(*id).next().is_none()
        };
        [restore.r, restore.before].map(|id| EntityId(id.get())).into_iter().find(free)
    }

    /// The epoch of the newest living snapshot from before the restore; 0 for none.
    pub(crate) fn epoch_to_save(&self, restore: &Restore) -> Epoch {
        let map = self.vols.at(self.lifecycle.merge.vol).map;
        self.catalog.epoch_before(map, Epoch(restore.r_epoch.get())).unwrap_or_default()
    }

    /// A snapshot that has gone need not be spared, but only once that is durable (I-15); false if
    /// the task waits for it, and has to look again.
    pub(crate) fn are_gone_for_good(&mut self, t: u32) -> bool {
        let pos = self.lifecycle.removed;
        if pos <= self.commit.durable || self.mutant(Mutant::GiveUpNotDurable) {
            return true;
        }
        self.tasks.at_mut(t).stage = Stage::Step(2);
        self.wait_durable(t, pos);
        false
    }

    /// Whether R, or a snapshot taken since, reads what the restore found in X.
    pub(crate) fn is_r_read(&self, restore: &Restore) -> bool {
        let map = self.vols.at(self.lifecycle.merge.vol).map;
        self.catalog.next_epoch_at_or_after(map, Epoch(restore.r_epoch.get())).is_some()
    }

    /// A write to unsettled chunks finds no slots: it begins again when there are, or when the
    /// merge has settled something.
    pub(crate) fn wait_for_settling(&mut self, t: u32) {
        let need = u64::from(self.tasks.at(t).fresh_need.count_ones());
        self.let_go(t);
        self.wait_for_room(t);
        self.save_full(need);
        self.wake_plan();
    }

    /// A word is settled: writes that wait for slots may find that they need none.
    pub(crate) fn wake_unsettled(&mut self) {
        if self.space.full {
            let mut waiters = core::mem::take(&mut self.room_waiters);
            self.wake_all(&mut waiters);
        }
    }

    /// A word's merge finds no slots: it lets go of everything, and the merge waits until there are
    /// so many. Requests go on meanwhile.
    pub(crate) fn starve_merge(&mut self, t: u32, need: u64) {
        self.lifecycle.merge.starved = self.lifecycle.merge.starved.max(need);
        self.end_word(t, true);
    }

    /// Looks whether a merge that waits for slots can go on, else how to get some.
    pub(crate) fn feed_merge(&mut self) {
        let need = self.lifecycle.merge.starved;
        if need == 0 || !self.lifecycle.merge.active {
            return;
        }
        if self.slots.available_to(self.space.restoring) >= need {
            self.lifecycle.merge.starved = 0;
            return self.wake_plan();
        }
        self.ask_for_space();
    }
}
