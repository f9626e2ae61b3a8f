// SPDX-License-Identifier: MIT

//! A core that is too simple to be wrong: a snapshot or clone is a copy of a whole volume, one
//! command at a time runs while no request does, and the catalogue is a text. With it the storm
//! is tested: it must find nothing, and it must find each of the faults planted here.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::rc::Rc;

use rwsnap_core::api::{Device, Done, Handle, Op, Request, Seg, Step, StepId, Submit};
use rwsnap_core::control::{
    rows, Command, EntityRow, Item, Name, Refusal, Reply, Verb, FLAG_NO_UNDO,
};
use rwsnap_core::fault::Fault;
use rwsnap_core::units::{Dev, EntityId, Geometry};
use zerocopy::{FromBytes, IntoBytes};

use super::disk::Disk;
use super::engine::{Engine, Found, Opened, Routed};
use super::plan::Plan;

/// The planted faults, as `Plan::mutant`.
pub(super) const MUTANTS: [&str; 7] = [
    "none",
    "a snapshot does not flush production",
    "the catalogue is not flushed",
    "a snapshot does not wait for requests",
    "a client's flush does nothing",
    "a restore is not announced before it begins",
    "a refresh copies the first chunk only",
];

const REGIONS: u64 = 65536;
const TEXT: u64 = 32768;

#[derive(Clone, Debug, Default, PartialEq)]
struct Entry {
    id: u32,
    kind: u32,
    owner: u32,
    base: u32,
    held: u32,
    part: String,
    dev: u16,
    start: u64,
    size: u64,
}

#[derive(Clone, Debug, Default)]
struct Catalogue {
    generation: u64,
    next: u32,
    /// A restore that has begun: source, target.
    intent: Option<(u32, u32)>,
    entries: Vec<Entry>,
}

