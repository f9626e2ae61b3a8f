// SPDX-License-Identifier: MIT

//! Every verb on a pool that is being served.

mod pool;
#[path = "pool/server.rs"]
mod server;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pool::{pattern, Place};
use server::Server;

const SIZE: u64 = 16 << 20;

#[test]
fn all_that_works_at_rest_works_on_a_server() {
    let place = Place::pool(SIZE);
    let server = Server::start(&place, &["--nbd", "unix:s.sock"]);
    assert_eq!(server.uris, ["nbd+unix:///prod?socket=s.sock"]);
    place.ok(&["snapshot", "prod@a"]);
    place.write("prod", 12_345 & !7, 3 << 20, 2);
    place.ok(&["clone", "prod@a", "dev"]);
    place.write("dev", 4096, 64 << 10, 3);
    place.holds("prod@a", 0, SIZE, 1);
    place.holds("dev", 4096, 64 << 10, 3);
    place.holds("dev", 128 << 10, 1 << 20, 1);
    let changed = place.json(&["diff", "prod@a", "dev"]);
    assert_eq!(changed, serde_json::json!([{"offset": 4096, "length": 64 << 10}]));
    assert_eq!(place.ok(&["list", "-H", "-o", "name"]), "prod\nprod@a\ndev\n");
    assert_eq!(place.json(&["map", "dev"])[1]["flags"], serde_json::json!(["bit"]));
    place.refused(&["destroy", "prod@a"], &["needed by `dev`"]);
    place.ok(&["hold", "prod@a"]);
    place.refused(&["destroy", "-r", "prod@a"], &["held"]);
    place.ok(&["release", "prod@a"]);
    place.ok(&["set", "dev", "quota=8M"]);
    assert_eq!(place.ok(&["get", "dev", "quota"]), "8388608\n");
    place.ok(&["rename", "dev", "test"]);
    place.ok(&["refresh", "test", "--keep", "old"]);
    place.holds("test", 0, 8192, 1);
    place.holds("old", 4096, 64 << 10, 3);
    place.ok(&["export", "prod@a", "a.img", "--sparse"]);
    assert!(fs::read(place.path("a.img")).unwrap() == pattern(0, SIZE, 1));
    place.ok(&["restore", "prod", "--from", "prod@a", "--wait"]);
    place.holds("prod", 0, SIZE, 1);
    let status = place.json(&["status"]);
    assert_eq!((status["served"].as_bool(), status["state"].as_str()), (Some(true), Some("sound")));
    assert!(status["exports"].as_array().unwrap().len() >= 5);
    place.ok(&["destroy", "-r", "prod@a"]);
    place.ok(&["stop"]);
    server.ended();
    place.check();
    place.refused(&["stop"], &["is not being served"]);
}

#[test]
fn a_restore_is_paused_goes_on_and_is_cancelled() {
    let place = Place::pool(SIZE);
    let server = Server::start(&place, &[]);
    place.ok(&["snapshot", "prod@a"]);
    place.write("prod", 0, 4 << 20, 2);
    place.ok(&["restore", "prod", "--from", "prod@a", "--rate", "0"]);
    place.holds("prod", 0, SIZE, 1);
    assert_eq!(place.json(&["restore", "prod", "--status"])["state"], "paused");
    let usage = place.run(&["restore", "prod", "--from", "prod@a", "--rate", "0", "--wait"]);
    assert_eq!(usage.status.code(), Some(64));
    let said = place.ok(&["restore", "prod", "--status"]);
    assert!(said.contains("waits for:") && said.contains("--rate none"), "{said}");
    // The way back is not paused, unless that is asked for.
    place.ok(&["restore", "prod", "--cancel", "--wait"]);
    assert!(place.json(&["restore", "prod", "--status"]).is_null());
    place.holds("prod", 0, 4 << 20, 2);
    assert!(fs::read(place.path("prod.img")).unwrap()[..4 << 20] == pattern(0, 4 << 20, 2));
    place.ok(&["restore", "prod", "--from", "prod@a", "--rate", "0"]);
    place.ok(&["restore", "prod", "--cancel", "--rate", "0"]);
    assert_eq!(place.json(&["restore", "prod", "--status"])["state"], "paused");
    place.holds("prod", 0, 4 << 20, 2);
    place.ok(&["restore", "prod", "--rate", "none", "--wait"]);
    place.ok(&["restore", "prod", "--from", "prod@a", "--rate", "0", "--no-undo"]);
    place.refused(&["restore", "prod", "--cancel"], &["--no-undo", "Let it finish"]);
    place.ok(&["restore", "prod", "--rate", "none", "--wait"]);
    place.holds("prod", 0, SIZE, 1);
    place.ok(&["stop"]);
    server.ended();
    place.check();
}

