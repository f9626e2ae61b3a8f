// SPDX-License-Identifier: MIT

//! io_uring, and the memory that the kernel reads and writes, behind safe types.
//!
//! All unsafe code of the server lives in [`arena`] and [`ring`]. The rule that makes their
//! functions safe: *whatever an operation in flight may touch lies in the arena*, data buffers,
//! socket buffers, message headers and io vectors alike, and the arena stays mapped until the
//! process ends. Who may use which span when is the caller's bookkeeping ([`pool`]): a mistake
//! there garbles data as a bad disk would, but it cannot break memory.

pub mod arena;
mod ops;
mod poll;
pub mod pool;
pub mod ring;

pub use arena::{Arena, Span};
pub use ops::Hollow;
pub use pool::Pool;
pub use ring::{Completion, File, Ring, Setup};
