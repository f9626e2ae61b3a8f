// SPDX-License-Identifier: MIT

//! A pool under load, and what is known of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use rwsnap::nbd::client::Client;
use rwsnap::nbd::Address;

use super::model::{fill, parse, Live, Sent, Snapshot, BLOCK};
use super::pool::Place;
use super::server::Server;

/// Blocks of a volume.
const BLOCKS: usize = 8192;
/// Snapshots and clones that are kept.
const SNAPSHOTS: usize = 7;
const CLONES: usize = 4;

/// A command whose outcome is not known yet.
enum Doubt {
    Snapshot(String, Snapshot),
    Clone(String, String),
    Refresh(String, String),
    Destroy(String),
    Restore(String),
}

/// What was done in all.
#[derive(Default)]
struct Told {
    writes: AtomicU64,
    flushes: AtomicU64,
    commands: BTreeMap<&'static str, u32>,
    doubts: u32,
}

/// All that is known.
pub(crate) struct World {
    place: Place,
    live: BTreeMap<String, Arc<Mutex<Live>>>,
    snapshots: BTreeMap<String, Snapshot>,
    doubt: Option<Doubt>,
    numbers: Arc<AtomicU64>,
    names: u32,
    random: u64,
    told: Arc<Mutex<Told>>,
}

/// One that no other test's pool has.
fn pool_name() -> String {
    format!("kill-{}", std::process::id())
}

impl World {
    /// A pool with one production.
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let path = place.path("prod.img");
        let file = File::create(&path).unwrap();
        let data: Vec<u8> = (0..BLOCKS).flat_map(|block| fill(block, 0)).collect();
        file.write_all_at(&data, 0).unwrap();
        let path = path.to_str().unwrap().to_owned();
        let (pool, size) = (pool_name(), ["--size", "256M"]);
        let args = ["-q", "create", "save.img", "--name", &pool, "--production", &path];
        place.ok(&[&args[..], &size].concat());
        let prod = Live::new(vec![0; BLOCKS], None);
        Self {
            place,
            live: BTreeMap::from([("prod".to_owned(), Arc::new(Mutex::new(prod)))]),
            snapshots: BTreeMap::new(),
            doubt: None,
            numbers: Arc::new(AtomicU64::new(1)),
            names: 0,
            random: 0x9E37_79B9_7F4A_7C15,
            told: Arc::default(),
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        next(&mut self.random) % below
    }

    fn address(&self) -> Address {
        Address::Unix(self.place.path("n.sock"))
    }

    /// Serves, looks at everything, loads, kills, and has the save volume examined.
    pub(crate) fn round(&mut self, round: u32, reactors: &str) {
        let server = Server::start(&self.place, &["--nbd", "unix:n.sock", "--reactors", reactors]);
        self.look(round);
        let killed = Arc::new(AtomicBool::new(false));
        let killer = self.killer(server.child.id(), &killed);
        let mut writers = Vec::new();
        if round % 4 == 2 {
            self.restore(&killed);
        }
        let busy: BTreeSet<_> =
            self.live.keys().take(2).cloned().chain(["prod".to_owned()]).collect();
        for name in &busy {
            let count = if name == "prod" { 2 } else { 1 };
            writers.extend((0..count).map(|n| self.writer(name, n, count, &killed)));
        }
        while !killed.load(Ordering::SeqCst) && self.doubt.is_none() {
            self.command(&busy, &killed);
        }
        killer.join().unwrap();
        drop(server);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        self.place.check();
    }

    /// Kills the server in a moment.
    fn killer(&mut self, pid: u32, killed: &Arc<AtomicBool>) -> JoinHandle<()> {
        let wait = Duration::from_millis(20 + self.random(500));
        let (killed, pid) = (Arc::clone(killed), Pid::from_raw(i32::try_from(pid).unwrap()));
        std::thread::spawn(move || {
            std::thread::sleep(wait);
            killed.store(true, Ordering::SeqCst);
            kill(pid, Signal::SIGKILL).unwrap();
        })
    }