impl Catalogue {
    fn text(&self) -> String {
        let (from, to) = self.intent.unwrap_or((0, 0));
        let mut text = format!("{} {} {from} {to}\n", self.generation, self.next);
        for e in &self.entries {
            let _ = writeln!(
                text,
                "{} {} {} {} {} {} {} {} {}",
                e.id, e.kind, e.owner, e.base, e.held, e.part, e.dev, e.start, e.size
            );
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let head: Vec<u64> =
            lines.next()?.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        let small = |n: u64| u32::try_from(n).ok();
        let intent = (small(head[2])?, small(head[3])?);
        let mut all = Self {
            generation: head[0],
            next: small(head[1])?,
            intent: (intent.0 != 0).then_some(intent),
            entries: Vec::new(),
        };
        for line in lines {
            let f: Vec<&str> = line.split(' ').collect();
            let n = |i: usize| f.get(i)?.parse::<u64>().ok();
            all.entries.push(Entry {
                id: small(n(0)?)?,
                kind: small(n(1)?)?,
                owner: small(n(2)?)?,
                base: small(n(3)?)?,
                held: small(n(4)?)?,
                part: (*f.get(5)?).to_owned(),
                dev: u16::try_from(n(6)?).ok()?,
                start: n(7)?,
                size: n(8)?,
            });
        }
        Some(all)
    }

    /// As stored: length, hash, text.
    fn bytes(&self) -> Vec<u8> {
        let text = self.text();
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(xxhash_rust::xxh64::xxh64(text.as_bytes(), 1).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk::<8>()?;
        let (sum, rest) = rest.split_first_chunk::<8>()?;
        let text = rest.get(..usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        let fits = xxhash_rust::xxh64::xxh64(text, 1) == u64::from_le_bytes(*sum);
        fits.then(|| Self::parse(std::str::from_utf8(text).ok()?)).flatten()
    }

    fn get(&self, id: u32) -> Option<&Entry> {
        self.entries.iter().find(|e| e.id == id)
    }

    fn name(&self, entry: &Entry) -> String {
        match self.get(entry.owner) {
            Some(owner) => format!("{}@{}", owner.part, entry.part),
            None => entry.part.clone(),
        }
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| self.name(e) == name)
    }

    /// A copy of `of`, somewhere on the save volume.
    fn copy(&mut self, of: &Entry, kind: u32, part: &str, chunk: u64, save: u64) -> Option<Entry> {
        let mut taken: Vec<(u64, u64)> = self
            .entries
            .iter()
            .filter(|e| e.dev == 0)
            .map(|e| (e.start, e.start + e.size.next_multiple_of(chunk)))
            .collect();
        taken.sort_unstable();
        let mut start = REGIONS;
        for (from, to) in taken {
            if start + of.size.next_multiple_of(chunk) > from {
                start = start.max(to);
            }
        }
        if start + of.size.next_multiple_of(chunk) > save {
            return None;
        }
        self.next += 1;
        let (id, part) = (self.next, part.to_owned());
        let entry = Entry { id, kind, part, start, size: of.size, ..Entry::default() };
        self.entries.push(entry.clone());
        Some(entry)
    }
}

#[derive(Clone, Debug)]
enum Memory {
    Request(u64, u32),
    Units(u32),
    Bytes(Vec<u8>),
    Meta(u32),
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct State {
    slow: Cell<bool>,
    inside: Cell<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct FakeFast {
    dev: u16,
    state: Rc<State>,
}

pub(super) struct Fake {
    plan: Plan,
    catalogue: Catalogue,
    opened: Option<Result<(), String>>,
    save: Device,
    handles: Vec<u32>,
    fast: BTreeMap<u32, FakeFast>,
    steps: VecDeque<(StepId, Step)>,
    memory: BTreeMap<u32, (Memory, Option<u64>)>,
    next: u32,
    /// Requests on their way.
    flying: usize,
    /// Requests that wait for the command to end.
    held: Vec<Request>,
    commands: VecDeque<(u64, Vec<u8>)>,
    /// What the running command does, one after the other.
    acts: VecDeque<(Step, Memory)>,
    running: Option<(u64, Catalogue)>,
    broken: bool,
    replies: BTreeMap<u64, Vec<u8>>,
    found: Vec<Option<Catalogue>>,
    closing: bool,
    busy: bool,
    /// Writes with `fua` to a device without: the flush that follows.
    flush_after: BTreeMap<u32, Dev>,
}

fn reply(refusal: Refusal, rows: &[EntityRow]) -> Vec<u8> {
    let head = Reply {
        magic: rwsnap_core::control::MAGIC.into(),
        version: rwsnap_core::control::VERSION.into(),
        refusal: (refusal as u16).into(),
        count: u32::try_from(rows.len()).unwrap_or(0).into(),
        row_bytes: 464.into(),
        next: u64::MAX.into(),
        value: 0.into(),
    };
    let mut bytes = head.as_bytes().to_vec();
    rows.iter().for_each(|row| bytes.extend_from_slice(row.as_bytes()));
    bytes
}

impl Fake {
    fn step(&mut self, step: Step, memory: Memory, cookie: Option<u64>) {
        self.next += 1;
        self.memory.insert(self.next, (memory, cookie));
        self.steps.push_back((StepId { index: self.next, generation: 0 }, step));
    }

    fn tell(&mut self, step: Step) {
        self.steps.push_back((StepId { index: 0, generation: 0 }, step));
    }

    fn go(&mut self, request: &Request) {
        let id = self.handles[request.volume.0 as usize];
        let entry = self.catalogue.get(id).cloned();
        // What a failed command left on the disk is not known: nothing may be built on it.
        let Some(entry) = entry.filter(|_| !self.broken) else {
            let (cookie, outcome) = (request.cookie, Err(Fault::Fenced));
            return self.tell(Step::Finish { cookie, outcome });
        };
        self.flying += 1;
        let (dev, at, len) = (Dev(entry.dev), entry.start + request.at, request.len);
        let memory = Memory::Request(request.cookie, len);
        let plan = self.plan.clone();
        let real = |fua: bool| fua && plan.devices().nth(entry.dev.into()).unwrap().fua;
        let step = match request.op {
            Op::Read => Step::Read { dev, at, len },
            Op::Write { fua } => Step::Write { dev, at, len, fua: real(fua) },
            Op::Discard if entry.dev != 0 => Step::Discard { dev, at, len: len.into() },
            Op::Discard => Step::Zero { dev, at, len: len.into(), fua: false },
            Op::Zero { fua } => Step::Zero { dev, at, len: len.into(), fua: real(fua) },
            Op::Flush if self.plan.mutant == 4 => Step::Clear { len: 0 },
            Op::Flush => Step::Flush { dev },
        };
        self.step(step, memory, Some(request.cookie));
        let asks = matches!(request.op, Op::Write { fua: true } | Op::Zero { fua: true });
        if asks && !real(true) {
            self.flush_after.insert(self.next, dev);
        }
    }

    fn set_slow(&self, slow: bool) {
        self.fast.values().for_each(|f| f.state.slow.set(slow));
    }

    /// Goes on with the commands, as far as it goes.
    fn advance(&mut self) {
        loop {
            if !self.memory.is_empty() && self.running.is_some() {
                return;
            }
            if self.running.is_some() {
                match self.acts.pop_front() {
                    Some(_) if self.broken => {}
                    Some((step, memory)) => self.step(step, memory, None),
                    None => self.done(),
                }
                continue;
            }
            let Some((cookie, bytes)) = self.commands.front().cloned() else { return };
            self.set_slow(true);
            let inside: u32 = self.fast.values().map(|f| f.state.inside.get()).sum();
            if (inside > 0 || self.flying > 0) && self.plan.mutant != 3 {
                return;
            }
            self.commands.pop_front();
            let before = self.catalogue.clone();
            match self.compile(&bytes) {
                Ok(()) => self.running = Some((cookie, before)),
                Err(refusal) => {
                    self.catalogue = before;
                    self.acts.clear();
                    self.answer(cookie, reply(refusal, &[]));
                }
            }
        }
    }

    fn done(&mut self) {
        let Some((cookie, before)) = self.running.take() else { return };
        let refusal = if self.broken { Refusal::Io } else { Refusal::None };
        if self.broken {
            self.catalogue = before;
        }
        self.answer(cookie, reply(refusal, &[]));
    }

    fn answer(&mut self, cookie: u64, bytes: Vec<u8>) {
        self.replies.insert(cookie, bytes);
        self.tell(Step::Reply { cookie });
        if self.commands.is_empty() {
            self.set_slow(self.broken);
            for request in std::mem::take(&mut self.held) {
                self.go(&request);
            }
        }
    }

    fn flush(&mut self, dev: u16) {
        self.acts.push_back((Step::Flush { dev: Dev(dev) }, Memory::Nothing));
    }

    fn copy_data(&mut self, from: &Entry, to: &Entry) {
        let each = u64::from(self.plan.chunk) * 16;
        let mut at = 0;
        while at < from.size {
            let len = u32::try_from(each.min(from.size - at)).unwrap();
            let (dev, fua) = (Dev(from.dev), false);
            let read = Step::Read { dev, at: from.start + at, len };
            let write = Step::Write { dev: Dev(to.dev), at: to.start + at, len, fua };
            self.acts.push_back((read, Memory::Units(len)));
            self.acts.push_back((write, Memory::Units(len)));
            at += each;
        }
    }

    fn store(&mut self) {
        self.catalogue.generation += 1;
        let (at, bytes) = ((self.catalogue.generation & 1) * TEXT, self.catalogue.bytes());
        let len = u32::try_from(bytes.len()).unwrap();
        let step = Step::Write { dev: Dev(0), at, len, fua: false };
        if self.plan.mutant != 2 {
            self.flush(0);
        }
        self.acts.push_back((step, Memory::Bytes(bytes)));
        if self.plan.mutant != 2 {
            self.flush(0);
        }
    }

    fn found(&self, name: &Name) -> Result<Entry, Refusal> {
        self.catalogue.find(name.text()).cloned().ok_or(Refusal::NotFound)
    }

    fn new_copy(&mut self, of: &Entry, kind: u32, part: &str) -> Result<Entry, Refusal> {
        let chunk = u64::from(self.plan.chunk);
        self.catalogue.copy(of, kind, part, chunk, self.save.size).ok_or(Refusal::NoSpace)
    }

    fn snapshot(&mut self, of: &Entry, owner: &Entry, part: &str) -> Result<Entry, Refusal> {
        let mut new = self.new_copy(of, rows::KIND_SNAPSHOT, part)?;
        new.owner = owner.id;
        self.put(new.clone());
        if self.plan.mutant != 1 {
            self.flush(of.dev);
        }
        self.copy_data(of, &new);
        Ok(new)
    }

    fn put(&mut self, entry: Entry) {
        self.catalogue.entries.retain(|e| e.id != entry.id);
        self.catalogue.entries.push(entry);
        self.catalogue.entries.sort_by_key(|e| e.id);
    }

    fn compile(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.broken {
            return Err(Refusal::Fenced);
        }
        let (command, rest) = Command::read_from_prefix(bytes).unwrap();
        let items: Vec<Item> =
            rest.chunks(320).map(|i| Item::read_from_bytes(i).unwrap()).collect();
        match Verb::from_number(command.verb.get()).unwrap() {
            Verb::Snapshot => {
                for item in &items {
                    let (volume, part) = item.name.text().split_once('@').unwrap();
                    let of = self.catalogue.find(volume).cloned().ok_or(Refusal::NotFound)?;
                    self.snapshot(&of, &of, part)?;
                }
            }
            Verb::Clone => {
                let base = self.found(&command.name)?;
                let new = self.new_copy(&base, rows::KIND_CLONE, command.other.text())?;
                self.put(Entry { base: base.id, ..new.clone() });
                self.copy_data(&base, &new);
            }
            Verb::Refresh => self.refresh(&command, &items)?,
            Verb::Restore => self.restore(&command)?,
            Verb::Destroy => self.destroy(&items)?,
            Verb::Rename => {
                let mut entry = self.found(&command.name)?;
                let other = command.other.text();
                entry.part = other.split_once('@').map_or(other, |(_, p)| p).to_owned();
                self.put(entry);
            }
            Verb::Hold | Verb::Release => {
                let mut entry = self.found(&command.name)?;
                entry.held = u32::from(command.verb.get() == Verb::Hold as u16);
                self.put(entry);
            }
            _ => return Err(Refusal::BadProperty),
        }
        self.store();
        Ok(())
    }

    fn refresh(&mut self, command: &Command, items: &[Item]) -> Result<(), Refusal> {
        let clone = self.found(&command.name)?;
        let base = self.catalogue.get(clone.base).cloned().ok_or(Refusal::NotFound)?;
        let to = if command.other.bytes().is_empty() {
            let volume = self.catalogue.get(base.owner).cloned().ok_or(Refusal::NotFound)?;
            let part = format!("refresh-{}", self.catalogue.next);
            self.snapshot(&volume, &volume, &part)?
        } else {
            self.found(&command.other)?
        };
        if to.kind != rows::KIND_SNAPSHOT || clone.kind != rows::KIND_CLONE {
            return Err(Refusal::WrongKind);
        }
        if let Some(keep) = items.first() {
            let kept = self.new_copy(&clone, rows::KIND_CLONE, keep.name.text())?;
            self.put(Entry { base: base.id, ..kept.clone() });
            self.copy_data(&clone, &kept);
        }
        let mut new = self.new_copy(&to, rows::KIND_CLONE, &clone.part)?;
        let mut data = to.clone();
        if self.plan.mutant == 6 {
            data.size = data.size.min(u64::from(self.plan.chunk));
        }
        self.copy_data(&data, &new);
        self.catalogue.entries.retain(|e| e.id != new.id);
        (new.id, new.base) = (clone.id, to.id);
        self.put(new);
        Ok(())
    }

    fn restore(&mut self, command: &Command) -> Result<(), Refusal> {
        let (volume, from) = (self.found(&command.name)?, self.found(&command.other)?);
        if volume.size != from.size {
            return Err(Refusal::Unrelated);
        }
        let number = self.catalogue.next;
        if command.flags.get() & FLAG_NO_UNDO == 0 {
            self.snapshot(&volume, &volume, &format!("before-restore-{number}"))?;
        }
        let restored = self.snapshot(&from, &volume, &format!("restored-{number}"))?;
        if self.plan.mutant != 5 {
            self.catalogue.intent = Some((restored.id, volume.id));
            self.store();
        }
        self.catalogue.intent = None;
        self.copy_data(&restored, &volume);
        self.flush(volume.dev);
        Ok(())
    }

    fn destroy(&mut self, items: &[Item]) -> Result<(), Refusal> {
        for item in items {
            let entry = self.found(&item.name)?;
            let used = |e: &Entry| e.base == entry.id || e.owner == entry.id;
            if entry.kind == rows::KIND_PRODUCTION || self.catalogue.entries.iter().any(used) {
                return Err(Refusal::Needed);
            }
            if entry.held == 1 {
                return Err(Refusal::Held);
            }
            self.catalogue.entries.retain(|e| e.id != entry.id);
        }
        Ok(())
    }

    fn rows(&self) -> Vec<EntityRow> {
        let row = |e: &Entry| EntityRow {
            id: e.id.into(),
            owner: e.owner.into(),
            base: e.base.into(),
            kind: e.kind.into(),
            flags: (e.held * rows::FLAG_HELD).into(),
            name: Name::new(self.catalogue.name(e).as_bytes()).unwrap(),
            origin: self.catalogue.get(e.base).map_or_else(Name::default, |b| {
                Name::new(self.catalogue.name(b).as_bytes()).unwrap()
            }),
            size: e.size.into(),
            ..EntityRow::default()
        };
        self.catalogue.entries.iter().map(row).collect()
    }

    /// Both copies of the catalogue are read: the newer one counts. A restore that had begun is
    /// done again.
    fn read_catalogues(&mut self) {
        if self.found.len() < 2 || self.running.is_some() {
            return;
        }
        let newest = self.found.drain(..).flatten().max_by_key(|c| c.generation);
        let Some(catalogue) = newest else {
            self.opened = Some(Err("no catalogue".into()));
            return;
        };
        self.catalogue = catalogue;
        if let Some((from, to)) = self.catalogue.intent.take() {
            let get = |id| self.catalogue.get(id).cloned().unwrap();
            let (from, to) = (get(from), get(to));
            self.copy_data(&from, &to);
            self.flush(to.dev);
            self.store();
            self.running = Some((0, self.catalogue.clone()));
        } else {
            self.opened = Some(Ok(()));
        }
    }
}

impl Engine for Fake {
    type Fast = FakeFast;
    type Token = ();
    const SLOTS: bool = false;

    fn adjust(plan: &mut Plan) {
        plan.save.size = REGIONS + plan.productions.iter().map(|d| d.size * 40).sum::<u64>();
        plan.save.size = plan.save.size.next_multiple_of(65536);
        plan.limits.copy_units = 128;
    }

    fn create(plan: &Plan, put: &mut dyn FnMut(u64, &[u8])) {
        let mut catalogue = Catalogue { generation: 2, next: 100, ..Catalogue::default() };
        for (dev, device) in (1u16..).zip(&plan.productions) {
            let (kind, part) = (rows::KIND_PRODUCTION, super::schedule::production(dev));
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
        let fresh = || FakeFast { dev: entry.dev, state: Rc::default() };
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
