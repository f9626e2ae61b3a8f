// SPDX-License-Identifier: MIT

//! The I/O of parts on disks, and what to do when it fails.

use std::io;

use crate::nbd::{Command, NbdError};
use crate::uring::Hollow;

use super::reactor::Reactor;
use super::token::Token;
use super::work::{Doing, Part};

/// What follows the end of an operation.
enum Next {
    /// The part is over.
    Over(Result<(), NbdError>),
    /// The rest of it, or once more.
    Again,
    /// Another way.
    Instead(Doing),
}

impl Reactor {
    /// Starts a part's I/O.
    pub(super) fn start(&mut self, number: u32, doing: Doing) {
        if let Some(part) = self.parts.get_mut(number) {
            part.doing = doing;
        }
        self.submit(number);
    }

    fn submit(&mut self, number: u32) {
        let Some(part) = self.parts.get(number) else { return };
        let Some(&disk) = self.disks.get(part.disk) else { return };
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
            Next::Instead(doing) => self.start(number, doing),
            Next::Over(result) => self.over(number, result),
        }
    }

    fn failed(&mut self, number: u32, error: &io::Error) -> Next {
        let Some(part) = self.parts.get(number) else { return Next::Over(Err(NbdError::Io)) };
        let command = self.works.get(part.work).map(|work| work.request.command);
        let fast = matches!(command, Some(Command::Zero { fast: true, .. }));
        match (part.doing, error.raw_os_error()) {
            (_, Some(libc::EINTR | libc::EAGAIN)) => return Next::Again,
            // A trim is advice.
            (Doing::Trim, Some(libc::EOPNOTSUPP)) => return Next::Over(Ok(())),
            (Doing::Punch, Some(libc::EOPNOTSUPP)) => return Next::Instead(Doing::Zero),
            (Doing::Zero, Some(libc::EOPNOTSUPP)) if fast => {
                return Next::Over(Err(NbdError::NotSup));
            }
            (Doing::Zero, Some(libc::EOPNOTSUPP)) => return Next::Instead(Doing::Zeros),
            _ => {}
        }
        let disk = self.shared.disks.get(part.disk).map_or("?", |disk| disk.name.as_str());
        tracing::error!(disk, doing = ?part.doing, at = part.at, len = part.len, %error, "I/O");
        Next::Over(Err(match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => NbdError::NoSpc,
            Some(libc::ENOMEM) => NbdError::NoMem,
            _ => NbdError::Io,
        }))
    }

    /// A part is over: its request may be, too.
    fn over(&mut self, number: u32, result: Result<(), NbdError>) {
        let Some(part) = self.parts.get_mut(number) else { return };
        let of = part.work;
        part.doing = Doing::Done;
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
            0 => Next::Over(Err(NbdError::Io)),
            _ => Next::Again,
        }
    }
}
