// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Looking up where the chunks of a word read from, level by level.
//!
//! A look-up that misses a page waits for it and goes on where it was. What it found before stands
//! only if no record of the word changed meanwhile (the word's *version*); else it begins again.

use crate::engine::places::{Place, Places, What};
use crate::engine::task::{Task, Walk};
use crate::engine::view::{Dir, Level};
use crate::engine::Core;
use crate::fault::Fault;
use crate::format::record::{GroupKey, Kind, Record};
use crate::map::Miss;
use crate::platform::Platform;
use crate::units::{bits, Epoch, Word};

/// Why a look-up stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// The task waits for a page and has been queued for it.
    Waits,
    /// It cannot succeed.
    Fault(Fault),
}

fn what(kind: Kind) -> What {
    match kind {
        Kind::Copied => What::Copied,
        Kind::New => What::New,
        Kind::Zero => What::Zero,
        Kind::Settled => What::Settled,
        Kind::Lost | Kind::Gone | Kind::Free => What::Lost,
    }
}

/// Which levels to search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Levels {
    /// All levels of the task's view.
    All,
    /// The first level of the task's view alone.
    Own,
    /// All but the first.
    Base,
    /// This one.
    One(Level),
}

impl<P: Platform> Core<P> {
    /// Finds the places of the chunks `mask` of the task's word. What no level has stays
    /// `What::Unset`.
    pub(crate) fn look_up(&mut self, t: u32, mask: u64, levels: Levels) -> Result<(), Stop> {
        let word = self.tasks.at(t).word;
        let version = self.versions.of(word);
        let task = self.tasks.at_mut(t);
        if !task.walk.begun || task.walk.version != version {
            task.places.forget(mask);
            let level = u8::from(levels == Levels::Base);
            task.walk = Walk { begun: true, missing: mask, version, level, ..Walk::default() };
        }
        while self.tasks.at(t).walk.missing != 0 {
            let at = self.tasks.at(t).walk.level;
            let level = match levels {
                Levels::All | Levels::Base => self.views.at(self.tasks.at(t).view).level(at),
                Levels::Own if at > 0 => None,
                Levels::Own => self.views.at(self.tasks.at(t).view).level(0),
                Levels::One(level) => (at == 0).then_some(level),
            };
            let Some(level) = level else { break };
            match self.search_level(t, word, level) {
                Ok(()) => {
                    let walk = &mut self.tasks.at_mut(t).walk;
                    walk.missing &= !walk.found;
                    walk.found = 0;
                    walk.from = Epoch(0);
                    walk.level = walk.level.saturating_add(1);
                }
                Err(Miss::Page(page)) => return Err(self.wait_for_page(t, page)),
                Err(Miss::Fault(fault)) => return Err(Stop::Fault(fault)),
            }
        }
        self.tasks.at_mut(t).walk.begun = false;
        self.end_walk(t);
        Ok(())
    }

    /// Searches one level for the chunks that are missing.
    fn search_level(&mut self, t: u32, word: Word, level: Level) -> Result<(), Miss> {
        let hi = level.hi.0.checked_add(1).map(Epoch);
        let end = match hi {
            Some(epoch) => GroupKey { map: level.map, word, epoch },
            None => GroupKey { map: level.map, word: word.next(), epoch: Epoch(0) },
        };
        loop {
            let walk = self.tasks.at(t).walk;
            if level.dir == Dir::First && walk.missing & !walk.found == 0 {
                return Ok(());
            }
            let from = GroupKey { map: level.map, word, epoch: Epoch(walk.from.0.max(level.lo.0)) };
            // Nothing is later than all that was given out: copies bear epochs of snapshots, and
            // new data at most the one after such an epoch.
            let last = match level.dir {
                Dir::First => self.counters.epoch,
                Dir::Last => self.counters.epoch.next(),
            };
            if from >= end || from.epoch > last {
                return Ok(());
            }
            let wanted = match level.dir {
                Dir::First => walk.missing & !walk.found,
                Dir::Last => walk.missing,
            };
            // A checkpoint has no old data for snapshots that were taken since: a first write
            // soon after a snapshot need not read the map.
            let tree = level.dir == Dir::Last || from.epoch.0 <= self.superblock.epoch.get();
            let next = self.layers.next_group_of(from, end, (wanted, tree), &mut self.group)?;
            let Some(key) = next else { return Ok(()) };
            let Task { state: task, places } = self.tasks.at_mut(t);
            for record in self.group.records() {
                take(task.walk.level, level.dir, record, &mut task.walk, places);
            }
            if key.epoch.0 == u32::MAX {
                return Ok(());
            }
            task.walk.from = key.epoch.next();
        }
    }
}

/// Takes what a record says of the chunks that are missing.
fn take(level: u8, dir: Dir, record: &Record, walk: &mut Walk, places: &mut Places) {
    let wanted = match dir {
        Dir::First => walk.missing & !walk.found,
        Dir::Last => walk.missing,
    };
    let got = record.mask & wanted;
    walk.found |= got;
    for bit in bits(got) {
        let slot = record.slot_of(bit).unwrap_or_default();
        places.set(bit, Place { what: what(record.kind), level, epoch: record.epoch, slot });
    }
}
