// SPDX-License-Identifier: MIT

//! What the guest's root holds beside the module and the cases.

/// Programs of this machine, with their libraries. The shell is dash: busybox's runs its own
/// `blkdiscard`, `losetup` and the like, whatever else there is.
pub(crate) const PROGRAMS: &[&str] = &[
    "dash",
    "fio",
    "mke2fs",
    "mkfs.ext4",
    "e2fsck",
    "fsck.ext4",
    "debugfs",
    "tune2fs",
    "dumpe2fs",
    "mkfs.xfs",
    "xfs_repair",
    "xfs_db",
    "xfs_io",
    "dmsetup",
    "thin_check",
    "thin_dump",
    "blkid",
    "lsblk",
    "blockdev",
    "losetup",
    "blkdiscard",
    "fsfreeze",
    "wipefs",
    "fallocate",
    "sfdisk",
    "nbdcopy",
    "nbdinfo",
];

/// Files and folders of this machine that are taken along if they are there.
pub(crate) const FILES: &[&str] = &[
    "/etc/mke2fs.conf",
    "/usr/lib/udev/rules.d/55-dm.rules",
    "/usr/lib/udev/rules.d/60-persistent-storage-dm.rules",
    "/usr/lib/udev/rules.d/95-dm-notify.rules",
];

/// Folders to mount upon.
pub(crate) const FOLDERS: &[&str] =
    &["proc", "sys", "dev", "run", "tmp", "mnt", "root", "var/lib", "var/tmp", "usr/sbin"];

/// Old names of folders that have moved below `/usr`, as everywhere in Debian.
pub(crate) const MOVED: &[&str] = &["bin", "sbin", "lib", "lib64"];

/// Small files that programs look for.
pub(crate) const TEXTS: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
    ("etc/hosts", "127.0.0.1 localhost\n"),
    ("etc/udev/udev.conf", "udev_log=err\n"),
    (
        "etc/group",
        "root:x:0:\ndisk:x:6:\ntty:x:5:\ndialout:x:20:\nkmem:x:15:\ninput:x:101:\nvideo:x:44:\n\
         audio:x:29:\nrender:x:102:\nlp:x:7:\ncdrom:x:24:\ntape:x:26:\nkvm:x:103:\nsgx:x:104:\n",
    ),
];

/// The place that a file of this machine has in the guest: below `/usr`.
pub(crate) fn place(path: &str) -> String {
    let bare = path.trim_start_matches('/');
    match MOVED.iter().any(|moved| bare.split('/').next() == Some(*moved)) {
        true => format!("usr/{bare}"),
        false => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn old_places_lead_below_usr() {
        assert_eq!(place("/lib64/ld.so"), "usr/lib64/ld.so");
        assert_eq!(place("/usr/lib/x"), "usr/lib/x");
        assert_eq!(place("/libfoo/x"), "libfoo/x");
        assert_eq!(place("/etc/x"), "etc/x");
    }
}
