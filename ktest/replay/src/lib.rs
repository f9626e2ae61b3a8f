// SPDX-License-Identifier: MIT

//! Replays the log that the device-mapper target `log-writes` keeps of all writes to a device.
//!
//! The target logs writes when a flush made them durable (or when they complete, with FUA), so the
//! log up to any flush is what the device holds for sure if the power goes there. [`format`] reads
//! the bytes, [`log`] walks through the entries, [`replay`] puts them onto a device, [`each`] runs
//! a check at every flush.
//!
//! No number of a log is believed before it is checked, so that a log that was cut off or was
//! never one gives an error that says where.

pub mod cli;
pub mod each;
pub mod error;
pub mod format;
pub mod log;
pub mod replay;

#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod tests;

pub use error::{Error, Result};
pub use format::Flags;
pub use log::{Entry, Log, Point};
pub use replay::{Device, Discards, Span};
