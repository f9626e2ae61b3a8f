// SPDX-License-Identifier: MIT

//! What all reactors see, and how they speak to each other.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;

use crossbeam::queue::SegQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};

use rwsnap_core::fault::Fault;

use crate::nbd::Address;
use crate::uring::Arena;

use super::config::Limits;
use super::pool::{Disks, Pool};
use super::volume::Bare;

/// Control connections at once.
pub(crate) const CONTROLS: u32 = 16;

/// What one reactor tells another.
#[derive(Debug)]
pub(crate) enum Message {
    /// Serve this client.
    Connection(OwnedFd),
    /// End: take no more requests, finish those under way.
    Stop,
    /// The core is done with this part's request.
    Finished(u32, Result<(), Fault>),
    /// The core has answered the command of this control client.
    Replied(u32, Vec<u8>),
    /// The core has room again.
    Room,
    /// This disk is no longer the pool's.
    Forget(usize),
    /// Look at how things stand.
    Look,
}

/// Where a reactor finds its messages.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: SegQueue<Message>,
    pub(crate) event: EventFd,
    /// The reactor was woken and has not looked since.
    woken: AtomicBool,
}

impl Inbox {
    fn new() -> io::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { queue: SegQueue::new(), event, woken: AtomicBool::new(false) })
    }

    /// Leaves a message and wakes the reactor.
    pub(crate) fn send(&self, message: Message) {
        self.queue.push(message);
        if !self.woken.swap(true, Ordering::SeqCst) {
            // A full counter (2^64) means that the reactor is awake.
            let _ = self.event.write(1);
        }
    }

    /// From now on a message wakes the reactor again; to be called before the queue is emptied.
    pub(crate) fn look(&self) {
        self.woken.store(false, Ordering::SeqCst);
    }

    /// The next message.
    pub(crate) fn take(&self) -> Option<Message> {
        self.queue.pop()
    }
}

/// What all reactors see.
pub(crate) struct Shared {
    /// Memory for all operations.
    pub(crate) arena: Arc<Arena>,
    /// The files and devices.
    pub(crate) disks: Disks,
    /// The disks that are served as they are.
    pub(crate) bare: Vec<Bare>,
    /// The pool that is served.
    pub(crate) pool: Option<Arc<Pool>>,
    /// Where NBD clients come from.
    pub(crate) addresses: Vec<Address>,
    /// How much may be used.
    pub(crate) limits: Limits,
    /// One for each reactor.
    pub(crate) inboxes: Vec<Inbox>,
    /// NBD connections of each reactor.
    pub(crate) loads: Vec<AtomicU32>,
    /// Control connections; all are with the first reactor.
    pub(crate) controls: AtomicU32,
}

/// What there is for each reactor.
pub(crate) fn inboxes(reactors: usize) -> io::Result<(Vec<Inbox>, Vec<AtomicU32>)> {
    let inboxes = (0..reactors).map(|_| Inbox::new()).collect::<io::Result<_>>()?;
    Ok((inboxes, (0..reactors).map(|_| AtomicU32::new(0)).collect()))
}

impl Shared {
    /// Whether no client is left.
    pub(crate) fn is_deserted(&self) -> bool {
        let all = self.loads.iter().chain([&self.controls]);
        all.fold(0, |sum: u32, load| sum.saturating_add(load.load(Ordering::SeqCst))) == 0
    }

    /// Counts a control connection; false if there are too many.
    pub(crate) fn admit_control(&self) -> bool {
        let fits = |n: u32| (n < CONTROLS).then_some(n.saturating_add(1));
        self.controls.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits).is_ok()
    }

    /// A disk is no longer the pool's: all let go of it.
    pub(crate) fn forget_disk(&self, number: usize) {
        self.disks.drop_one(number);
        self.inboxes.iter().for_each(|inbox| inbox.send(Message::Forget(number)));
    }

    /// The reactor for a new connection, which is counted; `None` if there are too many.
    pub(crate) fn admit(&self) -> Option<usize> {
        let counts = || self.loads.iter().map(|load| load.load(Ordering::SeqCst));
        if counts().fold(0, u32::saturating_add) >= self.limits.connections {
            return None;
        }
        let (reactor, _) = counts().enumerate().min_by_key(|&(_, count)| count)?;
        self.loads.get(reactor)?.fetch_add(1, Ordering::SeqCst);
        Some(reactor)
    }

    /// A connection of that reactor is gone.
    pub(crate) fn dismiss(&self, reactor: usize, control: bool) {
        let load = if control { Some(&self.controls) } else { self.loads.get(reactor) };
        if let Some(load) = load {
            load.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Makes the first reactor look at how things stand.
    pub(crate) fn look(&self) {
        if let Some(inbox) = self.inboxes.first() {
            inbox.send(Message::Look);
        }
    }

    /// Tells all reactors to end.
    pub(crate) fn stop(&self) {
        self.inboxes.iter().for_each(|inbox| inbox.send(Message::Stop));
    }
}
