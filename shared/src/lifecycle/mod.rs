// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What happens to volumes and snapshots: commands, their moments, and the work behind them.
//!
//! A command is a task whose input and reply lie in a slot of [`Lifecycle::commands`]. Commands
//! that need a *moment* (`moment.rs`) take turns; each holds the volumes it is about, drains what
//! passed or was under way, flushes, and then changes the catalogue in one group of log entries,
//! which apply all or not at all (I-20). Background work is a task too: the sweep frees what no
//! view resolves to, the merge brings a restored production home.

mod clone;
pub(crate) mod command;
mod compose;
mod count;
mod destroy;
pub(crate) mod event;
mod forgo;
mod merge;
mod moment;
mod property;
mod rate;
mod refresh;
mod restore;
mod room;
mod runs;
mod settle;
mod show;
mod snapshot;
mod sweep;
mod tally;

use crate::api::Submit;
use crate::control::Refusal;
use crate::engine::{Core, Job, Queue, Slab, HINTS, NONE};
use crate::fault::Fault;
use crate::format::entity::Entity;
use crate::platform::Platform;
use crate::units::{EntityId, LogPos};

pub(crate) use merge::Merge;
pub(crate) use sweep::Sweeper;

/// Commands under way at once.
const COMMANDS: u32 = 8;
/// Bytes of a reply at most.
const REPLY: usize = crate::control::REPLY_MAX;
/// Bytes of a command at most.
const INPUT: usize = 392 + 64 * 320;
/// Objects that one destroy may take.
const VICTIMS: usize = 1024;
/// How long the merge and the sweep wait after an error.
const RETRY_NS: u64 = 1_000_000_000;
/// Events that are remembered.
const EVENTS: usize = 256;

/// A command under way, or whose reply has not been taken yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) cookie: u64,
    pub(crate) input_len: usize,
    pub(crate) reply_len: usize,
    pub(crate) rows: u32,
    pub(crate) done: bool,
    /// Rows with names that the reply had no room for.
    pub(crate) missed: u64,
    /// Why it is to be refused; other reasons, with the objects, are in the reply's rows.
    pub(crate) blamed: Option<Refusal>,
    /// It has waited for a count.
    pub(crate) counted: bool,
}

/// Commands, events, and the work behind them.
pub(crate) struct Lifecycle<P: Platform> {
    pub(crate) slots: Slab<P, Slot>,
    /// The commands' bytes, [`INPUT`] for each slot.
    pub(crate) inputs: P::Array<u8>,
    /// The replies' bytes, [`REPLY`] for each slot.
    pub(crate) replies: P::Array<u8>,
    /// The task whose moment it is.
    pub(crate) moment: u32,
    pub(crate) moment_waiters: Queue,
    /// Tasks of work in the background, for its next slice; and whether that is due.
    pub(crate) background: Queue,
    pub(crate) slice: bool,
    /// Volumes that are being drained for it.
    pub(crate) draining: u32,
    /// An entity being made.
    pub(crate) draft: P::Box<Entity>,
    /// An entity being changed.
    pub(crate) edit: P::Box<Entity>,
    /// What a destroy takes.
    pub(crate) victims: P::Array<EntityId>,
    pub(crate) victim_count: usize,
    /// A snapshot whose data was found damaged, to be flagged.
    pub(crate) damaged: EntityId,
    pub(crate) events: P::Array<crate::control::EventRow>,
    pub(crate) event_count: u64,
    /// The record that removed the last snapshots.
    pub(crate) removed: LogPos,
    /// Snapshots that wait for their last user are to be looked at.
    pub(crate) deferred: bool,
    /// How often all views were made anew.
    pub(crate) views_made: u64,
    /// The save volume could not grow beyond so many bytes: its limit until another is set or the
    /// pool is opened again.
    pub(crate) grows_to: u64,
    /// Where the volumes of some maps were found last; only to be believed after a look.
    pub(crate) users: P::Array<u32>,
    pub(crate) sweeper: Sweeper,
    pub(crate) merge: Merge<P>,
    pub(crate) walker: P::Box<runs::Walker>,
    pub(crate) walker_waiters: Queue,
    pub(crate) counter: P::Box<tally::Counter<P>>,
}

