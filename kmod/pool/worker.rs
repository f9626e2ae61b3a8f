// SPDX-License-Identifier: GPL-2.0-only

//! The worker's turns.

use kernel::{
    impl_has_delayed_work,
    impl_has_work,
    prelude::*,
    sync::{
        atomic::{
            Full,
            Release, //
        },
        Arc,
        ArcBorrow, //
    },
    time::msecs_to_jiffies,
    workqueue::WorkItem, //
};
use rwsnap_core::api::{
    Done,
    Step,
    StepId,
    Submit, //
};

use super::{
    bench::Bench,
    calls,
    flag,
    steps::Started,
    Pool, //
};
use crate::{
    clock,
    ffi,
    mem::Core, //
};

/// Between two looks at the clock.
const TICK_MS: u32 = 100;

/// Turns in a row, before others on this processor get one.
const TURNS: u32 = 16;

impl_has_work! {
    impl HasWork<Self, 0> for Pool { self.work }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, 1> for Pool { self.ticker }
}

impl WorkItem<0> for Pool {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let _noio = ffi::NoIo::enter();
        let mut bench = this.bench.lock();
        let mut more = true;
        for _ in 0..TURNS {
            more = this.as_arc_borrow().turn(&mut bench);
            if !more {
                break;
            }
            ffi::cond_resched();
        }
        drop(bench);
        let mut turns = this.turns.lock();
        *turns = turns.wrapping_add(1);
        drop(turns);
        this.turned.notify_all();
        if more {
            this.as_arc_borrow().kick();
        }
    }
}

impl WorkItem<1> for Pool {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        if this.is_running() {
            this.as_arc_borrow().wake(flag::TICK);
            this.tick_later();
        } else {
            this.ticking.store(false, Release);
        }
    }
}

impl Pool {
    /// The clock is looked at again after a while.
    pub(super) fn tick_later(self: Arc<Self>) {
        self.ticking.store(true, Release);
        let later = msecs_to_jiffies(TICK_MS);
        // If it is to be looked at already, once is enough. The queue is there: who closes it waits
        // until this does not come again.
        let pool = self.clone();
        let _ = self
            .queue
            .with(|queue| queue.enqueue_delayed::<Arc<Self>, 1>(pool, later));
    }

    /// One turn; true if there is more to be done at once.
    #[inline(never)]
    fn turn(self: ArcBorrow<'_, Self>, bench: &mut Bench) -> bool {
        bench.line.append(self.inbox.take());
        let flags = self.flags.xchg(0, Full);
        let mut ended = self.cells.take();
        let mut core = self.core.lock();
        let Some(core) = &mut *core else {
            bench.refuse_all();
            self.calls
                .lock()
                .drain_all()
                .for_each(|call| call.abandon(ENODEV));
            return false;
        };
        while let Some(index) = ended {
            let (next, error) = self.cells.next(index);
            self.report(bench, core, index, error);
            ended = next;
        }
        self.tell(bench, core, flags);
        self.take_calls(bench, core);
        bench.admit(core);
        self.take_steps(bench, core);
        // What is done has given back its ticket: somebody in the line may have it.
        bench.admit(core);
        self.take_steps(bench, core);
        let behind = core.is_behind() && !bench.paused;
        if behind {
            self.wake(flag::RESUME);
        }
        self.cells.any() || !self.inbox.is_empty() || bench.may_admit() || behind
    }

    #[inline(never)]
    fn tell(self: ArcBorrow<'_, Self>, bench: &mut Bench, core: &mut Core, flags: u32) {
        if flags & flag::KICK != 0 {
            core.kick();
        }
        if flags & flag::TICK != 0 {
            core.tick(clock::real_ns());
            self.tell_news(bench, core);
        }
        if flags & flag::RESUME != 0 {
            core.resume();
        }
    }

    fn take_steps(self: ArcBorrow<'_, Self>, bench: &mut Bench, core: &mut Core) {
        if bench.paused {
            return;
        }
        for _ in 0..bench.later.len() {
            let Some((id, step)) = bench.later.pop() else {
                break;
            };
            self.take_step(bench, core, id, step);
        }
        loop {
            while let Some((id, step)) = core.poll() {
                self.take_step(bench, core, id, step);
            }
            if !core::mem::take(&mut bench.woken) {
                return;
            }
            bench.admit_refused(core);
            self.recall(bench, core);
        }
    }

    fn take_step(
        self: ArcBorrow<'_, Self>,
        bench: &mut Bench,
        core: &mut Core,
        id: StepId,
        step: Step,
    ) {
        match step {
            Step::Finish { cookie, outcome } => bench.finished(core, cookie, outcome),
            Step::Reply { cookie } => bench.replied(core, cookie),
            Step::Wake => bench.woken = true,
            step => match self.start(bench, core, id, step) {
                Started::Runs => {}
                Started::Done(Ok(())) => core.complete(id, &Done::ok()),
                Started::Done(Err(fault)) => core.complete(id, &Done::failed(fault)),
                Started::Later => {
                    if bench.later.push((id, step)).is_err() {
                        core.complete(id, &Done::failed(rwsnap_core::bug!()));
                    }
                }
            },
        }
    }

    /// Hands commands in that have come.
    #[inline(never)]
    fn take_calls(self: ArcBorrow<'_, Self>, bench: &mut Bench, core: &mut Core) {
        loop {
            let Ok(call) = self.calls.lock().remove(0) else {
                return;
            };
            self.hand_in(bench, core, call);
        }
    }

    /// Hands commands in that the core had no room for.
    #[inline(never)]
    fn recall(self: ArcBorrow<'_, Self>, bench: &mut Bench, core: &mut Core) {
        for _ in 0..bench.waiting.len() {
            let Some(call) = bench.waiting.pop() else {
                return;
            };
            self.hand_in(bench, core, call);
        }
    }

    fn hand_in(&self, bench: &mut Bench, core: &mut Core, call: Arc<calls::Call>) {
        let place = bench.called.iter().position(Option::is_none);
        let cookie = place.map(|at| calls::COOKIES | at as u64);
        let taken = cookie.map(|cookie| core.command(cookie, call.command()));
        match (place.and_then(|at| bench.called.get_mut(at)), taken) {
            (Some(place), Some(Submit::Queued)) => *place = Some(call),
            _ => {
                if let Err(call) = bench.waiting.push(call) {
                    call.abandon(EBUSY);
                }
            }
        }
    }
}
