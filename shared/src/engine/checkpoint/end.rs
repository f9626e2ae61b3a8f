// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The end of a checkpoint: superblocks, and what may be used again behind them.

use zerocopy::IntoBytes;

use crate::api::Step;
use crate::engine::checkpoint::{Phase, BUFFERS};
use crate::engine::{Core, Owner, Piece, SEGS};
use crate::fault::Fault;
use crate::format::record::{GroupKey, FREE_MAP};
use crate::format::superblock::{Extent, COPIES, EXTENTS};
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::{Dev, PAGE_BYTES};

impl<P: Platform> Core<P> {
    /// Flushes the save volume, then goes to the phase `next`.
    pub(super) fn checkpoint_flush(&mut self, next: Phase) -> Result<(), Fault> {
        let closing = next == Phase::Superblock && self.checkpoint.clean;
        if closing && !self.flush_productions() {
            return Ok(());
        }
        self.checkpoint.phase = next;
        if self.save.volatile {
            let step = Step::Flush { dev: Dev::SAVE };
            self.checkpoint.io = self.checkpoint.io.saturating_add(1);
            self.open_step(Owner::Checkpoint, step, [Piece::None; SEGS], 0);
        }
        Ok(())
    }

    /// What productions hold when the pool is closed must still be there when the superblock says
    /// that it was closed in order: else they would seem to have been changed behind our back.
    /// False while there are more of them than steps can be open at once.
    fn flush_productions(&mut self) -> bool {
        let from = u32::try_from(self.checkpoint.index).unwrap_or(0);
        for v in from..self.vols.top() {
            if self.steps.room() == 0 {
                return false;
            }
            self.checkpoint.index = u64::from(v).saturating_add(1);
            let vol = self.vols.at(v);
            if vol.live && !vol.clone && vol.fast.is_some() && vol.volatile {
                let step = Step::Flush { dev: vol.dev };
                self.checkpoint.io = self.checkpoint.io.saturating_add(1);
                self.open_step(Owner::Checkpoint, step, [Piece::None; SEGS], 0);
            }
        }
        true
    }

    /// Makes the superblock of the checkpoint and writes two copies of it.
    pub(super) fn write_superblock(&mut self) -> Result<(), Fault> {
        let side = self.next_side();
        let slots = self.superblock.slots.get();
        let c = &mut self.checkpoint;
        c.slots = slots;
        let s = &mut self.superblock;
        s.generation = s.generation.get().saturating_add(1).into();
        s.log_pos = c.pos.0.into();
        s.log_hash = c.hash.into();
        s.known_end = c.pos.0.into();
        s.known_hash = c.hash.into();
        s.map_side = side.into();
        s.catalog_first = c.catalog.0.into();
        s.catalog_pages = c.catalog.1.into();
        s.next_entity = c.counters.next_entity.0.into();
        s.next_map = c.counters.next_map.0.into();
        s.epoch = c.counters.epoch.0.into();
        s.tree_root = c.root.map_or(u64::MAX, |r| r.page.0).into();
        s.tree_height = c.root.map_or(0, |r| u32::from(r.height)).into();
        s.tree_pages = c.root.map_or(0, |r| r.pages).into();
        s.tree_records = c.root.map_or(0, |r| r.records).into();
        s.slots_used = self.slots.used().into();
        s.pages_used = self.meta.used().into();
        s.clean = u32::from(c.clean).into();
        s.written_ns = self.now_ns.into();
        self.checkpoint.io = self.emit_superblock(Owner::Checkpoint);
        self.checkpoint.phase = Phase::SuperblockFlush;
        Ok(())
    }

    /// Gives out the writes of the superblock to the pair of its generation; says how many.
    pub(crate) fn emit_superblock(&mut self, owner: Owner) -> u32 {
        self.superblock.seal(&self.platform);
        for (to, from) in self.checkpoint.page.iter_mut().zip(self.superblock.as_bytes()) {
            *to = *from;
        }
        let pair = self.superblock.pair();
        let all = self.mutant(Mutant::SuperblockEarly);
        let mut writes = 0_u32;
        for at in COPIES.into_iter().filter(|at| all || pair.contains(at)) {
            writes = writes.saturating_add(1);
            let pieces = [Piece::Pages(BUFFERS, 1), Piece::None, Piece::None, Piece::None];
            let step = Step::Write { dev: Dev::SAVE, at, len: 4096, fua: false };
            self.open_step(owner, step, pieces, 0);
        }
        writes
    }

