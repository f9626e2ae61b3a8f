// SPDX-License-Identifier: MIT

//! What comes after a crash: a fresh core on what the disks kept, read from end to end.

use rwsnap_core::api::Op;
use rwsnap_core::control::{rows, Refusal};
use rwsnap_core::fault::Fault;
use rwsnap_core::units::Dev;

use super::away::{start, Absent};
use super::block::Block;
use super::command;
use super::disk::{Disk, Survive};
use super::engine::Engine;
use super::machine::{Event, Io, Machine, Wrong};
use super::oracle::{Row, Shown, Sweep};
use super::plan::Plan;
use super::rng::Rng;

/// Steps that opening or a sweep may take before it counts as hung.
const PATIENCE: u64 = 200_000;

/// What a crash leaves of all disks.
pub(super) fn crashed(disks: &[Disk], rng: &mut Rng) -> Vec<Disk> {
    let survive = Survive::drawn(disks.len(), rng);
    disks.iter().zip(survive).map(|(disk, survive)| disk.crashed(survive)).collect()
}

/// A core on these disks, opened and started, without those that are `absent`. In `again` of a
/// thousand steps of the opening it crashes, or a disk fails, and it begins once more; how often is
/// added to `crashes`.
///
/// # Errors
///
/// What went wrong.
pub(super) fn reopen<E: Engine>(
    plan: &Plan,
    mut disks: Vec<Disk>,
    rng: &mut Rng,
    (again, absent): (u64, &Absent),
    crashes: &mut u64,
) -> Result<Machine<E>, Wrong> {
    for _ in 0..4 {
        match reopen_once(plan, disks, rng, (again, absent))? {
            Ok(machine) => return Ok(machine),
            Err(left) => {
                *crashes += 1;
                disks = crashed(&left, rng);
            }
        }
    }
    let early = E::is_early(&disks[0]);
    let mut machine = open(plan, disks, rng)?.map_err(|why| format!("it does not open: {why}"))?;
    start(&mut machine, absent.clone(), early)?;
    Ok(machine)
}

/// As [`reopen`], or the disks as the crash or failure finds them.
fn reopen_once<E: Engine>(
    plan: &Plan,
    disks: Vec<Disk>,
    rng: &mut Rng,
    (again, absent): (u64, &Absent),
) -> Result<Result<Machine<E>, Vec<Disk>>, Wrong> {
    let early = E::is_early(&disks[0]);
    let core = E::open(plan, &disks[0]).map_err(|f| format!("no pool is found: {f}"))?;
    let mut machine = Machine::new(core, disks, plan);
    machine.drain()?;
    let mut failed = false;
    for _ in 0..PATIENCE {
        match machine.core.opened() {
            Some(Ok(())) => {
                start(&mut machine, absent.clone(), early)?;
                return Ok(Ok(machine));
            }
            Some(Err(_)) if failed => return Ok(Err(machine.disks)),
            Some(Err(why)) => return Err(format!("the pool does not open: {why}")),
            None if machine.open() == 0 => return Err("the opening hangs".into()),
            None => {}
        }
        let index = rng.index(machine.open());
        let strikes = rng.below(1000) < again;
        if strikes && rng.chance(80) {
            return Ok(Err(machine.disks));
        }
        // If a disk fails, the opening must fail, or not need what failed.
        failed |= strikes;
        machine.end(index, !strikes, rng)?;
    }
    Err("the opening never ends".into())
}

/// The disks as they are after so many steps of the opening, if it takes that many.
///
/// # Errors
///
/// What went wrong.
pub(super) fn cut_off<E: Engine>(
    plan: &Plan,
    disks: Vec<Disk>,
    rng: &mut Rng,
    steps: u64,
) -> Result<Option<Vec<Disk>>, Wrong> {
    let core = E::open(plan, &disks[0]).map_err(|f| format!("no pool is found: {f}"))?;
    let mut machine = Machine::new(core, disks, plan);
    machine.drain()?;
    for _ in 0..steps {
        if machine.core.opened().is_some() || machine.open() == 0 {
            return Ok(None);
        }
        let index = rng.index(machine.open());
        machine.end(index, true, rng)?;
    }
    Ok(Some(machine.disks))
}

/// A core on these disks, opened, or why it does not open.
///
/// # Errors
///
/// What went wrong.
pub(super) fn open<E: Engine>(
    plan: &Plan,
    disks: Vec<Disk>,
    rng: &mut Rng,
) -> Result<Result<Machine<E>, String>, Wrong> {
    let core = match E::open(plan, &disks[0]) {
        Ok(core) => core,
        Err(why) => return Ok(Err(why)),
    };
    let mut machine = Machine::new(core, disks, plan);
    machine.drain()?;
    for _ in 0..PATIENCE {
        match machine.core.opened() {
            Some(Ok(())) => return Ok(Ok(machine)),
            Some(Err(why)) => return Ok(Err(why)),
            None if machine.open() == 0 => return Err("the opening hangs".into()),
            None => {}
        }
        let index = rng.index(machine.open());
        machine.end(index, true, rng)?;
    }
    Err("the opening never ends".into())
}

