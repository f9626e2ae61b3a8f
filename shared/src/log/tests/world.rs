// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A log, its writer and a disk that loses, tears and keeps what was not flushed.

use std::collections::BTreeMap;

use crate::control::Name;
use crate::fault::Fault;
use crate::format::entity::{Entity, Kind};
use crate::format::log::{open, Entry};
use crate::format::record::{Kind as RecordKind, Record};
use crate::log::*;
use crate::testing::{Random, TestPlatform};
use crate::units::{EntityId, Epoch, LogPos, MapId, Slot, Word, PAGE};

pub(super) const T: TestPlatform = TestPlatform;
pub(super) const POOL: u64 = 77;
pub(super) const BLOCKS: u64 = 16;
pub(super) const STAGE: usize = 8;

/// What recovery takes or drops whole: an entry, or a group.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) texts: Vec<String>,
    pub(super) pos: LogPos,
    /// Slots whose data the unit's sums speak of.
    pub(super) slots: Vec<u64>,
}

/// A log, the disk under it and what it ought to hold.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) writer: Writer<TestPlatform>,
    pub(super) start: Start,
    pub(super) media: Vec<Vec<u8>>,
    /// Block writes given out and not completed, then completed and not flushed.
    pub(super) issued: Vec<(LogPos, Vec<u8>)>,
    pub(super) cached: Vec<(LogPos, Vec<u8>)>,
    /// The sum of what a slot holds on the media; writes not completed; not flushed.
    pub(super) slots: BTreeMap<u64, u64>,
    pub(super) slots_issued: Vec<u64>,
    pub(super) slots_cached: Vec<u64>,
    pub(super) next: u64,
    pub(super) units: Vec<Unit>,
    pub(super) hashes: BTreeMap<u64, u64>,
}

pub(super) fn text(entry: &Entry<'_>) -> String {
    format!("{entry:?}")
}

pub(super) fn entity(n: u64) -> Entity {
    let mut made = Entity::new(Kind::Clone, EntityId(1));
    made.name = Name::new(b"dev").unwrap();
    made.size = n.into();
    made
}

pub(super) fn record(n: u64) -> Record {
    Record {
        map: MapId(1),
        word: Word(n),
        epoch: Epoch(2),
        kind: RecordKind::Copied,
        mask: 1,
        slot: Slot(n),
    }
}

