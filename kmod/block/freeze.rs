// SPDX-License-Identifier: GPL-2.0-only

//! Freezing the file systems on a disk and on its partitions, so that a snapshot of it is clean,
//! and forgetting what was read of them.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use core::ptr;

use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    sync::{
        rcu,
        Arc, //
    }, //
};

use super::disk::Disk;
use crate::ffi;

/// A device whose file system is frozen, if it has one; thawed when dropped.
///
/// # Invariants
///
/// `file` is an open block device, ours to put, and frozen by us once.
pub(crate) struct Frozen {
    file: *mut bindings::file,
}

// SAFETY: a file may be used and put from any thread that may sleep.
unsafe impl Send for Frozen {}

impl Frozen {
    fn new(dev: bindings::dev_t) -> Result<Self> {
        // SAFETY: nobody's holder; the device may be gone, which is an error.
        let file = from_err_ptr(unsafe {
            bindings::bdev_file_open_by_dev(dev, ffi::open_read(), ptr::null_mut(), ptr::null())
        })?;
        // SAFETY: it was opened just now.
        let frozen = to_result(unsafe { bindings::bdev_freeze(bindings::file_bdev(file)) });
        if let Err(error) = frozen {
            // SAFETY: it is ours.
            unsafe { bindings::bdev_fput(file) };
            return Err(error);
        }
        // INVARIANT: opened and frozen just now.
        Ok(Self { file })
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: by the type invariant, which ends here.
        unsafe {
            let thawed = bindings::bdev_thaw(bindings::file_bdev(self.file));
            if thawed != 0 {
                pr_warn!("a file system could not be thawed: {thawed}\n");
            }
            bindings::bdev_fput(self.file);
        }
    }
}

/// Freezes what lies on the disk and its partitions, for as long as the result lives. A disk that
/// nobody has open has nothing to be frozen. Not to be called with a lock of ours.
///
/// # Errors
///
/// A file system cannot be frozen.
pub(crate) fn freeze(disk: &Arc<Disk>, frozen: &mut KVec<Frozen>) -> Result {
    if disk.open_count() == 0 {
        return Ok(());
    }
    for dev in devices(disk)? {
        frozen.push(Frozen::new(dev)?, GFP_KERNEL)?;
    }
    Ok(())
}

/// What the disk holds has changed under its readers: pages that were read of it and of its
/// partitions are forgotten. Not to be called with a lock of ours.
///
/// # Errors
///
/// No memory.
pub(crate) fn forget_pages(disk: &Disk) -> Result {
    if disk.open_count() == 0 {
        return Ok(());
    }
    for dev in devices(disk)? {
        // SAFETY: nobody's holder; the device may be gone, which is an error.
        let opened = from_err_ptr(unsafe {
            bindings::bdev_file_open_by_dev(dev, ffi::open_read(), ptr::null_mut(), ptr::null())
        });
        let Ok(file) = opened else { continue };
        // SAFETY: it was opened just now, and is ours.
        unsafe {
            bindings::invalidate_bdev(bindings::file_bdev(file));
            bindings::bdev_fput(file);
        }
    }
    Ok(())
}

/// The disk and its partitions.
fn devices(disk: &Disk) -> Result<KVec<bindings::dev_t>> {
    let mut devices = KVec::with_capacity(256, GFP_KERNEL)?;
    let gendisk = disk.gendisk.lock();
    let Some(gendisk) = gendisk.as_ref() else {
        return Ok(devices);
    };
    let _reader = rcu::read_lock();
    let mut index = 0;
    loop {
        // SAFETY: the disk is shown; entries are there until the section ends.
        let dev = unsafe {
            let table = &raw mut (*gendisk.raw()).part_tbl;
            let part = bindings::xa_find(table, &mut index, c_ulong::MAX, bindings::XA_PRESENT);
            if part.is_null() {
                break;
            }
            (*part.cast::<bindings::block_device>()).bd_dev
        };
        if devices.push_within_capacity(dev).is_err() {
            break;
        }
        index = index.saturating_add(1);
    }
    Ok(devices)
}
