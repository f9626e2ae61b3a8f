// SPDX-License-Identifier: MIT

//! What happened, as a hash (two runs of a seed must agree) and, if asked for, as text.

use super::rng::mix;

/// The trace of one seed.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    hash: u64,
    verbose: bool,
}

impl Trace {
    /// An empty trace; with `verbose`, lines are printed.
    #[must_use]
    pub(super) const fn new(verbose: bool) -> Self {
        Self { hash: 0, verbose }
    }

    /// Folds numbers into the hash.
    pub(super) fn note(&mut self, numbers: &[u64]) {
        for &number in numbers {
            self.hash = mix(self.hash ^ number);
        }
    }

    /// Prints a line if asked for.
    pub(super) fn say(&self, line: impl FnOnce() -> String) {
        if self.verbose {
            println!("{}", line());
        }
    }

    /// Whether lines are printed.
    #[must_use]
    pub(super) const fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// The hash so far.
    #[must_use]
    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }
}