    /// Writes blocks of its own, flushes now and then, and reads some back, until the server dies.
    fn writer(
        &mut self,
        name: &str,
        writer: usize,
        count: usize,
        killed: &Arc<AtomicBool>,
    ) -> JoinHandle<()> {
        let live = Arc::clone(&self.live[name]);
        let (numbers, told) = (Arc::clone(&self.numbers), Arc::clone(&self.told));
        let (address, name, killed) = (self.address(), name.to_owned(), Arc::clone(killed));
        let mut random = self.random(u64::MAX) | 1;
        std::thread::spawn(move || {
            let work = || -> rwsnap::nbd::client::Result<()> {
                let mut client = Client::connect(&address, &name)?;
                loop {
                    for _ in 0..1 + next(&mut random) % 32 {
                        let block = usize::try_from(next(&mut random)).unwrap() % (BLOCKS / count);
                        let block = block * count + writer;
                        let number = numbers.fetch_add(1, Ordering::SeqCst);
                        let sent = Sent { writer, block, number };
                        live.lock().unwrap().send(sent);
                        let at = (block * BLOCK) as u64;
                        client.write(at, &fill(block, number), false)?;
                        live.lock().unwrap().acknowledge(sent);
                        told.lock().unwrap().writes.fetch_add(1, Ordering::SeqCst);
                        if number % 8 == 0 {
                            let mut data = vec![0; BLOCK];
                            client.read(at, &mut data)?;
                            assert!(data == fill(block, number), "{name}: block {block} differs");
                        }
                    }
                    client.flush()?;
                    live.lock().unwrap().flushed(writer);
                    told.lock().unwrap().flushes.fetch_add(1, Ordering::SeqCst);
                }
            };
            let mut work = work;
            let end = work();
            assert!(killed.load(Ordering::SeqCst), "{name}: {end:?} with a living server");
        })
    }

    /// Runs a command; `None`: the server was killed meanwhile. A refusal has to say why.
    ///
    /// It names the pool, not its save volume: it must not work on the pool at rest, once the
    /// server is dead.
    fn run(&mut self, what: &'static str, args: &[&str], killed: &AtomicBool) -> Option<bool> {
        let mut command = self.place.command(args);
        let Output { status, stderr, .. } =
            command.env("RWSNAP_POOL", pool_name()).output().unwrap();
        if status.success() {
            *self.told.lock().unwrap().commands.entry(what).or_default() += 1;
            return Some(true);
        }
        let said = String::from_utf8_lossy(&stderr);
        if killed.load(Ordering::SeqCst) {
            self.told.lock().unwrap().doubts += 1;
            return None;
        }
        // A restore is under way, or the clone's own snapshots hang on it.
        let reason = ["restor", "needed by", "hangs on"].iter().any(|why| said.contains(why));
        assert!(reason, "{args:?}: {said}");
        Some(false)
    }

    /// One command, chosen by chance, on what no writer holds.
    fn command(&mut self, busy: &BTreeSet<String>, killed: &AtomicBool) {
        let known: Vec<_> = self
            .snapshots
            .iter()
            .filter(|(_, s)| s.exact.is_some())
            .map(|(n, _)| n.clone())
            .collect();
        let idle: Vec<_> = self.live.keys().filter(|n| !busy.contains(*n)).cloned().collect();
        let pick = |from: &[String], n: u64| {
            from.get(usize::try_from(n).unwrap() % from.len().max(1)).cloned()
        };
        let n = self.random(1 << 32);
        let (snapshot, clone) = (pick(&known, n), pick(&idle, n >> 8));
        match (self.random(5), snapshot, clone) {
            (0, Some(snapshot), _) if self.live.len() <= CLONES => self.clone(&snapshot, killed),
            (1, Some(snapshot), Some(clone)) => self.refresh(&clone, &snapshot, killed),
            (2, _, Some(clone)) => self.destroy(&clone, killed),
            (3, Some(snapshot), _) if self.snapshots.len() > SNAPSHOTS => {
                self.destroy(&snapshot, killed);
            }
            _ if self.snapshots.len() <= SNAPSHOTS + 4 => {
                let all: Vec<_> = self.live.keys().cloned().collect();
                self.snapshot(&pick(&all, n >> 16).unwrap(), killed);
            }
            _ => {}
        }
    }

