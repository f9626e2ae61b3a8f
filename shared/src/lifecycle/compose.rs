// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The records that settle a word (I-17): its chunks are home, and what M has of them goes.
//!
//! M's versions of a chunk end one after another; each goes to the newest snapshot that holds it,
//! or its slot is free. The group is walked twice, first to see that all pages of the tree are
//! there, so that nothing can stop it once it has begun to log.

use crate::engine::{Core, Place, What, UNSET};
use crate::fault::Fault;
use crate::format::entity::Entity;
use crate::format::record::{free_run, GroupKey, Kind, Record};
use crate::lifecycle::settle::kept;
use crate::map::Miss;
use crate::platform::Platform;
use crate::units::{bit, Epoch, MapId, Slot};

/// Records that settle a word in one group of the log, unless one chunk alone has more.
const RECORDS: u32 = 320;

impl<P: Platform> Core<P> {
    /// Of the chunks `set` those that one group settles, and how many records it has at most: M may
    /// have a version of a chunk for each snapshot taken since the restore began. What is left goes
    /// round again.
    #[inline(never)]
    pub(super) fn part_to_settle(
        &mut self,
        t: u32,
        m: MapId,
        set: u64,
    ) -> Result<(u64, u32), Miss> {
        let word = self.tasks.at(t).word;
        // Of each chunk: X's version goes to R or its followers, each of M's ends and goes on.
        let mut records = [1u32; 64];
        let mut from = GroupKey { map: m, word, epoch: Epoch(1) };
        let end = GroupKey { map: m, word: word.next(), epoch: Epoch(0) };
        while let Some(key) = self.layers.next_group(from, end, &mut self.group)? {
            for record in self.group.records() {
                for (n, b) in records.iter_mut().zip(0u32..) {
                    *n = n.saturating_add(if record.mask & bit(b) == 0 { 0 } else { 2 });
                }
            }
            let Some(after) = key.after() else { break };
            from = after;
        }
        let (mut part, mut all) = (0, 1u32);
        for (n, b) in records.iter().zip(0u32..) {
            let sum = all.saturating_add(*n);
            if set & bit(b) != 0 && (part == 0 || sum <= RECORDS) {
                part |= bit(b);
                all = sum;
            }
        }
        Ok((part, all.max(RECORDS)))
    }

    /// Walks what M has of the word, and logs what becomes of it.
    #[inline(never)]
    pub(super) fn compose(&mut self, t: u32, m: MapId, set: u64) -> Result<(), Miss> {
        let word = self.tasks.at(t).word;
        self.begin_group(12)?;
        let (kind, epoch, slot) = (Kind::Settled, Epoch(0), Slot(0));
        self.put_logged(&Record { map: m, word, epoch, kind, mask: set, slot }, None)?;
        // The version before M's first: X's own, which R and its followers hold.
        self.tasks.at_mut(t).places = [UNSET; 64];
        let mut from = GroupKey { map: m, word, epoch: Epoch(1) };
        let end = GroupKey { map: m, word: word.next(), epoch: Epoch(0) };
        while let Some(key) = self.layers.next_group(from, end, &mut self.group)? {
            for n in 0..self.group.records().len() {
                let Some(record) = self.group.records().get(n).copied() else { break };
                self.compose_record(t, &record, set)?;
            }
            let Some(after) = key.after() else { break };
            from = after;
        }
        self.compose_end(t, m, set)?;
        self.end_group()?;
        Ok(())
    }

    /// A record of M: the version before it ends here.
    fn compose_record(&mut self, t: u32, record: &Record, set: u64) -> Result<(), Fault> {
        for b in 0..64 {
            if record.mask & set & bit(b) == 0 {
                continue;
            }
            self.hand_over(t, record.map, b, record.epoch)?;
            let what = if record.kind == Kind::New { What::New } else { What::Zero };
            let slot = record.slot_of(b).unwrap_or_default();
            let place = Place { what, level: 0, epoch: record.epoch, slot };
            self.tasks.at_mut(t).set_place(b, place);
        }
        Ok(())
    }

    /// The version of a chunk that ends before epoch `next` goes to the newest snapshot that holds
    /// it, if there is one; else its slot is free.
    fn hand_over(&mut self, t: u32, m: MapId, b: u32, next: Epoch) -> Result<(), Fault> {
        let vol = self.vols.at(self.lifecycle.merge.vol);
        let (map, id) = (vol.map, vol.id);
        let word = self.tasks.at(t).word;
        let version = self.tasks.at(t).place(b);
        let r = self.catalog.get(id).and_then(Entity::restoring).map_or(0, |r| r.r_epoch.get());
        let first = version.what == What::Unset;
        let least = if first { Epoch(r) } else { version.epoch };
        let holder = self.catalog.epoch_before(map, next).filter(|&e| e >= least);
        let blank =
            Record { map, word, epoch: Epoch(0), kind: Kind::Copied, mask: bit(b), slot: Slot(0) };
        if first {
            let Some(epoch) = holder else { return Ok(()) };
            if self.job(t).keeps & bit(b) != 0 {
                let slot = kept(self.job(t), b);
                self.job(t).keeps &= !bit(b);
                return self.put_logged(&Record { epoch, slot, ..blank }, None);
            }
            return self.put_logged(&Record { epoch, kind: Kind::Zero, ..blank }, None);
        }
        let gone = Record { map: m, epoch: version.epoch, kind: Kind::Gone, ..blank };
        self.put_logged(&gone, None)?;
        self.layers.fresh.remove(gone.group(), bit(b))?;
        self.layers.pending.remove(gone.group(), bit(b))?;
        if version.what == What::New {
            self.count_used(m, -1);
        }
        match (holder, version.what) {
            (Some(epoch), What::New) => {
                self.put_logged(&Record { epoch, slot: version.slot, ..blank }, None)
            }
            (Some(epoch), _) => self.put_logged(&Record { epoch, kind: Kind::Zero, ..blank }, None),
            (None, What::New) => {
                for free in free_run(version.slot, 1) {
                    self.put_logged(&free, None)?;
                }
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    /// The last version of each chunk is in place now: M's record of it goes.
    fn compose_end(&mut self, t: u32, m: MapId, set: u64) -> Result<(), Fault> {
        for b in 0..64 {
            let version = self.tasks.at(t).place(b);
            if set & bit(b) == 0 || version.what == What::Unset {
                continue;
            }
            let word = self.tasks.at(t).word;
            let gone = Record {
                map: m,
                word,
                epoch: version.epoch,
                kind: Kind::Gone,
                mask: bit(b),
                slot: Slot(0),
            };
            self.put_logged(&gone, None)?;
            self.layers.fresh.remove(gone.group(), bit(b))?;
            self.layers.pending.remove(gone.group(), bit(b))?;
            if version.what == What::New {
                self.count_used(m, -1);
                for free in free_run(version.slot, 1) {
                    self.put_logged(&free, None)?;
                }
            }
        }
        Ok(())
    }
}
