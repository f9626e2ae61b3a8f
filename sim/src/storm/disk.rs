// SPDX-License-Identifier: MIT

//! Simulated disks that keep no promise but those that real ones make.
//!
//! A write is *in flight* until it completes, then *pending* until a flush that was begun after
//! its completion has ended, then *durable*. A crash leaves in each block its durable content or
//! that of any write in flight or pending: lost, kept, out of order, torn at the block; metadata
//! even within it, which is as good as unreadable. A read finds the newest; where a write is in
//! flight meanwhile, the old or the new, block by block.

use std::collections::BTreeMap;
use std::rc::Rc;

use rwsnap_core::api::Device;
use rwsnap_core::format::fingerprint;

use super::block::Block;
use super::rng::{mix, Rng};

/// Blocks that share a copy until one of them is written.
const PAGE: usize = 64;

/// A write that is pending.
#[derive(Clone, Debug)]
struct Version {
    data: Block,
    write: u64,
    /// The write's first block, and how many it has.
    extent: (u64, u64),
    begun: u64,
    done: u64,
    /// A flush failed over it: no later flush can be believed to cover it.
    poisoned: bool,
}

/// A write in flight.
#[derive(Clone, Debug)]
pub(super) struct Writing {
    write: u64,
    begun: u64,
    at: u64,
    data: Vec<Block>,
    kind: Kind,
}

/// What a write in flight does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Stores; with `fua`, durable when done.
    Write {
        /// Durable when done.
        fua: bool,
    },
    /// May zero blocks or leave them.
    Discard,
}

/// A read in flight.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    at: u64,
    found: Vec<Block>,
}

/// A flush in flight: what had completed before it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flushing(u64);

/// What outlives a crash, decided by hashing alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Survive {
    /// Decides.
    pub seed: u64,
    /// Percent of the writes that are kept.
    pub keep: u64,
    /// Percent of the writes that are torn: cut in two, of which one part is kept, or each block
    /// decides for itself.
    pub torn: u64,
    /// Of those that are torn, the last part is kept and the first is lost.
    pub tails: bool,
    /// Percent of the blocks of metadata that are torn within: the first bytes new, the rest old.
    pub within: u64,
}

impl Survive {
    /// What a crash leaves of each of several disks.
    pub(crate) fn drawn(disks: usize, rng: &mut Rng) -> Vec<Self> {
        let torn = rng.pick(&[0, 0, 20, 100]);
        let style = rng.below(6);
        let favourite = rng.index(disks);
        let tails = torn != 0 && rng.chance(25);
        let within = rng.pick(&[0, 0, 0, 0, 0, 0, 50, 100]);
        let of = |disk| {
            let keep = match style {
                0 => 0,
                1 => 100,
                2 if disk == favourite => 0,
                2 => 100,
                3 if disk == favourite => 100,
                3 => 0,
                _ => rng.pick(&[10, 50, 90]),
            };
            Self { seed: rng.next(), keep, torn, tails, within }
        };
        (0..disks).map(of).collect()
    }

    /// Whether a block of a write is kept; the write has its first block and how many.
    pub(crate) fn keeps(&self, write: u64, (first, blocks): (u64, u64), block: u64) -> bool {
        let own = mix(self.seed ^ mix(write));
        if own % 100 >= self.torn {
            return mix(own) % 100 < self.keep;
        }
        let cut = mix(own ^ u64::MAX) % (blocks + 1);
        match (own >> 8) % 4 {
            _ if self.tails => block - first >= cut,
            0 => block - first < cut,
            1 => block - first >= cut,
            _ => mix(own ^ block) % 100 < self.keep,
        }
    }

    /// The block if it is torn within: it differs from the old one and from the new one.
    fn torn_within(&self, write: u64, block: u64, old: &Block, new: &Block) -> Option<Block> {
        let own = mix(self.seed ^ mix(write ^ mix(block)));
        if self.within <= own % 100 {
            return None;
        }
        let Block::Bytes(new) = new else { return None };
        let mut mixed = vec![0; new.len()];
        old.expand(&mut mixed);
        let differ: Vec<usize> = (0..new.len()).filter(|&at| mixed[at] != new[at]).collect();
        let at = usize::try_from(own >> 8).unwrap_or(0) % differ.len().max(2).saturating_sub(1);
        let cut = *differ.get(at + 1)?;
        mixed[..cut].copy_from_slice(&new[..cut]);
        Some(Block::new(&mixed))
    }
}

/// A simulated disk.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    /// As the core is told.
    pub device: Device,
    /// A failed flush loses what it was to cover, for good.
    pub treacherous: bool,
    durable: Vec<Rc<Vec<Block>>>,
    pending: BTreeMap<u64, Vec<Version>>,
    flying: Vec<Writing>,
    clock: u64,
}

impl Disk {
    /// A disk of zeros.
    #[must_use]
    pub(super) fn new(device: Device, treacherous: bool) -> Self {
        let mut disk = Self {
            device,
            treacherous,
            durable: Vec::new(),
            pending: BTreeMap::new(),
            flying: Vec::new(),
            clock: 0,
        };
        disk.grow(device.size);
        disk
    }

