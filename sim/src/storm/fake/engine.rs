// SPDX-License-Identifier: MIT

//! The naive core as the storm drives it.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use rwsnap_core::api::{Device, Done, Handle, Op, Request, Seg, Step, StepId, Submit};
use rwsnap_core::control::{rows, Command, Refusal, Verb};
use rwsnap_core::fault::Fault;
use rwsnap_core::units::{Dev, EntityId, Geometry};
use zerocopy::FromBytes;

use super::super::disk::Disk;
use super::super::engine::{Engine, Found, Opened, Routed};
use super::super::plan::Plan;
use super::super::schedule::production;
use super::catalogue::{Catalogue, Entry};
use super::{reply, Fake, FakeFast, Memory, State, REGIONS, TEXT};

impl Engine for Fake {
    type Fast = FakeFast;
    type Token = ();
    const SLOTS: bool = false;
    const OPENS_ALONE: bool = false;

    fn adjust(plan: &mut Plan) {
        plan.save.size = REGIONS + plan.productions.iter().map(|d| d.size * 40).sum::<u64>();
        plan.save.size = plan.save.size.next_multiple_of(65536);
        plan.limits.copy_units = 128;
        // It does without no production, and knows none again.
        (plan.away, plan.moves) = (0, 0);
    }

    fn create(plan: &Plan, put: &mut dyn FnMut(u64, &[u8])) {
        let mut catalogue = Catalogue { generation: 2, next: 100, ..Catalogue::default() };
        for (dev, device) in (1u16..).zip(&plan.productions) {
            let (kind, part) = (rows::KIND_PRODUCTION, production(dev));
            let (id, size) = (u32::from(dev), device.size);
            catalogue.entries.push(Entry { id, kind, part, dev, size, ..Entry::default() });
        }
        put(0, &catalogue.bytes());
    }

    fn open(plan: &Plan, save: &Disk) -> Result<Self, String> {
        let mut fake = Self {
            plan: plan.clone(),
            catalogue: Catalogue::default(),
            opened: None,
            save: save.device,
            handles: Vec::new(),
            fast: BTreeMap::new(),
            steps: VecDeque::new(),
            memory: BTreeMap::new(),
            next: 0,
            flying: 0,
            held: Vec::new(),
            commands: VecDeque::new(),
            acts: VecDeque::new(),
            running: None,
            broken: false,
            replies: BTreeMap::new(),
            found: Vec::new(),
            closing: false,
            busy: false,
            flush_after: BTreeMap::new(),
        };
        for at in [0, TEXT] {
            let len = 32768;
            fake.step(Step::Read { dev: Dev(0), at, len }, Memory::Meta(len), None);
        }
        Ok(fake)
    }

    fn opened(&self) -> Option<Result<(), String>> {
        self.opened.clone()
    }

    fn geometry(&self) -> Geometry {
        Geometry::new(self.plan.chunk).unwrap()
    }

    fn productions(&self) -> Vec<Found> {
        let all = self.catalogue.entries.iter().filter(|e| e.kind == rows::KIND_PRODUCTION);
        all.map(|e| Found { dev: Dev(e.dev), size: e.size, fingerprint: None }).collect()
    }

    fn online(&mut self, _: Dev, _: Device, _: u64, _: bool) -> Result<(), Refusal> {
        Ok(())
    }

    fn start(&mut self) {}

    fn attach(&mut self, name: &str, write: bool) -> Result<Opened<FakeFast>, Refusal> {
        let entry = self.catalogue.find(name).cloned().ok_or(Refusal::NotFound)?;
        self.handles.push(entry.id);
        // A command that runs already counts on being alone with the volume.
        let slow = self.broken || self.running.is_some() || !self.commands.is_empty();
        let fresh = || FakeFast { dev: entry.dev, state: Rc::new(State::new(slow)) };
        let fast = (entry.dev != 0).then(|| self.fast.entry(entry.id).or_insert_with(fresh));
        Ok(Opened {
            handle: Handle(u32::try_from(self.handles.len() - 1).unwrap()),
            size: entry.size,
            read_only: !write,
            fast: fast.cloned(),
            id: EntityId(entry.id),
        })
    }

    fn detach(&mut self, _: Handle) {}

