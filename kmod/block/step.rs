// SPDX-License-Identifier: GPL-2.0-only

//! The core's steps as bios: their memory page by page, their ends counted, possibly in an
//! interrupt, and the ended steps left for the worker on a stack without a lock.

use core::{
    mem::offset_of,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    container_of,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        rcu,
        ArcBorrow, //
    }, //
};

use super::{
    bdev::Lower,
    bio::{
        BioSet,
        Cursor, //
    },
    memory::Memory, //
};
use crate::{
    ffi,
    pool::Pool, //
};

/// No step.
const NONE: u32 = u32::MAX;

/// Segments of one bio at most, and at least: those lie in the bio itself.
const SEGMENTS: u16 = 256;
const SEGMENTS_INSIDE: u16 = 4;

/// Bytes of one discard or of zeros without data at most.
const EMPTY_MAX: u64 = 1 << 30;

/// A step under way, as its bios see it.
struct Cell {
    /// Bios that have not ended, and one more until all are submitted.
    left: Atomic<u32>,
    /// The first error, as an errno without its sign.
    error: Atomic<u32>,
    /// The next on the stack of ended steps.
    next: Atomic<u32>,
}

/// All steps that can be under way, by the core's index.
pub(crate) struct Cells {
    cells: KVVec<Cell>,
    ended: Atomic<u32>,
}

impl Cells {
    /// For so many.
    pub(crate) fn new(count: usize) -> Result<Self> {
        let mut cells = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            let cell = Cell {
                left: Atomic::new(0),
                error: Atomic::new(0),
                next: Atomic::new(NONE),
            };
            cells.push(cell, GFP_KERNEL)?;
        }
        Ok(Self {
            cells,
            ended: Atomic::new(NONE),
        })
    }

    fn cell(&self, index: u32) -> Option<&Cell> {
        self.cells.get(index as usize)
    }

    /// Whether steps have ended.
    pub(crate) fn any(&self) -> bool {
        self.ended.load(Relaxed) != NONE
    }

    /// Takes the ended steps: the first; `next` gives those behind it.
    pub(crate) fn take(&self) -> Option<u32> {
        let first = self.ended.xchg(NONE, Acquire);
        (first != NONE).then_some(first)
    }

    /// The step that stood behind this one on the stack, and this one's error, if any.
    pub(crate) fn next(&self, index: u32) -> (Option<u32>, Option<Error>) {
        let Some(cell) = self.cell(index) else {
            return (None, None);
        };
        let (next, error) = (cell.next.load(Relaxed), cell.error.load(Relaxed));
        let error = (error != 0).then(|| Error::from_errno(error.cast_signed().wrapping_neg()));
        ((next != NONE).then_some(next), error)
    }

    fn begin(&self, index: u32) {
        if let Some(cell) = self.cell(index) {
            cell.error.store(0, Relaxed);
            cell.left.store(1, Relaxed);
        }
    }

    fn add(&self, index: u32) {
        if let Some(cell) = self.cell(index) {
            let _ = cell.left.fetch_add(1, Relaxed);
        }
    }

    /// One of its bios has ended, or all are submitted; true if that was the last.
    fn end(&self, index: u32, error: u32) -> bool {
        let Some(cell) = self.cell(index) else {
            return false;
        };
        if error != 0 {
            let _ = cell.error.cmpxchg(0, error, Relaxed);
        }
        if cell.left.fetch_sub(1, Full) != 1 {
            return false;
        }
        let mut head = self.ended.load(Relaxed);
        loop {
            cell.next.store(head, Relaxed);
            match self.ended.cmpxchg(head, index, Release) {
                Ok(_) => return true,
                Err(other) => head = other,
            }
        }
    }
}

/// What stands in front of a step's bio.
#[repr(C)]
struct Tag {
    pool: *const Pool,
    index: u32,
    bio: bindings::bio,
}

/// The set that a pool's steps take their bios from.
pub(crate) fn set() -> impl PinInit<BioSet, Error> {
    BioSet::new(offset_of!(Tag, bio), true)
}

