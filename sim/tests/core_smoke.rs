// SPDX-License-Identifier: MIT

//! The core over disks in memory, one step at a time: the shortest way to see each path work.

use std::collections::HashMap;

use rwsnap::platform::Host;
use rwsnap_core::api::{Device, Done, Limits, Op, Request, Seg, Step, StepId, Submit};
use rwsnap_core::control::{Command, Item, Name, Reply, Verb};
use rwsnap_core::fast::Route;
use rwsnap_core::fault::Fault;
use rwsnap_core::format::create::{create, NewPool, NewProduction};
use rwsnap_core::format::superblock::{Finder, Options, COPIES};
use rwsnap_core::platform::Platform;
use rwsnap_core::units::Dev;
use rwsnap_core::Core;
use zerocopy::{FromBytes, IntoBytes};

const CHUNK: usize = 4096;

struct World {
    core: Core<Host>,
    disks: Vec<Vec<u8>>,
    units: Vec<u8>,
    clients: HashMap<u64, Vec<u8>>,
    finished: HashMap<u64, Result<(), Fault>>,
    replies: HashMap<u64, Vec<u8>>,
    cookie: u64,
}

const LIMITS: Limits =
    Limits { cache_pages: 16, delta_records: 4096, requests: 64, copy_units: 512 };

fn size(n: impl TryInto<usize>) -> usize {
    n.try_into().unwrap_or(usize::MAX)
}

/// The content of a chunk: the last byte of its number.
fn byte(n: impl TryInto<u64>) -> u8 {
    n.try_into().unwrap_or(0).to_le_bytes()[0]
}

fn device(disk: &[u8]) -> Device {
    Device { size: disk.len() as u64, block: 512, volatile: true, fua: false }
}

impl World {
    fn new() -> Self {
        let mut save = vec![0u8; 8 << 20];
        let production: Vec<u8> = (0..4 << 20).map(|i| byte(i / CHUNK)).collect();
        let pool = NewPool {
            layout: Options { bytes: save.len() as u64, ..Options::default() },
            uuid: *b"0123456789abcdef",
            label: [0; 64],
            when_full: 2,
            copy_span: 4096,
            time_ns: 1,
            productions: &[NewProduction {
                name: Name::new(b"prod").unwrap(),
                size: production.len() as u64,
                path: b"/nowhere",
            }],
        };
        create(&Host, &pool, &mut |at, bytes| {
            save[size(at)..size(at) + bytes.len()].copy_from_slice(bytes);
        })
        .unwrap();
        Self::open(vec![save, production])
    }

    fn open(disks: Vec<Vec<u8>>) -> Self {
        let mut finder = Finder::default();
        for at in COPIES {
            finder.feed(&Host, &disks[0][size(at)..size(at) + 4096]);
        }
        let core = Core::open(Host, &LIMITS, device(&disks[0]), finder.finish().unwrap()).unwrap();
        let mut world = Self {
            core,
            disks,
            units: vec![0; 512 * CHUNK],
            clients: HashMap::new(),
            finished: HashMap::new(),
            replies: HashMap::new(),
            cookie: 0,
        };
        world.drain();
        assert_eq!(world.core.opened(), Some(Ok(())));
        world.core.online(Dev(1), device(&world.disks[1]), 0, true).unwrap();
        world.core.start();
        world.drain();
        world
    }

    fn drain(&mut self) {
        while let Some((id, step)) = self.core.poll() {
            self.carry_out(id, step);
        }
    }

    fn carry_out(&mut self, id: StepId, step: Step) {
        match step {
            Step::Finish { cookie, outcome } => {
                self.finished.insert(cookie, outcome);
                return;
            }
            Step::Reply { cookie } => {
                let mut bytes = Vec::new();
                self.core.reply(cookie, &mut |b| bytes = b.to_vec());
                self.replies.insert(cookie, bytes);
                return;
            }
            Step::Wake => return,
            _ => {}
        }
        let (mut meta, mut sums) = (Vec::new(), Vec::new());
        match step {
            Step::Read { dev, at, len } => {
                (meta, sums) = self.read_step(id, size(dev.0), size(at), size(len));
            }
            Step::Write { dev, at, len, .. } => {
                self.write_step(id, size(dev.0), size(at), size(len));
            }
            Step::Zero { dev, at, len, .. } | Step::Discard { dev, at, len } => {
                self.disks[size(dev.0)][size(at)..size(at + len)].fill(0);
            }
            Step::Clear { .. } => self.core.segs(id, &mut |seg| {
                if let Seg::Client { cookie, at, len } = seg {
                    self.clients.get_mut(&cookie).unwrap()[size(at)..size(at + len)].fill(0);
                }
            }),
            _ => {}
        }
        let done = Done { result: Ok(()), bytes: &meta, sums: &sums };
        self.core.complete(id, &done);
    }

