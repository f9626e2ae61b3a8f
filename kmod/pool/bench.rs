// SPDX-License-Identifier: GPL-2.0-only

//! What the worker has under its hands. All of it is made when the pool is attached.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use rwsnap_core::{
    api::{
        Limits,
        Step,
        StepId, //
    },
    platform::Platform,
    units::Dev, //
};

use super::{
    calls::Call,
    tickets::Ticket, //
};
use crate::{
    block::{
        bdev::Lower,
        bio::Bios,
        memory::{
            Bounce,
            Memory,
            Span, //
        }, //
    },
    mem::Kernel, //
};

/// Clients' requests at once; more wait in line.
pub(super) const TICKETS: usize = 256;

/// Pages for metadata on its way.
const BOUNCE_PAGES: usize = 1024;

/// Commands in the core at once.
pub(super) const CALLS: usize = 16;

/// What a step under way does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// It is none.
    Idle,
    /// Read.
    Read,
    /// Write.
    Write {
        /// Durable when done.
        fua: bool,
    },
    /// Flush.
    Flush,
    /// Zeros without data, if the device can do that.
    Zero {
        /// Durable when done.
        fua: bool,
    },
    /// Zeros that are written: the device has no other way.
    Zeros {
        /// Durable when done.
        fua: bool,
    },
    /// Discard.
    Discard,
}

/// A step under way.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) id: StepId,
    pub(super) act: Act,
    pub(super) dev: Dev,
    pub(super) at: u64,
    pub(super) len: u64,
    /// Its metadata on its way, and how many bytes of that are read for the core.
    pub(super) bounce: Span,
    pub(super) meta: usize,
}

impl Run {
    pub(super) const IDLE: Self = Self {
        id: StepId {
            index: u32::MAX,
            generation: 0,
        },
        act: Act::Idle,
        dev: Dev::SAVE,
        at: 0,
        len: 0,
        bounce: Span::EMPTY,
        meta: 0,
    };

    /// Whether the core says what memory it reads or writes.
    pub(super) fn has_data(&self) -> bool {
        matches!(self.act, Act::Read | Act::Write { .. })
    }
}

/// A queue of at most so many, in memory that it has from the beginning.
pub(super) struct Ring<T> {
    items: KVVec<Option<T>>,
    head: usize,
    count: usize,
}

impl<T> Ring<T> {
    /// One of at most so many.
    pub(super) fn new(len: usize) -> Result<Self> {
        let mut made = Self::bare();
        made.make(len)?;
        Ok(made)
    }

    /// One without room, to be made where it will stay: [`Self::make`].
    const fn bare() -> Self {
        Self {
            items: KVVec::new(),
            head: 0,
            count: 0,
        }
    }

