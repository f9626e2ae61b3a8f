// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Reading the log: what recovery asks for is read, verified and applied.

use super::{OpenError, Phase};
use crate::api::{Done, Step};
use crate::engine::step::{Open, Owner, Piece};
use crate::engine::Core;
use crate::format::log::{Entry, Fold};
use crate::log::Want;
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::{Dev, LogPos, PAGE, PAGE_BYTES};

/// Blocks of the log that are read at once.
const BATCH: u64 = 256;

impl<P: Platform> Core<P> {
    /// Reads what recovery wants next.
    pub(super) fn next_block(&mut self) {
        let pos = match self.opening.recovery.want() {
            Want::Scan(pos) | Want::Verify(pos) | Want::Apply(pos) => pos,
            Want::Verdict(_) => {
                self.opening.phase = Phase::Verify;
                self.opening.entry = 0;
                return self.next_verify();
            }
            Want::Nothing => {
                self.opening.phase = Phase::Flush;
                return self.opening_next();
            }
        };
        let blocks = self.superblock.log_blocks.get();
        let index = pos.0.checked_rem(blocks).unwrap_or(0);
        let n = match self.opening.recovery.want() {
            Want::Verify(_) => 1,
            _ => BATCH.min(blocks.saturating_sub(index)),
        };
        let Some(at) = self.superblock.log_byte(pos) else {
            return self.opening_fails(OpenError::Corrupt);
        };
        let len = u32::try_from(n.saturating_mul(PAGE_BYTES)).unwrap_or(4096);
        self.read_meta(at, len, pos.0);
    }

    pub(super) fn take_blocks(
        &mut self,
        pos: u64,
        open: &Open,
        done: &Done<'_>,
    ) -> Result<(), OpenError> {
        let len = match open.step {
            Step::Read { len, .. } => len,
            _ => 0,
        };
        let mut next = LogPos(pos);
        for n in 0..usize::try_from(len / 4096).unwrap_or(0) {
            let from = n.saturating_mul(PAGE);
            let block = done.bytes.get(from..from.saturating_add(PAGE)).unwrap_or(&[]);
            match self.opening.recovery.want() {
                Want::Scan(at) if at == next => self.feed(block, false)?,
                Want::Apply(at) if at == next => self.feed(block, true)?,
                Want::Verify(at) if at == next => {
                    for (to, from) in self.opening.block.iter_mut().zip(block) {
                        *to = *from;
                    }
                    self.feed(block, false)?;
                    return Ok(());
                }
                _ => return Ok(()),
            }
            next = next.next();
        }
        Ok(())
    }

    fn feed(&mut self, block: &[u8], apply: bool) -> Result<(), OpenError> {
        let entries = self.opening.recovery.feed(&self.platform, block).map_err(OpenError::Log)?;
        if !apply {
            return Ok(());
        }
        for entry in entries {
            self.apply(&entry?)?;
        }
        Ok(())
    }

    /// Takes over an entry of the log.
    fn apply(&mut self, entry: &Entry<'_>) -> Result<(), OpenError> {
        match entry {
            Entry::Put(record) | Entry::PutSummed(record, _) => {
                if self.layers.active.room() == 0 {
                    let need = u64::from(self.limits.delta_records).saturating_mul(2);
                    return Err(OpenError::Delta { need });
                }
                self.slots.replay(record)?;
                self.put_active(record)?;
            }
            Entry::Entity(entity) => {
                self.catalog.reserve(&self.platform, 8)?;
                self.catalog.put(entity)?;
            }
            Entry::Remove(id) => {
                self.catalog.remove(*id)?;
            }
            Entry::Counters(counters) => self.counters = *counters,
            Entry::Rename(id, name) => self.apply_rename(*id, name)?,
            Entry::Note => {}
        }
        Ok(())
    }

    /// The next entry with a sum of the block that is being verified: its slots are read.
    pub(super) fn next_verify(&mut self) {
        let block = &self.opening.block;
        let pool = self.superblock.pool_number();
        let found = crate::format::log::open(&self.platform, block, pool);
        let skip = self.opening.entry;
        let summed = found.and_then(|(_, entries)| {
            entries
                .filter_map(Result::ok)
                .filter_map(|e| match e {
                    Entry::PutSummed(record, sum) => Some((record, sum)),
                    _ => None,
                })
                .nth(skip)
        });
        let Some((record, _)) = summed else { return self.verdict(true) };
        if self.mutant(Mutant::NoSums) {
            return self.verdict(true);
        }
        let n = record.slots();
        let Some(at) = self.superblock.slot_byte(record.slot) else { return self.verdict(false) };
        let Some(units) = self.units.chain(n) else {
            return self.opening_fails(OpenError::NoMemory);
        };
        let pieces = [
            Piece::Chain(units, n, self.geometry.chunk_bytes()),
            Piece::None,
            Piece::None,
            Piece::None,
        ];
        let step = Step::Read { dev: Dev::SAVE, at, len: n << self.geometry.shift() };
        self.opening.io = self.opening.io.saturating_add(1);
        self.open_step(Owner::Open(u64::from(units)), step, pieces, 0);
    }

    fn verdict(&mut self, matches: bool) {
        self.opening.recovery.verdict(matches);
        self.opening.phase = Phase::Log;
        self.next_block();
    }

    pub(super) fn take_verify(&mut self, open: &Open, done: &Done<'_>) {
        let Some(Piece::Chain(first, n, _)) = open.pieces.first().copied() else { return };
        self.units.free(first, n);
        let mut fold = Fold::default();
        for sum in done.sums {
            fold.add(*sum);
        }
        let pool = self.superblock.pool_number();
        let found = crate::format::log::open(&self.platform, &self.opening.block, pool);
        let wanted = found.and_then(|(_, entries)| {
            entries
                .filter_map(Result::ok)
                .filter_map(|e| match e {
                    Entry::PutSummed(_, sum) => Some(sum),
                    _ => None,
                })
                .nth(self.opening.entry)
        });
        self.opening.entry = self.opening.entry.saturating_add(1);
        if wanted != Some(fold.end()) {
            self.opening.recovery.verdict(false);
            self.opening.phase = Phase::Log;
        }
    }
}
