// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Commands that only look.

use zerocopy::IntoBytes;

use crate::control::rows::{
    FLAG_OFFLINE, FLAG_RESTORING, KIND_CLONE, KIND_PRODUCTION, KIND_SNAPSHOT,
};
use crate::control::{
    EntityRow, EventRow, Name, PoolRow, PropertyRow, Refusal, RestoreRow, FLAG_COUNT, NAME_MAX,
};
use crate::engine::{Core, NONE};
use crate::format::entity::{Entity, Kind};
use crate::lifecycle::command::Whose;
use crate::lifecycle::event::fault_number;
use crate::platform::Platform;
use crate::units::EntityId;

impl<P: Platform> Core<P> {
    /// The command `Status`.
    pub(crate) fn show_status(&mut self, t: u32) {
        let row = self.pool_row();
        let _ = self.row(t, row.as_bytes());
        self.done(t);
    }

    #[inline(never)]
    fn pool_row(&self) -> PoolRow {
        let s = &self.superblock;
        let mut row = PoolRow {
            uuid: s.pool,
            label: s.label,
            chunk: s.chunk,
            block: s.block,
            when_full: s.when_full,
            copy_span: s.copy_span,
            discard: s.discard,
            low_water: s.low_water,
            full: u32::from(self.is_pressed()).into(),
            slots: self.slots.count().into(),
            slots_used: self.slots.used().into(),
            slots_reserved: self.slots.reserved().into(),
            pages: self.meta.pages().into(),
            pages_used: self.meta.used().into(),
            records: self.layers.root().map_or(0, |root| root.records).into(),
            delta: number(self.layers.active.len()).into(),
            log_blocks: s.log_blocks,
            log_used: s.log_blocks.get().saturating_sub(self.log.free_blocks()).into(),
            generation: s.generation,
            save_bytes: self.save.size.into(),
            save_limit: s.save_limit,
            entities: u32::try_from(self.catalog.len()).unwrap_or(u32::MAX).into(),
            fenced: u32::try_from(self.fenced.map_or(0, fault_number)).unwrap_or(0).into(),
            sweeping: u32::from(self.is_sweeping()).into(),
            checkpointing: u32::from(self.checkpoint.is_running()).into(),
            copied: self.stats.copied.into(),
            log_records: self.stats.log_records.into(),
            checkpoints: self.stats.checkpoints.into(),
            events: self.lifecycle.event_count.into(),
            notes: self.stats.notes.into(),
            ..PoolRow::default()
        };
        for (to, from) in row.io.iter_mut().zip(self.stats.io) {
            *to = from.into();
        }
        row
    }

    /// Whether a sweep runs or waits to.
    pub(crate) fn is_sweeping(&self) -> bool {
        self.lifecycle.sweeper.is_running() || self.catalog.first_sweep().is_some()
    }

    /// The command `List`.
    pub(crate) fn show_list(&mut self, t: u32) {
        let (from, limit) = self.input(t).map_or((0, 0), |c| (c.value.get(), c.limit.get()));
        if from == 0 && self.flag(t, FLAG_COUNT) && self.wait_for_count(t) {
            return;
        }
        // What went in the background is gone for good before anybody is told so.
        if self.lifecycle.removed > self.commit.durable && self.fenced.is_none() {
            self.commit.wanted = true;
            return self.queue_in(t, |core| &mut core.room_waiters);
        }
        let limit = if limit == 0 { u64::MAX } else { limit };
        let mut at = EntityId(u32::try_from(from).unwrap_or(u32::MAX));
        let mut rows = 0u64;
        while rows < limit {
            let Some(id) = self.catalog.from(at).map(Entity::id).next() else {
                return self.done(t);
            };
            match self.show_entity(t, id) {
                Some(true) => rows = rows.saturating_add(1),
                Some(false) => return self.answer(t, Refusal::None, u64::from(id.0), 0),
                None => {}
            }
            at = id.next();
        }
        self.answer(t, Refusal::None, u64::from(at.0), 0);
    }

    /// The command `Info`.
    pub(crate) fn show_info(&mut self, t: u32) {
        if self.flag(t, FLAG_COUNT) && self.wait_for_count(t) {
            return;
        }
        let found = self.id_of(self.name(t)).and_then(|id| self.show_entity(t, id));
        match found {
            Some(_) => self.done(t),
            None => self.refuse_for(t, Refusal::NotFound, Whose::Name),
        }
    }

    /// Adds an entity's row to the reply; false if that is full, `None` if it has no row.
    #[inline(never)]
    fn show_entity(&mut self, t: u32, id: EntityId) -> Option<bool> {
        let row = self.entity_row(id);
        row.as_ref().map(|row| self.row(t, row.as_bytes()))
    }

