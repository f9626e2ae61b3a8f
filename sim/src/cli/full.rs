// SPDX-License-Identifier: MIT

//! What a full save volume keeps waiting, and the way out.

use rwsnap_core::control::PoolRow;

use super::output::human;
use super::view::WHEN_FULL;

/// What is missing, and what can be done about it.
#[must_use]
pub fn way_out(row: &PoolRow) -> String {
    let chunk = u64::from(row.chunk.get());
    let free = row.slots.get().saturating_sub(row.slots_used.get()).saturating_mul(chunk);
    let policy = usize::try_from(row.when_full.get()).ok().and_then(|n| WHEN_FULL.get(n));
    let policy = policy.unwrap_or(&"unknown");
    let save = human(row.save_bytes.get());
    let (limit, more) = match *policy {
        "grow" => (" and is at its limit", "or let it grow: rwsnap set pool save-limit=SIZE"),
        "oldest" => (
            ", and every snapshot left is held or has clones",
            "release some, or let it grow: rwsnap set pool when-full=grow",
        ),
        _ => ("", "or let room be made: rwsnap set pool when-full=grow (or oldest)"),
    };
    format!(
        "the save volume has {save}, {} of it free{limit} (when-full={policy}); destroy snapshots \
         or clones, {more}",
        human(free)
    )
}

/// What a merge that waits for space waits for.
#[must_use]
pub fn merge_waits(row: &PoolRow, volume: &str) -> String {
    format!(
        "room: {}; or go back, if it can still be undone: rwsnap restore {volume} --cancel",
        way_out(row)
    )
}
