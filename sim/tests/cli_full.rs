// SPDX-License-Identifier: MIT

//! A save volume that fills, at each policy: what clients see, what `status` says, and that the way
//! out is one.

#[expect(dead_code, reason = "other tests use the rest")]
mod pool;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "pool/server.rs"]
mod server;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pool::{pattern, Place};
use server::Server;

const M: u64 = 1 << 20;
const SIZE: u64 = 32 * M;

/// A pool with 16 MiB for old data, and this policy.
fn place(policy: &[&str]) -> Place {
    let place = Place::new();
    let prod = place.production("prod.img", SIZE);
    let create = ["-q", "create", "save.img", "--size", "16M", "--production", &prod];
    place.ok(&[&create, policy].concat());
    place
}

/// Begins to write a pattern.
fn begin_write(place: &Place, name: &str, at: u64, len: u64, seed: u64) -> Child {
    fs::write(place.path("waits"), pattern(at, len, seed)).unwrap();
    let mut write = place.command(&["write", name, "--offset", &at.to_string(), "-i", "waits"]);
    write.stderr(Stdio::piped()).spawn().unwrap()
}

/// Until the pool is full and somebody waits.
fn wait_full(place: &Place) {
    let begun = Instant::now();
    while !place.json(&["status"])["full"].as_bool().unwrap() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not get full");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// It ends, and well.
fn succeeds(mut child: Child) {
    let status = child.wait().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(status.success(), "{status}: {said}");
}

fn still_waits(child: &mut Child) {
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it did not wait");
}

fn events(place: &Place) -> Vec<(String, Option<String>)> {
    let status = place.json(&["status"]);
    let row = |e: &serde_json::Value| {
        (e["kind"].as_str().unwrap().to_owned(), e["name"].as_str().map(str::to_owned))
    };
    status["latest_events"].as_array().unwrap().iter().map(row).collect()
}

/// A clone that finds no room is told so, and loses nothing.
fn clone_is_told(place: &Place) {
    place.ok(&["clone", "prod@a", "dev"]);
    fs::write(place.path("in"), pattern(0, 16 * M, 8)).unwrap();
    place.refused(&["write", "dev", "-i", "in"], &["no room", "rwsnap status"]);
    place.holds("dev", 16 * M, 16 * M, 1);
    place.ok(&["destroy", "dev"]);
}

#[test]
fn grow_makes_the_file_larger_and_stalls_at_its_limit() {
    let place = place(&["--when-full", "grow", "--grow-limit", "20M"]);
    let server = Server::start(&place, &[]);
    place.ok(&["snapshot", "prod@a"]);
    place.write("prod", 0, 16 * M, 2);
    let grown = fs::metadata(place.path("save.img")).unwrap().len();
    assert!((16 * M + 1..=20 * M).contains(&grown), "{grown}");
    assert!(events(&place).iter().any(|(kind, _)| kind == "grown"));
    let mut write = begin_write(&place, "prod", 16 * M, 16 * M, 2);
    wait_full(&place);
    still_waits(&mut write);
    assert_eq!(fs::metadata(place.path("save.img")).unwrap().len(), 20 * M);
    let said = place.ok(&["status"]);
    assert!(said.contains("FULL") && said.contains("is at its limit"), "{said}");
    assert!(said.contains("rwsnap set pool save-limit=SIZE"), "{said}");
    place.holds("prod", 0, 16 * M, 2);
    clone_is_told(&place);
    place.refused(&["set", "pool", "save-limit=1E"], &["save-limit", "to grow to", "--grow-limit"]);
    place.ok(&["set", "pool", "save-limit=64M"]);
    succeeds(write);
    assert!(fs::metadata(place.path("save.img")).unwrap().len() > 32 * M);
    place.holds("prod", 0, SIZE, 2);
    place.holds("prod@a", 0, SIZE, 1);
    assert!(!place.json(&["status"])["full"].as_bool().unwrap());
    place.ok(&["stop"]);
    server.ended();
    place.check();
}

#[test]
fn oldest_gives_up_the_oldest_snapshot_and_says_so() {
    let place = place(&["--when-full", "oldest"]);
    let server = Server::start(&place, &[]);
    for (seed, name) in (2..).zip(["prod@a", "prod@b", "prod@c"]) {
        place.ok(&["snapshot", name]);
        place.write("prod", 0, 7 * M, seed);
    }
    let given_up = ("given-up".to_owned(), Some("prod@a".to_owned()));
    assert!(events(&place).contains(&given_up), "{:?}", events(&place));
    assert_eq!(place.json(&["info", "prod@a"])["flags"], serde_json::json!(["given-up"]));
    place.refused(
        &["read", "prod@a", "--length", "4K"],
        &["the data of `prod@a` is lost", "can only be destroyed"],
    );
    place.refused(&["clone", "prod@a", "dev"], &["the data of `prod@a` is lost"]);
    place.refused(&["restore", "prod", "--from", "prod@a"], &["`prod@a` is lost", "--force"]);
    place.holds("prod@c", 0, 7 * M, 3);
    place.holds("prod", 0, 7 * M, 4);
    // A clone's base is spared, and what is held: production waits then.
    place.ok(&["destroy", "prod@a", "prod@b"]);
    place.ok(&["clone", "prod@c", "dev"]);
    place.ok(&["snapshot", "prod@d"]);
    place.ok(&["hold", "prod@d"]);
    let mut write = begin_write(&place, "prod", 0, 13 * M, 5);
    wait_full(&place);
    still_waits(&mut write);
    place.holds("dev", 0, 7 * M, 3);
    assert!(place.ok(&["status"]).contains("is held or has clones"));
    place.ok(&["release", "prod@d"]);
    succeeds(write);
    let given_up = ("given-up".to_owned(), Some("prod@d".to_owned()));
    assert!(events(&place).contains(&given_up), "{:?}", events(&place));
    place.ok(&["stop"]);
    server.ended();
    place.check();
}

#[test]
fn stall_waits_and_a_destroy_lets_it_go_on() {
    let place = place(&["--when-full", "stall"]);
    let server = Server::start(&place, &[]);
    place.ok(&["snapshot", "prod@a"]);
    let mut write = begin_write(&place, "prod", 0, 24 * M, 2);
    wait_full(&place);
    still_waits(&mut write);
    let said = place.ok(&["status"]);
    assert!(said.contains("FULL") && said.contains("when-full=stall"), "{said}");
    place.holds("prod@a", 0, SIZE, 1);
    clone_is_told(&place);
    place.ok(&["destroy", "prod@a"]);
    succeeds(write);
    place.holds("prod", 0, 24 * M, 2);
    place.ok(&["stop"]);
    server.ended();
    place.check();
}

/// A server could not be ended while a write waited for room.
#[test]
fn a_server_ends_although_a_write_waits_for_room() {
    let place = place(&["--when-full", "stall"]);
    let server = Server::start(&place, &["--nbd", "unix:n.sock"]);
    place.ok(&["snapshot", "prod@a"]);
    let mut write = Command::new("qemu-io")
        .args(["-f", "raw", "-c", "write -P 2 0 24M"])
        .arg("nbd+unix:///prod?socket=n.sock")
        .current_dir(place.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_full(&place);
    place.ok(&["stop"]);
    server.ended();
    assert!(!write.wait().unwrap().success(), "it was not all written");
    place.check();
    place.holds("prod@a", 0, SIZE, 1);
    // At rest there is nobody who could make room meanwhile.
    fs::write(place.path("in"), pattern(0, 24 * M, 3)).unwrap();
    place.refused(&["write", "prod", "-i", "in"], &["no space", "destroy"]);
    place.holds("prod@a", 0, SIZE, 1);
    place.ok(&["destroy", "prod@a"]);
    place.write("prod", 0, 24 * M, 3);
    place.check();
}

#[test]
fn fail_fails_the_first_write_that_finds_no_room() {
    let place = place(&["--when-full", "fail"]);
    let server = Server::start(&place, &["--nbd", "unix:n.sock"]);
    place.ok(&["snapshot", "prod@a"]);
    fs::write(place.path("in"), pattern(0, 24 * M, 2)).unwrap();
    place.refused(&["write", "prod", "-i", "in"], &["no room", "rwsnap status"]);
    let uri = "nbd+unix:///prod?socket=n.sock";
    let io = |command: &str| {
        let mut io = Command::new("qemu-io");
        let output =
            io.args(["-f", "raw", "-c", command, uri]).current_dir(place.path("")).output();
        let output = output.unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let said = io("write -P 7 28M 1M");
    assert!(said.contains("No space left on device"), "{said}");
    // What is copied already can be written, and all can be read.
    assert!(io("write -P 9 0 1M").contains("wrote 1048576/1048576"));
    assert!(io("read -P 9 0 1M").contains("read 1048576/1048576"));
    place.holds("prod", 28 * M, 4 * M, 1);
    place.holds("prod@a", 0, SIZE, 1);
    clone_is_told(&place);
    place.ok(&["destroy", "prod@a"]);
    place.write("prod", 0, SIZE, 3);
    place.ok(&["stop"]);
    server.ended();
    place.check();
}

#[test]
fn a_restore_without_room_says_what_it_waits_for() {
    let place = place(&["--grow-limit", "16M"]);
    let server = Server::start(&place, &[]);
    place.ok(&["snapshot", "prod@a"]);
    place.write("prod", 0, 8 * M, 2);
    place.ok(&["snapshot", "prod@b"]);
    place.write("prod", 8 * M, 3 * M, 3);
    let restore = ["restore", "prod", "--from", "prod@a"];
    place.refused(&restore, &["bytes are missing", "destroy snapshots", "--force"]);
    place.ok(&[&restore[..], &["--force"]].concat());
    place.holds("prod", 0, SIZE, 1);
    wait_full(&place);
    let way_out = ["waits for", "at its limit", "rwsnap set pool save-limit=SIZE", "--cancel"];
    for command in [&["restore", "prod", "--status"][..], &["status"]] {
        let said = place.ok(command);
        assert!(way_out.iter().all(|part| said.contains(part)), "{said}");
    }
    assert_eq!(place.json(&["restore", "prod", "--status"])["state"], "waiting for space");
    place.refused(&["restore", "prod", "--cancel"], &["given up for want of space"]);
    place.ok(&["stop"]);
    server.ended();
    // At rest nobody can make room while it is waited for.
    place.refused(&["restore", "prod", "--wait"], &way_out);
    let server = Server::start(&place, &[]);
    let mut waits = place.command(&["restore", "prod", "--wait"]);
    let mut waits = waits.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(waits.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(way_out.iter().all(|part| line.contains(part)), "{line}");
    still_waits(&mut waits);
    place.ok(&["set", "pool", "save-limit=64M"]);
    assert!(waits.wait().unwrap().success());
    place.holds("prod", 0, SIZE, 1);
    place.holds("prod@b", 0, 8 * M, 2);
    place.ok(&["stop"]);
    server.ended();
    assert!(fs::read(place.path("prod.img")).unwrap() == pattern(0, SIZE, 1), "not in place");
    place.check();
}
