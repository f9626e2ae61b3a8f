// SPDX-License-Identifier: MIT

//! Productions that are away: missing when the pool is opened, or refused since somebody changed
//! them behind rwsnap's back (I-45). Meanwhile nothing may be done on their devices, and nothing
//! that needs them may be done at all. What was changed while the core knew the fingerprint stays
//! refused, opening by opening, until the disk is as it was, or is trusted.
//!
//! The chance comes from a generator of its own, so that seeds without any of this are what they
//! were.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rwsnap_core::control::Refusal;
use rwsnap_core::format::fingerprint;

use super::block::{Block, GARBAGE};
use super::cell::Version;
use super::command::Change;
use super::disk::Disk;
use super::engine::{Engine, Found};
use super::machine::{Machine, Wrong};
use super::model::{Key, Model, Sort};
use super::oracle::{Leave, Matching, Sweep};
use super::rng::{mix, Rng};
use super::schedule::World;

/// A block that somebody changed.
#[derive(Clone, Debug)]
struct Foreign {
    at: u64,
    was: Block,
    is: u64,
}

/// How the productions are found when a pool is opened, by device; then, which are away.
#[derive(Clone, Debug, Default)]
pub(super) struct Absent {
    missing: BTreeSet<u16>,
    /// Of those, the ones whose fingerprint the core knows.
    known: BTreeSet<u16>,
    /// Refused, because of these blocks.
    changed: BTreeMap<u16, Vec<Foreign>>,
    /// To be changed before they are handed over, if the core can notice; by which chance.
    spoil: BTreeMap<u16, u64>,
    /// To be brought online on purpose.
    trusted: BTreeSet<u16>,
    /// Brought online on purpose in this session: no checkpoint may have said so yet.
    believed: BTreeSet<u16>,
}

impl Absent {
    /// Nobody has looked for any of so many productions yet.
    pub(super) fn all(count: usize) -> Self {
        let missing = (1..).take(count).collect();
        Self { missing, ..Self::default() }
    }

    /// Whether the production on this device is away.
    pub(super) fn has(&self, dev: usize) -> bool {
        let is = |away: &u16| usize::from(*away) == dev;
        self.missing.iter().any(is) || self.changed.keys().any(is)
    }

    /// Whether none is away.
    pub(super) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty()
    }

    /// The devices of those that are away, as bits.
    pub(super) fn bits(&self) -> u32 {
        let all = self.missing.iter().chain(self.changed.keys());
        all.fold(0, |bits, dev| bits | 1 << dev)
    }

    /// Only these devices are in the pool: whatever happened to others is not looked at.
    fn only(&mut self, devs: &BTreeSet<u16>) {
        self.missing.retain(|dev| devs.contains(dev));
        self.known.retain(|dev| devs.contains(dev));
        self.changed.retain(|dev, _| devs.contains(dev));
        self.spoil.retain(|dev, _| devs.contains(dev));
        self.trusted.retain(|dev| devs.contains(dev));
    }

    /// Found as now, or some of the missing ones again, and maybe changed meanwhile.
    pub(super) fn some_back(&self, rng: &mut Rng) -> Self {
        let mut absent = self.clone();
        for &dev in &self.missing {
            let fate = rng.below(3);
            if fate > 0 {
                absent.missing.remove(&dev);
            }
            if fate > 1 {
                absent.spoil.insert(dev, rng.next());
            }
        }
        absent
    }
}

/// Somebody writes to a disk: to a block at least that the fingerprint looks at.
fn spoil(disk: &mut Disk, seed: u64) -> Vec<Foreign> {
    let mut rng = Rng::new(seed);
    let (size, block) = (disk.device.size, u64::from(disk.device.block));
    let sampled: Vec<u64> = fingerprint::sample(size).collect();
    let first = rng.pick(&sampled) * (fingerprint::BLOCK / block);
    let last = (first + fingerprint::BLOCK / block).min(size / block);
    let mut places = BTreeSet::from([rng.range(first, last - 1)]);
    places.extend((0..rng.below(12)).map(|_| rng.below(size / block)));
    let change = |at| {
        let (was, is) = (disk.get(at).clone(), mix(seed ^ at) | GARBAGE);
        disk.replace(at, Block::Word(is));
        Foreign { at, was, is }
    };
    places.into_iter().map(change).collect()
}

