// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Commands: checked, handed to their verb, answered.

use zerocopy::{FromBytes, IntoBytes};

use crate::api::Step;
use crate::catalog::{ENTITIES, KEPT_BACK};
use crate::control::{
    Command, Item, Name, NameRow, Refusal, Reply, Verb, FLAG_COUNT, FLAG_DEFER, FLAG_DRY_RUN,
    FLAG_FORCE, FLAG_NO_UNDO, FLAG_OLD_FIRST, FLAG_RECURSIVE, ITEMS_MAX, MAGIC, VERSION,
};
use crate::engine::checkpoint::{PageRoom, SHRINK};
use crate::engine::{Core, Stage};
use crate::fault::Fault;
use crate::format::entity::Entity;
use crate::lifecycle::{part, part_mut, INPUT, REPLY};
use crate::platform::Platform;
use crate::units::EntityId;

/// Behind every verb's last step: its records are durable, and the reply goes out.
pub(crate) const LOGGED: Stage = Stage::Step(250);

/// Numbers beyond this one are left to what shrinks the pool.
const LAST: u32 = u32::MAX - (1 << 20);

const FLAGS: u32 = FLAG_COUNT
    | FLAG_DEFER
    | FLAG_DRY_RUN
    | FLAG_FORCE
    | FLAG_NO_UNDO
    | FLAG_OLD_FIRST
    | FLAG_RECURSIVE;

/// An item of the command that these bytes are.
pub(super) fn item_of(bytes: &[u8], n: usize) -> Option<&Item> {
    let (command, rest) = Command::ref_from_prefix(bytes).ok()?;
    let count = usize::try_from(command.count.get()).ok()?;
    if n >= count {
        return None;
    }
    let from = n.checked_mul(size_of::<Item>())?;
    Item::ref_from_prefix(rest.get(from..)?).ok().map(|(item, _)| item)
}

/// Whose name stands in the reply for what is in a command's way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose {
    /// No name.
    Nobody,
    /// The name in the command.
    Name,
    /// The other name in it.
    Other,
    /// The name in one of its items.
    Item(usize),
    /// An object's name.
    Entity(EntityId),
}

/// What is in a command's way.
pub(crate) type Blamed = (Refusal, Whose);

impl<P: Platform> Core<P> {
    /// The command of a task.
    pub(crate) fn input(&self, t: u32) -> Option<&Command> {
        let c = self.tasks.at(t).aux;
        let len = self.lifecycle.slots.at(c).input_len;
        let bytes = part(&self.lifecycle.inputs, c, INPUT).get(..len)?;
        Command::ref_from_prefix(bytes).ok().map(|(command, _)| command)
    }

    /// The name that a task's command is about.
    pub(crate) fn name(&self, t: u32) -> &Name {
        self.input(t).map_or(&Name::EMPTY, |command| &command.name)
    }

    /// The other name in it.
    pub(crate) fn other(&self, t: u32) -> &Name {
        self.input(t).map_or(&Name::EMPTY, |command| &command.other)
    }

    /// The name in one of its items.
    pub(crate) fn item_name(&self, t: u32, n: usize) -> &Name {
        self.item(t, n).map_or(&Name::EMPTY, |item| &item.name)
    }

    /// An item of a task's command.
    pub(crate) fn item(&self, t: u32, n: usize) -> Option<&Item> {
        let c = self.tasks.at(t).aux;
        let slot = self.lifecycle.slots.at(c);
        item_of(part(&self.lifecycle.inputs, c, INPUT).get(..slot.input_len)?, n)
    }

    /// How many items it has.
    pub(crate) fn items(&self, t: u32) -> usize {
        self.input(t).and_then(|c| usize::try_from(c.count.get()).ok()).unwrap_or(0)
    }

    pub(crate) fn flag(&self, t: u32, flag: u32) -> bool {
        self.input(t).is_some_and(|c| c.flags.get() & flag != 0)
    }

    fn verb(&self, t: u32) -> Option<Verb> {
        let command = self.input(t)?;
        let count = usize::try_from(command.count.get()).ok()?;
        let sound = command.magic.get() == MAGIC
            && command.version.get() == VERSION
            && command.flags.get() & !FLAGS == 0
            && count <= ITEMS_MAX
            && (count == 0 || self.item(t, count.saturating_sub(1)).is_some());
        if !sound {
            return None;
        }
        Verb::from_number(command.verb.get())
    }

