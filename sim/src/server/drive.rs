// SPDX-License-Identifier: MIT

//! The core's driver: one visit under its lock at the end of a turn hands in all that has come up
//! and takes all that is to be done.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use rwsnap_core::api::{Done, Request, Step, StepId, Submit};
use rwsnap_core::fault::Fault;

use crate::store::engine::Engine;
use crate::store::offline::now_ns;

use super::cookie::Cookie;
use super::news;
use super::pool::Pool;
use super::reactor::Reactor;
use super::shared::Message;
use super::steps::{Prepared, Run};

/// What a reactor has for the core, and has from it.
#[derive(Default)]
pub(crate) struct Desk {
    /// Requests to be handed in.
    pub(super) requests: Vec<Request>,
    /// Commands to be handed in: the cookie and the bytes.
    pub(super) commands: Vec<(u64, Vec<u8>)>,
    /// Requests and commands that found no room.
    refused: Vec<Request>,
    refused_commands: Vec<(u64, Vec<u8>)>,
    /// Steps for which there was no memory.
    later: VecDeque<(StepId, Step)>,
    /// Steps to be started.
    prepared: Vec<u32>,
    /// Requests that are done.
    finished: Vec<(u64, Result<(), Fault>)>,
    /// Commands that are done.
    replies: Vec<(u64, Vec<u8>)>,
    /// A passed request left, and somebody waits for that.
    pub(super) kick: bool,
    /// Show the core the clock.
    pub(super) tick: bool,
    /// The last of the pool's events that is in the log.
    told: u64,
    /// There is room again.
    woken: bool,
    /// Drain the core, whatever else there is.
    pub(super) poke: bool,
    /// The core has work in the background; and it may go on with that.
    pub(super) behind: bool,
    pub(super) resume: bool,
}

impl Desk {
    /// For the log: requests refused, commands refused, steps without memory.
    pub(super) fn waiting(&self) -> (usize, usize, usize) {
        (self.refused.len(), self.refused_commands.len(), self.later.len())
    }

    fn is_idle(&self) -> bool {
        self.requests.is_empty()
            && self.commands.is_empty()
            && !(self.kick || self.tick || self.woken || self.poke || self.resume)
    }
}

impl Reactor {
    /// Visits the core, if there is anything to be said; true if that led to anything.
    pub(super) fn drive(&mut self) -> bool {
        let Some(pool) = self.shared.pool.clone() else { return false };
        self.desk.poke |= pool.was_poked();
        if self.desk.is_idle() && self.ended.is_empty() {
            return false;
        }
        {
            let mut core = pool.core();
            self.report(&pool, core.as_mut());
            self.hand_in(core.as_mut());
            if !pool.paused.load(Ordering::SeqCst) {
                self.take_steps(&pool, core.as_mut());
                self.desk.behind = core.is_behind();
            }
        }
        self.pass_on();
        true
    }

    /// Tells the core what has happened.
    fn report(&mut self, pool: &Pool, core: &mut dyn Engine) {
        let ended = std::mem::take(&mut self.ended);
        for &number in &ended {
            let Some(run) = self.runs.remove(number) else { continue };
            let found = run.found();
            self.scratch.resize(usize::try_from(found.len()).unwrap_or(0), 0);
            let bytes = self.arena.read(found, &mut self.scratch);
            let done = match run.result {
                Ok(()) => Done { result: Ok(()), bytes, sums: &run.sums },
                Err(fault) => Done::failed(fault),
            };
            core.complete(run.id(), &done);
            if run.changes_production() {
                pool.writing.fetch_sub(1, Ordering::SeqCst);
            }
            self.give_bounce(&run);
        }
        self.ended = ended;
        self.ended.clear();
        if std::mem::take(&mut self.desk.kick) {
            core.kick();
        }
        if std::mem::take(&mut self.desk.tick) {
            core.tick(now_ns());
            self.desk.told = news::tell(core, self.desk.told);
        }
        if std::mem::take(&mut self.desk.resume) {
            core.resume();
        }
        self.desk.poke = false;
    }

