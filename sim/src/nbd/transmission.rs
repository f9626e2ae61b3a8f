// SPDX-License-Identifier: MIT

//! The server's side of the transmission phase: bytes in, requests out ("Transmission").
//!
//! [`Inlet`] cuts the stream; [`Rules`] judge a header against the export. A request is judged
//! before its payload is looked at, so that the payload of a write goes straight to where it
//! belongs, and that of a refused one is thrown away as it comes. Its states:
//!
//! ```text
//! Between -> Payload(left) -> Between       a write that is valid: the driver takes the payload
//!    |-----> Skip(left)    -> Between       a write that is not: told once its payload is gone
//!    `-----> Ended
//! ```
//!
//! # Invariants
//!
//! - Nothing is kept of the stream, and nothing is allocated.
//! - A [`Request`] lies within the export, is aligned to its minimum block, is not empty (but for
//!   a flush), and reads or writes at most `PAYLOAD_MAX` bytes. Requests without a payload may be
//!   longer: trim, zero, cache and block status up to 4 GiB ("Block size constraints").

use zerocopy::FromBytes;

use super::handshake::Session;
use super::wire::{cmd, flag, NbdError, RequestHeader, REQUEST_BYTES, REQUEST_MAGIC};
use super::PAYLOAD_MAX;

/// What a client asks for ("Request types").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Send the bytes.
    Read,
    /// Take the bytes that follow.
    Write {
        /// Durable when replied to.
        fua: bool,
    },
    /// All writes that were replied to are durable.
    Flush,
    /// The bytes are not needed any more.
    Trim {
        /// Durable when replied to.
        fua: bool,
    },
    /// The bytes will be wanted soon.
    Cache,
    /// The bytes are zeros.
    Zero {
        /// Durable when replied to.
        fua: bool,
        /// Later writes to them must not run out of space.
        no_hole: bool,
        /// Refuse with `ENOTSUP` unless it is faster than writing zeros.
        fast: bool,
    },
    /// Say which bytes are holes or zeros.
    BlockStatus {
        /// One extent will do.
        one: bool,
    },
}

/// A request that may be carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The client's name for it.
    pub cookie: u64,
    /// What to do.
    pub command: Command,
    /// First byte.
    pub at: u64,
    /// Bytes.
    pub len: u32,
}

impl Request {
    /// Bytes that follow the header in the stream.
    #[must_use]
    pub const fn payload(&self) -> u32 {
        if matches!(self.command, Command::Write { .. }) {
            self.len
        } else {
            0
        }
    }

    /// Bytes of memory that it takes to carry it out: what is read or written.
    #[must_use]
    pub const fn memory(&self) -> u32 {
        if matches!(self.command, Command::Read | Command::Write { .. }) {
            self.len
        } else {
            0
        }
    }
}

/// A request that is answered with an error at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The client's name for it.
    pub cookie: u64,
    /// The error.
    pub error: NbdError,
    /// The same for a person.
    pub why: &'static str,
}

/// Why no request will follow ("Terminating the transmission phase").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The client said so: finish what is under way, send the replies, close.
    Disconnect,
    /// What came is not a request: close.
    BadMagic,
}

/// What the rules say of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Carry it out.
    Accept(Request),
    /// Throw the payload away, then reply.
    Refuse {
        /// What to reply.
        refused: Refused,
        /// Bytes that follow the header.
        payload: u32,
    },
    /// The end.
    End(Ended),
}

/// What a session's requests have to keep to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    size: u64,
    /// Bits that an offset or a length must not have.
    unaligned: u64,
    read_only: bool,
    structured: bool,
    status: bool,
    closing: bool,
}

impl Rules {
    /// The rules of a session.
    #[must_use]
    pub fn new(session: &Session) -> Self {
        let export = &session.export;
        Self {
            size: export.size,
            unaligned: u64::from(export.blocks().0.wrapping_sub(1)),
            read_only: export.read_only,
            structured: session.structured,
            status: session.structured && session.allocation,
            closing: false,
        }
    }

