// SPDX-License-Identifier: MIT

//! `rwsnap map`: where each chunk of a volume or snapshot is read from.

use rwsnap_core::control::{self, Name, RunRow};

use super::args;
use super::connect::command;
use super::error::Outcome;
use super::info::entity;
use super::output::{bytes, print, print_json, Rows};
use super::view::Run;
use super::Global;

/// Show where the data of a volume or snapshot lies, in runs of chunks that are alike
///
/// PLACE is in-place (AT: byte of the production volume), slot (AT: first slot of the save volume),
/// zero or lost. FLAGS: bit (since its newest snapshot the volume got data of its own: new data of
/// a clone, copied old data of a production), base (read from what a clone stands on: its base, or
/// a snapshot of its own), and of a production that is being restored settled, unsettled and
/// restore-new.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap map dev1 --json")]
pub(super) struct Map {
    /// The volume or snapshot
    #[arg(value_name = "NAME", value_parser = args::name)]
    name: Name,
    /// For scripts: no titles, one tab between columns
    #[arg(short = 'H', long = "no-titles")]
    bare: bool,
    /// Exact numbers
    #[arg(short = 'p', long = "exact")]
    exact: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Map {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let (chunk, size, rows) = global.with(|pool| {
            let chunk = u64::from(pool.pool()?.chunk.get());
            let size = entity(pool, self.name)?.size.get();
            Ok((chunk, size, pool.all::<RunRow>(command(control::Verb::Map, self.name))?))
        })?;
        let mut runs: Vec<Run> = Vec::new();
        for run in rows.iter().map(|row| Run::new(row, chunk, size)) {
            if !runs.last_mut().is_some_and(|last| last.join(&run, chunk)) {
                runs.push(run);
            }
        }
        if self.json {
            return print_json(&runs);
        }
        let mut table = Rows::new(&[">OFFSET", ">LENGTH", "PLACE", ">AT", "FLAGS", ">EPOCH"]);
        for run in &runs {
            table.push(run.texts(|n| bytes(n, self.exact)));
        }
        print(&if self.bare { table.tabbed() } else { table.aligned() })
    }
}
