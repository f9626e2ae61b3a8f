// SPDX-License-Identifier: MIT

//! A driver that carries each step out at once, on disks in memory.

use std::collections::HashMap;

use rwsnap_core::api::{Device, Done, Limits, Op, Request, Seg, Step, StepId, Submit};
use rwsnap_core::control::{
    Command, EntityRow, EventRow, Item, Name, PoolRow, Refusal, Reply, Verb, FLAG_COUNT,
    FLAG_RECURSIVE,
};
use rwsnap_core::engine::OpenError;
use rwsnap_core::fast::Route;
use rwsnap_core::fault::Fault;
use rwsnap_core::format::create::{create, NewPool, NewProduction};
use rwsnap_core::format::superblock::{Finder, Options, COPIES};
use rwsnap_core::platform::Platform;
use rwsnap_core::units::Dev;
use rwsnap_core::Core;
use zerocopy::{FromBytes, IntoBytes};

use super::counting::Counting as Host;

const CHUNK: usize = 4096;
/// Steps that no test needs.
const ENOUGH: usize = 200_000;

pub(crate) struct World {
    pub(crate) core: Box<Core<Host>>,
    pub(crate) disks: Vec<Vec<u8>>,
    /// Every step that was carried out.
    pub(crate) steps: Vec<Step>,
    /// Which steps fail.
    pub(crate) fails: fn(&Step) -> bool,
    units: Vec<u8>,
    pub(crate) clients: HashMap<u64, Vec<u8>>,
    pub(crate) finished: HashMap<u64, Result<(), Fault>>,
    replies: HashMap<u64, Vec<u8>>,
    pub(crate) cookie: u64,
}

pub(crate) const LIMITS: Limits =
    Limits { cache_pages: 16, delta_records: 4096, requests: 64, copy_units: 512 };

/// What a world is like.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// Bytes in the save volume.
    pub(crate) bytes: u64,
    /// Bytes that it may grow to; 0: as many as it has.
    pub(crate) limit: u64,
    pub(crate) log_blocks: u64,
    /// 0 grow, 1 oldest, 2 stall, 3 fail.
    pub(crate) when_full: u32,
    pub(crate) limits: Limits,
    /// Whether devices have a volatile cache, and know FUA.
    pub(crate) volatile: bool,
    pub(crate) fua: bool,
    /// The pool's newest epoch, if it is to be another one.
    pub(crate) epoch: Option<u32>,
}

pub(crate) const USUAL: Setup = Setup {
    bytes: 8 << 20,
    limit: 0,
    log_blocks: 0,
    when_full: 2,
    limits: LIMITS,
    volatile: true,
    fua: false,
    epoch: None,
};

impl Setup {
    pub(crate) fn device(&self, disk: &[u8]) -> Device {
        let Self { volatile, fua, .. } = *self;
        Device { size: disk.len() as u64, block: 512, volatile, fua }
    }

