// SPDX-License-Identifier: MIT

//! After a power cut: whether all is there that has to be.

use std::collections::BTreeMap;

use crate::model::{Event, State, Table};
use crate::pool;

/// Whether it is a snapshot that `rwsnap restore` takes by itself.
pub(crate) fn is_of_a_restore(name: &str) -> bool {
    name.contains("@before-restore") || name.contains("@restored-")
}

/// Faults that are told; there may be many more.
const TOLD: usize = 5;

/// What was found.
#[derive(Default)]
pub(crate) struct Found {
    /// What is not as it has to be.
    pub(crate) wrong: Vec<String>,
    /// All that is there, durably.
    pub(crate) tables: BTreeMap<String, Table>,
    /// Sectors that hold what was not flushed.
    pub(crate) later: usize,
}

impl Found {
    fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Names the first of some sectors; true if there is none.
    fn sectors(&mut self, name: &str, wrong: &[(usize, u64)]) -> bool {
        if let Some((first, value)) = wrong.first() {
            let (count, last) = (wrong.len(), wrong[wrong.len() - 1].0);
            self.wrong(format!(
                "{name}: {count} sectors are wrong, {first} to {last}; the first has {value:#x}"
            ));
        }
        wrong.is_empty()
    }
}

/// Sectors of which something does not hold.
pub(crate) fn unlike(table: &Table, holds: impl Fn(usize, u64) -> bool) -> Vec<(usize, u64)> {
    let all = table.iter().copied().enumerate();
    all.filter(|(sector, value)| !holds(*sector, *value)).collect()
}

/// Looks at the whole pool.
pub(crate) fn verify(state: &State) -> Result<Found, String> {
    let mut found = Found::default();
    let there: BTreeMap<String, String> = pool::list()?.into_iter().collect();
    let expected: Vec<&String> = state.volumes.keys().chain(state.snapshots.keys()).collect();
    for name in &expected {
        if !there.contains_key(*name) && !may_be_gone(state, name) {
            found.wrong(format!("{name} is not there"));
        }
    }
    for (name, flags) in &there {
        if flags.contains("given-up") || flags.contains("damaged") || flags.contains("offline") {
            found.wrong(format!("{name} is {flags}"));
        }
        if is_of_a_restore(name) {
            continue;
        }
        if !expected.contains(&name) && !may_be_new(state, name) {
            found.wrong(format!("{name} should not be there"));
            continue;
        }
        match pool::table(name) {
            Err(why) => found.wrong(why),
            Ok(Err(why)) => found.wrong(format!("{name}: {why}")),
            Ok(Ok(table)) => {
                compare(state, name, &table, &mut found);
                found.tables.insert(name.clone(), table);
            }
        }
    }
    found.wrong.truncate(TOLD);
    Ok(found)
}

/// Compares what one of them holds with what is known.
fn compare(state: &State, name: &str, table: &Table, found: &mut Found) {
    if let Some(wanted) = state.snapshots.get(name) {
        found.sectors(name, &unlike(table, |sector, value| wanted.get(sector) == Some(&value)));
    } else if let Some(volume) = state.volumes.get(name) {
        if source(state, name).is_some_and(|source| source == table) {
            return;
        }
        let wrong = unlike(table, |sector, value| volume.may_hold(sector, value));
        if found.sectors(name, &wrong) {
            found.later += unlike(table, |sector, value| volume.is_durable(sector, value)).len();
        }
    } else if let Some(of) = name.split_once('@').and_then(|(of, _)| state.volumes.get(of)) {
        found.sectors(name, &unlike(table, |sector, value| of.shows(sector, value)));
    } else if let Some(wanted) = source(state, name) {
        found.sectors(name, &unlike(table, |sector, value| wanted.get(sector) == Some(&value)));
    }
}

/// What a volume gets by the command that may have been carried out.
fn source<'a>(state: &'a State, name: &str) -> Option<&'a Table> {
    let from = match state.trying.as_deref()?.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["clone", from, to] if to == name => from,
        ["refresh", to, "--to", from] if to == name => from,
        ["restore", to, "--from", from, ..] if to == name => from,
        _ => return None,
    };
    state.snapshots.get(from)
}

fn may_be_gone(state: &State, name: &str) -> bool {
    state.tries("destroy").is_some_and(|names| names.iter().any(|gone| gone == name))
}

fn may_be_new(state: &State, name: &str) -> bool {
    let snapshot = state.tries("snapshot").is_some_and(|names| names.iter().any(|n| n == name));
    let clone = state.tries("clone").is_some_and(|words| words.last().is_some_and(|n| n == name));
    snapshot || clone
}

/// What a new record begins with.
pub(crate) fn events(found: &Found) -> Vec<Event> {
    found.tables.iter().map(|(name, table)| Event::Table(name.clone(), table.clone())).collect()
}