    /// The checkpoint stands: the frozen delta is the tree's, and the log before it is free. What
    /// it freed follows when no I/O of before the freeze touches it any more.
    pub(super) fn reclaim(&mut self) -> Result<(), Fault> {
        if !self.checkpoint.stands {
            self.checkpoint.stands = true;
            self.commit.noted = self.commit.noted.max(self.checkpoint.pos);
            self.log.set_start(self.checkpoint.pos, self.superblock.generation.get());
            self.slots.turn();
            self.slots.grow(self.checkpoint.slots);
            self.meta.commit();
            let mut waiters = core::mem::take(&mut self.room_waiters);
            self.wake_all(&mut waiters);
            self.wake_copies();
        }
        let before = usize::from(!self.slot_phase);
        let busy = self.slot_io.get(before).copied().unwrap_or(0) != 0;
        if busy && !self.mutant(Mutant::ReuseInFlight) {
            return Ok(());
        }
        let frozen = self.layers.frozen().ok_or(crate::bug!())?;
        let mut at = frozen.walk(GroupKey { map: FREE_MAP, ..GroupKey::default() })?;
        while let Some((record, _)) = frozen.step(&mut at)? {
            self.slots.reclaim(&record);
        }
        let root = self.checkpoint.root;
        self.layers.drop_frozen(root)?;
        self.versions.bump_all();
        self.keep_promises();
        self.space.freezing = 0;
        self.stats.checkpoints = self.stats.checkpoints.saturating_add(1);
        self.checkpoint.stands = false;
        self.checkpoint.phase = Phase::Idle;
        if self.checkpoint.clean {
            self.closed = Some(Ok(()));
        }
        let mut waiters = core::mem::take(&mut self.room_waiters);
        self.wake_all(&mut waiters);
        self.wake_copies();
        self.make_space();
        Ok(())
    }

    /// Makes more room for metadata pages, out of adjacent slots, if there are any.
    pub(super) fn add_extent(&mut self, pages: u64) {
        let probe = Extent { start: 0, pages };
        let want = self.geometry.chunks_for(probe.bytes());
        let want_slots = u32::try_from(want).unwrap_or(u32::MAX);
        let run = match self.slots.alloc_exact(want_slots, 0) {
            Some(run) => run,
            None => {
                let Some(run) = self.slots.alloc_exact(want_slots, u64::MAX) else { return };
                self.promise_anew();
                run
            }
        };
        let start = self.slot_byte(run.first);
        let whole = want << self.geometry.shift();
        // All pages that fit behind the two bit maps.
        let maps = probe.bytes().saturating_sub(pages.saturating_mul(PAGE_BYTES));
        let pages = whole.saturating_sub(maps) / PAGE_BYTES;
        let extent = Extent { start, pages };
        let fits = extent.bytes() <= whole;
        let extent = if fits { extent } else { Extent { start, pages: probe.pages } };
        let full = self.superblock.extents().count() >= EXTENTS;
        if full || self.meta.add_extent(&self.platform, extent.pages).is_err() {
            // No memory for its bit map, or no room in the superblock.
            return self.slots.release(run);
        }
        self.superblock.add_extent(extent);
        self.slots.keep(run.first, u64::from(run.len));
    }

    /// Enters what the volumes use into the catalogue, for the checkpoint.
    pub(super) fn note_usage(&mut self) {
        for v in 0..self.vols.top() {
            let vol = self.vols.at(v);
            if !vol.live {
                continue;
            }
            let (id, used) = (vol.id, vol.used);
            let known = self.catalog.get(id).map(|e| (e.used.get(), e.refer.get()));
            if let Some((before, refer)) = known {
                if before != used {
                    self.catalog.set_used(id, used, refer);
                }
            }
        }
    }

    /// Ends: no new requests. What is under way is finished, then a last checkpoint is written.
    pub fn close(&mut self) {
        self.closing = true;
        self.wake_plan();
        self.wait_no_more();
    }

    /// Whether the pool is closed, and how; the driver may go then.
    pub fn closed(&self) -> Option<Result<(), Fault>> {
        self.fenced.map(Err).filter(|_| self.closing).or(self.closed)
    }

    /// Whether nothing is under way but what clones have written since the last flush.
    pub(super) fn is_at_rest(&self) -> bool {
        self.tasks.left() == self.tasks.len()
            && self.flush.round == crate::engine::flush::Round::Idle
            && self.layers.pending.is_empty()
    }

    /// Goes on with closing: when nothing is under way, the last checkpoint begins.
    #[inline(never)]
    pub(crate) fn run_close(&mut self) {
        if !self.closing || self.closed.is_some() || self.fenced.is_some() {
            return;
        }
        if !self.is_at_rest() {
            return;
        }
        if !self.layers.fresh.is_empty() {
            self.flush.wanted = true;
            return;
        }
        if self.checkpoint.phase == Phase::Idle {
            self.want_checkpoint();
        }
    }
}
