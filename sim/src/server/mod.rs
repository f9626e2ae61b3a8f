// SPDX-License-Identifier: MIT

//! The server: NBD over sockets in front, disks behind, one io_uring a thread in between.
//!
//! ```text
//! listen   accepts, places a connection on the reactor that has the fewest
//! inflow   handshake; bytes -> requests; payloads into buffers
//! issue    requests -> parts with memory; parts done -> request answered
//! io       parts -> operations on disks, or requests for the core
//! drive    a visit to the core: what has come up in, what is to be done out
//! steps    the core's steps -> operations on disks
//! outflow  replies of a turn -> one message
//! status   what is allocated
//! control  commands of the command line
//! ```
//!
//! A reactor owns its connections, requests, parts and buffers; nothing of it is shared but what
//! is in `shared`. Memory is bounded: see `memory`.

mod config;
mod conn;
mod control;
mod cookie;
mod drive;
mod ending;
mod inflow;
mod io;
mod issue;
mod listen;
mod memory;
mod news;
mod outflow;
mod pool;
mod reactor;
mod run;
mod shared;
mod slab;
mod status;
mod steps;
mod token;
mod volume;
mod work;

pub use config::{Begin, Config, Find, Limits, Listen, Plain, Pool, Ready, Served, POLL_US};
pub(crate) use listen::unix;
pub(crate) use news::why_fenced;
pub use run::run;
