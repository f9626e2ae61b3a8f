// SPDX-License-Identifier: MIT

//! The administrator: which commands are given, and what the replies mean for the model.

use rwsnap_core::control::{rows, Refusal};

use super::command::{self, Change};
use super::engine::Engine;
use super::kinds;
use super::machine::Wrong;
use super::model::{Key, Model, Sort};
use super::oracle::Row;
use super::plan::WHEN_FULL;
use super::schedule::World;

/// A command under way. After each one the pool is listed.
#[derive(Clone, Debug)]
pub(super) struct Given {
    change: Change,
    cookie: u64,
    pub(super) begin: u64,
    /// It is done, and the list is being asked for: the rows so far.
    listed: Option<Vec<Row>>,
}

impl Given {
    /// The change that is neither done nor refused yet, and since when.
    #[must_use]
    pub(super) fn change(&self) -> Option<(&Change, u64)> {
        self.listed.is_none().then_some((&self.change, self.begin))
    }

    /// Whose content it replaces, with whose, since when.
    #[must_use]
    pub(super) fn replaces(&self, model: &Model) -> Option<(Key, Key, u64)> {
        let (change, begin) = self.change()?;
        change.replaces(model).map(|(to, from)| (to, from, begin))
    }

    /// Whether it cuts clients off.
    #[must_use]
    pub(super) fn is_forced(&self) -> bool {
        matches!(
            self.change,
            Change::Refresh { force: true, .. }
                | Change::Restore { force: true, .. }
                | Change::Destroy { force: true, .. }
                | Change::Cancel(_, true)
                | Change::Remove(_, true)
        )
    }
}

impl Change {
    /// The verb, for the counts.
    const fn verb(&self) -> &'static str {
        match self {
            Self::Snapshot(_) => "snapshot",
            Self::Clone(..) => "clone",
            Self::Refresh { .. } => "refresh",
            Self::Restore { .. } => "restore",
            Self::Rate(..) => "rate",
            Self::Cancel(..) => "cancel",
            Self::Destroy { .. } => "destroy",
            Self::Rename(..) => "rename",
            Self::Hold(_) => "hold",
            Self::Release(_) => "release",
            Self::Set(..) => "set",
            Self::Add { .. } => "add",
            Self::Remove(..) => "remove",
        }
    }
}

/// What a command is called that is given during a restore.
fn during_restore(verb: &str) -> &'static str {
    match verb {
        "snapshot" => "during a restore: snapshot",
        "clone" => "during a restore: clone",
        "refresh" => "during a restore: refresh",
        "destroy" => "during a restore: destroy",
        "rate" => "during a restore: rate",
        "restore" => "during a restore: restore",
        _ => "during a restore: another command",
    }
}

impl<E: Engine> World<E> {
    /// Gives a command, if none is under way.
    pub(super) fn give(&mut self) -> Result<(), Wrong> {
        if self.given.is_some() || !self.doubt.is_empty() {
            return Ok(());
        }
        let Some(change) = self.choose() else { return Ok(()) };
        let random = self.rng.next();
        let bytes = change.bytes(&self.model, self.wall_ns, random);
        self.trace.note(&[random]);
        self.trace.say(|| {
            let names: Vec<_> = self.model.keys(|_| true);
            let names: Vec<_> =
                names.iter().map(|k| format!("{k}={}", self.model.show(*k))).collect();
            format!("{:6} command {change:?} ({})", self.now, names.join(" "))
        });
        // The core may reply at once: what is given must be known before.
        let begin = self.now;
        self.given = Some(Given { change, cookie: 0, begin, listed: None });
        let cookie = self.machine.command(bytes)?;
        if let Some(given) = &mut self.given {
            given.cookie = cookie;
        }
        Ok(())
    }

