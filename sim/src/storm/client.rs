// SPDX-License-Identifier: MIT

//! Clients: they open volumes, ask, and go.

use rwsnap_core::api::{Handle, Op};
use rwsnap_core::control::Refusal;

use super::block::{value, Block};
use super::cell::Version;
use super::engine::{Engine, Opened};
use super::machine::{Io, Wrong};
use super::model::{Key, Sort};
use super::schedule::World;

/// A volume that a client has open.
pub(super) struct Session<E: Engine> {
    /// Which.
    pub key: Key,
    /// As the core opened it.
    pub opened: Opened<E::Fast>,
    /// Requests under way.
    pub flying: u64,
    /// Goes once they are done.
    pub leaving: bool,
    /// Where its last request ended.
    pub next: u64,
}

/// A request under way.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Of which volume.
    pub key: Key,
    /// Since when.
    pub begin: u64,
    /// The volume is a snapshot.
    pub snapshot: bool,
    /// Its handle was cut off.
    pub cut: bool,
    /// Its handle.
    pub handle: Handle,
}

impl<E: Engine> World<E> {
    /// A client comes or goes.
    pub(super) fn visit(&mut self) -> Result<(), Wrong> {
        self.drop_lost();
        for session in &mut self.sessions {
            session.leaving |= self.rng.chance(20);
        }
        let (gone, stay) = std::mem::take(&mut self.sessions)
            .into_iter()
            .partition(|s| s.leaving && s.flying == 0);
        self.sessions = stay;
        let gone: Vec<Session<E>> = gone;
        for session in gone {
            self.machine.core.detach(session.opened.handle);
            self.machine.drain()?;
        }
        self.open_some()
    }

    /// Sessions that a forced command cut off, or whose volume is gone.
    pub(super) fn drop_lost(&mut self) {
        let (core, model) = (&self.machine.core, &self.model);
        for session in &mut self.sessions {
            let lost = core.is_lost(session.opened.handle);
            session.leaving |= lost || !model.entities.contains_key(&session.key);
            if lost {
                let handle = session.opened.handle;
                let cut = self.asked.values_mut().filter(|a| a.handle == handle);
                cut.for_each(|a| a.cut = true);
            }
        }
    }

    /// Opens a volume.
    fn open_some(&mut self) -> Result<(), Wrong> {
        let keys: Vec<Key> = self.model.keys(|_| true);
        let productions = self.model.keys(|e| matches!(e.sort, Sort::Production(_)));
        let clones = self.model.keys(|e| matches!(e.sort, Sort::Clone(_)));
        let key = match self.rng.below(100) {
            0..35 => self.rng.pick(&productions),
            35..70 if !clones.is_empty() => self.rng.pick(&clones),
            _ => self.rng.pick(&keys),
        };
        let snapshot = matches!(self.model.entities[&key].sort, Sort::Snapshot(_));
        let Some(name) = self.model.name(key) else { return Ok(()) };
        let write = !snapshot && self.rng.chance(85);
        match self.machine.core.attach(&name, write) {
            Ok(_) if self.must_be_offline(key) => {
                return Err(format!("{name} is opened without its production"));
            }
            Ok(opened) => {
                if !self.sizes(key).contains(&opened.size) {
                    return Err(format!("{name} has {} bytes, which it never had", opened.size));
                }
                if self.model.entities[&key].id.is_some_and(|id| id != opened.id.0) {
                    return Err(format!("{name} is number {}, another than it was", opened.id.0));
                }
                self.trace.say(|| format!("{:6} open {name}, write {write}", self.now));
                self.sessions.push(Session { key, opened, flying: 0, leaving: false, next: 0 });
            }
            Err(refusal) => {
                let offline = refusal == Refusal::Offline;
                self.tally.kinds.saw_if(offline, "not opened: offline");
                self.may_refuse_open(&name, key, refusal)?;
            }
        }
        self.machine.drain()
    }

    /// The sizes that a volume may have now: that of its content, and of the content that a
    /// command gives it.
    fn sizes(&self, key: Key) -> Vec<u64> {
        let size = |key: &Key| {
            let blocks = self.model.entities.get(key).map_or(0, |e| e.cells.len());
            blocks as u64 * u64::from(self.plan.block)
        };
        let given = self.given.as_ref().and_then(|g| g.replaces(&self.model));
        let replaced = given.filter(|(to, ..)| *to == key).map(|(_, from, _)| size(&from));
        std::iter::once(size(&key)).chain(replaced).collect()
    }

