// SPDX-License-Identifier: MIT

//! The NBD protocol: the server's side without any I/O, and a small blocking client.
//!
//! The facts come from the protocol document ("The NBD protocol", `doc/proto.md` of the reference
//! implementation); docstrings cite its sections. A connection goes through two machines:
//!
//! ```text
//! bytes in -> Handshake::feed  -> output() to send, then Ready(Session)      once
//! bytes in -> Inlet::next      -> requests, write payloads, refusals          for good
//!             Replies::{data, done, failed, block_status} -> bytes to send
//! ```
//!
//! None of them does I/O, keeps a clock or allocates for a request: the reactor does, under the
//! limits below. A peer's number is checked before it is used, and never sizes an allocation.

pub mod client;
pub mod handshake;
mod options;
mod output;
pub mod reply;
pub mod transmission;
pub mod uri;
pub mod wire;

pub use handshake::{Closing, Export, Exports, Handshake, Progress, Refusal, Session, Waiting};
pub use reply::Replies;
pub use transmission::{Command, Event, Inlet, Refused, Request};
pub use uri::Address;
pub use wire::NbdError;

use std::time::Duration;

/// Connections that a server holds at once; a further one is closed at once.
pub const CONNECTIONS_MAX: usize = 100;

/// How long a client may take from its connection to the transmission phase.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How long a client may leave replies unread before it is cut off.
pub const SEND_TIME: Duration = Duration::from_secs(60);

/// Requests under way at once for one connection; beyond it the server stops reading.
pub const REQUESTS_MAX: usize = 256;

/// Bytes of the requests under way at once for one connection.
pub const REQUEST_BYTES_MAX: u64 = 64 << 20;

/// Bytes of the requests under way at once for all connections.
pub const TOTAL_BYTES_MAX: u64 = 256 << 20;

/// Bytes that one read or write may carry; the advertised maximum block size.
pub const PAYLOAD_MAX: u32 = 32 << 20;

/// Bytes in the name of an export ("Conventions": strings SHOULD be no longer).
pub const NAME_MAX: usize = 256;

/// Bytes of data that an option may bring; more is discarded and refused.
pub const OPTION_MAX: usize = 8 << 10;

/// Options that a client may send before it is cut off. Some ask two or three things of each export
/// that there is, on one connection; the time that they may take bounds them as well.
pub const OPTIONS_MAX: u32 = 8192;
