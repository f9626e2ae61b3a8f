// SPDX-License-Identifier: MIT

//! Why a command failed, for a person, and the exit code that says so to a script.

use std::fmt;
use std::io;

use crate::store::StoreError;

/// Exit code: failed.
pub const FAILED: u8 = 1;
/// Exit code: the command line makes no sense (`EX_USAGE`).
pub const USAGE: u8 = 64;

/// A failed command: one sentence or more, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened, to which object, and what to do; empty if there is nobody to tell.
    pub message: String,
    /// The exit code.
    pub code: u8,
}

/// What a command gives.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// It failed, and this is why.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: FAILED }
    }

    /// The command line makes no sense, and this is why.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: USAGE }
    }

    /// For use with `map_err`: `doing` failed.
    pub fn io(doing: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |e| match e.kind() {
            // Whoever read the output has gone, as `head` does: that is no news to anybody.
            io::ErrorKind::BrokenPipe => Self { message: String::new(), code: FAILED },
            _ => Self::new(format!("cannot {doing}: {e}")),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(e: StoreError) -> Self {
        Self::new(e.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
