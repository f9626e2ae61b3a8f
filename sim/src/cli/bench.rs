// SPDX-License-Identifier: MIT

//! `rwsnap bench`: measurements.

use super::error::{Failure, Outcome};
use super::Global;

/// Measure, side by side with what else is installed
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap bench")]
pub(super) struct Bench {
    /// What to measure, and how
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<String>,
}

impl Bench {
    pub(super) fn run(self, _global: &Global) -> Outcome<u8> {
        Err(Failure::new(format!("this build has no benchmark ({})", self.args.join(" "))))
    }
}
