// SPDX-License-Identifier: GPL-2.0-only

//! `struct gendisk`: making, showing and removing a disk, and the calls that come from it.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use core::ptr::{
    self,
    NonNull, //
};

use kernel::{
    bindings,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    module::this_module,
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full, //
        },
        Arc,
        ArcBorrow, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use rwsnap_core::control::rows::KIND_SNAPSHOT;

use super::{
    bdev::Lower,
    bio::Bio,
    disk::Disk,
    hot,
    sysfs, //
};
use crate::{
    ffi,
    numbers::Number, //
};

/// Sectors of one discard or write of zeros at most: the worker cuts them, but a bio's length is
/// 32 bits wide.
const RANGE_SECTORS: c_uint = 1 << 21;

/// Disks that were added and are not freed yet: somebody may hold a removed one for a while, and
/// the block layer calls `free_disk` then.
static ADDED: Atomic<u64> = Atomic::new(0);

/// Waits until all disks are freed: the module can go then.
pub(crate) fn wait_for_all() {
    while ADDED.load(Acquire) != 0 {
        fsleep(Delta::from_millis(1));
    }
}

/// A disk that is shown.
///
/// # Invariants
///
/// `raw` was added; its `private_data` is a `Disk`'s `Arc`, which `free_disk` drops. sysfs says
/// that it lies on the devices of `below`.
pub(crate) struct GenDisk {
    raw: NonNull<bindings::gendisk>,
    number: Number,
    below: KVec<Arc<Lower>>,
}

// SAFETY: what is done with it may be done from any thread.
unsafe impl Send for GenDisk {}

/// What queues of a disk must respect.
pub(crate) struct Limits<'a> {
    /// Logical block, in bytes.
    pub(crate) block: u32,
    /// Bytes in a chunk.
    pub(crate) chunk: u32,
    /// The devices it lies on.
    pub(crate) lowers: &'a [Arc<Lower>],
}

impl Limits<'_> {
    fn stacked(&self) -> bindings::queue_limits {
        let mut limits = bindings::queue_limits::default();
        // SAFETY: it is ours to initialize.
        unsafe { bindings::blk_set_stacking_limits(&mut limits) };
        limits.logical_block_size = self.block;
        limits.physical_block_size = self.block;
        limits.io_min = self.block;
        // Taken away again where a lower device has it not.
        limits.features |= ffi::feature_nowait();
        for lower in self.lowers {
            // SAFETY: the device is open.
            unsafe {
                bindings::queue_limits_stack_bdev(
                    &mut limits,
                    lower.raw(),
                    0,
                    c"rwsnap".as_char_ptr(),
                );
            }
        }
        // The lower devices split what they get. What they lack of these the worker makes up for.
        limits.features |= ffi::features();
        limits.max_hw_discard_sectors = RANGE_SECTORS;
        limits.max_write_zeroes_sectors = RANGE_SECTORS;
        limits.max_hw_wzeroes_unmap_sectors = 0;
        limits.max_wzeroes_unmap_sectors = 0;
        limits.max_secure_erase_sectors = 0;
        limits.discard_granularity = self.chunk;
        limits.discard_alignment = 0;
        limits.io_opt = limits.io_opt.max(self.chunk);
        limits
    }
}

impl GenDisk {
    /// Shows a disk as `/dev/rwsnapN`. From here on it may be opened.
    ///
    /// # Errors
    ///
    /// No memory, or no number is left.
    #[inline(never)]
    pub(crate) fn add(disk: &Arc<Disk>, limits: &Limits<'_>) -> Result {
        let number = Number::take()?;
        let mut stacked = limits.stacked();
        // SAFETY: the limits are complete; the class lives for ever.
        let raw = from_err_ptr(unsafe {
            bindings::__blk_alloc_disk(
                &mut stacked,
                bindings::NUMA_NO_NODE,
                static_lock_class!().as_ptr(),
            )
        })?;
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        let face = disk.face();
        let name = number.name();
        // SAFETY: the disk is ours alone until it is added.
        unsafe {
            let raw = raw.as_ptr();
            for (to, from) in (*raw).disk_name.iter_mut().zip(name) {
                *to = from as c_char;
            }
            (*raw).fops = &raw const OPERATIONS.0;
            (*raw).private_data = Arc::into_raw(disk.clone()).cast_mut().cast();
            if face.kind == KIND_SNAPSHOT {
                (*raw).flags |= bindings::GENHD_FL_NO_PART as c_int;
                bindings::set_disk_ro(raw, true);
            }
            bindings::set_capacity(raw, face.size >> 9);
        }
        // It is looked at for partitions as soon as it is added: it has to be findable by then.
        // SAFETY: it is complete.
        let added = to_result(unsafe {
            bindings::device_add_disk(ptr::null_mut(), raw.as_ptr(), sysfs::groups())
        });
        if let Err(error) = added {
            // SAFETY: it was not added, and so `free_disk` is not called for it.
            unsafe {
                let data = (*raw.as_ptr()).private_data.cast::<Disk>().cast_const();
                bindings::put_disk(raw.as_ptr());
                drop(Arc::from_raw(data));
            }
            return Err(error);
        }
        let _ = ADDED.fetch_add(1, Full);
        // INVARIANT: it was added just now.
        *disk.gendisk.lock() = Some(Self {
            raw,
            number,
            below: KVec::new(),
        });
        Ok(())
    }

