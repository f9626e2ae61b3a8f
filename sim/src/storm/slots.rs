// SPDX-License-Identifier: MIT

//! Slots: none is used twice, none is leaked, and the maps that the core shows agree with its
//! count.

use std::collections::BTreeMap;

use rwsnap_core::api::Op;
use rwsnap_core::control::{rows, PoolRow, RunRow, Verb};
use rwsnap_core::fault::Fault;
use zerocopy::FromBytes;

use super::command;
use super::crash;
use super::engine::{Engine, Routed};
use super::machine::{Machine, Wrong};
use super::oracle::Row;
use super::rng::Rng;

/// Which chunk of which map, at which epoch, a slot holds.
type Holder = (u32, u64, u32);

/// The pool's own row.
///
/// # Errors
///
/// That there is none.
pub(super) fn status<E: Engine>(machine: &mut Machine<E>, rng: &mut Rng) -> Result<PoolRow, Wrong> {
    let reply = crash::ask(machine, rng, command::query(Verb::Status, "", 0))?;
    let (_, rows) = command::parse(&reply)?;
    let row = rows.first().ok_or("no status")?;
    PoolRow::read_from_bytes(row).map_err(|_| "not a pool".to_string())
}

/// All runs of a volume or snapshot.
fn runs<E: Engine>(
    machine: &mut Machine<E>,
    rng: &mut Rng,
    name: &str,
) -> Result<Vec<RunRow>, Wrong> {
    let (mut all, mut from) = (Vec::new(), 0);
    while from != u64::MAX {
        let reply = crash::ask(machine, rng, command::query(Verb::Map, name, from))?;
        let (head, rows) = command::parse(&reply)?;
        if head.refusal.get() != 0 {
            return Err(format!("the map of {name} is refused: {}", head.refusal));
        }
        for row in rows {
            all.push(RunRow::read_from_bytes(row).map_err(|_| "not a run".to_string())?);
        }
        from = head.next.get();
    }
    Ok(all)
}

/// Compares the maps of all volumes with one another and with the count of slots in use; exactly
/// only when the pool rests after a clean close: freed slots come back with a checkpoint.
///
/// # Errors
///
/// The first contradiction.
pub(super) fn check<E: Engine>(
    machine: &mut Machine<E>,
    rng: &mut Rng,
    exactly: bool,
) -> Result<(), Wrong> {
    if !E::SLOTS {
        return Ok(());
    }
    let mut holders: BTreeMap<u64, Holder> = BTreeMap::new();
    let mut restoring = false;
    let rows = crash::list_all(machine, rng)?;
    for row in rows.iter().filter(|row| row.flags & rows::FLAG_GIVEN_UP == 0) {
        let mut next = 0;
        let is_restoring = row.flags & rows::FLAG_RESTORING != 0;
        restoring |= is_restoring;
        let runs = runs(machine, rng, &row.name)?;
        let kept = |r: &Row| r.owner == row.id && r.flags & rows::FLAG_GIVEN_UP == 0;
        if row.kind == rows::KIND_PRODUCTION && !is_restoring && rows.iter().any(kept) {
            bits_agree(machine, row, &runs)?;
        }
        for run in runs {
            if run.chunk.get() != next {
                return Err(format!("the map of {} has a gap at chunk {next}", row.name));
            }
            next += run.count.get();
            if run.place.get() == rows::PLACE_SLOT {
                hold(&mut holders, &run).map_err(|w| format!("{}: {w}", row.name))?;
            }
        }
        let chunk = u64::from(machine.core.geometry().chunk_bytes());
        if next != row.size.div_ceil(chunk) {
            return Err(format!("the map of {} ends at chunk {next}", row.name));
        }
    }
    let pool = status(machine, rng)?;
    let (used, held) =
        (pool.slots_used.get(), holders.len() as u64 + E::metadata_slots(&machine.disks[0]));
    let rests = exactly && pool.sweeping.get() == 0 && !restoring && pool.fenced.get() == 0;
    if used < held || (rests && used != held) {
        return Err(format!("{used} slots are in use, the maps name {held}"));
    }
    if rests {
        promises_agree(machine, &rows, &pool)?;
        nobody_waits(&rows)?;
    }
    Ok(())
}

/// A snapshot that was destroyed for later is gone when nothing needs it.
fn nobody_waits(rows: &[Row]) -> Result<(), Wrong> {
    let waits = |row: &&Row| {
        let flags = row.flags & (rows::FLAG_DEFERRED | rows::FLAG_HELD);
        flags == rows::FLAG_DEFERRED && !rows.iter().any(|other| other.base == row.id)
    };
    rows.iter().find(waits).map_or(Ok(()), |row| Err(format!("{} waits for nobody", row.name)))
}

