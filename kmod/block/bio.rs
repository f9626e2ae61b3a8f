// SPDX-License-Identifier: GPL-2.0-only

//! Bios that clients have submitted, lists of them, and the sets that our own come from.
//!
//! C header: [`include/linux/bio.h`](srctree/include/linux/bio.h)

use core::{
    mem::ManuallyDrop,
    ptr::{
        self,
        NonNull, //
    }, //
};

use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        ArcBorrow, //
    },
    types::Opaque, //
};
use rwsnap_core::fault::Fault;

use super::disk::Disk;
use crate::ffi;

/// A bio that a client has submitted and that is ours to end.
///
/// # Invariants
///
/// It was submitted to a disk of ours, and neither ended nor handed on.
pub(crate) struct Bio(NonNull<bindings::bio>);

// SAFETY: whoever owns a bio may end it, from any context.
unsafe impl Send for Bio {}

impl Bio {
    /// Takes a bio over.
    ///
    /// # Safety
    ///
    /// It was submitted to a disk of ours, and the caller gives it up.
    pub(crate) unsafe fn from_raw(bio: NonNull<bindings::bio>) -> Self {
        // INVARIANT: by the caller.
        Self(bio)
    }

    /// Gives it up.
    pub(crate) fn into_raw(self) -> NonNull<bindings::bio> {
        ManuallyDrop::new(self).0
    }

    /// The bio itself.
    pub(crate) fn raw(&self) -> *mut bindings::bio {
        self.0.as_ptr()
    }

    fn flags(&self) -> u32 {
        // SAFETY: by the type invariant.
        unsafe { (*self.raw()).bi_opf }
    }

    /// `REQ_OP_*`.
    pub(crate) fn op(&self) -> u32 {
        self.flags() & ffi::req_op_mask()
    }

    /// A flush comes before its data.
    pub(crate) fn preflush(&self) -> bool {
        self.flags() & ffi::REQ_PREFLUSH != 0
    }

    /// Its data is to be durable when it ends.
    pub(crate) fn fua(&self) -> bool {
        self.flags() & ffi::REQ_FUA != 0
    }

    /// Who submits it must not be made to wait.
    pub(crate) fn nowait(&self) -> bool {
        self.flags() & ffi::REQ_NOWAIT != 0
    }

    /// Where its data is, for [`Cursor`]: the part that is not yet done.
    pub(crate) fn iter(&self) -> bindings::bvec_iter {
        // SAFETY: by the type invariant; the field is copied, never borrowed.
        unsafe { (*self.raw()).bi_iter }
    }

    /// First byte on its disk.
    pub(crate) fn at(&self) -> u64 {
        let iter = self.iter();
        { iter.bi_sector }.wrapping_mul(512)
    }

    /// Bytes.
    pub(crate) fn len(&self) -> u32 {
        let iter = self.iter();
        iter.bi_size
    }

    /// The disk that it was submitted to.
    pub(crate) fn disk(&self) -> ArcBorrow<'_, Disk> {
        // SAFETY: by the type invariant the disk is ours, and `private_data` of those is a disk's
        // `Arc`, which outlives the bios that were submitted to it.
        unsafe {
            let disk = (*(*self.raw()).bi_bdev).bd_disk;
            ArcBorrow::from_raw((*disk).private_data.cast::<Disk>().cast_const())
        }
    }

    /// It counts as begun.
    pub(crate) fn start_accounting(&self) -> c_ulong {
        // SAFETY: by the type invariant.
        unsafe { bindings::bio_start_io_acct(self.raw()) }
    }

    /// Ends it: who submitted it would have to wait, and tries again where it may.
    pub(crate) fn end_again(self, started: c_ulong) {
        self.end_with(Some(started), Some(EAGAIN));
    }

    /// Ends it; `started` is what `start_accounting` gave.
    pub(crate) fn end(self, started: Option<c_ulong>, outcome: Result<(), Fault>) {
        self.end_with(started, outcome.err().map(errno));
    }

    fn end_with(self, started: Option<c_ulong>, error: Option<Error>) {
        let bio = self.into_raw().as_ptr();
        // SAFETY: by the type invariant, which ends here.
        unsafe {
            if let Some(started) = started {
                bindings::bio_end_io_acct_remapped(bio, started, (*bio).bi_bdev);
            }
            if let Some(error) = error {
                (*bio).bi_status = bindings::errno_to_blk_status(error.to_errno());
            }
            bindings::bio_endio(bio);
        }
    }
}

