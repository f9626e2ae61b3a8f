// SPDX-License-Identifier: MIT

//! Refusals name every blocker of every kind and change nothing; `list` and `info` show what hangs
//! on what; no command overwrites a volume of a pool; dead servers leave nothing behind.

#[expect(dead_code, reason = "other tests use the rest")]
mod pool;

#[expect(dead_code, reason = "other tests use the rest")]
#[path = "pool/server.rs"]
mod server;

use std::fs::{self, File};

use pool::{pattern, Place};
use server::Server;

const SIZE: u64 = 8 << 20;

/// `prod@a` below `dev` below `dev@b` below `top`.
fn tower() -> Place {
    let place = Place::pool(SIZE);
    place.ok(&["snapshot", "prod@a"]);
    place.ok(&["clone", "prod@a", "dev"]);
    place.ok(&["snapshot", "dev@b"]);
    place.ok(&["clone", "dev@b", "top"]);
    place
}

#[test]
fn blockers_of_all_kinds_are_named_at_once() {
    let place = tower();
    place.ok(&["hold", "prod@a"]);
    let before = place.ok(&["list", "--json"]);
    place.refused(
        &["destroy", "prod@a", "nope", "prod", "dev"],
        &[
            "there is no `nope`",
            "production: `prod`",
            "needed by `dev@b`",
            "held: `prod@a`",
            "`rwsnap release prod@a` ends the hold",
            "`rwsnap remove prod`",
            "--defer",
        ],
    );
    let taken = "the name is taken by";
    place.refused(
        &["snapshot", "prod@a", "nope@x", "no@y"],
        &[&format!("{taken} `prod@a`"), "no volume for `nope@x`, `no@y`"],
    );
    place.refused(&["clone", "nope@x", "dev"], &["no `nope@x`", &format!("{taken} `dev`")]);
    place.refused(
        &["refresh", "nope", "--to", "no@y", "--keep", "prod"],
        &["no `nope`, `no@y`", &format!("{taken} `prod`")],
    );
    place.refused(&["restore", "nope", "--from", "no@y"], &["there is no `nope`, `no@y`"]);
    place.refused(
        &["restore", "dev", "--from", "prod"],
        &["`dev` is not a production volume", "`prod` is neither a snapshot nor a clone"],
    );
    place.refused(&["rename", "nope", "dev"], &["no `nope`", &format!("{taken} `dev`")]);
    place.refused(
        &["set", "dev", "quota=1M", "reservation=2M", "when-full=fail"],
        &["no reservation is larger than the quota", "`when-full`: only the pool has it"],
    );
    place.refused(&["set", "prod", "quota=1M"], &["of `prod`: `quota`: only clones have it"]);
    assert_eq!(place.ok(&["list", "--json"]), before);
    place.check();
}

#[test]
fn destroy_defers_all_or_nothing_and_nothing_in_a_dry_run() {
    let place = tower();
    let before = place.ok(&["list", "--json"]);
    place.refused(&["destroy", "--defer", "prod@a", "nope"], &["there is no `nope`"]);
    assert_eq!(place.ok(&["list", "--json"]), before);
    place.ok(&["destroy", "--defer", "--dry-run", "prod@a"]);
    assert_eq!(place.ok(&["list", "--json"]), before);
    place.refused(
        &["destroy", "dev"],
        &["needed by `dev@b`\nDestroy these first, or add -r to destroy them too.\n"],
    );
    place.ok(&["destroy", "--defer", "prod@a"]);
    assert_eq!(place.json(&["info", "prod@a"])["flags"][0], "deferred");
    place.ok(&["destroy", "-r", "dev"]);
    assert_eq!(place.ok(&["list", "-H", "-o", "name"]), "prod\n");
}

#[test]
fn what_hangs_on_what_is_shown() {
    let place = tower();
    let top = place.json(&["info", "top"]);
    assert_eq!(top["origin"], "dev@b");
    assert_eq!(top["bases"], serde_json::json!(["dev@b", "prod@a"]));
    assert_eq!(top["needed_by"], serde_json::json!([]));
    // After a refresh the snapshot of the clone still stands on what the clone stood on.
    place.ok(&["snapshot", "prod@c"]);
    place.ok(&["refresh", "dev", "--to", "prod@c"]);
    assert_eq!(place.json(&["info", "prod@a"])["needed_by"], serde_json::json!(["dev@b"]));
    let rows = place.ok(&["list", "-H", "-o", "name,origin,bases,needed-by"]);
    let expected = "prod\t-\t-\tprod@a,prod@c\nprod@a\t-\t-\tdev@b\nprod@c\t-\t-\tdev\n\
                    dev\tprod@c\tprod@c\tdev@b\ndev@b\t-\tprod@a\ttop\n\
                    top\tdev@b\tdev@b,prod@a\t-\n";
    assert_eq!(rows, expected);
    let shown = place.ok(&["info", "prod@a"]);
    assert!(shown.contains("needed by:  dev@b\n"), "{shown}");
}

