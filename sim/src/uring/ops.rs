// SPDX-License-Identifier: MIT

//! The operations: each names its memory by spans of the arena, and its end by a token.

use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{self, FsyncFlags};

use super::arena::Span;
use super::ring::{File, Ring, ACCEPT};

/// Calls a builder with the kind of file at hand.
macro_rules! on {
    ($file:expr, |$fd:ident| $build:expr) => {
        match $file {
            File::Fd(raw) => {
                let $fd = types::Fd(raw);
                $build.build()
            }
            File::Slot(slot) => {
                let $fd = types::Fixed(slot);
                $build.build()
            }
        }
    };
}

/// How a range is taken out of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hollow {
    /// A hole, which reads as zeros; may fail where it is not possible.
    Punch,
    /// Zeros without giving up the space.
    Zero,
}

impl Ring {
    fn queue(&mut self, entry: Entry, token: u64) {
        self.push(entry.user_data(token));
    }

    /// Reads into `span`.
    pub fn read(&mut self, file: File, at: u64, span: Span, token: u64) {
        let address = self.arena.address(span);
        let entry = if self.features().fixed_buffers && self.arena.is_fixed(span) {
            on!(file, |fd| opcode::ReadFixed::new(fd, address, span.len(), 0).offset(at))
        } else {
            on!(file, |fd| opcode::Read::new(fd, address, span.len()).offset(at))
        };
        self.queue(entry, token);
    }

    /// Writes `span`; with `durable`, as if a flush of just these bytes followed.
    pub fn write(&mut self, file: File, at: u64, span: Span, durable: bool, token: u64) {
        let address = self.arena.address(span).cast_const();
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        let entry = if self.features().fixed_buffers && self.arena.is_fixed(span) {
            on!(file, |fd| opcode::WriteFixed::new(fd, address, span.len(), 0)
                .offset(at)
                .rw_flags(flags))
        } else {
            on!(file, |fd| opcode::Write::new(fd, address, span.len()).offset(at).rw_flags(flags))
        };
        self.queue(entry, token);
    }

    /// Reads into all of `spans`, in order; `area` holds their vector until the end.
    ///
    /// # Panics
    ///
    /// If the vector does not fit into `area` (16 bytes a span).
    pub fn read_vector(&mut self, file: File, at: u64, spans: &[Span], area: Span, token: u64) {
        let count = self.vector(spans, area);
        let vector = self.arena.address(area).cast::<libc::iovec>().cast_const();
        let entry = if self.vectors_are_fixed(spans) {
            on!(file, |fd| opcode::ReadvFixed::new(fd, vector, count, 0).offset(at))
        } else {
            on!(file, |fd| opcode::Readv::new(fd, vector, count).offset(at))
        };
        self.queue(entry, token);
    }

    /// Writes all of `spans`, in order; `area` holds their vector until the end.
    ///
    /// # Panics
    ///
    /// If the vector does not fit into `area` (16 bytes a span).
    pub fn write_vector(
        &mut self,
        (file, at): (File, u64),
        spans: &[Span],
        area: Span,
        durable: bool,
        token: u64,
    ) {
        let count = self.vector(spans, area);
        let vector = self.arena.address(area).cast::<libc::iovec>().cast_const();
        let flags = if durable { libc::RWF_DSYNC } else { 0 };
        let entry = if self.vectors_are_fixed(spans) {
            on!(file, |fd| opcode::WritevFixed::new(fd, vector, count, 0)
                .offset(at)
                .rw_flags(flags))
        } else {
            on!(file, |fd| opcode::Writev::new(fd, vector, count).offset(at).rw_flags(flags))
        };
        self.queue(entry, token);
    }

