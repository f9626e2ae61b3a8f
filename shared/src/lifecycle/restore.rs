// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Restoring a production from a snapshot or clone, and taking that back.
//!
//! From one record on, the production is a clone of X: what is written goes to a fresh map M, what
//! is read comes from M or X, and the merge (`merge.rs`) brings it home. X is always a snapshot: of
//! a clone, a hidden one of that moment. R is the snapshot of what X holds now.

use crate::control::rows::{FLAG_DAMAGED, FLAG_HIDDEN};
use crate::control::{Name, Refusal, FLAG_FORCE, FLAG_NO_UNDO, FLAG_OLD_FIRST};
use crate::engine::prints::Print;
use crate::engine::{Core, Stage, NONE};
use crate::fault::Fault;
use crate::format::entity::{Entity, Kind, Restore, FLAG_BEFORE_RESTORE, FLAG_FINGERPRINT};
use crate::lifecycle::command::{Blamed, Whose};
use crate::lifecycle::event::RESTORED;
use crate::lifecycle::moment::MOMENT;
use crate::platform::Platform;
use crate::units::{EntityId, Epoch, MapId};

impl<P: Platform> Core<P> {
    /// Runs the command `Restore`.
    pub(crate) fn run_restore(&mut self, t: u32) {
        if self.tasks.at(t).stage == Stage::Begin {
            let Some(lacks) = self.restore_lacks(t) else { return };
            if !self.take_moment(t) {
                return;
            }
            self.check_restore(t);
            if lacks != 0 {
                self.blame(t, Refusal::NoSpace, Whose::Name);
            }
            let c = self.tasks.at(t).aux;
            if let Some(why) = self.lifecycle.slots.at(c).blamed {
                return self.answer(t, why, u64::MAX, lacks << self.geometry.shift());
            }
            if let Some(v) = self.vol_named(self.name(t).bytes()) {
                self.cut_off_writers(v);
                self.hold(v);
            }
            if let Some(v) = self.vol_named(self.other(t).bytes()) {
                self.hold(v);
            }
            self.tasks.at_mut(t).stage = Stage::Step(MOMENT);
        }
        if !self.at_moment(t) || !self.may_add(t, 10) {
            return;
        }
        match self.record_restore(t) {
            Ok(()) => self.when_logged(t),
            Err(fault) => self.fence_command(t, fault),
        }
    }

    /// Blames all that is in the way of the restore.
    #[inline(never)]
    fn check_restore(&mut self, t: u32) {
        let source = self.check_source(t);
        let production = self.check_production(t);
        let both = match (&production, &source) {
            (Ok(map), Ok(bottom)) if map != bottom => Err((Refusal::Unrelated, Whose::Other)),
            _ => Ok(()),
        };
        self.blame_if(t, production.map(|_| ()));
        self.blame_if(t, source.map(|_| ()));
        self.blame_if(t, both);
        let v = self.vol_named(self.name(t).bytes()).filter(|&v| !self.vols.at(v).clone);
        let Some(v) = v else { return };
        if self.vols.at(v).writers != 0 && !self.flag(t, FLAG_FORCE) {
            self.blame(t, Refusal::OpenForWriting, Whose::Name);
        }
        if self.catalog.reserve(&self.platform, 12).is_err() {
            self.blame(t, Refusal::NoMemory, Whose::Name);
        }
    }

    /// The map of a production that can be restored; its clients do not count here.
    fn check_production(&self, t: u32) -> Result<MapId, Blamed> {
        let name = self.name(t);
        let not = |why| Err((why, Whose::Name));
        let Some(production) = self.named(name) else { return not(Refusal::NotFound) };
        if production.kind() != Some(Kind::Production) {
            return not(Refusal::WrongKind);
        }
        if production.restoring().is_some() {
            return not(Refusal::Restoring);
        }
        let Some(v) = self.vol_named(name.bytes()) else { return not(Refusal::NotFound) };
        if !self.is_online(v) {
            return not(Refusal::Offline);
        }
        // One at a time: also one whose production is offline, which goes on when it is back.
        let restores = |v: &u32| {
            let vol = self.vols.at(*v);
            vol.live && !vol.clone && vol.redirect.is_some()
        };
        if let Some(other) = (0..self.vols.top()).find(restores) {
            return Err((Refusal::Restoring, Whose::Entity(self.vols.at(other).id)));
        }
        Ok(production.map())
    }

