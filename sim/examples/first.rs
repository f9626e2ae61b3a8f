// SPDX-License-Identifier: MIT

//! What the core costs: `first KIND [COUNT] [one]` does that many requests of 4 KiB at random
//! places of 64 MiB, 16 at a time, on disks in memory.
//!
//! KIND is `write` (first writes of production), `clone` (first writes of a clone), `again` (the
//! same once more), `clone-read` or `read` (of a snapshot, half of it copied). All steps under way
//! are completed together, or with `one` each by itself. Under
//! `valgrind --tool=callgrind --toggle-collect='*measured*'` the total is what the core took for
//! those requests alone.
#![expect(clippy::cast_possible_truncation, reason = "all that there is fits in memory")]

use std::collections::VecDeque;

use rwsnap::platform::Host;
use rwsnap_core::api::{Device, Done, Handle, Limits, Op, Request, Seg, Step, StepId, Submit};
use rwsnap_core::control::{Command, Item, Name, Reply, Verb};
use rwsnap_core::format::create::{create, NewPool, NewProduction};
use rwsnap_core::format::superblock::{Finder, Options, COPIES};
use rwsnap_core::units::Dev;
use rwsnap_core::Core;
use zerocopy::{FromBytes, IntoBytes};

const CHUNK: usize = 4096;
const SIZE: usize = 64 << 20;
const CHUNKS: u64 = (SIZE / CHUNK) as u64;
const DEPTH: u64 = 16;
const LIMITS: Limits =
    Limits { cache_pages: 1024, delta_records: 65_536, requests: 256, copy_units: 1024 };

/// What is counted: calls of the core.
mod measured {
    use super::{Core, Done, Host, Request, Seg, Step, StepId, Submit};

    #[inline(never)]
    pub(super) fn measured_submit(core: &mut Core<Host>, request: &Request) -> Submit {
        core.submit(request)
    }

    #[inline(never)]
    pub(super) fn measured_poll(core: &mut Core<Host>) -> Option<(StepId, Step)> {
        core.poll()
    }

    #[inline(never)]
    pub(super) fn measured_complete(core: &mut Core<Host>, id: StepId, done: &Done<'_>) {
        core.complete(id, done);
    }

    #[inline(never)]
    pub(super) fn measured_segs(core: &Core<Host>, id: StepId, pieces: &mut Vec<u32>) {
        core.segs(id, &mut |seg| match seg {
            Seg::Meta { len } => pieces.push(len),
            Seg::Copy { .. } => pieces.push(0),
            _ => {}
        });
    }
}

fn device(size: usize) -> Device {
    Device { size: size as u64, block: 512, volatile: true, fua: false }
}

struct World {
    core: Box<Core<Host>>,
    save: Vec<u8>,
    /// Steps that were given out and not completed.
    open: VecDeque<(StepId, Step)>,
    measured: bool,
    one: bool,
    ended: u64,
    steps: u64,
    reply: Vec<u8>,
}

