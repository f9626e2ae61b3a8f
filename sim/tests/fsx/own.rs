// SPDX-License-Identifier: MIT

//! Operations by chance on production, snapshots and clones, each with a plain copy beside it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rwsnap::nbd::client::Client;
use rwsnap::nbd::Address;

use super::pool::{pattern, Place};
use super::server::Server;

const SIZE: u64 = 4 << 20;
const CHUNK: u64 = 4096;
const SECTOR: u64 = 512;
/// Volumes and snapshots that there are at most.
const MOST: usize = 12;

/// What a volume or snapshot holds, and what it was cloned from.
#[derive(Clone)]
struct Copy {
    data: Vec<u8>,
    base: Option<String>,
}

/// The pool, its copies, and the connections to what is written.
struct Own {
    place: Place,
    server: Option<Server>,
    clients: BTreeMap<String, Client>,
    copies: BTreeMap<String, Copy>,
    random: u64,
    count: u32,
    seed: u64,
    done: BTreeMap<&'static str, u32>,
}

/// So many operations; a seed gives the same ones again.
pub(crate) fn exercise(seed: u64, operations: u32) {
    let place = Place::new();
    let prod = place.production("prod.img", SIZE);
    place.ok(&["-q", "create", "save.img", "--size", "128M", "--production", &prod]);
    let copy = Copy { data: pattern(0, SIZE, 1), base: None };
    let mut own = Own {
        place,
        server: None,
        clients: BTreeMap::new(),
        copies: BTreeMap::from([("prod".to_owned(), copy)]),
        random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        count: 0,
        seed,
        done: BTreeMap::new(),
    };
    own.serve();
    for _ in 0..operations {
        own.count += 1;
        own.operation();
    }
    own.restart(false);
    own.compare_all();
    own.clients.clear();
    own.place.ok(&["stop"]);
    own.server.take().unwrap().ended();
    own.place.check();
    println!("seed {seed}: {:?}", own.done);
    let kinds = ["write", "read", "zero", "trim", "snapshot", "clone", "refresh", "destroy"];
    for kind in kinds.iter().chain(&["restore", "restart", "kill"]) {
        assert!(own.done.contains_key(kind), "seed {seed} has no {kind}");
    }
}

