// SPDX-License-Identifier: MIT

//! The server's side of the fixed newstyle handshake ("Handshake").
//!
//! The machine eats bytes and leaves bytes; whoever drives it receives, sends, and keeps the
//! clock ([`super::HANDSHAKE_TIME`]). Its state is what it waits for:
//!
//! ```text
//! Flags -> Header -> Data -> Header -> ...        an option whose data is kept (<= OPTION_MAX)
//!             |----> Skip -> Header               data too long: thrown away, then refused
//!             `----> List -> Header               the list, as the output has room
//! any -> Over                                     Ready or Close was given out
//! ```
//!
//! # Invariants
//!
//! - What is kept of the input is at most `OPTION_MAX` bytes, the output at most `OUTPUT_MAX`.
//! - The outcome depends on the bytes alone, not on how they were cut into pieces.
//! - At most `OPTIONS_MAX` options are answered.

use zerocopy::{FromBytes, IntoBytes};

use super::options::{answer, Agreed, Outcome};
use super::output::Output;
use super::wire::{opt, rep, shake, Greeting, OptionHeader, INIT_MAGIC, OPTION_MAGIC};
use super::{NAME_MAX, OPTIONS_MAX, OPTION_MAX};

pub use super::output::OUTPUT_MAX;

/// An export as the handshake needs to know it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Export {
    /// The server's own name for it, handed back in [`Session`].
    pub id: u64,
    /// Its canonical name.
    pub name: String,
    /// For a person to read; may be empty.
    pub description: String,
    /// Bytes.
    pub size: u64,
    /// Whether it refuses to be written.
    pub read_only: bool,
    /// Smallest length and alignment of a request: a power of two up to 64 KiB.
    pub min_block: u32,
    /// Length and alignment that go well: a power of two.
    pub preferred_block: u32,
}

impl Export {
    /// The minimum and the preferred block, within the rules of "Block size constraints".
    #[must_use]
    pub fn blocks(&self) -> (u32, u32) {
        let min = self.min_block.clamp(1, 1 << 16).next_power_of_two();
        let preferred = self.preferred_block.clamp(512, 1 << 25).next_power_of_two();
        (min, preferred.max(min))
    }
}

/// Why an export is not to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There is none of that name.
    Unknown,
    /// This cannot be a name.
    BadName,
    /// It is not for this client now; the text says why.
    Policy(&'static str),
    /// The server is going down.
    ShuttingDown,
}

/// The exports that a client may see. Names are keys, compared whole.
pub trait Exports {
    /// Calls `visit` with name and description of each export behind the name `after`, in the
    /// order of the names, until it returns false.
    fn list(&self, after: Option<&str>, visit: &mut dyn FnMut(&str, &str) -> bool);

    /// The export of that name; the empty name means the default, if there is one.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn find(&self, name: &str) -> Result<Export, Refusal>;

    /// The same for a client that is about to use it.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    fn enter(&self, name: &str) -> Result<Export, Refusal> {
        self.find(name)
    }
}

/// What the handshake led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// The chosen export.
    pub export: Export,
    /// Structured replies were negotiated.
    pub structured: bool,
    /// `base:allocation` was selected for this export.
    pub allocation: bool,
}

/// Why the connection has to be closed, once the output is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closing {
    /// The client wished it.
    Aborted,
    /// The client does not speak fixed newstyle, or set a flag that does not exist.
    BadFlags,
    /// An option did not begin with its magic number.
    BadMagic,
    /// `OPT_EXPORT_NAME` asked for an export that is not to be had.
    NoExport,
    /// The client sent more than `OPTIONS_MAX` options.
    TooManyOptions,
    /// The handshake is over.
    Over,
}

/// What has to happen next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Send the output, if there is any, and receive more.
    Receive,
    /// Send output first; then feed again, with what was not consumed.
    Send,
    /// Send the output; what follows in the input are requests.
    Ready(Session),
    /// Send the output, then close.
    Close(Closing),
}

/// What the machine waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// The client's flags.
    Flags,
    /// An option.
    Option,
    /// The rest of an option.
    Data,
    /// The output to be sent.
    Output,
    /// Nothing: it is over.
    Nothing,
}

#[derive(Debug)]
enum State {
    Flags,
    Header,
    Data { option: u32, len: usize },
    Skip { option: u32, left: u32 },
    List { after: Option<String> },
    Over,
}

/// The machine.
#[derive(Debug)]
pub struct Handshake {
    state: State,
    agreed: Agreed,
    out: Output,
    /// The part of the client's flags, of a header or of an option's data that has come.
    kept: Vec<u8>,
    options: u32,
}

impl Default for Handshake {
    fn default() -> Self {
        Self::new()
    }
}

impl Handshake {
    /// A new connection; the server speaks first.
    #[must_use]
    pub fn new() -> Self {
        let greeting = Greeting {
            magic: INIT_MAGIC.into(),
            option_magic: OPTION_MAGIC.into(),
            flags: (shake::FIXED_NEWSTYLE | shake::NO_ZEROES).into(),
        };
        let mut out = Output::new();
        out.push(greeting.as_bytes());
        let kept = Vec::with_capacity(OPTION_MAX);
        Self { state: State::Flags, agreed: Agreed::default(), out, kept, options: 0 }
    }

