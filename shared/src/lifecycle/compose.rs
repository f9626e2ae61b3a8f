// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The records that settle a word (I-17): its chunks are home, and what M has of them goes.
//!
//! M's versions of a chunk end one after another; each goes to the newest snapshot that holds it,
//! or its slot is free. If there are more than one group of the log takes, groups before it hand
//! over the oldest: their snapshots look at their own records first (I-8), and M has the later
//! ones. The group is walked twice, first to see that all pages of the tree are
//! there, so that nothing can stop it once it has begun to log.

use crate::engine::{Core, Dir, Level, Levels, Place, Stage, Stop, What};
use crate::fault::Fault;
use crate::format::entity::Entity;
use crate::format::record::{free_run, GroupKey, Kind, Record};
use crate::lifecycle::settle::kept;
use crate::map::Miss;
use crate::platform::Platform;
use crate::units::{bit, Epoch, MapId, Slot};

/// Records that settle a word in one group of the log, at most: a small log has room for them.
pub(super) const RECORDS: u32 = 320;

impl<P: Platform> Core<P> {
    /// Which chunks' oldest versions were handed over before, by a merge that was cut off amid
    /// them: R, or who follows it, has what X holds of those.
    pub(super) fn find_handed(&mut self, t: u32) {
        self.tasks.at_mut(t).stage = Stage::Step(8);
        let vol = self.vols.at(self.lifecycle.merge.vol);
        let (map, id) = (vol.map, vol.id);
        let Some(r) = self.catalog.get(id).and_then(Entity::restoring) else {
            return self.end_word(t, false);
        };
        let (lo, hi) = (Epoch(r.r_epoch.get()), Epoch(u32::MAX));
        let in_m = self.job(t).in_m;
        match self.look_up(t, in_m, Levels::One(Level { map, lo, hi, dir: Dir::First })) {
            Err(Stop::Waits) => return,
            Err(Stop::Fault(fault)) => return self.fail_task(t, fault),
            Ok(()) => {}
        }
        self.job(t).handed = self.tasks.at(t).placed(in_m, |w| w != What::Unset);
        self.lock_to_save(t);
    }

    /// Whether one group of the log settles the chunks `set`: M may have a version of each for
    /// every snapshot taken since the restore began. If it does not, the epoch of M before which it
    /// hands over what ends. That gets on: with X's versions handed over, a group has room for two
    /// versions of all chunks.
    #[inline(never)]
    pub(super) fn part_to_settle(
        &mut self,
        t: u32,
        m: MapId,
        set: u64,
    ) -> Result<Option<Epoch>, Miss> {
        let word = self.tasks.at(t).word;
        let handed = self.job(t).handed;
        // X's version goes to R or its followers; each of M's ends, and goes on or is freed.
        let (mut records, mut seen) = (1u32, 0);
        let mut from = GroupKey { map: m, word, epoch: Epoch(1) };
        let end = GroupKey { map: m, word: word.next(), epoch: Epoch(0) };
        while let Some(key) = self.layers.next_group(from, end, &mut self.group)? {
            for record in self.group.records() {
                let of = record.mask & set;
                let first = (of & !seen & !handed).count_ones();
                records = records.saturating_add(first).saturating_add(of.count_ones() << 1);
                seen |= of;
            }
            if records > RECORDS {
                return Ok(Some(key.epoch));
            }
            let Some(after) = key.after() else { break };
            from = after;
        }
        Ok(None)
    }

    /// Walks what M has of the word, up to the epoch `until` if that is all that there is room for,
    /// and logs what becomes of it.
    #[inline(never)]
    pub(super) fn compose(
        &mut self,
        t: u32,
        m: MapId,
        set: u64,
        until: Option<Epoch>,
    ) -> Result<(), Miss> {
        let word = self.tasks.at(t).word;
        self.begin_group(12)?;
        if until.is_none() {
            let (kind, epoch, slot) = (Kind::Settled, Epoch(0), Slot(0));
            self.put_logged(&Record { map: m, word, epoch, kind, mask: set, slot }, None)?;
        }
        // The version before M's first: X's own, which R and its followers hold.
        self.tasks.at_mut(t).places.forget(u64::MAX);
        let mut from = GroupKey { map: m, word, epoch: Epoch(1) };
        let all = GroupKey { map: m, word: word.next(), epoch: Epoch(0) };
        let end = until.map_or(all, |epoch| GroupKey { map: m, word, epoch });
        while let Some(key) = self.layers.next_group(from, end, &mut self.group)? {
            for n in 0..self.group.records().len() {
                let Some(record) = self.group.records().get(n).copied() else { break };
                self.compose_record(t, &record, set)?;
            }
            let Some(after) = key.after() else { break };
            from = after;
        }
        if until.is_none() {
            self.compose_end(t, m, set)?;
        }
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
            let handed = self.job(t).handed;
            self.job(t).handed |= bit(b);
            if handed & bit(b) != 0 {
                return Ok(());
            }
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
