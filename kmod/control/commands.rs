// SPDX-License-Identifier: GPL-2.0-only

//! What is done for a command: the module's own verbs here; the others by the pool's core, with
//! file systems frozen, page caches forgotten and disks made or removed around it.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use rwsnap_core::{
    control::{
        module::COMMAND_MAX,
        rows::KIND_SNAPSHOT,
        Command,
        DeviceRow,
        Item,
        Name,
        PoolAtRow,
        Refusal,
        Reply,
        Verb,
        FLAG_FORCE,
        MAGIC,
        REPLY_MAX,
        VERSION, //
    },
    platform::Platform,
    units::Dev, //
};
use zerocopy::{
    FromBytes,
    FromZeros,
    IntoBytes, //
};

use super::{
    pools,
    refused::{
        portion,
        reply,
        Refused, //
    }, //
};
use crate::{
    block::{
        disk::Disk,
        freeze::{
            self,
            Frozen, //
        }, //
    },
    ffi,
    mem::Kernel,
    pool::{
        disks::device_row,
        open::{
            open_device,
            Named,
            Request, //
        },
        Pool, //
    }, //
};

/// Productions that may be named when a pool is attached.
const NAMED_MAX: usize = 64;

/// Carries a command out on the pool of this name and gives the reply's bytes.
///
/// # Errors
///
/// Where there can be no reply; see `control::module`.
pub(super) fn carry_out(pool: &[u8], bytes: KVVec<u8>) -> Result<KVVec<u8>> {
    let (command, rest) = Command::ref_from_prefix(&bytes).map_err(|_| EINVAL)?;
    let command = Kernel.boxed(|| *command).ok_or(ENOMEM)?;
    if command.magic.get() != MAGIC || command.version.get() != VERSION {
        return Err(EPROTO);
    }
    let Some(verb) = Verb::from_number(command.verb.get()) else {
        return Refused::because(Refusal::Malformed).reply();
    };
    let done = match verb {
        Verb::Pools => list_pools(command.value.get()),
        Verb::AttachPool => attach(&command, rest),
        _ => {
            let pool = pools::find(pool)?;
            pool.catch_up();
            match verb {
                Verb::DetachPool => pools::detach(&pool).and_then(|()| nothing()),
                Verb::Devices => list_devices(&pool, command.value.get()),
                Verb::Expose => pool
                    .expose(&command.name)
                    .and_then(|row| rows(row.as_bytes())),
                Verb::Hide => pool.hide(&command.name).and_then(|()| nothing()),
                Verb::Stop | Verb::Exports | Verb::Read | Verb::Write | Verb::Flush => {
                    Err(Refused::because(Refusal::Malformed))
                }
                _ => in_core(&pool, verb, &command, bytes),
            }
        }
    };
    done.or_else(|refused| match refused.errno {
        Some(errno) if errno != ENOMEM => Err(errno),
        _ => refused.reply(),
    })
}

fn nothing() -> Result<KVVec<u8>, Refused> {
    Ok(reply(Refusal::None, 0, &[])?)
}

/// A reply of one row.
fn rows(row: &[u8]) -> Result<KVVec<u8>, Refused> {
    Ok(reply(Refusal::None, row.len(), row)?)
}

/// Rows of a reply at most.
fn rows_max<T>() -> usize {
    let room = REPLY_MAX.saturating_sub(size_of::<Reply>());
    room.checked_div(size_of::<T>()).unwrap_or(0)
}

#[inline(never)]
fn pool_row(pool: &Pool) -> Result<KVBox<PoolAtRow>> {
    let mut row = Kernel.boxed(PoolAtRow::new_zeroed).ok_or(ENOMEM)?;
    let title = pool.title();
    row.uuid = title.uuid;
    row.label = Name::new(crate::text::unpadded(&title.label)).unwrap_or_default();
    for (to, from) in row.path.iter_mut().zip(&title.path) {
        *to = *from;
    }
    if let Some(save) = pool.lower(usize::from(Dev::SAVE.0)) {
        row.device = save.number().map(Into::into);
    }
    let disks = pool.all_disks()?;
    row.devices = (disks.len() as u32).into();
    row.open = (disks.iter().filter(|disk| disk.open_count() > 0).count() as u32).into();
    Ok(row)
}

