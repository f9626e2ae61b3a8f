// SPDX-License-Identifier: GPL-2.0-only

//! Detaching a pool: its disks go, then its productions' fingerprints are taken and its core is
//! closed, then the worker comes to its end.

use kernel::{
    prelude::*,
    sync::{
        atomic::Acquire,
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use rwsnap_core::{
    control::{
        NameRow,
        Refusal, //
    },
    fault::Fault,
    units::Dev, //
};

use super::{
    flag,
    open::print,
    Pool, //
};
use crate::{
    control::refused::Refused,
    mem::Core, //
};

/// How often to look whether those who only look at a device (udev) have closed it.
const LOOKS: u32 = 100;

impl Pool {
    /// Detaches the pool. Nothing changes if it is refused.
    ///
    /// # Errors
    ///
    /// Somebody has one of its devices open: they are named. A pool that could not be closed in
    /// order is detached all the same, and recovered when it is next opened.
    pub(crate) fn detach(self: &Arc<Self>) -> Result<(), Refused> {
        let _changing = self.changing.lock();
        if !self.is_running() {
            return Err(Refused::because(Refusal::NotFound));
        }
        self.retire_disks()?;
        self.remove_disks();
        let closed = self.close_core();
        self.abandon();
        if let Err(fault) = closed {
            self.with_title(|title| {
                pr_warn!(
                    "{}: not closed in order ({fault:?}); the next opening recovers it\n",
                    crate::text::shown(title)
                );
            });
        }
        Ok(())
    }

    /// From now on nobody opens a disk of the pool, or it is refused.
    fn retire_disks(&self) -> Result<(), Refused> {
        for look in 1..=LOOKS {
            let disks = self.all_disks()?;
            let mut open = KVec::with_capacity(disks.len(), GFP_KERNEL)?;
            for disk in disks.iter().filter(|disk| !disk.retire()) {
                let _ = open.push_within_capacity(NameRow {
                    name: disk.face().name,
                    frees: 0.into(),
                });
            }
            if open.is_empty() {
                return Ok(());
            }
            disks.iter().for_each(|disk| disk.reinstate());
            if look == LOOKS {
                return Err(Refused::blocked(Refusal::OpenForWriting, open));
            }
            fsleep(Delta::from_millis(10));
        }
        Ok(())
    }

    /// A production's fingerprint says what it held when the pool was closed: it is taken while
    /// nothing changes it, a merge least of all, and then the core is told.
    fn close_core(self: &Arc<Self>) -> Result<(), Fault> {
        // Nobody makes room any more for what waits for it.
        let _ = self.with_core(Core::wait_no_more);
        self.bench.lock().paused = true;
        while self.bench.lock().changes_production() {
            self.as_arc_borrow().kick();
            fsleep(Delta::from_millis(1));
        }
        self.take_fingerprints();
        let _ = self.with_core(Core::close);
        self.bench.lock().paused = false;
        self.as_arc_borrow().wake(flag::POKE);
        self.wait(|core| core.closed())
            .unwrap_or(Err(Fault::Fenced))
    }

    fn take_fingerprints(&self) {
        let count = self.lowers.lock().len();
        for number in 1..count {
            let Some(lower) = self.lower(number) else {
                continue;
            };
            let Ok(dev) = u16::try_from(number).map(Dev) else {
                continue;
            };
            let size = lower.device().size;
            match lower.flush().and_then(|()| print(&lower, size)) {
                Ok(print) => {
                    let _ = self.with_core(|core| core.set_fingerprint(dev, print));
                }
                Err(why) => pr_warn!("production {number} has no fingerprint: {why:?}\n"),
            }
        }
    }

    /// Takes no more steps of the core, and waits until none and no request is under way: the core
    /// can go, whatever it still wanted. The pool stays paused.
    pub(super) fn wait_idle(self: &Arc<Self>) {
        self.bench.lock().paused = true;
        while !self.bench.lock().is_idle() || self.cells.any() {
            self.as_arc_borrow().kick();
            fsleep(Delta::from_millis(1));
        }
        self.bench.lock().forget_steps();
    }

    /// Stops the worker and lets the core go; the devices follow when the last reference is gone.
    pub(super) fn abandon(self: &Arc<Self>) {
        self.remove_disks();
        self.wait_idle();
        self.set_running(false);
        // A timer cannot be called back, but it does not come again.
        while self.ticking.load(Acquire) {
            fsleep(Delta::from_millis(5));
        }
        *self.core.lock() = None;
        // Whoever waits for a command is told; it is the worker who does it, in its last turn.
        self.as_arc_borrow().kick();
        // Bios that have ended may still be in their last lines: this waits for them as well.
        self.queue.close();
        self.unset_lowers();
    }
}