    fn is_lost(&self, _: Handle) -> bool {
        false
    }

    fn route(fast: &FakeFast, _: u32, op: Op, at: u64, _: u32) -> Routed<()> {
        if fast.state.slow.get() || !matches!(op, Op::Read | Op::Write { .. }) {
            return Routed::Slow;
        }
        fast.state.inside.set(fast.state.inside.get() + 1);
        Routed::Pass(Dev(fast.dev), at, ())
    }

    fn leave(fast: &FakeFast, _: u32, (): ()) -> bool {
        fast.state.inside.set(fast.state.inside.get() - 1);
        fast.state.slow.get()
    }

    fn submit(&mut self, request: &Request) -> Submit {
        if self.flying >= self.plan.limits.requests as usize {
            self.busy = true;
            return Submit::Busy;
        }
        if self.running.is_some() || !self.commands.is_empty() {
            self.held.push(*request);
        } else {
            self.go(request);
        }
        Submit::Queued
    }

    fn command(&mut self, cookie: u64, bytes: &[u8]) -> Submit {
        let (command, _) = Command::read_from_prefix(bytes).unwrap();
        match Verb::from_number(command.verb.get()).unwrap() {
            Verb::List => {
                self.replies.insert(cookie, reply(Refusal::None, &self.rows()));
                self.tell(Step::Reply { cookie });
            }
            _ => self.commands.push_back((cookie, bytes.to_vec())),
        }
        self.advance();
        Submit::Queued
    }

    fn reply(&mut self, cookie: u64) -> Vec<u8> {
        self.replies.remove(&cookie).unwrap()
    }

    fn poll(&mut self) -> Option<(StepId, Step)> {
        self.steps.pop_front()
    }

    fn segs(&self, id: StepId, f: &mut dyn FnMut(Seg<'_>)) {
        match self.memory.get(&id.index).map(|m| &m.0) {
            Some(Memory::Request(cookie, len)) => {
                f(Seg::Client { cookie: *cookie, at: 0, len: *len });
            }
            Some(Memory::Units(len)) => {
                let (mut at, mut unit) = (0, 0);
                while at < *len {
                    let len = self.plan.chunk.min(*len - at);
                    f(Seg::Copy { unit, at: 0, len });
                    (at, unit) = (at + len, unit + 1);
                }
            }
            Some(Memory::Bytes(bytes)) => f(Seg::Bytes(bytes)),
            Some(Memory::Meta(len)) => f(Seg::Meta { len: *len }),
            Some(Memory::Nothing) | None => {}
        }
    }

    fn complete(&mut self, id: StepId, done: &Done<'_>) {
        let Some((memory, cookie)) = self.memory.remove(&id.index) else { return };
        if self.opened.is_none() && done.result.is_err() {
            self.opened = Some(Err("a disk failed".into()));
            return;
        }
        if let Memory::Meta(_) = memory {
            self.found.push(Catalogue::read(done.bytes));
            self.read_catalogues();
        } else if let Some(dev) = self.flush_after.remove(&id.index).filter(|_| done.result.is_ok())
        {
            self.step(Step::Flush { dev }, Memory::Nothing, cookie);
        } else if let Some(cookie) = cookie {
            self.flying -= 1;
            self.tell(Step::Finish { cookie, outcome: done.result });
            if std::mem::take(&mut self.busy) {
                self.tell(Step::Wake);
            }
        } else {
            self.broken |= done.result.is_err();
        }
        if self.opened.is_none() && self.running.is_some() && self.memory.is_empty() {
            if let Some((step, memory)) = self.acts.pop_front() {
                return self.step(step, memory, None);
            }
            self.running = None;
            self.opened = Some(Ok(()));
        }
        self.advance();
    }

    fn kick(&mut self) {
        self.advance();
    }

    fn tick(&mut self, _: u64) {}

    fn close(&mut self, _: &[(Dev, u64)]) {
        for dev in 0..self.plan.devices().count() {
            self.step(Step::Flush { dev: Dev(u16::try_from(dev).unwrap()) }, Memory::Nothing, None);
        }
        self.closing = true;
    }

    fn closed(&self) -> Option<Result<(), Fault>> {
        (self.closing && self.memory.is_empty()).then_some(Ok(()))
    }
}
