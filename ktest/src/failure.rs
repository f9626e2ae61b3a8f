// SPDX-License-Identifier: MIT

//! What went wrong, as sentences for a person: the outermost first, its causes below it.

use std::fmt::{self, Display};
use std::io;
use std::path::Path;

/// Why something could not be done.
#[derive(Debug)]
pub(crate) struct Failure(Vec<String>);

/// The result of everything here.
pub(crate) type Result<T = ()> = std::result::Result<T, Failure>;

/// A failure of one sentence.
pub(crate) fn fail<T>(what: impl Display) -> Result<T> {
    Err(Failure(vec![what.to_string()]))
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n    "))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(vec![error.to_string()])
    }
}

/// Says what was being done when something failed.
pub(crate) trait Context<T> {
    /// Puts a sentence above the failure.
    fn context(self, what: impl Display) -> Result<T>;

    /// Puts the file that it was about above the failure.
    fn about(self, path: &Path) -> Result<T>
    where
        Self: Sized,
    {
        self.context(path.display())
    }
}

impl<T, E: Into<Failure>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl Display) -> Result<T> {
        self.map_err(|error| {
            let mut failure = error.into();
            failure.0.insert(0, what.to_string());
            failure
        })
    }
}
