// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The sweep: frees what no living view resolves to, in the background.
//!
//! It walks one map group by group. Of a map without users everything goes. A production's record
//! of a chunk at epoch q is needed if a living snapshot lies behind the chunk's record before it
//! and not behind q (I-8). A clone's is needed if a living snapshot, or the clone itself, lies at q
//! or later and before the chunk's next record (I-9). What it frees it also hides with `Gone`
//! records, so that a sweep that begins again after a crash finds less to do.

use crate::engine::{Core, Job, Stage, Stop, What, NONE};
use crate::fault::Fault;
use crate::format::entity::{Kind, SWEEP_ALL};
use crate::format::record::{free_run, GroupKey, Kind as RecordKind, Record};
use crate::lifecycle::RETRY_NS;
use crate::map::Miss;
use crate::platform::Platform;
use crate::units::{bit, EntityId, Epoch, MapId, Slot, Word};

/// Where the sweep is.
pub(crate) struct Sweeper {
    /// Its task runs.
    running: bool,
    entity: EntityId,
    map: MapId,
    all: bool,
    /// The map belongs to a production.
    production: bool,
    /// The map has a volume: its last records are needed.
    head: bool,
    from: GroupKey,
    word: Word,
    /// Records changed under it: it has to begin again.
    restart: bool,
    /// A group of the log is open for what it frees.
    freeing: bool,
    /// A page could not be read: it waits until then before it tries again.
    retry_ns: u64,
}

impl Sweeper {
    pub(crate) const fn new() -> Self {
        let none = GroupKey { map: MapId(0), word: Word(0), epoch: Epoch(0) };
        Self {
            running: false,
            entity: EntityId(0),
            map: MapId(0),
            all: false,
            production: false,
            head: false,
            from: none,
            word: Word(0),
            restart: false,
            freeing: false,
            retry_ns: 0,
        }
    }

    /// The map has to be swept from its beginning.
    pub(crate) fn again(&mut self, map: MapId) {
        if self.map == map {
            self.restart = true;
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running
    }
}

impl<P: Platform> Core<P> {
    /// Starts the sweep's task if a map wants sweeping.
    pub(crate) fn start_sweep(&mut self) {
        let ended = self.closing || self.fenced.is_some();
        if self.lifecycle.sweeper.running || !self.started || ended {
            return;
        }
        if self.lifecycle.sweeper.retry_ns > self.now_ns {
            return;
        }
        // Copies are made for a snapshot until it is durably given up: they must be swept too.
        if self.space.giving_up.is_some() {
            return;
        }
        // Asked for with every request: the catalogue may be large.
        if self.catalog.first_sweep().is_none() {
            return;
        }
        let Some(t) = self.tasks.take() else { return };
        self.tasks.at_mut(t).renew(Job::Sweep, NONE);
        self.lifecycle.sweeper.running = true;
        self.ready(t);
    }

    /// Runs the sweep: a bounded number of groups each time.
    #[inline(never)]
    pub(crate) fn run_sweep(&mut self, t: u32) {
        if self.fenced.is_some() || self.tasks.at(t).fault.is_some() || self.closing {
            return self.end_sweep(t);
        }
        match self.tasks.at(t).stage {
            Stage::Begin => {
                if !self.next_sweep(t) {
                    return self.end_sweep(t);
                }
                if self.lifecycle.sweeper.head {
                    return self.log_before_sweep(t);
                }
            }
            // All that was written before the sweep began is logged.
            Stage::Commit => self.tasks.at_mut(t).stage = Stage::Lookup,
            _ => {}
        }
        if self.lifecycle.sweeper.restart && self.space.giving_up.is_some() {
            return self.end_sweep(t);
        }
        if self.lifecycle.sweeper.restart {
            self.tasks.at_mut(t).stage = Stage::Begin;
            return self.ready(t);
        }
        for _ in 0..64 {
            if !self.log_has_room(140) {
                return self.wait_for_room(t);
            }
            match self.sweep_group(t) {
                Ok(true) => {}
                Ok(false) => {
                    if let Err(fault) = self.finish_sweep(t) {
                        self.fence(fault);
                    }
                    return;
                }
                Err(Miss::Page(page)) => {
                    if let Stop::Fault(fault) = self.wait_for_page(t, page) {
                        self.fence(fault);
                        self.end_sweep(t);
                    }
                    return;
                }
                Err(Miss::Fault(fault)) => {
                    self.fence(fault);
                    return self.end_sweep(t);
                }
            }
        }
        self.ready(t);
    }

