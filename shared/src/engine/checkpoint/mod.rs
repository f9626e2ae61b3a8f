// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The checkpoint: the tree, the bit maps and the catalogue as of one position of the log.
//!
//! Freeze: all records up to the log's head go into the frozen delta; the catalogue is written out
//! at once, before anything changes it. Durable: wait until those records are (rule 11). Tree: the
//! builder streams them into new pages. Slots, Meta: the bit maps, on the other side. Flush, then
//! two superblocks, then flush again: the checkpoint stands (rule 12). Reclaim: when no I/O on
//! slots from before the freeze is under way any more, what was freed may be used again (rule 6).
//!
//! `pages.rs` has the phases that write pages, `end.rs` those behind them. Pages are gathered in
//! buffers and written in runs; when the buffers are full, or a phase ends, they are written out
//! and waited for.

mod end;
mod pages;

pub(crate) use pages::{PageRoom, SHRINK};

use crate::api::Step;
use crate::engine::{Commit, Core, Owner, Piece};
use crate::fault::Fault;
use crate::format::log::Counters;
use crate::map::{Builder, Cursor, Root};
use crate::platform::Platform;
use crate::units::{Dev, LogPos, PageNo, PAGE, PAGE_BYTES};

/// Page buffers.
const BUFFERS: u32 = 64;

/// Where the checkpoint stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Idle,
    Catalog,
    Durable,
    Tree,
    Slots,
    SlotPages,
    MetaPages,
    Flush,
    Superblock,
    SuperblockFlush,
    Reclaim,
}

/// The checkpoint machine.
pub(crate) struct Checkpoint<P: Platform> {
    pub(crate) phase: Phase,
    pub(crate) wanted: bool,
    /// The page that the builder waits for.
    pub(crate) waits_for: Option<PageNo>,
    pub(super) pos: LogPos,
    pub(super) hash: u64,
    pub(super) builder: Builder<P>,
    pub(super) root: Option<Root>,
    /// Pages on their way: bytes, and the device byte each goes to.
    buffers: P::Array<[u8; PAGE]>,
    places: P::Array<u64>,
    pub(super) filled: u32,
    /// Of those, given out.
    pub(super) sent: u32,
    pub(super) io: u32,
    pub(super) cursor: Cursor,
    pub(super) index: u64,
    /// First page and number of the catalogue's pages.
    pub(super) catalog: (u64, u64),
    /// The counters as of the freeze.
    pub(super) counters: Counters,
    /// It is the last one, of an orderly close.
    pub(super) clean: bool,
    /// The superblock to be written.
    pub(super) page: P::Array<u8>,
    /// The catalogue's next page.
    pub(super) next_page: Option<PageNo>,
    /// Counts turns that did something but wrote nothing.
    pub(super) turns: u64,
    /// One has just ended: the next may begin when all tasks have run.
    pub(crate) ended: bool,
    /// Its superblock is durable.
    pub(super) stands: bool,
    /// Slots that its superblock speaks of: the save volume may have grown since.
    slots: u64,
    /// Pages that it may take at most, and those that were free before.
    pages: u64,
    pages_before: u64,
}

impl<P: Platform> Checkpoint<P> {
    /// Made where it will stay.
    pub(crate) fn new(p: &P, pool: u64) -> Result<P::Box<Self>, Fault> {
        let mut made = p.boxed(|| Self::bare(pool)).ok_or(Fault::NoMemory)?;
        let n = usize::try_from(BUFFERS).unwrap_or(0);
        made.builder.make(p)?;
        made.buffers = p.blank(n, &[0; PAGE]).ok_or(Fault::NoMemory)?;
        made.places = p.array(n, &0).ok_or(Fault::NoMemory)?;
        made.page = p.array(PAGE, &0).ok_or(Fault::NoMemory)?;
        Ok(made)
    }