    fn may_refuse_open(&self, name: &str, key: Key, refusal: Refusal) -> Result<(), Wrong> {
        let leave = self.leave();
        let entity = &self.model.entities[&key];
        let fine = match refusal {
            Refusal::Lost => self.model.may_give_up(key, leave) || leave.faults || entity.given_up,
            Refusal::NotFound => {
                let unsure = self.given.is_some() || self.fenced;
                entity.deferred || entity.optional || unsure
            }
            Refusal::Busy | Refusal::NoMemory | Refusal::TableFull | Refusal::Restoring => true,
            Refusal::Fenced | Refusal::Io => leave.faults,
            Refusal::Offline => self.may_be_offline(key),
            _ => false,
        };
        if fine {
            return Ok(());
        }
        Err(format!("{name} cannot be opened: {refusal:?}"))
    }

    /// A client asks.
    pub(super) fn ask(&mut self) -> Result<(), Wrong> {
        self.drop_lost();
        if self.sessions.is_empty() {
            return self.open_some();
        }
        if self.asked.len() >= self.plan.depth {
            return Ok(());
        }
        let index = self.rng.index(self.sessions.len());
        let session = &self.sessions[index];
        if session.leaving || session.opened.size == 0 {
            return Ok(());
        }
        let (key, handle) = (session.key, session.opened.handle);
        let fast = session.opened.fast.clone();
        let writes = !session.opened.read_only
            && !matches!(self.model.entities[&key].sort, Sort::Snapshot(_));
        let op = self.choose_op(writes);
        let (at, len) = self.choose_extent(index, op);
        if len != 0 {
            self.sessions[index].next = at + len;
        }
        self.begin(key, op, at, len);
        let blocks = (at..at + len).map(|b| self.content(key, op, b)).collect();
        let io = Io { handle, op, at, blocks, left: 0, failed: None };
        let cpu = u32::try_from(self.rng.below(u64::from(self.plan.cpus))).unwrap_or(0);
        self.sessions[index].flying += 1;
        let number = self.machine.request(io, fast.as_ref(), cpu)?;
        let snapshot = matches!(self.model.entities[&key].sort, Sort::Snapshot(_));
        let asked = Asked { key, begin: self.now, snapshot, cut: false, handle };
        self.trace.note(&[number, u64::from(key), at, len]);
        self.trace.say(|| {
            let name = self.model.show(key);
            format!("{:6} #{number} {op:?} {name} {at}+{len} version {}", self.now, self.versions)
        });
        self.asked.insert(number, asked);
        self.machine.drain()?;
        let ahead = self.plan.stream > 90 && self.machine.core.copies_ahead();
        self.tally.kinds.saw_if(ahead, "copy ahead");
        Ok(())
    }

    fn choose_op(&mut self, writes: bool) -> Op {
        if !writes {
            return Op::Read;
        }
        let m = self.plan.mix;
        match self.rng.weighted(&[m.read, m.write, m.zero, m.discard, m.flush]) {
            0 => Op::Read,
            1 => Op::Write { fua: self.rng.chance(10) },
            2 => Op::Zero { fua: self.rng.chance(10) },
            3 => Op::Discard,
            _ => Op::Flush,
        }
    }

    /// First block and blocks of a request.
    fn choose_extent(&mut self, session: usize, op: Op) -> (u64, u64) {
        if op == Op::Flush {
            return (0, 0);
        }
        let Session { key, next, .. } = self.sessions[session];
        let blocks = self.model.entities[&key].cells.len() as u64;
        let each = u64::from(self.plan.chunk / self.plan.block);
        if next < blocks && self.rng.chance(self.plan.stream) {
            return (next, (each * self.rng.range(1, self.plan.span)).min(blocks - next));
        }
        let hot = if self.rng.chance(self.plan.hot) { each * 3 } else { blocks };
        let mut at = self.rng.below(hot.min(blocks));
        let mut len = self.rng.range(1, each * self.plan.span);
        if self.rng.chance(40) {
            at -= at % each;
            len = len.next_multiple_of(each);
        }
        (at, len.min(blocks - at))
    }

    /// The model learns of a write.
    fn begin(&mut self, key: Key, op: Op, at: u64, len: u64) {
        if matches!(op, Op::Read | Op::Flush) {
            return;
        }
        self.versions += 1;
        for block in at..at + len {
            let mut version = Version::begin(self.content(key, op, block).value(), self.now);
            version.flips = self.model.lossy;
            let block = usize::try_from(block).unwrap_or(0);
            if let Some(cell) = self.model.cells(key).get_mut(block) {
                cell.add(version);
            }
        }
    }

    /// What the write puts into a block.
    fn content(&self, key: Key, op: Op, block: u64) -> Block {
        match op {
            Op::Write { .. } => Block::Word(value(u64::from(key), block, self.versions)),
            _ => Block::ZERO,
        }
    }
}
