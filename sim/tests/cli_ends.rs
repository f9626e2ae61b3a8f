// SPDX-License-Identifier: MIT

//! A production device that comes to its end too early.

#[path = "pool/loops.rs"]
mod loops;
#[expect(dead_code, reason = "other tests use the rest")]
mod pool;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "pool/server.rs"]
mod server;

use std::fs::{self, File};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use loops::Loop;
use pool::{pattern, Place};
use server::Server;

const M: u64 = 1 << 20;
const SIZE: u64 = 16 * M;

/// Cuts a file of the place off: what lies behind fails from then on, on the device over it.
fn truncate(place: &Place, name: &str, bytes: u64) {
    File::options().write(true).open(place.path(name)).unwrap().set_len(bytes).unwrap();
}

/// How it ended, in good time.
fn ends(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it hangs");
}

/// A command with its end in good time: whether it was done, and what it said.
fn tried(place: &Place, args: &[&str]) -> (bool, String) {
    let said = place.path("said");
    let mut command = place.command(args);
    command.stdout(File::create(place.path("out")).unwrap());
    let mut child = command.stderr(File::create(&said).unwrap()).spawn().unwrap();
    let status = ends(&mut child);
    (status.success(), fs::read_to_string(said).unwrap())
}

fn try_write(place: &Place, save: &str, name: &str, at: u64) -> (bool, String) {
    fs::write(place.path("in"), pattern(at, M, 9)).unwrap();
    let at = at.to_string();
    tried(place, &["--pool", save, "write", name, "--offset", &at, "-i", "in"])
}

#[test]
fn a_production_that_fails_in_part_fails_there_alone() {
    let place = Place::new();
    place.production("prod.img", SIZE);
    place.production("other.img", SIZE);
    let prod = Loop::over(place.path("prod.img").to_str().unwrap());
    let other = format!("other={}", place.path("other.img").display());
    let first = format!("prod={}", prod.0);
    let create = ["-q", "create", "save.img", "--size", "48M", "--production", &first];
    place.ok(&[&create[..], &["--production", &other]].concat());
    let server = Server::start(&place, &[]);
    place.ok(&["snapshot", "prod@a", "other@a"]);
    assert!(try_write(&place, "save.img", "prod", M).0);
    truncate(&place, "prod.img", 8 * M);
    let reads = |name: &str, at: u64| {
        let (at, len) = (at.to_string(), M.to_string());
        tried(&place, &["read", name, "--offset", &at, "--length", &len]).0
    };
    for name in ["prod", "prod@a"] {
        assert!(reads(name, 0) && reads(name, M) && !reads(name, 12 * M), "{name}");
    }
    // Old data that cannot be read is lost to the snapshot, and not to production.
    assert!(try_write(&place, "save.img", "prod", 12 * M).0);
    assert!(reads("prod", 12 * M) && !reads("prod@a", 12 * M));
    assert!(try_write(&place, "save.img", "prod", 2 * M).0);
    place.holds("prod@a", 0, 8 * M, 1);
    // All else goes on.
    assert_eq!(place.json(&["status"])["fenced"], serde_json::Value::Null);
    place.ok(&["snapshot", "other@b"]);
    place.write("other", 0, 4 * M, 2);
    place.holds("other@b", 0, SIZE, 1);
    let stopped = tried(&place, &["stop"]);
    let mut server = server;
    let status = ends(&mut server.child);
    assert!(stopped.0 && status.success(), "{} {status}", stopped.1);
    place.check();
}
