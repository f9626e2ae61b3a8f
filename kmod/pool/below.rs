// SPDX-License-Identifier: GPL-2.0-only

//! Which devices a disk lies on: for the limits of its queue, and for those who look (`lsblk`).

use kernel::{
    prelude::*,
    sync::Arc, //
};
use rwsnap_core::{
    control::{
        rows::{
            KIND_PRODUCTION,
            KIND_SNAPSHOT, //
        },
        EntityRow, //
    },
    units::Dev, //
};

use super::Pool;
use crate::block::{
    bdev::Lower,
    disk::{
        Disk,
        Face, //
    }, //
};

impl Pool {
    /// All devices that a volume can come to lie on: a production on its own and the save volume; a
    /// clone on any, for it may be refreshed to a snapshot of another production.
    pub(super) fn lowers_of(&self, face: &Face) -> Result<KVec<Arc<Lower>>> {
        let count = self.lowers.lock().len();
        let mut found = KVec::with_capacity(count, GFP_KERNEL)?;
        for number in 0..count {
            let own = face.kind != KIND_PRODUCTION || number == usize::from(face.dev);
            if let Some(lower) = self.lower(number).filter(|_| number == 0 || own) {
                found.push(lower, GFP_KERNEL)?;
            }
        }
        Ok(found)
    }

    /// Says in sysfs which devices a disk lies on now: the save volume and one production. It is
    /// for those who look alone; where it cannot be said it is tried again with the next command
    /// that changes disks.
    #[inline(never)]
    pub(super) fn tell_below(&self, disk: &Disk, all: &[EntityRow]) {
        let production = production(all, disk.id).map(|row| row.device.get());
        let numbers = [Some(Dev::SAVE.0.into()), production];
        let Ok(mut lowers) = KVec::with_capacity(numbers.len(), GFP_KERNEL) else {
            return;
        };
        for number in numbers.into_iter().flatten() {
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            if let Some(lower) = self.lower(number) {
                let _ = lowers.push_within_capacity(lower);
            }
        }
        let mut gendisk = disk.gendisk.lock();
        let former = match &mut *gendisk {
            Some(gendisk) => gendisk.lie_on(lowers),
            None => lowers,
        };
        drop(gendisk);
        // Devices are closed without a lock.
        drop(former);
    }
}

/// The production that a volume or snapshot comes from in the end. The rows are in the order of
/// their ids.
fn production(all: &[EntityRow], id: u32) -> Option<&EntityRow> {
    let find = |id: u32| {
        let at = all.binary_search_by_key(&id, |row| row.id.get());
        at.ok().and_then(|at| all.get(at))
    };
    let mut row = find(id)?;
    for _ in all {
        row = match row.kind.get() {
            KIND_PRODUCTION => return Some(row),
            KIND_SNAPSHOT => find(row.owner.get())?,
            _ => find(row.base.get())?,
        };
    }
    None
}
