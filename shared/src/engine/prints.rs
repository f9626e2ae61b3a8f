// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Fingerprints: what productions looked like when rwsnap had them last (I-45).
//!
//! An orderly close notes them, and each holds until its production is first written to. Before
//! that write goes in place, a durable record says that the fingerprint is void. Until then a crash
//! leaves it valid, be the production online, missing or changed. Reads go straight through
//! meanwhile; only writes come to the core, since no bit is set yet.

use crate::control::Refusal;
use crate::engine::slab::NONE;
use crate::engine::Core;
use crate::fault::Fault;
use crate::format::entity::{Entity, FLAG_FINGERPRINT};
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::{Dev, EntityId, LogPos};

/// What the catalogue says of a production's looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Print {
    /// Nothing: it may be written.
    Void,
    /// Its fingerprint.
    Valid,
    /// Nothing any more, once the log is durable up to here.
    Ends(LogPos),
}

/// What a production looked like when rwsnap had it last, if that is known.
pub(crate) fn known_fingerprint(entity: &Entity) -> Option<u64> {
    entity.has(FLAG_FINGERPRINT).then_some(entity.fingerprint.get())
}

impl<P: Platform> Core<P> {
    /// What a production looks like now that it is closed in order; before `close`.
    pub fn set_fingerprint(&mut self, dev: Dev, fingerprint: u64) {
        let Some(v) = self.vol_by_dev(dev) else { return };
        // The merge of a restore may still be writing: what is seen now is not what will be there.
        if self.vols.at(v).redirect.is_none() {
            self.vols.at_mut(v).seen = Some(fingerprint);
        }
    }

    /// The checkpoint that closes the pool notes what productions look like. It flushes them before
    /// it counts itself: what was seen is what will be there.
    pub(crate) fn note_fingerprints(&mut self) -> Result<(), Fault> {
        for v in 0..self.vols.top() {
            let vol = self.vols.at(v);
            let Some(seen) = vol.seen.filter(|_| vol.live) else { continue };
            *self.lifecycle.edit = *self.catalog.get(vol.id).ok_or(crate::bug!())?;
            self.lifecycle.edit.set_flags(FLAG_FINGERPRINT, true);
            self.lifecycle.edit.fingerprint = seen.into();
            self.catalog.put(&self.lifecycle.edit)?;
        }
        Ok(())
    }

    /// A production that was changed is used all the same: from now on it looks like this. The
    /// catalogue says so with the next checkpoint; after a crash before it, it is refused again.
    pub(crate) fn believe_fingerprint(&mut self, id: EntityId, now: u64) -> Result<(), Refusal> {
        *self.lifecycle.edit = *self.catalog.get(id).ok_or(Refusal::NotFound)?;
        self.lifecycle.edit.fingerprint = now.into();
        self.catalog.put(&self.lifecycle.edit).map_err(|_| Refusal::NoMemory)?;
        self.want_checkpoint();
        Ok(())
    }

    /// Background work begins. Those that are offline still have to look as they did: there is
    /// nothing to be done, but for the bug that is planted here.
    pub(crate) fn start_fingerprints(&mut self) {
        if !self.mutant(Mutant::ForgetOffline) {
            return;
        }
        for v in 0..self.vols.top() {
            let vol = self.vols.at(v);
            let away = vol.live && !vol.clone && vol.fast.is_none();
            let Some(entity) = self.catalog.get(vol.id).filter(|_| away) else { continue };
            *self.lifecycle.edit = *entity;
            self.lifecycle.edit.set_flags(FLAG_FINGERPRINT, false);
            let _ = self.catalog.put(&self.lifecycle.edit);
        }
    }

    /// Whether a write has to wait, or fails, because its volume's fingerprint is not void yet.
    #[inline(never)]
    pub(crate) fn waits_for_print(&mut self, t: u32) -> bool {
        let v = self.vol_of(t);
        if v == NONE || self.vols.at(v).print == Print::Void {
            return false;
        }
        if self.fenced.is_some() {
            self.fail_task(t, Fault::Fenced);
            return true;
        }
        if self.vols.at(v).print == Print::Valid {
            if !self.log_has_room_for_entities(1) {
                self.wait_for_room(t);
                return true;
            }
            let id = self.vols.at(v).id;
            if let Err(fault) = self.change(id, |e| e.set_flags(FLAG_FINGERPRINT, false)) {
                self.fence(fault);
                self.fail_task(t, Fault::Fenced);
                return true;
            }
            self.vols.at_mut(v).print = Print::Ends(self.log.last());
            if self.mutant(Mutant::PrintNotVoid) {
                self.print_is_void(v);
                return false;
            }
        }
        self.lowering = true;
        self.commit.wanted = true;
        self.wait_for_volume(t, v);
        true
    }

    /// Goes on with those that wait for a volume, if its fingerprint is void now, or never will be.
    pub(crate) fn look_at_print(&mut self, v: u32) {
        let Print::Ends(pos) = self.vols.at(v).print else { return };
        if self.fenced.is_some() {
            let mut held = core::mem::take(&mut self.vols.at_mut(v).held);
            self.wake_all(&mut held);
        } else if pos <= self.commit.durable {
            self.print_is_void(v);
        } else {
            self.lowering = true;
            self.commit.wanted = true;
        }
    }

    fn print_is_void(&mut self, v: u32) {
        self.vols.at_mut(v).print = Print::Void;
        self.set_mode(v);
        let mut held = core::mem::take(&mut self.vols.at_mut(v).held);
        self.wake_all(&mut held);
    }
}