    /// The disk itself.
    pub(crate) fn raw(&self) -> *mut bindings::gendisk {
        self.raw.as_ptr()
    }

    /// The whole disk as a block device.
    pub(crate) fn part0(&self) -> *mut bindings::block_device {
        // SAFETY: by the type invariant.
        unsafe { (*self.raw()).part0 }
    }

    /// Major and minor.
    pub(crate) fn device_number(&self) -> [u32; 2] {
        // SAFETY: by the type invariant.
        let dev = unsafe { (*self.part0()).bd_dev };
        [dev >> 20, dev & 0xF_FFFF]
    }

    /// Its name in `/dev`.
    pub(crate) fn name(&self) -> [u8; 32] {
        self.number.name()
    }

    /// It has another size; users are told.
    pub(crate) fn resize(&self, bytes: u64) {
        // SAFETY: by the type invariant.
        unsafe { bindings::set_capacity_and_notify(self.raw(), bytes >> 9) };
    }

    /// Tells udev that something about it has changed.
    pub(crate) fn announce(&self) {
        // SAFETY: by the type invariant.
        let sent = unsafe {
            let object = &raw mut (*self.part0()).bd_device.kobj;
            bindings::kobject_uevent_env(
                object,
                bindings::kobject_action_KOBJ_CHANGE,
                ptr::null_mut(),
            )
        };
        if sent != 0 {
            pr_warn!("no event for a device could be sent: {sent}\n");
        }
    }

    /// From now on sysfs says that it lies on these devices, as far as it can be said. Gives those
    /// that it said so of before.
    pub(crate) fn lie_on(&mut self, mut below: KVec<Arc<Lower>>) -> KVec<Arc<Lower>> {
        let former = core::mem::replace(&mut self.below, KVec::new());
        for lower in former.iter().filter(|lower| !has(&below, lower)) {
            self.unlink(lower);
        }
        below.retain(|lower| has(&former, lower) || self.link(lower));
        // INVARIANT: the others were linked just now, or are so still.
        self.below = below;
        former
    }

    fn link(&self, lower: &Lower) -> bool {
        // SAFETY: the device is open, for us alone, and the disk was added.
        unsafe { ffi::rwsnap_link_holder(lower.raw(), self.raw()) == 0 }
    }

    fn unlink(&self, lower: &Lower) {
        // SAFETY: as in `link`; it was linked.
        unsafe { ffi::rwsnap_unlink_holder(lower.raw(), self.raw()) };
    }

    /// Takes it away.
    pub(crate) fn remove(self) {
        self.below.iter().for_each(|lower| self.unlink(lower));
        // SAFETY: by the type invariant, which ends here.
        unsafe {
            bindings::del_gendisk(self.raw());
            bindings::put_disk(self.raw());
        }
    }
}

fn has(all: &[Arc<Lower>], lower: &Arc<Lower>) -> bool {
    all.iter().any(|other| Arc::ptr_eq(other, lower))
}

/// Makes a table of calls shareable.
#[repr(transparent)]
struct AssertSync<T>(T);

// SAFETY: nobody writes to it.
unsafe impl<T> Sync for AssertSync<T> {}

static OPERATIONS: AssertSync<bindings::block_device_operations> =
    AssertSync(bindings::block_device_operations {
        submit_bio: Some(submit_bio_callback),
        open: Some(open_callback),
        release: Some(release_callback),
        free_disk: Some(free_disk_callback),
        owner: this_module::<crate::LocalModule>().as_ptr(),
        ..pin_init::zeroed()
    });

/// # Safety
///
/// `disk` is one of ours.
unsafe fn disk_of<'a>(disk: *mut bindings::gendisk) -> ArcBorrow<'a, Disk> {
    // SAFETY: by the invariant of `GenDisk`.
    unsafe { ArcBorrow::from_raw((*disk).private_data.cast::<Disk>().cast_const()) }
}

/// # Safety
///
/// The block layer calls it with a bio for a disk of ours, and gives the bio up.
unsafe extern "C" fn submit_bio_callback(bio: *mut bindings::bio) {
    let Some(bio) = NonNull::new(bio) else { return };
    // SAFETY: by the caller.
    let bio = unsafe { Bio::from_raw(bio) };
    // SAFETY: the bio keeps its disk: it is open.
    let disk = unsafe { disk_of((*(*bio.raw()).bi_bdev).bd_disk) };
    hot::submit(disk, bio);
}

/// # Safety
///
/// The block layer calls it with a disk of ours.
unsafe extern "C" fn open_callback(disk: *mut bindings::gendisk, mode: c_uint) -> c_int {
    // SAFETY: by the caller.
    let disk = unsafe { disk_of(disk) };
    from_result(|| {
        let write = mode & ffi::open_write() != 0 && disk.kind != KIND_SNAPSHOT;
        disk.open(write).map(|()| 0)
    })
}

/// # Safety
///
/// The block layer calls it with a disk of ours that was opened.
unsafe extern "C" fn release_callback(disk: *mut bindings::gendisk) {
    // SAFETY: by the caller.
    unsafe { disk_of(disk) }.close();
}

/// # Safety
///
/// The block layer calls it when the last reference to a disk of ours is gone.
unsafe extern "C" fn free_disk_callback(disk: *mut bindings::gendisk) {
    // SAFETY: `add` put it there.
    drop(unsafe { Arc::from_raw((*disk).private_data.cast::<Disk>().cast_const()) });
    let _ = ADDED.fetch_sub(1, Full);
}
