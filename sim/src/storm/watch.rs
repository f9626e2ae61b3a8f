// SPDX-License-Identifier: MIT

//! Watching requests end: the model learns of writes and flushes, and what a read shows is compared
//! with what it may show.

use rwsnap_core::api::Op;
use rwsnap_core::fault::Fault;

use super::block::show;
use super::client::Asked;
use super::commands::Given;
use super::engine::Engine;
use super::kinds;
use super::machine::{Io, Wrong};
use super::model::Sort;
use super::schedule::World;

impl<E: Engine> World<E> {
    /// A request is done: the model learns of it, and a read is compared.
    pub(super) fn answered(&mut self, number: u64, io: &Io) -> Result<(), Wrong> {
        let Some(asked) = self.asked.remove(&number) else { return Ok(()) };
        let failed = io.failed.map_or(0, |f| 1 + u64::from(f == Fault::Io));
        self.trace.note(&[number, failed]);
        self.trace.say(|| {
            let name = self.model.show(asked.key);
            let end = io.failed.map_or_else(|| "done".into(), |f| format!("failed: {f:?}"));
            format!("{:6} #{number} {:?} {name} {end}", self.now, io.op)
        });
        if let Some(session) = self.sessions.iter_mut().find(|s| s.opened.handle == io.handle) {
            session.flying -= 1;
        }
        if !self.model.entities.contains_key(&asked.key) {
            return Ok(());
        }
        self.count(&asked, io);
        if let Some(fault) = io.failed {
            self.fenced |= fault == Fault::Fenced && !asked.snapshot;
            self.may_fail(&asked, io.op, fault)?;
        }
        let ok = io.failed.is_none();
        let (begin, now) = (asked.begin, self.now);
        match io.op {
            Op::Read if ok => self.compare(&asked, io)?,
            Op::Read => {}
            Op::Flush if ok => {
                self.model.cells(asked.key).iter_mut().for_each(|c| c.flush(begin));
            }
            Op::Flush => {}
            Op::Write { fua } | Op::Zero { fua } => self.wrote(&asked, io, ok, fua, now),
            Op::Discard => self.discarded(&asked, io, ok),
        }
        Ok(())
    }

    fn count(&mut self, asked: &Asked, io: &Io) {
        let sort = self.model.entities[&asked.key].sort;
        let away = self.model.is_away(asked.key, self.leave());
        let kinds = &mut self.tally.kinds;
        kinds.saw_if(away && io.failed.is_none(), "read of a snapshot without its production");
        match io.failed {
            None => kinds.saw(kinds::of_request(io.op, sort)),
            Some(Fault::NoSpace) => match sort {
                Sort::Production(_) => kinds.saw("no space for production"),
                _ => kinds.saw("no space for a clone"),
            },
            Some(Fault::Fenced) if asked.cut => kinds.saw("cut off by force"),
            Some(Fault::Fenced) => kinds.saw("fenced"),
            Some(Fault::Lost) => kinds.saw("lost data is reported"),
            Some(_) => kinds.saw("I/O error is reported"),
        }
        let production = matches!(sort, Sort::Production(_));
        if let (Sort::Production(dev), None) = (sort, io.failed) {
            let device = self.plan.productions.get(usize::from(dev) - 1);
            let without = device.is_some_and(|d| d.volatile && !d.fua);
            let fua = matches!(io.op, Op::Write { fua: true } | Op::Zero { fua: true });
            kinds.saw_if(fua && without, "FUA on a device without it");
            let clone = self.model.entities.values().any(|e| matches!(e.sort, Sort::Clone(_)));
            let copies = io.op == Op::Discard && self.discard_copies && clone;
            kinds.saw_if(copies, "discard of production that copies for a clone");
        }
        let during = self.restoring && production && io.failed.is_none();
        kinds.saw_if(during && io.op == Op::Read, "read during a restore");
        kinds.saw_if(during && io.op != Op::Read, "write during a restore");
    }

