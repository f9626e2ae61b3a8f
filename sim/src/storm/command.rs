// SPDX-License-Identifier: MIT

//! The commands of the storm: as bytes for the core, and as what they do to the model.

use std::rc::Rc;

use rwsnap_core::control::{
    Command, EntityRow, Item, Name, Reply, Verb, FLAG_DEFER, FLAG_FORCE, FLAG_NO_UNDO,
    FLAG_OLD_FIRST, FLAG_RECURSIVE,
};
use zerocopy::{FromBytes, IntoBytes};

use super::cell::Cell;
use super::machine::Wrong;
use super::model::{Key, Label, Model, Sort};
use super::oracle::Row;

/// A command that changes the pool.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Snapshots of volumes at one moment.
    Snapshot(Vec<(Key, String)>),
    /// A clone of a snapshot.
    Clone(Key, String),
    /// A clone goes to a snapshot.
    Refresh {
        /// The clone.
        clone: Key,
        /// The snapshot, or a new one.
        to: Option<Key>,
        /// A clone that keeps the former state.
        keep: Option<String>,
        /// Cut writers off.
        force: bool,
    },
    /// Production goes back.
    Restore {
        /// The production volume.
        volume: Key,
        /// A clone or snapshot.
        from: Key,
        /// Cut writers off.
        force: bool,
        /// No `before-restore` snapshot.
        no_undo: bool,
        /// Old data first.
        old_first: bool,
        /// Bytes a second.
        rate: u64,
    },
    /// The restore's rate.
    Rate(Key, u64),
    /// The restore is undone; maybe writers are cut off.
    Cancel(Key, bool),
    /// Destroys.
    Destroy {
        /// What.
        keys: Vec<Key>,
        /// And all that hangs on it.
        recursive: bool,
        /// When the last user is gone.
        defer: bool,
        /// Cut clients off.
        force: bool,
    },
    /// Another name.
    Rename(Key, String),
    /// It cannot be destroyed.
    Hold(Key),
    /// It can.
    Release(Key),
    /// A property, of the pool if there is no key.
    Set(Option<Key>, &'static str, String),
    /// A production volume comes into the pool.
    Add {
        /// Its device.
        dev: u16,
        /// Its bytes.
        size: u64,
        /// Its name.
        name: String,
        /// What its blocks hold.
        values: Rc<[u64]>,
    },
    /// A production volume leaves the pool; maybe clients are cut off.
    Remove(Key, bool),
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap_or_default()
}

fn item(text: &str) -> Item {
    Item { name: name(text), value: [0; 192] }
}

fn item_of(property: &str, value: &str) -> Item {
    let mut item = item(property);
    item.value.iter_mut().zip(value.bytes()).for_each(|(to, from)| *to = from);
    item
}

fn add(dev: u16, size: u64, full: &str) -> Command {
    let mut command = Command::new(Verb::Add, name(full));
    (command.value, command.limit) = (u64::from(dev).into(), size.into());
    command
}

/// The last part of a full name replaced.
fn renamed(full: &str, part: &str) -> String {
    full.split_once('@').map_or_else(|| part.to_owned(), |(volume, _)| format!("{volume}@{part}"))
}

/// With the rate of a merge.
fn with_rate(mut command: Command, rate: u64) -> Command {
    command.value = rate.into();
    command
}

