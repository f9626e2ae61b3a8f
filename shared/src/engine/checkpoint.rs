// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The checkpoint: the tree, the bit maps and the catalogue as of one position of the log.
//!
//! Freeze: all records up to the log's head go into the frozen delta; the catalogue is written out
//! at once, before anything changes it. Durable: wait until those records are (rule 11). Tree: the
//! builder streams them into new pages. Slots, Meta: the bit maps, on the other side. Flush, then
//! two superblocks, then flush again: the checkpoint stands (rule 12). Reclaim: when no I/O on slots
//! from before the freeze is under way any more, what was freed may be used again (rule 6).
//!
//! Pages are gathered in buffers and written in runs; when the buffers are full, or a phase ends,
//! they are written out and waited for.

use crate::api::Step;
use crate::engine::{Core, Owner, Piece, SEGS};
use crate::fault::Fault;
use crate::format::record::{Key, Kind};
use crate::map::{Builder, Load, Miss, Progress, Root};
use crate::mutants::Mutant;
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
    pos: LogPos,
    hash: u64,
    builder: Builder<P>,
    root: Option<Root>,
    /// Pages on their way: bytes, and the device byte each goes to.
    buffers: P::Array<[u8; PAGE]>,
    places: P::Array<u64>,
    filled: u32,
    /// Of those, given out.
    sent: u32,
    io: u32,
    cursor: Key,
    index: u64,
    /// First page and number of the catalogue's pages.
    catalog: (u64, u64),
    /// The catalogue must not change: it is being written out.
    pub(crate) locked: bool,
    /// The counters as of the freeze: next entity, next map, epoch.
    counters: [u32; 3],
    clean: bool,
}

impl<P: Platform> Checkpoint<P> {
    pub(crate) fn new(p: &P) -> Result<Self, Fault> {
        let n = usize::try_from(BUFFERS).unwrap_or(0);
        Ok(Self {
            phase: Phase::Idle,
            wanted: false,
            waits_for: None,
            pos: LogPos(0),
            hash: 0,
            builder: Builder::new(p)?,
            root: None,
            buffers: p.array(n, [0; PAGE]).ok_or(Fault::NoMemory)?,
            places: p.array(n, 0).ok_or(Fault::NoMemory)?,
            filled: 0,
            sent: 0,
            io: 0,
            cursor: Key(0),
            index: 0,
            catalog: (u64::MAX, 0),
            locked: false,
            counters: [0; 3],
            clean: false,
        })
    }

    /// The bytes of a page buffer.
    pub(crate) fn buffer(&self, at: u32) -> &[u8] {
        usize::try_from(at).ok().and_then(|at| self.buffers.get(at)).map_or(&[], |b| &b[..])
    }

    /// A free buffer for the page that goes to byte `place` of the save volume.
    fn next_buffer(&mut self, place: u64) -> Option<&mut [u8; PAGE]> {
        let at = usize::try_from(self.filled).ok()?;
        let buffer = self.buffers.get_mut(at)?;
        if let Some(p) = self.places.get_mut(at) {
            *p = place;
        }
        self.filled = self.filled.saturating_add(1);
        Some(buffer)
    }

    fn full(&self) -> bool {
        self.filled >= BUFFERS
    }
}

impl<P: Platform> Core<P> {
    /// A checkpoint is to be written soon.
    pub(crate) fn want_checkpoint(&mut self) {
        self.checkpoint.wanted = true;
    }

    /// Goes on with the checkpoint as far as it can.
    pub(crate) fn run_checkpoint(&mut self) {
        if self.fenced.is_some() || !self.started {
            return;
        }
        // Bounded, so that one call does not keep requests waiting.
        for _ in 0..64 {
            let before = (self.checkpoint.phase, self.checkpoint.filled, self.checkpoint.io);
            if let Err(fault) = self.step_checkpoint() {
                return self.fence(fault);
            }
            if before == (self.checkpoint.phase, self.checkpoint.filled, self.checkpoint.io) {
                return;
            }
        }
    }

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

    /// Everything that the phase has put into buffers is written?
    fn written(&mut self) -> Result<bool, Fault> {
        if self.checkpoint.filled != 0 {
            self.send_pages()?;
            return Ok(false);
        }
        Ok(true)
    }

    fn begin_checkpoint(&mut self) -> Result<(), Fault> {
        if !self.checkpoint.wanted || !self.room_for_checkpoint()? {
            return Ok(());
        }
        self.checkpoint.wanted = false;
        self.log.seal();
        self.commit.wanted = true;
        self.layers.freeze()?;
        self.slot_phase = !self.slot_phase;
        let superblock = &self.superblock;
        let c = &mut self.checkpoint;
        c.pos = self.log.head();
        c.hash = self.log.head_hash();
        c.counters = [
            superblock.next_entity.get(),
            superblock.next_map.get(),
            superblock.epoch.get(),
        ];
        c.locked = true;
        c.index = 0;
        c.catalog = (u64::MAX, 0);
        c.clean = self.closing;
        c.phase = Phase::Catalog;
        self.note_usage();
        self.free_old_catalog()
    }

    fn wait_for_records(&mut self) -> Result<(), Fault> {
        if self.commit.durable < self.checkpoint.pos && !self.mutant(Mutant::CheckpointEarly) {
            return Ok(());
        }
        let root = self.layers.root();
        self.checkpoint.builder.begin(root);
        self.checkpoint.phase = Phase::Tree;
        Ok(())
    }

    fn build_tree(&mut self) -> Result<(), Fault> {
        if self.checkpoint.waits_for.is_some() {
            return Ok(());
        }
        let generation = self.superblock.generation.get().saturating_add(1);
        for _ in 0..256 {
            if self.checkpoint.full() {
                return Ok(());
            }
            let c = &mut self.checkpoint;
            match c.builder.step(&self.platform, &mut self.layers, &mut self.meta, generation) {
                Ok(Progress::More) => {}
                Ok(Progress::Emit(page)) => {
                    let place = self.superblock.page_byte(page).ok_or(crate::bug!())?;
                    let bytes = *c.builder.page();
                    self.layers.cache.insert(page, &bytes);
                    *c.next_buffer(place).ok_or(crate::bug!())? = bytes;
                }
                Ok(Progress::Done(root)) => {
                    c.root = root;
                    c.cursor = Key(0);
                    c.phase = Phase::Slots;
                    return Ok(());
                }
                Err(Miss::Page(page)) => return self.load_for_builder(page),
                Err(Miss::Fault(fault)) => return Err(fault),
            }
        }
        // More to do: come again after the requests that wait.
        self.checkpoint.index = self.checkpoint.index.wrapping_add(1);
        Ok(())
    }

    fn load_for_builder(&mut self, page: PageNo) -> Result<(), Fault> {
        if self.load_page(page)? != Load::Full {
            self.checkpoint.waits_for = Some(page);
        }
        Ok(())
    }

    /// Brings the kept slot bits to the state at the checkpoint.
    fn keep_slots(&mut self) -> Result<(), Fault> {
        let frozen = self.layers.frozen().ok_or(crate::bug!())?;
        while let Some(record) = frozen.next_from(self.checkpoint.cursor)? {
            self.slots.keep(&record);
            self.checkpoint.cursor = Key(record.key().0.saturating_add(1));
        }
        self.checkpoint.index = 0;
        self.checkpoint.phase = Phase::SlotPages;
        Ok(())
    }
}
