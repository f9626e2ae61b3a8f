// SPDX-License-Identifier: MIT

//! What all reactors see, and how they speak to each other.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;

use crossbeam::queue::SegQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::uring::Arena;

use super::config::{Disk, Limits};
use super::volume::BareExports;

/// What one reactor tells another.
#[derive(Debug)]
pub(crate) enum Message {
    /// Serve this client.
    Connection(OwnedFd),
    /// End: take no more requests, finish those under way.
    Stop,
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
#[derive(Debug)]
pub(crate) struct Shared {
    /// Memory for all operations.
    pub(crate) arena: Arc<Arena>,
    /// The files and devices.
    pub(crate) disks: Vec<Disk>,
    /// The disks that are served as they are.
    pub(crate) bare: BareExports,
    /// How much may be used.
    pub(crate) limits: Limits,
    /// One for each reactor.
    pub(crate) inboxes: Vec<Inbox>,
    /// Connections of each reactor.
    pub(crate) loads: Vec<AtomicU32>,
}

impl Shared {
    /// For that many reactors.
    pub(crate) fn new(
        arena: Arc<Arena>,
        disks: Vec<Disk>,
        bare: BareExports,
        limits: Limits,
        reactors: usize,
    ) -> io::Result<Self> {
        let inboxes = (0..reactors).map(|_| Inbox::new()).collect::<io::Result<_>>()?;
        let loads = (0..reactors).map(|_| AtomicU32::new(0)).collect();
        Ok(Self { arena, disks, bare, limits, inboxes, loads })
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
    pub(crate) fn dismiss(&self, reactor: usize) {
        if let Some(load) = self.loads.get(reactor) {
            load.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Tells all reactors to end.
    pub(crate) fn stop(&self) {
        self.inboxes.iter().for_each(|inbox| inbox.send(Message::Stop));
    }
}
