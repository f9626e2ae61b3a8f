// SPDX-License-Identifier: MIT

//! Rows as JSON: stable names, bytes, and times both in ns and readable. A field that does not
//! apply is `null`; fields may be added, never renamed.

use rwsnap_core::control::rows::{
    FLAG_DAMAGED, FLAG_DEFERRED, FLAG_GIVEN_UP, FLAG_HELD, FLAG_HIDDEN, FLAG_OFFLINE,
    FLAG_RESTORING, KIND_CLONE, KIND_PRODUCTION, KIND_SNAPSHOT, PLACE_IN_PLACE, PLACE_LOST,
    PLACE_SLOT, PLACE_ZERO, RUN_BASE, RUN_BIT, RUN_RESTORE_NEW, RUN_SETTLED, RUN_UNSETTLED,
};
use rwsnap_core::control::{DeviceRow, EntityRow, EventRow, PoolRow, RestoreRow, RunRow};
use serde::Serialize;
use zerocopy::little_endian::U32;

use crate::server::why_fenced;
use crate::store::identify::padded_text;

use super::full;
use super::module::node;
use super::output::rfc3339;
use super::ties;

/// The words for the flags of a volume or snapshot.
const FLAGS: [(u32, &str); 7] = [
    (FLAG_HIDDEN, "hidden"),
    (FLAG_HELD, "held"),
    (FLAG_DEFERRED, "deferred"),
    (FLAG_GIVEN_UP, "given-up"),
    (FLAG_DAMAGED, "damaged"),
    (FLAG_RESTORING, "restoring"),
    (FLAG_OFFLINE, "offline"),
];

/// The words for the flags of a run.
const RUN_FLAGS: [(u32, &str); 5] = [
    (RUN_BIT, "bit"),
    (RUN_BASE, "base"),
    (RUN_SETTLED, "settled"),
    (RUN_RESTORE_NEW, "restore-new"),
    (RUN_UNSETTLED, "unsettled"),
];

/// What to do when the save volume is full, by number.
pub const WHEN_FULL: [&str; 4] = ["grow", "oldest", "stall", "fail"];

/// What a restore is doing, by number.
const RESTORE_STATES: [&str; 4] = ["merging", "paused", "waiting for space", "finished"];

/// What happened, by number.
const EVENTS: [&str; 9] =
    ["unknown", "low-water", "full", "grown", "given-up", "fenced", "damaged", "restored", "swept"];

fn words(bits: u32, table: &[(u32, &'static str)]) -> Vec<&'static str> {
    table.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, word)| *word).collect()
}

fn word(table: &[&'static str], number: u32) -> &'static str {
    usize::try_from(number).ok().and_then(|n| table.get(n)).copied().unwrap_or("unknown")
}

fn moment(ns: u64) -> Option<String> {
    (ns != 0).then(|| rfc3339(ns))
}

/// The words for the flags of a volume or snapshot.
#[must_use]
pub fn flags(row: &EntityRow) -> Vec<&'static str> {
    words(row.flags.get(), &FLAGS)
}

/// What it is: `production`, `clone`, `snapshot`.
#[must_use]
pub fn kind(row: &EntityRow) -> &'static str {
    kind_word(row.kind.get())
}

fn kind_word(kind: u32) -> &'static str {
    match kind {
        KIND_PRODUCTION => "production",
        KIND_CLONE => "clone",
        KIND_SNAPSHOT => "snapshot",
        _ => "unknown",
    }
}

/// Clients that have it open, and those of them that write.
#[must_use]
pub fn opens(row: &EntityRow) -> (u32, u32) {
    (row.opens.get() & 0xFFFF, row.opens.get() >> 16)
}

/// The path of the block device that a volume or snapshot has of these.
#[must_use]
pub fn node_of(name: &str, devices: &[DeviceRow]) -> Option<String> {
    let row = devices.iter().find(|row| row.name.text() == name);
    row.map(|row| node(row).display().to_string())
}

