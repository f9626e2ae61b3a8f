// SPDX-License-Identifier: MIT

//! Constants and structures of the NBD protocol as they are on the wire: all integers big-endian.
//!
//! Names follow the document's, without the `NBD_` in front; each group cites its section.

use rwsnap_core::fault::Fault;
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `NBDMAGIC`, the first thing a server says ("Newstyle negotiation").
pub const INIT_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// `IHAVEOPT`, before the handshake flags and before each option.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// Before each reply to an option ("Fixed newstyle negotiation").
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// Before each request ("Request message").
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// Before each simple reply ("Simple reply message").
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// Before each chunk of a structured reply ("Structured reply chunk message").
pub const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Handshake and client flags ("Handshake flags", "Client flags").
pub mod shake {
    /// Fixed newstyle.
    pub const FIXED_NEWSTYLE: u16 = 1;
    /// No 124 zeros at the end of `OPT_EXPORT_NAME`.
    pub const NO_ZEROES: u16 = 2;
}

/// Option types ("Option types").
pub mod opt {
    #![expect(missing_docs, reason = "the document's names; handled one by one in `options`")]
    pub const EXPORT_NAME: u32 = 1;
    pub const ABORT: u32 = 2;
    pub const LIST: u32 = 3;
    pub const STARTTLS: u32 = 5;
    pub const INFO: u32 = 6;
    pub const GO: u32 = 7;
    pub const STRUCTURED_REPLY: u32 = 8;
    pub const LIST_META_CONTEXT: u32 = 9;
    pub const SET_META_CONTEXT: u32 = 10;
    pub const EXTENDED_HEADERS: u32 = 11;
}

/// Option reply types ("Option reply types").
pub mod rep {
    #![expect(missing_docs, reason = "the document's names")]
    pub const ACK: u32 = 1;
    pub const SERVER: u32 = 2;
    pub const INFO: u32 = 3;
    pub const META_CONTEXT: u32 = 4;
    pub const ERR: u32 = 1 << 31;
    pub const ERR_UNSUP: u32 = ERR + 1;
    pub const ERR_POLICY: u32 = ERR + 2;
    pub const ERR_INVALID: u32 = ERR + 3;
    pub const ERR_UNKNOWN: u32 = ERR + 6;
    pub const ERR_SHUTDOWN: u32 = ERR + 7;
    pub const ERR_TOO_BIG: u32 = ERR + 9;
}

/// Information types ("`NBD_REP_INFO`").
pub mod info {
    #![expect(missing_docs, reason = "the document's names")]
    pub const EXPORT: u16 = 0;
    pub const NAME: u16 = 1;
    pub const DESCRIPTION: u16 = 2;
    pub const BLOCK_SIZE: u16 = 3;
}

