// SPDX-License-Identifier: MIT

//! Notices what a device or file holds already, before `create` makes a save volume of it.
//!
//! A table of magic numbers, each at its place; the longest-lived formats only. A file that holds
//! anything else but zeros near its start is noticed too: an image file that was made for the
//! purpose is empty.

use super::{Kind, StoreError, Volume};

/// How much of the start is looked at.
const HEAD: usize = 132 * 1024;

/// One magic number.
struct Magic {
    /// Where it stands.
    at: usize,
    /// What stands there.
    bytes: &'static [u8],
    /// What it is a sign of.
    what: &'static str,
}

const fn magic(at: usize, bytes: &'static [u8], what: &'static str) -> Magic {
    Magic { at, bytes, what }
}

/// In the order in which they are looked for: what may lie inside of another thing comes later.
const MAGICS: &[Magic] = &[
    magic(0, b"LUKS\xba\xbe", "a LUKS encrypted volume"),
    magic(0x4000, b"SKUL\xba\xbe", "a LUKS encrypted volume"),
    magic(0x018, b"LVM2 001", "an LVM physical volume"),
    magic(0x218, b"LVM2 001", "an LVM physical volume"),
    magic(0x418, b"LVM2 001", "an LVM physical volume"),
    magic(0x618, b"LVM2 001", "an LVM physical volume"),
    magic(0, b"\xfc\x4e\x2b\xa9", "a member of an MD array"),
    magic(4096, b"\xfc\x4e\x2b\xa9", "a member of an MD array"),
    magic(4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca", "a bcache device"),
    magic(4096 + 24, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9", "a bcachefs file system"),
    magic(0, b"bluestore block device", "a Ceph OSD"),
    magic(0, b"QFI\xfb", "a qcow2 image"),
    magic(0, b"KDMV", "a VMDK image"),
    magic(0, b"vhdxfile", "a VHDX image"),
    magic(0x40, b"\x7f\x10\xda\xbe", "a VDI image"),
    magic(0x10040, b"_BHRfS_M", "a btrfs file system"),
    magic(0, b"XFSB", "an XFS file system"),
    magic(0x438, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
    magic(1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    magic(1024, b"\xe2\xe1\xf5\xe0", "an EROFS file system"),
    magic(0, b"hsqs", "a squashfs file system"),
    magic(3, b"NTFS    ", "an NTFS file system"),
    magic(3, b"EXFAT   ", "an exFAT file system"),
    magic(0x36, b"FAT1", "a FAT file system"),
    magic(0x52, b"FAT32", "a FAT file system"),
    magic(0x8001, b"CD001", "an ISO 9660 file system"),
    magic(4096 - 10, b"SWAPSPACE2", "swap space"),
    magic(4096 - 10, b"SWAP-SPACE", "swap space"),
    magic(65536 - 10, b"SWAPSPACE2", "swap space"),
    magic(512, b"EFI PART", "a GPT partition table"),
    magic(4096, b"EFI PART", "a GPT partition table"),
];

/// What the volume holds, as far as is known: "an XFS file system".
pub fn find(volume: &Volume) -> Result<Option<String>, StoreError> {
    let size = volume.device().size;
    let head = read(volume, 0, size.min(HEAD as u64))?;
    if let Some(known) = known(&head) {
        return Ok(Some(known.to_owned()));
    }
    for block in [512, 4096] {
        let last = size.saturating_sub(block);
        if read(volume, last, block.min(size))?.starts_with(b"EFI PART") {
            return Ok(Some("a GPT partition table".to_owned()));
        }
    }
    let is_data = volume.kind() == Kind::File && head.iter().any(|&b| b != 0);
    Ok(is_data.then(|| "data (it is not empty)".to_owned()))
}

/// Reads aligned memory, whatever way the volume was opened.
fn read(volume: &Volume, at: u64, len: u64) -> Result<Vec<u8>, StoreError> {
    let len = usize::try_from(len).unwrap_or(HEAD);
    let start = at & !4095;
    let skip = usize::try_from(at - start).unwrap_or(0);
    let whole = (skip + len).next_multiple_of(4096);
    let mut room = vec![0u8; whole + 4096];
    let lead = room.as_ptr().align_offset(4096);
    let aligned = room.get_mut(lead..lead + whole).unwrap_or_default();
    volume.read_up_to(aligned, start)?;
    Ok(aligned.get(skip..skip + len).unwrap_or_default().to_vec())
}

/// What the first bytes of a device are a sign of.
fn known(head: &[u8]) -> Option<&'static str> {
    let is_there = |m: &&Magic| head.get(m.at..m.at + m.bytes.len()) == Some(m.bytes);
    let found = MAGICS.iter().find(is_there).map(|m| m.what);
    found.or_else(|| is_zfs(head).then_some("a ZFS pool member")).or_else(|| boot_record(head))
}

/// A ZFS uberblock, in either byte order.
fn is_zfs(head: &[u8]) -> bool {
    let ring = head.get(128 * 1024..).unwrap_or_default();
    ring.chunks(1024).any(|u| {
        u.starts_with(b"\x0c\xb1\xba\0\0\0\0\0") || u.starts_with(b"\0\0\0\0\0\xba\xb1\x0c")
    })
}

/// A partition table of the old kind: its mark, and entries that can be.
fn boot_record(head: &[u8]) -> Option<&'static str> {
    if head.get(510..512) != Some(b"\x55\xaa") {
        return None;
    }
    let entries: Vec<&[u8]> = head.get(446..510)?.chunks(16).collect();
    let sane = entries.iter().all(|e| matches!(e.first(), Some(0 | 0x80)));
    let used = entries.iter().any(|e| e.get(4).is_some_and(|&kind| kind != 0));
    Some(if sane && used { "an MBR partition table" } else { "a boot sector" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Access, Cache};

    fn found_in(bytes: &[u8]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("save");
        std::fs::write(&path, bytes).unwrap();
        find(&Volume::open(&path, Access::Own, Cache::Direct).unwrap()).unwrap()
    }

    #[test]
    fn every_magic_is_found_at_its_place() {
        for m in MAGICS {
            let mut image = vec![0u8; 256 * 1024];
            image[m.at..m.at + m.bytes.len()].copy_from_slice(m.bytes);
            assert_eq!(found_in(&image).as_deref(), Some(m.what));
        }
    }

    #[test]
    fn partition_tables_and_backups_are_found() {
        let mut image = vec![0u8; 1 << 20];
        let end = image.len() - 512;
        image[end..end + 8].copy_from_slice(b"EFI PART");
        assert_eq!(found_in(&image).as_deref(), Some("a GPT partition table"));
        let mut image = vec![0u8; 1 << 20];
        image[510..512].copy_from_slice(b"\x55\xaa");
        assert_eq!(found_in(&image).as_deref(), Some("a boot sector"));
        image[450] = 0x83;
        assert_eq!(found_in(&image).as_deref(), Some("an MBR partition table"));
    }

    #[test]
    fn zeros_are_nothing_and_anything_else_is_data() {
        assert_eq!(found_in(&[0; 256 * 1024]), None);
        assert_eq!(found_in(&[]), None);
        assert_eq!(found_in(&[0; 100]), None);
        assert_eq!(found_in(b"dear diary").as_deref(), Some("data (it is not empty)"));
    }

    #[test]
    fn what_mkfs_makes_is_found() {
        let dir = tempfile::tempdir().unwrap();
        for (tool, what) in [("mkfs.ext4", "ext4"), ("mkfs.xfs", "XFS"), ("mkswap", "swap")] {
            let path = dir.path().join(tool);
            std::fs::File::create(&path).unwrap().set_len(400 << 20).unwrap();
            let made = std::process::Command::new(tool).arg("-q").arg(&path).output();
            let Ok(made) = made else { continue };
            if !made.status.success() {
                continue;
            }
            let volume = Volume::open(&path, Access::Read, Cache::Buffered).unwrap();
            assert!(find(&volume).unwrap().unwrap().contains(what));
        }
    }
}
