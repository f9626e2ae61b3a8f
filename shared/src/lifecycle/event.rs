// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Events: what a person, or a program that watches, should be told.

use crate::control::{EventRow, Name};
use crate::engine::{Core, NONE};
use crate::fault::Fault;
use crate::platform::Platform;
use crate::units::{Epoch, MapId};

/// Few slots are left.
pub(crate) const LOW_WATER: u32 = 1;
/// The save volume is full.
pub(crate) const FULL: u32 = 2;
/// It has grown.
pub(crate) const GROWN: u32 = 3;
/// A snapshot was given up.
pub(crate) const GIVEN_UP: u32 = 4;
/// The pool is fenced.
pub(crate) const FENCED: u32 = 5;
/// Old data could not be read when it had to be copied.
pub(crate) const DAMAGED: u32 = 6;
/// A restore is complete.
pub(crate) const RESTORED: u32 = 7;

impl<P: Platform> Core<P> {
    /// Notes an event.
    pub(crate) fn event(&mut self, kind: u32, detail: u32, name: &Name, value: u64) {
        let number = self.lifecycle.event_count.saturating_add(1);
        self.lifecycle.event_count = number;
        let len = u64::try_from(self.lifecycle.events.len()).unwrap_or(1);
        let at = number.checked_rem(len).and_then(|at| usize::try_from(at).ok()).unwrap_or(0);
        if let Some(row) = self.lifecycle.events.get_mut(at) {
            *row = EventRow {
                number: number.into(),
                time_ns: self.now_ns.into(),
                kind: kind.into(),
                detail: detail.into(),
                name: *name,
                value: value.into(),
                ..EventRow::default()
            };
        }
    }

    pub(crate) fn event_fenced(&mut self, fault: Fault) {
        let detail = match fault {
            Fault::Bug(line) => line,
            _ => 0,
        };
        self.event(FENCED, detail, &Name::default(), fault_number(fault));
    }

    /// Old data of the snapshot at `epoch` is lost: it says so from here on.
    pub(crate) fn note_damage(&mut self, map: MapId, epoch: Epoch) {
        let Some(snapshot) = self.catalog.snapshot_at(map, epoch) else { return };
        let (id, name) = (snapshot.id(), snapshot.name);
        if snapshot.has(crate::control::rows::FLAG_DAMAGED) {
            return;
        }
        self.event(DAMAGED, 0, &name, 0);
        self.lifecycle.damaged = id;
    }

    /// Background work that may begin.
    #[inline(never)]
    pub(crate) fn run_lifecycle(&mut self) {
        if !self.started || self.fenced.is_some() {
            return;
        }
        self.look_at_water();
        self.look_at_deferred();
        self.start_sweep();
        self.start_merge();
        let id = core::mem::take(&mut self.lifecycle.damaged);
        if id.0 != 0 && self.catalog.get(id).is_some() {
            let flagged =
                self.change(id, |e| e.set_flags(crate::control::rows::FLAG_DAMAGED, true));
            if let Err(fault) = flagged {
                self.fence(fault);
            }
        }
    }

    /// The clock has moved.
    pub(crate) fn tick_lifecycle(&mut self) {
        self.tick_merge();
        self.tick_count();
        self.tick_water();
        self.tick_note();
        if self.lifecycle.moment != NONE && self.lifecycle.draining != 0 {
            self.look_at_drains();
        }
    }
}

/// A fault as a number, for rows.
pub(crate) fn fault_number(fault: Fault) -> u64 {
    match fault {
        Fault::Io => 1,
        Fault::NoSpace => 2,
        Fault::NoMemory => 3,
        Fault::Range => 4,
        Fault::ReadOnly => 5,
        Fault::Lost => 6,
        Fault::Fenced => 7,
        Fault::Corrupt => 8,
        Fault::Bug(_) => 9,
    }
}
