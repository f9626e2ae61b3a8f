// SPDX-License-Identifier: MIT

//! The I/O of parts on disks, and what to do when it fails.

use std::io;

use rwsnap_core::api::{Op, Request};
use rwsnap_core::fast::Route;
use rwsnap_core::fault::Fault;

use crate::nbd::{Command, NbdError};
use crate::uring::Hollow;

use super::cookie::Cookie;
use super::pool::disk_of;
use super::reactor::Reactor;
use super::token::Token;
use super::volume::Volume;
use super::work::{Doing, Failure, Part, Via};

/// A disk has failed.
const FAILED: Failure = Failure::new(NbdError::Io, "a disk failed: see the server's log");

/// What follows the end of an operation.
enum Next {
    /// The part is over.
    Over(Result<(), Failure>),
    /// The rest of it, or once more.
    Again,
    /// Another way.
    Instead(Doing),
}

impl Reactor {
    /// Starts a part's I/O, whichever way it goes.
    pub(super) fn start(&mut self, number: u32, doing: Doing) {
        let Some(part) = self.parts.get(number) else { return };
        let Some(work) = self.works.get(part.work) else { return };
        let via = self.route(work.conn, doing, part.at, part.len);
        self.start_via(number, doing, via);
    }

    /// Which way I/O on a connection's volume goes.
    pub(super) fn route(&self, id: u32, doing: Doing, at: u64, len: u32) -> Via {
        match self.conns.get(id).and_then(|conn| conn.volume.as_ref()) {
            Some(Volume::Bare { disk }) => Via::Disk(*disk),
            Some(Volume::Pooled { fast: Some(fast), .. }) => {
                match fast.route(self.cpu(), op(doing, false), at, len) {
                    Route::Pass(pass) => Via::Passed(disk_of(pass.dev), pass.token),
                    Route::Slow => Via::Core,
                }
            }
            _ => Via::Core,
        }
    }

    /// Starts a part's I/O on the way that was found for it.
    pub(super) fn start_via(&mut self, number: u32, doing: Doing, via: Via) {
        let Some(part) = self.parts.get_mut(number) else { return };
        part.doing = doing;
        part.via = via;
        match via {
            Via::Core => self.request(number),
            Via::Disk(_) | Via::Passed(..) => self.submit(number),
        }
    }

    /// Puts a part on the desk, as a request for the core.
    fn request(&mut self, number: u32) {
        let Some(part) = self.parts.get(number) else { return };
        let Some(work) = self.works.get(part.work) else { return };
        let volume = self.conns.get(work.conn).and_then(|conn| conn.volume.as_ref());
        let Some(Volume::Pooled { handle, fast, .. }) = volume else {
            return self.over(number, Err(FAILED));
        };
        // What a production's snapshots need is copied first: that is not fast.
        let fast =
            fast.is_some() && matches!(work.request.command, Command::Zero { fast: true, .. });
        if fast && part.doing != Doing::Flush {
            return self.over(number, Err(Failure::new(NbdError::NotSup, "it would not be fast")));
        }
        let cookie = Cookie::new(self.id, number, part.buffer).pack();
        let op = op(part.doing, self.is_durable(part));
        let request = Request { volume: *handle, op, at: part.at, len: part.len, cookie };
        self.desk.requests.push(request);
    }

    /// The core is done with a request.
    pub(super) fn request_over(&mut self, number: u32, outcome: Result<(), Fault>) {
        self.over(number, outcome.map_err(Failure::from));
    }

    fn submit(&mut self, number: u32) {
        let Some(part) = self.parts.get(number) else { return };
        let (Via::Disk(number_of_disk) | Via::Passed(number_of_disk, _)) = part.via else { return };
        let Some(disk) = self.disk(number_of_disk) else {
            return self.over(number, Err(FAILED));
        };
        let Some(part) = self.parts.get(number) else { return };
        let token = Token::Part(number).pack();
        let at = part.at.saturating_add(u64::from(part.done));
        let range = (part.at, u64::from(part.len));
        match part.doing {
            Doing::Fill | Doing::Done => {}
            Doing::Read => self.ring.read(disk, at, part.buffer.from(part.done), token),
            Doing::Write => {
                let durable = self.is_durable(part);
                self.ring.write(disk, at, part.buffer.from(part.done), durable, token);
            }
            Doing::Trim | Doing::Punch => self.ring.hollow(disk, Hollow::Punch, range, token),
            Doing::Zero => self.ring.hollow(disk, Hollow::Zero, range, token),
            Doing::Zeros => {
                let zeros = self.zeros.cut(0, part.len.saturating_sub(part.done));
                self.ring.write(disk, at, zeros, false, token);
            }
            Doing::Flush => self.ring.flush(disk, token),
        }
    }