#[test]
fn the_pool_is_found_in_every_way() {
    let place = Place::new();
    let prod = place.production("prod.img", SIZE);
    let name = format!("test-{}", std::process::id());
    place.ok(&["-q", "create", "save.img", "--name", &name, "--production", &prod]);
    let server = Server::start(&place, &["--control", "c.sock"]);
    let uuid = place.json(&["--pool", "c.sock", "status"])["uuid"].as_str().unwrap().to_owned();
    for pool in ["c.sock", "save.img", "./save.img", &name, &uuid] {
        assert_eq!(place.ok(&["--pool", pool, "list", "-H", "-o", "name"]), "prod\n", "{pool}");
    }
    place.refused(&["check", "save.img"], &["it is being served by process", "serve save.img"]);
    place.refused(&["dump", "save.img"], &["it is being served"]);
    place.refused(
        &["create", "save.img", "--force", "--production", &prod],
        &["is in use by process", "serve save.img"],
    );
    place.refused(&["serve", "save.img"], &["save.img is in use by process"]);
    place.ok(&["stop"]);
    server.ended();
}

#[test]
fn productions_come_and_go_while_served() {
    let place = Place::pool(SIZE);
    let server = Server::start(&place, &[]);
    let more = format!("more={}", place.production("more.img", SIZE));
    place.ok(&["add", &more]);
    place.refused(&["add", &more], &["the name is taken by `more`"]);
    let twice = format!("twice{}", more.trim_start_matches("more"));
    place.refused(&["add", &twice], &["cannot add `twice`", "more.img is in this pool already"]);
    place.ok(&["snapshot", "prod@a", "more@a"]);
    place.write("more", 0, 8192, 2);
    place.holds("more@a", 0, 8192, 1);
    place.refused(&["remove", "more"], &["needed by `more@a`"]);
    place.ok(&["destroy", "more@a"]);
    place.ok(&["remove", "more"]);
    assert!(fs::read(place.path("more.img")).unwrap()[..8192] == pattern(0, 8192, 2));
    place.ok(&["add", &more]);
    place.ok(&["stop"]);
    server.ended();
    place.check();
}

#[test]
fn a_production_that_moved_is_named_and_a_changed_one_trusted() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    fs::rename(place.path("prod.img"), place.path("moved.img")).unwrap();
    let server = Server::start(&place, &["--production", "prod=moved.img"]);
    place.holds("prod", 0, 4096, 1);
    place.ok(&["stop"]);
    server.ended();
    let mut changed = fs::read(place.path("moved.img")).unwrap();
    changed[100] ^= 1;
    fs::write(place.path("moved.img"), changed).unwrap();
    let server = Server::start(&place, &["--production", "prod=moved.img"]);
    assert_eq!(place.json(&["info", "prod"])["flags"], serde_json::json!(["offline"]));
    place.refused(&["read", "prod"], &["read `prod`"]);
    place.ok(&["stop"]);
    server.ended();
    let server = Server::start(&place, &["--production", "prod=moved.img", "--trust", "prod"]);
    assert_eq!(place.read("prod", 100, 1), [pattern(96, 8, 1)[4] ^ 1]);
    place.ok(&["stop"]);
    server.ended();
}