/// What a volume's reservation has beyond what it uses, in slots.
fn promise<E: Engine>(machine: &Machine<E>, row: &Row) -> u64 {
    let chunk = u64::from(machine.core.geometry().chunk_bytes());
    row.reservation.div_ceil(chunk).saturating_sub(row.used / chunk)
}

/// The slots that are promised are what reservations have left, or all that are free.
fn promises_agree<E: Engine>(
    machine: &Machine<E>,
    rows: &[Row],
    pool: &PoolRow,
) -> Result<(), Wrong> {
    let all: u64 = rows.iter().map(|row| promise(machine, row)).sum();
    let free = pool.slots.get() - pool.slots_used.get();
    let reserved = pool.slots_reserved.get();
    if reserved == all.min(free) {
        return Ok(());
    }
    Err(format!("{reserved} slots are promised, of {free} free; reservations ask for {all}"))
}

/// Clones write what their reservations have left. The pool is spent then.
///
/// # Errors
///
/// That one finds no space.
pub(super) fn spend<E: Engine>(machine: &mut Machine<E>, rng: &mut Rng) -> Result<(), Wrong> {
    if !E::SLOTS {
        return Ok(());
    }
    let rows = crash::list_all(machine, rng)?;
    let pool = status(machine, rng)?;
    let all: u64 = rows.iter().map(|row| promise(machine, row)).sum();
    if pool.fenced.get() != 0 || pool.slots_reserved.get() < all {
        return Ok(());
    }
    let chunk = u64::from(machine.core.geometry().chunk_bytes());
    for row in rows.iter().filter(|row| !row.is(rows::FLAG_OFFLINE)) {
        let whole = row.size / chunk;
        let from = rng.below(whole.max(1));
        for n in 0..promise(machine, row).min(whole) {
            let at = (from + n) % whole * chunk;
            match crash::write_chunk(machine, rng, &row.name, at)? {
                None | Some(Fault::Io | Fault::Lost) => {}
                Some(fault) => {
                    let left = promise(machine, row) - n;
                    return Err(format!("{}: {fault:?}, with {left} slots promised", row.name));
                }
            }
        }
    }
    Ok(())
}

/// A write that the hot path lets pass must not need a copy any more.
fn bits_agree<E: Engine>(
    machine: &mut Machine<E>,
    row: &Row,
    runs: &[RunRow],
) -> Result<(), Wrong> {
    let Ok(opened) = machine.core.attach(&row.name, true) else { return Ok(()) };
    machine.drain()?;
    let chunk = u64::from(machine.core.geometry().chunk_bytes());
    let mut wrong = None;
    for run in runs.iter().filter(|run| run.flags.get() & rows::RUN_BIT == 0) {
        for at in (run.chunk.get()..).take(usize::try_from(run.count.get()).unwrap_or(0)) {
            let len = u32::try_from(chunk.min(row.size - at * chunk)).unwrap_or(0);
            let Some(fast) = &opened.fast else { continue };
            let route = E::route(fast, 0, Op::Write { fua: false }, at * chunk, len);
            if let Routed::Pass(_, _, token) = route {
                if E::leave(fast, 0, token) {
                    machine.core.kick();
                }
                wrong = Some(format!("{}: chunk {at} has its bit and no copy", row.name));
            }
        }
    }
    machine.core.detach(opened.handle);
    machine.drain()?;
    wrong.map_or(Ok(()), Err)
}

/// All maps, for people.
pub(super) fn show<E: Engine>(machine: &mut Machine<E>, rng: &mut Rng) -> String {
    let mut text = String::new();
    for row in crash::list_all(machine, rng).unwrap_or_default() {
        text += &format!("{} (number {}, flags {:#x}):", row.name, row.id, row.flags);
        for run in runs(machine, rng, &row.name).unwrap_or_default() {
            let (chunk, count, at) = (run.chunk, run.count, run.at);
            let (place, epoch, map) = (run.place, run.epoch, run.map);
            text += &format!(" {chunk}+{count}:p{place}@{at} m{map}e{epoch} f{};", run.flags);
        }
        text.push('\n');
    }
    text
}

fn hold(holders: &mut BTreeMap<u64, Holder>, run: &RunRow) -> Result<(), Wrong> {
    for i in 0..run.count.get() {
        let (slot, chunk) = (run.at.get() + i, run.chunk.get() + i);
        let holder = (run.map.get(), chunk, run.epoch.get());
        let before = *holders.entry(slot).or_insert(holder);
        if before != holder {
            return Err(format!("slot {slot} holds {holder:?} and {before:?}"));
        }
    }
    Ok(())
}
