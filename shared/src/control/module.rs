// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The module's ioctl on `/dev/rwsnap-control`: the envelope around a command and its reply.
//!
//! The one request, [`EXCHANGE`], takes an [`Exchange`]. The command's bytes are read from the
//! caller's memory and the reply is written to it, both as on the server's socket but without
//! their lengths in front. A command that was understood is answered by a reply, which may be a
//! refusal; the ioctl itself fails where no reply can be made:
//!
//! | errno | why |
//! |---|---|
//! | `EPERM` | the caller lacks `CAP_SYS_ADMIN` |
//! | `ENOTTY` | it is another request |
//! | `EPROTO` | the envelope's magic or version is not ours: the program is of another version |
//! | `EINVAL` | lengths make no sense |
//! | `EFAULT` | the memory cannot be read or written |
//! | `ENODEV` | no pool of that name or UUID is attached |
//! | `ENOTUNIQ` | no pool was named and more than one is attached, or two bear the name |
//! | `ENOBUFS` | the reply does not fit; what was commanded is done |
//! | `EINTR` | a signal came while the command waited; what was commanded may still be done |

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Name;

/// The control device's name in `/dev`.
pub const DEVICE: &str = "rwsnap-control";

/// `_IOWR('R', 0x53, Exchange)`.
pub const EXCHANGE: u32 = 3 << 30 | 192 << 16 | (b'R' as u32) << 8 | 0x53;

/// Bytes of a command, with all behind it, at most.
pub const COMMAND_MAX: usize = 128 << 10;

/// Room for a reply that is enough for each.
pub const REPLY_ROOM: usize = 128 << 10;

/// The envelope. Numbers are little-endian, as in what it carries.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
pub struct Exchange {
    /// [`super::MAGIC`].
    pub magic: U32,
    /// [`super::VERSION`].
    pub version: U16,
    /// Zero.
    pub flags: U16,
    /// The pool: its name or UUID; empty for the only one.
    pub pool: Name,
    /// Where the command lies.
    pub command: U64,
    /// Its bytes.
    pub command_bytes: U32,
    /// Bytes of room for the reply.
    pub reply_room: U32,
    /// Where the reply goes.
    pub reply: U64,
    /// Bytes of the reply; set by the module.
    pub reply_bytes: U32,
    /// Zero.
    pub reserved: [u8; 28],
}

const _: () = assert!(size_of::<Exchange>() == 192);