/// A block device of the kernel module's.
#[derive(Serialize)]
pub struct Device {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    node: String,
    major: u32,
    minor: u32,
    open: u32,
    read_only: bool,
}

impl From<&DeviceRow> for Device {
    fn from(row: &DeviceRow) -> Self {
        let [major, minor] = row.number.map(U32::get);
        Self {
            name: row.name.text().to_owned(),
            kind: kind_word(row.kind.get()),
            node: node(row).display().to_string(),
            major,
            minor,
            open: row.open.get(),
            read_only: row.read_only.get() != 0,
        }
    }
}

/// A volume or snapshot.
#[derive(Serialize)]
pub struct Entity {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    uuid: String,
    id: u32,
    size: u64,
    used: u64,
    refer: u64,
    origin: Option<String>,
    bases: Vec<String>,
    needed_by: Vec<String>,
    created: Option<String>,
    created_ns: u64,
    flags: Vec<&'static str>,
    quota: u64,
    reservation: u64,
    epoch: u32,
    map: u32,
    opens: u32,
    writers: u32,
    reads: u64,
    writes: u64,
    group: u64,
    device: Option<u64>,
    /// The path of its block device, if the kernel module has the pool.
    node: Option<String>,
}

impl Entity {
    /// One of the pool's volumes and snapshots, `rows`.
    #[must_use]
    pub fn new(row: &EntityRow, rows: &[EntityRow]) -> Self {
        let (opens, writers) = opens(row);
        let origin = row.origin.text();
        Self {
            name: row.name.text().to_owned(),
            kind: kind(row),
            uuid: uuid::Uuid::from_bytes(row.uuid).to_string(),
            id: row.id.get(),
            size: row.size.get(),
            used: row.used.get(),
            refer: row.refer.get(),
            origin: (!origin.is_empty()).then(|| origin.to_owned()),
            bases: ties::bases(row, rows),
            needed_by: ties::needed_by(row, rows),
            created: moment(row.created_ns.get()),
            created_ns: row.created_ns.get(),
            flags: flags(row),
            quota: row.quota.get(),
            reservation: row.reservation.get(),
            epoch: row.epoch.get(),
            map: row.map.get(),
            opens,
            writers,
            reads: row.reads.get(),
            writes: row.writes.get(),
            group: row.group.get(),
            device: (row.kind.get() == KIND_PRODUCTION).then(|| row.device.get()),
            node: None,
        }
    }

    /// With its block device, if it has one of these.
    #[must_use]
    pub fn with_node(self, devices: &[DeviceRow]) -> Self {
        Self { node: node_of(&self.name, devices), ..self }
    }
}

/// A run of chunks that are alike.
#[derive(Serialize, Debug, PartialEq, Eq)]
pub struct Run {
    offset: u64,
    length: u64,
    place: &'static str,
    /// First slot, or first byte in place.
    at: Option<u64>,
    flags: Vec<&'static str>,
    epoch: u32,
    map: u32,
}

impl Run {
    /// In bytes; the last chunk of a volume may be short.
    #[must_use]
    pub fn new(row: &RunRow, chunk: u64, size: u64) -> Self {
        let offset = row.chunk.get().saturating_mul(chunk).min(size);
        let end = row.chunk.get().saturating_add(row.count.get()).saturating_mul(chunk).min(size);
        let (place, has_at) = match row.place.get() {
            PLACE_IN_PLACE => ("in-place", true),
            PLACE_SLOT => ("slot", true),
            PLACE_ZERO => ("zero", false),
            PLACE_LOST => ("lost", false),
            _ => ("unknown", false),
        };
        Self {
            offset,
            length: end - offset,
            place,
            at: has_at.then(|| row.at.get()),
            flags: words(row.flags.get(), &RUN_FLAGS),
            epoch: row.epoch.get(),
            map: row.map.get(),
        }
    }