impl Change {
    /// The command's bytes.
    #[must_use]
    pub(super) fn bytes(&self, model: &Model, time_ns: u64, random: u64) -> Vec<u8> {
        let called = |key: &Key| name(&model.show(*key));
        let mut items = Vec::new();
        let mut flags = 0;
        let mut command = match self {
            Self::Snapshot(volumes) => {
                let full = |(key, part): &(Key, String)| format!("{}@{part}", model.show(*key));
                items.extend(volumes.iter().map(|v| item(&full(v))));
                Command::new(Verb::Snapshot, Name::default())
            }
            Self::Clone(base, part) => {
                let mut command = Command::new(Verb::Clone, called(base));
                command.other = name(part);
                command
            }
            Self::Refresh { clone, to, keep, force } => {
                let mut command = Command::new(Verb::Refresh, called(clone));
                command.other = to.as_ref().map_or_else(Name::default, called);
                items.extend(keep.iter().map(|k| item(k)));
                flags = if *force { FLAG_FORCE } else { 0 };
                command
            }
            Self::Restore { volume, from, force, no_undo, old_first, rate } => {
                let mut command = Command::new(Verb::Restore, called(volume));
                command.other = called(from);
                command.value = (*rate).into();
                flags |= if *force { FLAG_FORCE } else { 0 };
                flags |= if *no_undo { FLAG_NO_UNDO } else { 0 };
                flags |= if *old_first { FLAG_OLD_FIRST } else { 0 };
                command
            }
            Self::Rate(volume, rate) => {
                with_rate(Command::new(Verb::RestoreRate, called(volume)), *rate)
            }
            Self::Cancel(volume, force) => {
                flags = if *force { FLAG_FORCE } else { 0 };
                with_rate(Command::new(Verb::RestoreCancel, called(volume)), u64::MAX)
            }
            Self::Destroy { keys, recursive, defer, force } => {
                flags |= if *force { FLAG_FORCE } else { 0 };
                items.extend(keys.iter().map(|k| item(&model.show(*k))));
                flags |= if *recursive { FLAG_RECURSIVE } else { 0 };
                flags |= if *defer { FLAG_DEFER } else { 0 };
                Command::new(Verb::Destroy, Name::default())
            }
            Self::Rename(key, part) => {
                let mut command = Command::new(Verb::Rename, called(key));
                command.other = name(&renamed(&model.show(*key), part));
                command
            }
            Self::Hold(key) => Command::new(Verb::Hold, called(key)),
            Self::Release(key) => Command::new(Verb::Release, called(key)),
            Self::Set(key, property, value) => {
                items.push(item_of(property, value));
                Command::new(Verb::Set, key.as_ref().map_or_else(Name::default, called))
            }
            Self::Add { dev, size, name, .. } => add(*dev, *size, name),
            Self::Remove(key, force) => {
                flags = if *force { FLAG_FORCE } else { 0 };
                Command::new(Verb::Remove, called(key))
            }
        };
        command.flags = flags.into();
        command.time_ns = time_ns.into();
        command.random[..8].copy_from_slice(&random.to_le_bytes());
        command.count = u32::try_from(items.len()).unwrap_or(0).into();
        let mut bytes = command.as_bytes().to_vec();
        items.iter().for_each(|item| bytes.extend_from_slice(item.as_bytes()));
        bytes
    }

    /// What the volume whose content changes shows from the command on: (volume, source).
    #[must_use]
    pub(super) fn replaces(&self, model: &Model) -> Option<(Key, Key)> {
        match self {
            Self::Refresh { clone, to, .. } => {
                let base = match model.entities.get(clone)?.sort {
                    Sort::Clone(base) => base,
                    _ => return None,
                };
                Some((*clone, to.unwrap_or_else(|| model.volume(base))))
            }
            Self::Restore { volume, from, .. } => Some((*volume, *from)),
            Self::Cancel(volume, _) => Some((*volume, model.undo.get(volume)?.0?)),
            _ => None,
        }
    }

    /// The model after the command, which was done between two moments.
    #[must_use]
    pub(super) fn apply(&self, model: &Model, begin: u64, end: u64) -> Model {
        let mut model = model.clone();
        match self {
            Self::Snapshot(volumes) => {
                let moment = model.moment(begin, end);
                for (volume, part) in volumes {
                    model.snapshot(*volume, *volume, Label::Exact(part.clone()), moment);
                    // Rules 4 and 9: what the snapshot shows is durable, so that the volume,
                    // which shares it, shows nothing older.
                    model.cells(*volume).iter_mut().for_each(|cell| cell.flush(begin));
                }
            }
            Self::Clone(base, part) => {
                model.clone_of(*base, Label::Exact(part.clone()), end);
            }
            Self::Refresh { .. } => self.apply_refresh(&mut model, begin, end),
            Self::Restore { .. } => self.apply_restore(&mut model, begin, end),
            Self::Cancel(volume, _) => {
                if let Some((Some(before), restored)) = model.undo.remove(volume) {
                    let kept = model.clone();
                    model.replace(*volume, before, begin, end);
                    model.or_kept(*volume, &kept, begin, end);
                    for key in [before, restored] {
                        model.entities.entry(key).and_modify(|e| e.optional = true);
                    }
                }
            }
            Self::Destroy { keys, recursive, defer, .. } => {
                for &key in keys {
                    let gone = if *recursive { model.closure(key) } else { vec![key] };
                    if *defer {
                        // It goes now, or when nothing needs it any more.
                        for key in gone {
                            model.entities.entry(key).and_modify(|e| e.optional = true);
                        }
                        model.entities.entry(key).and_modify(|e| e.deferred = true);
                    } else {
                        model.entities.retain(|k, _| !gone.contains(k));
                    }
                }
            }
            Self::Rename(key, part) => {
                let label = Label::Exact(part.clone());
                model.entities.entry(*key).and_modify(|e| e.label = label);
            }
            Self::Hold(key) => {
                model.entities.entry(*key).and_modify(|e| e.held = true);
            }
            Self::Release(key) => {
                model.entities.entry(*key).and_modify(|e| e.held = false);
            }
            Self::Add { dev, name, values, .. } => {
                let cells = values.iter().map(|value| Cell::new(*value)).collect();
                model.insert(Sort::Production(*dev), Label::Exact(name.clone()), cells);
            }
            Self::Remove(key, _) => {
                model.entities.remove(key);
                model.undo.remove(key);
            }
            Self::Rate(..) | Self::Set(..) => {}
        }
        model
    }