    fn vector(&self, spans: &[Span], area: Span) -> u32 {
        let count = self.arena.put_vector(area, spans);
        assert!(count == spans.len(), "an io vector without room");
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn vectors_are_fixed(&self, spans: &[Span]) -> bool {
        self.features().fixed_vectors && spans.iter().all(|&span| self.arena.is_fixed(span))
    }

    /// Makes all that was written durable.
    pub fn flush(&mut self, file: File, token: u64) {
        if let Some(area) = self.flush_delay {
            let time = self.arena.address(area).cast::<types::Timespec>().cast_const();
            let wait = opcode::Timeout::new(time).flags(types::TimeoutFlags::ETIME_SUCCESS);
            // Linked to what follows. Apart from it, if they are not submitted together, it would
            // delay nothing, and nothing depends on it.
            self.queue(wait.build().flags(Flags::IO_LINK), 0);
        }
        let entry = on!(file, |fd| opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC));
        self.queue(entry, token);
    }

    /// Makes a range read as zeros.
    pub fn hollow(&mut self, file: File, how: Hollow, (at, len): (u64, u64), token: u64) {
        let mode = libc::FALLOC_FL_KEEP_SIZE
            | match how {
                Hollow::Punch => libc::FALLOC_FL_PUNCH_HOLE,
                Hollow::Zero => libc::FALLOC_FL_ZERO_RANGE,
            };
        let entry = on!(file, |fd| opcode::Fallocate::new(fd, len).offset(at).mode(mode));
        self.queue(entry, token);
    }

    /// Gives a file space, and makes it longer if the range ends beyond it.
    pub fn allocate(&mut self, file: File, (at, len): (u64, u64), token: u64) {
        let entry = on!(file, |fd| opcode::Fallocate::new(fd, len).offset(at).mode(0));
        self.queue(entry, token);
    }

    /// Receives up to `span` from a socket; with `all`, the whole of it.
    pub fn receive(&mut self, socket: File, span: Span, all: bool, token: u64) {
        let address = self.arena.address(span);
        let flags = if all { libc::MSG_WAITALL } else { 0 };
        let entry = on!(socket, |fd| opcode::Recv::new(fd, address, span.len()).flags(flags));
        self.queue(entry, token);
    }

    /// Sends all of `spans`; `area` holds the message until the end. Gives how many spans there
    /// was room for: the rest is left to the caller.
    pub fn send(&mut self, socket: File, spans: &[Span], area: Span, token: u64) -> usize {
        let (message, count) = self.arena.put_message(area, spans);
        let flags = (libc::MSG_WAITALL | libc::MSG_NOSIGNAL).unsigned_abs();
        let entry = on!(socket, |fd| opcode::SendMsg::new(fd, message).flags(flags));
        self.queue(entry, token);
        count
    }

    /// Accepts connections for good, or just one if the kernel is old.
    pub fn accept(&mut self, listener: File, token: u64) {
        let flags = libc::SOCK_CLOEXEC;
        let entry = if self.features().multishot_accept {
            on!(listener, |fd| opcode::AcceptMulti::new(fd).flags(flags))
        } else {
            let none = std::ptr::null_mut();
            on!(listener, |fd| opcode::Accept::new(fd, none, none.cast()).flags(flags))
        };
        self.queue(entry, token | ACCEPT);
    }

    /// Completes once, after `time`; `area` (16 bytes) holds it until then.
    pub fn timer(&mut self, time: Duration, area: Span, token: u64) {
        let at = self.arena.put_time(area, time);
        self.queue(opcode::Timeout::new(at).build(), token);
    }

    /// Completes on the ring of that descriptor, there under the token `there`.
    pub fn wake(&mut self, ring: RawFd, there: u64, token: u64) {
        self.queue(opcode::MsgRingData::new(types::Fd(ring), 0, there, None).build(), token);
    }

    /// Ends the accept of that token, if it is still under way: until then the socket listens,
    /// also when it was closed.
    pub fn cancel_accept(&mut self, victim: u64, token: u64) {
        self.cancel(victim | ACCEPT, token);
    }

    /// Cancels the operation of that token, if it is still under way and no accept.
    pub fn cancel(&mut self, victim: u64, token: u64) {
        self.queue(opcode::AsyncCancel::new(victim).build(), token);
    }
}
