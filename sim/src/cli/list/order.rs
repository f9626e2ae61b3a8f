// SPDX-License-Identifier: MIT

//! Families: a production, its snapshots from the oldest on, behind each the clones based on it
//! with theirs.

use rwsnap_core::control::rows::{KIND_CLONE, KIND_SNAPSHOT};
use rwsnap_core::control::EntityRow;

/// What a row stands under: a snapshot under its volume, a clone under its base.
fn parent(row: &EntityRow) -> u32 {
    match row.kind.get() {
        KIND_SNAPSHOT => row.owner.get(),
        KIND_CLONE => row.base.get(),
        _ => 0,
    }
}

/// Puts families together.
pub(super) fn family(rows: &mut Vec<EntityRow>) {
    rows.sort_by_key(|row| (row.epoch.get(), row.created_ns.get(), row.id.get()));
    let is_root = |row: &&EntityRow| !rows.iter().any(|other| other.id.get() == parent(row));
    let mut roots: Vec<EntityRow> = rows.iter().filter(is_root).copied().collect();
    roots.sort_by_key(|row| row.id.get());
    let mut found: Vec<EntityRow> = roots.iter().flat_map(|r| descendants(r, rows)).collect();
    // A clone that went back to a snapshot of its own stands under itself: it goes first.
    while let Some(ring) = rows.iter().filter(|row| is_left(row, &found)).min_by_key(|row| {
        let in_ring = descendants(row, rows).iter().any(|below| below.id.get() == parent(row));
        (!in_ring || row.kind.get() != KIND_CLONE, row.id.get())
    }) {
        let more = descendants(ring, rows);
        found.extend(more.iter().filter(|row| is_left(row, &found)).copied().collect::<Vec<_>>());
    }
    *rows = found;
}

fn is_left(row: &EntityRow, found: &[EntityRow]) -> bool {
    found.iter().all(|other| other.id != row.id)
}

/// A row and all that stands under it.
pub(super) fn descendants(root: &EntityRow, rows: &[EntityRow]) -> Vec<EntityRow> {
    let mut found = Vec::new();
    let mut todo = vec![*root];
    while let Some(row) = todo.pop() {
        if found.iter().any(|seen: &EntityRow| seen.id == row.id) {
            continue;
        }
        found.push(row);
        let children = rows.iter().filter(|child| parent(child) == row.id.get());
        todo.extend(children.rev());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use rwsnap_core::control::rows::KIND_PRODUCTION;

    fn row(id: u32, kind: u32, parent: u32, epoch: u32) -> EntityRow {
        EntityRow {
            id: id.into(),
            kind: kind.into(),
            owner: parent.into(),
            base: parent.into(),
            epoch: epoch.into(),
            ..EntityRow::default()
        }
    }

    #[test]
    fn a_clone_on_its_own_snapshot_is_not_left_out() {
        let mut rows = vec![
            row(1, KIND_PRODUCTION, 0, 3),
            row(3, KIND_SNAPSHOT, 2, 2),
            row(2, KIND_CLONE, 3, 1),
            row(4, KIND_CLONE, 3, 1),
        ];
        family(&mut rows);
        let ids: Vec<u32> = rows.iter().map(|r| r.id.get()).collect();
        assert_eq!(ids, [1, 2, 3, 4]);
    }

    #[test]
    fn families_stand_together() {
        let mut rows = vec![
            row(7, KIND_SNAPSHOT, 5, 4),
            row(5, KIND_CLONE, 2, 4),
            row(1, KIND_PRODUCTION, 0, 3),
            row(3, KIND_SNAPSHOT, 1, 2),
            row(2, KIND_SNAPSHOT, 1, 1),
            row(9, KIND_CLONE, 77, 1),
            row(8, KIND_PRODUCTION, 0, 0),
        ];
        family(&mut rows);
        let ids: Vec<u32> = rows.iter().map(|r| r.id.get()).collect();
        assert_eq!(ids, [1, 2, 5, 7, 3, 8, 9]);
        let below = descendants(&row(2, KIND_SNAPSHOT, 1, 1), &rows);
        assert_eq!(below.iter().map(|r| r.id.get()).collect::<Vec<_>>(), [2, 5, 7]);
    }
}