    /// Judges a header.
    #[must_use]
    pub fn judge(&self, header: &RequestHeader) -> Verdict {
        if header.magic != REQUEST_MAGIC {
            return Verdict::End(Ended::BadMagic);
        }
        let (cookie, len) = (header.cookie.get(), header.len.get());
        let request = match header.kind.get() {
            cmd::DISC => return Verdict::End(Ended::Disconnect),
            kind => self.check(kind, header.flags.get(), header.at.get(), len),
        };
        match request {
            Ok(command) => Verdict::Accept(Request { cookie, command, at: header.at.get(), len }),
            Err((error, why)) => {
                let payload = if header.kind == cmd::WRITE { len } else { 0 };
                Verdict::Refuse { refused: Refused { cookie, error, why }, payload }
            }
        }
    }

    fn check(&self, kind: u16, flags: u16, at: u64, len: u32) -> Result<Command, Complaint> {
        let command = self.command(kind, flags)?;
        if self.closing {
            return Err((NbdError::Shutdown, "the server is shutting down"));
        }
        let changes =
            matches!(command, Command::Write { .. } | Command::Trim { .. } | Command::Zero { .. });
        if changes && self.read_only {
            return Err((NbdError::Perm, "the export is read-only"));
        }
        if command == Command::Flush {
            return if at == 0 && len == 0 { Ok(command) } else { Err(RESERVED) };
        }
        self.check_range(command, at, len)?;
        Ok(command)
    }

    /// What the type and the flags mean: a flag that does not belong is refused.
    fn command(&self, kind: u16, flags: u16) -> Result<Command, Complaint> {
        // "valid for all commands", and "existing clients are known to set this bit on other
        // commands"
        let fua = flags & flag::FUA != 0;
        let (command, allowed) = match kind {
            cmd::READ => (Command::Read, if self.structured { flag::DF } else { 0 }),
            cmd::WRITE => (Command::Write { fua }, 0),
            cmd::FLUSH => (Command::Flush, 0),
            cmd::TRIM => (Command::Trim { fua }, 0),
            cmd::CACHE => (Command::Cache, 0),
            cmd::WRITE_ZEROES => {
                let no_hole = flags & flag::NO_HOLE != 0;
                let fast = flags & flag::FAST_ZERO != 0;
                (Command::Zero { fua, no_hole, fast }, flag::NO_HOLE | flag::FAST_ZERO)
            }
            cmd::BLOCK_STATUS if self.status => {
                (Command::BlockStatus { one: flags & flag::REQ_ONE != 0 }, flag::REQ_ONE)
            }
            cmd::BLOCK_STATUS => return Err((NbdError::Inval, "no metadata context was selected")),
            _ => return Err((NbdError::Inval, "unknown command")),
        };
        if flags & !(allowed | flag::FUA) != 0 {
            return Err((NbdError::Inval, "a flag that does not belong to this command"));
        }
        Ok(command)
    }

    /// Size limits, bounds and alignment ("Error values", "Block size constraints").
    fn check_range(&self, command: Command, at: u64, len: u32) -> Result<(), Complaint> {
        let carries = matches!(command, Command::Read | Command::Write { .. });
        if carries && len > PAYLOAD_MAX {
            return Err((NbdError::Inval, "longer than the maximum block size"));
        }
        if len == 0 {
            return Err((NbdError::Inval, "the length is zero"));
        }
        if at.checked_add(u64::from(len)).is_none_or(|end| end > self.size) {
            let grows = matches!(command, Command::Write { .. } | Command::Zero { .. });
            let error = if grows { NbdError::NoSpc } else { NbdError::Inval };
            return Err((error, "beyond the end of the export"));
        }
        if (at | u64::from(len)) & self.unaligned != 0 {
            return Err((NbdError::Inval, "not aligned to the minimum block size"));
        }
        Ok(())
    }
}

