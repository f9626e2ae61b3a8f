// SPDX-License-Identifier: MIT

//! The guest's disks: virtio-blk over sparse files, with a volatile cache as real disks have one.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use crate::cases::Disk;
use crate::failure::{Context, Result};

/// Makes the disks' files and plugs them in; the first is `vda`.
pub(crate) fn attach(qemu: &mut Command, disks: &[Disk], folder: &Path) -> Result {
    for (number, disk) in disks.iter().enumerate() {
        let path = folder.join(format!("disk{number}.raw"));
        File::create(&path).and_then(|file| file.set_len(disk.bytes)).about(&path)?;
        let options = "format=raw,cache=writeback,discard=unmap,detect-zeroes=unmap";
        qemu.arg("-drive").arg(format!("if=none,id=d{number},file={},{options}", path.display()));
        let block = disk.block_bytes;
        qemu.arg("-device").arg(format!(
            "virtio-blk-pci,drive=d{number},serial=ktest{number},\
             logical_block_size={block},physical_block_size={block}"
        ));
    }
    Ok(())
}

/// Takes the disks away; what the guest said stays.
pub(crate) fn remove(folder: &Path, disks: &[Disk]) {
    for number in 0..disks.len() {
        // A disk that cannot be removed now is removed by the next run.
        let _ = std::fs::remove_file(folder.join(format!("disk{number}.raw")));
    }
}
