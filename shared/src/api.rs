// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What passes between the core and its driver: requests in, steps out, completions back.
//!
//! The driver drains `Core::poll` after every call that changes the core. A step stays open until
//! `Core::complete`; which bytes it moves is asked with `Core::segs`. The core never sees user
//! data: it names the client's buffer or one of the driver's copy units.

use crate::fault::Fault;
use crate::units::Dev;

/// What a client asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Read.
    Read,
    /// Write; with `fua`, durable when it is done.
    Write {
        /// Durable when done.
        fua: bool,
    },
    /// The data is not needed any more; on a clone it reads as zeros from then on.
    Discard,
    /// Reads as zeros from then on.
    Zero {
        /// Durable when done.
        fua: bool,
    },
    /// All writes that are done are durable.
    Flush,
}

/// One request to a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The volume or snapshot, as `Core::attach` gave it.
    pub volume: Handle,
    /// What to do.
    pub op: Op,
    /// First byte; a multiple of the pool's logical block.
    pub at: u64,
    /// Bytes; a multiple of the logical block. A request must not cross the end of a word
    /// (`Geometry::word_bytes`) unless it is a flush.
    pub len: u32,
    /// The driver's name for the request; `Step::Finish` gives it back.
    pub cookie: u64,
}

/// An opened volume or snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Handle(pub u32);

/// What became of a request or a command that was handed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Submit {
    /// It is under way; its end is a step.
    Queued,
    /// No room: hand it in again after the next `Step::Wake`.
    Busy,
}

/// Names a step until it is completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct StepId {
    /// Place in the core's table; small and dense, so that a driver may index by it.
    pub index: u32,
    /// Which use of that place.
    pub generation: u32,
}

/// What the driver has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Read `len` bytes from `at` into the step's segments.
    Read {
        /// From which device.
        dev: Dev,
        /// First byte.
        at: u64,
        /// Bytes.
        len: u32,
    },
    /// Write the step's segments, `len` bytes, to `at`.
    Write {
        /// To which device.
        dev: Dev,
        /// First byte.
        at: u64,
        /// Bytes.
        len: u32,
        /// Durable when complete.
        fua: bool,
    },
    /// The bytes are not needed any more. May be ignored.
    Discard {
        /// On which device.
        dev: Dev,
        /// First byte.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// The bytes read as zeros when complete.
    Zero {
        /// On which device.
        dev: Dev,
        /// First byte.
        at: u64,
        /// Bytes.
        len: u64,
        /// Durable when complete.
        fua: bool,
    },
    /// All writes that completed before this step was given out are durable.
    Flush {
        /// Of which device.
        dev: Dev,
    },
    /// Fill the step's segments, `len` bytes of a client's buffer, with zeros.
    Clear {
        /// Bytes.
        len: u32,
    },
    /// Make the save volume this large; it never shrinks.
    Grow {
        /// Bytes.
        bytes: u64,
    },
    /// A request is done. Not completed by the driver.
    Finish {
        /// The request's.
        cookie: u64,
        /// How it ended.
        outcome: Result<(), Fault>,
    },
    /// A command is done; its reply lies in `Core::reply`. Not completed by the driver.
    Reply {
        /// The command's.
        cookie: u64,
    },
    /// There is room again for what was `Busy`. Not completed by the driver.
    Wake,
}

/// A piece of the memory that a read or write moves, in the order of the device's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seg<'a> {
    /// Bytes of the buffer of the client's request `cookie`.
    Client {
        /// The request's.
        cookie: u64,
        /// First byte of its buffer.
        at: u32,
        /// Bytes.
        len: u32,
    },
    /// Bytes of a copy unit: one of the driver's buffers, each the size of a chunk.
    ///
    /// A *read* that fills less than a whole unit from its first byte zero-fills the rest of it.
    Copy {
        /// Which.
        unit: u32,
        /// First byte.
        at: u32,
        /// Bytes.
        len: u32,
    },
    /// Metadata to be written.
    Bytes(&'a [u8]),
    /// Metadata to be read: handed in with `Done::bytes`.
    Meta {
        /// Bytes.
        len: u32,
    },
    /// That many zeros to be written.
    Zeros {
        /// Bytes.
        len: u32,
    },
}

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done<'a> {
    /// Success, or what failed. A short transfer is a failure.
    pub result: Result<(), Fault>,
    /// The bytes read, for a read with a `Seg::Meta`; else empty.
    pub bytes: &'a [u8],
    /// For a read into copy units: the `Platform::hash` (seed 0) of each whole unit, in segment
    /// order; else empty.
    pub sums: &'a [u64],
}

impl Done<'_> {
    /// Done, with nothing to hand over.
    #[must_use]
    pub const fn ok() -> Self {
        Self { result: Ok(()), bytes: &[], sums: &[] }
    }

    /// Failed.
    #[must_use]
    pub const fn failed(fault: Fault) -> Self {
        Self { result: Err(fault), bytes: &[], sums: &[] }
    }
}

/// A device as the driver found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device {
    /// Bytes.
    pub size: u64,
    /// Logical block: 512 to 4096 bytes.
    pub block: u32,
    /// Writes may sit in a volatile cache until a flush.
    pub volatile: bool,
    /// A write with `fua` is durable by itself, at no more than the price of a flush.
    pub fua: bool,
}

/// How much memory the core may use; fixed when the pool is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Pages of the metadata cache (4 KiB each), at least 4.
    pub cache_pages: u32,
    /// Records that each delta can hold (about 64 bytes each).
    pub delta_records: u32,
    /// Client requests and commands under way at once.
    pub requests: u32,
    /// Copy units that the driver has, each the size of a chunk; at least 128.
    pub copy_units: u32,
}