    /// Runs a command from its stage.
    #[inline(never)]
    pub(crate) fn run_command(&mut self, t: u32) {
        if self.tasks.at(t).io != 0 {
            return;
        }
        if let Some(fault) = self.tasks.at(t).fault {
            return self.abort_command(t, fault);
        }
        if self.tasks.at(t).stage == LOGGED {
            return self.done(t);
        }
        let Some(verb) = self.verb(t) else { return self.refuse(t, Refusal::Malformed) };
        let fenced = self.fenced.is_some() || self.closing;
        match verb {
            Verb::Status => self.show_status(t),
            Verb::List => self.show_list(t),
            Verb::Info => self.show_info(t),
            Verb::Properties => self.show_properties(t),
            Verb::RestoreStatus => self.show_restore(t),
            Verb::Events => self.show_events(t),
            Verb::Map => self.run_map(t),
            Verb::Diff => self.run_diff(t),
            _ if fenced => self.refuse(t, Refusal::Fenced),
            Verb::Snapshot => self.run_snapshot(t),
            Verb::Clone => self.run_clone(t),
            Verb::Refresh => self.run_refresh(t),
            Verb::Restore => self.run_restore(t),
            Verb::RestoreRate => self.run_rate(t),
            Verb::RestoreCancel => self.run_cancel(t),
            Verb::Destroy => self.run_destroy(t),
            Verb::Rename => self.run_rename(t),
            Verb::Hold => self.run_hold(t, true),
            Verb::Release => self.run_hold(t, false),
            Verb::Set => self.run_set(t),
            Verb::Add => self.run_add(t),
            Verb::Remove => self.run_remove(t),
            _ => self.refuse(t, Refusal::Malformed),
        }
    }

    /// Adds a row to the reply; false if it is full.
    pub(crate) fn row(&mut self, t: u32, row: &[u8]) -> bool {
        let c = self.tasks.at(t).aux;
        let life = &mut *self.lifecycle;
        let slot = life.slots.at_mut(c);
        let at = slot.reply_len.max(size_of::<Reply>());
        let bytes = part_mut(&mut life.replies, c, REPLY);
        let Some(to) = bytes.get_mut(at..at.saturating_add(row.len())) else { return false };
        for (to, from) in to.iter_mut().zip(row) {
            *to = *from;
        }
        slot.reply_len = at.saturating_add(row.len());
        slot.rows = slot.rows.saturating_add(1);
        true
    }

    /// Sends the reply. `next` is where to go on asking.
    pub(crate) fn answer(&mut self, t: u32, refusal: Refusal, next: u64, value: u64) {
        let c = self.tasks.at(t).aux;
        let slot = self.lifecycle.slots.at_mut(c);
        let value = if slot.missed == 0 { value } else { slot.missed };
        let head = size_of::<Reply>();
        slot.reply_len = slot.reply_len.max(head);
        let body = slot.reply_len.saturating_sub(head);
        let row = u32::try_from(body).unwrap_or(0).checked_div(slot.rows).unwrap_or(0);
        let reply = Reply {
            magic: MAGIC.into(),
            version: VERSION.into(),
            refusal: (refusal as u16).into(),
            count: slot.rows.into(),
            row_bytes: row.into(),
            next: next.into(),
            value: value.into(),
        };
        slot.done = true;
        let bytes = part_mut(&mut self.lifecycle.replies, c, REPLY);
        for (to, from) in bytes.iter_mut().zip(reply.as_bytes()) {
            *to = *from;
        }
        let cookie = self.tasks.at(t).cookie;
        self.release_all(t);
        self.end_moment(t);
        self.steps.tell(Step::Reply { cookie });
        self.free_task(t);
    }

    /// Done.
    pub(crate) fn done(&mut self, t: u32) {
        self.answer(t, Refusal::None, u64::MAX, 0);
    }

    /// Refused, with the rows so far.
    pub(crate) fn refuse(&mut self, t: u32, refusal: Refusal) {
        self.answer(t, refusal, u64::MAX, 0);
    }

    /// Refused because of one object.
    #[inline(never)]
    pub(crate) fn refuse_for(&mut self, t: u32, refusal: Refusal, whose: Whose) {
        self.blame(t, refusal, whose);
        self.refuse(t, refusal);
    }

    /// Notes what is in the way of the command, and why. Names are long, and a stack is small:
    /// nobody but this function copies one for that.
    #[inline(never)]
    pub(crate) fn blame(&mut self, t: u32, why: Refusal, whose: Whose) {
        let name = *self.whose(t, whose);
        let c = self.tasks.at(t).aux;
        let slot = self.lifecycle.slots.at_mut(c);
        slot.blamed = slot.blamed.or(Some(why));
        self.blocker(t, &name, u64::from(why as u16));
    }

