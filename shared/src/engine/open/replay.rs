// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Reading the log: what recovery asks for is read ahead of it, verified and applied.
//!
//! A few reads of pieces of the log are under way at once. A piece that comes before its turn is
//! kept until the one before it is through. Blocks to be verified are kept as well, many at a
//! time, and the slots that they speak of are read all at once, as far as there are copy units.

use super::{OpenError, Phase};
use crate::api::{Done, Step};
use crate::engine::step::{Closed, Owner, Piece};
use crate::engine::Core;
use crate::fault::Fault;
use crate::format::log::{Entry, Fold};
use crate::format::record::Record;
use crate::log::Want;
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::{Dev, LogPos, PAGE, PAGE_BYTES};

/// Blocks of the log that are read at once.
const PIECE: u64 = 32;
/// Reads of it that are under way at once.
const READS: usize = 3;
/// Of those, pieces that may come before their turn: all but the first.
const EARLY: usize = READS - 1;
/// Blocks that there is room for: so many are verified together.
const ROOM: u64 = PIECE * 2;

/// Blocks of the log that opening keeps for a while.
pub(super) struct Blocks<P: Platform> {
    room: P::Array<[u8; PAGE]>,
    /// Reads are given out up to here.
    asked: LogPos,
    /// Pieces that wait for their turn: first position, blocks. The n-th lies in the n-th part of
    /// the room.
    early: [Option<(LogPos, u64)>; EARLY],
    /// Of those that are verified: how many, and the block and its entry that come next.
    count: usize,
    block: usize,
    entry: usize,
    /// The first whose data is not what it should be; `count` if there is none.
    bad: usize,
}

impl<P: Platform> Blocks<P> {
    pub(super) fn new(p: &P) -> Result<Self, Fault> {
        let pages = usize::try_from(ROOM).unwrap_or(0);
        Ok(Self {
            room: p.blank(pages, &[0; PAGE]).ok_or(Fault::NoMemory)?,
            asked: LogPos(0),
            early: [None; EARLY],
            count: 0,
            block: 0,
            entry: 0,
            bad: 0,
        })
    }

    /// Copies blocks into the room, from the page `at` on.
    fn keep(&mut self, at: usize, bytes: &[u8]) {
        let pages = self.room.iter_mut().skip(at);
        for (to, from) in pages.zip(bytes.chunks_exact(PAGE)) {
            to.copy_from_slice(from);
        }
    }

    /// Where the n-th early piece lies.
    fn place(n: usize) -> usize {
        n.saturating_mul(usize::try_from(PIECE).unwrap_or(0))
    }

    /// The entry with a sum that is the `skip`th of a block that is being verified.
    fn summed(&self, p: &P, pool: u64, block: usize, skip: usize) -> Option<(Record, u64)> {
        let page = self.room.get(block)?;
        let (_, entries) = crate::format::log::open(p, page, pool)?;
        let summed = entries.filter_map(|entry| match entry {
            Ok(Entry::PutSummed(record, sum)) => Some((record, sum)),
            _ => None,
        });
        summed.into_iter().nth(skip)
    }
}

impl<P: Platform> Core<P> {
    /// Reads what recovery wants next, and what it will want after that.
    #[inline(never)]
    pub(super) fn next_blocks(&mut self) {
        let want = self.opening.recovery.want();
        let ahead = self.opening.recovery.ahead();
        match want {
            Want::Scan(pos) | Want::Apply(pos) => self.read_ahead(pos, ahead, READS),
            Want::Verify(pos) if self.opening.io == 0 => self.read_ahead(pos, ahead.min(ROOM), 1),
            Want::Nothing => self.open_phase(Phase::Copies),
            Want::Verify(_) | Want::Verdict(_) => {}
        }
    }

