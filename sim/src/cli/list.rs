// SPDX-License-Identifier: MIT

//! `rwsnap list`: volumes and snapshots, in columns or as JSON.

mod column;
mod order;

use clap::ValueEnum;
use rwsnap_core::control::rows::{FLAG_HIDDEN, KIND_CLONE, KIND_PRODUCTION, KIND_SNAPSHOT};
use rwsnap_core::control::{self, EntityRow, Name};

use self::column::{Among, Column};
use super::args;
use super::connect::command;
use super::error::{Failure, Outcome};
use super::output::{print, print_json, Rows};
use super::view::Entity;
use super::Global;

/// List volumes and snapshots
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap list
  rwsnap list -t snapshot -o name,used,created -S used
  rwsnap list -r prod --json
  rwsnap list -o name,origin,bases,needed-by
  rwsnap list -Hp -o name,used | awk '{ sum += $2 } END { print sum }'")]
pub(super) struct List {
    /// This one alone, or with -r all that depends on it
    #[arg(value_name = "NAME", value_parser = args::name)]
    name: Option<Name>,
    /// With NAME: also its snapshots, their clones, and so on
    #[arg(short, long, requires = "name")]
    recursive: bool,
    /// Only these types, with commas between them
    #[arg(short = 't', long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<Type>,
    /// Columns, with commas between them
    #[arg(short = 'o', value_name = "COLUMNS", value_delimiter = ',', long = "columns")]
    #[arg(default_value = "name,type,used,refer,size,origin,created,flags")]
    columns: Vec<Column>,
    /// Sort by this column, the smallest first
    #[arg(short = 's', value_name = "COLUMN", conflicts_with = "sort_down", long = "sort")]
    sort_up: Option<Column>,
    /// Sort by this column, the largest first
    #[arg(short = 'S', value_name = "COLUMN", long = "sort-down")]
    sort_down: Option<Column>,
    /// For scripts: no titles, one tab between columns
    #[arg(short = 'H', long = "no-titles")]
    bare: bool,
    /// Exact numbers: bytes, and seconds since 1970
    #[arg(short = 'p', long = "exact")]
    exact: bool,
    /// As JSON, with all that is known
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Type {
    Production,
    Clone,
    Snapshot,
    /// What is kept for others' sake alone.
    Hidden,
    All,
}

impl Type {
    fn fits(self, row: &EntityRow) -> bool {
        let hidden = row.flags.get() & FLAG_HIDDEN != 0;
        let kind = row.kind.get();
        match self {
            Self::Production => kind == KIND_PRODUCTION && !hidden,
            Self::Clone => kind == KIND_CLONE && !hidden,
            Self::Snapshot => kind == KIND_SNAPSHOT && !hidden,
            Self::Hidden => hidden,
            Self::All => true,
        }
    }
}

impl List {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let mut listed = command(control::Verb::List, Name::default());
        listed.flags = control::FLAG_COUNT.into();
        let (mut rows, devices) =
            global.with(|pool| Ok((pool.all::<EntityRow>(listed)?, pool.devices()?)))?;
        order::family(&mut rows);
        let all = rows.clone();
        let all = Among { rows: &all, devices: &devices };
        if let Some(name) = &self.name {
            rows = self.only(name, &rows)?;
        }
        rows.retain(|row| self.is_wanted(row));
        if let Some(column) = self.sort_up.or(self.sort_down) {
            rows.sort_by(|a, b| column.compare(a, b, all));
        }
        if self.sort_down.is_some() {
            rows.reverse();
        }
        self.show(&rows, all)
    }

    /// The one named; with -r also what depends on it.
    fn only(&self, name: &Name, rows: &[EntityRow]) -> Outcome<Vec<EntityRow>> {
        let found = rows.iter().find(|row| row.name == *name);
        let root = *found.ok_or_else(|| {
            let name = name.text();
            Failure::new(format!("there is no `{name}`\n`rwsnap list` shows what there is."))
        })?;
        if self.recursive {
            Ok(order::descendants(&root, rows))
        } else {
            Ok(vec![root])
        }
    }

    fn is_wanted(&self, row: &EntityRow) -> bool {
        let named = self.name.as_ref().is_some_and(|name| row.name == *name);
        match self.types.as_slice() {
            [] => row.flags.get() & FLAG_HIDDEN == 0 || named,
            types => types.iter().any(|t| t.fits(row)),
        }
    }

    fn show(&self, rows: &[EntityRow], all: Among<'_>) -> Outcome {
        if self.json {
            let entity = |row| Entity::new(row, all.rows).with_node(all.devices);
            return print_json(&rows.iter().map(entity).collect::<Vec<_>>());
        }
        let titles: Vec<String> = self.columns.iter().map(|c| c.title()).collect();
        let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
        let mut table = Rows::new(&titles);
        for row in rows {
            table.push(self.columns.iter().map(|c| c.text(row, all, self.exact)).collect());
        }
        print(&if self.bare { table.tabbed() } else { table.aligned() })
    }
}
