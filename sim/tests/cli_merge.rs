// SPDX-License-Identifier: MIT

//! A server that is ended by a signal while a restore's data is merged and clients write.

#[expect(dead_code, reason = "other tests use the rest")]
mod pool;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "pool/server.rs"]
mod server;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use pool::{pattern, Place};
use rwsnap::nbd::client::Client;
use rwsnap::nbd::Address;
use server::Server;

const M: u64 = 1 << 20;
const SIZE: u64 = 24 * M;
/// Bytes a second.
const RATE: &str = "4M";
/// Bytes in a client's write: less than a chunk, so that chunks are completed.
const BLOCK: u64 = 2048;
/// The first and later numbers of clients' writes; those below are other patterns.
const WRITES: u64 = 100;

/// What production may hold: for each block the number of its pattern.
struct Model(Vec<u64>);

/// The writes of one connection, as (block, number): those that were acknowledged, in order, and
/// the one that was under way at its end.
type Written = (Vec<(usize, u64)>, Option<(usize, u64)>);

fn bytes(block: usize, number: u64) -> Vec<u8> {
    pattern(block as u64 * BLOCK, BLOCK, number)
}

impl Model {
    /// What the clone holds that is restored: pattern 3 in part, else 1.
    fn source() -> Self {
        let blocks = usize::try_from(SIZE / BLOCK).unwrap();
        Self((0..blocks).map(|n| if n < blocks / 4 { 3 } else { 1 }).collect())
    }

    fn image(&self) -> Vec<u8> {
        self.0.iter().enumerate().flat_map(|(block, number)| bytes(block, *number)).collect()
    }

    /// Takes what a connection wrote; of its last write, what production holds.
    fn take(&mut self, production: &[u8], (acknowledged, under_way): Written) {
        for (block, number) in acknowledged {
            self.0[block] = number;
        }
        let size = usize::try_from(BLOCK).unwrap();
        let found = |block| production.chunks(size).nth(block).unwrap();
        match under_way {
            Some((block, number)) if found(block) == bytes(block, number) => {
                self.0[block] = number;
            }
            _ => {}
        }
        assert!(production == self.image(), "production is wrong");
    }
}

/// A client that writes to production until the server has no more of it.
struct Writer(JoinHandle<Written>, Arc<AtomicUsize>);

impl Writer {
    fn start(mut client: Client, round: u64) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let acknowledged = Arc::clone(&count);
        let thread = thread::spawn(move || {
            let mut written = (Vec::new(), None);
            for n in 0.. {
                let number = WRITES + round * 10_000 + n;
                // All over it, in an order that has nothing to do with the merge's.
                let block = usize::try_from((n * 2711 + round * 997) % (SIZE / BLOCK)).unwrap();
                let fua = n % 16 == 0;
                if client.write(block as u64 * BLOCK, &bytes(block, number), fua).is_err() {
                    written.1 = Some((block, number));
                    break;
                }
                written.0.push((block, number));
                acknowledged.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(1));
            }
            written
        });
        Self(thread, count)
    }

    /// Writes that were acknowledged.
    fn count(&self) -> usize {
        self.1.load(Ordering::SeqCst)
    }

    /// All of them, after the server's end.
    fn ended(self) -> Written {
        self.0.join().unwrap()
    }
}

/// Waits for it.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is not so that {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Bytes that are merged, and all that have to be; `None` once the restore is over.
fn merged(place: &Place) -> Option<(u64, u64)> {
    let output = place.run(&["restore", "prod", "--status", "--json"]);
    let row: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    Some((row["done"].as_u64()?, row["total"].as_u64()?))
}

/// Bytes of production that are settled: read and written in place again.
fn settled(place: &Place) -> u64 {
    let map = place.json(&["map", "prod"]);
    let runs = map.as_array().unwrap().iter();
    let settled = runs.filter(|run| run["flags"].as_array().unwrap().contains(&"settled".into()));
    settled.map(|run| run["length"].as_u64().unwrap()).sum()
}

/// The one name that begins so.
fn named(place: &Place, head: &str) -> String {
    let list = place.ok(&["list", "-H", "-o", "name"]);
    let mut names = list.lines().filter(|name| name.starts_with(head));
    let name = names.next().unwrap_or_else(|| panic!("no {head}: {list}")).to_owned();
    assert_eq!(names.next(), None, "{list}");
    name
}

fn terminate(server: Server) {
    kill(Pid::from_raw(server.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    server.ended();
}

#[test]
fn a_merge_survives_sigterm_with_writes_going_on() {
    let place = Place::new();
    let prod = place.production("prod.img", SIZE);
    place.ok(&["-q", "create", "save.img", "--size", "96M", "--production", &prod]);
    place.ok(&["snapshot", "prod@a"]);
    place.ok(&["clone", "prod@a", "dev"]);
    place.write("dev", 0, SIZE / 4, 3);
    place.write("prod", 0, SIZE, 2);
    let address = Address::Unix(place.path("n.sock"));
    let connect = || Client::connect(&address, "prod").unwrap();
    let server = Server::start(&place, &["--nbd", "unix:n.sock"]);
    place.ok(&["restore", "prod", "--from", "dev", "--rate", RATE]);
    let writer = Writer::start(connect(), 0);
    until("a part is merged", || merged(&place).unwrap().0 >= SIZE / 3);
    until("there is load", || writer.count() > 100);
    terminate(server);
    place.check();
    // As with each opening, a second's part of the merge is done meanwhile, and no more.
    let settled = settled(&place);
    assert!((SIZE / 3..SIZE).contains(&settled), "{settled} bytes are settled");
    let mut model = Model::source();
    model.take(&place.read("prod", 0, SIZE), writer.ended());

    let server = Server::start(&place, &["--nbd", "unix:n.sock"]);
    let writer = Writer::start(connect(), 1);
    assert!(merged(&place).is_some(), "it was over before it was served again");
    until("there is load", || writer.count() > 100);
    until("all is merged", || merged(&place).is_none());
    terminate(server);
    place.check();
    model.take(&fs::read(&prod).unwrap(), writer.ended());
    place.holds(&named(&place, "prod@before-restore"), 0, SIZE, 2);
    place.holds("prod@a", 0, SIZE, 1);
    for source in ["dev", &named(&place, "prod@restored")] {
        assert!(place.read(source, 0, SIZE) == Model::source().image(), "{source} has changed");
    }
}
