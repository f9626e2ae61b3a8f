// SPDX-License-Identifier: MIT

//! `rwsnap hide`: takes the block device of a snapshot away.

use rwsnap_core::control::{self, Name};

use super::args;
use super::connect::command;
use super::error::Outcome;
use super::locate::connect_attached;
use super::module::Module;
use super::Global;

/// Take the block device of a snapshot away; refused as long as it is in use
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap hide prod@monday")]
pub(super) struct Hide {
    /// The snapshot
    #[arg(value_name = "VOL@SNAP", value_parser = args::snapshot)]
    snapshot: Name,
}

impl Hide {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let mut pool = connect_attached(global.pool.as_deref(), Module::open())?;
        pool.call(&command(control::Verb::Hide, self.snapshot), &[]).map(drop)
    }
}