/// A production that was away is looked at when it comes back: it may be another then. But not by
/// what is left of a fingerprint from before a crash, after which it rightly looks different.
#[test]
fn a_production_that_was_away_is_looked_at_when_it_is_back() {
    let place = Place::pool(SIZE);
    let away = || fs::rename(place.path("prod.img"), place.path("away.img")).unwrap();
    let back = || fs::rename(place.path("away.img"), place.path("prod.img")).unwrap();
    let is_offline = || place.json(&["info", "prod"])["flags"] == serde_json::json!(["offline"]);
    let stopped = || {
        let server = Server::start(&place, &[]);
        let was_offline = is_offline();
        place.ok(&["stop"]);
        server.ended();
        was_offline
    };
    place.ok(&["snapshot", "prod@a"]);
    away();
    assert!(stopped());
    let mut changed = fs::read(place.path("away.img")).unwrap();
    changed[100] ^= 1;
    fs::write(place.path("away.img"), &changed).unwrap();
    back();
    assert!(stopped() && stopped());
    // A crash does not make it welcome either.
    for _ in 0..2 {
        let mut server = Server::start(&place, &[]);
        assert!(is_offline());
        server.child.kill().unwrap();
        server.child.wait().unwrap();
    }
    changed[100] ^= 1;
    fs::write(place.path("prod.img"), changed).unwrap();
    let mut server = Server::start(&place, &[]);
    assert!(!is_offline());
    place.write("prod", 0, 4096, 2);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    away();
    assert!(stopped());
    back();
    assert!(!stopped());
    place.holds("prod", 0, 4096, 2);
    place.check();
}

#[test]
fn tcp_is_for_this_machine_and_several_servers_need_names() {
    let a = Place::pool(SIZE);
    let b = Place::pool(SIZE).beside(&a);
    let server = Server::start(&a, &["--nbd", "tcp:localhost:0", "--nbd", "unix:n.sock"]);
    assert!(server.uris[0].starts_with("nbd://127.0.0.1:") || server.uris[0].contains("[::1]"));
    let size = Command::new("nbdinfo").args(["--size", &server.uris[0]]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&size.stdout).trim(), SIZE.to_string());
    b.refused(&["serve", "save.img", "--nbd", "tcp:0.0.0.0:0"], &["--insecure"]);
    assert_eq!(b.run(&["serve", "save.img", "--nbd", "udp:x"]).status.code(), Some(64));
    let other = Server::start(&b, &[]);
    let output = a.command(&["list"]).env_remove("RWSNAP_POOL").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("pools are being served"), "{said}");
    a.ok(&["stop"]);
    b.ok(&["stop"]);
    server.ended();
    other.ended();
}

#[test]
fn sigterm_ends_a_server_in_order() {
    let place = Place::pool(SIZE);
    let server = Server::start(&place, &["--reactors", "4"]);
    place.ok(&["snapshot", "prod@a"]);
    place.write("prod", 0, 1 << 20, 2);
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    server.ended();
    place.check();
    assert!(place.json(&["check", "save.img"])["clean"].as_bool().unwrap());
    place.holds("prod@a", 0, 1 << 20, 1);
}

/// A pool after a crash, and a server that is opening it: each flush takes so many milliseconds.
fn being_opened(delay: &str) -> (Place, Child) {
    let place = Place::pool(SIZE);
    let server = Server::start(&place, &[]);
    place.ok(&["snapshot", "prod@a"]);
    place.write("prod", 0, 1 << 20, 2);
    drop(server);
    let mut slow = place.command(&["serve", "save.img", "--nbd", "unix:n.sock"]);
    let mut child = slow.args(["--flush-delay", delay]).stdout(Stdio::piped()).spawn().unwrap();
    while fs::symlink_metadata(place.path("n.sock")).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "the server has ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    (place, child)
}

/// Commands were told that there was no such volume.
#[test]
fn clients_that_come_while_the_pool_is_opened_wait() {
    let (place, mut child) = being_opened("700");
    let began = Instant::now();
    // No server tells its name while it opens its pool; the pool is found all the same.
    let list = place.command(&["list", "-H", "-o", "name"]).env_remove("RWSNAP_POOL").output();
    assert_eq!(String::from_utf8_lossy(&list.unwrap().stdout), "prod\nprod@a\n");
    assert!(began.elapsed() > Duration::from_millis(300), "the pool was open already");
    place.ok(&["snapshot", "prod@b"]);
    place.ok(&["stop"]);
    assert!(child.wait().unwrap().success());
    place.holds("prod@a", 0, 1 << 20, 1);
    place.check();
}

