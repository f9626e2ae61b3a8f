// SPDX-License-Identifier: MIT

//! The userspace half of rwsnap: the io_uring server, its NBD front, the command line and the
//! storm.

pub mod bench;
pub mod check;
pub mod cli;
pub mod lossy;
pub mod nbd;
pub mod platform;
pub mod server;
pub mod store;
pub mod storm;
pub mod uring;
