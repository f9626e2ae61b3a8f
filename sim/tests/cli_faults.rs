// SPDX-License-Identifier: MIT

//! Save and production volumes whose reads, writes and flushes fail for a while: what clients see,
//! what is said of it, and that nothing that was flushed is lost once the fault is gone.

#[path = "pool/faulty.rs"]
mod faulty;
#[expect(dead_code, reason = "other tests use the rest")]
mod pool;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "pool/server.rs"]
mod server;

use std::fs::{self, File};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use faulty::{Behind, Faulty};
use pool::{pattern, Place};
use rwsnap::nbd::client::Client;
use rwsnap::nbd::{Address, NbdError};
use server::Server;

const M: u64 = 1 << 20;
const SIZE: u64 = 16 * M;
const SAVE: u64 = 64 * M;

/// A server, and what it logs.
struct Served<'a> {
    place: &'a Place,
    server: Server,
}

impl<'a> Served<'a> {
    fn start(place: &'a Place, save: &str) -> Self {
        let mut serve = place.command(&["serve", save, "--nbd", "unix:n.sock"]);
        let log = File::create(place.path("server.log")).unwrap();
        Self { place, server: Server::of(serve.stderr(log)) }
    }

    fn client(&self, name: &str) -> Client {
        let client = Client::connect(&Address::Unix(self.place.path("n.sock")), name).unwrap();
        client.set_timeout(Some(Duration::from_secs(60))).unwrap();
        client
    }

    /// Waits until this is in its log: events are told there with the next tick.
    fn logs(&self, part: &str) {
        let begun = Instant::now();
        loop {
            let log = fs::read_to_string(self.place.path("server.log")).unwrap();
            if log.contains(part) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no `{part}` in {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn args<'b>(&self, args: &[&'b str]) -> Vec<&'b str> {
        [&["--pool", "save"], args].concat()
    }

    fn ok(&self, args: &[&str]) -> String {
        self.place.ok(&self.args(args))
    }

    fn refused(&self, args: &[&str], parts: &[&str]) {
        self.place.refused(&self.args(args), parts);
    }

    /// Sound, or fenced and why.
    fn state(&self) -> serde_json::Value {
        let status = self.place.json(&self.args(&["status"]));
        if status["state"] == "sound" {
            assert_eq!(status["fenced"], serde_json::Value::Null);
            return "sound".into();
        }
        assert_eq!(status["state"], "fenced");
        status["fenced"].clone()
    }

