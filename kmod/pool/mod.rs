// SPDX-License-Identifier: GPL-2.0-only

//! An attached pool: its core behind one lock, and the worker that drives it.
//!
//! Clients leave bios in `inbox`, steps that have ended lie in `cells`, commands in `calls`; all
//! of them kick the worker, one work item, so that it never runs twice at once. In a turn it tells
//! the core what has happened, hands in what waits, and starts what the core wants done. It never
//! waits for I/O, and allocates nothing: all that a request needs was made when the pool was
//! attached.
//!
//! # Locks
//!
//! `bench` (the worker's own) before `core`. A disk's `openers` before `core`. `disks` and
//! `lowers` are held for a look only; the worker has a list of the devices of its own. Nothing is
//! frozen, and no device is opened, under any of them.

mod below;
mod bench;
pub(crate) mod calls;
mod close;
pub(crate) mod disks;
mod news;
pub(crate) mod open;
mod steps;
mod tickets;
mod worker;

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Release, //
        },
        Arc,
        ArcBorrow,
        CondVar,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue::{
        DelayedWork,
        Work, //
    }, //
};
use rwsnap_core::{
    api::Handle,
    control::{
        EventRow,
        Name,
        Refusal, //
    },
    units::Dev, //
};

use crate::{
    block::{
        bdev::Lower,
        bio::{
            BioSet,
            Inbox, //
        },
        disk::Disk,
        step::Cells, //
    },
    mem::Core,
    queue,
    text, //
};
use bench::{
    Bench,
    Lowers,
    Ring, //
};
use calls::Call;

/// Something for the worker beside bios and ended steps.
pub(crate) mod flag {
    /// A passed request left, and a drain waits for that.
    pub(crate) const KICK: u32 = 1;
    /// Show the core the clock.
    pub(crate) const TICK: u32 = 2;
    /// Go on with work in the background.
    pub(crate) const RESUME: u32 = 4;
    /// The core was changed: drain it.
    pub(crate) const POKE: u32 = 8;
}

/// The pool's names, and where it lies.
pub(crate) struct Title {
    /// Its UUID.
    pub(crate) uuid: [u8; 16],
    /// Its name, padded with zeros; may be empty.
    pub(crate) label: [u8; 64],
    /// The path that its save volume was attached by.
    pub(crate) path: KVec<u8>,
}

impl Title {
    /// Calls `f` with its name, or its UUID if it has none. What a save volume bears as its name is
    /// not taken on trust: udev makes a path of it.
    fn with<T>(&self, f: impl FnOnce(&[u8]) -> T) -> T {
        match text::unpadded(&self.label) {
            label if Name::part_is_valid(label) => f(label),
            _ => f(&text::uuid(self.uuid)),
        }
    }
}

/// An attached pool.
#[pin_data]
pub(crate) struct Pool {
    title: Title,
    /// Bytes in a chunk.
    chunk: u32,
    /// None before it is opened and after it is closed.
    #[pin]
    core: Mutex<Option<KVBox<Core>>>,
    #[pin]
    bench: Mutex<KVBox<Bench>>,
    /// The devices by the core's numbers: the save volume is 0.
    #[pin]
    lowers: Mutex<Lowers>,
    /// All that are shown, in the order of their ids.
    #[pin]
    disks: Mutex<KVec<Arc<Disk>>>,
    #[pin]
    calls: Mutex<KVec<Arc<Call>>>,
    /// One at a time: commands that change which disks there are.
    #[pin]
    pub(crate) changing: Mutex<()>,
    /// Disks are not as the core's volumes are: there was no memory for them.
    stale: Atomic<bool>,
    /// Bios for the worker.
    pub(crate) inbox: Inbox,
    /// Steps under way.
    pub(crate) cells: Cells,
    /// Where the bios of steps come from.
    #[pin]
    pub(crate) set: BioSet,
    /// What the worker, and the clock that wakes it, run on.
    queue: queue::Own,
    flags: Atomic<u32>,
    /// The clock ticks, and the worker works.
    running: Atomic<bool>,
    /// A look at the clock is to come.
    ticking: Atomic<bool>,
    /// Turns of the worker, for those who wait for what comes of one.
    #[pin]
    turns: Mutex<u64>,
    #[pin]
    turned: CondVar,
    #[pin]
    work: Work<Self, 0>,
    #[pin]
    ticker: DelayedWork<Self, 1>,
    /// Events that are to be sent.
    #[pin]
    news: Mutex<Ring<EventRow>>,
    #[pin]
    teller: Work<Self, 2>,
}

impl Pool {
    /// Wakes the worker.
    pub(crate) fn kick(self: ArcBorrow<'_, Self>) {
        // If it is queued already, that turn is to come, and sees what this one would have seen.
        let _ = self
            .queue
            .with(|queue| queue.enqueue::<Arc<Self>, 0>(self.into()));
    }

    /// Wakes the worker for this.
    pub(crate) fn wake(self: ArcBorrow<'_, Self>, what: u32) {
        let mut flags = self.flags.load(Acquire);
        while let Err(other) = self.flags.cmpxchg(flags, flags | what, Full) {
            flags = other;
        }
        self.kick();
    }