/// Told to end before its pool is open, a server opens it and closes it in order.
#[test]
fn a_server_ends_in_order_while_it_opens_its_pool() {
    let (place, mut child) = being_opened("300");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(place.json(&["check", "save.img"])["clean"].as_bool().unwrap());
    place.holds("prod@a", 0, 1 << 20, 1);
    place.holds("prod", 0, 1 << 20, 2);
}

#[test]
fn a_killed_server_is_followed_by_another_at_once() {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    for seed in 2..8 {
        let server = Server::start(&place, &["--nbd", "unix:n.sock", "--reactors", "4"]);
        place.write("prod", 0, 2 << 20, seed);
        drop(server);
        let server = Server::start(&place, &["--nbd", "unix:n.sock"]);
        place.holds("prod", 0, 2 << 20, seed);
        place.holds("prod@a", 0, 2 << 20, 1);
        drop(server);
        place.check();
    }
}

#[test]
fn sockets_are_for_their_owner_alone() {
    let place = Place::pool(SIZE);
    let mode = |name: &str| fs::symlink_metadata(place.path(name)).unwrap().mode() & 0o7777;
    let server = Server::start(&place, &[]);
    let uuid = place.json(&["status"])["uuid"].as_str().unwrap().to_owned();
    assert_eq!(mode("run"), 0o700);
    assert_eq!(mode(&format!("run/{uuid}.sock")), 0o600);
    assert_eq!(mode(&format!("run/{uuid}.nbd")), 0o600);
    place.ok(&["stop"]);
    server.ended();
    assert_eq!(fs::read_dir(place.path("run")).unwrap().count(), 0, "a socket was left");
    let server = Server::start(&place, &["--nbd", "unix:n.sock", "--control", "c.sock"]);
    assert_eq!((mode("n.sock"), mode("c.sock")), (0o600, 0o600));
    place.ok(&["stop"]);
    server.ended();
    // A folder that others can write to, or that is somebody else's, is not used.
    fs::set_permissions(place.path("run"), fs::Permissions::from_mode(0o777)).unwrap();
    place.refused(&["serve", "save.img"], &["others can write to it", "--control"]);
}

#[test]
fn names_that_no_production_has_are_told() {
    let place = Place::pool(SIZE);
    let mut serve = place.command(&["serve", "save.img", "--production", "nope=x.img"]);
    let mut child = serve
        .args(["--trust", "none"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    assert!(out.lines().map_while(Result::ok).any(|line| line == "rwsnap: ready"));
    place.ok(&["stop"]);
    assert!(child.wait().unwrap().success());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    for name in ["nope", "none"] {
        assert!(said.contains(&format!("no production volume `{name}`")), "{said}");
    }
    place.refused(&["read", "nope"], &["there is no `nope`", "rwsnap list"]);
}

#[test]
fn what_a_damaged_snapshot_still_has_is_read_out() {
    let place = Place::pool(SIZE);
    let server = Server::start(&place, &[]);
    place.ok(&["snapshot", "prod@a"]);
    // Production cannot be read there when its old data has to be kept.
    let prod = fs::File::options().write(true).open(place.path("prod.img")).unwrap();
    prod.set_len(8 << 20).unwrap();
    place.write("prod", 12 << 20, 8192, 2);
    prod.set_len(SIZE).unwrap();
    assert_eq!(place.json(&["info", "prod@a"])["flags"], serde_json::json!(["damaged"]));
    let way_out = ["the data of `prod@a` is lost", "rwsnap export --skip-lost"];
    place.refused(&["export", "prod@a", "all.img"], &way_out);
    place.refused(&["restore", "prod", "--from", "prod@a"], &[way_out[0], "--force"]);
    let rest = place.run(&["export", "prod@a", "rest.img", "--skip-lost"]);
    let said = String::from_utf8_lossy(&rest.stderr);
    assert!(rest.status.success() && said.contains("lost: 8192 bytes from 12582912 on"), "{said}");
    let rest = fs::read(place.path("rest.img")).unwrap();
    assert!(rest[..8 << 20] == pattern(0, 8 << 20, 1));
    assert!(rest[12 << 20..(12 << 20) + 8192].iter().all(|&b| b == 0));
    place.ok(&["restore", "prod", "--from", "prod@a", "--force", "--wait"]);
    place.holds("prod", 12 << 20, 8192, 2);
    place.ok(&["stop"]);
    server.ended();
    place.check();
}