    /// What a clone's new records hide is not needed any more, but only when they are logged:
    /// a crash that lost them would show a chunk whose older data was freed. So they go into the
    /// log first, and those that are written from here on hide nothing but what a snapshot needs.
    #[inline(never)]
    fn log_before_sweep(&mut self, t: u32) {
        let map = self.lifecycle.sweeper.map;
        let volume = (0..self.vols.len()).find(|&v| {
            let vol = self.vols.at(v);
            vol.live && vol.map == map
        });
        if let Some(v) = volume.filter(|&v| self.vols.at(v).lowers.is_some()) {
            self.tasks.at_mut(t).stage = Stage::Begin;
            return self.wait_for_volume(t, v);
        }
        self.join_flush(t);
    }

    #[inline(never)]
    fn end_sweep(&mut self, t: u32) {
        if self.tasks.at(t).fault.is_some() {
            self.lifecycle.sweeper.retry_ns = self.now_ns.saturating_add(RETRY_NS);
        }
        self.lifecycle.sweeper.running = false;
        self.lifecycle.sweeper.map = MapId(0);
        self.end_walk(t);
        self.free_task(t);
    }

    /// Chooses the map to sweep and starts at its beginning.
    #[inline(never)]
    fn next_sweep(&mut self, t: u32) -> bool {
        let Some(entity) = self.catalog.first_sweep() else { return false };
        let (id, map, what) = (entity.id(), entity.map(), entity.sweep.what.get());
        let volume = self.catalog.volume_of_map(map).and_then(crate::format::entity::Entity::kind);
        let s = &mut self.lifecycle.sweeper;
        s.entity = id;
        s.map = map;
        s.all = what == SWEEP_ALL;
        s.production = volume == Some(Kind::Production);
        s.head = volume == Some(Kind::Clone);
        s.from = GroupKey { map, word: Word(0), epoch: Epoch(0) };
        s.word = Word(0);
        s.restart = false;
        let task = self.tasks.at_mut(t);
        task.places.forget(u64::MAX);
        task.stage = Stage::Lookup;
        true
    }