    /// Makes it `bytes` large; it never shrinks.
    pub(super) fn grow(&mut self, bytes: u64) {
        self.device.size = self.device.size.max(bytes);
        let blocks = self.device.size.div_ceil(u64::from(self.device.block));
        let pages = blocks.div_ceil(PAGE as u64);
        let zero = Rc::new(vec![Block::ZERO; PAGE]);
        while (self.durable.len() as u64) < pages {
            self.durable.push(Rc::clone(&zero));
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn place(block: u64) -> (usize, usize) {
        let block = usize::try_from(block).unwrap_or(usize::MAX);
        (block / PAGE, block % PAGE)
    }

    /// Stores a block durably, without any step: for what was there before the story begins.
    pub(super) fn put(&mut self, block: u64, data: Block) {
        let (page, at) = Self::place(block);
        Rc::make_mut(&mut self.durable[page])[at] = data;
    }

    /// The content that a read finds now.
    #[must_use]
    pub(super) fn get(&self, block: u64) -> &Block {
        match self.pending.get(&block).and_then(|versions| versions.last()) {
            Some(version) => &version.data,
            None => self.durable(block),
        }
    }

    /// What of a block is there for good.
    fn durable(&self, block: u64) -> &Block {
        let (page, at) = Self::place(block);
        &self.durable[page][at]
    }

    /// Somebody else writes a block, durably, while no step is under way.
    pub(super) fn replace(&mut self, block: u64, data: Block) {
        self.pending.remove(&block);
        self.put(block, data);
    }

    /// A hash of what a read finds now in the places that a fingerprint is made of.
    #[must_use]
    pub(super) fn fingerprint(&self) -> u64 {
        let (size, block) = (self.device.size, u64::from(self.device.block));
        let each = fingerprint::BLOCK / block;
        let blocks = fingerprint::sample(size).flat_map(|n| n * each..(n + 1) * each);
        let blocks = blocks.filter(|at| *at < size / block);
        blocks.fold(mix(size), |sum, at| mix(sum ^ self.get(at).value()))
    }

    /// Begins a write.
    pub(super) fn begin_write(&mut self, at: u64, data: Vec<Block>, kind: Kind) -> u64 {
        let write = self.tick();
        self.flying.push(Writing { write, begun: write, at, data, kind });
        write
    }

    /// The data of a write in flight.
    #[must_use]
    pub(super) fn data_of(&self, write: u64) -> Option<&[Block]> {
        self.flying.iter().find(|f| f.write == write).map(|f| f.data.as_slice())
    }

    /// Ends a write; one that failed has stored any of its blocks.
    pub(super) fn end_write(&mut self, write: u64, ok: bool, rng: &mut Rng) {
        let done = self.tick();
        let Some(index) = self.flying.iter().position(|f| f.write == write) else { return };
        let flight = self.flying.swap_remove(index);
        for (block, data) in (flight.at..).zip(&flight.data) {
            if (!ok || flight.kind == Kind::Discard) && rng.chance(50) {
                continue;
            }
            let at_once = !self.device.volatile || matches!(flight.kind, Kind::Write { fua: true });
            // What a failed write did store on a disk without a cache is there for good.
            let durable = at_once && (ok || !(self.device.volatile || self.treacherous));
            if durable {
                self.pending.remove(&block);
                self.put(block, data.clone());
                continue;
            }
            let (write, begun) = (flight.write, flight.begun);
            let poisoned = !ok && self.treacherous;
            let extent = (flight.at, flight.data.len() as u64);
            let version = Version { data: data.clone(), write, extent, begun, done, poisoned };
            let versions = self.pending.entry(block).or_default();
            // Of two writes at the same time either may have come last.
            let swap = versions.last().is_some_and(|last| last.done > version.begun);
            let place = versions.len() - usize::from(swap && rng.chance(50));
            versions.insert(place, version);
        }
    }

    /// Begins a read.
    #[must_use]
    pub(super) fn begin_read(&self, at: u64, blocks: u64) -> Reading {
        Reading { at, found: (at..at + blocks).map(|b| self.get(b).clone()).collect() }
    }

    /// Ends a read: in each block what was there when it began, what is there now, or what a
    /// write in flight is putting there.
    pub(super) fn end_read(&self, reading: Reading, rng: &mut Rng) -> Vec<Block> {
        let mut found = reading.found;
        for (block, data) in (reading.at..).zip(found.iter_mut()) {
            let now = self.get(block);
            if now != data && rng.chance(50) {
                *data = now.clone();
            }
            for flight in &self.flying {
                let new = block
                    .checked_sub(flight.at)
                    .and_then(|i| flight.data.get(usize::try_from(i).unwrap_or(usize::MAX)));
                if let Some(new) = new.filter(|_| rng.chance(30)) {
                    *data = new.clone();
                }
            }
        }
        found
    }

    /// Begins a flush.
    pub(super) fn begin_flush(&mut self) -> Flushing {
        Flushing(self.tick())
    }

    /// Ends a flush. After a failed one, a treacherous disk has forgotten that it owes the data.
    pub(super) fn end_flush(&mut self, flush: Flushing, ok: bool) {
        let pending = std::mem::take(&mut self.pending);
        for (block, mut versions) in pending {
            if !ok {
                for version in versions.iter_mut().filter(|v| v.done <= flush.0) {
                    version.poisoned |= self.treacherous;
                }
            } else if let Some(last) =
                versions.iter().rposition(|v| v.done <= flush.0 && !v.poisoned)
            {
                self.put(block, versions[last].data.clone());
                versions.drain(..=last);
            }
            if !versions.is_empty() {
                self.pending.insert(block, versions);
            }
        }
    }

    /// The disk after a crash.
    #[must_use]
    pub(super) fn crashed(&self, survive: Survive) -> Self {
        let mut after = Self {
            device: self.device,
            treacherous: self.treacherous,
            durable: self.durable.clone(),
            pending: BTreeMap::new(),
            flying: Vec::new(),
            clock: self.clock,
        };
        for (&block, versions) in &self.pending {
            let kept = versions.iter().rev().find(|v| survive.keeps(v.write, v.extent, block));
            if let Some(version) = kept {
                after.put(block, version.data.clone());
            }
            let last = versions.last();
            let old = self.durable(block);
            let torn = last.and_then(|v| survive.torn_within(v.write, block, old, &v.data));
            if let Some(torn) = torn {
                after.put(block, torn);
            }
        }
        for flight in &self.flying {
            let extent = (flight.at, flight.data.len() as u64);
            for (block, data) in (flight.at..).zip(&flight.data) {
                let torn = survive.torn_within(flight.write, block, self.durable(block), data);
                if let Some(torn) = torn {
                    after.put(block, torn);
                } else if survive.keeps(flight.write, extent, block) {
                    after.put(block, data.clone());
                }
            }
        }
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: Device = Device { size: 65536, block: 512, volatile: true, fua: true };
    const ALL: Survive = Survive { seed: 1, keep: 100, torn: 0, tails: false, within: 0 };
    const NONE: Survive = Survive { keep: 0, ..ALL };

    fn write(disk: &mut Disk, at: u64, words: &[u64], fua: bool) {
        let data = words.iter().map(|&w| Block::Word(w)).collect();
        let id = disk.begin_write(at, data, Kind::Write { fua });
        disk.end_write(id, true, &mut Rng::new(1));
    }

    #[test]
    fn a_flush_covers_what_completed_before_it_began() {
        let mut disk = Disk::new(DEVICE, false);
        write(&mut disk, 3, &[7, 8], false);
        let flush = disk.begin_flush();
        write(&mut disk, 4, &[9], false);
        disk.end_flush(flush, true);
        let after = disk.crashed(NONE);
        assert_eq!((after.get(3), after.get(4)), (&Block::Word(7), &Block::Word(8)));
        assert_eq!(disk.crashed(ALL).get(4), &Block::Word(9));
        assert_eq!(disk.get(4), &Block::Word(9));
    }

    #[test]
    fn fua_is_durable_when_done_and_not_before() {
        let mut disk = Disk::new(DEVICE, false);
        let id = disk.begin_write(0, vec![Block::Word(5)], Kind::Write { fua: true });
        assert_eq!(disk.crashed(NONE).get(0), &Block::ZERO);
        assert_eq!(disk.crashed(ALL).get(0), &Block::Word(5));
        disk.end_write(id, true, &mut Rng::new(1));
        assert_eq!(disk.crashed(NONE).get(0), &Block::Word(5));
    }

    #[test]
    fn a_failed_flush_of_a_treacherous_disk_is_never_made_good() {
        let mut disk = Disk::new(DEVICE, true);
        write(&mut disk, 0, &[1], false);
        let flush = disk.begin_flush();
        disk.end_flush(flush, false);
        let flush = disk.begin_flush();
        disk.end_flush(flush, true);
        assert_eq!(disk.get(0), &Block::Word(1));
        assert_eq!(disk.crashed(NONE).get(0), &Block::ZERO);
    }

    #[test]
    fn torn_writes_leave_some_blocks() {
        let mut disk = Disk::new(DEVICE, false);
        write(&mut disk, 0, &[1; 64], false);
        for seed in 0..20 {
            let torn = disk.crashed(Survive { seed, keep: 50, torn: 100, ..NONE });
            let kept = (0..64).filter(|&b| torn.get(b) == &Block::Word(1)).count();
            assert!((1..64).contains(&kept), "{kept}");
        }
    }

    #[test]
    fn metadata_is_torn_within_a_block_and_data_is_not() {
        let mut disk = Disk::new(DEVICE, false);
        let bytes: Vec<u8> = (0..=255).cycle().take(512).collect();
        disk.begin_write(0, vec![Block::new(&bytes), Block::Word(7)], Kind::Write { fua: false });
        for seed in 0..20 {
            let torn = disk.crashed(Survive { seed, within: 100, ..NONE });
            assert!(torn.get(0) != &Block::ZERO && torn.get(0) != &Block::new(&bytes));
            assert_eq!(torn.get(1), &Block::ZERO);
        }
    }
}
