// SPDX-License-Identifier: MIT

//! A client's request while it is under way, and the parts it is done in.
//!
//! A request is cut into parts of at most [`PART_MAX`] bytes, each with its own buffer, so that
//! neither its length nor a peer's patience decides over memory. The parts of a read form a queue
//! and are sent in order; a write is answered when its last part is done.

use rwsnap_core::fast::Token;
use rwsnap_core::fault::Fault;

use crate::nbd::wire::sentence;
use crate::nbd::{NbdError, Request};
use crate::uring::Span;

/// Bytes of the largest part.
pub(crate) const PART_MAX: u32 = 256 << 10;

/// Parts of one request under way at once.
pub(crate) const PARTS_MAX: u32 = 64;

/// Why a request failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// For an NBD client.
    pub(crate) error: NbdError,
    /// For a person.
    pub(crate) why: &'static str,
    /// As the core said it, if it did.
    pub(crate) fault: Option<Fault>,
}

impl Failure {
    /// One that the core has no part in.
    pub(crate) const fn new(error: NbdError, why: &'static str) -> Self {
        Self { error, why, fault: None }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { error: fault.into(), why: sentence(fault), fault: Some(fault) }
    }
}

/// A request.
#[derive(Debug)]
pub(crate) struct Work {
    /// Whose it is.
    pub(crate) conn: u32,
    /// What it is.
    pub(crate) request: Request,
    /// Where the next part begins.
    pub(crate) cursor: u64,
    /// Parts whose I/O is not over.
    pub(crate) running: u32,
    /// The queue of a read's parts that are not sent; the part a write's payload goes to.
    pub(crate) first: Option<u32>,
    /// The end of that queue.
    pub(crate) last: Option<u32>,
    /// The first failure, and the same for a person.
    pub(crate) error: Option<Failure>,
    /// A read whose head is sent before all of its data is there.
    pub(crate) streams: bool,
    /// The head of the reply is queued.
    pub(crate) headed: bool,
    /// Zeros or data of more than one part were written and a flush has to make them durable.
    pub(crate) sync: bool,
}

impl Work {
    /// A request just taken from the stream.
    pub(crate) fn new(conn: u32, request: Request) -> Self {
        Self {
            conn,
            request,
            cursor: request.at,
            running: 0,
            first: None,
            last: None,
            error: None,
            streams: false,
            headed: false,
            sync: false,
        }
    }

    /// Behind its last byte.
    pub(crate) fn end(&self) -> u64 {
        self.request.at.saturating_add(u64::from(self.request.len))
    }

    /// Bytes from the cursor on.
    pub(crate) fn left(&self) -> u32 {
        u32::try_from(self.end().saturating_sub(self.cursor)).unwrap_or(u32::MAX)
    }
}

/// What a part is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doing {
    /// Its payload is coming.
    Fill,
    /// Read.
    Read,
    /// Write.
    Write,
    /// Punch a hole, for a trim.
    Trim,
    /// Punch a hole that reads as zeros.
    Punch,
    /// Make zeros, in place.
    Zero,
    /// Write zeros.
    Zeros,
    /// Flush.
    Flush,
    /// Over.
    Done,
}

/// Which way a part went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Via {
    /// No way yet, or to a bare disk.
    Disk(usize),
    /// Past the core, straight to a disk.
    Passed(usize, Token),
    /// Through the core.
    Core,
}

/// A part of a request.
#[derive(Debug)]
pub(crate) struct Part {
    /// Of which request.
    pub(crate) work: u32,
    /// Which way it went.
    pub(crate) via: Via,
    /// First byte of the volume.
    pub(crate) at: u64,
    /// Bytes.
    pub(crate) len: u32,
    /// Bytes of it that are done: received, read or written.
    pub(crate) done: u32,
    /// Its buffer, empty if it needs none.
    pub(crate) buffer: Span,
    /// What it is doing.
    pub(crate) doing: Doing,
    /// The next in the queue.
    pub(crate) next: Option<u32>,
}
