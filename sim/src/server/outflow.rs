// SPDX-License-Identifier: MIT

//! From results to a client's bytes: replies pile up during a turn and go out as one message.

use std::io;
use std::time::Instant;

use crate::nbd::reply::{Extent, REPLY_MAX};
use crate::nbd::{Command, Refused, Replies, Request};
use crate::uring::Span;

use super::conn::{Out, HEADS, VECTORS};
use super::reactor::Reactor;
use super::token::Token;

/// Bytes of data in one message.
const MESSAGE_BYTES: u32 = 1 << 20;

impl Reactor {
    /// Queues a head, written by `write`, and data behind it.
    fn reply(
        &mut self,
        id: u32,
        data: Span,
        write: impl FnOnce(&Replies, &mut [u8; REPLY_MAX]) -> usize,
    ) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.broken {
            return self.give(id, data);
        }
        let Some(serving) = conn.serving() else { return };
        let mut bytes = [0; REPLY_MAX];
        let len = write(&serving.replies, &mut bytes);
        conn.out.heads.extend_from_slice(bytes.get(..len).unwrap_or(&[]));
        let head = u32::try_from(len).unwrap_or(0);
        conn.out.queue.push_back(Out { head, data });
        self.touch(id);
    }

    /// Queues the refusal of a request.
    pub(super) fn refuse(&mut self, id: u32, refused: &Refused) {
        self.reply(id, Span::default(), |replies, out| {
            replies.failed(refused.cookie, refused.error, refused.why, out)
        });
    }

    /// Queues the reply of a request that is over: all but the data of a read.
    pub(super) fn answer(&mut self, number: u32) {
        let Some(work) = self.works.get(number) else { return };
        let (id, request, error) = (work.conn, work.request, work.error);
        let none = Span::default();
        if self.conns.get_mut(id).is_some_and(|conn| conn.control().is_some()) {
            return self.answer_work(id, error);
        }
        match (error, request.command) {
            (Some(failure), _) => {
                self.reply(id, none, |replies, out| {
                    replies.failed(request.cookie, failure.error, failure.why, out)
                });
            }
            (None, Command::BlockStatus { one }) => self.answer_status(number, one),
            (None, _) => {
                self.reply(id, none, |replies, out| replies.done(request.cookie, out));
            }
        }
    }

    /// Queues a block status of as many extents as a reply has room for.
    pub(super) fn reply_status(&mut self, id: u32, request: &Request, one: bool, of: Vec<Extent>) {
        self.reply(id, Span::default(), |replies, out| {
            replies.block_status(request, one, of, out).unwrap_or(0)
        });
    }

    /// Queues the data of a part of a read, with the head in front of the first one.
    pub(super) fn answer_data(&mut self, number: u32, part: u32) {
        let Some(work) = self.works.get_mut(number) else { return };
        let (id, request) = (work.conn, work.request);
        let headed = std::mem::replace(&mut work.headed, true);
        let Some(part) = self.parts.remove(part) else { return };
        if self.conns.get_mut(id).is_some_and(|conn| conn.control().is_some()) {
            let head = if headed { Vec::new() } else { Self::head_of_data(request.len) };
            return self.say(id, &head, part.buffer);
        }
        self.reply(id, part.buffer, |replies, out| match headed {
            true => 0,
            false => replies.data(&request, out),
        });
    }

    /// Sends what is queued, as much as one message takes, unless one is in flight.
    pub(super) fn send(&mut self, id: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.out.since.is_some() || conn.out.queue.is_empty() || conn.broken {
            return;
        }
        let area = conn.heads();
        let out = &mut conn.out;
        let (mut heads, mut bytes) = (0_u32, 0_u32);
        while let Some(next) = out.queue.front() {
            let full = out.sending.len() + 2 > VECTORS || bytes >= MESSAGE_BYTES;
            if full || heads + next.head > HEADS {
                break;
            }
            let head = area.cut(heads, next.head);
            match out.sending.last_mut() {
                // Heads without data between them are one piece.
                Some(last) if last.at() + last.len() == head.at() => *last = last.joined(head),
                _ if next.head > 0 => out.sending.push(head),
                _ => {}
            }
            if !next.data.is_empty() {
                out.sending.push(next.data);
                out.lent.push(next.data);
            }
            heads += next.head;
            bytes = bytes.saturating_add(next.data.len());
            out.queue.pop_front();
        }
        let used = usize::try_from(heads).unwrap_or(0);
        self.arena.write(area, out.heads.get(..used).unwrap_or(&[]));
        out.heads.drain(..used);
        out.since = Some(Instant::now());
        self.transmit(id);
    }

    fn transmit(&mut self, id: u32) {
        let Some(conn) = self.conns.get(id) else { return };
        let token = Token::Send(id).pack();
        self.ring.send(conn.file, &conn.out.sending, conn.message(), token);
    }

    /// A message was sent, or as much of it as the count says.
    pub(super) fn sent(&mut self, id: u32, result: io::Result<u32>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let count = result.unwrap_or(0);
        let rest = cut_front(&mut conn.out.sending, count);
        if rest && count > 0 && !conn.broken {
            return self.transmit(id);
        }
        conn.out.sending.clear();
        conn.out.since = None;
        let mut lent = std::mem::take(&mut conn.out.lent);
        lent.drain(..).for_each(|buffer| self.give(id, buffer));
        if let Some(conn) = self.conns.get_mut(id) {
            conn.out.lent = lent;
        }
        if rest {
            self.cut_off(id);
        }
        self.touch(id);
    }

    /// Drops what is queued for a client that is gone.
    pub(super) fn drop_replies(&mut self, id: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.out.heads.clear();
        let queue = std::mem::take(&mut conn.out.queue);
        queue.iter().for_each(|out| self.give(id, out.data));
    }
}

/// Takes the first `count` bytes out of the spans; says whether any are left.
fn cut_front(spans: &mut Vec<Span>, count: u32) -> bool {
    let mut left = count;
    spans.retain_mut(|span| {
        let cut = left.min(span.len());
        left -= cut;
        *span = span.from(cut);
        !span.is_empty()
    });
    !spans.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::Arena;

    #[test]
    fn a_short_send_goes_on_where_it_ended() {
        let whole = Arena::new(4096, 0).unwrap().whole();
        let mut spans = vec![whole.cut(0, 10), whole.cut(100, 20), whole.cut(200, 30)];
        assert!(cut_front(&mut spans, 15));
        assert_eq!(spans, [whole.cut(105, 15), whole.cut(200, 30)]);
        assert!(!cut_front(&mut spans, 45));
    }
}
