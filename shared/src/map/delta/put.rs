// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Putting records in and taking chunks out.

use super::node::{at, Entry, NONE};
use super::{Delta, Spot};
use crate::bug;
use crate::fault::Fault;
use crate::format::record::{GroupKey, Record};
use crate::platform::Platform;

/// What became of the entries of a group.
#[derive(Clone, Copy, Default)]
struct Overlay {
    /// The new record has found a place among them.
    placed: bool,
    /// So many of them speak of no chunk any more.
    dead: usize,
}

impl<P: Platform> Delta<P> {
    /// Puts a record in; of its chunks, nothing else is left in its group.
    ///
    /// Without room nothing changes.
    pub fn put(&mut self, record: Record) -> Result<(), Fault> {
        if self.room() == 0 {
            return Err(Fault::NoMemory);
        }
        if record.mask == 0 || (record.word.0 | record.slot.0) >> 48 != 0 {
            return Err(bug!());
        }
        let key = record.group().first().0;
        if self.is_empty() {
            self.root = self.new_leaf()?;
            self.height = 1;
        }
        let leaf = self.descend(key)?;
        let pos = self.leaf(leaf)?.lower(key);
        let first = self.spot(leaf, pos)?.filter(|spot| spot.group == key);
        let outcome = self.overlay(first, record.mask, Some(&record))?;
        if !outcome.placed {
            self.insert(leaf, pos, Entry::new(&record))?;
        }
        self.bury(key, outcome.dead)
    }

    /// Takes these chunks of a group out; nothing of them is left, not even that they are gone.
    pub fn remove(&mut self, group: GroupKey, mask: u64) -> Result<(), Fault> {
        let Some(spot) = self.find(group)?.filter(|spot| spot.group() == group) else {
            return Ok(());
        };
        let outcome = self.overlay(Some(spot), mask, None)?;
        self.bury(group.first().0, outcome.dead)
    }

    /// Takes the chunks of `mask` from the entries of the group at `first`; puts `record` in the
    /// place of one that has none left, or adds it to one that it continues.
    fn overlay(
        &mut self,
        first: Option<Spot>,
        mask: u64,
        record: Option<&Record>,
    ) -> Result<Overlay, Fault> {
        let mut outcome = Overlay::default();
        let Some(Spot { mut leaf, mut pos, group }) = first else { return Ok(outcome) };
        let (mut wanted, mut left) = (record, mask);
        while leaf != NONE {
            let here = self.leaves.get_mut(at(leaf)).ok_or(bug!())?;
            let (end, more) = here.end_of(pos, group);
            for entry in here.entries.get_mut(pos..end).unwrap_or_default() {
                // Most entries of a group have nothing to do with the record.
                let hit = entry.live & mask;
                if hit == 0 && !wanted.is_some_and(|record| entry.may_absorb(record)) {
                    continue;
                }
                left &= !hit;
                let before = entry.weight()?.1;
                if entry.take(mask, wanted)? {
                    outcome.placed = true;
                    wanted = None;
                }
                let after = entry.weight()?.1;
                self.weight = self.weight.saturating_sub(before).saturating_add(after);
                outcome.dead = outcome.dead.saturating_add(usize::from(entry.live == 0));
                // The masks are disjoint: nothing more to be cut, if all was.
                if wanted.is_none() && left == 0 {
                    return Ok(outcome);
                }
            }
            if !more {
                break;
            }
            (leaf, pos) = (here.next, 0);
        }
        Ok(outcome)
    }
}
