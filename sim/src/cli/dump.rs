// SPDX-License-Identifier: MIT

//! `rwsnap dump`: all metadata of a pool at rest, as text.

use std::path::PathBuf;

use super::error::{Failure, Outcome};
use super::Global;

/// Print the metadata of a pool at rest, as it lies on the save volume
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap dump save.img | less")]
pub(super) struct Dump {
    /// The save volume
    #[arg(value_name = "SAVE")]
    save: PathBuf,
}

impl Dump {
    pub(super) fn run(self, _global: &Global) -> Outcome {
        super::locate::require_rest(&self.save, "dump")?;
        Err(Failure::new("this build cannot dump"))
    }
}
