// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Slots that are promised to somebody: to clones with a reservation, and to a restore.
//!
//! A clone is promised what its reservation has beyond what it uses. A slot that it takes comes out
//! of its promise; one that it gives back returns to it, at once if there are free slots, else with
//! the checkpoint that makes it free. What is promised nobody else gets; only metadata for a
//! checkpoint may break a promise, because without it nothing could ever be freed again.

use crate::engine::Core;
use crate::platform::Platform;
use crate::units::{MapId, Slot};

/// Maps whose volumes are remembered: a power of two.
pub(crate) const HINTS: u32 = 1024;

impl<P: Platform> Core<P> {
    /// Slots that a reservation of so many bytes asks for.
    pub(crate) fn slots_for(&self, bytes: u64) -> u64 {
        self.geometry.chunks_for(bytes)
    }

    /// Slots that the volume is still to be promised to have `reservation` slots in all.
    pub(crate) fn lacks(&self, v: u32, reservation: u64) -> u64 {
        let vol = self.vols.at(v);
        reservation.saturating_sub(vol.used).saturating_sub(vol.promised)
    }

    /// Brings the volume's promise to what its reservation asks for, as far as slots are free.
    pub(crate) fn keep_promise(&mut self, v: u32) {
        let vol = self.vols.at(v);
        let (want, have) = (vol.reservation.saturating_sub(vol.used), vol.promised);
        let now = if have > want {
            self.slots.unreserve(have.saturating_sub(want));
            want
        } else {
            let more = want.saturating_sub(have).min(self.slots.available_to(0));
            if more == 0 || !self.slots.reserve(more) {
                return;
            }
            have.saturating_add(more)
        };
        self.vols.at_mut(v).promised = now;
    }

    /// As `keep_promise`, for all volumes: slots have become free.
    pub(crate) fn keep_promises(&mut self) {
        for v in 0..self.vols.top() {
            if self.vols.at(v).reservation != 0 {
                self.keep_promise(v);
            }
        }
    }

    /// Metadata took slots that were promised: as much is promised anew as is left.
    pub(crate) fn promise_anew(&mut self) {
        let all = self.slots.reserved();
        self.slots.unreserve(all);
        self.space.restoring = 0;
        for v in 0..self.vols.top() {
            if self.vols.at(v).promised != 0 {
                self.vols.at_mut(v).promised = 0;
            }
        }
        self.keep_promises();
    }

    /// The volume is gone: so is what was promised to it.
    pub(crate) fn drop_promise(&mut self, v: u32) {
        let vol = self.vols.at_mut(v);
        let promised = core::mem::take(&mut vol.promised);
        vol.reservation = 0;
        self.slots.unreserve(promised);
    }

    /// Takes adjacent slots for new data of a volume, up to `want`, and counts them as its own.
    pub(crate) fn take_slots_for(&mut self, v: u32, want: u32) -> Option<(Slot, u32)> {
        let own = self.vols.at(v).promised;
        let run = self.slots.alloc_run(want, own)?;
        let (taken, vol) = (u64::from(run.len), self.vols.at_mut(v));
        vol.promised = own.saturating_sub(taken);
        vol.used = vol.used.saturating_add(taken);
        Some((run.first, run.len))
    }

    /// Takes adjacent slots for a restore, first those that are promised to it.
    pub(crate) fn take_slots_to_restore(&mut self, want: u32) -> Option<(Slot, u32)> {
        let own = self.space.restoring;
        let run = self.slots.alloc_run(want, own)?;
        self.space.restoring = own.saturating_sub(u64::from(run.len));
        Some((run.first, run.len))
    }

    /// Adds to the count of slots that a map uses, of a volume or of what a restore writes.
    pub(crate) fn count_used(&mut self, map: MapId, slots: i64) {
        let Some(v) = self.vol_that_uses(map) else { return };
        let vol = self.vols.at_mut(v);
        vol.used = vol.used.saturating_add_signed(slots);
        if vol.reservation != 0 {
            self.keep_promise(v);
        }
    }

    /// The volume whose records a map has. Asked for with each copy: where it was found last is
    /// remembered, because there may be thousands.
    fn vol_that_uses(&mut self, map: MapId) -> Option<u32> {
        let uses = |core: &Self, v: u32| {
            let vol = core.vols.at(v);
            vol.live && (vol.map == map || vol.redirect == Some(map))
        };
        let hint = usize::try_from(map.0 & (HINTS - 1)).unwrap_or(0);
        if let Some(v) = self.lifecycle.users.get(hint).copied().filter(|&v| uses(self, v)) {
            return Some(v);
        }
        let found = (0..self.vols.top()).find(|&v| uses(self, v))?;
        if let Some(place) = self.lifecycle.users.get_mut(hint) {
            *place = found;
        }
        Some(found)
    }
}
