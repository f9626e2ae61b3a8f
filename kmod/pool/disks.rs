// SPDX-License-Identifier: GPL-2.0-only

//! Which disks there are: one for each volume, and for the snapshots that were exposed.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Full, //
        },
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use rwsnap_core::{
    control::{
        rows::{
            FLAG_HIDDEN,
            FLAG_OFFLINE,
            KIND_PRODUCTION,
            KIND_SNAPSHOT, //
        },
        Command,
        DeviceRow,
        EntityRow,
        Name,
        NameRow,
        Refusal,
        Reply,
        Verb, //
    }, //
};
use zerocopy::{
    FromBytes,
    IntoBytes, //
};

use super::Pool;
use crate::{
    block::{
        bdev::Lower,
        disk::{
            Disk,
            Face, //
        },
        gendisk::{
            GenDisk,
            Limits, //
        }, //
    },
    control::refused::Refused,
    mem::Fast,
    text, //
};

#[inline(never)]
fn face(row: &EntityRow) -> Face {
    Face {
        id: row.id.get(),
        kind: row.kind.get(),
        name: row.name,
        uuid: row.uuid,
        size: row.size.get(),
        dev: u16::try_from(row.device.get()).unwrap_or(0),
    }
}

impl Pool {
    /// All disks.
    ///
    /// # Errors
    ///
    /// No memory.
    pub(crate) fn all_disks(&self) -> Result<KVec<Arc<Disk>>> {
        let disks = self.disks.lock();
        let mut all = KVec::with_capacity(disks.len(), GFP_KERNEL)?;
        for disk in disks.iter() {
            all.push(disk.clone(), GFP_KERNEL)?;
        }
        Ok(all)
    }

    /// The disk of the volume or snapshot of this number.
    fn disk_by_id(&self, id: u32) -> Option<Arc<Disk>> {
        self.disks.lock().iter().find(|disk| disk.id == id).cloned()
    }

    /// The disk of this name.
    pub(crate) fn disk(&self, name: &[u8]) -> Option<Arc<Disk>> {
        self.disks
            .lock()
            .iter()
            .find(|disk| disk.face().name.bytes() == name)
            .cloned()
    }

    /// The disk of the volume whose snapshot the clone of this name is based on.
    ///
    /// # Errors
    ///
    /// No memory.
    pub(crate) fn base_disk(self: &Arc<Self>, name: &Name) -> Result<Option<Arc<Disk>>> {
        let all = self.entities()?;
        let base = all
            .iter()
            .find(|row| row.name == *name)
            .and_then(|clone| all.iter().find(|row| row.id == clone.base));
        Ok(base.and_then(|snapshot| self.disk_by_id(snapshot.owner.get())))
    }

    /// Asks the core for all volumes and snapshots.
    #[inline(never)]
    fn entities(self: &Arc<Self>) -> Result<KVVec<EntityRow>> {
        let mut all = KVVec::new();
        let mut from = 0_u64;
        loop {
            let reply = match self.list(from) {
                Err(why) if why == EBUSY => {
                    fsleep(Delta::from_millis(1));
                    continue;
                }
                reply => reply?,
            };
            let (head, rows) = Reply::read_from_prefix(&reply).map_err(|_| EIO)?;
            let width = head.row_bytes.get() as usize;
            for row in rows.chunks(width.max(1)).take(head.count.get() as usize) {
                let row = EntityRow::ref_from_prefix(row).map_err(|_| EIO)?;
                all.extend_from_slice(core::slice::from_ref(row.0), GFP_KERNEL)?;
            }
            let next = head.next.get();
            if next == u64::MAX || next <= from {
                return Ok(all);
            }
            from = next;
        }
    }

    fn list(self: &Arc<Self>, from: u64) -> Result<KVVec<u8>> {
        self.call_to_the_end(list_from(from)?)
    }

    /// Brings the disks into line with what a command has done. It is done, whatever becomes of
    /// that: if a disk cannot be shown, the log says so, once, and the next command tries again.
    /// The caller holds `changing`.
    pub(crate) fn show_disks(self: &Arc<Self>) {
        let synced = self.sync_disks();
        let was_stale = self.stale.xchg(synced.is_err(), Full);
        match synced {
            Err(why) if !was_stale => self.with_title(|title| {
                pr_warn!(
                    "{}: a device is missing or not up to date ({why:?}); the next command tries \
                     again\n",
                    text::shown(title)
                );
            }),
            Ok(()) if was_stale => self.with_title(|title| {
                pr_info!("{}: all devices are up to date again\n", text::shown(title));
            }),
            _ => {}
        }
    }

    /// Tries again what `show_disks` could not do.
    pub(crate) fn catch_up(self: &Arc<Self>) {
        if self.stale.load(Acquire) {
            let _changing = self.changing.lock();
            self.show_disks();
        }
    }

    /// Makes disks for volumes that are new, removes those of volumes that are gone, and renames
    /// the others. The caller holds `changing`, or nobody knows the pool yet.
    ///
    /// # Errors
    ///
    /// No memory. What could be done is done.
    pub(crate) fn sync_disks(self: &Arc<Self>) -> Result {
        let entities = self.entities()?;
        for disk in self.all_disks()? {
            if !entities.iter().any(|row| row.id.get() == disk.id) {
                self.drop_disk(&disk);
            }
        }
        let mut done = Ok(());
        for row in &entities {
            match self.disk_by_id(row.id.get()) {
                Some(disk) => renew(&disk, row),
                None if is_shown(row) => done = done.and(self.add_disk(row)),
                None => {}
            }
        }
        for disk in self.all_disks()? {
            self.tell_below(&disk, &entities);
        }
        done
    }

