// SPDX-License-Identifier: MIT

//! `rwsnap dump`: all metadata of a pool at rest, as text.

use std::io::BufWriter;
use std::path::PathBuf;

use crate::check::{self, DumpError};

use super::error::{Failure, Outcome};
use super::locate::require_rest;
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
        require_rest(&self.save, "dump")?;
        let mut out = BufWriter::new(std::io::stdout().lock());
        check::dump(&self.save, &mut out).map_err(|e| match e {
            DumpError::Store(e) => e.into(),
            DumpError::Write(e) => Failure::io("print")(e),
        })
    }
}
