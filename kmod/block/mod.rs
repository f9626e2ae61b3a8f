// SPDX-License-Identifier: GPL-2.0-only

//! The block layer behind safe types: bios, lower devices, disks. All `unsafe` about it is here.

pub(crate) mod bdev;
pub(crate) mod bio;
pub(crate) mod disk;
pub(crate) mod freeze;
pub(crate) mod gate;
pub(crate) mod gendisk;
pub(crate) mod hot;
pub(crate) mod memory;
pub(crate) mod step;
pub(crate) mod sysfs;