    /// An empty pool of one production of 4 MiB, whose chunks hold their number.
    pub(crate) fn make(&self) -> Vec<Vec<u8>> {
        let mut save = vec![0u8; self.bytes as usize];
        let production: Vec<u8> = (0..4 << 20).map(|i| (i / CHUNK) as u8).collect();
        let pool = NewPool {
            layout: Options {
                bytes: save.len() as u64,
                limit: self.limit,
                log_blocks: self.log_blocks,
                ..Options::default()
            },
            uuid: *b"0123456789abcdef",
            label: [0; 64],
            when_full: self.when_full,
            copy_span: 4096,
            time_ns: 1,
            productions: &[NewProduction {
                name: Name::new(b"prod").unwrap(),
                size: production.len() as u64,
                path: b"/nowhere",
            }],
        };
        create(&Host, &pool, &mut |at, bytes| {
            save[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        })
        .unwrap();
        vec![save, production]
    }

    /// Begins to open the pool.
    pub(crate) fn core(&self, save: &[u8]) -> Result<Box<Core<Host>>, OpenError> {
        let mut finder = Finder::default();
        for at in COPIES {
            finder.feed(&Host, &save[at as usize..at as usize + 4096]);
        }
        let mut superblock = *finder.finish().unwrap();
        superblock.epoch = self.epoch.map_or(superblock.epoch, Into::into);
        Core::open(Host, &self.limits, self.device(save), &superblock)
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(USUAL)
    }

    pub(crate) fn with(setup: Setup) -> Self {
        Self::open_with(setup, setup.make())
    }

    pub(crate) fn open(disks: Vec<Vec<u8>>) -> Self {
        Self::open_with(USUAL, disks)
    }

    /// Begins to open a pool, and does nothing about it yet.
    pub(crate) fn opening(setup: Setup, disks: Vec<Vec<u8>>) -> Self {
        Self {
            core: setup.core(&disks[0]).unwrap(),
            disks,
            steps: Vec::new(),
            fails: |_| false,
            units: vec![0; 512 * CHUNK],
            clients: HashMap::new(),
            finished: HashMap::new(),
            replies: HashMap::new(),
            cookie: 0,
        }
    }

    pub(crate) fn open_with(setup: Setup, disks: Vec<Vec<u8>>) -> Self {
        let mut world = Self::opening(setup, disks);
        world.drain();
        assert_eq!(world.core.opened(), Some(Ok(())));
        world.core.online(Dev(1), setup.device(&world.disks[1]), 0, true).unwrap();
        world.core.start();
        world.drain();
        world
    }

    pub(crate) fn drain(&mut self) {
        loop {
            while let Some((id, step)) = self.core.poll() {
                self.carry_out(id, step);
                assert!(self.steps.len() < ENOUGH, "it never rests");
            }
            if !self.core.is_behind() {
                break;
            }
            self.core.resume();
        }
    }

    /// Goes on until the last command is answered, and not a step further.
    pub(crate) fn until_answered(&mut self) -> Vec<u8> {
        loop {
            if let Some(reply) = self.replies.remove(&self.cookie) {
                return reply;
            }
            match self.core.poll() {
                Some((id, step)) => self.carry_out(id, step),
                None => {
                    assert!(self.core.is_behind(), "a reply");
                    self.core.resume();
                }
            }
        }
    }

    pub(crate) fn carry_out(&mut self, id: StepId, step: Step) {
        self.steps.push(step);
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
            _ if (self.fails)(&step) => {
                return self.core.complete(id, &Done::failed(Fault::Io));
            }
            _ => {}
        }
        let (meta, sums) = match step {
            Step::Read { dev, at, len } => self.carry_out_read(id, dev, at as usize, len as usize),
            _ => Default::default(),
        };
        match step {
            Step::Write { dev, at, len, .. } => {
                self.carry_out_write(id, dev, at as usize, len as usize);
            }
            Step::Zero { dev, at, len, .. } | Step::Discard { dev, at, len } => {
                self.disks[dev.0 as usize][at as usize..(at + len) as usize].fill(0);
            }
            Step::Clear { .. } => self.core.segs(id, &mut |seg| {
                if let Seg::Client { cookie, at, len } = seg {
                    let client = self.clients.get_mut(&cookie).unwrap();
                    client[at as usize..(at + len) as usize].fill(0);
                }
            }),
            Step::Grow { bytes } => self.disks[0].resize(bytes as usize, 0),
            _ => {}
        }
        let done = Done { result: Ok(()), bytes: &meta, sums: &sums };
        self.core.complete(id, &done);
    }

    /// Fills the segments of a read; gives metadata and the checksums of copy units.
    fn carry_out_read(
        &mut self,
        id: StepId,
        dev: Dev,
        mut at: usize,
        len: usize,
    ) -> (Vec<u8>, Vec<u64>) {
        let (mut meta, mut sums) = (Vec::new(), Vec::new());
        let disk = &self.disks[dev.0 as usize];
        let end = at + len;
        self.core.segs(id, &mut |seg| match seg {
            Seg::Client { cookie, at: to, len } => {
                let (to, len) = (to as usize, len as usize);
                let client = self.clients.get_mut(&cookie).unwrap();
                client[to..to + len].copy_from_slice(&disk[at..at + len]);
                at += len;
            }
            Seg::Copy { unit, at: to, len } => {
                let (unit, to, len) = (unit as usize, to as usize, len as usize);
                let whole = &mut self.units[unit * CHUNK..(unit + 1) * CHUNK];
                whole[to..to + len].copy_from_slice(&disk[at..at + len]);
                if to == 0 {
                    whole[len..].fill(0);
                }
                sums.push(Host.hash(0, whole));
                at += len;
            }
            Seg::Meta { len } => {
                meta.extend_from_slice(&disk[at..at + len as usize]);
                at += len as usize;
            }
            _ => panic!("{seg:?} in a read"),
        });
        assert_eq!(at, end);
        (meta, sums)
    }

    fn carry_out_write(&mut self, id: StepId, dev: Dev, mut at: usize, len: usize) {
        let disk = &mut self.disks[dev.0 as usize];
        let end = at + len;
        self.core.segs(id, &mut |seg| {
            let from: &[u8] = match seg {
                Seg::Client { cookie, at, len } => {
                    &self.clients[&cookie][at as usize..(at + len) as usize]
                }
                Seg::Copy { unit, at, len } => {
                    let from = unit as usize * CHUNK + at as usize;
                    &self.units[from..from + len as usize]
                }
                Seg::Bytes(bytes) => bytes,
                Seg::Zeros { len } => {
                    disk[at..at + len as usize].fill(0);
                    at += len as usize;
                    return;
                }
                Seg::Meta { .. } => panic!("meta in a write"),
            };
            disk[at..at + from.len()].copy_from_slice(from);
            at += from.len();
        });
        assert_eq!(at, end);
    }