    /// Chunks of a clone that a discard covers whole read as zeros from then on. All else it may
    /// zero or leave.
    fn discarded(&mut self, asked: &Asked, io: &Io, ok: bool) {
        let clone = !matches!(self.model.entities[&asked.key].sort, Sort::Production(_));
        let (each, len) = (u64::from(self.plan.chunk / self.plan.block), io.blocks.len() as u64);
        let cells = self.model.entities[&asked.key].cells.len() as u64;
        let first = io.at.next_multiple_of(each);
        let end = io.at + len;
        let end = if end == cells { end } else { end - end % each };
        let (horizon, now) = (self.horizon(), self.now);
        let cells = self.model.cells(asked.key);
        for block in io.at..io.at + len {
            let strong = ok && clone && (first..end).contains(&block);
            let Some(cell) = cells.get_mut(usize::try_from(block).unwrap_or(0)) else { return };
            cell.end(asked.begin, now, ok, strong, false);
            cell.prune(horizon);
        }
    }

    fn wrote(&mut self, asked: &Asked, io: &Io, strong: bool, fua: bool, now: u64) {
        let (first, len) = (usize::try_from(io.at).unwrap_or(0), io.blocks.len());
        let horizon = self.horizon();
        for cell in self.model.cells(asked.key).iter_mut().skip(first).take(len) {
            cell.end(asked.begin, now, strong, strong, fua);
            cell.prune(horizon);
        }
    }

    /// When the oldest request or command under way began.
    pub(super) fn horizon(&self) -> u64 {
        let asked = self.asked.values().map(|a| a.begin);
        asked.chain(self.given.as_ref().map(|g| g.begin)).fold(self.now, u64::min)
    }

    fn compare(&mut self, asked: &Asked, io: &Io) -> Result<(), Wrong> {
        self.tally.compared += io.blocks.len() as u64;
        for (block, data) in (usize::try_from(io.at).unwrap_or(0)..).zip(&io.blocks) {
            let value = data.value();
            self.trace.note(&[value]);
            if let Err(wrong) = self.compare_block(asked, block, value) {
                let name = self.model.show(asked.key);
                return Err(format!("read of {name} block {block}: {wrong}"));
            }
        }
        Ok(())
    }

    pub(super) fn compare_block(
        &mut self,
        asked: &Asked,
        block: usize,
        value: u64,
    ) -> Result<(), Wrong> {
        if asked.snapshot {
            return self.model.observe_snapshot(asked.key, block, value);
        }
        let now = self.now;
        let given = self.given.as_ref().and_then(|g| g.replaces(&self.model));
        let doubt = self.doubt.iter().filter_map(|(change, begin, _)| {
            change.replaces(&self.model).map(|(to, from)| (to, from, *begin))
        });
        let replaced: Vec<_> =
            given.into_iter().chain(doubt).filter(|r| r.0 == asked.key).collect();
        let Some(cell) = self.model.cells(asked.key).get_mut(block) else { return Ok(()) };
        // While the volume is perhaps being replaced, what is seen may be the other's.
        let fine = if replaced.is_empty() {
            cell.observe(value, asked.begin, now)
        } else {
            cell.seen(asked.begin, now).any(|v| v.value == value)
        };
        if fine {
            return Ok(());
        }
        let may: Vec<String> = cell.seen(asked.begin, now).map(|v| show(v.value)).collect();
        for (_, from, begin) in replaced {
            let seen = self.model.seen(from, block, begin, self.now);
            if seen.iter().any(|v| v.value == value) {
                return Ok(());
            }
        }
        Err(format!("shows {}, may show {}", show(value), may.join(" or ")))
    }

    /// Whether a request may fail like this.
    fn may_fail(&self, asked: &Asked, op: Op, fault: Fault) -> Result<(), Wrong> {
        let Some(entity) = self.model.entities.get(&asked.key) else { return Ok(()) };
        let clone = matches!(entity.sort, Sort::Clone(_));
        let writes = !matches!(op, Op::Read | Op::Flush);
        let forced = self.given.as_ref().is_some_and(Given::is_forced);
        let fine = match fault {
            Fault::NoSpace => writes && (clone || self.leave().fail),
            Fault::Fenced if forced || asked.cut => true,
            _ => self.model.excused(asked.key, fault, self.leave()).is_ok(),
        };
        if fine || self.machine.core.is_lost(asked.handle) {
            return Ok(());
        }
        Err(format!("{op:?} of {} fails with {fault:?}", self.model.show(asked.key)))
    }
}
