// SPDX-License-Identifier: GPL-2.0-only

//! Lower devices: the save volume and productions, opened for this module alone.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use core::ptr;

use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*, //
};
use rwsnap_core::api::Device;

use crate::ffi;

/// A block device that is opened for this module alone.
///
/// # Invariants
///
/// `file` is an open file of a block device, and ours to put.
pub(crate) struct Lower {
    file: *mut bindings::file,
    /// Who holds the device, for the block layer: an address that nobody else has. Two with the
    /// same would both get it.
    _holder: KBox<u8>,
}

// SAFETY: a file may be used and put from any thread that may sleep.
unsafe impl Send for Lower {}
// SAFETY: what is done through `&self` may be done from several threads at once.
unsafe impl Sync for Lower {}

impl Lower {
    /// Opens the device at `path`, exclusively, to be read and written.
    ///
    /// # Errors
    ///
    /// There is none, it is no block device (`ENOTBLK`), it is in use (`EBUSY`), or it cannot be
    /// written (`EACCES`, `EROFS`), or not at any place (`EOPNOTSUPP`).
    pub(crate) fn open(path: &CStr) -> Result<Self> {
        let holder = KBox::new(0, GFP_KERNEL)?;
        // SAFETY: the path ends with a zero byte; the holder is an address of our own, as long as
        // the device is open.
        let file = from_err_ptr(unsafe {
            bindings::bdev_file_open_by_path(
                path.as_char_ptr(),
                ffi::open_own(),
                ptr::from_ref::<u8>(&holder).cast_mut().cast(),
                ptr::null(),
            )
        })?;
        // INVARIANT: it was opened just now.
        let lower = Self {
            file,
            _holder: holder,
        };
        // SAFETY: the device is open.
        if unsafe { ffi::rwsnap_bdev_read_only(lower.raw()) } {
            return Err(EROFS);
        }
        // SAFETY: as above.
        if unsafe { ffi::rwsnap_bdev_zoned(lower.raw()) } {
            return Err(EOPNOTSUPP);
        }
        Ok(lower)
    }

    /// The device. It may be used as long as `self` lives.
    pub(crate) fn raw(&self) -> *mut bindings::block_device {
        // SAFETY: by the type invariant.
        unsafe { bindings::file_bdev(self.file) }
    }

    /// How the core sees it.
    pub(crate) fn device(&self) -> Device {
        let bdev = self.raw();
        // SAFETY: the device is open, here and in the next three.
        let size = unsafe { ffi::rwsnap_bdev_bytes(bdev) };
        // SAFETY: as above.
        let block = unsafe { ffi::rwsnap_bdev_block(bdev) };
        // SAFETY: as above.
        let volatile = unsafe { ffi::rwsnap_bdev_write_cache(bdev) };
        // SAFETY: as above.
        let fua = unsafe { ffi::rwsnap_bdev_fua(bdev) };
        Device {
            size,
            block,
            volatile,
            fua,
        }
    }

    /// Whether it takes discards.
    pub(crate) fn discards(&self) -> bool {
        // SAFETY: the device is open.
        unsafe { ffi::rwsnap_bdev_discard_sectors(self.raw()) != 0 }
    }

    /// Whether it writes zeros by itself.
    pub(crate) fn zeroes(&self) -> bool {
        // SAFETY: the device is open.
        unsafe { ffi::rwsnap_bdev_zero_sectors(self.raw()) != 0 }
    }

    /// Major and minor.
    pub(crate) fn number(&self) -> [u32; 2] {
        // SAFETY: the device is open.
        let dev = unsafe { (*self.raw()).bd_dev };
        // `MAJOR` and `MINOR` of the kernel's own `dev_t`: 12 and 20 bits.
        [dev >> 20, dev & 0xF_FFFF]
    }

    /// Reads, and waits for it; `at` and the length are multiples of its block.
    ///
    /// # Errors
    ///
    /// The device's.
    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) -> Result {
        // SAFETY: the device is open, and the bytes can be written, all of them. They come from
        // `kmalloc` or `vmalloc`, which is what `bdev_rw_virt` takes.
        to_result(unsafe {
            bindings::bdev_rw_virt(
                self.raw(),
                at >> 9,
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                bindings::req_op_REQ_OP_READ,
            )
        })
    }

    /// Flushes, and waits for it.
    ///
    /// # Errors
    ///
    /// The device's.
    pub(crate) fn flush(&self) -> Result {
        // SAFETY: the device is open.
        to_result(unsafe { bindings::blkdev_issue_flush(self.raw()) })
    }
}

impl Drop for Lower {
    fn drop(&mut self) {
        // SAFETY: by the type invariant; nobody uses it any more.
        unsafe { bindings::bdev_fput(self.file) };
    }
}