    /// The model after a crash amid a command that is not one step: a destroy of many objects
    /// takes them in groups, those that hang on others first.
    #[must_use]
    pub(super) fn half(&self, model: &Model) -> Option<Model> {
        let Self::Destroy { keys, recursive, .. } = self else { return None };
        let gone: Vec<Key> = if *recursive {
            keys.iter().flat_map(|key| model.closure(*key)).collect()
        } else {
            keys.clone()
        };
        // A clone that stands on a snapshot of its own begins a group of its own.
        let hangs_on_itself = |key: &Key| match model.entities.get(key).map(|e| e.sort) {
            Some(Sort::Clone(base)) => model.volume(base) == *key,
            _ => false,
        };
        if gone.len() <= 8 && !gone.iter().any(hangs_on_itself) {
            return None;
        }
        let mut model = model.clone();
        for key in gone {
            model.entities.entry(key).and_modify(|e| e.optional = true);
        }
        Some(model)
    }

    fn apply_refresh(&self, model: &mut Model, begin: u64, end: u64) {
        let Self::Refresh { clone, to, keep, .. } = self else { return };
        let Some(Sort::Clone(base)) = model.entities.get(clone).map(|e| e.sort) else { return };
        if let Some(keep) = keep {
            // Nothing is written to the clone between the two moments, or it was cut off.
            let cells = (0..model.entities[clone].cells.len())
                .map(|block| Cell::among(model.seen(*clone, block, begin, end)))
                .map(|cell| cell.frozen(begin, end))
                .collect();
            model.insert(Sort::Clone(base), Label::Exact(keep.clone()), cells);
        }
        let to = to.unwrap_or_else(|| {
            let moment = model.moment(begin, end);
            let volume = model.volume(base);
            model.cells(volume).iter_mut().for_each(|cell| cell.flush(begin));
            model.snapshot(volume, volume, Label::Prefix(String::new()), moment)
        });
        model.replace(*clone, to, begin, end);
        let root = model.root(to);
        model.entities.entry(*clone).and_modify(|e| (e.sort, e.root) = (Sort::Clone(to), root));
    }

    fn apply_restore(&self, model: &mut Model, begin: u64, end: u64) {
        let Self::Restore { volume, from, no_undo, .. } = self else { return };
        let moment = model.moment(begin, end);
        let label = Label::Prefix("before-restore-".into());
        let before = (!no_undo).then(|| model.snapshot(*volume, *volume, label, moment));
        let label = Label::Prefix("restored-".into());
        let restored = model.snapshot(*from, *volume, label, moment);
        model.forgoable.extend(before.into_iter().chain([restored]));
        model.undo.insert(*volume, (before, restored));
        let kept = model.clone();
        model.replace(*volume, *from, begin, end);
        model.or_kept(*volume, &kept, begin, end);
        if model.lossy {
            // R shows what production keeps where X is lost, and has no moment of its own.
            let cells = model.entities[volume].cells.clone();
            if let Some(restored) = model.entities.get_mut(&restored) {
                restored.cells = cells;
                restored.moment = None;
            }
        }
    }
}

/// The command that lists the pool from entity `from` on.
#[must_use]
pub(super) fn list(from: u64) -> Vec<u8> {
    let mut command = Command::new(Verb::List, Name::default());
    command.value = from.into();
    command.limit = 64.into();
    command.as_bytes().to_vec()
}

/// A command without rows or flags on an object.
#[must_use]
pub(super) fn query(verb: Verb, object: &str, from: u64) -> Vec<u8> {
    let mut command = Command::new(verb, name(object));
    command.value = from.into();
    command.limit = 64.into();
    command.as_bytes().to_vec()
}

/// The head of a reply and its rows' bytes.
///
/// # Errors
///
/// That it is none.
pub(super) fn parse(bytes: &[u8]) -> Result<(Reply, Vec<&[u8]>), Wrong> {
    let (reply, rest) =
        Reply::read_from_prefix(bytes).map_err(|_| "a reply is too short".to_string())?;
    let (count, each) = (reply.count.get() as usize, reply.row_bytes.get() as usize);
    if count == 0 {
        return Ok((reply, Vec::new()));
    }
    if each == 0 || rest.len() != count * each {
        return Err(format!("a reply of {count} rows of {each} bytes has {}", rest.len()));
    }
    Ok((reply, rest.chunks(each).collect()))
}

/// A row of a list.
///
/// # Errors
///
/// That it is none.
pub(super) fn entity(bytes: &[u8]) -> Result<Row, Wrong> {
    let row = EntityRow::read_from_bytes(bytes).map_err(|_| "not an entity".to_string())?;
    Ok(Row {
        id: row.id.get(),
        owner: row.owner.get(),
        base: row.base.get(),
        kind: row.kind.get(),
        flags: row.flags.get(),
        name: row.name.text().to_owned(),
        origin: row.origin.text().to_owned(),
        size: row.size.get(),
        used: row.used.get(),
        reservation: row.reservation.get(),
    })
}