/// Transmission flags ("Transmission flags").
pub mod export {
    #![expect(missing_docs, reason = "the document's names")]
    pub const HAS_FLAGS: u16 = 1 << 0;
    pub const READ_ONLY: u16 = 1 << 1;
    pub const SEND_FLUSH: u16 = 1 << 2;
    pub const SEND_FUA: u16 = 1 << 3;
    pub const SEND_TRIM: u16 = 1 << 5;
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    pub const SEND_DF: u16 = 1 << 7;
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    pub const SEND_CACHE: u16 = 1 << 10;
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Request types ("Request types").
pub mod cmd {
    #![expect(missing_docs, reason = "the document's names")]
    pub const READ: u16 = 0;
    pub const WRITE: u16 = 1;
    pub const DISC: u16 = 2;
    pub const FLUSH: u16 = 3;
    pub const TRIM: u16 = 4;
    pub const CACHE: u16 = 5;
    pub const WRITE_ZEROES: u16 = 6;
    pub const BLOCK_STATUS: u16 = 7;
}

/// Command flags ("Command flags").
pub mod flag {
    #![expect(missing_docs, reason = "the document's names")]
    pub const FUA: u16 = 1 << 0;
    pub const NO_HOLE: u16 = 1 << 1;
    pub const DF: u16 = 1 << 2;
    pub const REQ_ONE: u16 = 1 << 3;
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Structured reply types ("Structured reply types").
pub mod chunk {
    #![expect(missing_docs, reason = "the document's names")]
    /// Flag of the last chunk of a reply.
    pub const DONE: u16 = 1;
    pub const NONE: u16 = 0;
    pub const OFFSET_DATA: u16 = 1;
    pub const OFFSET_HOLE: u16 = 2;
    pub const BLOCK_STATUS: u16 = 5;
    /// Set in all error types.
    pub const ERROR_BIT: u16 = 1 << 15;
    pub const ERROR: u16 = ERROR_BIT + 1;
    pub const ERROR_OFFSET: u16 = ERROR_BIT + 2;
}

/// Flags of a `base:allocation` extent ("`base:allocation` metadata context").
pub mod state {
    /// Not allocated: a write may meet `ENOSPC`.
    pub const HOLE: u32 = 1;
    /// Reads as zeros.
    pub const ZERO: u32 = 2;
}

/// The one metadata context there is.
pub const BASE_ALLOCATION: &[u8] = b"base:allocation";

/// The id that `base:allocation` has once it is selected.
pub const ALLOCATION_ID: u32 = 1;

/// Bytes of zeros after the reply to `OPT_EXPORT_NAME`, unless told not to.
pub const ZEROES: usize = 124;

macro_rules! wire {
    (
        $(#[$doc:meta])*
        $name:ident, $bytes:literal { $($(#[$field_doc:meta])* $field:ident: $ty:ty),* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $ty),*
        }
        const _: () = assert!(size_of::<$name>() == $bytes);
    };
}

wire!(
    /// The server's first words.
    Greeting, 18 {
        /// [`INIT_MAGIC`].
        magic: U64,
        /// [`OPTION_MAGIC`].
        option_magic: U64,
        /// See [`shake`].
        flags: U16
    }
);
wire!(
    /// Before the data of an option.
    OptionHeader, 16 {
        /// [`OPTION_MAGIC`].
        magic: U64,
        /// See [`opt`].
        option: U32,
        /// Bytes of data that follow.
        len: U32
    }
);
wire!(
    /// Before the data of a reply to an option.
    OptionReply, 20 {
        /// [`OPTION_REPLY_MAGIC`].
        magic: U64,
        /// The option that is answered.
        option: U32,
        /// See [`rep`].
        kind: U32,
        /// Bytes of data that follow.
        len: U32
    }
);
wire!(
    /// The reply to `OPT_EXPORT_NAME`, before its zeros.
    ExportReply, 10 {
        /// Bytes of the export.
        size: U64,
        /// See [`export`].
        flags: U16
    }
);
wire!(
    /// Data of `INFO_EXPORT`.
    InfoExport, 12 {
        /// [`info::EXPORT`].
        kind: U16,
        /// Bytes of the export.
        size: U64,
        /// See [`export`].
        flags: U16
    }
);
wire!(
    /// Data of `INFO_BLOCK_SIZE`.
    InfoBlockSize, 14 {
        /// [`info::BLOCK_SIZE`].
        kind: U16,
        /// Smallest length and alignment.
        min: U32,
        /// What goes well.
        preferred: U32,
        /// Longest payload.
        max: U32
    }
);
wire!(
    /// A request of the transmission phase.
    RequestHeader, 28 {
        /// [`REQUEST_MAGIC`].
        magic: U32,
        /// See [`flag`].
        flags: U16,
        /// See [`cmd`].
        kind: U16,
        /// The client's name for it ("handle").
        cookie: U64,
        /// First byte.
        at: U64,
        /// Bytes.
        len: U32
    }
);
wire!(
    /// A simple reply, before the data of a read.
    SimpleReply, 16 {
        /// [`SIMPLE_REPLY_MAGIC`].
        magic: U32,
        /// Zero or an [`NbdError`].
        error: U32,
        /// The request's.
        cookie: U64
    }
);
wire!(
    /// Before the data of a chunk of a structured reply.
    Chunk, 20 {
        /// [`CHUNK_MAGIC`].
        magic: U32,
        /// See [`chunk`].
        flags: U16,
        /// See [`chunk`].
        kind: U16,
        /// The request's.
        cookie: U64,
        /// Bytes of data that follow.
        len: U32
    }
);
wire!(
    /// First part of the data of an error chunk.
    ChunkError, 6 {
        /// An [`NbdError`].
        error: U32,
        /// Bytes of the message that follows.
        message: U16
    }
);
wire!(
    /// One extent in the data of a block status chunk.
    Descriptor, 8 {
        /// Bytes.
        len: U32,
        /// See [`state`].
        flags: U32
    }
);

/// Bytes of a request without its payload.
pub const REQUEST_BYTES: usize = size_of::<RequestHeader>();

/// The errors that a reply may bear ("Error values").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum NbdError {
    /// The export cannot be written.
    Perm,
    /// A device failed.
    Io,
    /// Memory was not to be had.
    NoMem,
    /// The request is not valid.
    Inval,
    /// No space, or a write beyond the end.
    NoSpc,
    /// Too long to be read in one chunk.
    Overflow,
    /// A fast zero would not be fast.
    NotSup,
    /// The server is going down.
    Shutdown,
}

impl NbdError {
    /// Its number on the wire.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Perm => 1,
            Self::Io => 5,
            Self::NoMem => 12,
            Self::Inval => 22,
            Self::NoSpc => 28,
            Self::Overflow => 75,
            Self::NotSup => 95,
            Self::Shutdown => 108,
        }
    }

    /// The error of that number; an unexpected one counts as `EINVAL` ("Error values").
    #[must_use]
    pub const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Perm,
            5 => Self::Io,
            12 => Self::NoMem,
            28 => Self::NoSpc,
            75 => Self::Overflow,
            95 => Self::NotSup,
            108 => Self::Shutdown,
            _ => Self::Inval,
        }
    }
}