    fn snapshot(&mut self, volume: &str, killed: &AtomicBool) {
        self.names += 1;
        let name = format!("{volume}@s{}", self.names);
        let live = Arc::clone(&self.live[volume]);
        let before = live.lock().unwrap().before_snapshot();
        let outcome = self.run("snapshot", &["snapshot", &name], killed);
        let snapshot = live.lock().unwrap().after_snapshot(before);
        match outcome {
            Some(true) => drop(self.snapshots.insert(name, snapshot)),
            Some(false) => {}
            None => self.doubt = Some(Doubt::Snapshot(name, snapshot)),
        }
    }

    fn clone(&mut self, snapshot: &str, killed: &AtomicBool) {
        self.names += 1;
        let name = format!("c{}", self.names);
        match self.run("clone", &["clone", snapshot, &name], killed) {
            Some(true) => self.cloned(&name, snapshot),
            Some(false) => {}
            None => self.doubt = Some(Doubt::Clone(name, snapshot.to_owned())),
        }
    }

    /// The clone holds what the snapshot does.
    fn cloned(&mut self, name: &str, snapshot: &str) {
        let image = self.snapshots[snapshot].exact.clone().unwrap();
        let live = Live::new(image, Some(snapshot.to_owned()));
        self.live.insert(name.to_owned(), Arc::new(Mutex::new(live)));
    }

    fn refresh(&mut self, clone: &str, snapshot: &str, killed: &AtomicBool) {
        if snapshot.starts_with(&format!("{clone}@")) || self.hangs_on(snapshot, clone) {
            return;
        }
        match self.run("refresh", &["refresh", clone, "--to", snapshot], killed) {
            Some(true) => self.cloned(clone, snapshot),
            Some(false) => {}
            None => self.doubt = Some(Doubt::Refresh(clone.to_owned(), snapshot.to_owned())),
        }
    }

    /// Whether a snapshot is one of what was cloned from the clone, or from a clone of that.
    fn hangs_on(&self, snapshot: &str, clone: &str) -> bool {
        let volume = snapshot.split('@').next().unwrap();
        volume == clone
            || self.live.get(volume).is_none_or(|live| {
                let base = live.lock().unwrap().base.clone();
                base.is_some_and(|base| self.hangs_on(&base, clone))
            })
    }

    /// Destroys what nothing hangs on.
    fn destroy(&mut self, name: &str, killed: &AtomicBool) {
        let based = |live: &Arc<Mutex<Live>>| live.lock().unwrap().base.as_deref() == Some(name);
        let own = format!("{name}@");
        let is_needed = self.live.values().any(based)
            || self.snapshots.keys().any(|s| s.starts_with(&own))
            || self.refused(name);
        if is_needed {
            return;
        }
        match self.run("destroy", &["destroy", name], killed) {
            Some(true) => self.destroyed(name),
            Some(false) => {}
            None => self.doubt = Some(Doubt::Destroy(name.to_owned())),
        }
    }

    /// Whether older states of refreshed clones still hang on it.
    fn refused(&self, name: &str) -> bool {
        let output = self.place.run(&["destroy", "--dry-run", name]);
        String::from_utf8_lossy(&output.stderr).contains("needed by")
    }

    fn destroyed(&mut self, name: &str) {
        self.live.remove(name);
        self.snapshots.remove(name);
    }

    /// Restores production, before its writers come.
    fn restore(&mut self, killed: &AtomicBool) {
        let mine =
            |(name, s): &(&String, &Snapshot)| name.starts_with("prod@") && s.exact.is_some();
        let Some(from) = self.snapshots.iter().find(mine).map(|(name, _)| name.clone()) else {
            return;
        };
        let rate = if self.random(2) == 0 { "2M" } else { "none" };
        let args = ["-q", "restore", "prod", "--from", &from, "--no-undo", "--rate", rate];
        match self.run("restore", &args, killed) {
            Some(true) => {
                self.restored(&from);
                self.adopt(&from, killed);
            }
            Some(false) => {}
            None => self.doubt = Some(Doubt::Restore(from)),
        }
    }

    fn restored(&mut self, from: &str) {
        let image = self.snapshots[from].exact.clone().unwrap();
        self.live.insert("prod".to_owned(), Arc::new(Mutex::new(Live::new(image, None))));
    }

    /// Takes the snapshot of what was restored into the books.
    fn adopt(&mut self, from: &str, killed: &AtomicBool) {
        let Some(names) = self.names() else {
            return assert!(killed.load(Ordering::SeqCst), "the server does not answer");
        };
        let image = self.snapshots[from].exact.clone().unwrap();
        for name in names.into_iter().filter(|n| n.starts_with("prod@restored-")) {
            self.snapshots.entry(name).or_insert_with(|| Snapshot::exact(image.clone()));
        }
    }

