// SPDX-License-Identifier: MIT

//! A disk with a volatile cache: a file, and in memory the writes that are not durable yet.
//!
//! A write *arrives*, is then *done* (its reply is about to be sent), and at last *durable*: in
//! the file. A flush makes durable what is done when it comes; a write with FUA is durable before
//! it is done. A disk may write back what it likes: beyond its cache the oldest are.
//!
//! # Invariants
//!
//! - `writes` are in the order of their arrival; a read finds the newest over the file.
//! - The live pieces of a write are those blocks of it that neither are durable nor were
//!   overwritten by a later one that is: so the file never goes back to older data.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use nix::fcntl::{fallocate, FallocateFlags};

use crate::storm::Survive;

/// What a write takes of the cache beside its data.
const ENTRY_BYTES: u64 = 256;

/// Zeros are written in pieces of it where a file cannot have holes.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What a write brings.
#[derive(Debug)]
pub(super) enum Data {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes of zeros.
    Zeros(u64),
}

impl Data {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Zeros(bytes) => *bytes,
        }
    }

    /// What it takes of the cache.
    fn cost(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => ENTRY_BYTES + bytes.len() as u64,
            Self::Zeros(_) => ENTRY_BYTES,
        }
    }
}

/// A write that is not durable. Ranges are of bytes, on the borders of blocks.
#[derive(Debug)]
struct Write {
    id: u64,
    at: u64,
    data: Data,
    live: Vec<Range<u64>>,
    fua: bool,
    done: bool,
}

impl Write {
    /// Its bytes of a range that lies within it; `None` if they are zeros.
    fn bytes(&self, range: &Range<u64>) -> Option<&[u8]> {
        match &self.data {
            Data::Bytes(bytes) => Some(&bytes[index(range.start - self.at)..][..length(range)]),
            Data::Zeros(_) => None,
        }
    }

    /// What is read where it lies over the range that `data` was read from.
    fn overlay(&self, at: u64, data: &mut [u8]) {
        let whole = at..at + data.len() as u64;
        for piece in &self.live {
            let range = common(piece, &whole);
            if range.is_empty() {
                continue;
            }
            let place = &mut data[index(range.start - at)..][..length(&range)];
            match self.bytes(&range) {
                Some(bytes) => place.copy_from_slice(bytes),
                None => place.fill(0),
            }
        }
    }

    /// A later write made these ranges durable.
    fn subtract(&mut self, ranges: &[Range<u64>]) {
        for gone in ranges {
            let meets = |piece: &Range<u64>| !common(piece, gone).is_empty();
            if self.live.iter().any(meets) {
                let live = std::mem::take(&mut self.live);
                let rest = live.into_iter().flat_map(|piece| {
                    let head = piece.start..piece.end.min(gone.start);
                    let tail = piece.start.max(gone.end)..piece.end;
                    [head, tail]
                });
                self.live = rest.filter(|piece| !piece.is_empty()).collect();
            }
        }
    }
}

/// What a power cut did to the writes that were not durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Losses {
    /// Writes of which nothing was kept.
    pub lost: u64,
    /// Writes of which all was kept.
    pub kept: u64,
    /// Writes of which some blocks were kept.
    pub torn: u64,
}

impl std::ops::AddAssign for Losses {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.kept += other.kept;
        self.torn += other.torn;
    }
}

/// A disk.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    block: u64,
    /// Bytes of writes that may wait.
    cache: u64,
    /// Bytes of writes that wait.
    held: u64,
    arrived: u64,
    writes: Vec<Write>,
    /// Whether it says of a flush that it is done, and does nothing.
    forgetful: bool,
}

impl Disk {
    /// A disk of which all is durable.
    pub(super) fn new(file: File, block: u32, cache: u64) -> Self {
        let (block, writes) = (block.into(), Vec::new());
        Self { file, block, cache, held: 0, arrived: 0, writes, forgetful: false }
    }

    /// From now on flushes and FUA make nothing durable: a broken disk, to be noticed.
    pub(super) fn forget_flushes(&mut self) {
        self.forgetful = true;
    }

    /// Reads the newest.
    pub(super) fn read(&self, at: u64, data: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(data, at)?;
        self.writes.iter().for_each(|write| write.overlay(at, data));
        Ok(())
    }

    /// A write arrives; gives its name.
    pub(super) fn write(&mut self, at: u64, data: Data, fua: bool) -> u64 {
        self.arrived += 1;
        self.held += data.cost();
        let (id, whole) = (self.arrived, at..at + data.len());
        self.writes.push(Write { id, at, data, live: vec![whole], fua, done: false });
        id
    }