    /// Metadata and sums that a read gives.
    fn read_step(
        &mut self,
        id: StepId,
        dev: usize,
        mut at: usize,
        len: usize,
    ) -> (Vec<u8>, Vec<u64>) {
        let (disk, units, clients) = (&self.disks[dev], &mut self.units, &mut self.clients);
        let (mut meta, mut sums) = (Vec::new(), Vec::new());
        let end = at + len;
        self.core.segs(id, &mut |seg| match seg {
            Seg::Client { cookie, at: to, len } => {
                let to = size(to);
                let len = size(len);
                clients.get_mut(&cookie).unwrap()[to..to + len]
                    .copy_from_slice(&disk[at..at + len]);
                at += len;
            }
            Seg::Copy { unit, at: to, len } => {
                let (unit, to, len) = (size(unit), size(to), size(len));
                let whole = &mut units[unit * CHUNK..(unit + 1) * CHUNK];
                whole[to..to + len].copy_from_slice(&disk[at..at + len]);
                if to == 0 {
                    whole[len..].fill(0);
                }
                sums.push(Host.hash(0, whole));
                at += len;
            }
            Seg::Meta { len } => {
                meta.extend_from_slice(&disk[at..at + size(len)]);
                at += size(len);
            }
            _ => panic!("{seg:?} in a read"),
        });
        assert_eq!(at, end);
        (meta, sums)
    }

    fn write_step(&mut self, id: StepId, dev: usize, mut at: usize, len: usize) {
        let (disk, units, clients) = (&mut self.disks[dev], &self.units, &self.clients);
        let end = at + len;
        self.core.segs(id, &mut |seg| {
            let from: &[u8] = match seg {
                Seg::Client { cookie, at, len } => &clients[&cookie][size(at)..size(at + len)],
                Seg::Copy { unit, at, len } => {
                    let from = size(unit) * CHUNK + size(at);
                    &units[from..from + size(len)]
                }
                Seg::Bytes(bytes) => bytes,
                Seg::Zeros { len } => {
                    disk[at..at + size(len)].fill(0);
                    at += size(len);
                    return;
                }
                Seg::Meta { .. } => panic!("meta in a write"),
            };
            disk[at..at + from.len()].copy_from_slice(from);
            at += from.len();
        });
        assert_eq!(at, end);
    }

    fn request(&mut self, name: &str, op: Op, at: u64, data: Vec<u8>) -> Vec<u8> {
        let write = !matches!(op, Op::Read);
        let opened = self.core.attach(name.as_bytes(), write).unwrap();
        self.cookie += 1;
        let (cookie, len) = (self.cookie, u32::try_from(data.len()).unwrap());
        self.clients.insert(cookie, data);
        if let Some(fast) = &opened.fast {
            if let Route::Pass(pass) = fast.route(0, op, at, len) {
                let (dev, from) = (size(pass.dev.0), size(pass.at));
                let data = self.clients.get_mut(&cookie).unwrap();
                match op {
                    Op::Read => data.copy_from_slice(&self.disks[dev][from..from + size(len)]),
                    Op::Write { .. } => {
                        self.disks[dev][from..from + size(len)].copy_from_slice(data);
                    }
                    _ => {}
                }
                if fast.leave(0, pass.token) {
                    self.core.kick();
                }
                self.core.detach(opened.handle);
                return self.clients.remove(&cookie).unwrap();
            }
        }
        let request = Request { volume: opened.handle, op, at, len, cookie };
        assert_eq!(self.core.submit(&request), Submit::Queued);
        self.drain();
        assert_eq!(self.finished.remove(&cookie), Some(Ok(())), "{name} {op:?} at {at}");
        self.core.detach(opened.handle);
        self.clients.remove(&cookie).unwrap()
    }

    fn write(&mut self, name: &str, at: u64, byte: u8, len: usize) {
        self.request(name, Op::Write { fua: false }, at, vec![byte; len]);
    }

    fn flush(&mut self, name: &str) {
        self.request(name, Op::Flush, 0, Vec::new());
    }

    fn read(&mut self, name: &str, at: u64, len: usize) -> Vec<u8> {
        self.request(name, Op::Read, at, vec![0xEE; len])
    }

    fn first(&mut self, name: &str, at: u64) -> u8 {
        let data = self.read(name, at, 512);
        assert!(data.iter().all(|&b| b == data[0]), "{name} at {at}: mixed {:?}", &data[..8]);
        data[0]
    }