/// What a fault is called in the kernel.
pub(crate) fn errno(fault: Fault) -> Error {
    match fault {
        Fault::NoSpace => ENOSPC,
        Fault::NoMemory => ENOMEM,
        Fault::ReadOnly => EPERM,
        // `BLK_STS_MEDIUM`.
        Fault::Lost => ENODATA,
        Fault::Range => EINVAL,
        Fault::Io | Fault::Fenced | Fault::Corrupt | Fault::Bug(_) => EIO,
    }
}

/// The data of a bio, from some byte of it on.
pub(crate) struct Cursor<'a> {
    bio: &'a Bio,
    iter: bindings::bvec_iter,
}

/// A piece of memory in one page (or in several that lie together).
pub(crate) struct Piece(bindings::bio_vec);

impl Piece {
    /// The page, the bytes, and the first of them in the page.
    pub(crate) fn parts(&self) -> (*mut bindings::page, u32, u32) {
        (self.0.bv_page, self.0.bv_len, self.0.bv_offset)
    }

    /// Fills it with zeros.
    pub(crate) fn zero(&self) {
        // SAFETY: it is a part of a bio's data, which is ours until that ends.
        unsafe { ffi::rwsnap_zero_bvec(&self.0) };
    }
}

impl<'a> Cursor<'a> {
    /// The `len` bytes from byte `at` of what `whole` (its `iter` when it came) covers.
    pub(crate) fn new(bio: &'a Bio, whole: bindings::bvec_iter, at: u32, len: u32) -> Self {
        let mut iter = whole;
        let size = iter.bi_size;
        let at = at.min(size);
        if at > 0 {
            // SAFETY: not more than there is.
            unsafe { ffi::rwsnap_advance(bio.raw(), &mut iter, at) };
        }
        iter.bi_size = len.min(size.saturating_sub(at));
        Self { bio, iter }
    }
}

impl Iterator for Cursor<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let left = self.iter.bi_size;
        if left == 0 {
            return None;
        }
        let mut piece = Piece(bindings::bio_vec::default());
        // SAFETY: the iterator is within the bio's data.
        unsafe { ffi::rwsnap_bvec(self.bio.raw(), &self.iter, &mut piece.0) };
        // SAFETY: as above; a piece is never longer than what is left.
        unsafe { ffi::rwsnap_advance(self.bio.raw(), &mut self.iter, piece.0.bv_len) };
        Some(piece)
    }
}

/// A list of bios, first in, first out, linked by `bi_next`.
#[derive(Default)]
pub(crate) struct Bios {
    ends: Option<(NonNull<bindings::bio>, NonNull<bindings::bio>)>,
}

// SAFETY: it owns its bios.
unsafe impl Send for Bios {}

