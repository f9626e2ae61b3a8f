// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The table of open steps and the queue of those that the driver has not yet taken.
//!
//! A step belongs to an owner, to whom its completion goes. Its memory is described by at most
//! [`SEGS`] pieces; a piece may be a chain of copy units.

use crate::api::{Step, StepId};
use crate::engine::slab::{Slab, NONE};
use crate::fault::Fault;
use crate::platform::Platform;

/// Pieces of memory that one step may have.
pub(crate) const SEGS: usize = 4;

/// Steps that only those open who cannot wait for room: a moment's flushes of 64 volumes, and those
/// of the checkpoint, the save volume's growth, and a flush round.
const KEPT_BACK: u32 = 80;

/// Who is told of a completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// A task.
    Task(u32),
    /// The commit pipeline: a write of slots.
    Commit,
    /// The commit pipeline: a write of log blocks; the tag names them.
    Log,
    /// The commit pipeline: its flush.
    CommitFlush,
    /// The flush before pending records are logged.
    Settle,
    /// The page cache: a page being read.
    Page(u64),
    /// The growth of the save volume.
    Grow,
    /// The checkpoint.
    Checkpoint,
    /// The flushes before a merge settles.
    MergeFlush,
    /// Opening the pool.
    Open(u64),
    /// Nobody needs to know.
    Nobody,
}

/// A piece of memory, in the core's own terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    /// Nothing.
    None,
    /// Bytes of a client's buffer: cookie, first, length.
    Client(u64, u32, u32),
    /// Bytes of one copy unit: unit, first, length.
    Unit(u32, u32, u32),
    /// A chain of whole copy units: first unit, how many, bytes of the last one.
    Chain(u32, u32, u32),
    /// That many zeros.
    Zeros(u32),
    /// Sealed log blocks: first block's position, how many.
    Log(u64, u32),
    /// Page buffers in a row: first buffer, how many.
    Pages(u32, u32),
    /// Metadata to be read: bytes.
    Meta(u32),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) generation: u32,
    pub(crate) open: bool,
    pub(crate) step: Step,
    pub(crate) owner: Owner,
    pub(crate) pieces: [Piece; SEGS],
    /// For the owner: what it needs to know at the completion.
    pub(crate) tag: u64,
}

/// What is left to know of a step that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    pub(crate) step: Step,
    pub(crate) owner: Owner,
    /// Its first piece.
    pub(crate) first: Piece,
    /// As in [`Open`].
    pub(crate) tag: u64,
}

const FREE: Open = Open {
    generation: 0,
    open: false,
    step: Step::Wake,
    owner: Owner::Nobody,
    pieces: [Piece::None; SEGS],
    tag: 0,
};

/// The open steps.
pub(crate) struct Steps<P: Platform> {
    table: Slab<P, Open>,
    /// Ring of table indices and of `Finish`, `Reply` and `Wake`, in the order they were given.
    out: P::Array<(StepId, Step)>,
    head: u32,
    count: u32,
}

impl<P: Platform> Steps<P> {
    /// What strays reach.
    pub(crate) fn sink(p: &P) -> Result<P::Box<Open>, Fault> {
        Slab::<P, _>::sink(p, &FREE)
    }

    /// No steps yet: [`Self::make`].
    #[inline(always)]
    pub(crate) fn bare(sink: P::Box<Open>) -> Self {
        Self { table: Slab::bare(sink), out: P::Array::default(), head: 0, count: 0 }
    }

    pub(crate) fn make(&mut self, p: &P, open: u32, others: u32) -> Result<(), Fault> {
        let open = open.saturating_add(KEPT_BACK);
        let len = open.saturating_add(others).saturating_add(8);
        let none = (StepId { index: NONE, generation: 0 }, Step::Wake);
        self.table.make(p, open, &FREE)?;
        self.out = p.array(usize::try_from(len).unwrap_or(0), &none).ok_or(Fault::NoMemory)?;
        Ok(())
    }

    /// Steps that can be opened by those who can wait for them.
    pub(crate) fn room(&self) -> u32 {
        self.table.left().saturating_sub(KEPT_BACK)
    }

    #[track_caller]
    fn push(&mut self, id: StepId, step: Step) {
        let len = u32::try_from(self.out.len()).unwrap_or(NONE);
        let mut at = self.head.saturating_add(self.count);
        if at >= len {
            at = at.saturating_sub(len);
        }
        if self.count >= len {
            self.table.stray();
            return;
        }
        if let Some(out) = self.out.get_mut(usize::try_from(at).unwrap_or(usize::MAX)) {
            *out = (id, step);
            self.count = self.count.saturating_add(1);
        }
    }

    /// The next step for the driver.
    pub(crate) fn pop(&mut self) -> Option<(StepId, Step)> {
        if self.count == 0 {
            return None;
        }
        let out = self.out.get(usize::try_from(self.head).unwrap_or(usize::MAX)).copied();
        self.count = self.count.saturating_sub(1);
        self.head = self.head.saturating_add(1);
        if usize::try_from(self.head).unwrap_or(usize::MAX) >= self.out.len() {
            self.head = 0;
        }
        out
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether so many steps can be opened that those who wait for room may try again.
    pub(crate) fn enough(&self) -> u32 {
        144
    }

    /// Whether the queue has room for what one task may say.
    pub(crate) fn has_out_room(&self) -> bool {
        usize::try_from(self.count).unwrap_or(usize::MAX).saturating_add(16) < self.out.len()
    }

    /// Whether new requests had better wait.
    pub(crate) fn is_full(&self) -> bool {
        !self.has_out_room()
    }

    /// A step that the driver does not complete.
    #[track_caller]
    pub(crate) fn tell(&mut self, step: Step) {
        self.push(StepId { index: NONE, generation: 0 }, step);
    }

    /// Opens a step. The caller has seen to it that there is room.
    #[track_caller]
    pub(crate) fn open(&mut self, owner: Owner, step: Step, pieces: [Piece; SEGS], tag: u64) {
        let Some(index) = self.table.take() else {
            self.table.stray();
            return;
        };
        // Field by field: the whole is too large to be moved for nothing.
        let entry = self.table.at_mut(index);
        entry.generation = entry.generation.wrapping_add(1);
        entry.open = true;
        entry.step = step;
        entry.owner = owner;
        entry.pieces = pieces;
        entry.tag = tag;
        let generation = entry.generation;
        self.push(StepId { index, generation }, step);
    }

    /// Looks at an open step.
    pub(crate) fn get(&self, id: StepId) -> Option<&Open> {
        let entry = self.table.at(id.index);
        (entry.open && entry.generation == id.generation).then_some(entry)
    }

    /// Closes a step.
    pub(crate) fn close(&mut self, id: StepId) -> Option<Closed> {
        let Open { step, owner, pieces: [first, ..], tag, .. } = *self.get(id)?;
        self.table.at_mut(id.index).open = false;
        self.table.give(id.index);
        Some(Closed { step, owner, first, tag })
    }

    pub(crate) fn strays(&self) -> u32 {
        self.table.strays
    }

    /// Steps that are open.
    pub(crate) fn opened(&self) -> u32 {
        self.table.len().saturating_sub(self.table.left())
    }
}
