// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Clients' flushes, in rounds.
//!
//! A round stages the fresh records (fresh becomes pending), flushes the save volume so that their
//! data is durable, logs them, and ends when the log is durable (I-11). What comes meanwhile is the
//! next round. A flush of a production that is being restored flushes its device as well, first.

use crate::api::Step;
use crate::engine::slab::Queue;
use crate::engine::step::{Owner, Piece, SEGS};
use crate::engine::task::Stage;
use crate::engine::Core;
use crate::fault::Fault;
use crate::format::record::GroupKey;
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::Dev;

/// Where a round stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Round {
    #[default]
    Idle,
    /// The flush of the data is under way.
    Data,
    /// Records are being logged.
    Logging,
}

/// The rounds.
#[derive(Default)]
pub(crate) struct Flush {
    pub(crate) round: Round,
    /// Tasks of the round under way.
    pub(crate) now: Queue,
    /// Tasks of the next.
    pub(crate) next: Queue,
    /// A round is wanted for its own sake: the fresh delta is full.
    pub(crate) wanted: bool,
}

impl<P: Platform> Core<P> {
    /// Runs a client's flush.
    #[inline(never)]
    pub(crate) fn run_flush(&mut self, t: u32) {
        if self.tasks.at(t).io != 0 {
            return;
        }
        if self.tasks.at(t).fault.is_some() {
            return self.finish_task(t);
        }
        let vol = self.vol_of(t);
        let clone = self.vols.at(vol).clone;
        match self.tasks.at(t).stage {
            Stage::Begin if vol == crate::engine::slab::NONE => self.finish_task(t),
            Stage::Begin if clone => self.join_flush(t),
            Stage::Begin if !self.vols.at(vol).volatile => {
                self.tasks.at_mut(t).stage = Stage::Last;
                self.ready(t);
            }
            Stage::Begin => {
                if self.steps.room() == 0 {
                    return self.wait_for_steps(t);
                }
                self.tasks.at_mut(t).stage = Stage::Last;
                let dev = self.vols.at(vol).dev;
                self.open_step(Owner::Task(t), Step::Flush { dev }, [Piece::None; SEGS], 0);
            }
            Stage::Last if self.vols.at(vol).redirect.is_some() => self.join_flush(t),
            _ => self.finish_task(t),
        }
    }

    /// Puts a task into the next round; it runs again, at `Stage::Commit`, when that is durable.
    pub(crate) fn join_flush(&mut self, t: u32) {
        if self.fenced.is_some() {
            return self.fail_task(t, Fault::Fenced);
        }
        let task = self.tasks.at_mut(t);
        task.stage = Stage::Commit;
        task.queued = true;
        self.tasks.push(&mut self.flush.next, t);
    }

    /// Begins a round, or goes on logging one.
    pub(crate) fn run_rounds(&mut self) {
        if self.fenced.is_some() {
            return self.fail_rounds();
        }
        if self.flush.round == Round::Logging {
            return self.log_pending();
        }
        let idle = self.flush.round == Round::Idle;
        let wanted = self.flush.wanted || !self.flush.next.is_empty();
        if !idle || !wanted || self.steps.room() == 0 {
            return;
        }
        self.flush.wanted = false;
        self.flush.now = core::mem::take(&mut self.flush.next);
        self.layers.stage_fresh();
        self.flush.round = Round::Data;
        if self.save.volatile && !self.mutant(Mutant::RecordBeforeData) {
            let step = Step::Flush { dev: Dev::SAVE };
            self.open_step(Owner::Settle, step, [Piece::None; SEGS], 0);
        } else {
            self.data_flushed(Ok(()));
        }
    }

    /// The data of the round is durable.
    pub(crate) fn data_flushed(&mut self, result: Result<(), Fault>) {
        if let Err(fault) = result {
            self.fence(fault);
            return self.fail_rounds();
        }
        self.flush.round = Round::Logging;
        self.log_pending();
    }

    /// Moves pending records into the log as long as it has room, then lets the round's tasks wait
    /// for it.
    fn log_pending(&mut self) {
        loop {
            match self.log_one_pending() {
                Ok(true) => {}
                Ok(false) if self.layers.pending.is_empty() => break,
                // Again when a checkpoint has made room.
                Ok(false) => return,
                Err(fault) => return self.fence(fault),
            }
        }
        self.layers.pending.clear();
        let pos = self.log.last();
        self.flush.round = Round::Idle;
        let mut tasks = core::mem::take(&mut self.flush.now);
        while let Some(t) = self.tasks.pop(&mut tasks) {
            self.wait_or_run(t, pos);
        }
        if pos > self.commit.durable {
            self.commit.wanted = true;
        }
    }

    /// Moves one record; false if there is none, or no room for it.
    fn log_one_pending(&mut self) -> Result<bool, Fault> {
        let pending = &self.layers.pending;
        let Some((record, left)) = pending.step(&mut pending.walk(GroupKey::default())?)? else {
            return Ok(false);
        };
        let record = record.only(left).next().ok_or(crate::bug!())?;
        if !self.log_has_room(4) {
            return Ok(false);
        }
        self.put_logged(&record, None)?;
        self.layers.pending.remove(record.group(), record.mask)?;
        Ok(true)
    }

    /// Lets a task wait for a position, or run if it is durable.
    pub(crate) fn wait_or_run(&mut self, t: u32, pos: crate::units::LogPos) {
        self.tasks.at_mut(t).queued = false;
        if pos <= self.commit.durable {
            self.ready(t);
        } else {
            self.wait_durable(t, pos);
        }
    }

    fn fail_rounds(&mut self) {
        for mut queue in
            [core::mem::take(&mut self.flush.now), core::mem::take(&mut self.flush.next)]
        {
            while let Some(t) = self.tasks.pop(&mut queue) {
                self.tasks.at_mut(t).queued = false;
                self.tasks.at_mut(t).fail(Fault::Fenced);
                self.ready(t);
            }
        }
    }
}
