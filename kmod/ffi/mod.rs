// SPDX-License-Identifier: GPL-2.0-only

//! What `kernel::bindings` does not have: the functions and constants of `shim.c`, and `xxh64`.
//!
//! The block layer's structures are passed as raw pointers; the files in `block/` see to it that
//! they are what they must be.

#![expect(improper_ctypes, reason = "the structures of `bindings` are C's own")]

use core::marker::PhantomData;

use kernel::{
    bindings,
    prelude::*,
    sync::atomic::Atomic, //
};

extern "C" {
    static rwsnap_gfp_noio: c_uint;
    static rwsnap_gfp_nowait: c_uint;
    static rwsnap_open_own: c_uint;
    static rwsnap_open_read: c_uint;
    static rwsnap_open_write: c_uint;
    static rwsnap_features: c_uint;
    static rwsnap_feature_nowait: c_uint;
    static rwsnap_req_op_mask: c_uint;

    fn rwsnap_noio_save() -> c_uint;
    fn rwsnap_noio_restore(flags: c_uint);
    fn rwsnap_cond_resched();
    fn rwsnap_zero_page() -> *mut bindings::page;

    #[link_name = "xxh64"]
    fn kernel_xxh64(input: *const c_void, len: usize, seed: u64) -> u64;

    pub(crate) fn rwsnap_bvec(
        bio: *const bindings::bio,
        iter: *const bindings::bvec_iter,
        bvec: *mut bindings::bio_vec,
    );
    pub(crate) fn rwsnap_advance(
        bio: *const bindings::bio,
        iter: *mut bindings::bvec_iter,
        bytes: c_uint,
    );
    pub(crate) fn rwsnap_zero_bvec(bvec: *const bindings::bio_vec);

    pub(crate) fn rwsnap_bdev_write_cache(bdev: *mut bindings::block_device) -> bool;
    pub(crate) fn rwsnap_bdev_fua(bdev: *mut bindings::block_device) -> bool;
    pub(crate) fn rwsnap_bdev_bytes(bdev: *mut bindings::block_device) -> u64;
    pub(crate) fn rwsnap_bdev_block(bdev: *mut bindings::block_device) -> c_uint;
    pub(crate) fn rwsnap_bdev_discard_sectors(bdev: *mut bindings::block_device) -> c_uint;
    pub(crate) fn rwsnap_bdev_zero_sectors(bdev: *mut bindings::block_device) -> c_uint;
    pub(crate) fn rwsnap_bdev_read_only(bdev: *mut bindings::block_device) -> bool;
    pub(crate) fn rwsnap_bdev_zoned(bdev: *mut bindings::block_device) -> bool;

    pub(crate) fn rwsnap_link_holder(
        bdev: *mut bindings::block_device,
        disk: *mut bindings::gendisk,
    ) -> c_int;
    pub(crate) fn rwsnap_unlink_holder(
        bdev: *mut bindings::block_device,
        disk: *mut bindings::gendisk,
    );

    pub(crate) fn rwsnap_ref_tryget_live(reference: *mut bindings::percpu_ref) -> bool;
    pub(crate) fn rwsnap_ref_put(reference: *mut bindings::percpu_ref);
}

/// Constants of C that are macros with casts there.
macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident = $symbol:ident;)*) => {
        $(
            $(#[$doc])*
            pub(crate) fn $name() -> u32 {
                // SAFETY: a constant of `shim.c` that nobody writes to.
                unsafe { $symbol }
            }
        )*
    };
}

constants! {
    /// `GFP_NOIO`.
    gfp_noio = rwsnap_gfp_noio;
    /// `GFP_NOWAIT | __GFP_NOWARN`.
    gfp_nowait = rwsnap_gfp_nowait;
    /// `BLK_OPEN_READ | BLK_OPEN_WRITE`.
    open_own = rwsnap_open_own;
    /// `BLK_OPEN_READ`.
    open_read = rwsnap_open_read;
    /// `BLK_OPEN_WRITE`.
    open_write = rwsnap_open_write;
    /// `BLK_FEAT_WRITE_CACHE | BLK_FEAT_FUA | BLK_FEAT_IO_STAT`.
    features = rwsnap_features;
    /// `BLK_FEAT_NOWAIT`.
    feature_nowait = rwsnap_feature_nowait;
    /// `REQ_OP_MASK`.
    req_op_mask = rwsnap_req_op_mask;
}

/// `REQ_FUA`.
pub(crate) const REQ_FUA: u32 = 1 << bindings::req_flag_bits___REQ_FUA;
/// `REQ_PREFLUSH`.
pub(crate) const REQ_PREFLUSH: u32 = 1 << bindings::req_flag_bits___REQ_PREFLUSH;
/// `REQ_NOWAIT`.
pub(crate) const REQ_NOWAIT: u32 = 1 << bindings::req_flag_bits___REQ_NOWAIT;
/// `REQ_SYNC`.
pub(crate) const REQ_SYNC: u32 = 1 << bindings::req_flag_bits___REQ_SYNC;
/// `REQ_NOUNMAP`: zeros without giving up space.
pub(crate) const REQ_NOUNMAP: u32 = 1 << bindings::req_flag_bits___REQ_NOUNMAP;

/// XXH64 of the bytes.
pub(crate) fn xxh64(bytes: &[u8], seed: u64) -> u64 {
    // SAFETY: the bytes can be read, all of them.
    unsafe { kernel_xxh64(bytes.as_ptr().cast(), bytes.len(), seed) }
}

/// Sets bits, fully ordered; gives the value before. `Atomic` has no such operation yet.
pub(crate) fn fetch_or(atom: &Atomic<u64>, bits: u64) -> u64 {
    // SAFETY: an `Atomic<u64>` is an `atomic64_t`.
    let before = unsafe { bindings::atomic64_fetch_or(bits.cast_signed(), atom.as_ptr().cast()) };
    before.cast_unsigned()
}

/// Clears bits, fully ordered; gives the value before.
pub(crate) fn fetch_andnot(atom: &Atomic<u64>, bits: u64) -> u64 {
    // SAFETY: an `Atomic<u64>` is an `atomic64_t`.
    let before =
        unsafe { bindings::atomic64_fetch_andnot(bits.cast_signed(), atom.as_ptr().cast()) };
    before.cast_unsigned()
}

/// Gives other tasks a turn.
pub(crate) fn cond_resched() {
    // SAFETY: called where it may sleep.
    unsafe { rwsnap_cond_resched() }
}

/// The page of zeros.
pub(crate) fn zero_page() -> *mut bindings::page {
    // SAFETY: it is always there.
    unsafe { rwsnap_zero_page() }
}

/// As long as it lives, this task's allocations do no I/O.
pub(crate) struct NoIo(c_uint, PhantomData<*mut ()>);

impl NoIo {
    /// From now on.
    pub(crate) fn enter() -> Self {
        // SAFETY: paired with the restore in `drop`, in the same task: `Self` is not `Send`.
        Self(unsafe { rwsnap_noio_save() }, PhantomData)
    }
}

impl Drop for NoIo {
    fn drop(&mut self) {
        // SAFETY: what `enter` saved, in the same task.
        unsafe { rwsnap_noio_restore(self.0) }
    }
}
