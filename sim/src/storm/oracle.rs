// SPDX-License-Identifier: MIT

//! Compares the core's pool with the model: names, numbers, flags and every block.

use std::collections::BTreeMap;

use rwsnap_core::control::rows;
use rwsnap_core::fault::Fault;

use super::block::show;
use super::cell::Cell;
use super::machine::Wrong;
use super::model::{Entity, Key, Label, Model, Sort};

/// A volume or snapshot as the core lists it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Its number.
    pub id: u32,
    /// The volume a snapshot is named after.
    pub owner: u32,
    /// The snapshot that it is based on, or 0.
    pub base: u32,
    /// `rows::KIND_*`.
    pub kind: u32,
    /// `rows::FLAG_*`.
    pub flags: u32,
    /// Full name.
    pub name: String,
    /// Full name of a clone's base.
    pub origin: String,
    /// Bytes.
    pub size: u64,
    /// Bytes of the save volume that it uses.
    pub used: u64,
    /// Bytes of the save volume that nobody else may take.
    pub reservation: u64,
}

impl Row {
    /// Whether it has this flag.
    pub(super) const fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// What blocks showed.
pub(super) type Shown = Vec<Result<u64, Fault>>;

/// The whole pool as clients find it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sweep {
    /// All volumes and snapshots that are not hidden.
    pub rows: Vec<Row>,
    /// By number, what each block of it showed.
    pub content: BTreeMap<u32, Shown>,
}

/// What this seed lets happen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leave {
    /// Disks fail: errors, lost chunks and a fenced pool.
    pub faults: bool,
    /// The save volume may fill, and the oldest snapshots are given up then.
    pub give_up: bool,
    /// The save volume may fill, and what a restore took for itself is given up then.
    pub forgo: bool,
    /// The save volume may fill, and production fails then.
    pub fail: bool,
    /// Metadata has rotted.
    pub rotten: bool,
    /// The devices of productions that are away, as bits.
    pub away: u32,
}

/// Which model entity each row is.
pub(super) type Matching = Vec<(Key, usize)>;