/// What a slot that was written once for entry `n` holds.
pub(super) fn sum_of(n: u64) -> u64 {
    n ^ 0x5555
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let start = Start { pool: POOL, blocks: BLOCKS, log_generation: 0, ..Start::default() };
        let resume = Resume {
            generation: 0,
            super_generation: 0,
            start: LogPos(0),
            head: LogPos(0),
            hash: 0,
        };
        Self {
            random: Random(seed),
            writer: Writer::new(&T, POOL, BLOCKS, STAGE, &resume).unwrap(),
            start,
            media: vec![vec![0; PAGE]; 16],
            issued: Vec::new(),
            cached: Vec::new(),
            slots: BTreeMap::new(),
            slots_issued: Vec::new(),
            slots_cached: Vec::new(),
            next: 1,
            units: Vec::new(),
            hashes: BTreeMap::from([(0, 0)]),
        }
    }

    /// Pushes one random entry; gives its text and the slot it sums up.
    pub(super) fn push(&mut self) -> Result<(String, Option<u64>, LogPos), Full> {
        let n = self.next;
        let entity = entity(n);
        let (entry, slot) = match self.random.below(8) {
            0..3 => (Entry::Entity(&entity), None),
            3..6 => (Entry::PutSummed(record(n), sum_of(n)), Some(n)),
            6 => (Entry::Remove(EntityId(u32::try_from(n).unwrap())), None),
            _ => (Entry::Put(record(n)), None),
        };
        let pos = self.writer.push(&T, &entry, Room::Common)?;
        self.next += 1;
        self.slots_issued.extend(slot);
        Ok((text(&entry), slot, pos))
    }

    pub(super) fn push_unit(&mut self) {
        let grouped = self.random.once_in(3);
        let count = if grouped { 1 + self.random.below(12) } else { 1 };
        let bytes = usize::try_from(count).unwrap() * 1016;
        if grouped && self.writer.begin_group(bytes, Room::Common).is_err() {
            return;
        }
        let mut unit = Unit { texts: Vec::new(), pos: LogPos(0), slots: Vec::new() };
        for _ in 0..count {
            match self.push() {
                Ok((text, slot, pos)) => {
                    unit.texts.push(text);
                    unit.slots.extend(slot);
                    unit.pos = pos;
                }
                Err(full) => return assert!(!grouped, "{full:?} within a group"),
            }
        }
        if grouped {
            unit.pos = self.writer.end_group();
        }
        self.units.push(unit);
    }

    pub(super) fn issue(&mut self) {
        if self.random.once_in(2) {
            self.writer.seal(&T);
        }
        while let Some(sealed) = self.writer.take() {
            let bytes = self.writer.bytes(sealed.pos).to_vec();
            assert_eq!(sealed.block, sealed.pos.0 % BLOCKS);
            let (header, _) = open(&T, &bytes, POOL).unwrap();
            self.hashes.insert(sealed.pos.0 + 1, header.checksum);
            self.issued.push((sealed.pos, bytes));
        }
    }

    pub(super) fn complete(&mut self) {
        if !self.issued.is_empty() && self.random.once_in(2) {
            let at = self.random.index(self.issued.len());
            let write = self.issued.swap_remove(at);
            self.writer.completed(write.0);
            self.cached.push(write);
        } else if !self.slots_issued.is_empty() {
            let at = self.random.index(self.slots_issued.len());
            self.slots_cached.push(self.slots_issued.swap_remove(at));
        }
    }

    /// A flush: what has completed is durable, and so is the log up to the first block that is not
    /// written or whose data is not.
    pub(super) fn flush(&mut self) {
        for (pos, bytes) in self.cached.drain(..) {
            self.media[usize::try_from(pos.0 % BLOCKS).unwrap()] = bytes;
        }
        for slot in self.slots_cached.drain(..) {
            self.slots.insert(slot, sum_of(slot));
        }
        let waits = |u: &Unit| u.slots.iter().any(|s| !self.slots.contains_key(s));
        let mut to = self.writer.written();
        let mut from = self.start.pos;
        for unit in &self.units {
            if waits(unit) {
                to = to.min(from);
            }
            // The next unit begins in the block that this one ends in, or after it.
            from = from.max(unit.pos.prev());
        }
        self.writer.set_durable(to);
    }

    /// Puts the checkpoint at a random unit's end that is durable.
    pub(super) fn checkpoint(&mut self) {
        let durable = self.writer.durable();
        let fits = |w: &[Unit]| w[0].pos <= durable && w[0].pos < w[1].pos;
        let ends: Vec<_> = self.units.windows(2).filter(|w| fits(w)).map(|w| w[0].pos).collect();
        if ends.is_empty() {
            return;
        }
        // No unit lies on both sides of it: a group that fills more than a block has its own.
        let pos = ends[self.random.index(ends.len())];
        self.start.super_generation += 1;
        self.start.pos = pos;
        self.start.hash = self.hashes[&pos.0];
        self.start.known_end = durable;
        self.start.known_hash = self.hashes[&durable.0];
        self.units.retain(|u| u.pos > pos);
        self.writer.set_start(pos, self.start.super_generation);
    }

    pub(super) fn step(&mut self) {
        match self.random.below(20) {
            0..6 => self.push_unit(),
            6..9 => self.issue(),
            9..16 => self.complete(),
            16..19 => self.flush(),
            _ => self.checkpoint(),
        }
    }

    /// The power fails: of what was not flushed, some survives, some blocks are torn.
    pub(super) fn crash(&mut self) {
        let cached: Vec<_> = self.cached.drain(..).chain(self.issued.drain(..)).collect();
        for (pos, bytes) in cached {
            let at = usize::try_from(pos.0 % BLOCKS).unwrap();
            match self.random.below(4) {
                0 => {}
                1 => {
                    let torn = 512 * self.random.index(8);
                    self.media[at][torn..].copy_from_slice(&bytes[torn..]);
                }
                _ => self.media[at] = bytes,
            }
        }
        let slots: Vec<_> =
            self.slots_cached.drain(..).chain(self.slots_issued.drain(..)).collect();
        for slot in slots {
            if self.random.once_in(2) {
                self.slots.insert(slot, sum_of(slot));
            }
        }
    }

    pub(super) fn recover(&mut self) -> Result<(End, Vec<String>), Damage> {
        recover(&self.start, &self.media, |entry| match entry {
            Entry::PutSummed(record, sum) => self.slots.get(&record.slot.0) == Some(sum),
            _ => true,
        })
    }

    /// Crashes, recovers, compares with the model, and goes on in a new generation.
    pub(super) fn crash_and_check(&mut self) {
        let acknowledged = self.writer.durable();
        self.crash();
        let (end, seen) = self.recover().unwrap();
        let mut left = &seen[..];
        let mut kept = Vec::new();
        for unit in &self.units {
            let whole = left.len() >= unit.texts.len() && left[..unit.texts.len()] == unit.texts;
            if left.is_empty() || !whole {
                break;
            }
            left = &left[unit.texts.len()..];
            kept.push(unit.clone());
        }
        assert!(left.is_empty(), "entries that were never written, or half a group");
        let due = self.units.iter().filter(|u| u.pos <= acknowledged).count();
        assert!(kept.len() >= due, "{} of {due} acknowledged units", kept.len());
        for slot in kept.iter().flat_map(|u| &u.slots) {
            assert_eq!(self.slots.get(slot), Some(&sum_of(*slot)));
        }
        self.units = kept;
        self.go_on(end);
    }

    pub(super) fn go_on(&mut self, end: End) {
        self.start.super_generation += 1;
        self.start.log_generation = self.start.super_generation;
        (self.start.known_end, self.start.known_hash) = (end.head, end.hash);
        self.hashes.retain(|&pos, _| pos <= end.head.0);
        self.writer.resume(&Resume {
            generation: self.start.log_generation,
            super_generation: self.start.super_generation,
            start: self.start.pos,
            head: end.head,
            hash: end.hash,
        });
    }
}

/// Runs a recovery over a ring; gives its end and the texts of the entries applied.
pub(super) fn recover(
    start: &Start,
    media: &[Vec<u8>],
    data_is_good: impl Fn(&Entry<'_>) -> bool,
) -> Result<(End, Vec<String>), Damage> {
    let mut recovery = Recovery::new(start)?;
    let mut seen = Vec::new();
    let block = |pos: LogPos| &media[usize::try_from(pos.0 % start.blocks).unwrap()][..];
    loop {
        match recovery.want() {
            Want::Scan(pos) => assert!(recovery.feed(&T, block(pos))?.next().is_none()),
            Want::Verify(pos) => {
                let good = recovery.feed(&T, block(pos))?.all(|e| data_is_good(&e.unwrap()));
                assert_eq!(recovery.want(), Want::Verdict(pos));
                recovery.verdict(good);
            }
            Want::Apply(pos) => {
                let entries = recovery.feed(&T, block(pos))?;
                seen.extend(
                    entries
                        .map(|e| e.map(|e| text(&e)))
                        .collect::<Result<Vec<_>, Fault>>()
                        .unwrap(),
                );
            }
            Want::Verdict(_) => unreachable!(),
            Want::Nothing => return Ok((recovery.end(), seen)),
        }
    }
}