    /// Reads the blocks from `pos` on, `ahead` of them; `reads` are under way at once.
    fn read_ahead(&mut self, pos: LogPos, ahead: u64, reads: usize) {
        let ring = self.superblock.log_blocks.get();
        let piece = if reads == 1 { ROOM } else { PIECE };
        loop {
            let under_way = usize::try_from(self.opening.io).unwrap_or(usize::MAX);
            let Some(blocks) = &mut self.opening.blocks else { return };
            if under_way == 0 {
                blocks.asked = pos;
            }
            let early = blocks.early.iter().flatten().count();
            let left = pos.0.saturating_add(ahead).saturating_sub(blocks.asked.0);
            if left == 0 || under_way.saturating_add(early) >= reads {
                return;
            }
            let from = blocks.asked;
            let to_edge = ring.saturating_sub(from.0.checked_rem(ring).unwrap_or(0));
            let n = piece.min(left).min(to_edge);
            blocks.asked = LogPos(from.0.saturating_add(n));
            let len = u32::try_from(n.saturating_mul(PAGE_BYTES)).unwrap_or(0);
            match self.superblock.log_byte(from) {
                Some(at) if len != 0 => self.read_meta(at, len, from.0),
                _ => return self.opening_fails(OpenError::Corrupt),
            }
        }
    }

    /// A piece of the log has come.
    #[inline(never)]
    pub(super) fn take_blocks(&mut self, pos: u64, done: &Done<'_>) -> Result<(), OpenError> {
        let Some(mut blocks) = self.opening.blocks.take() else { return Err(OpenError::Corrupt) };
        let result = self.take_piece(&mut blocks, LogPos(pos), done.bytes);
        self.opening.blocks = Some(blocks);
        result
    }

    #[inline(never)]
    fn take_piece(
        &mut self,
        blocks: &mut Blocks<P>,
        pos: LogPos,
        bytes: &[u8],
    ) -> Result<(), OpenError> {
        let n = bytes.len().checked_div(PAGE).unwrap_or(0);
        if n == 0 {
            return Err(OpenError::Io);
        }
        match self.opening.recovery.want() {
            Want::Verify(at) if at == pos => {
                blocks.keep(0, bytes);
                (blocks.count, blocks.bad) = (n, n);
                (blocks.block, blocks.entry) = (0, 0);
                self.opening.phase = Phase::Verify;
                Ok(())
            }
            Want::Scan(at) | Want::Apply(at) if at == pos => {
                self.feed_all(bytes.chunks_exact(PAGE))?;
                self.feed_early(blocks)
            }
            _ => {
                let free = blocks.early.iter_mut().enumerate().find(|(_, place)| place.is_none());
                let Some((index, place)) = free else { return Err(OpenError::Corrupt) };
                *place = Some((pos, u64::try_from(n).unwrap_or(0)));
                blocks.keep(Blocks::<P>::place(index), bytes);
                Ok(())
            }
        }
    }

    /// Hands over the pieces whose turn it is now.
    #[inline(never)]
    fn feed_early(&mut self, blocks: &mut Blocks<P>) -> Result<(), OpenError> {
        loop {
            let (Want::Scan(at) | Want::Apply(at)) = self.opening.recovery.want() else {
                return Ok(());
            };
            let mine = |place: &Option<(LogPos, u64)>| place.is_some_and(|(pos, _)| pos == at);
            let Some(index) = blocks.early.iter().position(mine) else { return Ok(()) };
            let place = blocks.early.get_mut(index).and_then(Option::take);
            let n = place.map_or(0, |(_, n)| usize::try_from(n).unwrap_or(0));
            let pages = blocks.room.iter().skip(Blocks::<P>::place(index)).take(n);
            self.feed_all(pages.map(<[u8; PAGE]>::as_slice))?;
        }
    }