    #[inline(never)]
    fn entity_row(&self, id: EntityId) -> Option<EntityRow> {
        let e = self.catalog.get(id)?;
        let kind = match e.kind()? {
            Kind::Production => KIND_PRODUCTION,
            Kind::Clone => KIND_CLONE,
            Kind::Snapshot => KIND_SNAPSHOT,
            _ => return None,
        };
        let shift = self.geometry.shift();
        let v = self.vol_of_entity(id).unwrap_or(NONE);
        let vol = self.vols.at(v);
        let live = v != NONE;
        let used = if live { vol.used } else { e.used.get() };
        let (passed_reads, passed_writes) = vol.fast.as_ref().map_or((0, 0), |f| f.passed());
        let mut flags = e.flags.get() & 0xFFFF;
        flags |= if e.restoring().is_some() { FLAG_RESTORING } else { 0 };
        flags |= if live && !self.is_online(v) { FLAG_OFFLINE } else { 0 };
        let newest = self.catalog.newest_epoch(e.map()).unwrap_or_default();
        let epoch = if kind == KIND_SNAPSHOT { e.epoch() } else { newest };
        Some(EntityRow {
            id: e.id,
            owner: e.owner,
            base: e.base,
            kind: kind.into(),
            flags: flags.into(),
            epoch: epoch.0.into(),
            map: e.map,
            opens: (vol.readers & 0xFFFF | vol.writers.wrapping_shl(16)).into(),
            uuid: e.uuid,
            name: e.name,
            origin: if kind == KIND_CLONE {
                *self.name_of(EntityId(e.base.get()))
            } else {
                Name::default()
            },
            size: e.size,
            used: used.wrapping_shl(shift).into(),
            refer: e.refer.get().wrapping_shl(shift).into(),
            created_ns: e.created_ns,
            quota: e.quota,
            reservation: e.reservation,
            group: e.group,
            reads: vol.reads_served.saturating_add(passed_reads).into(),
            writes: vol.writes_served.saturating_add(passed_writes).into(),
            device: u64::from(e.device.get()).into(),
            ..EntityRow::default()
        })
    }

    /// The command `Properties`.
    pub(crate) fn show_properties(&mut self, t: u32) {
        let name = self.name(t);
        let pool = name.bytes().is_empty();
        let id = if pool { self.pool_entity() } else { self.id_of(name) };
        let Some(id) = id else {
            if !pool {
                return self.refuse_for(t, Refusal::NotFound, Whose::Name);
            }
            return self.done(t);
        };
        let mut n = 0;
        while self.show_property(t, id, n).is_some() {
            n = n.saturating_add(1);
        }
        self.done(t);
    }

    /// Adds a property's row to the reply; `None` if there is no such property.
    #[inline(never)]
    fn show_property(&mut self, t: u32, id: EntityId, n: usize) -> Option<bool> {
        let (key, value) = self.catalog.get(id)?.properties().nth(n)?;
        let mut row = PropertyRow::default();
        if key.len() > NAME_MAX || key.contains(&0) {
            return None;
        }
        for (to, from) in row.key.0.iter_mut().zip(key) {
            *to = *from;
        }
        for (to, from) in row.value.iter_mut().zip(value) {
            *to = *from;
        }
        Some(self.row(t, row.as_bytes()))
    }

    /// The entity that holds the pool's properties.
    pub(crate) fn pool_entity(&self) -> Option<EntityId> {
        self.catalog.iter().find(|e| e.kind() == Some(Kind::Pool)).map(Entity::id)
    }

    /// The command `RestoreStatus`.
    pub(crate) fn show_restore(&mut self, t: u32) {
        let Some(entity) = self.named(self.name(t)) else {
            return self.refuse_for(t, Refusal::NotFound, Whose::Name);
        };
        if entity.restoring().is_some() {
            self.show_merge(t, entity.id());
        }
        self.done(t);
    }

    #[inline(never)]
    fn show_merge(&mut self, t: u32, id: EntityId) {
        let Some(r) = self.catalog.get(id).and_then(Entity::restoring) else { return };
        let v = self.vol_of_entity(id).unwrap_or(NONE);
        let vol = self.vols.at(v);
        let (reads, writes) = vol.fast.as_ref().map_or((0, 0), |f| f.passed());
        let merge = &self.lifecycle.merge;
        let mut row = RestoreRow {
            total: self.merge_total(EntityId(r.x.get())).into(),
            done: merge.done.into(),
            rate: r.rate,
            started_ns: r.started_ns,
            reads: reads.saturating_add(vol.reads_served).saturating_sub(merge.reads).into(),
            writes: writes.saturating_add(vol.writes_served).saturating_sub(merge.writes).into(),
            old_first: u32::from(r.order).into(),
            retried: merge.retried.into(),
            state: self.restore_state(r.rate.get()).into(),
            ..RestoreRow::default()
        };
        row.name = *self.name_of(id);
        row.from = *self.restored_from(r);
        let _ = self.row(t, row.as_bytes());
    }

    /// Whether the merge goes on (0), is paused (1), or waits for slots (2).
    fn restore_state(&self, rate: u64) -> u32 {
        match rate {
            0 => 1,
            _ if self.lifecycle.merge.starved != 0 => 2,
            _ => 0,
        }
    }

    /// The name of what is restored: a hidden snapshot stands for its clone.
    pub(crate) fn restored_from(&self, r: &crate::format::entity::Restore) -> &Name {
        let Some(x) = self.catalog.get(EntityId(r.x.get())) else { return &Name::EMPTY };
        if x.has(crate::control::rows::FLAG_HIDDEN) {
            return self.name_of(x.owner());
        }
        &x.name
    }

    /// The command `Events`.
    pub(crate) fn show_events(&mut self, t: u32) {
        let mut number = self.input(t).map_or(0, |c| c.value.get());
        while let Some(row) = self.event_after(number) {
            if !self.row(t, row.as_bytes()) {
                break;
            }
            number = row.number.get();
        }
        self.answer(t, Refusal::None, number, 0);
    }

    /// The first event behind number `number` that is still known, if there is one.
    pub fn event_after(&self, number: u64) -> Option<EventRow> {
        let (events, last) = (&self.lifecycle.events, self.lifecycle.event_count);
        let len = u64::try_from(events.len()).unwrap_or(1);
        let oldest = last.saturating_sub(len).saturating_add(1);
        let next = number.saturating_add(1).max(oldest);
        let at = next.checked_rem(len).and_then(|at| usize::try_from(at).ok())?;
        events.get(at).filter(|_| next <= last).copied()
    }
}

fn number(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