    /// A request that must succeed.
    pub(crate) fn request(&mut self, name: &str, op: Op, at: u64, data: Vec<u8>) -> Vec<u8> {
        let (outcome, data) = self.attempt(name, op, at, data);
        assert_eq!(outcome, Ok(()), "{name} {op:?} at {at}");
        data
    }

    /// A request, and how it ended.
    pub(crate) fn attempt(
        &mut self,
        name: &str,
        op: Op,
        at: u64,
        data: Vec<u8>,
    ) -> (Result<(), Fault>, Vec<u8>) {
        let write = !matches!(op, Op::Read);
        let opened = self.core.attach(name.as_bytes(), write).unwrap();
        self.cookie += 1;
        let (cookie, len) = (self.cookie, data.len() as u32);
        self.clients.insert(cookie, data);
        if let Some(fast) = &opened.fast {
            if let Route::Pass(pass) = fast.route(0, op, at, len) {
                let (dev, from) = (pass.dev.0 as usize, pass.at as usize);
                let data = self.clients.get_mut(&cookie).unwrap();
                match op {
                    Op::Read => data.copy_from_slice(&self.disks[dev][from..from + len as usize]),
                    Op::Write { .. } => {
                        self.disks[dev][from..from + len as usize].copy_from_slice(data);
                    }
                    _ => {}
                }
                if fast.leave(0, pass.token) {
                    self.core.kick();
                }
                self.core.detach(opened.handle);
                return (Ok(()), self.clients.remove(&cookie).unwrap());
            }
        }
        let request = Request { volume: opened.handle, op, at, len, cookie };
        assert_eq!(self.core.submit(&request), Submit::Queued);
        self.drain();
        let outcome = self.finished.remove(&cookie).expect("an end");
        self.core.detach(opened.handle);
        (outcome, self.clients.remove(&cookie).unwrap())
    }

    /// Gives a property a value; how it was answered, and the reply's number.
    pub(crate) fn set(&mut self, name: &str, key: &str, value: &str) -> (Option<Refusal>, u64) {
        let mut command = Command::new(Verb::Set, Name::new(name.as_bytes()).unwrap());
        command.count = 1.into();
        let mut item = Item { name: Name::new(key.as_bytes()).unwrap(), value: [0; 192] };
        item.value[..value.len()].copy_from_slice(value.as_bytes());
        let reply = self.send(&command, item.as_bytes());
        let head = Reply::ref_from_prefix(&reply).unwrap().0;
        (Refusal::from_number(head.refusal.get()), head.value.get())
    }

    /// What is known of a volume or snapshot, its numbers counted anew.
    pub(crate) fn info(&mut self, name: &str) -> EntityRow {
        let mut command = Command::new(Verb::Info, Name::new(name.as_bytes()).unwrap());
        command.flags = FLAG_COUNT.into();
        let reply = self.send(&command, &[]);
        let (head, rows) = Reply::ref_from_prefix(&reply).unwrap();
        assert_eq!(head.refusal.get(), 0, "{name}");
        *EntityRow::ref_from_prefix(rows).unwrap().0
    }

