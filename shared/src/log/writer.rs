// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The log's writing end: entries go into an open block, sealed blocks wait to be written.
//!
//! Blocks stand in a small *stage* from the first entry until their write has completed, so that
//! several can be under way. Positions, in order: `start` (the checkpoint's), `written` (all before
//! it are written), `taken` (all before it were given out to be written), `head` (the open block).
//! `durable` moves on its own, up to `written`.
//!
//! # Invariants
//!
//! 1. `start <= head`, `written <= taken <= head`; `head - start` is at most the ring's length.
//! 2. The stage holds the blocks `written..=head`: there are at most as many as it has room for.
//! 3. A block of the stage that is not open is sealed: its bytes do not change until it is written.
//! 4. A block holds entries of a group only together with entries that came before the group, if
//!    the group ends in it, or with those of the group alone, if it goes on in the next block.

use crate::format::log::{seal, Entry, Fill, Header, ENTRY_MAX, HEADER, PAYLOAD};
use crate::format::page::copy;
use crate::platform::Platform;
use crate::units::{bit, LogPos, PAGE};

/// Blocks that a stage can hold.
pub const STAGE_MAX: usize = 64;

/// Why an entry cannot be pushed now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// The ring has no block left: a checkpoint must free some.
    Ring,
    /// The stage is full: a write must complete first.
    Stage,
}

/// Which blocks of the ring an entry may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// All but the reserve.
    Common,
    /// The reserve too: for what makes the pool smaller, and for checkpoints.
    Reserve,
}

/// A sealed block that is to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// Its position; [`Writer::bytes`] has its bytes.
    pub pos: LogPos,
    /// The block of the ring that it goes to.
    pub block: u64,
}

/// Where the log goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resume {
    /// The log generation that blocks are to bear.
    pub generation: u64,
    /// The generation of the newest superblock that is durable.
    pub super_generation: u64,
    /// The checkpoint's position.
    pub start: LogPos,
    /// The position of the next block. All before it is durable.
    pub head: LogPos,
    /// Checksum of the block before it.
    pub hash: u64,
}

/// A group that is being pushed.
#[derive(Clone, Copy, Debug)]
struct Group {
    /// The block that its first entry lies in.
    block: LogPos,
    /// Where in that block it begins.
    offset: usize,
}

/// The log's writing end.
pub struct Writer<P: Platform> {
    stage: P::Array<u8>,
    /// Blocks of the stage, less one; it has a power of two.
    mask: u64,
    blocks: u64,
    reserve: u64,
    pool: u64,
    generation: u64,
    super_generation: u64,
    start: LogPos,
    written: LogPos,
    taken: LogPos,
    head: LogPos,
    durable: LogPos,
    /// Which blocks of the stage are written, by their place in it.
    done: u64,
    /// Checksum of the last block sealed.
    hash: u64,
    fill: Fill,
    group: Option<Group>,
    /// The first block of the group that the open block goes on with; the open block itself if it
    /// goes on with none.
    first: LogPos,
}

impl<P: Platform> Writer<P> {
    /// For a ring of `blocks` blocks, with a stage of `stage` blocks: a power of two, 2 to 64.
    pub fn new(
        platform: &P,
        pool: u64,
        blocks: u64,
        stage: usize,
        resume: &Resume,
    ) -> Option<Self> {
        if !stage.is_power_of_two() || !(2..=STAGE_MAX).contains(&stage) || blocks < 2 {
            return None;
        }
        let mut made = Self {
            stage: platform.blank(stage.checked_mul(PAGE)?, &0)?,
            mask: u64::try_from(stage).ok()?.saturating_sub(1),
            blocks,
            reserve: 0,
            pool,
            generation: 0,
            super_generation: 0,
            start: LogPos(0),
            written: LogPos(0),
            taken: LogPos(0),
            head: LogPos(0),
            durable: LogPos(0),
            done: 0,
            hash: 0,
            fill: Fill::default(),
            group: None,
            first: LogPos(0),
        };
        made.resume(resume);
        Some(made)
    }

    /// Goes on in a new generation; all that is in the stage is forgotten. No write of a block of
    /// the former generation may be under way.
    pub fn resume(&mut self, resume: &Resume) {
        self.generation = resume.generation;
        self.super_generation = resume.super_generation;
        self.start = resume.start;
        (self.head, self.taken, self.written) = (resume.head, resume.head, resume.head);
        (self.durable, self.first) = (resume.head, resume.head);
        self.hash = resume.hash;
        self.done = 0;
        self.group = None;
        self.fill = Fill::default();
    }

