// SPDX-License-Identifier: MIT

//! `rwsnap get`: properties of a volume, a snapshot or the pool.

use rwsnap_core::control::rows::KIND_CLONE;
use rwsnap_core::control::{self, Name, PropertyRow, Refusal};

use crate::store::identify::padded_text;

use super::args;
use super::connect::{command, Connection};
use super::error::{Failure, Outcome};
use super::info::entity;
use super::output::{print, print_json, Rows};
use super::view::WHEN_FULL;
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
        let known = global.with(|pool| {
            let object = object(pool, self.name)?;
            let rows = pool.all::<PropertyRow>(command(control::Verb::Properties, object))?;
            let pair = |p: &PropertyRow| (p.key.text().to_owned(), padded_text(&p.value));
            let mut known = settings(pool, object)?;
            for (key, value) in rows.iter().map(pair) {
                known.retain(|(other, _)| *other != key);
                known.push((key, value));
            }
            Ok(known)
        })?;
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
            return print_json(&serde_json::json!({ key: in_json(key, value) }));
        }
        print(&format!("{value}\n"))
    }

    fn all(&self, known: Vec<(String, String)>) -> Outcome {
        if self.json {
            let pairs = known.iter().map(|(key, value)| (key.clone(), in_json(key, value)));
            return print_json(&pairs.collect::<serde_json::Map<_, serde_json::Value>>());
        }
        let mut table = Rows::new(&["PROPERTY", "VALUE"]);
        known.into_iter().for_each(|(key, value)| table.push(vec![key, value]));
        print(&table.aligned())
    }
}

/// Sizes and percentages are numbers; what users set is text.
fn in_json(key: &str, value: &str) -> serde_json::Value {
    match key {
        "quota" | "reservation" | "copy-span" | "save-limit" | "low-water" => {
            value.parse::<u64>().map_or_else(|_| value.into(), Into::into)
        }
        _ => value.into(),
    }
}

/// What rwsnap itself keeps of the object, and `set` can change.
fn settings(pool: &mut Connection, object: Name) -> Outcome<Vec<(String, String)>> {
    let own = |key: &str, value: String| (key.to_owned(), value);
    if !object.bytes().is_empty() {
        let row = entity(pool, object)?;
        let is_clone = row.kind.get() == KIND_CLONE;
        let limits = [("quota", row.quota.get()), ("reservation", row.reservation.get())];
        let limits = limits.iter().filter(|_| is_clone);
        return Ok(limits.map(|(key, value)| own(key, value.to_string())).collect());
    }
    let row = pool.pool()?;
    let policy = usize::try_from(row.when_full.get()).ok().and_then(|n| WHEN_FULL.get(n));
    Ok(vec![
        own("when-full", policy.unwrap_or(&"unknown").to_string()),
        own("copy-span", row.copy_span.get().to_string()),
        own("save-limit", row.save_limit.get().to_string()),
        own("discard", if row.discard.get() == 1 { "copy" } else { "ignore" }.to_owned()),
        own("low-water", row.low_water.get().to_string()),
    ])
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