/// Ends steps until one of the events is there that `wanted` takes; gives it.
///
/// # Errors
///
/// What went wrong.
pub(super) fn until<E: Engine, T>(
    machine: &mut Machine<E>,
    rng: &mut Rng,
    mut wanted: impl FnMut(Event) -> Option<T>,
) -> Result<T, Wrong> {
    let mut idle = 0u64;
    for _ in 0..PATIENCE {
        while let Some(event) = machine.events.pop_front() {
            if let Some(found) = wanted(event) {
                return Ok(found);
            }
        }
        if machine.open() > 0 {
            idle = 0;
            let index = rng.index(machine.open());
            machine.end(index, true, rng)?;
        } else {
            idle += 1;
            if idle > 50 {
                return Err(format!("a request or command hangs\n{}", machine.core.dump()));
            }
            machine.core.tick(idle * 100_000_000);
            machine.drain()?;
        }
    }
    Err("a request or command never ends".into())
}

/// Lets background work go on until there is none.
///
/// # Errors
///
/// What went wrong.
pub(super) fn rest<E: Engine>(
    machine: &mut Machine<E>,
    rng: &mut Rng,
    now_ns: u64,
) -> Result<(), Wrong> {
    let (mut idle, mut now_ns) = (0, now_ns);
    for _ in 0..PATIENCE {
        if machine.open() > 0 {
            idle = 0;
            let index = rng.index(machine.open());
            machine.end(index, true, rng)?;
        } else if idle > 20 {
            return Ok(());
        } else {
            (idle, now_ns) = (idle + 1, now_ns + 500_000_000);
            machine.core.tick(now_ns);
            machine.drain()?;
        }
    }
    Err("background work never ends".into())
}

/// What the production volumes that are there look like.
pub(super) fn fingerprints<E: Engine>(machine: &Machine<E>) -> Vec<(Dev, u64)> {
    let all = (0u16..).zip(&machine.disks).skip(1);
    let here = all.filter(|(dev, _)| !machine.absent.has(usize::from(*dev)));
    here.map(|(dev, disk)| (Dev(dev), disk.fingerprint())).collect()
}

/// Closes a pool that rests; gives its disks.
///
/// # Errors
///
/// What went wrong.
pub(super) fn close<E: Engine>(mut machine: Machine<E>, rng: &mut Rng) -> Result<Vec<Disk>, Wrong> {
    let fingerprints = fingerprints(&machine);
    machine.core.close(&fingerprints);
    machine.drain()?;
    while machine.core.closed().is_none() {
        if machine.open() == 0 {
            return Err("the close hangs".into());
        }
        let index = rng.index(machine.open());
        machine.end(index, true, rng)?;
    }
    match machine.core.closed() {
        Some(Err(fault)) => Err(format!("the close fails with {fault:?}")),
        Some(Ok(())) if machine.open() > 0 => Err("it is closed amid its steps".into()),
        _ => Ok(machine.disks),
    }
}

/// Gives a command and waits for its reply.
///
/// # Errors
///
/// What went wrong.
pub(super) fn ask<E: Engine>(
    machine: &mut Machine<E>,
    rng: &mut Rng,
    bytes: Vec<u8>,
) -> Result<Vec<u8>, Wrong> {
    let cookie = machine.command(bytes)?;
    until(machine, rng, |event| match event {
        Event::Reply(its, reply) if its == cookie => Some(reply),
        _ => None,
    })
}

/// All volumes and snapshots that are not hidden.
///
/// # Errors
///
/// What went wrong.
pub(super) fn list<E: Engine>(machine: &mut Machine<E>, rng: &mut Rng) -> Result<Vec<Row>, Wrong> {
    let mut all = list_all(machine, rng)?;
    all.retain(|row| row.flags & rows::FLAG_HIDDEN == 0);
    Ok(all)
}

/// All volumes and snapshots.
///
/// # Errors
///
/// What went wrong.
pub(super) fn list_all<E: Engine>(
    machine: &mut Machine<E>,
    rng: &mut Rng,
) -> Result<Vec<Row>, Wrong> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let reply = ask(machine, rng, command::list(from))?;
        let (head, rows) = command::parse(&reply)?;
        if head.refusal.get() != 0 {
            return Err(format!("the list is refused: {}", head.refusal));
        }
        for row in rows {
            all.push(command::entity(row)?);
        }
        from = head.next.get();
        if from == u64::MAX {
            return Ok(all);
        }
    }
}

/// Reads the whole pool. A snapshot that was destroyed for later may go meanwhile: then it begins
/// anew.
///
/// # Errors
///
/// What went wrong.
pub(super) fn sweep<E: Engine>(machine: &mut Machine<E>, rng: &mut Rng) -> Result<Sweep, Wrong> {
    for _ in 0..20 {
        if let Some(sweep) = sweep_once(machine, rng)? {
            return Ok(sweep);
        }
    }
    Err("what the list shows goes away, again and again".into())
}