    /// Looks at one group; false after the last.
    #[inline(never)]
    fn sweep_group(&mut self, t: u32) -> Result<bool, Miss> {
        let s = &self.lifecycle.sweeper;
        let (from, map) = (s.from, s.map);
        let end = GroupKey { map: MapId(map.0.saturating_add(1)), word: Word(0), epoch: Epoch(0) };
        let key = self.layers.next_group(from, end, &mut self.group)?;
        let word = key.map_or(Word(u64::MAX), |k| k.word);
        if word != self.lifecycle.sweeper.word {
            self.sweep_word_end(t)?;
            self.lifecycle.sweeper.word = word;
            self.tasks.at_mut(t).places.forget(u64::MAX);
            // Freeing may have put records into the deltas: look again.
            if key.is_some() {
                return Ok(true);
            }
        }
        let Some(key) = key else { return Ok(false) };
        for n in 0..self.group.records().len() {
            let Some(record) = self.group.records().get(n).copied() else { break };
            self.sweep_record(t, &record)?;
        }
        self.end_freeing()?;
        match key.after() {
            Some(after) => self.lifecycle.sweeper.from = after,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn sweep_record(&mut self, t: u32, record: &Record) -> Result<(), Fault> {
        let s = &self.lifecycle.sweeper;
        if s.all {
            return self.free_record(record, record.mask);
        }
        let mut gone = 0;
        for b in 0..64 {
            if record.mask & bit(b) == 0 {
                continue;
            }
            let place = self.tasks.at(t).place(b);
            let before = if place.what == What::Unset { Epoch(0) } else { place.epoch };
            let needed = !s.production || self.catalog.epoch_in(s.map, before, record.epoch);
            if !needed {
                gone |= bit(b);
            }
        }
        let kept = record.mask & !gone;
        let production = s.production;
        if gone != 0 {
            self.free_record(record, gone)?;
        }
        for b in 0..64 {
            if kept & bit(b) == 0 {
                continue;
            }
            if !production {
                self.sweep_chunk(t, b, record.epoch)?;
            }
            let place = self.tasks.at_mut(t);
            let what = if record.kind.has_slots() { What::New } else { What::Zero };
            let slot = record.slot_of(b).unwrap_or_default();
            place.set_place(b, crate::engine::Place { what, level: 0, epoch: record.epoch, slot });
        }
        Ok(())
    }

    /// A clone's chunk has a further record at `next`: is the one before needed?
    fn sweep_chunk(&mut self, t: u32, b: u32, next: Epoch) -> Result<(), Fault> {
        let place = self.tasks.at(t).place(b);
        if place.what == What::Unset {
            return Ok(());
        }
        let s = &self.lifecycle.sweeper;
        if self.catalog.epoch_in(s.map, place.epoch.prev(), next.prev()) {
            return Ok(());
        }
        let kind = if place.what == What::New { RecordKind::New } else { RecordKind::Zero };
        let record = Record {
            map: s.map,
            word: s.word,
            epoch: place.epoch,
            kind,
            mask: bit(b),
            slot: place.slot,
        };
        self.free_record(&record, bit(b))
    }

    /// The word is done: the last records of a clone's chunks are needed by its head, or by
    /// snapshots.
    fn sweep_word_end(&mut self, t: u32) -> Result<(), Fault> {
        let s = &self.lifecycle.sweeper;
        if s.all || s.production || s.head {
            return Ok(());
        }
        for b in 0..64 {
            self.sweep_chunk(t, b, Epoch(u32::MAX))?;
        }
        self.end_freeing()
    }

    /// Ends the group of what a group of the map freed, if it freed anything.
    fn end_freeing(&mut self) -> Result<(), Fault> {
        if core::mem::replace(&mut self.lifecycle.sweeper.freeing, false) {
            self.end_group()?;
        }
        Ok(())
    }

    /// Frees the chunks `gone` of a record: it is hidden, and its slots are free.
    ///
    /// Both are in one group of the log: else a crash would leave slots that nobody uses, or that
    /// are free and yet named by the map.
    fn free_record(&mut self, record: &Record, gone: u64) -> Result<(), Fault> {
        if !core::mem::replace(&mut self.lifecycle.sweeper.freeing, true) {
            self.begin_group(6)?;
        }
        for piece in record.only(gone) {
            let hidden = Record { kind: RecordKind::Gone, slot: Slot(0), ..piece };
            self.put_logged(&hidden, None)?;
            self.layers.fresh.remove(piece.group(), piece.mask)?;
            self.layers.pending.remove(piece.group(), piece.mask)?;
            if piece.kind.has_slots() {
                if self.lifecycle.sweeper.production || self.lifecycle.sweeper.head {
                    self.count_used(piece.map, i64::from(piece.slots()).saturating_neg());
                }
                for free in free_run(piece.slot, u64::from(piece.slots())) {
                    self.put_logged(&free, None)?;
                }
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn finish_sweep(&mut self, t: u32) -> Result<(), Fault> {
        let (id, map) = (self.lifecycle.sweeper.entity, self.lifecycle.sweeper.map);
        self.end_walk(t);
        self.tasks.at_mut(t).stage = Stage::Begin;
        if !self.lifecycle.sweeper.restart {
            self.begin_group(1)?;
            self.log_remove(id)?;
            self.end_group()?;
            self.event(8, 0, &crate::control::Name::default(), u64::from(map.0));
            self.want_checkpoint();
            self.commit.wanted = true;
        }
        self.ready(t);
        Ok(())
    }
}