    /// The map that what is restored rests on in the end.
    fn check_source(&self, t: u32) -> Result<MapId, Blamed> {
        let not = |why| Err((why, Whose::Other));
        let Some(source) = self.named(self.other(t)) else { return not(Refusal::NotFound) };
        let (id, base) = (source.id(), source.base());
        match source.kind() {
            Some(Kind::Snapshot) if !source.is_living_snapshot() => {
                return not(Refusal::Lost);
            }
            Some(Kind::Snapshot | Kind::Clone) => {}
            _ => return not(Refusal::WrongKind),
        }
        // Where X is lost, production would keep what it has: not unless that is asked for.
        if !self.flag(t, FLAG_FORCE) {
            if let Some(damaged) = self.damaged_below(id) {
                return Err((Refusal::Lost, Whose::Entity(damaged)));
            }
        }
        let bottom = base.map_or(id, |base| self.bottom_of(base));
        Ok(self.catalog.get(bottom).map(Entity::map).unwrap_or_default())
    }

    /// The first of a volume or snapshot and those it rests on that has lost some of its data.
    fn damaged_below(&self, id: EntityId) -> Option<EntityId> {
        let mut next = Some(id);
        while let Some(entity) = next.and_then(|id| self.catalog.get(id)) {
            if entity.has(FLAG_DAMAGED) {
                return Some(entity.id());
            }
            next = entity.base();
        }
        None
    }

    /// The production's snapshot that a snapshot rests on in the end.
    fn bottom_of(&self, snapshot: EntityId) -> EntityId {
        let mut at = snapshot;
        while let Some(base) = self.catalog.get(at).and_then(Entity::base) {
            at = base;
        }
        at
    }

    #[inline(never)]
    fn record_restore(&mut self, t: u32) -> Result<(), Fault> {
        let v = self.vol_named(self.name(t).bytes()).ok_or(crate::bug!())?;
        let source = self.id_of(self.other(t)).ok_or(crate::bug!())?;
        let (rate, started) =
            self.input(t).map_or((u64::MAX, 0), |c| (c.value.get(), c.time_ns.get()));
        let order = u8::from(self.flag(t, FLAG_OLD_FIRST));
        self.begin_group(8)?;
        let mut before = EntityId(0);
        if !self.flag(t, FLAG_NO_UNDO) {
            before = self.record_auto(t, v, b"before-restore-", 5)?;
            self.change(before, |e| e.set_flags(FLAG_BEFORE_RESTORE, true))?;
        }
        let x = self.record_x(t, source)?;
        let before_epoch = self.catalog.newest_epoch(self.vols.at(v).map).unwrap_or_default();
        let r = self.record_auto(t, v, b"restored-", 6)?;
        let r_epoch = self.epoch();
        let m = self.next_map();
        let id = self.vols.at(v).id;
        self.change(id, |e| {
            e.restore = Restore {
                active: 1,
                order,
                before_epoch: before_epoch.0.into(),
                r_epoch: r_epoch.0.into(),
                x: x.0.into(),
                m_map: m.0.into(),
                r: r.0.into(),
                before: before.0.into(),
                rate: rate.into(),
                started_ns: started.into(),
                ..Restore::default()
            };
            e.set_flags(FLAG_FINGERPRINT, false);
        })?;
        self.end_group()?;
        // What is in place changes once this record is durable.
        self.vols.at_mut(v).print = Print::Void;
        self.restore_begins(v);
        Ok(())
    }

    /// A snapshot that a restore takes by itself, named `VOL@PREFIX<epoch>`.
    #[inline(never)]
    fn record_auto(&mut self, t: u32, v: u32, prefix: &[u8], seed: u32) -> Result<EntityId, Fault> {
        let epoch = self.next_epoch();
        let full = self.auto_name(self.name(t).bytes(), prefix, epoch);
        self.draft_snapshot(t, v, &full, epoch, seed);
        self.put_draft()
    }

    /// X: the snapshot itself, or a hidden one of the clone as it is now.
    #[inline(never)]
    fn record_x(&mut self, t: u32, source: EntityId) -> Result<EntityId, Fault> {
        let Some(v) = self.vol_of_entity(source) else { return Ok(source) };
        let epoch = self.next_epoch();
        let name = self.name_of(source);
        let hidden = self.auto_name(name.bytes(), b".restore-", epoch);
        self.draft_snapshot(t, v, &hidden, epoch, 7);
        self.lifecycle.draft.set_flags(FLAG_HIDDEN, true);
        let x = self.put_draft()?;
        self.bump_write_epoch(v, epoch)?;
        self.refresh_volume(v);
        Ok(x)
    }