    /// The name that is meant.
    pub(crate) fn whose(&self, t: u32, whose: Whose) -> &Name {
        match whose {
            Whose::Nobody => &Name::EMPTY,
            Whose::Name => self.name(t),
            Whose::Other => self.other(t),
            Whose::Item(n) => self.item_name(t, n),
            Whose::Entity(id) => self.name_of(id),
        }
    }

    /// As `blame`, if a check found something.
    pub(crate) fn blame_if(&mut self, t: u32, found: Result<(), Blamed>) {
        if let Err((why, whose)) = found {
            self.blame(t, why, whose);
        }
    }

    /// Refuses the command if something is in its way; the first reason is the reply's.
    pub(crate) fn refuse_blamed(&mut self, t: u32) -> bool {
        let c = self.tasks.at(t).aux;
        let Some(why) = self.lifecycle.slots.at(c).blamed else { return false };
        self.refuse(t, why);
        true
    }

    /// Names an object in the reply.
    pub(crate) fn blocker(&mut self, t: u32, name: &Name, frees: u64) {
        let row = NameRow { name: *name, frees: frees.into() };
        if !self.row(t, row.as_bytes()) {
            let c = self.tasks.at(t).aux;
            let slot = self.lifecycle.slots.at_mut(c);
            slot.missed = slot.missed.saturating_add(1);
        }
    }

    /// A fault on the way of a command: nothing was changed.
    pub(crate) fn abort_command(&mut self, t: u32, fault: Fault) {
        let (refusal, value) = match fault {
            Fault::NoSpace => (Refusal::NoSpace, 0),
            Fault::NoMemory => (Refusal::NoMemory, 0),
            Fault::Fenced | Fault::Corrupt => (Refusal::Fenced, 0),
            Fault::Lost => (Refusal::Lost, 0),
            Fault::Bug(line) => (Refusal::Bug, u64::from(line)),
            _ => (Refusal::Io, 0),
        };
        self.answer(t, refusal, u64::MAX, value);
    }

    /// Waits until all that was logged so far is durable, then replies.
    pub(crate) fn when_logged(&mut self, t: u32) {
        self.end_moment(t);
        self.tasks.at_mut(t).stage = LOGGED;
        let pos = self.log.last();
        self.wait_or_run(t, pos);
    }

    /// Whether there is room to log so many entities; else the task waits.
    pub(crate) fn may_change(&mut self, t: u32, entries: u32) -> bool {
        if !self.log_can_take_entities(entries) {
            self.refuse(t, Refusal::TooMany);
            return false;
        }
        if !self.log_has_room_for_entities(entries) {
            self.wait_for_room(t);
            return false;
        }
        true
    }

    /// As `may_change`, for entities that come to the catalogue: refused if the pool has no room
    /// for them beside what it needs to shrink again.
    pub(crate) fn may_add(&mut self, t: u32, entries: u32) -> bool {
        let (records, entities) = SHRINK;
        if self.is_exhausted(entries) {
            self.refuse(t, Refusal::TableFull);
            return false;
        }
        match self.page_room(records, entities.saturating_add(u64::from(entries))) {
            PageRoom::Now => self.may_change(t, entries),
            PageRoom::Later => {
                self.wait_for_room(t);
                false
            }
            PageRoom::Never => {
                self.abort_command(t, Fault::NoSpace);
                false
            }
        }
    }

    /// Whether the catalogue has no room for so many entities beside what comes unasked, or one of
    /// the pool's numbers, none of which is given twice (I-25, I-40), has come to its end.
    fn is_exhausted(&self, entries: u32) -> bool {
        let entries = usize::try_from(entries).unwrap_or(usize::MAX);
        let room = ENTITIES.saturating_sub(KEPT_BACK).saturating_sub(self.catalog.len());
        let c = &self.counters;
        let last = c.epoch.0.max(c.next_map.0).max(c.next_entity.0);
        entries > room || last > LAST
    }

    /// The volume or snapshot of that name.
    pub(crate) fn named(&self, name: &Name) -> Option<&Entity> {
        self.catalog.by_name(name.bytes())
    }

    /// Its number.
    pub(crate) fn id_of(&self, name: &Name) -> Option<EntityId> {
        self.named(name).map(Entity::id)
    }
}