#[inline(never)]
fn list_pools(from: u64) -> Result<KVVec<u8>, Refused> {
    let pools = pools::all()?;
    let first = usize::try_from(from).unwrap_or(usize::MAX);
    let end = first.saturating_add(rows_max::<PoolAtRow>());
    let mut bytes = KVVec::new();
    for pool in pools.iter().take(end).skip(first) {
        bytes.extend_from_slice(pool_row(pool)?.as_bytes(), GFP_KERNEL)?;
    }
    let next = pools.get(end).map(|_| end as u64);
    Ok(portion(size_of::<PoolAtRow>(), &bytes, next)?)
}

#[inline(never)]
fn list_devices(pool: &Pool, from: u64) -> Result<KVVec<u8>, Refused> {
    let mut disks = pool.all_disks()?;
    disks.retain(|disk| u64::from(disk.id) >= from);
    let end = rows_max::<DeviceRow>();
    let mut bytes = KVVec::new();
    for disk in disks.iter().take(end) {
        bytes.extend_from_slice(device_row(disk).as_bytes(), GFP_KERNEL)?;
    }
    let next = disks.get(end).map(|disk| disk.id.into());
    Ok(portion(size_of::<DeviceRow>(), &bytes, next)?)
}

/// The strings behind a command that attaches a pool.
#[inline(never)]
fn attach(command: &Command, rest: &[u8]) -> Result<KVVec<u8>, Refused> {
    let malformed = || Refused::because(Refusal::Malformed);
    let len = usize::try_from(command.limit.get()).unwrap_or(usize::MAX);
    let [strings @ .., 0] = rest.get(..len).ok_or_else(malformed)? else {
        return Err(malformed());
    };
    let mut strings = strings.split(|&byte| byte == 0);
    let save = strings
        .next()
        .filter(|path| !path.is_empty())
        .ok_or_else(malformed)?;
    let mut named = KVec::new();
    while let Some(name) = strings.next() {
        let path = strings.next().ok_or_else(malformed)?;
        if named.len() == NAMED_MAX {
            return Err(Refused::because(Refusal::TooMany));
        }
        named.push(Named { name, path }, GFP_KERNEL)?;
    }
    let pool = pools::attach(&Request {
        save,
        named: &named,
    })?;
    rows(pool_row(&pool)?.as_bytes())
}

/// Has the core carry a command out.
#[inline(never)]
fn in_core(
    pool: &Arc<Pool>,
    verb: Verb,
    command: &Command,
    bytes: KVVec<u8>,
) -> Result<KVVec<u8>, Refused> {
    if bytes.len() > COMMAND_MAX {
        return Err(Refused::because(Refusal::Malformed));
    }
    match verb {
        Verb::Snapshot => snapshot(pool, bytes),
        Verb::Refresh | Verb::Restore | Verb::RestoreCancel => moment(pool, verb, command, bytes),
        Verb::Clone | Verb::Rename | Verb::Destroy => {
            let _changing = pool.changing.lock();
            let said = pool.call_to_the_end(bytes)?;
            pool.show_disks();
            Ok(said)
        }
        Verb::Add => add(pool, command, bytes),
        Verb::Remove => remove(pool, command, bytes),
        _ => Ok(pool.call(bytes)?),
    }
}

fn is_done(said: &[u8]) -> bool {
    Reply::read_from_prefix(said).is_ok_and(|(head, _)| head.refusal.get() == 0)
}

/// The items behind a command.
fn items(bytes: &[u8]) -> &[Item] {
    let rest = bytes.get(size_of::<Command>()..).unwrap_or_default();
    let count = rest.len().checked_div(size_of::<Item>()).unwrap_or(0);
    <[Item]>::ref_from_prefix_with_elems(rest, count).map_or(&[], |(items, _)| items)
}

/// Snapshots, with the file systems on their volumes frozen: all at one moment.
#[inline(never)]
fn snapshot(pool: &Arc<Pool>, bytes: KVVec<u8>) -> Result<KVVec<u8>, Refused> {
    // Nothing here may wait for a file system that is frozen already. Ends after the thaw.
    let _noio = ffi::NoIo::enter();
    let mut frozen = KVec::new();
    for item in items(&bytes) {
        let (volume, _) = item.name.split();
        if let Some(disk) = pool.disk(volume) {
            freeze(&disk, &mut frozen)?;
        }
    }
    Ok(pool.call(bytes)?)
}

