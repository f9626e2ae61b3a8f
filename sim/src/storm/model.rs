// SPDX-License-Identifier: MIT

//! The pool as it must be: every volume and snapshot, block by block, and nothing clever.
//!
//! A snapshot's moment lies between its command's submission and reply. What is then read of it
//! narrows the moment down; the snapshots of one command share it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::cell::{Cell, Version, NEVER};

/// Names a volume or snapshot for as long as the model lives.
pub(super) type Key = u32;

/// What it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sort {
    /// A production volume on this device.
    Production(u16),
    /// A clone of this snapshot.
    Clone(Key),
    /// A snapshot of this volume.
    Snapshot(Key),
}

/// The part of the name that is its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Label {
    /// This.
    Exact(String),
    /// The core chooses; it begins like this.
    Prefix(String),
}

/// A volume or snapshot.
#[derive(Clone, Debug)]
pub(super) struct Entity {
    /// What it is.
    pub sort: Sort,
    /// The production volume it goes back to.
    pub root: Key,
    /// Of a snapshot of a clone, what the clone was based on then: a refresh does not change it.
    pub base: Option<Key>,
    /// Its own part of the name.
    pub label: Label,
    /// The core's number, once known.
    pub id: Option<u32>,
    /// The blocks.
    pub cells: Rc<Vec<Cell>>,
    /// Index into [`Model::moments`], for a snapshot of a volume.
    pub moment: Option<usize>,
    /// Held.
    pub held: bool,
    /// Destroyed once its last user is gone.
    pub deferred: bool,
    /// Given up: its data need not be there, and must not come back.
    pub given_up: bool,
    /// May be gone.
    pub optional: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// All of them.
    pub entities: BTreeMap<Key, Entity>,
    /// The span that each moment may still lie in.
    pub moments: Vec<(u64, u64)>,
    /// Of a production volume that was restored: the snapshot from before, and the one of then.
    pub undo: BTreeMap<Key, (Option<Key>, Key)>,
    /// What restores took for themselves: given up first when the save volume is full.
    pub forgoable: BTreeSet<Key>,
    /// Disks fail. What a write that failed was to store may be found now and gone then. Old data
    /// can get lost: reads of productions fail. A chunk that X has lost keeps what the
    /// restored production had.
    pub lossy: bool,
    next: Key,
}

impl Model {
    /// Adds one.
    pub(super) fn insert(&mut self, sort: Sort, label: Label, cells: Vec<Cell>) -> Key {
        self.next += 1;
        let root = match sort {
            Sort::Production(_) => self.next,
            Sort::Clone(on) | Sort::Snapshot(on) => self.root(on),
        };
        let entity = Entity {
            sort,
            root,
            base: None,
            label,
            id: None,
            cells: Rc::new(cells),
            moment: None,
            held: false,
            deferred: false,
            given_up: false,
            optional: false,
        };
        self.entities.insert(self.next, entity);
        self.next
    }

    /// Its full name, if the model knows it.
    #[must_use]
    pub(super) fn name(&self, key: Key) -> Option<String> {
        let entity = self.entities.get(&key)?;
        let Label::Exact(part) = &entity.label else { return None };
        match entity.sort {
            Sort::Snapshot(owner) => Some(format!("{}@{part}", self.name(owner)?)),
            _ => Some(part.clone()),
        }
    }

    /// Its name for people.
    #[must_use]
    pub(super) fn show(&self, key: Key) -> String {
        self.name(key).unwrap_or_else(|| format!("(number {key})"))
    }

    /// All keys whose entity has this property.
    pub(super) fn keys(&self, which: impl Fn(&Entity) -> bool) -> Vec<Key> {
        self.entities.iter().filter(|(_, e)| which(e)).map(|(&k, _)| k).collect()
    }

    /// The snapshots of a volume, oldest first.
    #[must_use]
    pub(super) fn snapshots(&self, of: Key) -> Vec<Key> {
        self.keys(|e| e.sort == Sort::Snapshot(of))
    }

    /// The clones based on a snapshot, and their snapshots from the time when they were.
    #[must_use]
    pub(super) fn dependants(&self, of: Key) -> Vec<Key> {
        self.keys(|e| e.sort == Sort::Clone(of) || e.base == Some(of))
    }

    /// The volume itself, or the one a snapshot is named after.
    #[must_use]
    pub(super) fn volume(&self, key: Key) -> Key {
        match self.entities.get(&key).map(|e| e.sort) {
            Some(Sort::Snapshot(owner)) => owner,
            _ => key,
        }
    }

    /// The production volume that a volume or snapshot goes back to.
    #[must_use]
    pub(super) fn root(&self, key: Key) -> Key {
        self.entities.get(&key).map_or(key, |e| e.root)
    }