    #[inline(never)]
    fn add_disk(self: &Arc<Self>, row: &EntityRow) -> Result {
        let face = face(row);
        let home = self.home(&face);
        if face.kind == KIND_PRODUCTION && home.is_none() {
            return Ok(());
        }
        let disk = Disk::new(self.clone(), face, home)?;
        let lowers = self.lowers_of(&face)?;
        let block = self.with_core(|core| core.block()).ok_or(ENODEV)?;
        // Listed before it is shown: whoever sees it may ask for it.
        self.list_disk(&disk)?;
        let limits = Limits {
            block,
            chunk: self.chunk,
            lowers: &lowers,
        };
        let added = GenDisk::add(&disk, &limits);
        if added.is_err() {
            self.disks.lock().retain(|other| other.id != face.id);
        }
        added
    }

    fn list_disk(&self, disk: &Arc<Disk>) -> Result {
        let mut disks = self.disks.lock();
        disks.reserve(1, GFP_KERNEL)?;
        let place = disks.partition_point(|other| other.id < disk.id);
        disks
            .insert_within_capacity(place, disk.clone())
            .map_err(|_| ENOMEM)
    }

    /// The hot path of a production, and its device.
    #[inline(never)]
    fn home(&self, face: &Face) -> Option<(Arc<Fast>, Arc<Lower>)> {
        if face.kind != KIND_PRODUCTION {
            return None;
        }
        let lower = self.lower(usize::from(face.dev))?;
        let fast = self.with_core(|core| {
            let attached = core.attach(face.name.bytes(), false).ok()?;
            core.detach(attached.handle);
            attached.fast
        });
        Some((fast.flatten()?, lower))
    }

    /// Makes a disk of a snapshot; one that has one keeps it.
    ///
    /// # Errors
    ///
    /// There is no such snapshot, its data is lost, or no memory.
    pub(crate) fn expose(self: &Arc<Self>, name: &Name) -> Result<DeviceRow, Refused> {
        let _changing = self.changing.lock();
        let entities = self.entities()?;
        let row = entities.iter().find(|row| row.name == *name);
        let row = row.ok_or_else(|| Refused::because(Refusal::NotFound))?;
        if row.kind.get() != KIND_SNAPSHOT {
            return Err(Refused::because(Refusal::WrongKind));
        }
        let probe = self.with_core(|core| {
            core.attach(name.bytes(), false)
                .map(|attached| core.detach(attached.handle))
        });
        probe.ok_or(ENODEV)?.map_err(Refused::because)?;
        if self.disk_by_id(row.id.get()).is_none() {
            self.add_disk(row)?;
        }
        let disk = self.disk_by_id(row.id.get()).ok_or(ENOMEM)?;
        self.tell_below(&disk, &entities);
        Ok(device_row(&disk))
    }

    /// Takes a snapshot's disk away.
    ///
    /// # Errors
    ///
    /// It has none, or somebody has it open.
    pub(crate) fn hide(self: &Arc<Self>, name: &Name) -> Result<(), Refused> {
        let _changing = self.changing.lock();
        let disk = self
            .disk(name.bytes())
            .ok_or_else(|| Refused::because(Refusal::NotFound))?;
        if disk.kind != KIND_SNAPSHOT {
            return Err(Refused::because(Refusal::WrongKind));
        }
        if !disk.retire() {
            let mut open = KVec::new();
            let row = NameRow {
                name: *name,
                frees: 0.into(),
            };
            open.push(row, GFP_KERNEL)?;
            return Err(Refused::blocked(Refusal::OpenForWriting, open));
        }
        self.drop_disk(&disk);
        Ok(())
    }

    /// Takes a disk away that nobody has open, or that nobody can do anything with any more.
    #[inline(never)]
    pub(crate) fn drop_disk(&self, disk: &Arc<Disk>) {
        let _ = disk.retire();
        disk.remove();
        self.disks.lock().retain(|other| other.id != disk.id);
    }

    /// Takes all disks away.
    pub(super) fn remove_disks(&self) {
        loop {
            let Some(disk) = self.disks.lock().pop() else {
                return;
            };
            let _ = disk.retire();
            disk.remove();
        }
    }
}

/// The bytes of a command that lists the volumes and snapshots from this number on.
#[inline(never)]
fn list_from(number: u64) -> Result<KVVec<u8>> {
    let mut command = Command::new(Verb::List, Name::EMPTY);
    command.value = number.into();
    let mut bytes = KVVec::new();
    bytes.extend_from_slice(command.as_bytes(), GFP_KERNEL)?;
    Ok(bytes)
}

fn is_shown(row: &EntityRow) -> bool {
    row.kind.get() != KIND_SNAPSHOT && row.flags.get() & (FLAG_HIDDEN | FLAG_OFFLINE) == 0
}

/// A volume may have got another name, size or UUID.
fn renew(disk: &Disk, row: &EntityRow) {
    let (old, new) = (disk.face(), face(row));
    disk.set_face(new);
    let gendisk = disk.gendisk.lock();
    let Some(gendisk) = gendisk.as_ref() else {
        return;
    };
    if old.size != new.size {
        gendisk.resize(new.size);
    }
    if old.name != new.name {
        gendisk.announce();
    }
}

/// What is said of a disk.
pub(crate) fn device_row(disk: &Disk) -> DeviceRow {
    let face = disk.face();
    let open = disk.open_count();
    let gendisk = disk.gendisk.lock();
    let shown = gendisk
        .as_ref()
        .map(|g| (g.name(), g.device_number()))
        .unwrap_or_default();
    DeviceRow {
        name: face.name,
        device: shown.0,
        number: shown.1.map(Into::into),
        open: open.into(),
        read_only: u32::from(face.kind == KIND_SNAPSHOT).into(),
        kind: face.kind.into(),
        reserved: [0; 12],
    }
}
