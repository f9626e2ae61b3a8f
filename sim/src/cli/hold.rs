// SPDX-License-Identifier: MIT

//! `rwsnap hold`.

use rwsnap_core::control::{self, Name};

use super::args;
use super::connect::command;
use super::error::Outcome;
use super::Global;

/// Hold a snapshot: it cannot be destroyed
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap hold prod@monday")]
pub(super) struct Hold {
    /// The snapshot
    #[arg(value_name = "SNAP", value_parser = args::snapshot)]
    snapshot: Name,
}

impl Hold {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let hold = command(control::Verb::Hold, self.snapshot);
        global.with(|pool| pool.call(&hold, &[]).map(drop))
    }
}