#[test]
fn a_clone_that_went_back_to_its_own_snapshot_is_listed() {
    let place = tower();
    place.ok(&["refresh", "dev", "--to", "dev@b"]);
    let names = place.ok(&["list", "-H", "-o", "name"]);
    assert_eq!(names, "prod\nprod@a\ndev\ndev@b\ntop\n");
    assert_eq!(place.json(&["list"]).as_array().unwrap().len(), 5);
}

#[test]
fn no_command_overwrites_a_volume_of_a_pool() {
    let place = Place::pool(SIZE);
    let kept = || assert!(fs::read(place.path("prod.img")).unwrap() == pattern(0, SIZE, 1));
    let tries = |save: &str, prod: &str| {
        place.refused(&["export", "prod", "prod.img", "--force"], &[prod]);
        place.refused(&["read", "prod", "-O", "prod.img"], &[prod]);
        place.refused(&["export", "prod", "save.img", "--force"], &[save]);
        place.refused(&["read", "prod", "-O", "save.img"], &[save]);
        kept();
    };
    tries("is the save volume of the pool `save`", "is a production volume of this pool");
    let server = Server::start(&place, &[]);
    tries("is the save volume of the pool `save`", "prod.img is in use by process");
    place.ok(&["stop"]);
    server.ended();
    place.check();
    // Other files may be, and hold nothing of what they held before.
    fs::write(place.path("out"), vec![9; 9 << 20]).unwrap();
    place.refused(&["export", "prod", "out"], &["--force"]);
    place.ok(&["export", "prod", "out", "--force", "--sparse"]);
    assert!(fs::read(place.path("out")).unwrap() == pattern(0, SIZE, 1));
    place.ok(&["read", "prod", "--length", "512", "-O", "out"]);
    assert!(fs::read(place.path("out")).unwrap() == pattern(0, 512, 1));
}

#[test]
fn a_volume_that_cannot_be_added_is_said_to_be_so_served_or_not() {
    let place = Place::pool(SIZE);
    File::create(place.path("odd")).unwrap().set_len(1_000_001).unwrap();
    File::create(place.path("empty")).unwrap();
    let other = place.production("other.img", SIZE);
    place.ok(&["-q", "create", "other.save", "--size", "8M", "--production", &other]);
    let tries = || {
        place.refused(
            &["add", "x=odd"],
            &["cannot add `x`: ", "logical block of 512", "`truncate -s 1000448`"],
        );
        place.refused(&["add", "x=empty"], &["cannot add `x`: ", "empty is empty"]);
        place.refused(&["add", "x=prod.img"], &["prod.img is in this pool already"]);
        place.refused(&["add", "x=save.img"], &["save.img is in this pool already"]);
        place.refused(&["add", "x=other.save"], &["is the save volume of a pool"]);
        assert_eq!(place.ok(&["list", "-H", "-o", "name"]), "prod\n");
    };
    tries();
    let server = Server::start(&place, &[]);
    tries();
    place.ok(&["stop"]);
    server.ended();
    place.check();
}

#[test]
fn servers_that_were_killed_leave_no_sockets_and_those_that_live_keep_theirs() {
    let place = Place::pool(SIZE);
    let others = Place::pool(SIZE).beside(&place);
    let sockets = || fs::read_dir(place.path("run")).unwrap().count();
    let mut dead = Server::start(&others, &[]);
    let alive = Server::start(&place, &[]);
    assert_eq!(sockets(), 4);
    dead.child.kill().unwrap();
    dead.child.wait().unwrap();
    // The kernel may take a moment to let go of the socket; the killed server does not count.
    let only = |args: &[&str]| {
        let mut command = place.command(args);
        let output = command.env_remove("RWSNAP_POOL").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let begun = std::time::Instant::now();
    loop {
        only(&["snapshot", &format!("prod@s{}", begun.elapsed().as_nanos())]);
        if sockets() == 2 {
            break;
        }
        assert!(begun.elapsed().as_secs() < 30, "the dead server's sockets stay");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // A copy of the save volume is a pool of the same UUID: it does not take the socket over.
    fs::copy(place.path("save.img"), place.path("copy.img")).unwrap();
    let copy = Server::start_on(&place, "copy.img", &["--control", "copy.sock"]);
    only(&["list"]);
    place.ok(&["--pool", "copy.sock", "stop"]);
    copy.ended();
    only(&["list"]);
    only(&["stop"]);
    alive.ended();
    assert_eq!(sockets(), 0);
}