    /// Hands requests and commands in.
    fn hand_in(&mut self, core: &mut dyn Engine) {
        let desk = &mut self.desk;
        if std::mem::take(&mut desk.woken) {
            desk.requests.append(&mut desk.refused);
            desk.commands.append(&mut desk.refused_commands);
        }
        for request in desk.requests.drain(..) {
            if core.submit(&request) == Submit::Busy {
                desk.refused.push(request);
            }
        }
        for (cookie, bytes) in desk.commands.drain(..) {
            if core.command(cookie, &bytes) == Submit::Busy {
                desk.refused_commands.push((cookie, bytes));
            }
        }
    }

    /// Takes what the core wants done.
    fn take_steps(&mut self, pool: &Pool, core: &mut dyn Engine) {
        let mut later = std::mem::take(&mut self.desk.later);
        for (id, step) in later.drain(..) {
            self.take_step(pool, core, id, step);
        }
        loop {
            while let Some((id, step)) = core.poll() {
                self.take_step(pool, core, id, step);
            }
            if !self.desk.woken {
                return;
            }
            self.announce_room();
            self.hand_in(core);
        }
    }

    fn take_step(&mut self, pool: &Pool, core: &mut dyn Engine, id: StepId, step: Step) {
        match step {
            Step::Finish { cookie, outcome } => self.desk.finished.push((cookie, outcome)),
            Step::Reply { cookie } => self.desk.replies.push((cookie, core.reply(cookie))),
            Step::Wake => self.desk.woken = true,
            step => match self.prepare(pool, core, id, step) {
                Prepared::Run(run) => self.note(pool, run),
                Prepared::Later => self.desk.later.push_back((id, step)),
                Prepared::Done(Ok(())) => core.complete(id, &Done::ok()),
                Prepared::Done(Err(fault)) => core.complete(id, &Done::failed(fault)),
            },
        }
    }

    fn note(&mut self, pool: &Pool, run: Run) {
        if run.changes_production() {
            pool.writing.fetch_add(1, Ordering::SeqCst);
        }
        let number = self.runs.insert(run);
        self.desk.prepared.push(number);
    }

    /// The other reactors may have requests that found no room.
    fn announce_room(&self) {
        let inboxes = self.shared.inboxes.iter().enumerate();
        inboxes.filter(|(id, _)| *id != self.id).for_each(|(_, inbox)| inbox.send(Message::Room));
    }

    /// Starts steps, and hands results to those that wait for them.
    fn pass_on(&mut self) {
        let mut prepared = std::mem::take(&mut self.desk.prepared);
        prepared.drain(..).for_each(|number| self.carry_out(number));
        self.desk.prepared = prepared;
        let mut finished = std::mem::take(&mut self.desk.finished);
        for (cookie, outcome) in finished.drain(..) {
            let cookie = Cookie::unpack(cookie);
            if cookie.reactor == self.id {
                self.request_over(cookie.number, outcome);
            } else if let Some(inbox) = self.shared.inboxes.get(cookie.reactor) {
                inbox.send(Message::Finished(cookie.number, outcome));
            }
        }
        self.desk.finished = finished;
        for (cookie, reply) in std::mem::take(&mut self.desk.replies) {
            let cookie = Cookie::unpack(cookie);
            if cookie.reactor == self.id {
                self.replied(cookie.number, &reply);
            } else if let Some(inbox) = self.shared.inboxes.get(cookie.reactor) {
                inbox.send(Message::Replied(cookie.number, reply));
            }
        }
    }

    /// There is room again for what the core refused.
    pub(super) fn room(&mut self) {
        let desk = &mut self.desk;
        desk.woken = !(desk.refused.is_empty() && desk.refused_commands.is_empty());
    }

    /// The core, for questions that change nothing.
    pub(super) fn pool(&self) -> Option<Arc<Pool>> {
        self.shared.pool.clone()
    }
}