/// What a step does.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// Read.
    Read,
    /// Write.
    Write {
        /// Durable when done.
        fua: bool,
    },
    /// Flush.
    Flush,
    /// Zeros without data.
    Zeroes,
    /// Discard.
    Discard,
}

impl Kind {
    fn flags(self) -> u32 {
        let durable = |fua: bool| if fua { ffi::REQ_FUA } else { 0 };
        match self {
            Self::Read => bindings::req_op_REQ_OP_READ,
            Self::Write { fua } => bindings::req_op_REQ_OP_WRITE | ffi::REQ_SYNC | durable(fua),
            Self::Flush => bindings::req_op_REQ_OP_WRITE | ffi::REQ_SYNC | ffi::REQ_PREFLUSH,
            Self::Zeroes => bindings::req_op_REQ_OP_WRITE_ZEROES | ffi::REQ_NOUNMAP,
            Self::Discard => bindings::req_op_REQ_OP_DISCARD,
        }
    }
}

/// Makes and submits the bios of one step. Each is submitted before the next is made, so that the
/// set's reserve is enough however little memory there is.
pub(crate) struct Builder<'a> {
    pool: ArcBorrow<'a, Pool>,
    lower: &'a Lower,
    index: u32,
    kind: Kind,
    at: u64,
    /// Segments that a bio is made for.
    segments: u16,
    /// The bio that is being filled; ours until it is submitted.
    bio: Option<NonNull<bindings::bio>>,
    /// An errno without its sign.
    error: u32,
}

impl<'a> Builder<'a> {
    /// For the step `index`, from byte `at` of `lower` on; some `len` bytes of memory are to come.
    pub(crate) fn new(
        pool: ArcBorrow<'a, Pool>,
        lower: &'a Lower,
        index: u32,
        kind: Kind,
        (at, len): (u64, u64),
    ) -> Self {
        pool.cells.begin(index);
        let pages = len
            .div_ceil(kernel::page::PAGE_SIZE as u64)
            .saturating_add(1);
        let segments = match kind {
            Kind::Read | Kind::Write { .. } => u16::try_from(pages)
                .unwrap_or(SEGMENTS)
                .clamp(SEGMENTS_INSIDE, SEGMENTS),
            Kind::Flush | Kind::Zeroes | Kind::Discard => 0,
        };
        Self {
            pool,
            lower,
            index,
            kind,
            at,
            segments,
            bio: None,
            error: 0,
        }
    }

    fn open(&mut self) -> Option<NonNull<bindings::bio>> {
        if self.bio.is_some() {
            return self.bio;
        }
        // SAFETY: the device is open, the set was initialized. With `GFP_NOIO` a set waits for
        // memory instead of failing.
        let bio = unsafe {
            bindings::bio_alloc_bioset(
                self.lower.raw(),
                self.segments,
                self.kind.flags(),
                ffi::gfp_noio(),
                self.pool.set.raw(),
            )
        };
        let Some(bio) = NonNull::new(bio) else {
            self.error = ENOMEM.to_errno().unsigned_abs();
            return None;
        };
        let bio_ptr = bio.as_ptr();
        // SAFETY: the bio is ours, and stands in a `Tag`, as `set` asked for.
        unsafe {
            let tag = container_of!(bio_ptr, Tag, bio);
            (*tag).pool = &*self.pool;
            (*tag).index = self.index;
            (*bio_ptr).bi_iter.bi_sector = self.at >> 9;
            (*bio_ptr).bi_end_io = Some(ended);
        }
        self.bio = Some(bio);
        self.bio
    }

    fn submit(&mut self) {
        let Some(bio) = self.bio.take() else { return };
        self.pool.cells.add(self.index);
        // SAFETY: it is complete, and given up here.
        unsafe { bindings::submit_bio_noacct(bio.as_ptr()) };
    }

