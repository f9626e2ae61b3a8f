// SPDX-License-Identifier: MIT

//! The volumes of a pool as the system has them: image files and block devices.
//!
//! [`device`] opens and locks them and says what they can do; [`lock`] keeps a second opener out
//! and names who is in; [`prepare`] makes a save volume; [`signature`] notices what a device holds
//! already; [`fingerprint`] notices that a production volume was changed behind rwsnap's back;
//! [`offline`] drives the core over them without a server; [`module`] talks to the kernel module,
//! which may drive them in its place.
//!
//! # Invariants
//!
//! - A volume that may be written is held exclusively from before its first byte is read until
//!   [`device::Volume`] is dropped.
//! - Nothing here writes to a production volume, but for `offline` on the core's behalf.

pub mod answer;
pub mod core;
pub mod device;
pub mod engine;
pub mod error;
pub mod fingerprint;
pub mod identify;
pub mod lock;
pub mod module;
pub mod offline;
pub mod prepare;
pub mod signature;
pub mod sockets;
mod sys;

pub use device::{Access, Cache, Kind, Volume};
pub use error::StoreError;
pub use sys::local_time;
