// SPDX-License-Identifier: MIT

//! `rwsnap rename`.

use rwsnap_core::control::{self, Name};

use super::args;
use super::connect::command;
use super::error::Outcome;
use super::Global;

/// Give a volume or snapshot another name
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap rename dev1 test1
  rwsnap rename prod@monday prod@release-7")]
pub(super) struct Rename {
    /// The volume or snapshot
    #[arg(value_name = "OLD", value_parser = args::name)]
    old: Name,
    /// Its new name; for a snapshot, of the same volume
    #[arg(value_name = "NEW", value_parser = args::new_name)]
    new: Name,
}

impl Rename {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let mut rename = command(control::Verb::Rename, self.old);
        rename.other = self.new;
        global.with(|pool| pool.call(&rename, &[]).map(drop))
    }
}
