// SPDX-License-Identifier: MIT

//! What scripts build on: the names of the fields in the JSON of each command. Fields may be added
//! here; none is renamed or taken away.

#[expect(dead_code, reason = "other tests use the rest")]
mod pool;
#[path = "pool/server.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod server;

use std::collections::BTreeSet;

use pool::Place;
use serde_json::Value;
use server::Server;

const SIZE: u64 = 16 << 20;

const ENTITY: &str = "name type uuid id size used refer origin bases needed_by created created_ns \
    flags quota reservation epoch map opens writers reads writes group device node";
const POOL: &str = "name uuid state chunk block copy_span when_full save_bytes save_limit slots \
    slots_used slots_reserved slot_bytes_used slot_bytes full meta_pages meta_pages_used \
    map_records delta_records log_blocks log_blocks_used log_records checkpoints checkpointing \
    sweeping generation volumes copied_chunks save_io production_io events served attached place \
    restores exports devices latest_events fenced";
const RESTORE: &str = "name from state order done total rate started started_ns reads writes \
    retried_chunks";

/// The object, or the first of the list, has these fields and no others.
#[track_caller]
fn has(value: &Value, fields: &str) {
    let value = value.as_array().map_or(value, |list| &list[0]);
    let found: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(found, fields.split_whitespace().collect());
}

#[test]
fn fields_keep_their_names() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    place.write("prod", 0, 1 << 20, 2);
    place.ok(&["clone", "prod@a", "dev"]);
    let check = place.json(&["check", "save.img"]);
    has(
        &check,
        "pool uuid verdict clean generation volumes records pages slots slots_used log_blocks \
         log_dropped slots_leaked pages_leaked findings untold",
    );
    let server = Server::start(&place, &[]);
    has(&place.json(&["list"]), ENTITY);
    has(&place.json(&["info", "dev"]), &format!("{ENTITY} properties"));
    has(&place.json(&["map", "dev"]), "offset length place at flags epoch map");
    has(&place.json(&["diff", "dev", "prod"]), "offset length");
    has(&place.json(&["destroy", "dev", "--dry-run"]), "name frees deferred");
    has(&place.json(&["get", "dev"]), "quota reservation");
    has(&place.json(&["get", "pool"]), "when-full copy-span save-limit discard low-water");
    place.ok(&["restore", "prod", "--from", "dev", "--rate", "0"]);
    has(&place.json(&["restore", "prod", "--status"]), RESTORE);
    let status = place.json(&["status"]);
    has(&status, POOL);
    has(&status["restores"], RESTORE);
    has(&status["exports"], "name uri");
    has(&status["save_io"], "reads writes flushes");
    has(&status["production_io"], "reads writes flushes");
    place.ok(&["restore", "prod", "--rate", "none", "--wait"]);
    let events = &place.json(&["status"])["latest_events"];
    has(events, "number time time_ns kind name value detail");
    place.ok(&["stop"]);
    server.ended();
}

#[test]
fn sizes_are_bytes_and_numbers() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    place.write("prod", 0, 1 << 20, 2);
    place.ok(&["clone", "prod@a", "dev"]);
    place.ok(&["set", "dev", "quota=2M", "reservation=64K", "mine=1"]);
    let known = serde_json::json!({"quota": 2 << 20, "reservation": 64 << 10, "mine": "1"});
    assert_eq!(place.json(&["get", "dev"]), known);
    assert_eq!(place.json(&["get", "dev", "quota"]), serde_json::json!({"quota": 2 << 20}));
    assert_eq!(place.json(&["get", "pool"])["copy-span"], 4096);
    let info = place.json(&["info", "dev"]);
    assert_eq!((&info["size"], &info["quota"]), (&SIZE.into(), &(2 << 20).into()));
    assert_eq!(place.json(&["map", "prod@a"])[0]["length"], 1 << 20);
    assert_eq!(place.json(&["status"])["slot_bytes_used"], 1 << 20);
}