impl Model {
    /// Matches the core's list with the model.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub(super) fn matching(&self, rows: &[Row], leave: Leave) -> Result<Matching, Wrong> {
        let mut pairs = Vec::new();
        let mut left: Vec<usize> = (0..rows.len()).collect();
        let mut chosen_by_core = Vec::new();
        for &key in self.entities.keys() {
            let Some(name) = self.name(key) else {
                chosen_by_core.push(key);
                continue;
            };
            match left.iter().position(|&i| rows[i].name == name) {
                Some(at) => pairs.push((key, left.remove(at))),
                None => self.may_be_gone(key)?,
            }
        }
        for key in chosen_by_core {
            let found = left.iter().position(|&i| self.may_be(key, &rows[i], rows, &pairs));
            match found {
                Some(at) => pairs.push((key, left.remove(at))),
                None => self.may_be_gone(key)?,
            }
        }
        if let Some(&extra) = left.first() {
            return Err(format!("{} should not be there", rows[extra].name));
        }
        for &(key, row) in &pairs {
            self.agrees(key, &rows[row], leave)?;
        }
        Ok(pairs)
    }

    /// Whether a row can be the snapshot whose name the core chose.
    fn may_be(&self, key: Key, row: &Row, rows: &[Row], pairs: &Matching) -> bool {
        let entity = &self.entities[&key];
        let (Sort::Snapshot(owner), Label::Prefix(prefix)) = (entity.sort, &entity.label) else {
            return false;
        };
        let owner = pairs.iter().find(|(k, _)| *k == owner).map(|&(_, i)| rows[i].id);
        let part = row.name.split_once('@').map(|(_, part)| part);
        owner == Some(row.owner) && part.is_some_and(|p| p.starts_with(prefix.as_str()))
    }

    /// Whether it is gone or may go: of deferred snapshots one goes with the last that needs it,
    /// and so on down.
    fn can_go(&self, key: Key) -> bool {
        let entity = &self.entities[&key];
        let deferred = entity.deferred && !entity.held;
        entity.optional || (deferred && self.dependants(key).iter().all(|k| self.can_go(*k)))
    }

    fn may_be_gone(&self, key: Key) -> Result<(), Wrong> {
        if self.can_go(key) {
            return Ok(());
        }
        Err(format!("{} is gone", self.show(key)))
    }

    /// Whether what the row says agrees with the model.
    fn agrees(&self, key: Key, row: &Row, leave: Leave) -> Result<(), Wrong> {
        let entity = &self.entities[&key];
        let wrong = |what: &str| Err(format!("{}: {what}", row.name));
        if entity.id.is_some_and(|id| id != row.id) {
            return wrong("is another than it was");
        }
        let kind = match entity.sort {
            Sort::Production(_) => rows::KIND_PRODUCTION,
            Sort::Clone(_) => rows::KIND_CLONE,
            Sort::Snapshot(_) => rows::KIND_SNAPSHOT,
        };
        if row.kind != kind {
            return wrong("is of another kind");
        }
        if let Sort::Clone(base) = entity.sort {
            if self.name(base).is_some_and(|name| name != row.origin) {
                return wrong(&format!("is based on {}, not {}", row.origin, self.show(base)));
            }
        }
        if entity.held != row.is(rows::FLAG_HELD) {
            return wrong(if entity.held { "is not held any more" } else { "is held" });
        }
        let given_up = row.is(rows::FLAG_GIVEN_UP);
        if given_up && !entity.given_up && !self.may_give_up(key, leave) && !leave.faults {
            return wrong("was given up without need");
        }
        if entity.given_up && !given_up {
            return wrong("was given up and has come back");
        }
        if row.is(rows::FLAG_DAMAGED) && !leave.faults {
            return wrong("is damaged, on sound disks");
        }
        let away = self.is_away(key, leave) && !matches!(entity.sort, Sort::Snapshot(_));
        if away != row.is(rows::FLAG_OFFLINE) {
            return wrong(if away { "is not offline" } else { "is offline" });
        }
        Ok(())
    }

    /// Compares all that clients find after a crash with what a crash may leave.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub(super) fn judge(&self, sweep: &Sweep, leave: Leave) -> Result<Matching, Wrong> {
        let pairs = self.matching(&sweep.rows, leave)?;
        let mut moments = self.moments.clone();
        for &(key, row) in &pairs {
            let row = &sweep.rows[row];
            let Some(shown) = sweep.content.get(&row.id) else { continue };
            if shown.len() != self.entities[&key].cells.len() {
                return Err(format!("{} has another size than it had", row.name));
            }
            for (block, found) in shown.iter().enumerate() {
                self.judge_block(key, block, *found, &mut moments, leave)
                    .map_err(|wrong| format!("{} block {block}: {wrong}", row.name))?;
            }
        }
        Ok(pairs)
    }

    fn judge_block(
        &self,
        key: Key,
        block: usize,
        found: Result<u64, Fault>,
        moments: &mut [(u64, u64)],
        leave: Leave,
    ) -> Result<(), Wrong> {
        let entity = &self.entities[&key];
        let value = match found {
            Ok(value) => value,
            Err(fault) => return self.excused(key, fault, leave),
        };
        let cell = &entity.cells[block];
        let snapshot = matches!(entity.sort, Sort::Snapshot(_));
        let fine = if snapshot {
            cell.versions().any(|v| v.value == value)
        } else {
            cell.left().any(|v| v.value == value)
        };
        if !fine {
            let may: Vec<String> = if snapshot {
                cell.versions().map(|v| show(v.value)).collect()
            } else {
                cell.left().map(|v| show(v.value)).collect()
            };
            return Err(format!("shows {}, may show {}", show(value), may.join(" or ")));
        }
        let open = !cell.is_settled() && !cell.may_flip();
        match entity.moment.filter(|_| open) {
            Some(moment) => narrow(&mut moments[moment], cell, value),
            None => Ok(()),
        }
    }

    /// Whether a snapshot may be given up when the save volume is full.
    pub(super) fn may_give_up(&self, key: Key, leave: Leave) -> bool {
        leave.give_up || (leave.forgo && self.forgoable.contains(&key))
    }

    /// Whether an error in place of a block's content is in order.
    ///
    /// # Errors
    ///
    /// The error, if it is not.
    pub(super) fn excused(&self, key: Key, fault: Fault, leave: Leave) -> Result<(), Wrong> {
        // A deferred snapshot goes when its last user does, whoever reads it.
        let going = |e: &Entity| e.given_up || e.deferred;
        let given_up = self.may_give_up(key, leave) || self.entities.get(&key).is_some_and(going);
        let fine = match fault {
            // What is still in place cannot be read while production is away.
            Fault::Io => leave.faults || self.is_away(key, leave),
            Fault::Lost => leave.faults,
            Fault::Fenced => leave.faults || given_up,
            Fault::Corrupt => leave.rotten,
            _ => false,
        };
        if fine {
            Ok(())
        } else {
            Err(format!("fails with {fault:?}"))
        }
    }

    /// A snapshot's block was read.
    ///
    /// # Errors
    ///
    /// That it shows what it must not.
    pub(super) fn observe_snapshot(
        &mut self,
        key: Key,
        block: usize,
        value: u64,
    ) -> Result<(), Wrong> {
        let Some(entity) = self.entities.get(&key) else { return Ok(()) };
        let cell = &entity.cells[block];
        if !cell.versions().any(|v| v.value == value) {
            let may: Vec<String> = cell.versions().map(|v| show(v.value)).collect();
            return Err(format!("shows {}, may show {}", show(value), may.join(" or ")));
        }
        if cell.is_settled() || cell.may_flip() {
            return Ok(());
        }
        if let Some(moment) = entity.moment {
            narrow(&mut self.moments[moment], cell, value)?;
        }
        self.cells(key)[block].settle(value);
        Ok(())
    }

    /// Deferred snapshots that were not listed. Of a pool that is fenced, as nobody may have
    /// noticed yet, that is not known to be durable.
    pub(super) fn missed(&self, pairs: &Matching, leave: Leave) -> Vec<(Key, Entity)> {
        let listed = |key: &Key| pairs.iter().any(|(k, _)| k == key);
        let missed = self.entities.iter().filter(|(key, e)| e.deferred && !listed(key));
        missed.filter(|_| leave.faults).map(|(key, e)| (*key, e.clone())).collect()
    }

    /// Takes over what the core listed: numbers, names that it chose, what is gone or given up.
    pub(super) fn adopt(&mut self, rows: &[Row], pairs: &Matching) {
        self.entities.retain(|key, _| pairs.iter().any(|(k, _)| k == key));
        for &(key, row) in pairs {
            let row = &rows[row];
            let Some(entity) = self.entities.get_mut(&key) else { continue };
            entity.id = Some(row.id);
            entity.deferred = row.is(rows::FLAG_DEFERRED);
            entity.optional = false;
            let own = row.name.split_once('@').map_or(row.name.as_str(), |(_, part)| part);
            entity.label = Label::Exact(own.to_owned());
        }
    }

    /// Takes over what blocks showed after a crash: it is what they hold from now on.
    pub(super) fn settle(&mut self, sweep: &Sweep, pairs: &Matching) {
        for &(key, row) in pairs {
            // Before a crash the flag may be seen although it is not durable yet.
            let given_up = sweep.rows[row].is(rows::FLAG_GIVEN_UP);
            self.entities.entry(key).and_modify(|e| e.given_up |= given_up);
            let Some(shown) = sweep.content.get(&sweep.rows[row].id) else {
                // Its production is away.
                self.cells(key).iter_mut().for_each(Cell::survive);
                continue;
            };
            for (cell, found) in self.cells(key).iter_mut().zip(shown) {
                if let Ok(value) = found {
                    cell.settle(*value);
                }
            }
        }
        for entity in self.entities.values_mut() {
            entity.moment = None;
        }
        self.moments.clear();
    }
}

/// The moment lies after the beginning of the write that is shown, and before the end of each
/// that would hide it.
fn narrow(moment: &mut (u64, u64), cell: &Cell, value: u64) -> Result<(), Wrong> {
    let mut shown = cell.versions().filter(|v| v.value == value);
    let (Some(shown), None) = (shown.next(), shown.next()) else { return Ok(()) };
    let hiding = cell.versions().filter(|v| v.hides(&shown)).map(|v| v.end);
    moment.0 = moment.0.max(shown.write);
    moment.1 = hiding.fold(moment.1, u64::min);
    if moment.0 > moment.1 {
        return Err(format!(
            "shows {}, not of the moment ({moment:?}) of its other blocks or group ({cell:?})",
            show(value)
        ));
    }
    Ok(())
}