    /// The names of all volumes and snapshots.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut all = Vec::new();
        self.core.names(&mut |name| all.push(name.text().to_owned()));
        all
    }

    pub(crate) fn status(&mut self) -> PoolRow {
        let reply = self.command(Verb::Status, "", "", &[]);
        *PoolRow::ref_from_prefix(&reply[size_of::<Reply>()..]).unwrap().0
    }

    /// The kinds of all events so far.
    pub(crate) fn events(&mut self) -> Vec<u32> {
        let reply = self.command(Verb::Events, "", "", &[]);
        let rows = &reply[size_of::<Reply>()..];
        rows.chunks(size_of::<EventRow>())
            .map(|row| EventRow::ref_from_bytes(row).unwrap().kind.get())
            .collect()
    }

    fn send(&mut self, command: &Command, items: &[u8]) -> Vec<u8> {
        let bytes = [command.as_bytes(), items].concat();
        self.cookie += 1;
        assert_eq!(self.core.command(self.cookie, &bytes), Submit::Queued);
        self.drain();
        self.replies.remove(&self.cookie).expect("a reply")
    }

    pub(crate) fn write(&mut self, name: &str, at: u64, byte: u8, len: usize) {
        self.request(name, Op::Write { fua: false }, at, vec![byte; len]);
    }

    /// Submits a read, and does nothing about it yet.
    pub(crate) fn begin_read(&mut self, name: &str, at: u64, len: u64) {
        self.begin_request(name, Op::Read, at, vec![0; len as usize]);
    }

    /// Submits a request, and does nothing about it yet.
    pub(crate) fn begin_request(&mut self, name: &str, op: Op, at: u64, data: Vec<u8>) {
        let handle = self.core.attach(name.as_bytes(), op != Op::Read).unwrap().handle;
        self.cookie += 1;
        let (cookie, len) = (self.cookie, data.len() as u32);
        self.clients.insert(cookie, data);
        let request = Request { volume: handle, op, at, len, cookie };
        assert_eq!(self.core.submit(&request), Submit::Queued);
    }

    /// Submits a write of a chunk; true if it waits. Its end is not looked at then.
    pub(crate) fn write_or_stall(&mut self, name: &str, at: u64, byte: u8) -> bool {
        let handle = self.core.attach(name.as_bytes(), true).unwrap().handle;
        self.cookie += 1;
        let cookie = self.cookie;
        self.clients.insert(cookie, vec![byte; CHUNK]);
        let op = Op::Write { fua: false };
        let request = Request { volume: handle, op, at, len: CHUNK as u32, cookie };
        assert_eq!(self.core.submit(&request), Submit::Queued);
        self.drain();
        !self.finished.contains_key(&cookie)
    }

    /// Restores at this rate.
    pub(crate) fn restore(&mut self, name: &str, from: &str, rate: u64) -> Vec<u8> {
        let mut command = Command::new(Verb::Restore, Name::new(name.as_bytes()).unwrap());
        command.other = Name::new(from.as_bytes()).unwrap();
        command.value = rate.into();
        self.send(&command, &[])
    }

    /// Sets the rate of a restore.
    pub(crate) fn rate(&mut self, name: &str, rate: u64) {
        let mut command = Command::new(Verb::RestoreRate, Name::new(name.as_bytes()).unwrap());
        command.value = rate.into();
        self.send(&command, &[]);
    }

    pub(crate) fn flush(&mut self, name: &str) {
        self.request(name, Op::Flush, 0, Vec::new());
    }

    pub(crate) fn read(&mut self, name: &str, at: u64, len: usize) -> Vec<u8> {
        self.request(name, Op::Read, at, vec![0xEE; len])
    }

    pub(crate) fn first(&mut self, name: &str, at: u64) -> u8 {
        let data = self.read(name, at, 512);
        assert!(data.iter().all(|&b| b == data[0]), "{name} at {at}: mixed {:?}", &data[..8]);
        data[0]
    }

    pub(crate) fn command(
        &mut self,
        verb: Verb,
        name: &str,
        other: &str,
        items: &[&str],
    ) -> Vec<u8> {
        let mut command = Command::new(verb, Name::new(name.as_bytes()).unwrap());
        command.other = Name::new(other.as_bytes()).unwrap();
        if verb == Verb::Restore {
            command.value = u64::MAX.into();
        }
        self.begin(command, items);
        self.drain();
        self.replies.remove(&self.cookie).expect("a reply")
    }

    /// Gives a command, and does nothing about it yet.
    pub(crate) fn begin(&mut self, mut command: Command, items: &[&str]) {
        command.count = (items.len() as u32).into();
        let item =
            |item: &&str| Item { name: Name::new(item.as_bytes()).unwrap(), value: [0; 192] };
        let items = items.iter().flat_map(|name| item(name).as_bytes().to_vec());
        let bytes: Vec<u8> = command.as_bytes().iter().copied().chain(items).collect();
        self.cookie += 1;
        assert_eq!(self.core.command(self.cookie, &bytes), Submit::Queued);
    }

    /// Destroys it, and all that hangs on it.
    pub(crate) fn destroy_all(&mut self, name: &str) {
        let mut command = Command::new(Verb::Destroy, Name::default());
        command.flags = FLAG_RECURSIVE.into();
        self.begin(command, &[name]);
        self.drain();
        let reply = self.replies.remove(&self.cookie).expect("a reply");
        assert_eq!(Reply::ref_from_prefix(&reply).unwrap().0.refusal.get(), 0);
    }

    pub(crate) fn done(&mut self, verb: Verb, name: &str, other: &str, items: &[&str]) {
        let reply = self.command(verb, name, other, items);
        let (head, _) = Reply::ref_from_prefix(&reply).unwrap();
        assert_eq!(head.refusal.get(), 0, "{verb:?} {name} {other} {items:?}: {}", head.value);
    }
}
