// SPDX-License-Identifier: MIT

//! `rwsnap snapshot`: a moment of one volume, or one consistent moment of several.

use rwsnap_core::control::{self, Name, ITEMS_MAX};

use super::args;
use super::connect::{command, item};
use super::error::{Failure, Outcome};
use super::Global;

/// Take a snapshot; of several volumes, at one consistent moment
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap snapshot prod@monday
  rwsnap snapshot db@before-upgrade wal@before-upgrade")]
pub(super) struct Snapshot {
    /// Snapshots to take, as VOLUME@SNAPSHOT
    #[arg(required = true, value_name = "VOL@SNAP", value_parser = args::snapshot)]
    snapshots: Vec<Name>,
}

impl Snapshot {
    pub(super) fn run(self, global: &Global) -> Outcome {
        if self.snapshots.len() > ITEMS_MAX {
            return Err(Failure::usage(format!("at most {ITEMS_MAX} snapshots at one moment")));
        }
        for (n, name) in self.snapshots.iter().enumerate() {
            let volume = name.split().0;
            let other = self.snapshots.iter().take(n).find(|other| other.split().0 == volume);
            if let Some(other) = other {
                return Err(Failure::usage(format!(
                    "`{}` and `{}` are of the same volume, which has one snapshot at one moment; \
                     take them one after the other",
                    other.text(),
                    name.text()
                )));
            }
        }
        let items = self.snapshots.iter().map(|name| item(*name, b""));
        let items = items.collect::<Outcome<Vec<_>>>()?;
        let snapshot = command(control::Verb::Snapshot, Name::default());
        global.with(|pool| pool.call(&snapshot, &items).map(drop))
    }
}