impl<P: Platform> Lifecycle<P> {
    /// Made where it will stay.
    pub(crate) fn new(p: &P) -> Result<P::Box<Self>, Fault> {
        let n = usize::try_from(COMMANDS).unwrap_or(0);
        let none = crate::control::EventRow::default();
        let hints = usize::try_from(HINTS).unwrap_or(0);
        let mut made = Self::bare(p)?;
        made.slots.make(p, COMMANDS, &Slot::default())?;
        made.merge.make(p)?;
        made.inputs = p.blank(n.saturating_mul(INPUT), &0).ok_or(Fault::NoMemory)?;
        made.replies = p.blank(n.saturating_mul(REPLY), &0).ok_or(Fault::NoMemory)?;
        made.victims = p.array(VICTIMS, &EntityId(0)).ok_or(Fault::NoMemory)?;
        made.events = p.array(EVENTS, &none).ok_or(Fault::NoMemory)?;
        made.users = p.array(hints, &NONE).ok_or(Fault::NoMemory)?;
        Ok(made)
    }

    #[inline(never)]
    fn bare(p: &P) -> Result<P::Box<Self>, Fault> {
        let slots = Slab::<P, _>::sink(p, &Slot::default())?;
        let jobs = Merge::<P>::sink(p)?;
        let draft = entity(p)?;
        let edit = entity(p)?;
        let walker = p.boxed(|| runs::Walker::NEW).ok_or(Fault::NoMemory)?;
        let counter = p.boxed(tally::Counter::new).ok_or(Fault::NoMemory)?;
        p.boxed(|| Self {
            slots: Slab::bare(slots),
            inputs: P::Array::default(),
            replies: P::Array::default(),
            moment: NONE,
            moment_waiters: Queue::default(),
            background: Queue::default(),
            slice: false,
            draining: 0,
            draft,
            edit,
            victims: P::Array::default(),
            victim_count: 0,
            damaged: EntityId(0),
            events: P::Array::default(),
            event_count: 0,
            removed: LogPos(0),
            deferred: true,
            views_made: 0,
            grows_to: u64::MAX,
            users: P::Array::default(),
            sweeper: Sweeper::new(),
            merge: Merge::bare(jobs),
            walker,
            walker_waiters: Queue::default(),
            counter,
        })
        .ok_or(Fault::NoMemory)
    }
}

/// Room for an entity.
#[inline(never)]
fn entity<P: Platform>(p: &P) -> Result<P::Box<Entity>, Fault> {
    p.boxed(|| Entity::ZERO).ok_or(Fault::NoMemory)
}

impl<P: Platform> Core<P> {
    /// Takes a command: `control::Command` and its items. It ends with `Step::Reply`.
    pub fn command(&mut self, cookie: u64, bytes: &[u8]) -> Submit {
        let Some(c) = self.lifecycle.slots.take() else {
            self.busy = true;
            return Submit::Busy;
        };
        let Some(t) = self.tasks.take() else {
            self.lifecycle.slots.give(c);
            self.busy = true;
            return Submit::Busy;
        };
        *self.lifecycle.slots.at_mut(c) =
            Slot { cookie, input_len: bytes.len().min(INPUT), ..Slot::default() };
        for (to, from) in part_mut(&mut self.lifecycle.inputs, c, INPUT).iter_mut().zip(bytes) {
            *to = *from;
        }
        let task = self.tasks.at_mut(t);
        task.renew(Job::Command, NONE);
        task.cookie = cookie;
        task.aux = c;
        self.ready(t);
        Submit::Queued
    }

    /// Hands out the reply to a command whose `Step::Reply` was given, once.
    pub fn reply(&mut self, cookie: u64, f: &mut dyn FnMut(&[u8])) {
        for c in 0..COMMANDS {
            let slot = *self.lifecycle.slots.at(c);
            if !slot.done || slot.cookie != cookie {
                continue;
            }
            f(part(&self.lifecycle.replies, c, REPLY).get(..slot.reply_len).unwrap_or(&[]));
            self.lifecycle.slots.at_mut(c).done = false;
            self.lifecycle.slots.give(c);
            return;
        }
    }
}

fn range(c: u32, size: usize) -> core::ops::Range<usize> {
    let from = usize::try_from(c).unwrap_or(usize::MAX).saturating_mul(size);
    from..from.saturating_add(size)
}

/// The bytes of command slot `c`.
pub(crate) fn part(all: &[u8], c: u32, size: usize) -> &[u8] {
    all.get(range(c, size)).unwrap_or(&[])
}

/// As [`part`], to be written.
pub(crate) fn part_mut(all: &mut [u8], c: u32, size: usize) -> &mut [u8] {
    all.get_mut(range(c, size)).unwrap_or(&mut [])
}