/// The disk is as it was.
fn put_back(disk: &mut Disk, changed: Vec<Foreign>) {
    changed.into_iter().for_each(|foreign| disk.replace(foreign.at, foreign.was));
}

/// Hands the production volumes to a core that has opened its pool; those that are away it must
/// do without. That one was trusted it may have forgotten if the last session ended `early`.
///
/// # Errors
///
/// What went wrong.
pub(super) fn start<E: Engine>(
    machine: &mut Machine<E>,
    mut absent: Absent,
    early: bool,
) -> Result<(), Wrong> {
    let mut believed = BTreeSet::new();
    let productions = machine.core.productions();
    absent.only(&productions.iter().map(|found| found.dev.0).collect());
    for found in productions {
        let dev = found.dev.0;
        let disk = machine.disks.get_mut(usize::from(dev)).ok_or("a volume on no device")?;
        if found.size != disk.device.size {
            return Err(format!("device {dev} is said to have {} bytes", found.size));
        }
        let knew = absent.known.remove(&dev) || absent.changed.contains_key(&dev);
        if found.fingerprint.is_some() {
            absent.known.extend(absent.missing.get(&dev));
        } else if knew {
            return Err(format!("what device {dev} looked like is forgotten"));
        }
        let seed = absent.spoil.remove(&dev).filter(|_| found.fingerprint.is_some());
        if absent.missing.contains(&dev) {
            continue;
        }
        if let Some(seed) = seed {
            absent.changed.insert(dev, spoil(disk, seed));
        }
        let trust = absent.trusted.remove(&dev) || (early && absent.believed.contains(&dev));
        meet(machine, &found, absent.changed.contains_key(&dev), trust)?;
        if trust {
            believed.insert(dev);
        }
    }
    absent.believed = believed;
    machine.absent = absent;
    machine.core.start();
    machine.drain()
}

/// Hands over a production, which must be refused if it was changed.
fn meet<E: Engine>(
    machine: &mut Machine<E>,
    found: &Found,
    changed: bool,
    trust: bool,
) -> Result<(), Wrong> {
    let (dev, disk) = (found.dev, &machine.disks[usize::from(found.dev.0)]);
    let (device, print) = (disk.device, found.fingerprint.map_or(0, |_| disk.fingerprint()));
    // Another print is refused as well.
    let other = if changed { print } else { print ^ 1 };
    if found.fingerprint.is_some() && !trust {
        match machine.core.online(dev, device, other, false) {
            Err(Refusal::Lost) => {}
            Err(why) => return Err(format!("device {dev:?} was changed: {why:?}")),
            Ok(()) => return Err(format!("device {dev:?} was changed and is not refused")),
        }
    }
    if changed {
        return Ok(());
    }
    let online = machine.core.online(dev, device, print, trust);
    online.map_err(|refusal| format!("device {dev:?} is refused: {refusal:?}"))
}

impl Model {
    /// Whether its production is away.
    pub(super) fn is_away(&self, key: Key, leave: Leave) -> bool {
        match self.entities.get(&self.root(key)).map(|e| e.sort) {
            Some(Sort::Production(dev)) => leave.away >> dev & 1 != 0,
            _ => false,
        }
    }

    /// Whether a command needs a production that is away.
    fn needs_away(&self, change: &Change, leave: Leave) -> bool {
        match change {
            Change::Snapshot(volumes) => volumes.iter().any(|(v, _)| self.is_away(*v, leave)),
            Change::Refresh { clone: volume, to: None, .. } | Change::Restore { volume, .. } => {
                self.is_away(*volume, leave)
            }
            _ => false,
        }
    }

    /// Whether a command may be refused, or not be, with a production away.
    ///
    /// # Errors
    ///
    /// That it may not.
    pub(super) fn answered_away(
        &self,
        change: &Change,
        refusal: Refusal,
        leave: Leave,
    ) -> Result<(), Wrong> {
        match (self.needs_away(change, leave), refusal) {
            (true, Refusal::None) => Err(format!("{change:?} is done without its production")),
            (false, Refusal::Offline) => Err(format!("{change:?} is refused: {refusal:?}")),
            _ => Ok(()),
        }
    }

