// SPDX-License-Identifier: MIT

//! What may go wrong, in sentences.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What went wrong.
#[derive(Debug)]
pub enum Error {
    /// The file or device cannot be used.
    Io(PathBuf, io::Error),
    /// It is not a log that can be read, and why.
    NotALog(PathBuf, String),
    /// The log is broken at an entry: its number, its first byte in the log, and how.
    Entry(u64, u64, String),
    /// There is no such entry.
    NoEntry(String),
    /// An entry does not fit onto the device.
    Beyond {
        /// The entry.
        entry: u64,
        /// One past the last byte that it writes.
        end: u64,
        /// Bytes of the device.
        size: u64,
    },
    /// The check failed after an entry: its number, what it is, and how.
    Check(u64, String, String),
}

/// What may go wrong with it.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For use with `map_err`: it happened with this file.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io(path, error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::NotALog(path, why) => {
                write!(f, "{} is not a log of dm-log-writes: {why}", path.display())
            }
            Self::Entry(entry, at, why) => {
                write!(f, "the log is broken at entry {entry} (byte {at}): {why}")
            }
            Self::NoEntry(wanted) => write!(f, "the log has no {wanted}"),
            Self::Beyond { entry, end, size } => {
                let what = "the device is smaller than the one that was logged";
                write!(f, "{what}: entry {entry} writes up to byte {end}, it has {size}")
            }
            Self::Check(entry, what, how) => {
                write!(f, "entry {entry} ({what}): the check failed: {how}")
            }
        }
    }
}

impl std::error::Error for Error {}
