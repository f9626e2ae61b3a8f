// SPDX-License-Identifier: MIT

//! What happened, as a hash (two runs of a seed must agree) and, if asked for, as text.

use super::rng::mix;

/// The trace of one seed.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    verbose: bool,
}

impl Trace {
    /// An empty trace; with `verbose`, lines are printed.
    #[must_use]
    pub const fn new(verbose: bool) -> Self {
        Self { hash: 0, verbose }
    }

    /// Folds numbers into the hash.
    pub fn note(&mut self, numbers: &[u64]) {
        for &number in numbers {
            self.hash = mix(self.hash ^ number);
        }
    }

    /// Prints a line if asked for.
    pub fn say(&self, line: impl FnOnce() -> String) {
        if self.verbose {
            println!("{}", line());
        }
    }

    /// Whether lines are printed.
    #[must_use]
    pub const fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// The hash so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }
}