    /// All volumes and snapshots.
    fn names(&self) -> Option<Vec<String>> {
        let output = self.place.run(&["list", "-H", "-o", "name"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then(|| text.lines().map(str::to_owned).collect())
    }

    fn image(&self, name: &str) -> Result<Vec<u64>, String> {
        let mut client =
            Client::connect(&self.address(), name).map_err(|e| format!("{name}: {e}"))?;
        let mut data = vec![0; BLOCKS * BLOCK];
        client.read(0, &mut data).map_err(|e| format!("{name}: {e}"))?;
        parse(&data).map_err(|e| format!("{name}: {e}"))
    }

    /// Looks at all there is, after a server has come up again.
    fn look(&mut self, round: u32) {
        let names: BTreeSet<_> = self.names().unwrap().into_iter().collect();
        if let Some(doubt) = self.doubt.take() {
            self.resolve(doubt, &names);
        }
        // The kill may have come between a restore and the look for its snapshot.
        let known: BTreeSet<_> = self.live.keys().chain(self.snapshots.keys()).cloned().collect();
        for name in names.difference(&known) {
            assert!(name.starts_with("prod@restored-"), "{name} came from nowhere");
            let image = self.image(name).unwrap();
            self.snapshots.insert(name.clone(), Snapshot::exact(image));
        }
        for (name, live) in &self.live {
            let image = self.image(name).unwrap_or_else(|e| panic!("round {round}: {e}"));
            let mut live = live.lock().unwrap();
            live.may_be(&image).unwrap_or_else(|e| panic!("round {round}: {name}: {e}"));
            live.seen(&image);
        }
        let mut snapshots = std::mem::take(&mut self.snapshots);
        for (name, snapshot) in &mut snapshots {
            let image = self.image(name).unwrap_or_else(|e| panic!("round {round}: {e}"));
            snapshot.look(&image).unwrap_or_else(|e| panic!("round {round}: {name}: {e}"));
        }
        self.snapshots = snapshots;
    }

    /// Finds out whether an interrupted command was carried out.
    fn resolve(&mut self, doubt: Doubt, names: &BTreeSet<String>) {
        match doubt {
            Doubt::Snapshot(name, snapshot) if names.contains(&name) => {
                self.snapshots.insert(name, snapshot);
            }
            Doubt::Clone(name, snapshot) if names.contains(&name) => self.cloned(&name, &snapshot),
            Doubt::Destroy(name) if !names.contains(&name) => self.destroyed(&name),
            Doubt::Refresh(clone, snapshot) => {
                let former = self.live[&clone].lock().unwrap().clone();
                if former.may_be(&self.image(&clone).unwrap()).is_err() {
                    self.cloned(&clone, &snapshot);
                }
            }
            Doubt::Restore(from) => {
                let former = self.live["prod"].lock().unwrap().clone();
                if former.may_be(&self.image("prod").unwrap()).is_err() {
                    self.restored(&from);
                }
            }
            _ => {}
        }
    }

    /// Serves for the last time, looks at everything, and ends in order.
    pub(crate) fn finish(&mut self) {
        let server = Server::start(&self.place, &["--nbd", "unix:n.sock"]);
        self.look(u32::MAX);
        self.place.ok(&["stop"]);
        server.ended();
        self.place.check();
    }

    /// What was done, in words.
    pub(crate) fn told(&self) -> String {
        let told = self.told.lock().unwrap();
        let (writes, flushes) = (&told.writes, &told.flushes);
        let commands = &told.commands;
        format!("{writes:?} writes, {flushes:?} flushes, {commands:?}, {} interrupted", told.doubts)
    }

    /// Whether every kind of thing happened often enough to mean something.
    pub(crate) fn is_worth_it(&self) -> bool {
        let told = self.told.lock().unwrap();
        let kinds = ["snapshot", "clone", "refresh", "destroy", "restore"];
        told.flushes.load(Ordering::SeqCst) > 500
            && kinds.iter().all(|kind| told.commands.get(kind).is_some_and(|&n| n >= 3))
            && told.doubts > 0
    }
}

/// The next number by chance (xorshift).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
