// SPDX-License-Identifier: MIT

//! `rwsnap remove`: takes a production volume out of the pool.

use rwsnap_core::control::{self, Name};

use super::args;
use super::connect::command;
use super::error::Outcome;
use super::Global;

/// Take a production volume out of the pool; its data stays as it is
///
/// Refused as long as it has snapshots.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap remove wal")]
pub(super) struct Remove {
    /// The production volume
    #[arg(value_name = "NAME", value_parser = args::name)]
    name: Name,
}

impl Remove {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let remove = command(control::Verb::Remove, self.name);
        global.with(|pool| pool.call(&remove, &[]).map(drop))
    }
}
