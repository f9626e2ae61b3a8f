// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The core of rwsnap: block-level snapshots, writable clones, refresh and instant restore.
//!
//! It does no I/O, has no clock and no threads, allocates through [`platform::Platform`] alone and
//! never panics. A driver (the kernel module, the io_uring server, the storm) submits requests and
//! commands, carries out the steps that the core gives it, and reports how they ended.
// Kbuild makes each crate `no_std` by itself.
#![cfg_attr(not(any(test, CONFIG_RUST)), no_std)]
#![forbid(unsafe_code)]
// `clippy.toml` allows it, which the kernel's build does not read.
#![cfg_attr(CONFIG_RUST, allow(clippy::result_large_err))]

pub mod api;
pub mod catalog;
pub mod control;
pub mod engine;
pub mod fast;
pub mod fault;
pub mod format;
mod lifecycle;
pub mod log;
pub mod map;
pub mod mutants;
pub mod platform;
pub mod slots;
#[cfg(test)]
pub(crate) mod testing;
pub mod units;

pub use engine::Core;