    /// Tells it to end; how it did.
    fn stop(mut self) -> ExitStatus {
        self.place.run(&self.args(&["stop"]));
        let begun = Instant::now();
        loop {
            if let Some(status) = self.server.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[track_caller]
fn reads(client: &mut Client, at: u64, len: u64, seed: u64) {
    let mut data = vec![0; usize::try_from(len).unwrap()];
    client.read(at, &mut data).unwrap_or_else(|e| panic!("reading {at}: {e}"));
    assert!(data == pattern(at, len, seed), "at {at} +{len}: not pattern {seed}");
}

/// It is answered with an I/O error.
#[track_caller]
fn fails<T: std::fmt::Debug>(result: Result<T, rwsnap::nbd::client::ClientError>) {
    let error = result.expect_err("it went well");
    assert_eq!(error.nbd(), Some(NbdError::Io), "{error}");
}

#[track_caller]
fn read_fails(client: &mut Client, at: u64, len: u64) {
    fails(client.read(at, &mut vec![0; usize::try_from(len).unwrap()]));
}

/// A pool with snapshot `prod@a` and its clone `dev`; the first MiB of each is written and flushed.
fn prepare(place: &Place, save: &str) {
    let prod = place.production("prod.img", SIZE);
    place.ok(&["-q", "create", save, "--when-full", "stall", "--production", &prod]);
    let served = Served::start(place, save);
    served.ok(&["snapshot", "prod@a"]);
    served.ok(&["clone", "prod@a", "dev"]);
    for (name, seed) in [("prod", 2), ("dev", 3)] {
        let mut client = served.client(name);
        client.write(0, &pattern(0, M, seed), false).unwrap();
        client.flush().unwrap();
    }
    assert!(served.stop().success());
}

/// After the fault: the pool is sound at rest, and holds what was flushed before.
fn all_is_there<'a>(place: &'a Place, save: &str) -> Served<'a> {
    let check = place.run(&["check", save]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success() && said.contains("is sound"), "{said}");
    let served = Served::start(place, save);
    assert_eq!(served.state(), "sound");
    for (name, seed) in [("prod", 2), ("prod@a", 1), ("dev", 3)] {
        reads(&mut served.client(name), 0, M, seed);
        // What was never written, or never with success.
        reads(&mut served.client(name), 8 * M, 8 * M, 1);
    }
    served
}

/// All goes on as if nothing had been.
fn goes_on(served: Served<'_>) {
    served.ok(&["snapshot", "prod@later"]);
    let mut prod = served.client("prod");
    prod.write(6 * M, &pattern(6 * M, M, 6), false).unwrap();
    prod.flush().unwrap();
    reads(&mut served.client("prod@later"), 6 * M, M, 1);
    drop(prod);
    served.ok(&["destroy", "dev"]);
    assert!(served.stop().success());
}

/// What a fenced pool still does, and what it says: `dev` and `prod@a` have their first MiB.
fn is_fenced(served: &Served<'_>) {
    let why = "an I/O error of the save volume";
    assert_eq!(served.state(), why);
    let status = served.ok(&["status"]);
    for part in ["served, FENCED", why, "rwsnap check", "serve or attach it again"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    served.logs(&format!("the pool is fenced: {why}"));
    let no_more = ["the pool is fenced", "End its server", "rwsnap check"];
    served.refused(&["snapshot", "prod@b"], &no_more);
    served.refused(&["clone", "prod@a", "dev2"], &no_more);
    served.refused(&["destroy", "dev"], &no_more);
    let (mut prod, mut dev) = (served.client("prod"), served.client("dev"));
    reads(&mut prod, 0, M, 2);
    reads(&mut prod, 8 * M, 8 * M, 1);
    reads(&mut dev, 0, M, 3);
    reads(&mut served.client("prod@a"), 0, M, 1);
    // What is known to be copied is written in place, and durable.
    prod.write(0, &pattern(0, 4096, 2), true).unwrap();
    fails(prod.write(8 * M, &pattern(8 * M, 4096, 9), false));
    fails(dev.write(8 * M, &pattern(8 * M, 4096, 9), false));
    fails(dev.flush());
}

#[test]
fn writes_of_the_save_volume_that_fail_fence_the_pool_and_lose_nothing() {
    let place = Place::new();
    let save = Faulty::over(&place, "save.img", SAVE, Behind::Image);
    prepare(&place, save.path());
    let served = Served::start(&place, save.path());
    let mut prod = served.client("prod");
    prod.write(0, &pattern(0, M, 2), false).unwrap();
    save.fail_writes();
    fails(prod.write(9 * M, &pattern(9 * M, M, 9), false));
    is_fenced(&served);
    // It stays so, although the fault is gone: what is on the disk is no longer known.
    save.mend();
    is_fenced(&served);
    served.logs("save.img");
    served.logs("Input/output error");
    assert_eq!(served.stop().code(), Some(1));
    let log = fs::read_to_string(place.path("server.log")).unwrap();
    assert!(log.contains("could not be closed in order"), "{log}");
    goes_on(all_is_there(&place, save.path()));
    place.ok(&["check", save.path()]);
}

/// The writes went well, into a cache that is gone when the flush has failed.
#[test]
fn a_flush_of_the_save_volume_that_fails_fences_the_pool_and_loses_nothing() {
    let place = Place::new();
    let save = Faulty::over(&place, "save.img", SAVE, Behind::Cache);
    prepare(&place, save.path());
    let served = Served::start(&place, save.path());
    let (mut prod, mut dev) = (served.client("prod"), served.client("dev"));
    prod.write(0, &pattern(0, M, 2), false).unwrap();
    save.fail_writes();
    dev.write(8 * M, &pattern(8 * M, M, 9), false).unwrap();
    assert_eq!(served.state(), "sound");
    fails(dev.flush());
    is_fenced(&served);
    assert_eq!(served.stop().code(), Some(1));
    drop(save);
    let save = Faulty::over(&place, "save.img", SAVE, Behind::Cache);
    goes_on(all_is_there(&place, save.path()));
    place.ok(&["check", save.path()]);
}

#[test]
fn reads_of_the_save_volume_that_fail_are_errors_as_long_as_they_do() {
    let place = Place::new();
    let save = Faulty::over(&place, "save.img", SAVE, Behind::Image);
    prepare(&place, save.path());
    // Nothing of the map is in memory.
    let served = Served::start(&place, save.path());
    let (mut prod, mut dev, mut a) =
        (served.client("prod"), served.client("dev"), served.client("prod@a"));
    save.fail_reads();
    read_fails(&mut dev, 0, 4096);
    read_fails(&mut dev, 8 * M, 4096);
    read_fails(&mut a, 0, 4096);
    fails(dev.write(512, &pattern(512, 512, 9), false));
    reads(&mut prod, 0, M, 2);
    reads(&mut prod, 8 * M, 8 * M, 1);
    prod.flush().unwrap();
    served.refused(&["map", "dev"], &["failed"]);
    served.logs("save.img");
    served.logs("Input/output error");
    assert_eq!(served.state(), "sound");
    // What needs no map goes on.
    served.ok(&["snapshot", "prod@b"]);
    // Nobody takes it for something else because it cannot be read.
    let cannot = ["cannot read", "save.img", "Input/output error"];
    place.refused(&["--pool", save.path(), "list"], &cannot);
    place.refused(&["create", save.path(), "--force", "--production", "prod.img"], &["in use"]);
    save.mend();
    for (client, seed) in [(&mut dev, 3), (&mut a, 1), (&mut prod, 2)] {
        reads(client, 0, M, seed);
        reads(client, 8 * M, 8 * M, 1);
    }
    drop((prod, dev, a));
    assert!(served.stop().success());
    save.fail_reads();
    place.refused(&["serve", save.path()], &cannot);
    place.refused(&["create", save.path(), "--production", "prod.img"], &cannot);
    place.refused(&["check", save.path()], &cannot);
    save.mend();
    goes_on(all_is_there(&place, save.path()));
    place.ok(&["check", save.path()]);
}

/// A production that can fail, of a pool whose save volume is there, with snapshot `prod@a`.
fn prepare_production(place: &Place, save: &str, prod: &Faulty) {
    fs::write(place.path("in"), pattern(0, SIZE, 1)).unwrap();
    let production = format!("prod={}", prod.path());
    let create = ["-q", "create", save, "--size", "64M", "--when-full", "stall"];
    place.ok(&[&create[..], &["--production", &production]].concat());
    place.ok(&["--pool", save, "write", "prod", "-i", "in"]);
    place.ok(&["--pool", save, "snapshot", "prod@a"]);
}

/// Writes that have to be durable by themselves were not: on FUSE Linux forgets their flush if they
/// go around the page cache by io_uring.
#[test]
fn what_is_durable_in_a_fuse_file_system_is_so() {
    let place = Place::new();
    let power = || {
        let save = Faulty::over(&place, "save.img", SAVE, Behind::Cache);
        (save, Faulty::over(&place, "disk.img", SIZE, Behind::Cache))
    };
    let (save, prod) = power();
    prepare_production(&place, save.path(), &prod);
    let served = Served::start(&place, save.path());
    let mut client = served.client("prod");
    client.write(0, &pattern(0, M, 2), false).unwrap();
    client.flush().unwrap();
    client.write(0, &pattern(0, 64 << 10, 3), true).unwrap();
    served.ok(&["clone", "prod@a", "dev"]);
    let mut dev = served.client("dev");
    dev.write(0, &pattern(0, 64 << 10, 4), true).unwrap();
    served.ok(&["snapshot", "prod@b"]);
    drop((served, save, prod));
    let (save, prod) = power();
    place.ok(&["check", save.path()]);
    let served = Served::start(&place, save.path());
    for name in ["prod", "prod@b"] {
        reads(&mut served.client(name), 0, 64 << 10, 3);
        reads(&mut served.client(name), 64 << 10, M - (64 << 10), 2);
    }
    reads(&mut served.client("dev"), 0, 64 << 10, 4);
    reads(&mut served.client("prod@a"), 0, SIZE, 1);
    assert!(served.stop().success());
    drop(prod);
}

#[test]
fn a_production_that_fails_writes_or_flushes_says_so_and_its_snapshots_stay() {
    let place = Place::new();
    let prod = Faulty::over(&place, "disk.img", SIZE, Behind::Image);
    prepare_production(&place, place.path("save.img").to_str().unwrap(), &prod);
    let served = Served::start(&place, "save.img");
    let mut client = served.client("prod");
    client.write(0, &pattern(0, M, 2), true).unwrap();
    prod.fail_writes();
    fails(client.write(0, &pattern(0, M, 3), false));
    fails(client.write(M, &pattern(M, M, 3), false));
    reads(&mut client, 0, M, 2);
    reads(&mut client, M, M, 1);
    reads(&mut served.client("prod@a"), 0, SIZE, 1);
    assert_eq!(served.state(), "sound");
    prod.mend();
    client.write(M, &pattern(M, M, 3), true).unwrap();
    reads(&mut served.client("prod@a"), 0, SIZE, 1);
    drop(client);
    assert!(served.stop().success());
    place.check();
    drop(prod);

    let prod = Faulty::over(&place, "disk.img", SIZE, Behind::Cache);
    let served = Served::start(&place, "save.img");
    let mut client = served.client("prod");
    prod.fail_writes();
    client.write(2 * M, &pattern(2 * M, M, 4), false).unwrap();
    fails(client.flush());
    fails(client.write(0, &pattern(0, 4096, 4), true));
    served.refused(&["snapshot", "prod@b"], &["cannot take `prod@b`", "a device failed"]);
    assert_eq!(served.state(), "sound");
    prod.mend();
    client.flush().unwrap();
    served.ok(&["snapshot", "prod@c"]);
    reads(&mut served.client("prod@c"), 2 * M, M, 4);
    reads(&mut served.client("prod@a"), 0, SIZE, 1);
    drop(client);
    assert!(served.stop().success());
    place.check();
}

/// Nothing is lost, and the merge goes on by itself when it can.
#[test]
fn a_merge_into_a_production_that_fails_goes_on_when_that_is_over() {
    let place = Place::new();
    let prod = Faulty::over(&place, "disk.img", SIZE, Behind::Image);
    prepare_production(&place, place.path("save.img").to_str().unwrap(), &prod);
    let served = Served::start(&place, "save.img");
    served.client("prod").write(0, &pattern(0, 4 * M, 2), true).unwrap();
    prod.fail_writes();
    served.ok(&["restore", "prod", "--from", "prod@a"]);
    reads(&mut served.client("prod"), 0, SIZE, 1);
    served.logs("disk.img");
    let status = || place.json(&served.args(&["restore", "prod", "--status"]));
    let begun = Instant::now();
    while status()["retried_chunks"] == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", status());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(status()["done"], 0);
    // Meanwhile it is written: to the save volume, as ever while it is restored.
    let mut client = served.client("prod");
    client.write(M, &pattern(M, M, 5), true).unwrap();
    reads(&mut client, M, M, 5);
    assert_eq!(served.state(), "sound");
    prod.mend();
    served.ok(&["restore", "prod", "--wait"]);
    for (at, len, seed) in [(0, M, 1), (M, M, 5), (2 * M, SIZE - 2 * M, 1)] {
        reads(&mut client, at, len, seed);
    }
    reads(&mut served.client("prod@a"), 0, SIZE, 1);
    drop(client);
    assert!(served.stop().success());
    place.check();
    let image = fs::read(prod.path()).unwrap();
    assert!(image[..1 << 20] == pattern(0, M, 1) && image[1 << 20..2 << 20] == pattern(M, M, 5));
}
