// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Taking snapshots, one or several at one moment.

use crate::control::{Name, Refusal, NAME_MAX};
use crate::engine::{Core, Stage};
use crate::fault::Fault;
use crate::format::entity::{Entity, Kind};
use crate::lifecycle::command::Whose;
use crate::lifecycle::moment::MOMENT;
use crate::platform::Platform;
use crate::units::{EntityId, Epoch};

impl<P: Platform> Core<P> {
    /// Runs the command `Snapshot`.
    pub(crate) fn run_snapshot(&mut self, t: u32) {
        if !self.take_moment(t) {
            return;
        }
        if self.tasks.at(t).stage == Stage::Begin {
            self.check_snapshots(t);
            if self.refuse_blamed(t) {
                return;
            }
            for n in 0..self.items(t) {
                if let Some(v) = self.item(t, n).and_then(|i| self.vol_named(i.name.split().0)) {
                    self.hold(v);
                }
            }
            self.tasks.at_mut(t).stage = Stage::Step(MOMENT);
        }
        if !self.at_moment(t) {
            return;
        }
        let n = u32::try_from(self.items(t)).unwrap_or(64);
        if !self.may_add(t, n.saturating_mul(2).saturating_add(1)) {
            return;
        }
        match self.record_snapshots(t) {
            Ok(()) => self.when_logged(t),
            Err(fault) => self.fence_command(t, fault),
        }
    }

    /// Blames all that cannot be taken.
    #[inline(never)]
    fn check_snapshots(&mut self, t: u32) {
        let count = self.items(t);
        if count == 0 {
            self.blame(t, Refusal::Malformed, Whose::Nobody);
        }
        if self.catalog.reserve(&self.platform, count.saturating_add(8)).is_err() {
            self.blame(t, Refusal::NoMemory, Whose::Nobody);
        }
        for n in 0..count {
            if let Err(why) = self.check_snapshot(t, n) {
                self.blame(t, why, Whose::Item(n));
            }
        }
    }

    fn check_snapshot(&self, t: u32, n: usize) -> Result<(), Refusal> {
        let name = self.item_name(t, n);
        let (volume, Some(part)) = name.split() else { return Err(Refusal::BadName) };
        if !Name::part_is_valid(part) {
            return Err(Refusal::BadName);
        }
        let v = self.vol_named(volume).ok_or(Refusal::NotFound)?;
        if !self.is_online(v) {
            return Err(Refusal::Offline);
        }
        let twice = (0..n).any(|m| self.item(t, m).is_some_and(|i| i.name == *name));
        let same = (0..n).any(|m| self.item(t, m).is_some_and(|i| i.name.split().0 == volume));
        if twice || same || self.named(name).is_some() {
            return Err(Refusal::Exists);
        }
        Ok(())
    }

    /// The volumes are still and flushed: one group of records takes all snapshots.
    #[inline(never)]
    fn record_snapshots(&mut self, t: u32) -> Result<(), Fault> {
        let epoch = self.next_epoch();
        let count = self.items(t);
        let group = if count > 1 { u64::from(epoch.0) } else { 0 };
        self.begin_group(count.saturating_mul(2))?;
        for n in 0..count {
            let name = *self.item_name(t, n);
            let v = self.vol_named(name.split().0).ok_or(crate::bug!())?;
            let seed = u32::try_from(n).unwrap_or(0);
            self.draft_snapshot(t, v, &name, epoch, seed);
            self.lifecycle.draft.group = group.into();
            self.put_draft()?;
            self.bump_write_epoch(v, epoch)?;
        }
        self.end_group()?;
        for n in 0..count {
            let v = self.item(t, n).and_then(|i| self.vol_named(i.name.split().0));
            if let Some(v) = v {
                self.refresh_volume(v);
            }
        }
        Ok(())
    }

    /// Fills the draft with a snapshot of volume `v`.
    pub(crate) fn draft_snapshot(&mut self, t: u32, v: u32, name: &Name, epoch: Epoch, seed: u32) {
        let vol = self.vols.at(v);
        let (owner, map, size) = (vol.id, vol.map, vol.size);
        let base = self.catalog.get(owner).map_or(0, |e| e.base.get());
        self.begin_draft(t, Kind::Snapshot, name, seed);
        let draft = &mut self.lifecycle.draft;
        draft.owner = owner.0.into();
        draft.map = map.0.into();
        draft.epoch = epoch.0.into();
        draft.size = size.into();
        draft.base = base.into();
    }

    /// Clears the draft for a new entity: its number, name, UUID and time are set.
    pub(crate) fn begin_draft(&mut self, t: u32, kind: Kind, name: &Name, seed: u32) {
        let id = self.next_entity();
        let (time, random) = match self.input(t) {
            Some(command) => (command.time_ns.get(), command.random),
            None => (self.now_ns, [0; 16]),
        };
        let a = self.platform.hash(u64::from(id.0), &random).to_le_bytes();
        let b = self.platform.hash(u64::from(id.0) << 32 | u64::from(seed), &a).to_le_bytes();
        let draft = &mut self.lifecycle.draft;
        **draft = Entity::ZERO;
        draft.id = id.0.into();
        draft.kind = kind as u8;
        draft.name = *name;
        draft.created_ns = time.into();
        for (to, from) in draft.uuid.iter_mut().zip(a.iter().chain(&b)) {
            *to = *from;
        }
        // RFC 9562: version 8 (made by a rule of our own), variant 1.
        let [_, _, _, _, _, _, six, _, eight, ..] = &mut draft.uuid;
        *six = (*six & 0x0F) | 0x80;
        *eight = (*eight & 0x3F) | 0x80;
    }

    /// Changes an entity, and logs it as it is then.
    pub(crate) fn change(
        &mut self,
        id: EntityId,
        f: impl FnOnce(&mut Entity),
    ) -> Result<(), Fault> {
        *self.lifecycle.edit = *self.catalog.get(id).ok_or(crate::bug!())?;
        f(&mut self.lifecycle.edit);
        self.put_edit()
    }

    /// From here on, what a clone (or a restoring production) writes belongs to the time after the
    /// snapshot of `epoch`.
    pub(crate) fn bump_write_epoch(&mut self, v: u32, epoch: Epoch) -> Result<(), Fault> {
        let vol = self.vols.at(v);
        let (id, clone) = (vol.id, vol.clone);
        if clone {
            self.change(id, |e| e.epoch = epoch.next().0.into())?;
        }
        Ok(())
    }

    /// A fault after the catalogue began to change: nobody knows what is on the disk.
    pub(crate) fn fence_command(&mut self, t: u32, fault: Fault) {
        self.fence(fault);
        self.abort_command(t, fault);
    }

    /// `VOL@PART`, if it fits.
    pub(crate) fn snapshot_name(volume: &[u8], part: &[u8]) -> Option<Name> {
        let mut name = Name::default();
        Self::put_snapshot_name(&mut name, volume, part)?;
        Some(name)
    }

    /// Makes the name `VOL@PART`, if it fits; else it is left as it was.
    pub(crate) fn put_snapshot_name(name: &mut Name, volume: &[u8], part: &[u8]) -> Option<()> {
        let len = volume.len().saturating_add(part.len()).saturating_add(1);
        if len > NAME_MAX {
            return None;
        }
        let bytes = volume.iter().chain(b"@").chain(part);
        for (to, from) in name.0.iter_mut().zip(bytes.chain(core::iter::repeat(&0))) {
            *to = *from;
        }
        Some(())
    }
}