impl Bios {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_none()
    }

    /// Puts one at the end.
    pub(crate) fn push(&mut self, bio: Bio) {
        let bio = bio.into_raw();
        // SAFETY: it is ours, and so is its link.
        unsafe { (*bio.as_ptr()).bi_next = ptr::null_mut() };
        self.ends = match self.ends {
            None => Some((bio, bio)),
            Some((first, last)) => {
                // SAFETY: the list owns its bios.
                unsafe { (*last.as_ptr()).bi_next = bio.as_ptr() };
                Some((first, bio))
            }
        };
    }

    /// Takes the first one.
    pub(crate) fn pop(&mut self) -> Option<Bio> {
        let (first, last) = self.ends?;
        // SAFETY: the list owns its bios.
        let next = unsafe { (*first.as_ptr()).bi_next };
        self.ends = NonNull::new(next).map(|next| (next, last));
        // SAFETY: as above.
        unsafe { (*first.as_ptr()).bi_next = ptr::null_mut() };
        // SAFETY: it was pushed as a bio of ours.
        Some(unsafe { Bio::from_raw(first) })
    }

    /// Puts all of another list at the end.
    pub(crate) fn append(&mut self, mut other: Self) {
        while let Some(bio) = other.pop() {
            self.push(bio);
        }
    }
}

/// Where clients leave bios for a worker, from any number of threads and without a lock: a stack
/// linked by `bi_next` that is only ever taken whole.
pub(crate) struct Inbox(Atomic<usize>);

impl Inbox {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    /// Leaves one.
    pub(crate) fn push(&self, bio: Bio) {
        let bio = bio.into_raw().as_ptr();
        let mut head = self.0.load(Relaxed);
        loop {
            // SAFETY: it is ours until it is on the stack.
            unsafe { (*bio).bi_next = ptr::with_exposed_provenance_mut(head) };
            match self.0.cmpxchg(head, bio.expose_provenance(), Release) {
                Ok(_) => return,
                Err(other) => head = other,
            }
        }
    }

    /// Takes all, in the order in which they came.
    pub(crate) fn take(&self) -> Bios {
        let mut next = self.0.xchg(0, Acquire);
        let mut last_first = ptr::null_mut();
        let mut bio: *mut bindings::bio = ptr::with_exposed_provenance_mut(next);
        while !bio.is_null() {
            // SAFETY: what was on the stack is ours now.
            next = unsafe { (*bio).bi_next }.expose_provenance();
            // SAFETY: as above.
            unsafe { (*bio).bi_next = last_first };
            last_first = bio;
            bio = ptr::with_exposed_provenance_mut(next);
        }
        let mut all = Bios::default();
        while let Some(bio) = NonNull::new(last_first) {
            // SAFETY: as above.
            last_first = unsafe { (*bio.as_ptr()).bi_next };
            // SAFETY: it was pushed as a bio of ours.
            all.push(unsafe { Bio::from_raw(bio) });
        }
        all
    }
}

/// A set that bios come from; the next one of a set is to be had when an earlier one is put.
#[pin_data(PinnedDrop)]
pub(crate) struct BioSet {
    #[pin]
    raw: Opaque<bindings::bio_set>,
}

// SAFETY: bio sets are made for many threads.
unsafe impl Send for BioSet {}
// SAFETY: as above.
unsafe impl Sync for BioSet {}

impl BioSet {
    /// With `pad` bytes in front of each bio, and with memory for the vectors of such bios if
    /// `vectors`.
    pub(crate) fn new(pad: usize, vectors: bool) -> impl PinInit<Self, Error> {
        let flags = if vectors {
            bindings::BIOSET_NEED_BVECS
        } else {
            0
        };
        try_pin_init!(Self {
            raw <- Opaque::try_ffi_init(move |set: *mut bindings::bio_set| {
                // SAFETY: `bioset_init` wants zeroed memory, and this is ours to write.
                unsafe { ptr::write_bytes(set, 0, 1) };
                // SAFETY: it is zeroed.
                to_result(unsafe {
                    bindings::bioset_init(set, 128, pad as c_uint, flags as c_int)
                })
            }),
        }? Error)
    }

    /// The set itself.
    pub(crate) fn raw(&self) -> *mut bindings::bio_set {
        self.raw.get()
    }
}

#[pinned_drop]
impl PinnedDrop for BioSet {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: it was initialized, and all its bios are put.
        unsafe { bindings::bioset_exit(self.raw.get()) };
    }
}