    /// `VOL@PREFIX<number>`, and while that is taken with a further `+`.
    #[inline(never)]
    pub(crate) fn auto_name(&self, volume: &[u8], prefix: &[u8], epoch: Epoch) -> Name {
        let mut part = [0u8; 63];
        let mut len = 0usize;
        let mut put = |b: u8| {
            if let Some(at) = part.get_mut(len) {
                *at = b;
                len = len.saturating_add(1);
            }
        };
        for &b in prefix.iter().take(40) {
            put(b);
        }
        if prefix.last() != Some(&b'-') {
            put(b'-');
        }
        let mut digits = [0u8; 10];
        let mut n = epoch.0;
        let mut count = 0;
        for digit in &mut digits {
            *digit = b'0'.saturating_add(u8::try_from(n % 10).unwrap_or(0));
            n /= 10;
            count += 1;
            if n == 0 {
                break;
            }
        }
        for digit in digits.iter().take(count).rev() {
            put(*digit);
        }
        loop {
            let name = part.get(..len).and_then(|p| Self::snapshot_name(volume, p));
            match name {
                Some(name) if self.named(&name).is_none() => return name,
                Some(_) => {
                    if let Some(at) = part.get_mut(len) {
                        *at = b'_';
                    }
                    len = len.saturating_add(1);
                    if len >= 63 {
                        return Name::default();
                    }
                }
                None => return Name::default(),
            }
        }
    }

    /// Production reads as X from here on.
    pub(crate) fn restore_begins(&mut self, v: u32) {
        let vol = self.vols.at(v);
        if let Some(fast) = &vol.fast {
            fast.forget_settled();
        }
        let (reads, writes) = vol.fast.as_ref().map_or((0, 0), |f| f.passed());
        let (reads, writes) =
            (reads.saturating_add(vol.reads_served), writes.saturating_add(vol.writes_served));
        self.refresh_volume(v);
        self.rebuild_views();
        let after = self.log.last();
        self.lifecycle.merge.begin(v, after, reads, writes);
        self.promise_to_restore(v);
    }

    /// Runs the command `RestoreRate`.
    pub(crate) fn run_rate(&mut self, t: u32) {
        let rate = self.input(t).map_or(0, |c| c.value.get());
        let Some(entity) = self.named(self.name(t)) else {
            return self.refuse_for(t, Refusal::NotFound, Whose::Name);
        };
        if entity.restoring().is_none() {
            return self.refuse_for(t, Refusal::NotRestoring, Whose::Name);
        }
        let id = entity.id();
        if !self.may_change(t, 2) {
            return;
        }
        match self.change(id, |e| e.restore.rate = rate.into()) {
            Ok(()) => {
                self.wake_plan();
                self.when_logged(t);
            }
            Err(fault) => self.fence_command(t, fault),
        }
    }

    /// Runs the command `RestoreCancel`: the merge ends, and a restore from `before` begins.
    pub(crate) fn run_cancel(&mut self, t: u32) {
        if !self.take_moment(t) {
            return;
        }
        if self.tasks.at(t).stage == Stage::Begin {
            if self.refuse_cancel(t) {
                return;
            }
            self.lifecycle.merge.stop(true);
            if self.lifecycle.merge.is_busy() {
                return self.queue_in(t, |core| &mut core.lifecycle.merge.enders);
            }
            if let Some(v) = self.vol_named(self.name(t).bytes()) {
                self.cut_off_writers(v);
                self.hold(v);
            }
            self.tasks.at_mut(t).stage = Stage::Step(MOMENT);
        }
        if !self.at_moment(t) || !self.may_change(t, 10) {
            return;
        }
        match self.record_cancel(t) {
            Ok(()) => self.when_logged(t),
            Err(fault) => self.fence_command(t, fault),
        }
    }

    #[inline(never)]
    fn refuse_cancel(&mut self, t: u32) -> bool {
        let Some(entity) = self.named(self.name(t)) else {
            self.refuse_for(t, Refusal::NotFound, Whose::Name);
            return true;
        };
        let (id, map) = (entity.id(), entity.map());
        let Some(r) = entity.restoring().copied() else {
            self.refuse_for(t, Refusal::NotRestoring, Whose::Name);
            return true;
        };
        let v = self.vol_of_entity(id).unwrap_or(NONE);
        if r.before.get() == 0 {
            self.blame(t, Refusal::Lost, Whose::Name);
        }
        let mut epoch = Epoch(r.r_epoch.get());
        while let Some(next) = self.catalog.next_epoch_at_or_after(map, epoch.next()) {
            let blocker = self.catalog.snapshot_at(map, next).map(Entity::id).unwrap_or_default();
            self.blame(t, Refusal::LaterSnapshots, Whose::Entity(blocker));
            epoch = next;
        }
        self.blame_users_of(t, EntityId(r.r.get()));
        if self.vols.at(v).writers != 0 && !self.flag(t, FLAG_FORCE) {
            self.blame(t, Refusal::OpenForWriting, Whose::Name);
        }
        if self.catalog.reserve(&self.platform, 12).is_err() {
            self.blame(t, Refusal::NoMemory, Whose::Name);
        }
        self.refuse_blamed(t)
    }