    /// Takes the run after this one in, if they are alike and the one goes on where the other ends.
    #[must_use]
    pub fn join(&mut self, next: &Self, chunk: u64) -> bool {
        let on = match (self.at, self.place) {
            (Some(at), "slot") => Some(at + self.length.div_ceil(chunk)),
            (at, _) => at.map(|at| at + self.length),
        };
        let alike = (self.place, &self.flags, self.epoch, self.map)
            == (next.place, &next.flags, next.epoch, next.map);
        let joins = alike && on == next.at && self.offset + self.length == next.offset;
        if joins {
            self.length += next.length;
        }
        joins
    }

    /// As texts: offset, length, place, at, flags, epoch.
    #[must_use]
    pub fn texts(&self, bytes: impl Fn(u64) -> String) -> Vec<String> {
        let flags = if self.flags.is_empty() { "-".to_owned() } else { self.flags.join(",") };
        let epoch = if self.epoch == 0 { "-".to_owned() } else { self.epoch.to_string() };
        let at = self.at.map_or("-".to_owned(), |at| at.to_string());
        let (offset, length) = (bytes(self.offset), bytes(self.length));
        vec![offset, length, self.place.to_owned(), at, flags, epoch]
    }
}

/// A restore.
#[derive(Serialize)]
pub struct Restore {
    /// Production.
    pub name: String,
    /// What it is restored from.
    pub from: String,
    /// What it is doing.
    pub state: &'static str,
    order: &'static str,
    /// Bytes merged.
    pub done: u64,
    /// Bytes to be merged in all.
    pub total: u64,
    /// Bytes a second; none for no limit.
    pub rate: Option<u64>,
    started: Option<String>,
    started_ns: u64,
    /// Foreground reads since it began.
    pub reads: u64,
    /// Foreground writes since it began.
    pub writes: u64,
    retried_chunks: u32,
}

impl Restore {
    /// What it waits for if it does not go on, and the way out.
    #[must_use]
    pub fn waits_for(&self, pool: &PoolRow) -> Option<String> {
        match self.state {
            "paused" => Some(format!(
                "somebody to let it go on: rwsnap restore {} --rate none (or BYTES/s)",
                self.name
            )),
            "waiting for space" => Some(full::merge_waits(pool, &self.name)),
            _ => None,
        }
    }
}

impl From<&RestoreRow> for Restore {
    fn from(row: &RestoreRow) -> Self {
        Self {
            name: row.name.text().to_owned(),
            from: row.from.text().to_owned(),
            state: word(&RESTORE_STATES, row.state.get()),
            order: if row.old_first.get() == 1 { "old-first" } else { "new-first" },
            done: row.done.get(),
            total: row.total.get(),
            rate: (row.rate.get() != u64::MAX).then(|| row.rate.get()),
            started: moment(row.started_ns.get()),
            started_ns: row.started_ns.get(),
            reads: row.reads.get(),
            writes: row.writes.get(),
            retried_chunks: row.retried.get(),
        }
    }
}

/// Steps that the core gave out, for one device or kind of device.
#[derive(Serialize)]
pub struct Io {
    reads: u64,
    writes: u64,
    flushes: u64,
}

/// The pool.
#[derive(Serialize)]
pub struct Pool {
    /// Name.
    pub name: String,
    /// UUID.
    pub uuid: String,
    /// Whether all is well.
    pub state: &'static str,
    /// Why it is fenced.
    fenced: Option<&'static str>,
    chunk: u32,
    block: u32,
    copy_span: u32,
    when_full: &'static str,
    save_bytes: u64,
    save_limit: u64,
    slots: u64,
    slots_used: u64,
    slots_reserved: u64,
    slot_bytes_used: u64,
    slot_bytes: u64,
    full: bool,
    meta_pages: u64,
    meta_pages_used: u64,
    map_records: u64,
    delta_records: u64,
    log_blocks: u64,
    log_blocks_used: u64,
    log_records: u64,
    checkpoints: u64,
    checkpointing: bool,
    sweeping: bool,
    generation: u64,
    /// Volumes and snapshots.
    pub volumes: usize,
    copied_chunks: u64,
    save_io: Io,
    production_io: Io,
    events: u64,
}

