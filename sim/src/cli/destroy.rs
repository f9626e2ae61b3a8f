// SPDX-License-Identifier: MIT

//! `rwsnap destroy`: ends clones and snapshots.

use rwsnap_core::control::{
    self, rows::FREES_LATER, Name, NameRow, FLAG_DEFER, FLAG_DRY_RUN, FLAG_RECURSIVE, ITEMS_MAX,
};

use super::args;
use super::connect::{command, item};
use super::error::{Failure, Outcome};
use super::output::{human, print, print_json, Rows};
use super::Global;

/// Destroy clones and snapshots, all of those named or none
///
/// Refused if others need them, and they are named; nothing is changed then.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap destroy prod@monday
  rwsnap destroy -r --dry-run prod@monday
  rwsnap destroy dev1 dev2")]
pub(super) struct Destroy {
    /// Clones and snapshots
    #[arg(required = true, value_name = "NAME", value_parser = args::name)]
    names: Vec<Name>,
    /// Destroy also what depends on them: snapshots of a clone, clones of a snapshot
    #[arg(short, long)]
    recursive: bool,
    /// Change nothing; say what would go and how much space each alone would free (not what
    /// several share, and of a clone its snapshots' too), or that it would go with what needs it
    #[arg(long)]
    dry_run: bool,
    /// Snapshots that are needed go as soon as nothing needs them any more
    #[arg(long)]
    defer: bool,
    /// With --dry-run: as JSON
    #[arg(long, requires = "dry_run")]
    json: bool,
}

#[derive(serde::Serialize)]
struct Gone {
    name: String,
    frees: u64,
    deferred: bool,
}

impl From<&NameRow> for Gone {
    fn from(row: &NameRow) -> Self {
        let (frees, deferred) = (row.frees.get(), row.frees.get() == FREES_LATER);
        Self { name: row.name.text().to_owned(), frees: if deferred { 0 } else { frees }, deferred }
    }
}

impl Destroy {
    pub(super) fn run(self, global: &Global) -> Outcome {
        if self.names.len() > ITEMS_MAX {
            return Err(Failure::usage(format!("at most {ITEMS_MAX} names at once")));
        }
        let items = self.names.iter().map(|name| item(*name, b""));
        let items = items.collect::<Outcome<Vec<_>>>()?;
        let mut destroy = command(control::Verb::Destroy, Name::default());
        let flag = |on: bool, flag| if on { flag } else { 0 };
        destroy.flags = (flag(self.recursive, FLAG_RECURSIVE)
            | flag(self.dry_run, FLAG_DRY_RUN)
            | flag(self.defer, FLAG_DEFER))
        .into();
        let answer = global.with(|pool| pool.call(&destroy, &items))?;
        if !self.dry_run {
            return Ok(());
        }
        let gone: Vec<Gone> = answer.rows().iter().map(Gone::from).collect();
        let more = answer.more_names();
        if self.json {
            if more != 0 {
                eprintln!("rwsnap: {more} more are not named");
            }
            return print_json(&gone);
        }
        let mut rows = Rows::new(&["WOULD DESTROY", ">FREES ALONE"]);
        for Gone { name, frees, deferred } in gone {
            rows.push(vec![name, if deferred { "deferred".to_owned() } else { human(frees) }]);
        }
        if more != 0 {
            rows.push(vec![format!("... and {more} more"), String::new()]);
        }
        print(&rows.aligned())
    }
}