fn freeze(disk: &Arc<Disk>, frozen: &mut KVec<Frozen>) -> Result<(), Refused> {
    freeze::freeze(disk, frozen).map_err(|why| {
        Refused::said(fmt!(
            "the file system on `{}` cannot be frozen ({})",
            disk.face().name.text(),
            why.to_errno()
        ))
    })
}

/// The volume whose content at this moment is taken: that of a refresh without a snapshot's name,
/// or what is restored from.
fn source(pool: &Arc<Pool>, verb: Verb, command: &Command) -> Result<Option<Arc<Disk>>> {
    match (verb, command.other.bytes()) {
        (Verb::Refresh, []) => pool.base_disk(&command.name),
        (Verb::Restore, from) => Ok(pool.disk(from)),
        _ => Ok(None),
    }
}

/// A refresh, a restore or the end of one: another content under the same name.
#[inline(never)]
fn moment(
    pool: &Arc<Pool>,
    verb: Verb,
    command: &Command,
    bytes: KVVec<u8>,
) -> Result<KVVec<u8>, Refused> {
    let source = source(pool, verb, command)?;
    // As for a snapshot.
    let _noio = ffi::NoIo::enter();
    let mut frozen = KVec::new();
    if let Some(disk) = &source {
        freeze(disk, &mut frozen)?;
    }
    let _changing = pool.changing.lock();
    let disk = pool.disk(command.name.bytes());
    let forced = disk
        .as_ref()
        .filter(|_| command.flags.get() & FLAG_FORCE != 0);
    if let Some(disk) = forced {
        disk.hold();
    }
    let said = pool.call_to_the_end(bytes);
    if let Some(disk) = forced {
        disk.resume();
    }
    drop(frozen);
    let said = said?;
    if let Some(disk) = disk.filter(|_| is_done(&said)) {
        if let Err(why) = freeze::forget_pages(&disk) {
            pr_warn!("readers of a volume may see what it held before ({why:?})\n");
        }
    }
    pool.show_disks();
    Ok(said)
}

/// A production is added: its device is opened here, and the core is told its number.
#[inline(never)]
fn add(pool: &Arc<Pool>, command: &Command, bytes: KVVec<u8>) -> Result<KVVec<u8>, Refused> {
    let _changing = pool.changing.lock();
    let path = items(&bytes)
        .iter()
        .find(|item| item.name.bytes() == b"path");
    let path = path.ok_or_else(|| Refused::because(Refusal::Malformed))?;
    let lower = open_device(crate::text::unpadded(&path.value))?;
    let device = lower.device();
    let block = pool.with_core(|core| core.block()).ok_or(ENODEV)?;
    if device.block > block {
        return Err(Refused::said(fmt!(
            "its logical block of {} bytes is larger than the pool's, {block}",
            device.block
        )));
    }
    let number = pool.free_number();
    let mut command = Kernel.boxed(|| *command).ok_or(ENOMEM)?;
    command.value = (number as u64).into();
    command.limit = (device.size & !u64::from(block.wrapping_sub(1))).into();
    let mut told = KVVec::with_capacity(bytes.len(), GFP_KERNEL)?;
    told.extend_from_slice(command.as_bytes(), GFP_KERNEL)?;
    told.extend_from_slice(
        bytes.get(size_of::<Command>()..).unwrap_or_default(),
        GFP_KERNEL,
    )?;
    pool.set_lower(number, lower)?;
    let said = pool.call_to_the_end(told);
    if !said.as_ref().is_ok_and(|said| is_done(said)) {
        pool.unset_lower(number);
    }
    let said = said?;
    pool.show_disks();
    Ok(said)
}

/// A production leaves the pool: its disk must not be open.
#[inline(never)]
fn remove(pool: &Arc<Pool>, command: &Command, bytes: KVVec<u8>) -> Result<KVVec<u8>, Refused> {
    let _changing = pool.changing.lock();
    let disk = pool
        .disk(command.name.bytes())
        .filter(|disk| disk.kind != KIND_SNAPSHOT);
    if disk.as_ref().is_some_and(|disk| !disk.retire()) {
        return Err(Refused::because(Refusal::Busy));
    }
    let said = pool.call_to_the_end(bytes);
    let gone = said.as_ref().is_ok_and(|said| is_done(said));
    if let Some(disk) = &disk {
        if gone {
            pool.drop_disk(disk);
            pool.unset_lower(usize::from(disk.face().dev));
            pool.show_disks();
        } else {
            disk.reinstate();
        }
    }
    Ok(said?)
}
