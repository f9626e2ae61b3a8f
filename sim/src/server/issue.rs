// SPDX-License-Identifier: MIT

//! From requests to I/O: a request is cut into parts, the parts get memory and are started, and
//! when all is done the request is answered.

use crate::nbd::Command;
use crate::uring::Span;

use super::reactor::Reactor;
use super::volume::Volume;
use super::work::{Doing, Part, Via, Work, PARTS_MAX, PART_MAX};

impl Reactor {
    /// Starts what a request without payload needs; true once it is under way as a whole.
    pub(super) fn issue(&mut self, id: u32, number: u32) -> bool {
        let Some(work) = self.works.get_mut(number) else { return true };
        let doing = match work.request.command {
            Command::Read => return self.issue_read(id, number),
            Command::Cache | Command::BlockStatus { .. } | Command::Write { .. } => {
                work.cursor = work.end();
                return true;
            }
            Command::Flush => {
                if let Some(part) = self.add_part(number, Span::default(), 0, Doing::Flush) {
                    self.start(part, Doing::Flush);
                }
                return true;
            }
            Command::Trim { fua } => {
                work.sync = fua;
                Doing::Trim
            }
            Command::Zero { fua, no_hole, .. } => {
                work.sync = fua;
                if no_hole {
                    Doing::Zero
                } else {
                    Doing::Punch
                }
            }
        };
        self.issue_range(id, number, doing)
    }

    /// Trims or zeroes: all at once where it goes straight to a disk, else word by word.
    fn issue_range(&mut self, id: u32, number: u32, doing: Doing) -> bool {
        while let Some(work) = self.works.get(number) {
            if work.left() == 0 {
                return true;
            }
            if work.running >= PARTS_MAX {
                return false;
            }
            let (at, left) = (work.cursor, work.left());
            let via = self.route(id, doing, at, left);
            let len = if via == Via::Core { left.min(self.to_word_end(at)) } else { left };
            let Some(part) = self.add_part(number, Span::default(), len, doing) else {
                return true;
            };
            self.start_via(part, doing, via);
        }
        true
    }

    /// A read is held until all of its data is there, so that a failure can still be told. One
    /// that is too long for that waits until it is alone, and is sent as the data comes.
    fn issue_read(&mut self, id: u32, number: u32) -> bool {
        let Some(work) = self.works.get(number) else { return true };
        let fresh = !work.streams;
        let Some(conn) = self.conns.get(id) else { return true };
        let alone = conn.requests == 1 && conn.out.is_empty();
        if fresh && self.hold(id, number) {
            return true;
        }
        if fresh && !alone {
            self.starve(id);
            return false;
        }
        let Some(work) = self.works.get_mut(number) else { return true };
        work.streams = true;
        while let Some(work) = self.works.get(number) {
            if work.left() == 0 || work.running >= PARTS_MAX {
                return false;
            }
            let left = work.left();
            let Some(part) = self.new_part(id, number, left, Doing::Read) else { return false };
            self.enqueue(number, part);
            self.start(part, Doing::Read);
        }
        true
    }

    /// Takes memory for all of a read and starts it; or takes none.
    fn hold(&mut self, id: u32, number: u32) -> bool {
        let freed = self.memory.has_freed();
        while let Some(work) = self.works.get(number) {
            if work.left() == 0 {
                break;
            }
            let len = self.part_len(id, work.cursor, work.left());
            let Some(conn) = self.conns.get_mut(id) else { return true };
            let Some(buffer) = self.memory.take(&mut conn.held, len) else {
                self.unhold(number);
                self.memory.never_mind(freed);
                return false;
            };
            if let Some(part) = self.add_part(number, buffer, len, Doing::Read) {
                self.enqueue(number, part);
            }
        }
        let mut next = self.works.get(number).and_then(|work| work.first);
        while let Some(part) = next {
            self.start(part, Doing::Read);
            next = self.parts.get(part).and_then(|part| part.next);
        }
        true
    }

    /// Gives back what `hold` took before it failed.
    fn unhold(&mut self, number: u32) {
        while let Some(part) = self.dequeue(number) {
            self.discard(part);
        }
        if let Some(work) = self.works.get_mut(number) {
            work.cursor = work.request.at;
        }
    }

    /// A part with a buffer for as much of `want` as memory is to be had for.
    pub(super) fn new_part(
        &mut self,
        id: u32,
        number: u32,
        want: u32,
        doing: Doing,
    ) -> Option<u32> {
        let want = self.part_len(id, self.works.get(number)?.cursor, want);
        let conn = self.conns.get_mut(id)?;
        let buffer = self.memory.take_some(&mut conn.held, want);
        let Some(buffer) = buffer else {
            self.starve(id);
            return None;
        };
        self.add_part(number, buffer, buffer.len(), doing)
    }