    fn command(&mut self, verb: Verb, name: &str, other: &str, items: &[&str]) -> Vec<u8> {
        let mut command = Command::new(verb, Name::new(name.as_bytes()).unwrap());
        command.other = Name::new(other.as_bytes()).unwrap();
        command.count = u32::try_from(items.len()).unwrap().into();
        if verb == Verb::Restore {
            command.value = u64::MAX.into();
        }
        let mut bytes = command.as_bytes().to_vec();
        for item in items {
            let name = Name::new(item.as_bytes()).unwrap();
            bytes.extend_from_slice(Item { name, value: [0; 192] }.as_bytes());
        }
        self.cookie += 1;
        assert_eq!(self.core.command(self.cookie, &bytes), Submit::Queued);
        self.drain();
        self.replies.remove(&self.cookie).expect("a reply")
    }

    fn done(&mut self, verb: Verb, name: &str, other: &str, items: &[&str]) {
        let reply = self.command(verb, name, other, items);
        let (head, _) = Reply::ref_from_prefix(&reply).unwrap();
        assert_eq!(head.refusal.get(), 0, "{verb:?} {name} {other} {items:?}: {}", head.value);
    }
}

#[test]
fn a_snapshot_keeps_what_production_held() {
    let mut w = World::new();
    w.write("prod", 0, 200, 512);
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.write("prod", 0, 201, 512);
    w.write("prod", 8192, 202, 8192);
    assert_eq!(w.first("prod@one", 0), 200);
    assert_eq!(w.first("prod@one", 8192), 2);
    assert_eq!(w.first("prod@one", 12288), 3);
    assert_eq!(w.first("prod", 0), 201);
    assert_eq!(w.first("prod", 8192), 202);
    assert_eq!(w.first("prod@one", 40960), 10);
    w.done(Verb::Snapshot, "", "", &["prod@two"]);
    w.write("prod", 0, 203, 512);
    assert_eq!(w.first("prod@one", 0), 200);
    assert_eq!(w.first("prod@two", 0), 201);
    assert_eq!(w.first("prod", 0), 203);
}

#[test]
fn clones_keep_their_own_data() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    w.done(Verb::Clone, "prod@one", "dev2", &[]);
    w.write("dev1", 512, 100, 512);
    w.write("dev2", 512, 101, 512);
    w.write("prod", 512, 102, 512);
    for (name, byte) in [("dev1", 100), ("dev2", 101), ("prod", 102), ("prod@one", 0)] {
        assert_eq!(w.first(name, 512), byte, "{name}");
        assert_eq!(w.first(name, 0), 0, "{name}");
        assert_eq!(w.first(name, 1024), 0, "{name}");
    }
    w.flush("dev1");
    w.done(Verb::Snapshot, "", "", &["dev1@s"]);
    w.write("dev1", 512, 110, 512);
    assert_eq!(w.first("dev1@s", 512), 100);
    assert_eq!(w.first("dev1", 512), 110);
    w.request("dev1", Op::Discard, 0, vec![0; 4096]);
    assert_eq!(w.first("dev1", 512), 0);
    assert_eq!(w.first("dev1@s", 512), 100);
    w.done(Verb::Refresh, "dev2", "", &[]);
    assert_eq!(w.first("dev2", 512), 102);
}

#[test]
fn a_reopened_pool_is_what_it_was() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    for n in 0..200u64 {
        w.write("prod", n * 4096, 50, 512);
        w.write("dev1", n * 8192, 60, 4096);
    }
    w.flush("dev1");
    let mut w = World::open(w.disks);
    for n in 0..200u64 {
        assert_eq!(w.first("prod", n * 4096), 50);
        assert_eq!(w.first("dev1", n * 8192), 60);
        assert_eq!(w.first("prod@one", n * 4096), byte(n));
    }
    w.core.close();
    w.drain();
    assert_eq!(w.core.closed(), Some(Ok(())));
    let mut w = World::open(w.disks);
    for n in 0..200u64 {
        assert_eq!(w.first("dev1", n * 8192), 60);
        assert_eq!(w.first("prod@one", n * 4096), byte(n));
    }
}

#[test]
fn production_is_restored_from_a_clone_and_back() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    for n in 0..100u64 {
        w.write("prod", n * 4096, 150, 4096);
        w.write("dev1", n * 8192, 160, 4096);
    }
    w.done(Verb::Restore, "prod", "dev1", &[]);
    for n in 0..100u64 {
        assert_eq!(w.first("prod", n * 8192), 160, "{n}");
        assert_eq!(w.first("prod", n * 8192 + 4096), byte(n * 2 + 1), "{n}");
    }
    assert_eq!(w.first("prod@one", 0), 0);
    let list = w.command(Verb::RestoreStatus, "prod", "", &[]);
    assert_eq!(Reply::ref_from_prefix(&list).unwrap().0.count.get(), 0, "still merging");
    w.write("prod", 0, 170, 512);
    assert_eq!(w.first("dev1", 0), 160);
}