impl From<&PoolRow> for Pool {
    fn from(row: &PoolRow) -> Self {
        let chunk = u64::from(row.chunk.get());
        let [save_reads, save_writes, save_flushes, reads, writes, flushes] = row.io;
        Self {
            name: padded_text(&row.label),
            uuid: uuid::Uuid::from_bytes(row.uuid).to_string(),
            state: if row.fenced.get() == 0 { "sound" } else { "fenced" },
            fenced: (row.fenced.get() != 0).then(|| why_fenced(row.fenced.get().into())),
            chunk: row.chunk.get(),
            block: row.block.get(),
            copy_span: row.copy_span.get(),
            when_full: word(&WHEN_FULL, row.when_full.get()),
            save_bytes: row.save_bytes.get(),
            save_limit: row.save_limit.get(),
            slots: row.slots.get(),
            slots_used: row.slots_used.get(),
            slots_reserved: row.slots_reserved.get(),
            slot_bytes_used: row.slots_used.get().saturating_mul(chunk),
            slot_bytes: row.slots.get().saturating_mul(chunk),
            full: row.full.get() != 0,
            meta_pages: row.pages.get(),
            meta_pages_used: row.pages_used.get(),
            map_records: row.records.get(),
            delta_records: row.delta.get(),
            log_blocks: row.log_blocks.get(),
            log_blocks_used: row.log_used.get(),
            log_records: row.log_records.get(),
            checkpoints: row.checkpoints.get(),
            checkpointing: row.checkpointing.get() != 0,
            sweeping: row.sweeping.get() != 0,
            generation: row.generation.get(),
            volumes: 0,
            copied_chunks: row.copied.get(),
            save_io: Io {
                reads: save_reads.get(),
                writes: save_writes.get(),
                flushes: save_flushes.get(),
            },
            production_io: Io { reads: reads.get(), writes: writes.get(), flushes: flushes.get() },
            events: row.events.get(),
        }
    }
}

/// An event.
#[derive(Serialize)]
pub struct Event {
    number: u64,
    time: Option<String>,
    /// ns since 1970.
    pub time_ns: u64,
    /// What happened.
    pub kind: &'static str,
    /// To what; none for the pool.
    pub name: Option<String>,
    value: u64,
    detail: u32,
}

impl From<&EventRow> for Event {
    fn from(row: &EventRow) -> Self {
        let name = row.name.text();
        Self {
            number: row.number.get(),
            time: moment(row.time_ns.get()),
            time_ns: row.time_ns.get(),
            kind: word(&EVENTS, row.kind.get()),
            name: (!name.is_empty()).then(|| name.to_owned()),
            value: row.value.get(),
            detail: row.detail.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(chunk: u64, count: u64, place: u32, at: u64) -> Run {
        let row = RunRow {
            chunk: chunk.into(),
            count: count.into(),
            place: place.into(),
            at: at.into(),
            ..RunRow::default()
        };
        Run::new(&row, 4096, 1 << 40)
    }

    #[test]
    fn runs_that_go_on_are_one() {
        for (place, on, off) in
            [(PLACE_IN_PLACE, 8192, 2), (PLACE_SLOT, 2, 8192), (PLACE_ZERO, 0, 0)]
        {
            let mut first = run(0, 2, place, 0);
            assert!(first.join(&run(2, 3, place, on), 4096));
            assert_eq!(first, run(0, 5, place, 0));
            assert!(!first.join(&run(6, 1, place, on), 4096));
            assert!(place == PLACE_ZERO || !first.join(&run(5, 1, place, off), 4096));
            assert!(!first.join(&run(5, 1, PLACE_LOST, 0), 4096));
        }
    }
}
