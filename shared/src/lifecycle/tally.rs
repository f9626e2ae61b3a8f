// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The numbers of the count: who reads which slots of a map, added up record by record.

use crate::engine::{Queue, NONE};
use crate::fault::Fault;
use crate::format::record::{GroupKey, Record};
use crate::platform::Platform;
use crate::units::{bit, EntityId, Epoch, MapId, Word};

/// What has been counted of an entity: its own map alone, until the end of the count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    pub(super) id: EntityId,
    pub(super) base: EntityId,
    pub(super) used: u64,
    pub(super) refer: i64,
}

/// One of those that read a map.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct User {
    pub(super) epoch: Epoch,
    pub(super) id: EntityId,
    pub(super) used: u64,
    /// Slots read by it and all users behind it, less those that end here.
    pub(super) refer: i64,
}

/// The count.
pub(crate) struct Counter<P: Platform> {
    pub(super) task: u32,
    /// The state of the pool when the count under way began, and the last that is complete.
    pub(super) began: u64,
    pub(super) counted: Option<u64>,
    /// Commands that wait for its end, and for the end of the next.
    pub(super) waiters: Queue,
    pub(super) later: Queue,
    pub(super) parts: Option<P::Array<Part>>,
    pub(super) part_count: usize,
    pub(super) users: Option<P::Array<User>>,
    pub(super) user_count: usize,
    pub(super) map: MapId,
    pub(super) volume: EntityId,
    pub(super) production: bool,
    /// Slots of the map, and whether it is M: no users.
    pub(super) total: u64,
    pub(super) restored: bool,
    pub(super) from: GroupKey,
    pub(super) word: Word,
    /// Of each chunk of the word, the epoch of the record before (0: none), and those with a slot.
    pub(super) before: [Epoch; 64],
    pub(super) slots: u64,
    /// First epoch of each chunk, for what the base does not show any more.
    pub(super) first: [Epoch; 64],
    pub(super) view: u32,
    /// What volumes use is not known since a crash.
    pub(super) due: bool,
}

impl<P: Platform> Counter<P> {
    pub(crate) fn new() -> Self {
        Self {
            task: NONE,
            began: 0,
            counted: None,
            waiters: Queue::default(),
            later: Queue::default(),
            parts: None,
            part_count: 0,
            users: None,
            user_count: 0,
            map: MapId(0),
            volume: EntityId(0),
            production: false,
            total: 0,
            restored: false,
            from: GroupKey { map: MapId(0), word: Word(0), epoch: Epoch(0) },
            word: Word(0),
            before: [Epoch(0); 64],
            slots: 0,
            first: [Epoch(0); 64],
            view: NONE,
            due: false,
        }
    }

    pub(super) fn users(&mut self) -> &mut [User] {
        let count = self.user_count;
        self.users.as_mut().and_then(|u| u.get_mut(..count)).unwrap_or(&mut [])
    }

    pub(super) fn parts(&mut self) -> &mut [Part] {
        let count = self.part_count;
        self.parts.as_mut().and_then(|p| p.get_mut(..count)).unwrap_or(&mut [])
    }

    pub(super) fn add_user(&mut self, epoch: Epoch, id: EntityId) -> Result<(), Fault> {
        let at = self.user_count;
        let place = self.users.as_mut().and_then(|u| u.get_mut(at)).ok_or(crate::bug!())?;
        *place = User { epoch, id, used: 0, refer: 0 };
        self.user_count = at.saturating_add(1);
        Ok(())
    }

    /// A slot is read by the users from epoch `from` on and before epoch `to`, or all.
    pub(super) fn slot(&mut self, from: Epoch, to: Option<Epoch>) {
        let users = self.users();
        let lo = users.partition_point(|u| u.epoch < from);
        let hi = to.map_or(users.len(), |to| users.partition_point(|u| u.epoch < to));
        if lo >= hi {
            return;
        }
        if let Some(user) = users.get_mut(lo) {
            user.refer = user.refer.saturating_add(1);
            user.used = user.used.saturating_add(u64::from(lo.saturating_add(1) == hi));
        }
        if let Some(user) = users.get_mut(hi) {
            user.refer = user.refer.saturating_sub(1);
        }
    }

    /// From epoch `from` on users do not see what the base has in a slot.
    pub(super) fn hide(&mut self, from: Epoch) {
        let users = self.users();
        let lo = users.partition_point(|u| u.epoch < from);
        if let Some(user) = users.get_mut(lo) {
            user.refer = user.refer.saturating_sub(1);
        }
    }

    /// Counts a record's chunks; those of a clone's with the next record of each, or at its end.
    pub(super) fn record(&mut self, record: &Record) {
        for b in 0..64 {
            if record.mask & bit(b) == 0 {
                continue;
            }
            let place = usize::try_from(b).unwrap_or(0);
            let before = self.before.get(place).copied().unwrap_or_default();
            let has = record.kind.has_slots();
            if self.production {
                if has {
                    self.slot(before.next(), Some(record.epoch.next()));
                }
            } else if self.slots & bit(b) != 0 {
                self.slot(before, Some(record.epoch));
            }
            self.total = self.total.saturating_add(u64::from(has));
            self.slots = if has { self.slots | bit(b) } else { self.slots & !bit(b) };
            if before == Epoch(0) {
                if let Some(first) = self.first.get_mut(place) {
                    *first = record.epoch;
                }
            }
            if let Some(before) = self.before.get_mut(place) {
                *before = record.epoch;
            }
        }
    }

    /// The chunks of the word that have records.
    pub(super) fn recorded(&self) -> u64 {
        let has = |(_, b): &(&Epoch, u32)| self.before.get(usize::try_from(*b).unwrap_or(0));
        self.before
            .iter()
            .zip(0u32..)
            .filter(|at| has(at).is_some_and(|e| e.0 != 0))
            .fold(0, |mask, (_, b)| mask | bit(b))
    }

    /// The word is done: the last records of a clone's chunks; `base`: chunks that the base has in
    /// slots.
    pub(super) fn end_word(&mut self, base: u64) {
        for b in 0..64 {
            let place = usize::try_from(b).unwrap_or(0);
            let (before, first) = (self.before.get(place).copied(), self.first.get(place).copied());
            if !self.production && self.slots & bit(b) != 0 {
                self.slot(before.unwrap_or_default(), None);
            }
            if base & bit(b) != 0 {
                self.hide(first.unwrap_or_default());
            }
        }
        self.before = [Epoch(0); 64];
        self.slots = 0;
    }

    /// The map is done: its users' numbers.
    pub(super) fn end_map(&mut self) {
        let mut refer = 0i64;
        for n in 0..self.user_count {
            let Some(user) = self.users().get(n).copied() else { break };
            refer = refer.saturating_add(user.refer);
            let total = self.total;
            let volume = self.volume;
            let parts = self.parts();
            let at = parts.partition_point(|p| p.id < user.id);
            if let Some(part) = parts.get_mut(at).filter(|p| p.id == user.id) {
                part.used = if user.id == volume { total } else { user.used };
                part.refer = refer;
            }
        }
    }
}