    /// These writes are done: those with FUA become durable, and the oldest if there are too many.
    pub(super) fn done(&mut self, ids: &[u64]) -> io::Result<()> {
        let (mut fua, first) = (false, ids.iter().min().copied().unwrap_or(u64::MAX));
        let from = self.writes.partition_point(|write| write.id < first);
        for write in self.writes[from..].iter_mut().filter(|write| ids.contains(&write.id)) {
            write.done = true;
            fua |= write.fua && !self.forgetful;
        }
        if fua {
            self.settle(|write| write.fua && write.done)?;
        }
        // With room to spare afterwards, so that not each write goes through all of them.
        let (mut held, half) = (self.held, self.cache / 2);
        if held > self.cache {
            self.settle(|write| {
                let old = write.done && held > half;
                held -= if old { write.data.cost() } else { 0 };
                old
            })?;
        }
        Ok(())
    }

    /// Makes durable what is done.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let obeys = !self.forgetful;
        self.settle(|write| write.done && obeys)
    }

    /// Makes all durable that ever arrived.
    pub(super) fn settle_all(&mut self) -> io::Result<()> {
        self.settle(|_| true)
    }

    /// Makes the chosen writes durable, the oldest first. A write that fails stays.
    fn settle(&mut self, mut chosen: impl FnMut(&Write) -> bool) -> io::Result<()> {
        let mut outcome = Ok(());
        let mut rest: Vec<Write> = Vec::new();
        for write in std::mem::take(&mut self.writes) {
            let put = |piece| self.put(&write, piece);
            if !chosen(&write) {
                rest.push(write);
            } else if let Err(error) = write.live.iter().try_for_each(put) {
                outcome = Err(error);
                rest.push(write);
            } else {
                rest.iter_mut().for_each(|older| older.subtract(&write.live));
            }
        }
        rest.retain(|write| !write.live.is_empty());
        self.held = rest.iter().map(|write| write.data.cost()).sum();
        self.writes = rest;
        outcome
    }

    /// The power goes: of each block the file keeps what it has, or any write that waited.
    pub(super) fn cut(&mut self, survive: Survive) -> io::Result<Losses> {
        let mut losses = Losses::default();
        for write in std::mem::take(&mut self.writes) {
            let first = write.at / self.block;
            let extent = (first, write.data.len() / self.block);
            let (mut kept, mut all) = (0, 0);
            for piece in &write.live {
                all += length(piece);
                for run in self.runs(piece, |block| survive.keeps(write.id, extent, block)) {
                    self.put(&write, &run)?;
                    kept += length(&run);
                }
            }
            match kept {
                0 => losses.lost += 1,
                _ if kept == all => losses.kept += 1,
                _ => losses.torn += 1,
            }
        }
        self.held = 0;
        Ok(losses)
    }

    /// The runs of blocks in a range that are kept.
    fn runs(&self, range: &Range<u64>, keeps: impl Fn(u64) -> bool) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for block in range.start / self.block..range.end / self.block {
            let bytes = block * self.block..(block + 1) * self.block;
            match runs.last_mut() {
                _ if !keeps(block) => {}
                Some(last) if last.end == bytes.start => last.end = bytes.end,
                _ => runs.push(bytes),
            }
        }
        runs
    }

    /// Puts a range of a write into the file.
    fn put(&self, write: &Write, range: &Range<u64>) -> io::Result<()> {
        match write.bytes(range) {
            Some(bytes) => self.file.write_all_at(bytes, range.start),
            None => self.zero(range),
        }
    }

    /// A hole, or zeros where there cannot be one.
    fn zero(&self, range: &Range<u64>) -> io::Result<()> {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let [from, len] = [range.start, range.end - range.start].map(i64::try_from);
        if let (Ok(from), Ok(len)) = (from, len) {
            if fallocate(&self.file, hole, from, len).is_ok() {
                return Ok(());
            }
        }
        let mut at = range.start;
        while at < range.end {
            let zeros = &ZEROS[..index(range.end - at).min(ZEROS.len())];
            self.file.write_all_at(zeros, at)?;
            at += zeros.len() as u64;
        }
        Ok(())
    }
}

/// What two ranges have in common; empty if nothing.
fn common(one: &Range<u64>, other: &Range<u64>) -> Range<u64> {
    one.start.max(other.start)..one.end.min(other.end)
}

fn length(range: &Range<u64>) -> usize {
    index(range.end - range.start)
}

/// A number of bytes that lie in memory.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
