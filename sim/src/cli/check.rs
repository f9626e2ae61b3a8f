// SPDX-License-Identifier: MIT

//! `rwsnap check`: reads all metadata of a pool at rest and says whether it is sound.

use std::path::PathBuf;

use super::error::{Failure, Outcome};
use super::Global;

/// Check the metadata of a pool at rest, changing nothing
///
/// Exit codes: 0 sound, 1 could not check, 2 corrupt, 3 leaks (space that nothing uses).
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap check save.img && echo sound")]
pub(super) struct Check {
    /// The save volume
    #[arg(value_name = "SAVE")]
    save: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self, _global: &Global) -> Outcome<u8> {
        super::locate::require_rest(&self.save, "check")?;
        Err(Failure::new(format!("this build cannot check ({})", self.json)))
    }
}