impl Own {
    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % n.max(1)
    }

    fn pick(&mut self, of: &[String]) -> Option<String> {
        let n = self.below(of.len() as u64);
        of.get(usize::try_from(n).unwrap()).cloned()
    }

    fn names(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        self.copies.keys().filter(|name| wanted(name)).cloned().collect()
    }

    fn volumes(&self) -> Vec<String> {
        self.names(|name| !name.contains('@'))
    }

    fn snapshots(&self) -> Vec<String> {
        self.names(|name| name.contains('@'))
    }

    fn serve(&mut self) {
        let reactors = if self.below(2) == 0 { "1" } else { "4" };
        let args = ["--nbd", "unix:n.sock", "--reactors", reactors];
        self.server = Some(Server::start(&self.place, &args));
    }

    fn client(&mut self, name: &str) -> &mut Client {
        let address = Address::Unix(self.place.path("n.sock"));
        self.clients
            .entry(name.to_owned())
            .or_insert_with(|| Client::connect(&address, name).unwrap())
    }

    /// Ends the connection to a volume; the server may take a moment to notice.
    fn let_go(&mut self, name: &str) {
        self.clients.remove(name);
        let begun = Instant::now();
        while self.place.json(&["info", name])["opens"] != 0 {
            assert!(begun.elapsed() < Duration::from_secs(10), "the server does not let go");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A place and a length, in units; small ones most of the time.
    fn range(&mut self, unit: u64) -> (u64, u64) {
        let units = SIZE / unit;
        let at = self.below(units);
        let most = if self.below(8) == 0 { (512 << 10) / unit } else { (24 << 10) / unit };
        let len = 1 + self.below(most.min(units - at));
        (at * unit, len.min(units - at) * unit)
    }

    fn operation(&mut self) {
        let volume = self.pick(&self.volumes()).unwrap();
        match self.below(100) {
            0..40 => self.write(&volume),
            40..60 => self.read(),
            60..66 => self.clear(&volume, false),
            66..70 => self.clear(&volume, true),
            70..78 => self.snapshot(&volume),
            78..83 => self.clone(),
            83..87 => self.refresh(),
            87..93 => self.destroy(),
            93..95 => self.restore(),
            95 => self.restart(false),
            96 => self.restart(true),
            _ => self.client(&volume).flush().unwrap(),
        }
    }

    fn note(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn write(&mut self, name: &str) {
        let (at, len) = self.range(SECTOR);
        let data = pattern(at, len, 1 + u64::from(self.count));
        let fua = self.count % 5 == 0;
        self.client(name).write(at, &data, fua).unwrap();
        self.part(name, at, len).copy_from_slice(&data);
        self.note("write");
    }

    fn part(&mut self, name: &str, at: u64, len: u64) -> &mut [u8] {
        let (at, len) = (usize::try_from(at).unwrap(), usize::try_from(len).unwrap());
        &mut self.copies.get_mut(name).unwrap().data[at..at + len]
    }

    /// Zeros; or a discard, of whole chunks of a clone: those read as zeros too.
    fn clear(&mut self, name: &str, trim: bool) {
        let trim = trim && name != "prod";
        let (at, len) = self.range(if trim { CHUNK } else { SECTOR });
        let bytes = u32::try_from(len).unwrap();
        let client = self.client(name);
        if trim { client.trim(at, bytes) } else { client.zero(at, bytes, 0) }.unwrap();
        self.part(name, at, len).fill(0);
        self.note(if trim { "trim" } else { "zero" });
    }

    fn read(&mut self) {
        let all = self.names(|_| true);
        let name = self.pick(&all).unwrap();
        let (at, len) = self.range(SECTOR);
        self.compare(&name, at, len);
        self.note("read");
    }

    fn compare(&mut self, name: &str, at: u64, len: u64) {
        let mut data = vec![0; usize::try_from(len).unwrap()];
        self.client(name).read(at, &mut data).unwrap();
        let (seed, count) = (self.seed, self.count);
        let wanted = self.part(name, at, len);
        if let Some(n) = (0..data.len()).find(|&n| data[n] != wanted[n]) {
            let (found, wanted) = (data[n], wanted[n]);
            let place = at + n as u64;
            panic!("seed {seed}, operation {count}: {name}: {place} is {found}, not {wanted}");
        }
    }

    fn compare_all(&mut self) {
        for name in self.names(|_| true) {
            self.compare(&name, 0, SIZE);
        }
    }

    fn snapshot(&mut self, volume: &str) {
        if self.copies.len() >= MOST {
            return;
        }
        let name = format!("{volume}@s{}", self.count);
        self.place.ok(&["snapshot", &name]);
        let copy = self.copies[volume].clone();
        self.copies.insert(name, copy);
        self.note("snapshot");
    }

    fn clone(&mut self) {
        let Some(snapshot) = self.pick(&self.snapshots()) else { return };
        if self.copies.len() >= MOST {
            return;
        }
        let name = format!("c{}", self.count);
        self.place.ok(&["clone", &snapshot, &name]);
        let data = self.copies[&snapshot].data.clone();
        self.copies.insert(name, Copy { data, base: Some(snapshot) });
        self.note("clone");
    }

    /// Whether a volume or snapshot cannot be without the volume: it, its base, or the volume that
    /// it is a snapshot of is the volume's.
    fn rests_on(&self, name: &str, volume: &str) -> bool {
        let owner = name.split('@').next().unwrap();
        let base = |name: &str| self.copies.get(name).and_then(|copy| copy.base.clone());
        let bases = [base(name), base(owner)];
        owner == volume || bases.into_iter().flatten().any(|base| self.rests_on(&base, volume))
    }

    fn refresh(&mut self) {
        let clones = self.names(|name| !name.contains('@') && name != "prod");
        let (clone, to) = (self.pick(&clones), self.pick(&self.snapshots()));
        let (Some(clone), Some(to)) = (clone, to) else { return };
        if self.rests_on(&to, &clone) {
            return;
        }
        self.let_go(&clone);
        self.place.ok(&["refresh", &clone, "--to", &to]);
        let data = self.copies[&to].data.clone();
        self.copies.insert(clone, Copy { data, base: Some(to) });
        self.note("refresh");
    }

    fn destroy(&mut self) {
        let all = self.names(|name| name != "prod");
        let Some(name) = self.pick(&all) else { return };
        let own = format!("{name}@");
        let needed = |(other, copy): (&String, &Copy)| {
            other.starts_with(&own) || copy.base.as_deref() == Some(&name)
        };
        let is_needed = self.copies.iter().any(needed);
        let restoring = self.place.ok(&["restore", "prod", "--status", "--json"]);
        if is_needed || restoring.trim() != "null" {
            return;
        }
        self.let_go(&name);
        self.place.ok(&["destroy", &name]);
        self.copies.remove(&name);
        self.note("destroy");
    }

    /// Restores production; its merge goes on behind the next operations.
    fn restore(&mut self) {
        let sources = self.names(|name| name != "prod");
        let Some(from) = self.pick(&sources) else { return };
        let restoring = self.place.ok(&["restore", "prod", "--status", "--json"]);
        if restoring.trim() != "null" || self.copies.len() >= MOST {
            return;
        }
        self.let_go("prod");
        let order = if self.below(2) == 0 { "old-first" } else { "new-first" };
        let rate = if self.below(2) == 0 { "512K" } else { "none" };
        let args = ["-q", "restore", "prod", "--from", &from, "--order", order, "--rate", rate];
        self.place.ok(&args);
        let before = self.copies["prod"].clone();
        let data = self.copies[&from].data.clone();
        self.copies.insert("prod".to_owned(), Copy { data: data.clone(), base: None });
        let names = self.place.ok(&["list", "-H", "-o", "name"]);
        for name in names.lines() {
            if name.starts_with("prod@before-restore-") {
                self.copies.entry(name.to_owned()).or_insert_with(|| before.clone());
            } else if name.starts_with("prod@restored-") {
                let restored = || Copy { data: data.clone(), base: None };
                self.copies.entry(name.to_owned()).or_insert_with(restored);
            }
        }
        self.note("restore");
    }

    /// Ends the server in order, or kills it once all is flushed, and serves again.
    fn restart(&mut self, kill: bool) {
        for name in self.volumes() {
            self.client(&name).flush().unwrap();
        }
        let server = self.server.take().unwrap();
        self.clients.clear();
        if kill {
            drop(server);
        } else {
            self.place.ok(&["stop"]);
            server.ended();
        }
        self.place.check();
        self.serve();
        self.compare_all();
        self.clients.clear();
        self.note(if kill { "kill" } else { "restart" });
    }
}
