// SPDX-License-Identifier: MIT

//! The calls that no safe interface has: sizes and blocks of devices, the alignment that
//! `O_DIRECT` asks for, local time, and the kernel module's ioctl. All of this folder's unsafe code
//! is here.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use rwsnap_core::control::module::{Exchange, COMMAND_MAX, EXCHANGE};
use rwsnap_core::control::{Name, MAGIC, VERSION};

/// `STATX_DIOALIGN`: the kernel's number, which not every C library's headers have.
const STATX_DIOALIGN: libc::c_uint = 0x2000;

mod ioctls {
    nix::ioctl_read!(blk_get_size64, 0x12, 114, u64);
    nix::ioctl_read_bad!(blk_ssz_get, nix::request_code_none!(0x12, 104), libc::c_int);
    nix::ioctl_readwrite!(rwsnap_exchange, b'R', 0x53, super::Exchange);
}

const _: () = assert!(
    nix::request_code_readwrite!(b'R', 0x53, size_of::<Exchange>()) as u64 == EXCHANGE as u64
);

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

/// Carries a command out by the kernel module behind its control device, on this pool; how many
/// bytes of `room` the reply takes.
pub(super) fn exchange(
    device: &File,
    pool: Name,
    command: &[u8],
    room: &mut [u8],
) -> nix::Result<usize> {
    let mut envelope = envelope(pool, command, room)?;
    // SAFETY: the descriptor is open. The module reads and writes the envelope, reads the command
    // and writes the reply where the envelope says they lie, and no longer than it says; both are
    // borrowed until it is done, and it keeps nothing. No other device takes this request: the
    // letter, the number and the size of the envelope are in it.
    unsafe { ioctls::rwsnap_exchange(device.as_raw_fd(), &mut envelope) }?;
    let bytes = usize::try_from(envelope.reply_bytes.get()).unwrap_or(usize::MAX);
    if bytes > room.len() {
        return Err(Errno::EPROTO);
    }
    Ok(bytes)
}

/// The envelope around a command and the room for its reply.
fn envelope(pool: Name, command: &[u8], room: &mut [u8]) -> nix::Result<Exchange> {
    let bytes = |len: usize| u32::try_from(len).map_err(|_| Errno::E2BIG);
    if command.len() > COMMAND_MAX {
        return Err(Errno::E2BIG);
    }
    Ok(Exchange {
        magic: MAGIC.into(),
        version: VERSION.into(),
        flags: 0.into(),
        pool,
        command: (command.as_ptr().expose_provenance() as u64).into(),
        command_bytes: bytes(command.len())?.into(),
        reply_room: bytes(room.len())?.into(),
        reply: (room.as_mut_ptr().expose_provenance() as u64).into(),
        reply_bytes: 0.into(),
        reserved: [0; 28],
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    #[test]
    fn an_envelope_is_laid_out_as_the_module_reads_it() {
        let (command, mut room) = ([7_u8; 392], [0_u8; 1000]);
        let pool = Name::new(b"tank").unwrap();
        let [from, to] = [command.as_ptr(), room.as_ptr()].map(|p| (p.addr() as u64).to_le_bytes());
        let envelope = envelope(pool, &command, &mut room).unwrap();
        let mut wanted = b"RWSN\x01\0\0\0tank".to_vec();
        wanted.resize(8 + 128, 0);
        wanted.extend(from);
        wanted.extend([0x88, 1, 0, 0, 0xE8, 3, 0, 0]);
        wanted.extend(to);
        wanted.resize(192, 0);
        assert_eq!(envelope.as_bytes(), wanted);
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        let long = vec![0; COMMAND_MAX + 1];
        let too_long = envelope(Name::default(), &long, &mut []).unwrap_err();
        assert_eq!(too_long, Errno::E2BIG);
    }

    #[test]
    fn other_devices_refuse_the_envelope() {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let said = exchange(&null, Name::default(), &[0; 392], &mut [0; 64]);
        assert_eq!(said, Err(Errno::ENOTTY));
    }
}