    fn fresh(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn one(&mut self, keys: &[Key]) -> Option<Key> {
        (!keys.is_empty()).then(|| self.rng.pick(keys))
    }

    fn choose(&mut self) -> Option<Change> {
        if self.plan.moves != 0 && self.aside.chance(self.plan.moves) {
            return self.choose_move();
        }
        let snapshots = self.model.keys(|e| matches!(e.sort, Sort::Snapshot(_)));
        let volumes = self.model.keys(|e| !matches!(e.sort, Sort::Snapshot(_)));
        let clones = self.model.keys(|e| matches!(e.sort, Sort::Clone(_)));
        let many = self.model.entities.len() > 12;
        let grow = if many { 1 } else { 12 };
        let weights = [grow * 2, grow, 6, 6, 3, 2, if many { 30 } else { 8 }, 2, 1, 2, 2];
        Some(match self.rng.weighted(&weights) {
            0 => self.choose_snapshot(&volumes),
            1 => Change::Clone(self.one(&snapshots)?, self.fresh("c")),
            2 => Change::Refresh {
                clone: self.one(&clones)?,
                to: if self.rng.chance(60) { self.one(&snapshots) } else { None },
                keep: self.rng.chance(30).then(|| self.fresh("k")),
                force: self.rng.chance(50),
            },
            3 => self.choose_restore(&snapshots, &clones)?,
            4 => Change::Rate(self.choose_restored()?, self.choose_rate()),
            5 => Change::Cancel(self.choose_restored()?, self.rng.chance(50)),
            6 => {
                let mut keys = vec![self.one(&[snapshots, clones].concat())?];
                if self.rng.chance(20) {
                    keys.extend(self.one(&self.model.keys(|e| e.deferred || e.held)));
                    keys.dedup();
                }
                let (recursive, defer) = (self.rng.chance(30), self.rng.chance(20));
                Change::Destroy { keys, recursive, defer, force: self.rng.chance(30) }
            }
            7 => self.choose_rename(&snapshots, &clones)?,
            8 => Change::Hold(self.one(&snapshots)?),
            9 => Change::Release(self.one(&self.model.keys(|e| e.held))?),
            _ => self.choose_property(&clones),
        })
    }

    fn choose_snapshot(&mut self, volumes: &[Key]) -> Change {
        let part = self.fresh("s");
        let some: Vec<Key> = match self.rng.below(3) {
            0 => volumes.iter().copied().filter(|_| self.rng.chance(60)).collect(),
            _ => Vec::new(),
        };
        let some = if some.is_empty() { vec![self.rng.pick(volumes)] } else { some };
        Change::Snapshot(some.into_iter().map(|key| (key, part.clone())).collect())
    }

    fn choose_restore(&mut self, snapshots: &[Key], clones: &[Key]) -> Option<Change> {
        let from = self.one(&[snapshots, clones].concat())?;
        let volume =
            if self.rng.chance(95) { self.model.root(from) } else { self.choose_production()? };
        Some(Change::Restore {
            volume,
            from,
            force: self.rng.chance(70),
            no_undo: self.rng.chance(40),
            old_first: self.rng.chance(50),
            rate: self.choose_rate(),
        })
    }

    fn choose_rate(&mut self) -> u64 {
        self.rng.pick(&[u64::MAX, u64::MAX, u64::MAX, 1 << 20, 0])
    }

    fn choose_production(&mut self) -> Option<Key> {
        let productions = self.model.keys(|e| matches!(e.sort, Sort::Production(_)));
        self.one(&productions)
    }

    /// A production volume, mostly one that was restored.
    fn choose_restored(&mut self) -> Option<Key> {
        let restored: Vec<Key> = self.model.undo.keys().copied().collect();
        if restored.is_empty() || self.rng.chance(10) {
            return self.choose_production();
        }
        self.one(&restored)
    }

    fn choose_rename(&mut self, snapshots: &[Key], clones: &[Key]) -> Option<Change> {
        let key = self.one(&[snapshots, clones].concat())?;
        Some(Change::Rename(key, self.fresh("r")))
    }

    fn choose_property(&mut self, clones: &[Key]) -> Change {
        let chunk = u64::from(self.plan.chunk);
        match (self.rng.below(5), self.one(clones)) {
            (0, Some(clone)) => {
                let quota = self.rng.pick(&[0, chunk, chunk * 8, chunk * 1000]);
                Change::Set(Some(clone), "quota", quota.to_string())
            }
            (1, Some(clone)) => {
                let reservation = self.rng.pick(&[0, chunk, chunk * 8]);
                Change::Set(Some(clone), "reservation", reservation.to_string())
            }
            (2, _) => {
                let span = self.rng.pick(&[chunk, chunk << 2, chunk << 3, 1 << 19, 1 << 20]);
                Change::Set(None, "copy-span", span.to_string())
            }
            (3, _) => {
                let discard = self.rng.pick(&["ignore", "copy"]);
                Change::Set(None, "discard", discard.into())
            }
            _ => {
                // What may happen from now on may also happen for the old policy's sake.
                let when_full = self.rng.index(WHEN_FULL.len());
                self.policies |= 1 << when_full;
                Change::Set(None, "when-full", WHEN_FULL[when_full].into())
            }
        }
    }

    /// A command's reply, or the list after it.
    pub(super) fn replied(&mut self, cookie: u64, bytes: &[u8]) -> Result<(), Wrong> {
        let Some(given) = self.given.take_if(|g| g.cookie == cookie) else { return Ok(()) };
        let (head, rows) = command::parse(bytes)?;
        let refusal = Refusal::from_number(head.refusal.get())
            .ok_or_else(|| format!("a reply with refusal {}", head.refusal))?;
        self.trace.note(&[u64::from(head.refusal.get())]);
        match given.listed {
            None => self.changed(given, refusal, head.value.get()),
            Some(mut listed) => {
                for row in rows {
                    listed.push(command::entity(row)?);
                }
                let from = head.next.get();
                if from != u64::MAX {
                    return self.ask_list(given.change, given.begin, listed, from);
                }
                listed.retain(|row| row.flags & rows::FLAG_HIDDEN == 0);
                self.notice(&listed)?;
                self.tally.kinds.saw_if(self.restoring, during_restore(given.change.verb()));
                let pairs = self.model.matching(&listed, self.leave());
                let pairs = pairs.map_err(|w| format!("after {:?}: {w}", given.change))?;
                let missed = self.model.missed(&pairs, self.leave());
                self.model.adopt(&listed, &pairs);
                self.model.entities.extend(missed);
                self.drop_lost();
                Ok(())
            }
        }
    }

    /// The reply of a command that changes the pool.
    fn changed(&mut self, given: Given, refusal: Refusal, detail: u64) -> Result<(), Wrong> {
        let Given { change, begin, .. } = given;
        self.trace.say(|| format!("{:6} reply {refusal:?}", self.now));
        self.model.answered_away(&change, refusal, self.leave())?;
        let offline = refusal == Refusal::Offline;
        self.tally.kinds.saw_if(offline, "command is refused: offline");
        let done = refusal == Refusal::None && self.leave().away != 0;
        self.tally.kinds.saw_if(done, "command is done with a production away");
        let counts = self.tally.commands.entry(change.verb()).or_default();
        match refusal {
            Refusal::None => {
                counts.0 += 1;
                for kind in kinds::of_change(&change, &self.model) {
                    self.tally.kinds.saw(kind);
                }
                let replaced = change.replaces(&self.model).map(|(to, _)| to);
                if let Change::Set(None, "discard", to) = &change {
                    self.discard_copies = to == "copy";
                }
                self.model = change.apply(&self.model, begin, self.now);
                let horizon = self.horizon();
                if let Some(to) = replaced {
                    self.model.cells(to).iter_mut().for_each(|cell| cell.prune(horizon));
                }
            }
            Refusal::Bug => return Err(format!("{change:?} met a bug at line {detail}")),
            Refusal::Malformed | Refusal::BadName => {
                return Err(format!("{change:?} is refused: {refusal:?}"));
            }
            Refusal::Fenced | Refusal::Io if !self.plan.faults.any() => {
                return Err(format!("{change:?} is refused: {refusal:?}, on sound disks"));
            }
            Refusal::Fenced | Refusal::Io => {
                counts.1 += 1;
                self.fenced = true;
                self.doubt.push((change, begin, self.now));
                return Ok(());
            }
            _ => counts.1 += 1,
        }
        self.ask_list(change, begin, Vec::new(), 0)
    }

    /// Counts what a list shows.
    ///
    /// # Errors
    ///
    /// That there are two restores.
    pub(super) fn notice(&mut self, rows: &[Row]) -> Result<(), Wrong> {
        let mut restored = rows.iter().filter(|row| row.is(rows::FLAG_RESTORING));
        self.restoring = restored.next().is_some();
        if let Some(row) = restored.next() {
            return Err(format!("{} is restored, and another one too", row.name));
        }
        let kinds = &mut self.tally.kinds;
        for row in rows {
            kinds.saw_if(row.flags & rows::FLAG_GIVEN_UP != 0, "listed: given up");
            kinds.saw_if(row.flags & rows::FLAG_DAMAGED != 0, "listed: damaged");
            kinds.saw_if(row.flags & rows::FLAG_DEFERRED != 0, "listed: deferred");
        }
        Ok(())
    }

    fn ask_list(
        &mut self,
        change: Change,
        begin: u64,
        listed: Vec<Row>,
        from: u64,
    ) -> Result<(), Wrong> {
        let cookie = self.machine.command(command::list(from))?;
        self.given = Some(Given { change, cookie, begin, listed: Some(listed) });
        Ok(())
    }
}