    /// Whether a write has to be durable by itself.
    fn is_durable(&self, part: &Part) -> bool {
        self.works.get(part.work).is_some_and(|work| {
            let fua = matches!(work.request.command, Command::Write { fua: true });
            fua && work.request.len == part.len
        })
    }

    /// An operation of a part has ended.
    pub(super) fn part_ended(&mut self, number: u32, result: io::Result<u32>) {
        let Some(part) = self.parts.get_mut(number) else { return };
        let next = match result {
            Ok(count) => part.advance(count),
            Err(error) => self.failed(number, &error),
        };
        match next {
            Next::Again => self.submit(number),
            Next::Instead(doing) => self.instead(number, doing),
            Next::Over(result) => self.over(number, result),
        }
    }

    /// Another way for a part that has its route already.
    fn instead(&mut self, number: u32, doing: Doing) {
        if let Some(part) = self.parts.get_mut(number) {
            part.doing = doing;
        }
        self.submit(number);
    }

    fn failed(&mut self, number: u32, error: &io::Error) -> Next {
        let Some(part) = self.parts.get(number) else { return Next::Over(Err(FAILED)) };
        let command = self.works.get(part.work).map(|work| work.request.command);
        let fast = matches!(command, Some(Command::Zero { fast: true, .. }));
        match (part.doing, error.raw_os_error()) {
            (_, Some(libc::EINTR | libc::EAGAIN)) => return Next::Again,
            // A trim is advice.
            (Doing::Trim, Some(libc::EOPNOTSUPP)) => return Next::Over(Ok(())),
            (Doing::Punch, Some(libc::EOPNOTSUPP)) => return Next::Instead(Doing::Zero),
            (Doing::Zero, Some(libc::EOPNOTSUPP)) if fast => {
                return Next::Over(Err(Failure::new(NbdError::NotSup, "it would not be fast")));
            }
            (Doing::Zero, Some(libc::EOPNOTSUPP)) => return Next::Instead(Doing::Zeros),
            _ => {}
        }
        let disk = match part.via {
            Via::Disk(number) | Via::Passed(number, _) => self.shared.disks.get(number),
            Via::Core => None,
        };
        let disk = disk.as_ref().map_or("?".into(), |disk| disk.path().to_string_lossy());
        tracing::error!(%disk, doing = ?part.doing, at = part.at, len = part.len, %error, "I/O");
        Next::Over(Err(match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Failure::new(NbdError::NoSpc, "the disk is full"),
            Some(libc::ENOMEM) => Failure::new(NbdError::NoMem, "the server is out of memory"),
            _ => FAILED,
        }))
    }

    /// A part is over: its request may be, too.
    fn over(&mut self, number: u32, result: Result<(), Failure>) {
        let Some(part) = self.parts.get_mut(number) else { return };
        let (of, via) = (part.work, part.via);
        part.doing = Doing::Done;
        self.leave_guard(of, via);
        let Some(work) = self.works.get_mut(of) else { return };
        work.running = work.running.saturating_sub(1);
        if let Err(error) = result {
            work.error.get_or_insert(error);
        }
        let conn = work.conn;
        // The data of a read stays until it is sent.
        if work.request.command != Command::Read {
            self.discard(number);
        }
        self.touch(conn);
        self.settle(of);
    }
}

impl Reactor {
    /// The I/O of a request that passed is complete.
    pub(super) fn leave_guard(&mut self, work: u32, via: Via) {
        let (Via::Passed(_, token), Some(work)) = (via, self.works.get(work)) else { return };
        let volume = self.conns.get(work.conn).and_then(|conn| conn.volume.as_ref());
        if let Some(Volume::Pooled { fast: Some(fast), .. }) = volume {
            self.desk.kick |= fast.leave(self.cpu(), token);
        }
    }

    /// This reactor, as the core tells CPUs apart.
    fn cpu(&self) -> u32 {
        u32::try_from(self.id).unwrap_or(0)
    }
}

/// What the core calls it.
fn op(doing: Doing, fua: bool) -> Op {
    match doing {
        Doing::Fill | Doing::Read | Doing::Done => Op::Read,
        Doing::Write => Op::Write { fua },
        Doing::Trim => Op::Discard,
        Doing::Punch | Doing::Zero | Doing::Zeros => Op::Zero { fua },
        Doing::Flush => Op::Flush,
    }
}

impl Part {
    /// So many more bytes are done.
    fn advance(&mut self, count: u32) -> Next {
        if !matches!(self.doing, Doing::Read | Doing::Write | Doing::Zeros) {
            return Next::Over(Ok(()));
        }
        self.done = self.done.saturating_add(count);
        match count {
            _ if self.done >= self.len => Next::Over(Ok(())),
            // The file is shorter than it was.
            0 => Next::Over(Err(FAILED)),
            _ => Next::Again,
        }
    }
}
