// SPDX-License-Identifier: MIT

//! A connection of a client: its buffers, its protocol machines, what is under way for it.
//!
//! ```text
//! Greeting --Ready--> Serving --Disconnect, EOF, error, stop--> Leaving --nothing left--> gone
//!     `-------------------- Close, time is up, EOF -------------->'
//! ```
//!
//! # Invariants
//!
//! - `stream[head..tail]` was received and not yet consumed.
//! - At most one receive (into the stream or into the payload's part) and one send are in flight.
//! - A connection is removed only when nothing in flight names it.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::nbd::{Handshake, Inlet, Replies};
use crate::uring::{File, Span};

use super::control::Control;
use super::volume::Volume;

/// Bytes of a connection's block of socket memory.
pub(crate) const BLOCK: u32 = 128 << 10;
/// Of these, the head of the message that is being sent, with its io vector.
pub(crate) const MESSAGE: u32 = 6 << 10;
/// Of these, the heads of the replies that are being sent.
pub(crate) const HEADS: u32 = 20 << 10;
/// Io vectors in one message.
pub(crate) const VECTORS: usize = 320;

/// Where a connection stands.
pub(crate) enum Phase {
    /// In the handshake.
    Greeting(Box<Handshake>),
    /// In the transmission phase.
    Serving(Serving),
    /// A control client.
    Control(Control),
}

/// What the transmission phase needs.
pub(crate) struct Serving {
    /// Cuts the stream.
    pub(crate) inlet: Inlet,
    /// Writes the heads of replies.
    pub(crate) replies: Replies,
}

/// A piece of what is to be sent: a head out of `Conn::heads`, and data behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    /// Bytes of the head.
    pub(crate) head: u32,
    /// The data; empty if there is none.
    pub(crate) data: Span,
}

/// What is to be sent and what is being sent.
#[derive(Default)]
pub(crate) struct Outbox {
    /// The heads of `queue`, one behind the other.
    pub(crate) heads: Vec<u8>,
    /// What is to be sent.
    pub(crate) queue: VecDeque<Out>,
    /// What is being sent, as far as it is not known to be sent.
    pub(crate) sending: Vec<Span>,
    /// Buffers to be given back when it is sent.
    pub(crate) lent: Vec<Span>,
    /// When the send began that is in flight.
    pub(crate) since: Option<Instant>,
}

impl Outbox {
    /// Nothing waits and nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.since.is_none()
    }
}

/// What is being received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Receiving {
    /// Nothing.
    No,
    /// Bytes behind the stream's end.
    Stream,
    /// The payload of the current write, into its part.
    Payload,
}

/// A connection.
pub(crate) struct Conn {
    /// Keeps the descriptor open.
    pub(crate) socket: OwnedFd,
    /// The same for the ring.
    pub(crate) file: File,
    /// The block of socket memory.
    pub(crate) block: Span,
    /// First byte received and not consumed.
    pub(crate) head: u32,
    /// Behind the last byte received.
    pub(crate) tail: u32,
    /// Where it stands.
    pub(crate) phase: Phase,
    /// What it does I/O on.
    pub(crate) volume: Option<Volume>,
    /// The request that is not yet under way as a whole: a read that waits for memory, a write
    /// whose payload is coming.
    pub(crate) current: Option<u32>,
    /// The receive that is in flight.
    pub(crate) receiving: Receiving,
    /// What goes to the client.
    pub(crate) out: Outbox,
    /// Requests under way.
    pub(crate) requests: u32,
    /// Bytes of buffers held.
    pub(crate) held: u32,
    /// No more requests are taken; it goes when all is sent.
    pub(crate) leaving: bool,
    /// The client is gone, or cut off: nothing can be sent.
    pub(crate) broken: bool,
    /// It is in the list of those to be looked at in this turn.
    pub(crate) dirty: bool,
    /// It waits for memory.
    pub(crate) hungry: bool,
    /// When it came.
    pub(crate) since: Instant,
}

impl Conn {
    /// A new connection.
    pub(crate) fn new(socket: OwnedFd, file: File, block: Span, phase: Phase) -> Self {
        Self {
            socket,
            file,
            block,
            head: 0,
            tail: 0,
            phase,
            volume: None,
            current: None,
            receiving: Receiving::No,
            out: Outbox::default(),
            requests: 0,
            held: 0,
            leaving: false,
            broken: false,
            dirty: false,
            hungry: false,
            since: Instant::now(),
        }
    }

    /// Where the message's head and vector lie.
    pub(crate) fn message(&self) -> Span {
        self.block.cut(0, MESSAGE)
    }

    /// Where the heads of replies that are being sent lie.
    pub(crate) fn heads(&self) -> Span {
        self.block.cut(MESSAGE, HEADS)
    }

    /// The memory of the stream.
    pub(crate) fn stream(&self) -> Span {
        self.block.from(MESSAGE + HEADS)
    }

    /// What was received and not yet consumed.
    pub(crate) fn unread(&self) -> Span {
        self.stream().cut(self.head, self.tail.saturating_sub(self.head))
    }

    /// So many bytes were consumed.
    pub(crate) fn consume(&mut self, bytes: u32) {
        self.head = self.head.saturating_add(bytes).min(self.tail);
        if self.head == self.tail {
            self.head = 0;
            self.tail = 0;
        }
    }

    /// Of a control client, what it needs.
    pub(crate) fn control(&mut self) -> Option<&mut Control> {
        match &mut self.phase {
            Phase::Control(control) => Some(control),
            Phase::Greeting(_) | Phase::Serving(_) => None,
        }
    }

    /// Bytes of the current write's payload that are not in buffers yet.
    pub(crate) fn payload(&self) -> u32 {
        match &self.phase {
            Phase::Serving(serving) => serving.inlet.payload(),
            Phase::Control(control) => u32::try_from(control.data().len()).unwrap_or(0),
            Phase::Greeting(_) => 0,
        }
    }

    /// In the transmission phase, what it needs.
    pub(crate) fn serving(&mut self) -> Option<&mut Serving> {
        match &mut self.phase {
            Phase::Serving(serving) => Some(serving),
            Phase::Greeting(_) | Phase::Control(_) => None,
        }
    }
}
