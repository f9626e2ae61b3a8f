// SPDX-License-Identifier: MIT

//! The server: NBD over sockets in front, disks behind, one io_uring a thread in between.
//!
//! ```text
//! listen   accepts, places a connection on the reactor that has the fewest
//! inflow   handshake; bytes -> requests; payloads into buffers
//! issue    requests -> parts with memory; parts done -> request answered
//! io       parts -> operations on disks
//! outflow  replies of a turn -> one message
//! ```
//!
//! A reactor owns its connections, requests, parts and buffers; nothing of it is shared but what
//! is in `shared`. Memory is bounded: see `memory`.

mod config;
mod conn;
mod inflow;
mod io;
mod issue;
mod listen;
mod memory;
mod outflow;
mod reactor;
mod run;
mod shared;
mod slab;
mod token;
mod volume;
mod work;

pub use config::{Config, Disk, Limits, Listen, Plain};
pub use run::run;
