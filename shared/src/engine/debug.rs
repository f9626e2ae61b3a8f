// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What is under way, for a person who looks for what hangs.

use core::fmt;

use crate::engine::{Core, Job};
use crate::platform::Platform;

impl<P: Platform> Core<P> {
    fn fmt_tasks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for t in 0..self.tasks.len() {
            let task = self.tasks.at(t);
            if task.job == Job::Free {
                continue;
            }
            writeln!(
                f,
                "task {t}: {:?} {:?} queued {} io {} word {} mask {:x} need {:x} fault {:?} \
                 pos {} locks {} {} share {} view {} walker {}",
                task.job,
                task.stage,
                task.queued,
                task.io,
                task.word.0,
                task.mask,
                task.need,
                task.fault,
                task.pos.0,
                task.lock,
                task.lock_new,
                task.share,
                task.view,
                task.walker,
            )?;
        }
        Ok(())
    }
}

impl<P: Platform> fmt::Debug for Core<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_tasks(f)?;
        writeln!(
            f,
            "commit {:?} wanted {} io {} upto {} durable {}  \
             log start {} head {} written {} free {}",
            self.commit.phase,
            self.commit.wanted,
            self.commit.io,
            self.commit.upto.0,
            self.commit.durable.0,
            self.log.start().0,
            self.log.head().0,
            self.log.written().0,
            self.log.free_blocks(),
        )?;
        writeln!(f, "recovery {:?}", self.opening.recovery.end())?;
        writeln!(
            f,
            "flush {:?} wanted {}  fresh {} pending {} active {} room {}  \
             checkpoint {:?} wanted {}",
            self.flush.round,
            self.flush.wanted,
            self.layers.fresh.len(),
            self.layers.pending.len(),
            self.layers.active.len(),
            self.layers.active.room(),
            self.checkpoint.phase,
            self.checkpoint.wanted,
        )?;
        writeln!(
            f,
            "slots used {} of {}  meta used {} of {}  slot io {:?}  fenced {:?}  full {} freed {}  \
             moment {} draining {}  steps open {}  closing {}",
            self.slots.used(),
            self.slots.count(),
            self.meta.used(),
            self.meta.pages(),
            self.slot_io,
            self.fenced,
            self.space.full,
            self.space.freed,
            self.lifecycle.moment,
            self.lifecycle.draining,
            self.steps.opened(),
            self.closing,
        )
    }
}
