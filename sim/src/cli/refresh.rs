// SPDX-License-Identifier: MIT

//! `rwsnap refresh`: a clone begins anew on another snapshot, under the same name and UUID.

use rwsnap_core::control::{self, Name, FLAG_FORCE};

use super::args;
use super::connect::{command, item};
use super::error::Outcome;
use super::Global;

/// Begin a clone anew on a new snapshot of its volume, or on one that is named
///
/// The clone keeps its name, UUID and export. What was written to it is given up, unless --keep
/// names a clone that keeps it.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap refresh dev1
  rwsnap refresh dev1 --to prod@tuesday --keep dev1-old")]
pub(super) struct Refresh {
    /// The clone
    #[arg(value_name = "CLONE", value_parser = args::name)]
    clone: Name,
    /// The snapshot to begin anew on, instead of a new one
    #[arg(long, value_name = "VOL@SNAP", value_parser = args::snapshot)]
    to: Option<Name>,
    /// Keep the former state as a clone of this name
    #[arg(long, value_name = "NAME", value_parser = args::new_volume)]
    keep: Option<Name>,
    /// Cut off clients that have the clone open for writing
    #[arg(long)]
    force: bool,
}

impl Refresh {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let mut refresh = command(control::Verb::Refresh, self.clone);
        refresh.other = self.to.unwrap_or_default();
        refresh.flags = if self.force { FLAG_FORCE } else { 0 }.into();
        let items = self.keep.map(|name| item(name, b"")).transpose()?;
        global.with(|pool| pool.call(&refresh, items.as_slice()).map(drop))
    }
}