    /// A passed request left, and a drain waits for that.
    pub(crate) fn drain_may_end(self: ArcBorrow<'_, Self>) {
        self.wake(flag::KICK);
    }

    /// Calls `f` with the core, if the pool is open.
    pub(crate) fn with_core<T>(&self, f: impl FnOnce(&mut Core) -> T) -> Option<T> {
        (*self.core.lock()).as_mut().map(|core| f(core))
    }

    /// Opens a volume or snapshot for I/O.
    ///
    /// # Errors
    ///
    /// Why the core refuses, as an errno.
    pub(crate) fn enter(&self, name: &Name, write: bool) -> Result<Handle> {
        let entered = self
            .with_core(|core| core.attach(name.bytes(), write))
            .ok_or(ENXIO)?;
        entered
            .map(|attached| attached.handle)
            .map_err(|why| match why {
                Refusal::TableFull => EMFILE,
                Refusal::Lost => ENODATA,
                Refusal::Offline => ENOMEDIUM,
                _ => ENXIO,
            })
    }

    /// Closes what `enter` opened.
    pub(crate) fn leave(self: &Arc<Self>, handle: Handle) {
        let _ = self.with_core(|core| core.detach(handle));
        self.as_arc_borrow().wake(flag::POKE);
    }

    /// Whether a forced command has cut this one off.
    pub(crate) fn is_lost(&self, handle: Handle) -> bool {
        self.with_core(|core| core.handle_lost(handle))
            .unwrap_or(true)
    }

    /// Its names, and where it lies.
    pub(crate) fn title(&self) -> &Title {
        &self.title
    }

    /// Calls `f` with its name, or its UUID if it has none.
    pub(crate) fn with_title<T>(&self, f: impl FnOnce(&[u8]) -> T) -> T {
        self.title.with(f)
    }

    /// The device of this number.
    pub(crate) fn lower(&self, number: usize) -> Option<Arc<Lower>> {
        self.lowers.lock().get(number).cloned().flatten()
    }

    /// A number that no production has had since the pool was attached.
    pub(crate) fn free_number(&self) -> usize {
        let mut free = self.lowers.lock().len();
        let _ = self.with_core(|core| {
            core.productions(&mut |known| free = free.max(usize::from(known.dev.0) + 1));
        });
        free
    }

    /// Gives a number a device. The caller holds `changing`, or nobody knows the pool yet.
    ///
    /// # Errors
    ///
    /// No memory.
    pub(crate) fn set_lower(&self, number: usize, lower: Lower) -> Result {
        let lower = Arc::new(lower, GFP_KERNEL)?;
        // The worker needs the lists: nothing is allocated, and nothing closed, under their locks.
        let len = self.lowers.lock().len().max(number.saturating_add(1));
        let rooms = [
            KVec::with_capacity(len, GFP_KERNEL)?,
            KVec::with_capacity(len, GFP_KERNEL)?,
        ];
        let [own, workers] = rooms;
        let old = replace(&mut self.lowers.lock(), own, (number, lower.clone()));
        drop(old);
        let old = replace(&mut self.bench.lock().lowers, workers, (number, lower));
        drop(old);
        Ok(())
    }

    /// Takes a number's device away, when no step is under way on it. The caller holds `changing`,
    /// and the core wants nothing of it any more.
    pub(crate) fn unset_lower(&self, number: usize) {
        let works = |dev| self.bench.lock().works_on(dev);
        while u16::try_from(number).is_ok_and(|number| works(Dev(number))) {
            fsleep(Delta::from_millis(1));
        }
        let workers = take(&mut self.bench.lock().lowers, number);
        let own = take(&mut self.lowers.lock(), number);
        drop((own, workers));
    }

    /// Takes all devices away: the worker has come to its end.
    fn unset_lowers(&self) {
        let workers = core::mem::replace(&mut self.bench.lock().lowers, KVec::new());
        let own = core::mem::replace(&mut *self.lowers.lock(), KVec::new());
        drop((own, workers));
    }

    /// Waits until `look` at the core finds something, as the worker goes on; for ever if need be.
    pub(crate) fn wait<T>(
        self: &Arc<Self>,
        mut look: impl FnMut(&mut Core) -> Option<T>,
    ) -> Option<T> {
        loop {
            let turn = *self.turns.lock();
            match self.with_core(&mut look) {
                None => return None,
                Some(Some(found)) => return Some(found),
                Some(None) => {}
            }
            let mut turns = self.turns.lock();
            while *turns == turn {
                self.turned.wait(&mut turns);
            }
        }
    }

    fn is_running(&self) -> bool {
        self.running.load(Acquire)
    }

    fn set_running(&self, running: bool) {
        self.running.store(running, Release);
    }
}

/// Moves a list to `room`, with another device of this number. What was there before is for the
/// caller to let go.
fn replace(
    list: &mut Lowers,
    mut room: Lowers,
    (number, lower): (usize, Arc<Lower>),
) -> (Lowers, Option<Arc<Lower>>) {
    for at in 0..room.capacity() {
        let _ = room.push_within_capacity(take(list, at));
    }
    let old = room.get_mut(number).and_then(|place| place.replace(lower));
    (core::mem::replace(list, room), old)
}

fn take(list: &mut Lowers, number: usize) -> Option<Arc<Lower>> {
    list.get_mut(number).and_then(Option::take)
}