fn sweep_once<E: Engine>(machine: &mut Machine<E>, rng: &mut Rng) -> Result<Option<Sweep>, Wrong> {
    let mut sweep = Sweep { rows: list(machine, rng)?, ..Sweep::default() };
    for row in &sweep.rows {
        if row.is(rows::FLAG_OFFLINE) {
            match machine.core.attach(&row.name, false) {
                Err(Refusal::Offline) => continue,
                _ => return Err(format!("{} is offline and can be opened", row.name)),
            }
        }
        let shown = read_all(machine, rng, row).map_err(|w| format!("{}: {w}", row.name))?;
        let Some(shown) = shown else { return Ok(None) };
        sweep.content.insert(row.id, shown);
    }
    Ok(Some(sweep))
}

/// Reads a volume from end to end, word by word, several requests at a time; nothing if it was to
/// be destroyed and now is.
fn read_all<E: Engine>(
    machine: &mut Machine<E>,
    rng: &mut Rng,
    row: &Row,
) -> Result<Option<Shown>, Wrong> {
    let block = u64::from(machine.disks[0].device.block);
    let blocks = row.size / block;
    let opened = match machine.core.attach(&row.name, false) {
        Ok(opened) => opened,
        Err(Refusal::Lost) => {
            return Ok(Some(vec![Err(Fault::Fenced); usize::try_from(blocks).unwrap_or(0)]));
        }
        Err(Refusal::NotFound) if row.flags & rows::FLAG_DEFERRED != 0 => return Ok(None),
        Err(refusal) => return Err(format!("cannot be opened: {refusal:?}")),
    };
    machine.drain()?;
    let each = machine.core.geometry().word_bytes() / block;
    let mut shown = vec![Err(Fault::Range); usize::try_from(blocks).unwrap_or(0)];
    let (mut at, mut flying) = (0, 0);
    while at < blocks || flying > 0 {
        if at < blocks && flying < 3 {
            let len = each.min(blocks - at);
            let data = vec![Block::ZERO; usize::try_from(len).unwrap_or(0)];
            let io =
                Io { handle: opened.handle, op: Op::Read, at, blocks: data, left: 0, failed: None };
            machine.request(io, opened.fast.as_ref(), 0)?;
            (at, flying) = (at + len, flying + 1);
            continue;
        }
        let io = until(machine, rng, |event| match event {
            Event::Io(_, io) => Some(io),
            Event::Reply(..) => None,
        })?;
        flying -= 1;
        let first = usize::try_from(io.at).unwrap_or(0);
        for (to, from) in shown[first..].iter_mut().zip(&io.blocks) {
            *to = io.failed.map_or_else(|| Ok(from.value()), Err);
        }
    }
    machine.core.detach(opened.handle);
    machine.drain()?;
    if shown.contains(&Err(Fault::Range)) {
        return Err("fails a read within its size".into());
    }
    retry_blocks(machine, rng, row, &mut shown)?;
    Ok(Some(shown))
}

/// Writes a chunk; what was in the way, if something was.
///
/// # Errors
///
/// What went wrong beside the write.
pub(super) fn write_chunk<E: Engine>(
    machine: &mut Machine<E>,
    rng: &mut Rng,
    name: &str,
    byte: u64,
) -> Result<Option<Fault>, Wrong> {
    let block = u64::from(machine.disks[0].device.block);
    let blocks = u64::from(machine.core.geometry().chunk_bytes()) / block;
    let opened = machine.core.attach(name, true).map_err(|r| format!("{name}: {r:?}"))?;
    machine.drain()?;
    let (handle, op, at) = (opened.handle, Op::Write { fua: rng.chance(50) }, byte / block);
    let blocks = vec![Block::Word(1); usize::try_from(blocks).unwrap_or(0)];
    machine.request(Io { handle, op, at, blocks, left: 0, failed: None }, None, 0)?;
    let io = until(machine, rng, |event| match event {
        Event::Io(_, io) => Some(io),
        Event::Reply(..) => None,
    })?;
    machine.core.detach(handle);
    machine.drain()?;
    Ok(io.failed)
}

/// A read of a whole word fails for one block's sake: reads the others by themselves.
fn retry_blocks<E: Engine>(
    machine: &mut Machine<E>,
    rng: &mut Rng,
    row: &Row,
    shown: &mut Shown,
) -> Result<(), Wrong> {
    if shown.iter().all(Result::is_ok) {
        return Ok(());
    }
    let Ok(opened) = machine.core.attach(&row.name, false) else { return Ok(()) };
    let (handle, op) = (opened.handle, Op::Read);
    for (at, to) in (0..).zip(shown.iter_mut()).filter(|(_, found)| found.is_err()) {
        let io = Io { handle, op, at, blocks: vec![Block::ZERO], left: 0, failed: None };
        machine.request(io, opened.fast.as_ref(), 0)?;
        let io = until(machine, rng, |event| match event {
            Event::Io(_, io) => Some(io),
            Event::Reply(..) => None,
        })?;
        *to = io.failed.map_or_else(|| Ok(io.blocks[0].value()), Err);
    }
    machine.core.detach(handle);
    machine.drain()
}
