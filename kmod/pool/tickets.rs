// SPDX-License-Identifier: GPL-2.0-only

//! Clients' bios in the core: a flush first if one is asked for, then the data, cut at the words.

use kernel::{
    bindings,
    prelude::*, //
};
use rwsnap_core::{
    api::{
        Handle,
        Op,
        Request,
        Submit, //
    },
    fault::Fault, //
};

use super::bench::Bench;
use crate::{
    block::{
        bio::{
            Bio,
            Cursor, //
        },
        hot, //
    },
    mem::Core, //
};

/// Parts of one bio in the core at once.
const PARTS: u32 = 16;

/// What of a bio is being done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The flush before the data.
    Flush,
    /// The data, or what else it is.
    Body,
}

/// A client's bio.
pub(super) struct Ticket {
    bio: Bio,
    started: c_ulong,
    /// All of its data.
    whole: bindings::bvec_iter,
    handle: Handle,
    op: Op,
    at: u64,
    len: u32,
    stage: Stage,
    /// Bytes that were handed in.
    cursor: u32,
    running: u32,
    /// The flush was handed in.
    flushed: bool,
    fault: Option<Fault>,
    /// It stands in the line of those that the core had no room for.
    refused: bool,
}

/// The cookie of a part: the ticket, and the part's first block of 512 bytes.
fn cookie(ticket: u32, offset: u32) -> u64 {
    u64::from(ticket) << 32 | u64::from(offset >> 9)
}

/// The ticket of a cookie, and the first byte of its part.
fn unpack(cookie: u64) -> (usize, u32) {
    ((cookie >> 32) as usize, (cookie as u32) << 9)
}

impl Bench {
    /// Gives bios tickets, as long as there are some, and hands in what the core has room for.
    pub(super) fn admit(&mut self, core: &mut Core) {
        while !self.free.is_empty() {
            let Some(bio) = self.line.pop() else { return };
            let (handle, op) = (bio.disk().handle(), hot::operation(&bio));
            let started = bio.start_accounting();
            let (Some(handle), Some(op)) = (handle, op) else {
                let fault = if handle.is_none() {
                    Fault::Fenced
                } else {
                    Fault::Range
                };
                end(bio, started, Err(fault));
                continue;
            };
            let flush = op != Op::Flush && bio.preflush();
            let ticket = Ticket {
                whole: bio.iter(),
                at: bio.at(),
                len: bio.len(),
                stage: if flush { Stage::Flush } else { Stage::Body },
                bio,
                started,
                handle,
                op,
                cursor: 0,
                running: 0,
                flushed: false,
                fault: None,
                refused: false,
            };
            let Some(at) = self.free.pop() else { return };
            if let Some(place) = self.tickets.get_mut(at as usize) {
                *place = Some(ticket);
            }
            self.pump(core, at);
        }
    }

    /// Whether a bio stands in line that could have a ticket.
    pub(super) fn may_admit(&self) -> bool {
        !self.line.is_empty() && !self.free.is_empty()
    }

    /// Hands in what the core had no room for.
    pub(super) fn admit_refused(&mut self, core: &mut Core) {
        for _ in 0..self.refused.len() {
            let Some(at) = self.refused.pop() else { return };
            if let Some(Some(ticket)) = self.tickets.get_mut(at as usize) {
                ticket.refused = false;
            }
            self.pump(core, at);
        }
    }

    /// Hands in parts of a ticket until all are, or enough, or the core has no room.
    fn pump(&mut self, core: &mut Core, at: u32) {
        let Some(Some(ticket)) = self.tickets.get_mut(at as usize) else {
            return;
        };
        while let Some(request) = ticket.part(core, at) {
            if core.submit(&request) == Submit::Busy {
                if !ticket.refused && self.refused.push(at).is_ok() {
                    ticket.refused = true;
                }
                return;
            }
            ticket.handed_in(&request);
        }
        if ticket.is_over() {
            self.end(at);
        }
    }

    fn end(&mut self, at: u32) {
        let Some(ticket) = self.tickets.get_mut(at as usize).and_then(Option::take) else {
            return;
        };
        if ticket.refused {
            self.leave_refused(at);
        }
        let _ = self.free.push_within_capacity(at);
        end(ticket.bio, ticket.started, ticket.fault.map_or(Ok(()), Err));
    }

    /// A ticket ends (a part of it has failed) while it waits for room.
    fn leave_refused(&mut self, gone: u32) {
        for _ in 0..self.refused.len() {
            let Some(at) = self.refused.pop() else { return };
            if at != gone {
                let _ = self.refused.push(at);
            }
        }
    }

    /// The core has finished a part.
    pub(super) fn finished(&mut self, core: &mut Core, cookie: u64, outcome: Result<(), Fault>) {
        let (at, _) = unpack(cookie);
        let Some(Some(ticket)) = self.tickets.get_mut(at) else {
            return;
        };
        ticket.running = ticket.running.saturating_sub(1);
        ticket.fault = ticket.fault.or(outcome.err());
        if ticket.stage == Stage::Flush && ticket.fault.is_none() {
            ticket.stage = Stage::Body;
        }
        self.pump(core, at as u32);
    }

    /// The memory of bytes of a part's buffer.
    pub(super) fn client(&self, cookie: u64, at: u32, len: u32) -> Option<Cursor<'_>> {
        let (ticket, offset) = unpack(cookie);
        let ticket = self.tickets.get(ticket)?.as_ref()?;
        Some(Cursor::new(
            &ticket.bio,
            ticket.whole,
            offset.checked_add(at)?,
            len,
        ))
    }
}

impl Ticket {
    /// The next part; `None` if there is none, or enough are under way.
    fn part(&self, core: &Core, at: u32) -> Option<Request> {
        if self.fault.is_some() || self.running >= PARTS {
            return None;
        }
        let flush = self.stage == Stage::Flush || self.op == Op::Flush;
        let request = Request {
            volume: self.handle,
            op: if flush { Op::Flush } else { self.op },
            at: self.at.checked_add(u64::from(self.cursor))?,
            len: 0,
            cookie: cookie(at, self.cursor),
        };
        if flush {
            return (!self.flushed).then_some(request);
        }
        let left = self.len.checked_sub(self.cursor).filter(|&left| left > 0)?;
        let geometry = core.geometry();
        let room = geometry
            .word_bytes()
            .saturating_sub(u64::from(geometry.in_word(request.at)));
        Some(Request {
            len: u64::from(left).min(room) as u32,
            ..request
        })
    }

    fn handed_in(&mut self, request: &Request) {
        self.running = self.running.saturating_add(1);
        self.cursor = self.cursor.saturating_add(request.len);
        self.flushed |= request.op == Op::Flush;
    }

    fn is_over(&self) -> bool {
        let done = match self.op {
            Op::Flush => self.flushed,
            _ => self.stage == Stage::Body && self.cursor == self.len,
        };
        self.running == 0 && (done || self.fault.is_some())
    }
}

/// Ends a bio, and lets its disk go.
fn end(bio: Bio, started: c_ulong, outcome: Result<(), Fault>) {
    let disk: kernel::sync::Arc<crate::block::disk::Disk> = bio.disk().into();
    bio.end(Some(started), outcome);
    disk.gate.leave();
}