type Complaint = (NbdError, &'static str);

const RESERVED: Complaint = (NbdError::Inval, "offset and length of a flush must be zero");

/// What the stream holds next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Not enough bytes: keep what was not consumed, and receive more behind it.
    Need,
    /// A request. If it has a payload, [`Event::Payload`]s follow until it is whole.
    Request(Request),
    /// The bytes that were consumed belong to the payload of the last request.
    Payload {
        /// They were the last of it.
        last: bool,
    },
    /// A request to be answered with an error.
    Refused(Refused),
    /// There will be no more.
    Ended(Ended),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Between,
    Payload(u32),
    Skip(u32, Refused),
    Over(Ended),
}

/// Cuts what a client sends into requests.
///
/// The payload of a write may come through [`Inlet::next`], or be received straight into the
/// request's memory: [`Inlet::payload`] bytes of it are still to come, and [`Inlet::received`]
/// tells how many did. A driver without room for the last request just does not call again yet.
#[derive(Clone, Copy, Debug)]
pub struct Inlet {
    rules: Rules,
    state: State,
}

impl Inlet {
    /// At the beginning of the transmission phase.
    #[must_use]
    pub fn new(session: &Session) -> Self {
        Self { rules: Rules::new(session), state: State::Between }
    }

    /// From now on requests are refused with `ESHUTDOWN`; a payload on its way still comes.
    pub fn shut_down(&mut self) {
        self.rules.closing = true;
    }

    /// The next event in `input`, and how many bytes of its front that consumes.
    pub fn next(&mut self, input: &[u8]) -> (usize, Event) {
        match self.state {
            State::Between => self.header(input),
            State::Payload(_) => match self.received(input.len()) {
                0 => (0, Event::Need),
                taken => (taken, Event::Payload { last: self.payload() == 0 }),
            },
            State::Skip(left, refused) => self.skip(input.len(), left, refused),
            State::Over(ended) => (0, Event::Ended(ended)),
        }
    }

    /// Bytes of the last request's payload that are still to come.
    #[must_use]
    pub const fn payload(&self) -> u32 {
        match self.state {
            State::Payload(left) => left,
            _ => 0,
        }
    }

    /// So many bytes were received behind what `next` consumed; says how many of them belong to
    /// the payload.
    pub fn received(&mut self, bytes: usize) -> usize {
        let (taken, left) = split(self.payload(), bytes);
        if taken > 0 {
            self.state = if left > 0 { State::Payload(left) } else { State::Between };
        }
        taken
    }

    fn header(&mut self, input: &[u8]) -> (usize, Event) {
        let Ok((header, rest)) = RequestHeader::ref_from_prefix(input) else {
            return (0, Event::Need);
        };
        let event = match self.rules.judge(header) {
            Verdict::Accept(request) => {
                if request.payload() > 0 {
                    self.state = State::Payload(request.payload());
                }
                Event::Request(request)
            }
            Verdict::Refuse { refused, payload } => {
                let (skipped, event) = self.skip(rest.len(), payload, refused);
                return (skipped.saturating_add(REQUEST_BYTES), event);
            }
            Verdict::End(ended) => {
                self.state = State::Over(ended);
                Event::Ended(ended)
            }
        };
        (REQUEST_BYTES, event)
    }

    /// Throws payload away; tells of the refusal when all of it is gone.
    fn skip(&mut self, bytes: usize, left: u32, refused: Refused) -> (usize, Event) {
        let (taken, left) = split(left, bytes);
        if left > 0 {
            self.state = State::Skip(left, refused);
            return (taken, Event::Need);
        }
        self.state = State::Between;
        (taken, Event::Refused(refused))
    }
}

/// How many of `bytes` are among the next `left`, and how many of these remain.
fn split(left: u32, bytes: usize) -> (usize, u32) {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(left);
    (usize::try_from(bytes).unwrap_or(0), left.saturating_sub(bytes))
}

#[cfg(test)]
#[path = "transmission_tests.rs"]
mod tests;