    /// The bytes to be sent, at most [`OUTPUT_MAX`].
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.out.waiting()
    }

    /// The first `n` bytes of the output were sent.
    pub fn sent(&mut self, n: usize) {
        self.out.sent(n);
    }

    /// From now on all options but `OPT_ABORT` are refused.
    pub fn shut_down(&mut self) {
        self.agreed.closing = true;
    }

    /// What it waits for.
    #[must_use]
    pub fn waits_for(&self) -> Waiting {
        match self.state {
            State::Flags => Waiting::Flags,
            State::Header => Waiting::Option,
            State::Data { .. } | State::Skip { .. } => Waiting::Data,
            State::List { .. } => Waiting::Output,
            State::Over => Waiting::Nothing,
        }
    }

    /// Takes bytes from the client; says how many were consumed and what comes next.
    pub fn feed(&mut self, input: &[u8], exports: &dyn Exports) -> (usize, Progress) {
        let mut rest = input;
        let progress = loop {
            if !self.out.has_room() {
                break Progress::Send;
            }
            if let Some(progress) = self.step(&mut rest, exports) {
                break progress;
            }
        };
        (input.len().saturating_sub(rest.len()), progress)
    }

    /// Goes one state further; `None` to be called again.
    fn step(&mut self, input: &mut &[u8], exports: &dyn Exports) -> Option<Progress> {
        let want = match self.state {
            State::Flags => 4,
            State::Header => size_of::<OptionHeader>(),
            State::Data { len, .. } => len,
            State::Skip { option, left } => return self.skip(input, option, left),
            State::List { .. } => return self.list(exports),
            State::Over => return Some(Progress::Close(Closing::Over)),
        };
        if !self.keep(input, want) {
            return Some(Progress::Receive);
        }
        let mut kept = std::mem::take(&mut self.kept);
        let progress = match self.state {
            State::Flags => self.flags(&kept),
            State::Data { option, .. } => self.option(option, &kept, exports),
            _ => self.header(&kept),
        };
        kept.clear();
        self.kept = kept;
        progress
    }

    /// Moves input over until `want` bytes are kept; says whether they are.
    fn keep(&mut self, input: &mut &[u8], want: usize) -> bool {
        let missing = want.saturating_sub(self.kept.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.kept.extend_from_slice(taken);
        *input = rest;
        self.kept.len() == want
    }

    /// The client's flags ("Client flags"): unknown ones end the connection.
    fn flags(&mut self, kept: &[u8]) -> Option<Progress> {
        let flags = kept.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let [fixed, no_zeroes] = [shake::FIXED_NEWSTYLE, shake::NO_ZEROES].map(u32::from);
        if flags & !(fixed | no_zeroes) != 0 || flags & fixed == 0 {
            return self.close(Closing::BadFlags);
        }
        self.agreed.no_zeroes = flags & no_zeroes != 0;
        self.state = State::Header;
        None
    }

    /// The header of an option: its length is looked at before anything else.
    fn header(&mut self, kept: &[u8]) -> Option<Progress> {
        let header = OptionHeader::read_from_bytes(kept).ok();
        let Some(header) = header.filter(|header| header.magic == OPTION_MAGIC) else {
            return self.close(Closing::BadMagic);
        };
        self.options = self.options.saturating_add(1);
        if self.options > OPTIONS_MAX {
            return self.close(Closing::TooManyOptions);
        }
        let (option, left) = (header.option.get(), header.len.get());
        let len = usize::try_from(left).unwrap_or(usize::MAX);
        if option == opt::EXPORT_NAME && len > NAME_MAX {
            return self.close(Closing::NoExport);
        }
        self.state = if len > OPTION_MAX {
            State::Skip { option, left }
        } else {
            State::Data { option, len }
        };
        None
    }

    /// An option with all its data.
    fn option(&mut self, option: u32, data: &[u8], exports: &dyn Exports) -> Option<Progress> {
        match answer(option, data, &mut self.agreed, &mut self.out, exports) {
            Outcome::Next => self.state = State::Header,
            Outcome::List => self.state = State::List { after: None },
            Outcome::Close(why) => return self.close(why),
            Outcome::Ready(session) => {
                self.state = State::Over;
                return Some(Progress::Ready(session));
            }
        }
        None
    }

    /// Throws away the data of an option that brings too much, then refuses it.
    fn skip(&mut self, input: &mut &[u8], option: u32, left: u32) -> Option<Progress> {
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        *input = input.get(len..).unwrap_or(&[]);
        let left = left.saturating_sub(u32::try_from(len).unwrap_or(u32::MAX));
        self.state = State::Skip { option, left };
        if left > 0 {
            return Some(Progress::Receive);
        }
        self.state = State::Header;
        if option == opt::SET_META_CONTEXT {
            self.agreed.context = None;
        }
        match option {
            opt::ABORT => {
                self.out.ack(option);
                return self.close(Closing::Aborted);
            }
            opt::LIST | opt::STARTTLS..=opt::SET_META_CONTEXT => {
                self.out.reply(option, rep::ERR_TOO_BIG, &[b"too much option data"]);
            }
            _ => self.out.reply(option, rep::ERR_UNSUP, &[]),
        }
        None
    }

    /// As many entries of the list as the output has room for; the rest in the next rounds.
    fn list(&mut self, exports: &dyn Exports) -> Option<Progress> {
        let State::List { after } = &mut self.state else { return None };
        let (mut last, mut full) = (None::<String>, false);
        exports.list(after.as_deref(), &mut |name, description| {
            full = !self.out.has_room();
            if !full {
                if name.len() <= NAME_MAX {
                    self.out.server(name, description);
                }
                last.get_or_insert_default().replace_range(.., name);
            }
            !full
        });
        if full {
            *after = last.or(after.take());
        } else {
            self.out.ack(opt::LIST);
            self.state = State::Header;
        }
        None
    }

    /// Ends the handshake.
    fn close(&mut self, why: Closing) -> Option<Progress> {
        self.state = State::Over;
        Some(Progress::Close(why))
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
