// SPDX-License-Identifier: MIT

//! What a volume or snapshot hangs on, and what hangs on it: why it cannot be destroyed by itself.

use rwsnap_core::control::EntityRow;

fn by_id(id: u32, rows: &[EntityRow]) -> Option<&EntityRow> {
    rows.iter().find(|row| id != 0 && row.id.get() == id)
}

/// The snapshots that it is based on, the nearest first, down to one of production. Of a snapshot
/// of a clone, those that the clone was based on when it was taken.
#[must_use]
pub fn bases(row: &EntityRow, rows: &[EntityRow]) -> Vec<String> {
    let mut found: Vec<&EntityRow> = Vec::new();
    let mut next = by_id(row.base.get(), rows);
    while let Some(base) = next.filter(|base| found.iter().all(|seen| seen.id != base.id)) {
        found.push(base);
        next = by_id(base.base.get(), rows);
    }
    found.iter().map(|base| base.name.text().to_owned()).collect()
}

/// What cannot be without it: the snapshots of a volume, and what is based on a snapshot.
#[must_use]
pub fn needed_by(row: &EntityRow, rows: &[EntityRow]) -> Vec<String> {
    let id = row.id;
    let needs = |other: &&EntityRow| other.base == id || other.owner == id;
    rows.iter().filter(needs).map(|other| other.name.text().to_owned()).collect()
}