    #[inline(never)]
    fn make(&mut self, len: usize) -> Result {
        self.items = KVVec::with_capacity(len, GFP_KERNEL)?;
        for _ in 0..len {
            self.items.push(None, GFP_KERNEL)?;
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Puts one at the end; gives it back if there is no room.
    pub(super) fn push(&mut self, item: T) -> core::result::Result<(), T> {
        let len = self.items.len();
        let at = self.head.wrapping_add(self.count);
        let at = at.checked_sub(len).unwrap_or(at);
        match self.items.get_mut(at) {
            Some(place) if self.count < len => {
                *place = Some(item);
                self.count = self.count.saturating_add(1);
                Ok(())
            }
            _ => Err(item),
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        if self.count == 0 {
            return None;
        }
        let item = self.items.get_mut(self.head)?.take();
        self.count = self.count.saturating_sub(1);
        self.head = self.head.saturating_add(1);
        if self.head == self.items.len() {
            self.head = 0;
        }
        item
    }
}

/// The devices by the core's numbers: the save volume is 0.
pub(super) type Lowers = KVec<Option<Arc<Lower>>>;

/// The worker's state.
pub(super) struct Bench {
    /// The devices, as the pool has them: `Pool::set_lower` sees to that.
    pub(super) lowers: Lowers,
    /// Bios that have no ticket yet.
    pub(super) line: Bios,
    /// Requests under way.
    pub(super) tickets: KVVec<Option<Ticket>>,
    /// Tickets that are free.
    pub(super) free: KVVec<u32>,
    /// Tickets that the core had no room for.
    pub(super) refused: Ring<u32>,
    /// Steps under way, by the core's index.
    pub(super) runs: KVVec<Run>,
    /// Steps for which there were no pages.
    pub(super) later: Ring<(StepId, Step)>,
    /// Pages for metadata on its way.
    pub(super) bounce: Bounce,
    /// Copy units, one after another, each the size of a chunk.
    pub(super) units: Memory,
    pub(super) chunk: u32,
    /// Checksums of the units of one step.
    pub(super) sums: KVVec<u64>,
    /// Commands in the core, by their cookies; and those that it had no room for.
    pub(super) called: [Option<Arc<Call>>; CALLS],
    pub(super) waiting: Ring<Arc<Call>>,
    /// No step is to be taken: what changes productions comes to its end.
    pub(super) paused: bool,
    /// The core said that there is room again.
    pub(super) woken: bool,
    /// The last event that is known.
    pub(super) told: u64,
}

/// Steps that the core opens at once at most, as `Core::build` reckons.
pub(super) fn steps(limits: &Limits) -> usize {
    limits
        .requests
        .saturating_mul(4)
        .max(1024)
        .saturating_add(128) as usize
}

impl Bench {
    /// For a pool of such limits and chunks.
    #[inline(never)]
    pub(super) fn new(limits: &Limits, chunk: u32) -> Result<KVBox<Self>> {
        let steps = steps(limits);
        let units = limits.copy_units as usize;
        let mut made = Self::bare(units, chunk)?;
        made.make_tickets()?;
        made.refused.make(TICKETS)?;
        made.runs = KVVec::from_elem(Run::IDLE, steps, GFP_KERNEL)?;
        made.later.make(steps)?;
        made.sums = KVVec::with_capacity(units, GFP_KERNEL)?;
        made.waiting.make(CALLS)?;
        Ok(made)
    }

    /// One that has no memory but that for devices, where it will stay.
    #[inline(never)]
    fn bare(units: usize, chunk: u32) -> Result<KVBox<Self>> {
        let bounce = Bounce::new(BOUNCE_PAGES)?;
        let units = Memory::new(units.checked_mul(chunk as usize).ok_or(EOVERFLOW)?)?;
        let bare = || Self {
            lowers: KVec::new(),
            line: Bios::default(),
            tickets: KVVec::new(),
            free: KVVec::new(),
            refused: Ring::bare(),
            runs: KVVec::new(),
            later: Ring::bare(),
            bounce,
            units,
            chunk,
            sums: KVVec::new(),
            called: [const { None }; CALLS],
            waiting: Ring::bare(),
            paused: false,
            woken: false,
            told: 0,
        };
        Kernel.boxed(bare).ok_or(ENOMEM)
    }

    #[inline(never)]
    fn make_tickets(&mut self) -> Result {
        self.tickets = KVVec::with_capacity(TICKETS, GFP_KERNEL)?;
        self.free = KVVec::with_capacity(TICKETS, GFP_KERNEL)?;
        for at in (0..TICKETS).rev() {
            self.tickets.push(None, GFP_KERNEL)?;
            self.free.push(at as u32, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// The device of this number.
    pub(super) fn lower(&self, dev: Dev) -> Option<&Lower> {
        self.lowers.get(usize::from(dev.0))?.as_deref()
    }

    /// Whether a step is under way on this device.
    pub(super) fn works_on(&self, dev: Dev) -> bool {
        let mut runs = self.runs.iter();
        runs.any(|run| run.dev == dev && run.act != Act::Idle)
    }

    /// Whether a step is under way that changes a production.
    pub(super) fn changes_production(&self) -> bool {
        let changes = |act| !matches!(act, Act::Idle | Act::Read | Act::Flush);
        self.runs
            .iter()
            .any(|run| run.dev != Dev::SAVE && changes(run.act))
    }

    /// Forgets steps that were not started: their core goes.
    pub(super) fn forget_steps(&mut self) {
        while self.later.pop().is_some() {}
        self.woken = false;
    }

    /// Whether no request and no step is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.line.is_empty()
            && self.free.len() == TICKETS
            && self.runs.iter().all(|run| run.act == Act::Idle)
    }
}
