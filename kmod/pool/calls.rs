// SPDX-License-Identifier: GPL-2.0-only

//! Commands on their way through the core, and those who wait for the replies.

use kernel::{
    new_condvar,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        CondVar,
        Mutex, //
    }, //
};

use super::{
    bench::Bench,
    Pool, //
};
use crate::mem::Core;

/// The cookies of commands have this bit; those of requests have not.
pub(super) const COOKIES: u64 = 1 << 63;

/// Bytes of a reply of the core at most.
const REPLY_MAX: usize = 64 << 10;

/// Commands that wait for the worker at once, at most.
pub(super) const WAITING: usize = 16;

enum State {
    Waits,
    Replied,
    Abandoned(Error),
}

struct Inner {
    state: State,
    reply: KVVec<u8>,
}

/// A command, and the room for its reply.
#[pin_data]
pub(crate) struct Call {
    command: KVVec<u8>,
    #[pin]
    inner: Mutex<Inner>,
    #[pin]
    done: CondVar,
}

impl Call {
    /// For this command: `control::Command` and what stands behind it.
    ///
    /// # Errors
    ///
    /// No memory.
    pub(crate) fn new(command: KVVec<u8>) -> Result<Arc<Self>> {
        let reply = KVVec::with_capacity(REPLY_MAX, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                command,
                inner <- new_mutex!(Inner { state: State::Waits, reply }, "rwsnap_call"),
                done <- new_condvar!("rwsnap_call"),
            }),
            GFP_KERNEL,
        )
    }

    /// Its bytes.
    pub(super) fn command(&self) -> &[u8] {
        &self.command
    }

    /// It will not be carried out.
    pub(super) fn abandon(&self, why: Error) {
        self.inner.lock().state = State::Abandoned(why);
        self.done.notify_all();
    }

    fn answer(&self, core: &mut Core, cookie: u64) {
        let mut inner = self.inner.lock();
        core.reply(cookie, &mut |bytes| {
            // No reply of the core's is longer than the room that was made for it.
            let room = inner.reply.capacity().saturating_sub(inner.reply.len());
            let fits = bytes.get(..bytes.len().min(room)).unwrap_or_default();
            let _ = inner.reply.extend_from_slice(fits, GFP_KERNEL);
        });
        inner.state = State::Replied;
        self.done.notify_all();
    }

    /// Waits for the reply.
    ///
    /// # Errors
    ///
    /// `EINTR` if a signal comes first and `may_leave` (the command may still be carried out), or
    /// why it was not carried out.
    fn reply(&self, may_leave: bool) -> Result<KVVec<u8>> {
        let mut inner = self.inner.lock();
        loop {
            match &inner.state {
                State::Replied => {
                    let empty = KVVec::new();
                    return Ok(core::mem::replace(&mut inner.reply, empty));
                }
                State::Abandoned(why) => return Err(*why),
                State::Waits => {}
            }
            if !may_leave {
                self.done.wait(&mut inner);
            } else if self.done.wait_interruptible(&mut inner) {
                return Err(EINTR);
            }
        }
    }
}

impl Bench {
    /// The core has replied to a command.
    pub(super) fn replied(&mut self, core: &mut Core, cookie: u64) {
        let at = (cookie & !COOKIES) as usize;
        match self.called.get_mut(at).and_then(Option::take) {
            Some(call) => call.answer(core, cookie),
            None => core.reply(cookie, &mut |_| {}),
        }
        // Whoever found no place may have this one.
        self.woken |= self.waiting.len() > 0;
    }

    /// The pool is closed: nothing that waits will be done.
    pub(super) fn refuse_all(&mut self) {
        while let Some(call) = self.waiting.pop() {
            call.abandon(ENODEV);
        }
        for call in self.called.iter_mut().filter_map(Option::take) {
            call.abandon(ENODEV);
        }
    }
}

impl Pool {
    /// Carries out a command of the core's and gives its reply.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the pool is closed, `EBUSY` if too many wait, `EINTR`, `ENOMEM`.
    pub(crate) fn call(self: &Arc<Self>, command: KVVec<u8>) -> Result<KVVec<u8>> {
        self.hand_over(command)?.reply(true)
    }

    /// As `call`, but a signal does not end it: for what has to be known before it goes on, such as
    /// whether a volume is gone.
    ///
    /// # Errors
    ///
    /// As `call`'s, but for `EINTR`.
    pub(crate) fn call_to_the_end(self: &Arc<Self>, command: KVVec<u8>) -> Result<KVVec<u8>> {
        self.hand_over(command)?.reply(false)
    }

    fn hand_over(self: &Arc<Self>, command: KVVec<u8>) -> Result<Arc<Call>> {
        let call = Call::new(command)?;
        let mut calls = self.calls.lock();
        // Looked at under the lock: what comes before the worker's last turn is refused there.
        if !self.is_running() {
            return Err(ENODEV);
        }
        calls
            .push_within_capacity(call.clone())
            .map_err(|_| EBUSY)?;
        drop(calls);
        self.as_arc_borrow().wake(super::flag::POKE);
        Ok(call)
    }
}
