// SPDX-License-Identifier: MIT

//! The commands, as steps one after the other.

use rwsnap_core::api::Step;
use rwsnap_core::control::{
    rows, Command, EntityRow, Item, Name, Refusal, Verb, FLAG_DEFER, FLAG_NO_UNDO, FLAG_RECURSIVE,
};
use rwsnap_core::units::Dev;
use zerocopy::FromBytes;

use super::catalogue::Entry;
use super::{Fake, Memory, TEXT};

impl Fake {
    pub(super) fn flush(&mut self, dev: u16) {
        self.acts.push_back((Step::Flush { dev: Dev(dev) }, Memory::Nothing));
    }

    pub(super) fn copy_data(&mut self, from: &Entry, to: &Entry) {
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

    pub(super) fn store(&mut self) {
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

    pub(super) fn compile(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
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
            // One at a time, at once: that is simple.
            Verb::Destroy if command.flags.get() & (FLAG_RECURSIVE | FLAG_DEFER) == 0 => {
                self.destroy(&items)?;
            }
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
        if self.plan.mutant == 5 {
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
        if self.plan.mutant != 4 {
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

    pub(super) fn rows(&self) -> Vec<EntityRow> {
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
    pub(super) fn read_catalogues(&mut self) {
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
