// SPDX-License-Identifier: MIT

//! The guest's disks: virtio-blk over sparse files, with a volatile cache as real disks have one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::power;
use crate::cases::{Disk, Medium};
use crate::failure::{Context, Result};

/// A disk's file.
pub(super) fn file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("disk{number}.raw"))
}

/// Makes the disks' files.
pub(super) fn create(disks: &[Disk], folder: &Path) -> Result {
    for (number, disk) in disks.iter().enumerate() {
        let path = file(folder, number);
        File::create(&path).and_then(|file| file.set_len(disk.bytes)).about(&path)?;
    }
    Ok(())
}

/// Plugs the disks in; the first is `vda`.
pub(super) fn attach(qemu: &mut Command, disks: &[Disk], folder: &Path) {
    for (number, disk) in disks.iter().enumerate() {
        let behind = match disk.medium {
            Medium::File => {
                let options = "cache=writeback,discard=unmap,detect-zeroes=unmap";
                format!("file={},{options}", file(folder, number).display())
            }
            Medium::Lossy | Medium::Forgetful => {
                let socket = power::socket(folder);
                format!("file=nbd+unix:///d{number}?socket={},cache=none", socket.display())
            }
        };
        qemu.arg("-drive").arg(format!("if=none,id=d{number},format=raw,{behind}"));
        let block = disk.block_bytes;
        // Without indirect descriptors: the driver allocates one for each request, atomically, and
        // complains where a case has used up all memory on purpose.
        qemu.arg("-device").arg(format!(
            "virtio-blk-pci,indirect_desc=off,drive=d{number},serial=ktest{number},\
             logical_block_size={block},physical_block_size={block}"
        ));
    }
}

/// Takes the disks away; what the guest said stays.
pub(super) fn remove(folder: &Path, disks: &[Disk]) {
    for number in 0..disks.len() {
        // A disk that cannot be removed now is removed by the next run.
        let _ = std::fs::remove_file(file(folder, number));
    }
}