    /// It and all that hangs on it.
    #[must_use]
    pub(super) fn closure(&self, key: Key) -> Vec<Key> {
        let mut all = vec![key];
        let mut at = 0;
        while let Some(&on) = all.get(at) {
            let hanging = [self.snapshots(on), self.dependants(on)].concat();
            // A clone that was refreshed to a snapshot of its own hangs on itself.
            all.extend(hanging.into_iter().filter(|key| !all.contains(key)).collect::<Vec<_>>());
            at += 1;
        }
        all
    }

    /// The blocks, to be changed.
    pub(super) fn cells(&mut self, key: Key) -> &mut [Cell] {
        match self.entities.get_mut(&key) {
            Some(entity) => Rc::make_mut(&mut entity.cells).as_mut_slice(),
            None => &mut [],
        }
    }

    /// What one who looks at a block between two moments may see.
    #[must_use]
    pub(super) fn seen(&self, key: Key, block: usize, begin: u64, end: u64) -> Vec<Version> {
        let Some(entity) = self.entities.get(&key) else { return Vec::new() };
        match (entity.cells.get(block), entity.sort) {
            (None, _) => Vec::new(),
            (Some(cell), Sort::Snapshot(_)) => cell.versions().collect(),
            (Some(cell), _) => cell.seen(begin, end).collect(),
        }
    }

    /// Adds the snapshot `label` of `of`, named after `owner`, at a moment between two.
    pub(super) fn snapshot(&mut self, of: Key, owner: Key, label: Label, moment: usize) -> Key {
        let (begin, end) = self.moments[moment];
        let Some(source) = self.entities.get(&of) else { return 0 };
        let still = matches!(source.sort, Sort::Snapshot(_));
        let base = match source.sort {
            Sort::Clone(base) if of == owner => Some(base),
            _ => None,
        };
        let cells = (0..source.cells.len())
            .map(|block| {
                let mut cell = source.cells[block].clone();
                if !cell.is_settled() && !still {
                    cell = Cell::among(self.seen(of, block, begin, end));
                }
                cell
            })
            .collect();
        let key = self.insert(Sort::Snapshot(owner), label, cells);
        if let Some(entity) = self.entities.get_mut(&key) {
            entity.moment = (!still).then_some(moment);
            entity.base = base;
        }
        key
    }

    /// A new moment between two.
    pub(super) fn moment(&mut self, begin: u64, end: u64) -> usize {
        self.moments.push((begin, end));
        self.moments.len() - 1
    }

    /// Adds the clone `label` of the snapshot `base`.
    pub(super) fn clone_of(&mut self, base: Key, label: Label, now: u64) -> Key {
        let Some(source) = self.entities.get(&base) else { return 0 };
        let cells = source.cells.iter().map(|cell| cell.frozen(now, now)).collect();
        self.insert(Sort::Clone(base), label, cells)
    }

    /// Where X has lost its data, a restored volume may go on showing what it showed `before`.
    pub(super) fn or_kept(&mut self, volume: Key, before: &Self, begin: u64, end: u64) {
        if !self.lossy {
            return;
        }
        let blocks = self.entities.get(&volume).map_or(0, |e| e.cells.len());
        for block in 0..blocks {
            let kept = before.seen(volume, block, begin, end);
            let Some(cell) = self.cells(volume).get_mut(block) else { return };
            // Writes in flight go on as they are: they may come last.
            let (flying, now): (Vec<_>, Vec<_>) = cell.versions().partition(|v| v.end == NEVER);
            let kept = kept.into_iter().filter(|v| v.end != NEVER);
            let may = now.into_iter().chain(kept).map(|v| Version {
                write: begin,
                after: begin,
                end,
                strong: false,
                durable: false,
                ..v
            });
            *cell = Cell::among(may.chain(flying).collect());
        }
    }

    /// From a moment between two on, `to` shows what `from` showed then, durably.
    pub(super) fn replace(&mut self, to: Key, from: Key, begin: u64, end: u64) {
        let Some(target) = self.entities.get(&to) else { return };
        let len = self.entities.get(&from).map_or(0, |e| e.cells.len());
        let mut cells: Vec<Cell> = target.cells.as_ref().clone();
        cells.resize(len, Cell::default());
        for (block, cell) in cells.iter_mut().enumerate() {
            for seen in self.seen(from, block, begin, end) {
                let (write, strong, durable) = (begin, true, true);
                cell.add(Version { write, after: begin, end, strong, durable, ..seen });
            }
        }
        if let Some(target) = self.entities.get_mut(&to) {
            target.cells = Rc::new(cells);
        }
    }
}
