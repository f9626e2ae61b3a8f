// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Moments: no write of the volumes concerned is under way, and all before it is durable.
//!
//! One command at a time has its moment. It holds its volumes (new writes wait), drains the guard
//! of production (I-3) and the slow writes under way, flushes the production devices, then runs a
//! flush round, so that the new records of clones are logged (rule 4). After the group of records
//! that the command logs, the hold ends; writes go on under the new epoch, and their copies follow
//! that group in the log.

use crate::api::Step;
use crate::engine::prints::Print;
use crate::engine::{Core, Owner, Piece, Queue, Stage, NONE, SEGS};
use crate::fast::Mode;
use crate::mutants::Mutant;
use crate::platform::Platform;

/// First stage of a moment.
pub(crate) const MOMENT: u8 = 200;

impl<P: Platform> Core<P> {
    /// Takes the turn for a moment; false if the task waits for it.
    pub(crate) fn take_moment(&mut self, t: u32) -> bool {
        if self.lifecycle.moment == NONE {
            self.lifecycle.moment = t;
        }
        if self.lifecycle.moment != t {
            self.queue_in(t, |core| &mut core.lifecycle.moment_waiters);
            return false;
        }
        true
    }

    /// Ends the task's turn and its holds, if it has them.
    pub(crate) fn end_moment(&mut self, t: u32) {
        if self.lifecycle.moment != t {
            return;
        }
        self.lifecycle.moment = NONE;
        self.lifecycle.draining = 0;
        for v in 0..self.vols.top() {
            if self.vols.at(v).hold {
                self.unhold(v);
            }
        }
        let mut waiters = core::mem::take(&mut self.lifecycle.moment_waiters);
        self.wake_all(&mut waiters);
        self.make_space();
    }

    /// Holds a volume for the moment.
    pub(crate) fn hold(&mut self, v: u32) {
        let drains = !self.mutant(Mutant::NoDrain);
        let vol = self.vols.at_mut(v);
        if vol.hold {
            return;
        }
        vol.hold = true;
        if let Some(fast) = &vol.fast {
            if drains {
                fast.drain(Mode::Slow, vol.newest);
            } else {
                fast.set(Mode::Slow, vol.newest);
            }
        }
    }

    fn unhold(&mut self, v: u32) {
        self.vols.at_mut(v).hold = false;
        self.set_mode(v);
        let mut held: Queue = core::mem::take(&mut self.vols.at_mut(v).held);
        self.wake_all(&mut held);
    }

    /// Routes a production's requests as its state asks for.
    pub(crate) fn set_mode(&mut self, v: u32) {
        let vol = self.vols.at(v);
        let Some(fast) = &vol.fast else { return };
        let mode = if vol.hold || !vol.live {
            Mode::Slow
        } else if vol.redirect.is_some() {
            Mode::Restore
        } else if vol.newest.0 == 0 && vol.print == Print::Void {
            Mode::Free
        } else {
            Mode::Copy
        };
        fast.set(mode, vol.newest);
    }

    /// Goes on with the moment of `t`, whose volumes are held; true when the moment is there.
    ///
    /// The caller's stage is `Step(MOMENT + n)` meanwhile.
    pub(crate) fn at_moment(&mut self, t: u32) -> bool {
        match self.tasks.at(t).stage {
            Stage::Step(202) => true,
            _ => {
                self.tasks.at_mut(t).stage = Stage::Step(MOMENT);
                self.lifecycle.draining = 1;
                if self.drained() {
                    self.lifecycle.draining = 0;
                    self.flush_devices(t);
                }
                false
            }
        }
    }

    /// Whether nothing is under way on the held volumes.
    fn drained(&self) -> bool {
        (0..self.vols.top()).all(|v| {
            let vol = self.vols.at(v);
            let passed = vol.fast.as_ref().is_none_or(|fast| fast.drained());
            !vol.hold || (self.mutant(Mutant::NoDrain) || (passed && vol.writes == 0))
        })
    }

    /// Something that a moment may wait for has ended.
    pub(crate) fn look_at_drains(&mut self) {
        let t = self.lifecycle.moment;
        if t != NONE && self.drained() {
            self.lifecycle.draining = 0;
            self.ready(t);
        }
    }

    /// Flushes the production devices, and meanwhile runs a round: neither has to wait for the
    /// other, and the moment is there when both are over.
    fn flush_devices(&mut self, t: u32) {
        for v in 0..self.vols.top() {
            let vol = self.vols.at(v);
            let here = vol.hold && !vol.clone && vol.fast.is_some();
            let (dev, wanted) = (vol.dev, here && vol.volatile);
            if wanted && !self.mutant(Mutant::SnapshotNoFlush) {
                let step = Step::Flush { dev };
                self.open_step(Owner::Task(t), step, [Piece::None; SEGS], 0);
            }
        }
        self.join_round(t);
    }

    fn join_round(&mut self, t: u32) {
        if self.mutant(Mutant::SnapshotNoPending) {
            self.tasks.at_mut(t).stage = Stage::Step(202);
            return self.ready(t);
        }
        self.join_flush(t);
        self.tasks.at_mut(t).stage = Stage::Step(202);
    }
}