    /// Keeps blocks of the ring back for [`Room::Reserve`].
    pub fn set_reserve(&mut self, blocks: u64) {
        self.reserve = blocks;
    }

    /// Adds an entry. Gives the position that must be durable for the entry to be durable: the one
    /// after its block. Within a group it is not final: [`Writer::end_group`] gives the group's.
    ///
    /// # Errors
    ///
    /// There is no room; no entry was added, but the open block may have been sealed.
    pub fn push(&mut self, platform: &P, entry: &Entry<'_>, room: Room) -> Result<LogPos, Full> {
        let room = if self.group.is_some() { Room::Reserve } else { room };
        // At most: the block is full; the group's part of it moved, and is too long for the entry
        // still; an empty block.
        for _ in 0..3 {
            if self.fill.used() == 0 {
                self.fits(0, room)?;
                self.block_mut(self.head).fill(0);
            }
            if self.try_push(entry) {
                return Ok(self.head.next());
            }
            self.fits(1, room)?;
            self.overflow(platform);
        }
        Err(Full::Stage)
    }

    /// Whether there is room in ring and stage for the block `more` blocks after the head.
    fn fits(&self, more: u64, room: Room) -> Result<(), Full> {
        let last = self.head.plus(more);
        let kept_back = if room == Room::Common { self.reserve } else { 0 };
        if last.since(self.start).saturating_add(kept_back) >= self.blocks {
            return Err(Full::Ring);
        }
        if last.since(self.written) > self.mask {
            return Err(Full::Stage);
        }
        Ok(())
    }

    /// Adds the entry to the open block if it fits.
    fn try_push(&mut self, entry: &Entry<'_>) -> bool {
        let mut fill = self.fill;
        let pushed = fill.push(self.payload_mut(self.head), entry);
        self.fill = fill;
        pushed
    }

    /// Seals the open block, which is full, and goes on with the next. What it holds of a group
    /// moves there, if something else stands before it.
    fn overflow(&mut self, platform: &P) {
        let Some(group) = self.group else { return self.close(platform, self.fill.used(), false) };
        if group.block != self.head || group.offset == 0 {
            return self.close(platform, self.fill.used(), true);
        }
        // INVARIANT: (4), the block keeps what came before the group alone.
        let (from, used) = (self.head, self.fill.used());
        self.move_tail(from, group.offset, used);
        self.close(platform, group.offset, false);
        self.fill = Fill::at(used.saturating_sub(group.offset));
        self.group = Some(Group { block: self.head, offset: 0 });
    }

    /// Moves the bytes `offset..used` of a block's entries to the beginning of the next block.
    fn move_tail(&mut self, from: LogPos, offset: usize, used: usize) {
        self.block_mut(from.next()).fill(0);
        for at in (offset..used).step_by(8) {
            let word = self.payload_mut(from).get_mut(at..).and_then(<[u8]>::first_chunk_mut);
            let word: [u8; 8] = word.map(core::mem::take).unwrap_or_default();
            copy(self.payload_mut(from.next()), at.saturating_sub(offset), &word);
        }
    }

    /// Seals the open block with its first `used` bytes, and goes on with the next; `more` says
    /// that the group does too.
    fn close(&mut self, platform: &P, used: usize, more: bool) {
        let (pool, head) = (self.pool, self.head);
        let header = Header {
            checksum: 0,
            group_more: more,
            generation: self.generation,
            super_generation: self.super_generation,
            position: head,
            before: self.hash,
            durable: self.durable,
            group_start: self.first,
        };
        self.hash = seal(platform, self.block_mut(head), pool, &header, used);
        self.head = head.next();
        self.fill = Fill::default();
        if !more {
            self.first = self.head;
        }
    }

    /// Begins a group of at most `bytes` bytes of entries (the sum of [`Entry::bytes`]): recovery
    /// takes all of it or nothing. Until [`Writer::end_group`] only its entries may be pushed, and
    /// nothing is sealed; they find room.
    ///
    /// # Errors
    ///
    /// There is no room, or a group is begun already; nothing is changed.
    pub fn begin_group(&mut self, bytes: usize, room: Room) -> Result<(), Full> {
        /// A block is left when an entry does not fit: no emptier than this.
        const FILLED: usize = PAYLOAD - ENTRY_MAX;
        if self.group.is_some() {
            return Err(Full::Stage);
        }
        let whole = self.fill.used().saturating_add(bytes) <= PAYLOAD;
        let more = if whole { 0 } else { (bytes / FILLED).saturating_add(1) };
        if self.fill.used() == 0 || more > 0 {
            self.fits(u64::try_from(more).unwrap_or(u64::MAX), room)?;
        }
        self.fill.part();
        self.group = Some(Group { block: self.head, offset: self.fill.used() });
        Ok(())
    }