impl World {
    fn new(one: bool) -> Self {
        let mut save = vec![0u8; 256 << 20];
        let pool = NewPool {
            layout: Options { bytes: save.len() as u64, ..Options::default() },
            uuid: *b"0123456789abcdef",
            label: [0; 64],
            when_full: 2,
            copy_span: 4096,
            time_ns: 1,
            productions: &[NewProduction {
                name: Name::new(b"prod").unwrap(),
                size: SIZE as u64,
                path: b"/nowhere",
            }],
        };
        create(&Host, &pool, &mut |at, bytes| {
            save[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        })
        .unwrap();
        let mut finder = Finder::default();
        for at in COPIES {
            finder.feed(&Host, &save[at as usize..at as usize + 4096]);
        }
        let superblock = finder.finish().unwrap();
        let core = Core::open(Host, &LIMITS, device(save.len()), superblock).unwrap();
        let (open, reply) = Default::default();
        let mut world = Self { core, save, open, measured: false, one, ended: 0, steps: 0, reply };
        world.drain();
        assert_eq!(world.core.opened(), Some(Ok(())));
        world.core.online(Dev(1), device(SIZE), 0, true).unwrap();
        world.core.start();
        world.drain();
        world
    }

    fn poll(&mut self) {
        loop {
            let next = if self.measured {
                measured::measured_poll(&mut self.core)
            } else {
                self.core.poll()
            };
            match next {
                None => break,
                Some((_, Step::Finish { outcome, .. })) => {
                    assert_eq!(outcome, Ok(()));
                    self.ended += 1;
                }
                Some((_, Step::Reply { cookie })) => {
                    let reply = &mut self.reply;
                    self.core.reply(cookie, &mut |bytes| *reply = bytes.to_vec());
                }
                Some((_, Step::Wake)) => {}
                Some(open) => self.open.push_back(open),
            }
        }
    }

    /// Carries out one step. Data is none of the core's business: only metadata is moved.
    fn carry_out(&mut self, id: StepId, step: Step) {
        let (mut pieces, mut bytes, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        if self.measured {
            self.steps += 1;
            measured::measured_segs(&self.core, id, &mut pieces);
            pieces.clear();
        }
        match step {
            Step::Read { at, .. } => {
                self.core.segs(id, &mut |seg| match seg {
                    Seg::Meta { len } => pieces.push(len),
                    Seg::Copy { .. } => sums.push(at),
                    _ => {}
                });
                if let Some(&len) = pieces.first() {
                    bytes.extend_from_slice(&self.save[at as usize..at as usize + len as usize]);
                }
            }
            Step::Write { dev: Dev(0), at, .. } => {
                let (mut at, save) = (at as usize, &mut self.save);
                self.core.segs(id, &mut |seg| match seg {
                    Seg::Bytes(bytes) => {
                        save[at..at + bytes.len()].copy_from_slice(bytes);
                        at += bytes.len();
                    }
                    Seg::Client { len, .. } | Seg::Copy { len, .. } | Seg::Zeros { len } => {
                        at += len as usize;
                    }
                    Seg::Meta { .. } => unreachable!(),
                });
            }
            _ => {}
        }
        let done = Done { result: Ok(()), bytes: &bytes, sums: &sums };
        if self.measured {
            measured::measured_complete(&mut self.core, id, &done);
        } else {
            self.core.complete(id, &done);
        }
    }

    /// Completes what is under way now.
    fn turn(&mut self) {
        for _ in 0..if self.one { 1 } else { self.open.len() } {
            if let Some((id, step)) = self.open.pop_front() {
                self.carry_out(id, step);
            }
        }
        self.poll();
    }

    fn drain(&mut self) {
        loop {
            self.poll();
            while !self.open.is_empty() {
                self.turn();
            }
            if !self.core.is_behind() {
                break;
            }
            self.core.resume();
        }
    }

    fn command(&mut self, verb: Verb, name: &str, other: &str, items: &[&str]) {
        let mut command = Command::new(verb, Name::new(name.as_bytes()).unwrap());
        command.other = Name::new(other.as_bytes()).unwrap();
        command.count = (items.len() as u32).into();
        let item =
            |item: &&str| Item { name: Name::new(item.as_bytes()).unwrap(), value: [0; 192] };
        let items = items.iter().flat_map(|name| item(name).as_bytes().to_vec());
        let bytes: Vec<u8> = command.as_bytes().iter().copied().chain(items).collect();
        assert_eq!(self.core.command(1, &bytes), Submit::Queued);
        self.drain();
        let (head, _) = Reply::ref_from_prefix(&self.reply).unwrap();
        assert_eq!(head.refusal.get(), 0, "{verb:?} {name}");
    }

    /// `count` requests, `DEPTH` at a time, each on another chunk.
    fn load(&mut self, name: &str, op: Op, count: u64, measured: bool) {
        let volume: Handle = self.core.attach(name.as_bytes(), op != Op::Read).unwrap().handle;
        (self.measured, self.ended, self.steps) = (measured, 0, 0);
        let mut begun = 0;
        while self.ended < count {
            while begun < count && begun - self.ended < DEPTH {
                // An odd factor: each chunk once.
                let chunk = begun.wrapping_mul(10_007).wrapping_add(4711) % CHUNKS;
                let at = chunk * CHUNK as u64;
                let request = Request { volume, op, at, len: CHUNK as u32, cookie: begun };
                let submitted = if measured {
                    measured::measured_submit(&mut self.core, &request)
                } else {
                    self.core.submit(&request)
                };
                assert_eq!(submitted, Submit::Queued);
                begun += 1;
            }
            self.poll();
            self.turn();
        }
        self.measured = false;
        self.drain();
        self.core.detach(volume);
    }
}

fn main() {
    let args: Vec<_> = std::env::args().collect();
    let kind = args.get(1).map_or("write", String::as_str);
    let count = args.get(2).and_then(|n| n.parse().ok()).unwrap_or(CHUNKS).min(CHUNKS);
    let mut world = World::new(args.iter().any(|arg| arg == "one"));
    world.command(Verb::Snapshot, "", "", &["prod@one"]);
    let write = Op::Write { fua: false };
    match kind {
        "write" => world.load("prod", write, count, true),
        "read" => {
            world.load("prod", write, CHUNKS / 2, false);
            world.load("prod@one", Op::Read, count, true);
        }
        "clone" | "again" | "clone-read" => {
            world.command(Verb::Clone, "prod@one", "dev", &[]);
            world.load("dev", write, count, kind == "clone");
            if kind != "clone" {
                let op = if kind == "again" { write } else { Op::Read };
                world.load("dev", op, count, true);
            }
        }
        _ => panic!("write, read, clone, again or clone-read"),
    }
    println!("{kind}: {count} requests, {} steps", world.steps);
}