    #[inline(always)]
    fn bare(pool: u64) -> Self {
        Self {
            phase: Phase::Idle,
            wanted: false,
            waits_for: None,
            pos: LogPos(0),
            hash: 0,
            builder: Builder::bare(pool),
            root: None,
            buffers: P::Array::default(),
            places: P::Array::default(),
            filled: 0,
            sent: 0,
            io: 0,
            cursor: Cursor::END,
            index: 0,
            catalog: (u64::MAX, 0),
            counters: Counters::default(),
            clean: false,
            page: P::Array::default(),
            next_page: None,
            turns: 0,
            ended: false,
            stands: false,
            slots: 0,
            pages: 0,
            pages_before: 0,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.phase != Phase::Idle
    }

    /// Whether it waits for nothing but its turn.
    pub(crate) fn can_go_on(&self, commit: &Commit) -> bool {
        match self.phase {
            Phase::Idle | Phase::Reclaim => false,
            Phase::Durable => commit.durable >= self.pos,
            _ => self.io == 0 && self.waits_for.is_none(),
        }
    }

    /// Whether it reads pages of the tree.
    pub(crate) fn reads_tree(&self) -> bool {
        self.phase == Phase::Tree
    }

    /// The bytes of a page buffer; of the superblock behind the last.
    pub(crate) fn buffer(&self, at: u32) -> &[u8] {
        if at == BUFFERS {
            return &self.page;
        }
        usize::try_from(at).ok().and_then(|at| self.buffers.get(at)).map_or(&[], |b| &b[..])
    }

    /// A free buffer for the page that goes to byte `place` of the save volume.
    pub(super) fn next_buffer(&mut self, place: u64) -> Option<&mut [u8; PAGE]> {
        let at = usize::try_from(self.filled).ok()?;
        let buffer = self.buffers.get_mut(at)?;
        if let Some(p) = self.places.get_mut(at) {
            *p = place;
        }
        self.filled = self.filled.saturating_add(1);
        Some(buffer)
    }

    /// The page of the builder goes to byte `place`.
    pub(super) fn emit(&mut self, place: u64) -> Result<(), Fault> {
        let at = usize::try_from(self.filled).map_err(|_| crate::bug!())?;
        let page = self.builder.page_bytes().ok_or(crate::bug!())?;
        let buffer = self.buffers.get_mut(at).ok_or(crate::bug!())?;
        for (to, from) in buffer.iter_mut().zip(page) {
            *to = *from;
        }
        *self.places.get_mut(at).ok_or(crate::bug!())? = place;
        self.filled = self.filled.saturating_add(1);
        Ok(())
    }

    /// Changes whenever the checkpoint got any further.
    fn progress(&self) -> (Phase, u32, u32, u64, u64) {
        (self.phase, self.filled, self.io, self.turns, self.index)
    }

    pub(super) fn full(&self) -> bool {
        self.filled >= BUFFERS
    }
}

impl<P: Platform> Core<P> {
    /// A checkpoint is to be written soon.
    pub(crate) fn want_checkpoint(&mut self) {
        self.checkpoint.wanted = true;
    }

    /// Goes on with the checkpoint as far as it can.
    #[inline(never)]
    pub(crate) fn run_checkpoint(&mut self) {
        let rests = self.checkpoint.phase == Phase::Idle && !self.checkpoint.wanted;
        if self.fenced.is_some() || !self.started || rests {
            return;
        }
        // Bounded, so that one call does not keep requests waiting.
        for _ in 0..64 {
            if self.closed.is_some() {
                // The one that closed the pool was the last.
                return;
            }
            let running = self.checkpoint.is_running();
            let before = self.checkpoint.progress();
            if let Err(fault) = self.step_checkpoint() {
                return self.fence(fault);
            }
            if running && !self.checkpoint.is_running() {
                // Who waited for it looks before the next one takes what it made room for.
                self.checkpoint.ended = true;
                return;
            }
            if before == self.checkpoint.progress() {
                return;
            }
        }
    }

    #[inline(never)]
    fn step_checkpoint(&mut self) -> Result<(), Fault> {
        let pages_out = self.checkpoint.io != 0;
        if pages_out {
            return Ok(());
        }
        if self.checkpoint.full() {
            return self.send_pages();
        }
        match self.checkpoint.phase {
            Phase::Idle => self.begin_checkpoint(),
            Phase::Catalog => self.write_catalog(),
            Phase::Durable => self.wait_for_records(),
            Phase::Tree => self.build_tree(),
            Phase::Slots => self.keep_slots(),
            Phase::SlotPages => self.write_slot_pages(),
            Phase::MetaPages => self.write_meta_pages(),
            Phase::Flush => self.checkpoint_flush(Phase::Superblock),
            Phase::Superblock => self.write_superblock(),
            Phase::SuperblockFlush => self.checkpoint_flush(Phase::Reclaim),
            Phase::Reclaim => self.reclaim(),
        }
    }

    /// Writes out what the buffers hold, in runs; the phase goes on when it is written.
    fn send_pages(&mut self) -> Result<(), Fault> {
        let (mut at, filled) = (self.checkpoint.sent, self.checkpoint.filled);
        while at < filled && self.steps.room() > 8 {
            let place = |c: &Self, i: u32| {
                usize::try_from(i).ok().and_then(|i| c.checkpoint.places.get(i)).copied()
            };
            let start = place(self, at).ok_or(crate::bug!())?;
            let mut n = 1;
            while at.saturating_add(n) < filled
                && place(self, at.saturating_add(n))
                    == Some(start.saturating_add(u64::from(n).saturating_mul(PAGE_BYTES)))
            {
                n = n.saturating_add(1);
            }
            let step =
                Step::Write { dev: Dev::SAVE, at: start, len: n.saturating_mul(4096), fua: false };
            let pieces = [Piece::Pages(at, n), Piece::None, Piece::None, Piece::None];
            self.open_step(Owner::Checkpoint, step, pieces, 0);
            self.checkpoint.io = self.checkpoint.io.saturating_add(1);
            at = at.saturating_add(n);
        }
        self.checkpoint.sent = at;
        Ok(())
    }

    /// A write or flush of the checkpoint has ended.
    #[inline(never)]
    pub(crate) fn checkpoint_step_done(&mut self, result: Result<(), Fault>) {
        let c = &mut self.checkpoint;
        c.io = c.io.saturating_sub(1);
        if c.io == 0 && c.sent == c.filled {
            c.filled = 0;
            c.sent = 0;
        }
        if let Err(fault) = result {
            self.fence(fault);
        }
    }

    /// Whether everything that the phase has put into buffers is written; else it goes out.
    pub(super) fn written(&mut self) -> Result<bool, Fault> {
        if self.checkpoint.filled != 0 {
            self.send_pages()?;
            return Ok(false);
        }
        Ok(true)
    }
}