    /// Hands over blocks, as long as the same pass wants them.
    fn feed_all<'a>(&mut self, blocks: impl Iterator<Item = &'a [u8]>) -> Result<(), OpenError> {
        let first = self.opening.recovery.want();
        for block in blocks {
            let apply = match (first, self.opening.recovery.want()) {
                (Want::Scan(_), Want::Scan(_)) => false,
                (Want::Apply(_), Want::Apply(_)) => true,
                _ => return Ok(()),
            };
            let entries =
                self.opening.recovery.feed(&self.platform, block).map_err(OpenError::Log)?;
            if apply {
                for entry in entries {
                    self.apply(&entry?)?;
                }
            }
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

    /// Reads the slots that the blocks to be verified speak of, as many as can be at once; when all
    /// are compared, recovery hears of it.
    #[inline(never)]
    pub(super) fn next_verify(&mut self) {
        let Some(mut blocks) = self.opening.blocks.take() else { return };
        let result = self.read_summed(&mut blocks).and_then(|all| {
            if all && self.opening.io == 0 {
                self.judge(&blocks)
            } else {
                Ok(())
            }
        });
        self.opening.blocks = Some(blocks);
        match result {
            Err(error) => self.opening_fails(error),
            Ok(()) if self.opening.phase == Phase::Log => self.next_blocks(),
            Ok(()) => {}
        }
    }

    /// Gives out reads of slots; whether there is nothing more to be read.
    fn read_summed(&mut self, blocks: &mut Blocks<P>) -> Result<bool, OpenError> {
        let pool = self.superblock.pool_number();
        if self.mutant(Mutant::NoSums) {
            return Ok(true);
        }
        while blocks.block < blocks.count && blocks.block <= blocks.bad {
            let next = blocks.summed(&self.platform, pool, blocks.block, blocks.entry);
            let Some((record, _)) = next else {
                (blocks.block, blocks.entry) = (blocks.block.saturating_add(1), 0);
                continue;
            };
            let Some(at) = self.superblock.slot_byte(record.slot) else {
                blocks.bad = blocks.bad.min(blocks.block);
                break;
            };
            let n = record.slots();
            let room = self.steps.room() > 0;
            let Some(units) = room.then(|| self.units.chain(n)).flatten() else {
                let waits = self.opening.io > 0;
                return if waits { Ok(false) } else { Err(OpenError::NoMemory) };
            };
            let chain = Piece::Chain(units, n, self.geometry.chunk_bytes());
            let step = Step::Read { dev: Dev::SAVE, at, len: n << self.geometry.shift() };
            self.opening.io = self.opening.io.saturating_add(1);
            let tag = place_tag(blocks.block, blocks.entry);
            let pieces = [chain, Piece::None, Piece::None, Piece::None];
            self.open_step(Owner::Open(tag), step, pieces, 0);
            blocks.entry = blocks.entry.saturating_add(1);
        }
        Ok(true)
    }

    /// Tells recovery of the blocks that are verified.
    fn judge(&mut self, blocks: &Blocks<P>) -> Result<(), OpenError> {
        self.opening.phase = Phase::Log;
        for (index, block) in blocks.room.iter().take(blocks.count).enumerate() {
            let recovery = &mut self.opening.recovery;
            if !matches!(recovery.want(), Want::Verify(_)) {
                break;
            }
            recovery.feed(&self.platform, block).map_err(OpenError::Log)?;
            recovery.verdict(index != blocks.bad);
        }
        Ok(())
    }

    /// Slots have come: compares them with their sum.
    #[inline(never)]
    pub(super) fn take_verify(&mut self, tag: u64, open: &Closed, done: &Done<'_>) {
        let Piece::Chain(first, n, _) = open.first else { return };
        self.units.free(first, n);
        let mut fold = Fold::default();
        for sum in done.sums {
            fold.add(*sum);
        }
        let (block, entry) = tag_place(tag);
        let pool = self.superblock.pool_number();
        let Some(blocks) = &mut self.opening.blocks else { return };
        let wanted = blocks.summed(&self.platform, pool, block, entry);
        if wanted.map(|(_, sum)| sum) != Some(fold.end()) {
            blocks.bad = blocks.bad.min(block);
        }
    }
}

/// Which block and entry a read of slots is for, as a step's tag.
fn place_tag(block: usize, entry: usize) -> u64 {
    let number = |n: usize| u64::try_from(n).unwrap_or(0);
    (number(block) << 32) | number(entry)
}

fn tag_place(tag: u64) -> (usize, usize) {
    let number = |n: u64| usize::try_from(n & 0xFFFF_FFFF).unwrap_or(usize::MAX);
    (number(tag >> 32), number(tag))
}
