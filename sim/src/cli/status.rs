// SPDX-License-Identifier: MIT

//! `rwsnap status`: the pool, how full it is, what it is doing.

use rwsnap_core::control::rows::KIND_PRODUCTION;
use rwsnap_core::control::{
    self, DeviceRow, EntityRow, EventRow, Name, PoolRow, PropertyRow, Refusal, RestoreRow,
};

use crate::server::why_fenced;
use crate::store::identify::padded_text;

use super::connect::{command, Connection};
use super::error::Outcome;
use super::full;
use super::module::node;
use super::output::{human, moment, print_json, print_pairs};
use super::view::{Device, Event, Pool, Restore, WHEN_FULL};
use super::Global;

/// Events shown to people.
const LATEST: u64 = 5;

/// Show the pool: how full it is and what it is doing
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap status --json | jq .slot_bytes_used")]
pub(super) struct Status {
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Full {
    #[serde(flatten)]
    pool: Pool,
    served: bool,
    attached: bool,
    place: String,
    restores: Vec<Restore>,
    exports: Vec<Export>,
    devices: Vec<Device>,
    latest_events: Vec<Event>,
}

#[derive(serde::Serialize)]
struct Export {
    name: String,
    uri: String,
}

struct Known {
    row: PoolRow,
    volumes: usize,
    served: bool,
    attached: bool,
    place: String,
    restores: Vec<RestoreRow>,
    exports: Vec<Export>,
    devices: Vec<DeviceRow>,
    events: Vec<EventRow>,
}

impl Status {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let known = global.with(ask)?;
        if !self.json {
            return show(&known);
        }
        let mut pool = Pool::from(&known.row);
        pool.volumes = known.volumes;
        print_json(&Full {
            pool,
            served: known.served,
            attached: known.attached,
            place: known.place,
            restores: known.restores.iter().map(Restore::from).collect(),
            exports: known.exports,
            devices: known.devices.iter().map(Device::from).collect(),
            latest_events: known.events.iter().map(Event::from).collect(),
        })
    }
}

fn ask(pool: &mut Connection) -> Outcome<Known> {
    let row = pool.pool()?;
    let volumes = pool.all::<EntityRow>(command(control::Verb::List, Name::default()))?;
    let mut restores = Vec::new();
    for volume in volumes.iter().filter(|v| v.kind.get() == KIND_PRODUCTION) {
        let status = command(control::Verb::RestoreStatus, volume.name);
        let (refusal, answer) = pool.try_call(&status, &[])?;
        if refusal == Refusal::None {
            restores.extend(answer.rows::<RestoreRow>());
        }
    }
    let mut events = command(control::Verb::Events, Name::default());
    events.value = row.events.get().saturating_sub(LATEST).into();
    let events = pool.all::<EventRow>(events)?;
    let (served, attached) = (pool.is_served(), pool.is_attached());
    let devices = pool.devices()?;
    let exports = if served { exports(pool)? } else { Vec::new() };
    let (volumes, place) = (volumes.len(), pool.place.display().to_string());
    Ok(Known { row, volumes, served, attached, place, restores, exports, devices, events })
}

fn exports(pool: &mut Connection) -> Outcome<Vec<Export>> {
    let rows = pool.all::<PropertyRow>(command(control::Verb::Exports, Name::default()))?;
    let export = |row: &PropertyRow| Export {
        name: row.key.text().to_owned(),
        uri: padded_text(&row.value),
    };
    Ok(rows.iter().map(export).collect())
}

fn show(known: &Known) -> Outcome {
    let row = &known.row;
    let chunk = u64::from(row.chunk.get());
    let slots = |n: u64| human(n.saturating_mul(chunk));
    let (used, all) = (row.slots_used.get(), row.slots.get());
    let percent = used.saturating_mul(100).checked_div(all).unwrap_or(0);
    let full = usize::try_from(row.when_full.get()).ok().and_then(|n| WHEN_FULL.get(n));
    let limit = match row.save_limit.get() {
        limit if limit > row.save_bytes.get() && row.when_full.get() == 0 => {
            format!(", up to {}", human(limit))
        }
        _ => String::new(),
    };
    let mut pairs = vec![
        ("pool", Connection::pool_name(row)),
        ("uuid", uuid::Uuid::from_bytes(row.uuid).to_string()),
        ("state", state(known)),
        ("save volume", format!("{}{limit}", human(row.save_bytes.get()))),
        ("used", format!("{} of {} ({percent}%)", slots(used), slots(all))),
        ("reserved", slots(row.slots_reserved.get())),
        ("when full", full.unwrap_or(&"unknown").to_string()),
        ("chunk", human(chunk)),
        ("copy span", human(row.copy_span.get().into())),
        ("volumes", known.volumes.to_string()),
        ("metadata", format!("{} of {} pages", row.pages_used.get(), row.pages.get())),
        ("map", format!("{} records, {} not yet on disk", row.records.get(), row.delta.get())),
        ("log", format!("{} of {} blocks", row.log_used.get(), row.log_blocks.get())),
    ];
    if row.fenced.get() != 0 {
        pairs.push(("fenced", fenced(row)));
    }
    if row.full.get() != 0 {
        pairs.push(("full", full::way_out(row)));
    }
    let restores: Vec<Restore> = known.restores.iter().map(Restore::from).collect();
    for r in &restores {
        let (done, total) = (human(r.done), human(r.total));
        pairs.push((
            "restore",
            format!("{} from {}: {}, {done} of {total}", r.name, r.from, r.state),
        ));
        if let Some(why) = r.waits_for(row) {
            pairs.push(("waits for", why));
        }
    }
    for e in known.events.iter().map(Event::from) {
        let who = e.name.map(|name| format!(" {name}")).unwrap_or_default();
        pairs.push(("event", format!("{} {}{who}", moment(e.time_ns), e.kind)));
    }
    for e in &known.exports {
        pairs.push(("export", e.uri.clone()));
    }
    for row in &known.devices {
        pairs.push(("device", format!("{} is {}", node(row).display(), row.name.text())));
    }
    print_pairs(&pairs)
}

/// Why nothing more is written, and the way out.
fn fenced(row: &PoolRow) -> String {
    let why = why_fenced(row.fenced.get().into());
    format!("{why}; end its server, or detach it, run `rwsnap check`, and serve or attach it again")
}

fn state(known: &Known) -> String {
    let mut words = Vec::new();
    words.push(match (known.served, known.attached) {
        (true, _) => "served",
        (_, true) => "attached",
        _ => "at rest",
    });
    words.push(if known.row.fenced.get() == 0 { "sound" } else { "FENCED" });
    if known.row.full.get() != 0 {
        words.push("FULL");
    }
    if known.row.sweeping.get() != 0 {
        words.push("sweeping");
    }
    words.join(", ")
}