    /// A part from the request's cursor on.
    fn add_part(&mut self, number: u32, buffer: Span, len: u32, doing: Doing) -> Option<u32> {
        let work = self.works.get_mut(number)?;
        let len = len.min(work.left());
        let part = Part {
            work: number,
            via: Via::Core,
            at: work.cursor,
            len,
            done: 0,
            buffer,
            doing,
            next: None,
        };
        work.cursor = work.cursor.saturating_add(u64::from(len));
        work.running += 1;
        Some(self.parts.insert(part))
    }

    /// Bytes of the next part: a part for the core lies within a word.
    fn part_len(&self, id: u32, at: u64, left: u32) -> u32 {
        let pooled =
            self.conns.get(id).is_some_and(|c| matches!(c.volume, Some(Volume::Pooled { .. })));
        let most = if pooled { self.to_word_end(at) } else { PART_MAX };
        left.min(PART_MAX).min(most)
    }

    /// Bytes from `at` to the end of its word.
    fn to_word_end(&self, at: u64) -> u32 {
        let word = self.shared.pool.as_ref().map_or(u64::MAX, |pool| pool.word_bytes());
        let left = word.saturating_sub(at & word.wrapping_sub(1));
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// The connection waits for memory.
    fn starve(&mut self, id: u32) {
        if let Some(conn) = self.conns.get_mut(id) {
            if !conn.hungry {
                conn.hungry = true;
                self.hungry.push(id);
            }
        }
    }

    /// Puts a part at the end of its request's queue.
    fn enqueue(&mut self, number: u32, part: u32) {
        let Some(work) = self.works.get_mut(number) else { return };
        match work.last.replace(part) {
            None => work.first = Some(part),
            Some(last) => {
                if let Some(last) = self.parts.get_mut(last) {
                    last.next = Some(part);
                }
            }
        }
    }

    /// Takes the first part out of its request's queue.
    pub(super) fn dequeue(&mut self, number: u32) -> Option<u32> {
        let work = self.works.get_mut(number)?;
        let first = work.first?;
        work.first = self.parts.get(first).and_then(|part| part.next);
        if work.first.is_none() {
            work.last = None;
        }
        Some(first)
    }

    /// Removes a part and gives its buffer back.
    pub(super) fn discard(&mut self, number: u32) {
        let Some(part) = self.parts.remove(number) else { return };
        let Some(work) = self.works.get_mut(part.work) else { return };
        if part.doing != Doing::Done {
            work.running = work.running.saturating_sub(1);
        }
        let conn = work.conn;
        self.give(conn, part.buffer);
    }

    /// Gives a buffer back that a connection held.
    pub(super) fn give(&mut self, id: u32, buffer: Span) {
        if buffer.is_empty() {
            return;
        }
        if let Some(conn) = self.conns.get_mut(id) {
            self.memory.give(&mut conn.held, buffer);
        }
    }

    /// Answers a request, or as much of a read as can be sent, if its I/O is that far.
    pub(super) fn settle(&mut self, number: u32) {
        let Some(work) = self.works.get_mut(number) else { return };
        if work.error.is_some() && work.first.is_none_or(|_| work.request.command == Command::Read)
        {
            // What is not yet begun will not be; the payload of a write has to come all the same.
            if work.request.command == Command::Read {
                work.cursor = work.end();
            }
        }
        let whole = work.left() == 0 && work.running == 0;
        if work.request.command == Command::Read {
            return self.settle_read(number, whole);
        }
        if !whole {
            return;
        }
        if work.error.is_none() && std::mem::take(&mut work.sync) {
            if let Some(part) = self.add_part(number, Span::default(), 0, Doing::Flush) {
                return self.start(part, Doing::Flush);
            }
        }
        self.answer(number);
        self.finish(number);
    }

    fn settle_read(&mut self, number: u32, whole: bool) {
        let Some(Work { error, streams, headed, conn, .. }) = self.works.get(number) else {
            return;
        };
        let (failed, streams, headed, conn) = (error.is_some(), *streams, *headed, *conn);
        if failed && whole {
            self.unhold(number);
            if headed {
                // Part of the data is with the client, and no word is left to tell the failure.
                self.cut_off(conn);
            } else {
                self.answer(number);
            }
            return self.finish(number);
        }
        if failed || !(whole || streams) {
            return;
        }
        while self.first_is_done(number) {
            let Some(part) = self.dequeue(number) else { break };
            self.answer_data(number, part);
        }
        if whole && self.works.get(number).is_some_and(|work| work.first.is_none()) {
            self.finish(number);
        }
    }

    fn first_is_done(&self, number: u32) -> bool {
        let first = self.works.get(number).and_then(|work| work.first);
        first.and_then(|part| self.parts.get(part)).is_some_and(|part| part.doing == Doing::Done)
    }

    /// Forgets a request that was answered.
    fn finish(&mut self, number: u32) {
        let Some(work) = self.works.remove(number) else { return };
        let Some(conn) = self.conns.get_mut(work.conn) else { return };
        conn.requests = conn.requests.saturating_sub(1);
        if conn.current == Some(number) {
            conn.current = None;
        }
        let commanded = conn.volume.is_some() && conn.control().is_some();
        if commanded {
            self.end_command(work.conn);
        }
        self.touch(work.conn);
    }
}