    /// R goes with its restore: blames those that stand on it, or have it open.
    fn blame_users_of(&mut self, t: u32, r: EntityId) {
        let mut last = EntityId(0);
        loop {
            let next = self.catalog.dependants(r).map(Entity::id).filter(|&d| d > last).min();
            let Some(next) = next else { break };
            self.blame(t, Refusal::Needed, Whose::Entity(next));
            last = next;
        }
        if self.is_open(r) {
            self.blame(t, Refusal::OpenForWriting, Whose::Entity(r));
        }
    }

    #[inline(never)]
    fn record_cancel(&mut self, t: u32) -> Result<(), Fault> {
        let v = self.vol_named(self.name(t).bytes()).ok_or(crate::bug!())?;
        let (id, map) = (self.vols.at(v).id, self.vols.at(v).map);
        let old = self.catalog.get(id).map(|e| e.restore).ok_or(crate::bug!())?;
        let rate = self.input(t).map_or(u64::MAX, |c| c.value.get());
        self.begin_group(10)?;
        let m = self.next_map();
        let r_epoch = self.next_epoch();
        let before = EntityId(old.before.get());
        let before_epoch = self.catalog.get(before).map(Entity::epoch).ok_or(crate::bug!())?;
        self.change(id, |e| {
            e.restore = Restore {
                x: old.before,
                m_map: m.0.into(),
                r_epoch: r_epoch.0.into(),
                before_epoch: before_epoch.0.into(),
                r: 0.into(),
                before: 0.into(),
                rate: rate.into(),
                ..old
            };
        })?;
        self.remove_entity(EntityId(old.r.get()))?;
        self.drop_x(t, &old)?;
        self.log_sweep(t, MapId(old.m_map.get()))?;
        self.log_sweep(t, map)?;
        self.end_group()?;
        self.refresh_volumes();
        self.restore_begins(v);
        Ok(())
    }

    /// Removes the hidden snapshot that stood for a clone; the caller refreshes the volumes.
    fn drop_x(&mut self, t: u32, restore: &Restore) -> Result<(), Fault> {
        let x = EntityId(restore.x.get());
        let Some(entity) = self.catalog.get(x).filter(|e| e.has(FLAG_HIDDEN)) else {
            return Ok(());
        };
        let (map, base) = (entity.map(), entity.base());
        self.remove_entity(x)?;
        self.log_sweep(t, map)?;
        if let Some(base) = base {
            self.drop_deferred(t, base)?;
        }
        Ok(())
    }

    /// All is home: the production is an ordinary one again.
    #[inline(never)]
    pub(crate) fn finish_restore(&mut self, t: u32, v: u32) -> Result<(), Fault> {
        let id = self.vols.at(v).id;
        let (restore, name) =
            self.catalog.get(id).map(|e| (e.restore, e.name)).ok_or(crate::bug!())?;
        self.begin_group(8)?;
        self.change(id, |e| e.restore = Restore::default())?;
        self.drop_x(t, &restore)?;
        self.log_sweep(t, MapId(restore.m_map.get()))?;
        self.end_group()?;
        self.drop_restore_promise();
        self.refresh_volumes();
        self.rebuild_views();
        self.commit.wanted = true;
        self.event(RESTORED, 0, &name, self.lifecycle.merge.done);
        Ok(())
    }

    /// Whether a restore needs the snapshot.
    pub(crate) fn pinned(&self, id: EntityId) -> bool {
        let Some(entity) = self.catalog.get(id) else { return false };
        let (map, epoch) = (entity.map(), entity.epoch());
        (0..self.vols.top()).any(|v| {
            let vol = self.vols.at(v);
            let restore = (vol.live && !vol.clone && vol.redirect.is_some())
                .then(|| self.catalog.get(vol.id).and_then(Entity::restoring))
                .flatten();
            restore.is_some_and(|r| {
                [r.x.get(), r.r.get(), r.before.get()].contains(&id.0)
                    || (map == vol.map && epoch.0 == r.before_epoch.get())
            })
        })
    }
}
