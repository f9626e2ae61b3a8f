// SPDX-License-Identifier: MIT

//! Names for what commands and requests do, finer than their verbs: the counts show whether each
//! path is walked at all.

use rwsnap_core::api::Op;

use super::command::Change;
use super::model::{Key, Model, Sort};
use super::plan::Plan;
use super::tally::Kinds;

/// Counts what this plan has that not every one has.
pub(super) fn of_plan(plan: &Plan, kinds: &mut Kinds) {
    let (chunk, all) = (u64::from(plan.chunk), &plan.productions);
    let sizes = all.iter().any(|d| d.size != all[0].size);
    kinds.saw_if(sizes, "productions of several sizes");
    kinds.saw_if(all.iter().any(|d| d.size % chunk != 0), "production with a short last chunk");
    kinds.saw_if(all.iter().any(|d| !d.volatile), "production without a cache");
    kinds.saw_if(!plan.save.volatile, "save volume without a cache");
    kinds.saw_if(plan.copy_span >> 6 > plan.chunk, "copy span of several words");
}

/// What kind of command this is, in the pool as it was.
#[must_use]
pub(super) fn of_change(change: &Change, model: &Model) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    let mut also = |so: bool, kind| kinds.extend(so.then_some(kind));
    match change {
        Change::Snapshot(volumes) => {
            also(volumes.len() > 1, "snapshot of several volumes");
            also(volumes.iter().any(|v| is_clone(model, v.0)), "snapshot of a clone");
        }
        Change::Clone(base, _) => {
            let owner = model.volume(*base);
            also(is_clone(model, owner), "clone of a clone's snapshot");
            also(depth(model, *base) > 2, "clone three deep");
        }
        Change::Refresh { clone, to, keep, force } => {
            also(to.is_none(), "refresh with a new snapshot");
            also(to.is_some(), "refresh with a named snapshot");
            also(keep.is_some(), "refresh that keeps the old state");
            also(*force, "refresh by force");
            also(!model.snapshots(*clone).is_empty(), "refresh of a clone with snapshots");
        }
        Change::Restore { from, force, no_undo, old_first, rate, .. } => {
            also(is_clone(model, *from), "restore from a clone");
            also(!is_clone(model, *from), "restore from a snapshot");
            also(depth(model, *from) > 1, "restore from a clone of a clone");
            also(*old_first, "restore, old data first");
            also(!old_first, "restore, new data first");
            also(*no_undo, "restore without undo");
            also(*force, "restore by force");
            also(*rate == 0, "restore that is paused");
            also(*rate != 0 && *rate != u64::MAX, "restore with a rate");
        }
        Change::Destroy { keys, recursive, defer, force } => {
            also(*recursive, "destroy -r");
            also(*defer, "destroy --defer");
            also(*force, "destroy by force");
            also(keys.len() > 1, "destroy of several");
        }
        Change::Set(_, property, _) => also(true, property_kind(property)),
        Change::Cancel(..) => also(true, "cancel of a restore"),
        Change::Rename(..) => also(true, "rename"),
        Change::Hold(_) => also(true, "hold"),
        Change::Add { .. } => also(true, "production is added"),
        Change::Remove(_, force) => {
            also(true, "production is removed");
            also(*force, "production is removed by force");
        }
        Change::Rate(..) | Change::Release(_) => {}
    }
    kinds
}

fn property_kind(property: &str) -> &'static str {
    match property {
        "quota" => "set quota",
        "reservation" => "set reservation",
        "copy-span" => "set copy-span",
        "discard" => "set discard",
        _ => "set when-full",
    }
}

fn is_clone(model: &Model, key: Key) -> bool {
    model.entities.get(&key).is_some_and(|e| matches!(e.sort, Sort::Clone(_)))
}

/// How many clones stand on one another below and with this volume or snapshot, as far as it
/// matters: clones that were refreshed to snapshots of one another stand in a circle.
fn depth(model: &Model, key: Key) -> u32 {
    let (mut depth, mut volume) = (0, model.volume(key));
    while let Some(Sort::Clone(base)) = model.entities.get(&volume).map(|e| e.sort) {
        (depth, volume) = (depth + 1, model.volume(base));
        if depth > 3 {
            break;
        }
    }
    depth
}

/// What kind of request this is.
#[must_use]
pub(super) const fn of_request(op: Op, sort: Sort) -> &'static str {
    match (op, sort) {
        (Op::Read, Sort::Production(_)) => "read of production",
        (Op::Read, Sort::Clone(_)) => "read of a clone",
        (Op::Read, Sort::Snapshot(_)) => "read of a snapshot",
        (Op::Write { fua: true }, Sort::Production(_)) => "write to production, FUA",
        (Op::Write { fua: true }, _) => "write to a clone, FUA",
        (Op::Write { .. }, Sort::Production(_)) => "write to production",
        (Op::Write { .. }, _) => "write to a clone",
        (Op::Zero { .. }, Sort::Production(_)) => "zero of production",
        (Op::Zero { .. }, _) => "zero of a clone",
        (Op::Discard, Sort::Production(_)) => "discard of production",
        (Op::Discard, _) => "discard of a clone",
        (Op::Flush, Sort::Production(_)) => "flush of production",
        (Op::Flush, _) => "flush of a clone",
    }
}
