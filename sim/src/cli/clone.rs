// SPDX-License-Identifier: MIT

//! `rwsnap clone`: a writable volume on a snapshot.

use rwsnap_core::control::{self, Name};

use super::args;
use super::connect::command;
use super::error::Outcome;
use super::Global;

/// Make a writable clone of a snapshot
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap clone prod@monday dev1")]
pub(super) struct Clone {
    /// The snapshot that the clone begins as
    #[arg(value_name = "VOL@SNAP", value_parser = args::snapshot)]
    snapshot: Name,
    /// The clone's name
    #[arg(value_name = "NAME", value_parser = args::new_volume)]
    name: Name,
}

impl Clone {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let mut clone = command(control::Verb::Clone, self.snapshot);
        clone.other = self.name;
        global.with(|pool| pool.call(&clone, &[]).map(drop))
    }
}