    /// What was not read after a crash, its production being away, may as well be as in another
    /// model.
    pub(super) fn or_unread(&mut self, other: &Self, sweep: &Sweep, pairs: &Matching) {
        let unread = |row: usize| !sweep.content.contains_key(&sweep.rows[row].id);
        for &(key, _) in pairs.iter().filter(|(_, row)| unread(*row)) {
            let others = other.entities.get(&key).map(|e| Rc::clone(&e.cells));
            for (cell, other) in
                self.cells(key).iter_mut().zip(others.iter().flat_map(|o| o.iter()))
            {
                cell.survive();
                let mut other = other.clone();
                other.survive();
                if *cell != other {
                    other.versions().for_each(|version| cell.add(version));
                }
            }
        }
    }

    /// A changed production is used all the same: it shows what is there now, and so does what
    /// reads from it in place. Which blocks those are the model does not know.
    fn trust(&mut self, dev: u16, changed: &[Foreign], now: u64) {
        let production = self.keys(|e| e.sort == Sort::Production(dev)).first().copied();
        for key in self.keys(|e| Some(e.root) == production) {
            let cells = self.cells(key);
            for foreign in changed {
                let at = usize::try_from(foreign.at).unwrap_or(usize::MAX);
                let Some(cell) = cells.get_mut(at) else { continue };
                if Some(key) == production {
                    cell.settle(foreign.is);
                } else {
                    // A command that a crash cut off may have seen it.
                    let version = Version::begin(foreign.is, 0);
                    cell.add(Version { end: now, flips: true, ..version });
                }
            }
        }
    }
}

impl<E: Engine> World<E> {
    /// How productions are found at the next opening, after a clean close or not.
    pub(super) fn next_absent(&mut self, disks: &mut [Disk], clean: bool) -> Absent {
        let mut absent = self.machine.absent.clone();
        let percent = self.plan.away;
        if percent == 0 && absent.is_empty() {
            return absent;
        }
        let rng = &mut self.aside;
        for (dev, disk) in (0u16..).zip(disks).skip(1) {
            if absent.changed.contains_key(&dev) {
                let fate = rng.below(if percent == 0 { 3 } else { 8 });
                if fate > 2 {
                    continue;
                }
                let changed = absent.changed.remove(&dev).unwrap_or_default();
                if fate == 0 {
                    self.tally.kinds.saw("changed production is trusted");
                    self.model.trust(dev, &changed, self.now);
                    absent.trusted.insert(dev);
                } else {
                    self.tally.kinds.saw("changed production is as it was");
                    put_back(disk, changed);
                }
            } else if absent.missing.contains(&dev) {
                if percent == 0 || rng.chance(60) {
                    absent.missing.remove(&dev);
                    let spoils = percent != 0 && rng.chance(50);
                    absent.spoil.extend(spoils.then(|| (dev, rng.next())));
                }
            } else if rng.chance(percent) {
                if clean && rng.chance(50) {
                    absent.spoil.insert(dev, rng.next());
                } else {
                    absent.missing.insert(dev);
                }
            }
        }
        absent
    }

    /// Whether a volume cannot be opened, its production being away.
    pub(super) fn must_be_offline(&self, key: Key) -> bool {
        self.may_be_offline(key) && !self.is_replaced(key)
    }

    /// Whether a volume may be refused because its production is away.
    pub(super) fn may_be_offline(&self, key: Key) -> bool {
        let snapshot = matches!(self.model.entities[&key].sort, Sort::Snapshot(_));
        let replaced = self.is_replaced(key) && self.leave().away != 0;
        !snapshot && (self.model.is_away(key, self.leave()) || replaced)
    }

    /// Whether a clone goes to another snapshot, which may be of another production.
    fn is_replaced(&self, key: Key) -> bool {
        let given = self.given.as_ref().and_then(|g| g.replaces(&self.model));
        let doubt = self.doubt.iter().filter_map(|d| d.0.replaces(&self.model));
        given.iter().any(|r| r.0 == key) || doubt.into_iter().any(|r| r.0 == key)
    }

    /// Counts those that are away in an opening, after a clean close or not.
    pub(super) fn count_absent(&mut self, absent: &Absent, clean: bool) {
        let kinds = &mut self.tally.kinds;
        for _ in &absent.missing {
            kinds.saw(if clean { "production away" } else { "production away after a crash" });
        }
        for _ in &absent.changed {
            kinds.saw(if clean { "production changed" } else { "production changed, and a crash" });
        }
    }
}
