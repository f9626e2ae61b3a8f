// SPDX-License-Identifier: MIT

//! From a client's bytes to requests: the handshake, the stream, the payloads of writes.

use std::io;

use crate::nbd::transmission::{Ended, Event};
use crate::nbd::wire::REQUEST_BYTES;
use crate::nbd::{Command, Inlet, NbdError, Progress, Replies, Session};
use crate::uring::{Arena, Span};

use super::conn::{Conn, Out, Phase, Receiving, Serving};
use super::reactor::Reactor;
use super::token::Token;
use super::volume::Door;
use super::work::{Doing, Failure, Work};

/// From so many bytes of payload on, it is received straight into its buffer.
const STRAIGHT: u32 = 16 << 10;

/// Bytes of the stream that the handshake, or the refusal of a payload, looks at at once.
const LOOK: usize = 4096;

impl Reactor {
    /// Does all that can be done with what a client sent, then receives more.
    pub(super) fn pump(&mut self, id: u32) {
        while self.step(id) {}
        self.receive(id);
    }

    /// One step; false if there is nothing to be done now.
    fn step(&mut self, id: u32) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        if conn.leaving || conn.broken {
            return false;
        }
        let limit = self.shared.limits.requests;
        let waiting = conn.out.queue.len();
        match (&mut conn.phase, conn.current) {
            (Phase::Greeting(_), _) => self.greet(id),
            (_, Some(work)) => self.advance(id, work),
            (Phase::Control(_), None) => self.serve_control(id),
            (Phase::Serving(_), None) => {
                let busy = u32::try_from(waiting).unwrap_or(limit).saturating_add(conn.requests);
                busy < limit && self.parse(id)
            }
        }
    }

    /// The handshake, as far as the bytes go; true if it just ended well.
    fn greet(&mut self, id: u32) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        let unread = conn.unread();
        let Phase::Greeting(shake) = &mut conn.phase else { return false };
        // What it says is sent before it hears more: nothing piles up.
        if !conn.out.is_empty() {
            return false;
        }
        let mut more = false;
        let mut bytes = [0; LOOK];
        let input = self.arena.read(unread, &mut bytes);
        let door = Door::new(&self.shared);
        let (used, progress) = shake.feed(input, &door);
        let entered = door.take();
        let output = shake.output();
        let said = u32::try_from(output.len()).unwrap_or(0);
        conn.out.heads.extend_from_slice(output);
        shake.sent(output.len());
        conn.consume(u32::try_from(used).unwrap_or(0));
        if said > 0 {
            conn.out.queue.push_back(Out { head: said, data: Span::default() });
        }
        match progress {
            Progress::Receive | Progress::Send => more = said == 0 && used > 0,
            Progress::Ready(session) => {
                conn.phase = Phase::Serving(serving(&session));
                conn.volume = entered;
                return true;
            }
            Progress::Close(why) => {
                tracing::debug!(?why, "the handshake ended");
                self.leave(id);
            }
        }
        if let (Some(volume), Some(pool)) = (entered, self.pool()) {
            pool.detach(&volume);
        }
        more
    }

    /// The next event of the stream; false if it has to be longer.
    fn parse(&mut self, id: u32) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        let unread = conn.unread();
        let Some(serving) = conn.serving() else { return false };
        let mut head = [0; REQUEST_BYTES];
        let input = self.arena.read(unread, &mut head);
        let (used, event) = serving.inlet.next(input);
        conn.consume(u32::try_from(used).unwrap_or(0));
        match event {
            Event::Need => used > 0,
            Event::Payload { .. } => true,
            Event::Request(request) => {
                let work = self.works.insert(Work::new(id, request));
                conn.requests += 1;
                conn.current = Some(work);
                true
            }
            Event::Refused(refused) => {
                self.refuse(id, &refused);
                true
            }
            Event::Ended(why) => {
                if why == Ended::BadMagic {
                    tracing::info!("a client does not speak NBD");
                }
                self.leave(id);
                false
            }
        }
    }

    /// Goes on with the request that is not yet under way as a whole; false if it has to wait.
    fn advance(&mut self, id: u32, number: u32) -> bool {
        let Some(work) = self.works.get(number) else { return false };
        let started = match work.request.command {
            Command::Write { .. } => self.fill(id, number),
            _ => self.issue(id, number),
        };
        if started {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.current = None;
            }
            // It may be over already: a failure at once, a request without I/O.
            self.settle(number);
        }
        started
    }

    /// Moves payload to the parts of a write; true once all of it has come.
    fn fill(&mut self, id: u32, number: u32) -> bool {
        loop {
            let Some(part) = self.filling(id, number) else {
                return self.conns.get(id).is_some_and(|conn| conn.payload() == 0);
            };
            let Some(conn) = self.conns.get_mut(id) else { return false };
            let Some(state) = self.parts.get_mut(part) else { return false };
            state.done += take_payload(conn, &self.arena, state.buffer.from(state.done));
            if state.done < state.len {
                return false;
            }
            self.filled(number, part);
        }
    }

    /// The part that payload goes to now; made if there is none, if there is payload and memory.
    fn filling(&mut self, id: u32, number: u32) -> Option<u32> {
        let work = self.works.get(number)?;
        if work.first.is_some() {
            return work.first;
        }
        let left = self.conns.get(id)?.payload();
        if left == 0 {
            return None;
        }
        let part = self.new_part(id, number, left, Doing::Fill)?;
        self.works.get_mut(number)?.first = Some(part);
        Some(part)
    }

    /// A part's payload is whole: it is written.
    fn filled(&mut self, number: u32, part: u32) {
        let Some(work) = self.works.get_mut(number) else { return };
        work.first = None;
        let Some(state) = self.parts.get_mut(part) else { return };
        state.done = 0;
        // Of several parts, none is durable by itself: one flush at the end is cheaper.
        let fua = matches!(work.request.command, Command::Write { fua: true });
        work.sync |= fua && state.len < work.request.len;
        self.start(part, Doing::Write);
    }

    /// Receives what the connection can use now, unless a receive is in flight.
    fn receive(&mut self, id: u32) {
        let limit = self.shared.limits.requests;
        let Some(conn) = self.conns.get_mut(id) else { return };
        let waiting = u32::try_from(conn.out.queue.len()).unwrap_or(limit);
        if conn.receiving != Receiving::No || conn.leaving || conn.broken {
            return;
        }
        if !matches!(conn.phase, Phase::Greeting(_)) {
            if let Some(work) = conn.current.and_then(|work| self.works.get(work)) {
                // Without a part that it can go to, payload waits for memory, and so do we.
                let Some(part) = work.first.and_then(|part| self.parts.get(part)) else { return };
                if part.doing != Doing::Fill {
                    return;
                }
                if part.len - part.done >= STRAIGHT {
                    let rest = part.buffer.from(part.done);
                    conn.receiving = Receiving::Payload;
                    return self.ring.receive(conn.file, rest, true, Token::Payload(id).pack());
                }
            } else if waiting.saturating_add(conn.requests) >= limit {
                return;
            }
        }
        let (stream, unread) = (conn.stream(), conn.unread());
        if conn.head > 0 {
            self.arena.copy(unread, stream);
            conn.tail -= conn.head;
            conn.head = 0;
        }
        if conn.tail < stream.len() {
            conn.receiving = Receiving::Stream;
            self.ring.receive(conn.file, stream.from(conn.tail), false, Token::Receive(id).pack());
        }
    }

    /// Bytes came behind the stream, or its end.
    pub(super) fn received(&mut self, id: u32, result: &io::Result<u32>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.receiving = Receiving::No;
        match result {
            &Ok(count) if count > 0 => {
                conn.tail += count;
                self.touch(id);
            }
            _ => self.gone(id),
        }
    }

    /// Payload came straight into its part, or the end of the stream.
    pub(super) fn payload_received(&mut self, id: u32, result: io::Result<u32>) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.receiving = Receiving::No;
        let count = if conn.leaving || conn.broken { 0 } else { result.unwrap_or(0) };
        let part = conn.current.and_then(|work| self.works.get(work)?.first);
        let Some(serving) = conn.serving() else { return };
        match part.and_then(|part| self.parts.get_mut(part)) {
            Some(part) if count > 0 => {
                part.done += count;
                serving.inlet.received(usize::try_from(count).unwrap_or(0));
                self.touch(id);
            }
            _ => self.gone(id),
        }
    }

    /// The client has closed its end: what is under way is finished.
    fn gone(&mut self, id: u32) {
        self.abandon(id);
        self.leave(id);
    }

    /// Gives up the request that is not yet under way as a whole.
    pub(super) fn abandon(&mut self, id: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.receiving == Receiving::Payload {
            // Its buffer may still be written to; we come here again when that is over.
            return self.ring.cancel(Token::Payload(id).pack(), Token::Ignore.pack());
        }
        let Some(number) = conn.current.take() else { return };
        let Some(work) = self.works.get_mut(number) else { return };
        work.error.get_or_insert(Failure::new(NbdError::Shutdown, "the client is gone"));
        work.cursor = work.end();
        if matches!(work.request.command, Command::Write { .. }) {
            if let Some(part) = work.first.take() {
                self.discard(part);
            }
        }
        self.settle(number);
    }
}

fn serving(session: &Session) -> Serving {
    Serving { inlet: Inlet::new(session), replies: Replies::new(session) }
}

/// Moves payload that has come into a buffer; gives how much.
fn take_payload(conn: &mut Conn, arena: &Arena, buffer: Span) -> u32 {
    let unread = conn.unread();
    match &mut conn.phase {
        Phase::Greeting(_) => 0,
        Phase::Control(control) => {
            let taken = arena.write(buffer, control.data());
            control.took(taken);
            taken
        }
        Phase::Serving(serving) => {
            let taken = arena.copy(unread, buffer);
            serving.inlet.received(usize::try_from(taken).unwrap_or(0));
            conn.consume(taken);
            taken
        }
    }
}