    /// Ends the group. Gives the position that must be durable for the group to be durable.
    pub fn end_group(&mut self) -> LogPos {
        self.group = None;
        self.last()
    }

    /// Seals the open block if it holds entries and no group is being pushed.
    pub fn seal(&mut self, platform: &P) {
        if self.group.is_none() && self.fill.used() > 0 {
            self.close(platform, self.fill.used(), false);
        }
    }

    /// Whether there are sealed blocks to be written and they lie in a row: one write.
    #[must_use]
    pub fn is_one_run(&self) -> bool {
        let count = self.head.since(self.taken);
        let first = self.taken.0.checked_rem(self.blocks).unwrap_or(0);
        count > 0 && first.saturating_add(count) <= self.blocks
    }

    /// The next sealed block that is to be written; the caller writes it and says
    /// [`Writer::completed`].
    pub fn take(&mut self) -> Option<Sealed> {
        let pos = self.taken;
        if pos >= self.head {
            return None;
        }
        self.taken = pos.next();
        Some(Sealed { pos, block: pos.0.checked_rem(self.blocks)? })
    }

    /// The bytes of a block that was taken and has not completed.
    #[must_use]
    pub fn bytes(&self, pos: LogPos) -> &[u8] {
        let at = self.stage_byte(pos);
        self.stage.get(at..).and_then(|rest| rest.get(..PAGE)).unwrap_or(&[])
    }

    /// The write of a block has completed without an error.
    pub fn completed(&mut self, pos: LogPos) {
        if pos < self.written || pos >= self.taken {
            return;
        }
        self.done |= self.done_bit(pos);
        while self.written < self.taken && self.done & self.done_bit(self.written) != 0 {
            self.done &= !self.done_bit(self.written);
            self.written = self.written.next();
        }
    }

    /// All before `pos` is durable: it was written, with its data, when a flush began that is done.
    pub fn set_durable(&mut self, pos: LogPos) {
        self.durable = self.durable.max(pos.min(self.written));
    }

    /// A superblock of this generation is durable; its checkpoint's position is `pos`.
    pub fn set_start(&mut self, pos: LogPos, super_generation: u64) {
        self.start = self.start.max(pos.min(self.written));
        self.super_generation = self.super_generation.max(super_generation);
    }

    /// The checkpoint's position.
    #[must_use]
    pub fn start(&self) -> LogPos {
        self.start
    }

    /// All before it is durable.
    #[must_use]
    pub fn durable(&self) -> LogPos {
        self.durable
    }

    /// All before it is written: a flush from now on makes it durable, with its data if that is
    /// written too.
    #[must_use]
    pub fn written(&self) -> LogPos {
        self.written
    }

    /// The position of the open block, the next to be sealed.
    #[must_use]
    pub fn head(&self) -> LogPos {
        self.head
    }

    /// Checksum of the block before the head: what a superblock says of a position that is the
    /// head.
    #[must_use]
    pub fn head_hash(&self) -> u64 {
        self.hash
    }

    /// The position after the last block that holds an entry: when it is durable, all is.
    #[must_use]
    pub fn last(&self) -> LogPos {
        if self.fill.used() == 0 {
            self.head
        } else {
            self.head.next()
        }
    }

    /// The log generation that blocks bear.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Blocks of the ring that no entry lies in, the reserve among them.
    #[must_use]
    pub fn free_blocks(&self) -> u64 {
        self.blocks.saturating_sub(self.last().since(self.start))
    }

    /// Where in the stage a block begins.
    fn stage_byte(&self, pos: LogPos) -> usize {
        usize::try_from(pos.0 & self.mask).unwrap_or(0).saturating_mul(PAGE)
    }

    fn done_bit(&self, pos: LogPos) -> u64 {
        bit(u32::try_from(pos.0 & self.mask).unwrap_or(0))
    }

    fn block_mut(&mut self, pos: LogPos) -> &mut [u8] {
        let at = self.stage_byte(pos);
        self.stage.get_mut(at..).and_then(|rest| rest.get_mut(..PAGE)).unwrap_or(&mut [])
    }

    fn payload_mut(&mut self, pos: LogPos) -> &mut [u8] {
        self.block_mut(pos).get_mut(HEADER..).unwrap_or(&mut [])
    }
}
