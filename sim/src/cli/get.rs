// SPDX-License-Identifier: MIT

//! `rwsnap get`: properties of a volume, a snapshot or the pool.

use rwsnap_core::control::{self, Name, PropertyRow, Refusal};

use crate::store::identify::padded_text;

use super::args;
use super::connect::{command, Connection};
use super::error::{Failure, Outcome};
use super::output::{print, print_json, Rows};
use super::Global;

/// Show properties of a volume, a snapshot, or the pool
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap get dev1
  rwsnap get dev1 quota
  rwsnap get pool when-full")]
pub(super) struct Get {
    /// The volume or snapshot; for the pool itself, its name or `pool`
    #[arg(value_name = "NAME", value_parser = args::name)]
    name: Name,
    /// This property alone: prints its value
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Get {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let rows = global.with(|pool| {
            let object = object(pool, self.name)?;
            pool.all::<PropertyRow>(command(control::Verb::Properties, object))
        })?;
        let known: Vec<(String, String)> =
            rows.iter().map(|p| (p.key.text().to_owned(), padded_text(&p.value))).collect();
        match &self.key {
            Some(key) => self.one(key, &known),
            None => self.all(known),
        }
    }

    fn one(&self, key: &str, known: &[(String, String)]) -> Outcome {
        let Some((key, value)) = known.iter().find(|(known, _)| known == key) else {
            let name = self.name.text();
            return Err(Failure::new(format!("`{name}` has no property `{key}`")));
        };
        if self.json {
            return print_json(&serde_json::json!({ key: value }));
        }
        print(&format!("{value}\n"))
    }

    fn all(&self, known: Vec<(String, String)>) -> Outcome {
        if self.json {
            let pairs = known.into_iter().map(|(key, value)| (key, value.into()));
            return print_json(&pairs.collect::<serde_json::Map<_, serde_json::Value>>());
        }
        let mut table = Rows::new(&["PROPERTY", "VALUE"]);
        known.into_iter().for_each(|(key, value)| table.push(vec![key, value]));
        print(&table.aligned())
    }
}

/// The object that a name means: a volume or snapshot if there is one, else the pool if it is the
/// pool's name, its UUID or `pool`.
pub(super) fn object(pool: &mut Connection, name: Name) -> Outcome<Name> {
    let (refusal, _) = pool.try_call(&command(control::Verb::Info, name), &[])?;
    if refusal != Refusal::NotFound {
        return Ok(name);
    }
    let row = pool.pool()?;
    let uuid = uuid::Uuid::from_bytes(row.uuid).to_string();
    let names = ["pool", &Connection::pool_name(&row), &uuid];
    Ok(if names.contains(&name.text()) { Name::default() } else { name })
}