    fn add(&mut self, page: *mut bindings::page, len: u32, offset: u32) {
        // The first try fails if the bio is full; an empty one takes any page.
        for _ in 0..2 {
            let Some(bio) = self.open() else { return };
            // SAFETY: the bio is ours; the page is memory of a client's bio, or the pool's.
            let added = unsafe { bindings::bio_add_page(bio.as_ptr(), page, len, offset) };
            if added.cast_unsigned() == len {
                self.at = self.at.wrapping_add(u64::from(len));
                return;
            }
            self.submit();
        }
        self.error = EIO.to_errno().unsigned_abs();
    }

    /// Adds a client's memory.
    pub(crate) fn client(&mut self, cursor: Cursor<'_>) {
        for piece in cursor {
            let (page, len, offset) = piece.parts();
            self.add(page, len, offset);
        }
    }

    /// Adds memory of the pool's.
    pub(crate) fn memory(&mut self, memory: &Memory, at: usize, len: u32) {
        let (mut at, mut left) = (at, len);
        while left > 0 {
            let Some((page, offset)) = memory.page(at) else {
                return;
            };
            let piece = left.min(kernel::page::PAGE_SIZE.saturating_sub(offset) as u32);
            self.add(page, piece, offset as u32);
            at = at.saturating_add(piece as usize);
            left = left.saturating_sub(piece);
        }
    }

    /// Adds zeros.
    pub(crate) fn zeros(&mut self, len: u64) {
        let mut left = len;
        while left > 0 {
            let piece = left.min(kernel::page::PAGE_SIZE as u64) as u32;
            self.add(ffi::zero_page(), piece, 0);
            left = left.saturating_sub(piece.into());
        }
    }

    /// Covers so many bytes without data: a discard, or zeros.
    pub(crate) fn range(&mut self, len: u64) {
        let mut left = len;
        while left > 0 {
            let piece = left.min(EMPTY_MAX);
            let Some(bio) = self.open() else { return };
            // SAFETY: the bio is ours.
            unsafe { (*bio.as_ptr()).bi_iter.bi_size = piece as u32 };
            self.submit();
            self.at = self.at.wrapping_add(piece);
            left = left.saturating_sub(piece);
        }
    }

    /// A flush has a bio, but no data.
    pub(crate) fn flush(&mut self) {
        let _ = self.open();
    }

    /// All is said: the step ends when its last bio has ended. It has failed if what was added does
    /// not reach to byte `end`.
    pub(crate) fn finish(mut self, end: u64) {
        self.submit();
        if self.at != end && self.error == 0 {
            self.error = EIO.to_errno().unsigned_abs();
        }
        self.pool.step_bio_ended(self.index, self.error);
    }
}

impl Pool {
    /// A step for which there is no device ends at once.
    pub(crate) fn fail_step(self: ArcBorrow<'_, Self>, index: u32) {
        self.cells.begin(index);
        self.step_bio_ended(index, EIO.to_errno().unsigned_abs());
    }

    /// A bio of this step has ended; the worker is told if it was the last.
    fn step_bio_ended(self: ArcBorrow<'_, Self>, index: u32, error: u32) {
        if self.cells.end(index, error) {
            self.kick();
        }
    }
}

/// A step's bio has ended.
///
/// # Safety
///
/// The block layer calls it with a bio that `Builder::open` made.
unsafe extern "C" fn ended(bio: *mut bindings::bio) {
    // Who lets a pool go waits for this section: the pool is there until its end.
    let _reader = rcu::read_lock();
    // SAFETY: it stands in a `Tag`, and is ours again.
    let (pool, index, error) = unsafe {
        let tag = container_of!(bio, Tag, bio);
        (
            (*tag).pool,
            (*tag).index,
            bindings::blk_status_to_errno((*bio).bi_status).wrapping_neg(),
        )
    };
    // SAFETY: as above; nobody uses it any more.
    unsafe { bindings::bio_put(bio) };
    // SAFETY: the pool waits for its steps, and this one has not ended; it lies in an `Arc`.
    let pool = unsafe { ArcBorrow::from_raw(pool) };
    pool.step_bio_ended(index, error.cast_unsigned());
}
