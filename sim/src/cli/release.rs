// SPDX-License-Identifier: MIT

//! `rwsnap release`.

use rwsnap_core::control::{self, Name};

use super::args;
use super::connect::command;
use super::error::Outcome;
use super::Global;

/// End a hold: the snapshot can be destroyed again
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap release prod@monday")]
pub(super) struct Release {
    /// The snapshot
    #[arg(value_name = "SNAP", value_parser = args::snapshot)]
    snapshot: Name,
}

impl Release {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let release = command(control::Verb::Release, self.snapshot);
        global.with(|pool| pool.call(&release, &[]).map(drop))
    }
}