impl From<Fault> for NbdError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSpace => Self::NoSpc,
            Fault::NoMemory => Self::NoMem,
            Fault::Range => Self::Inval,
            Fault::ReadOnly => Self::Perm,
            Fault::Io | Fault::Lost | Fault::Fenced | Fault::Corrupt | Fault::Bug(_) => Self::Io,
        }
    }
}

/// What went wrong, for the person who reads the client's messages.
#[must_use]
pub const fn sentence(fault: Fault) -> &'static str {
    match fault {
        Fault::Io => "a device of the pool failed",
        Fault::NoSpace => "the save volume or the clone's quota is full",
        Fault::NoMemory => "the server is out of memory",
        Fault::Range => "the request lies beyond the end or is not aligned",
        Fault::ReadOnly => "the volume cannot be written",
        Fault::Lost => "this data was unreadable when it had to be saved",
        Fault::Fenced => "the snapshot was given up, or the pool is fenced: see `rwsnap status`",
        Fault::Corrupt => "the pool's metadata is damaged: run `rwsnap check`",
        Fault::Bug(_) => "internal error: an invariant does not hold",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_survive_the_wire() {
        use NbdError::*;
        for error in [Perm, Io, NoMem, Inval, NoSpc, Overflow, NotSup, Shutdown] {
            assert_eq!(NbdError::from_code(error.code()), error);
        }
        assert_eq!(NbdError::from_code(0xdead_beef), Inval);
    }

    #[test]
    fn faults_become_errors() {
        assert_eq!(NbdError::from(Fault::NoSpace), NbdError::NoSpc);
        assert_eq!(NbdError::from(Fault::ReadOnly), NbdError::Perm);
        assert_eq!(NbdError::from(Fault::Range), NbdError::Inval);
        assert_eq!(NbdError::from(Fault::Lost), NbdError::Io);
        assert_eq!(NbdError::from(Fault::Bug(7)), NbdError::Io);
    }
}
