// SPDX-License-Identifier: MIT

//! The calls that no safe interface has: sizes and blocks of devices, the alignment that
//! `O_DIRECT` asks for, and local time. All of this folder's unsafe code is here.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

/// `STATX_DIOALIGN`: the kernel's number, which not every C library's headers have.
const STATX_DIOALIGN: libc::c_uint = 0x2000;

mod ioctls {
    nix::ioctl_read!(blk_get_size64, 0x12, 114, u64);
    nix::ioctl_read_bad!(blk_ssz_get, nix::request_code_none!(0x12, 104), libc::c_int);
}

/// Bytes in a block device.
pub(super) fn device_bytes(file: &File) -> io::Result<u64> {
    let mut bytes = 0u64;
    // SAFETY: the descriptor is open, and the ioctl writes one u64 to where `bytes` lies.
    unsafe { ioctls::blk_get_size64(file.as_raw_fd(), &mut bytes) }?;
    Ok(bytes)
}

/// Bytes in a logical block of a block device.
pub(super) fn device_block(file: &File) -> io::Result<u32> {
    let mut block: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the ioctl writes one int to where `block` lies.
    unsafe { ioctls::blk_ssz_get(file.as_raw_fd(), &mut block) }?;
    u32::try_from(block).map_err(io::Error::other)
}

/// The alignment of offsets and lengths that `O_DIRECT` asks for on this file; zero if it cannot
/// be used there, `None` if the kernel does not say.
pub(super) fn direct_alignment(file: &File) -> Option<u32> {
    let mut info = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the descriptor is open, the path is an empty C string, and the kernel fills a
    // `statx` that is ours; all of its bit patterns are valid, so zeros will do if it fills less.
    let info = unsafe {
        let empty = c"".as_ptr();
        let flags = libc::AT_EMPTY_PATH;
        let place = info.as_mut_ptr();
        if libc::statx(file.as_raw_fd(), empty, flags, STATX_DIOALIGN, place) != 0 {
            return None;
        }
        info.assume_init()
    };
    (info.stx_mask & STATX_DIOALIGN != 0).then_some(info.stx_dio_offset_align)
}

/// Year, month (1-12), day, hour, minute, second of local time; `None` if there is no such time.
#[must_use]
pub fn local_time(seconds: i64) -> Option<[i32; 6]> {
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to values of ours; on success the second is filled.
    let parts = unsafe {
        if libc::localtime_r(&seconds, parts.as_mut_ptr()).is_null() {
            return None;
        }
        parts.assume_init()
    };
    let (year, month) = (parts.tm_year + 1900, parts.tm_mon + 1);
    Some([year, month, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec])
}
