// SPDX-License-Identifier: MIT

//! `rwsnap create`: a pool on a new save volume. Production volumes are looked at, never written.

use std::path::PathBuf;

use clap::ValueEnum;
use rwsnap_core::control::Name;

use crate::store::prepare::{self, Production, Wanted};

use super::add::absolute;
use super::args::{self, Located};
use super::error::{Failure, Outcome};
use super::output::human;
use super::progress::bar;
use super::Global;

/// Make a pool: a save volume for one or more production volumes, whose data is not touched
///
/// SAVE is an image file, which is made if it is not there, or a block device. A single production
/// volume is called `prod` unless it is named.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap create save.img --size 2G --production disk.img
  rwsnap create /dev/vg0/save --production db=/dev/vg0/db --production wal=/dev/vg0/wal")]
pub(super) struct Create {
    /// The save volume: where old data and the data of clones is kept
    #[arg(value_name = "SAVE")]
    save: PathBuf,
    /// A production volume
    #[arg(long, required = true, value_name = "[NAME=]PATH", value_parser = args::maybe_located)]
    production: Vec<Located>,
    /// Bytes in the save volume; if not given, those it has, or a fifth of the production volumes
    #[arg(long, value_name = "SIZE", value_parser = args::size)]
    size: Option<u64>,
    /// Unit of mapping: 4K to 64K
    #[arg(long, value_name = "SIZE", default_value = "4K", value_parser = args::chunk)]
    chunk: u32,
    /// How much a first write copies: a chunk to 1M
    #[arg(long, value_name = "SIZE", value_parser = args::copy_span)]
    copy_span: Option<u32>,
    /// What to do when the save volume is full: make it larger, give up the oldest snapshots, let
    /// writes wait, or let them fail; grow for files and oldest for devices if not given
    #[arg(long, value_enum)]
    when_full: Option<WhenFull>,
    /// Bytes that the save volume may grow to; `set POOL save-limit=SIZE` changes it later
    #[arg(long, value_name = "SIZE", value_parser = args::size)]
    grow_limit: Option<u64>,
    /// Name of the pool; that of the save volume's file if not given
    #[arg(long, value_name = "POOL", value_parser = args::new_volume)]
    name: Option<Name>,
    /// Overwrite what the save volume holds
    #[arg(long)]
    force: bool,
}

/// What to do when the save volume is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WhenFull {
    Grow,
    Oldest,
    Stall,
    Fail,
}

impl WhenFull {
    fn number(self) -> u32 {
        match self {
            Self::Grow => 0,
            Self::Oldest => 1,
            Self::Stall => 2,
            Self::Fail => 3,
        }
    }
}

impl Create {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let productions = self.productions()?;
        if self.copy_span.is_some_and(|span| span < self.chunk) {
            return Err(Failure::usage("--copy-span must not be less than --chunk"));
        }
        let wanted = Wanted {
            save: absolute(&self.save)?,
            size: self.size,
            chunk: self.chunk,
            copy_span: self.copy_span,
            when_full: self.when_full.map(WhenFull::number),
            grow_limit: self.grow_limit,
            name: self.name(),
            force: self.force,
            productions,
        };
        let bar = bar(global, "preparing", 0);
        let made = prepare::create(&wanted, &mut |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        })?;
        bar.finish_and_clear();
        let save = self.save.display();
        let room = human(made.slots.saturating_mul(self.chunk.into()));
        global.say(&format!(
            "made pool `{}` ({}) on {save}: {room} for snapshots and clones",
            made.name,
            uuid::Uuid::from_bytes(made.uuid)
        ));
        Ok(())
    }

    /// Named production volumes at absolute paths.
    fn productions(&self) -> Outcome<Vec<Production>> {
        let single = self.production.len() == 1;
        let mut found: Vec<Production> = Vec::new();
        for located in &self.production {
            let name = match &located.name {
                Some(name) => name.clone(),
                None if single => "prod".to_owned(),
                None => {
                    let path = located.path.display();
                    return Err(Failure::usage(format!(
                        "several production volumes need names: --production NAME={path}"
                    )));
                }
            };
            if found.iter().any(|other| other.name == name) {
                return Err(Failure::usage(format!("two production volumes are named `{name}`")));
            }
            found.push(Production { name, path: absolute(&located.path)? });
        }
        Ok(found)
    }

    /// The pool's name: that given, or the save volume's as far as it makes a name.
    fn name(&self) -> String {
        let given = self.name.map(|name| name.text().to_owned());
        let stem = self.save.file_stem().map(|s| s.to_string_lossy().into_owned());
        let usable = stem.filter(|s| Name::part_is_valid(s.as_bytes()));
        given.or(usable).unwrap_or_else(|| "pool".to_owned())
    }
}
