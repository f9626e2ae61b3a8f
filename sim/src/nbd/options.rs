// SPDX-License-Identifier: MIT

//! The options of the handshake, one function each ("Option types").
//!
//! An option's data is whole and at most `OPTION_MAX` bytes when it comes here. Each function
//! appends the replies to the output and changes what was negotiated; none can fail otherwise.

use zerocopy::IntoBytes;

use super::handshake::{Closing, Export, Exports, Refusal, Session};
use super::output::{cut, Output};
use super::wire::{
    export, info, opt, rep, ExportReply, InfoBlockSize, InfoExport, BASE_ALLOCATION, ZEROES,
};
use super::{NAME_MAX, PAYLOAD_MAX};

/// What the client and the server have agreed on so far.
#[derive(Debug, Default)]
pub(super) struct Agreed {
    /// No zeros at the end of `OPT_EXPORT_NAME`.
    pub(super) no_zeroes: bool,
    /// Structured replies.
    pub(super) structured: bool,
    /// The name of the export that `base:allocation` was selected for.
    pub(super) context: Option<String>,
    /// The server is going down.
    pub(super) closing: bool,
}

/// Where an option leads.
#[derive(Debug)]
pub(super) enum Outcome {
    /// To the next option.
    Next,
    /// To the list of exports, which may take several rounds.
    List,
    /// To the transmission phase.
    Ready(Session),
    /// To the end.
    Close(Closing),
}

/// Answers one option.
pub(super) fn answer(
    option: u32,
    data: &[u8],
    agreed: &mut Agreed,
    out: &mut Output,
    exports: &dyn Exports,
) -> Outcome {
    match option {
        opt::ABORT => {
            out.ack(option);
            return Outcome::Close(Closing::Aborted);
        }
        opt::EXPORT_NAME => return export_name(data, agreed, out, exports),
        _ if agreed.closing => out.reply(option, rep::ERR_SHUTDOWN, &[b"server is shutting down"]),
        opt::LIST if data.is_empty() => return Outcome::List,
        opt::INFO | opt::GO => return info_or_go(option, data, agreed, out, exports),
        opt::STRUCTURED_REPLY if data.is_empty() => {
            agreed.structured = true;
            out.ack(option);
        }
        opt::LIST_META_CONTEXT | opt::SET_META_CONTEXT => {
            meta_context(option, data, agreed, out, exports);
        }
        opt::STARTTLS if data.is_empty() => {
            out.reply(option, rep::ERR_UNSUP, &[b"this server does not speak TLS"]);
        }
        opt::LIST | opt::STRUCTURED_REPLY | opt::STARTTLS => {
            out.reply(option, rep::ERR_INVALID, &[b"this option takes no data"]);
        }
        _ => out.reply(option, rep::ERR_UNSUP, &[]),
    }
    Outcome::Next
}

/// `OPT_EXPORT_NAME`: cannot be refused but by closing.
fn export_name(data: &[u8], agreed: &Agreed, out: &mut Output, exports: &dyn Exports) -> Outcome {
    let found = if agreed.closing {
        Err(Refusal::ShuttingDown)
    } else {
        name_of(data).and_then(|name| Ok((name, exports.enter(name)?)))
    };
    let Ok((name, found)) = found else {
        return Outcome::Close(Closing::NoExport);
    };
    let session = session(found, name, agreed);
    let reply = ExportReply {
        size: session.export.size.into(),
        flags: session.transmission_flags().into(),
    };
    out.push(reply.as_bytes());
    if !agreed.no_zeroes {
        out.push(&[0; ZEROES]);
    }
    Outcome::Ready(session)
}

/// `OPT_INFO` and `OPT_GO`.
fn info_or_go(
    option: u32,
    data: &[u8],
    agreed: &Agreed,
    out: &mut Output,
    exports: &dyn Exports,
) -> Outcome {
    let Some((name, wanted)) = parse_info(data) else {
        out.reply(option, rep::ERR_INVALID, &[b"malformed option data"]);
        return Outcome::Next;
    };
    let found = name_of(name).and_then(|name| {
        let export = if option == opt::GO { exports.enter(name) } else { exports.find(name) }?;
        Ok((name, export))
    });
    let (name, found) = match found {
        Ok(found) => found,
        Err(refusal) => {
            refuse(option, refusal, out);
            return Outcome::Next;
        }
    };
    let session = session(found, name, agreed);
    send_info(option, &session, wanted, out);
    out.ack(option);
    if option == opt::GO {
        Outcome::Ready(session)
    } else {
        Outcome::Next
    }
}

/// The information replies: export and block size always, the rest if asked for.
fn send_info(option: u32, session: &Session, wanted: Wanted, out: &mut Output) {
    let export = &session.export;
    let size = InfoExport {
        kind: info::EXPORT.into(),
        size: export.size.into(),
        flags: session.transmission_flags().into(),
    };
    out.reply(option, rep::INFO, &[size.as_bytes()]);
    if wanted.name {
        out.reply(option, rep::INFO, &[&info::NAME.to_be_bytes(), cut(&export.name).as_bytes()]);
    }
    if wanted.description {
        let text = cut(&export.description).as_bytes();
        out.reply(option, rep::INFO, &[&info::DESCRIPTION.to_be_bytes(), text]);
    }
    let (min, preferred) = export.blocks();
    let blocks = InfoBlockSize {
        kind: info::BLOCK_SIZE.into(),
        min: min.into(),
        preferred: preferred.into(),
        max: PAYLOAD_MAX.into(),
    };
    out.reply(option, rep::INFO, &[blocks.as_bytes()]);
}

/// `OPT_LIST_META_CONTEXT` and `OPT_SET_META_CONTEXT` ("Metadata querying").
fn meta_context(
    option: u32,
    data: &[u8],
    agreed: &mut Agreed,
    out: &mut Output,
    exports: &dyn Exports,
) {
    let set = option == opt::SET_META_CONTEXT;
    if set {
        agreed.context = None; // replaced "including when this command fails"
    }
    if !agreed.structured {
        out.reply(option, rep::ERR_INVALID, &[b"structured replies come first"]);
        return;
    }
    let Some((name, hit)) = parse_queries(data, set) else {
        out.reply(option, rep::ERR_INVALID, &[b"malformed option data"]);
        return;
    };
    match name_of(name).and_then(|name| exports.find(name).map(|_| name)) {
        Err(refusal) => return refuse(option, refusal, out),
        Ok(name) if hit && set => agreed.context = Some(name.to_owned()),
        Ok(_) => {}
    }
    if hit {
        out.context(option);
    }
    out.ack(option);
}

/// The session that the client would have with this export.
fn session(export: Export, name: &str, agreed: &Agreed) -> Session {
    let context = agreed.context.as_deref() == Some(name);
    Session { export, structured: agreed.structured, allocation: context }
}

/// The answer to an option that an export refuses.
fn refuse(option: u32, refusal: Refusal, out: &mut Output) {
    match refusal {
        Refusal::Unknown => out.reply(option, rep::ERR_UNKNOWN, &[b"no such export"]),
        Refusal::BadName => out.reply(option, rep::ERR_INVALID, &[b"not a name"]),
        Refusal::Policy(why) => out.reply(option, rep::ERR_POLICY, &[cut(why).as_bytes()]),
        Refusal::ShuttingDown => {
            out.reply(option, rep::ERR_SHUTDOWN, &[b"server is shutting down"]);
        }
    }
}

/// A name that an export may have. It is a key of a table, never a path.
fn name_of(bytes: &[u8]) -> Result<&str, Refusal> {
    if bytes.len() > NAME_MAX {
        return Err(Refusal::Unknown);
    }
    let name = std::str::from_utf8(bytes).map_err(|_| Refusal::BadName)?;
    if name.contains('\0') {
        return Err(Refusal::BadName);
    }
    Ok(name)
}

/// What `OPT_INFO` and `OPT_GO` ask for besides the export itself.
#[derive(Clone, Copy, Default)]
struct Wanted {
    name: bool,
    description: bool,
}

/// Name length, name, count, information types; nothing behind them.
fn parse_info(data: &[u8]) -> Option<(&[u8], Wanted)> {
    let mut data = Data(data);
    let len = data.u32()?;
    let name = data.bytes(len)?;
    let mut wanted = Wanted::default();
    for _ in 0..data.u16()? {
        match data.u16()? {
            info::NAME => wanted.name = true,
            info::DESCRIPTION => wanted.description = true,
            _ => {}
        }
    }
    data.0.is_empty().then_some((name, wanted))
}

/// Name length, name, count, queries; says whether any of them means `base:allocation`.
fn parse_queries(data: &[u8], set: bool) -> Option<(&[u8], bool)> {
    let mut data = Data(data);
    let len = data.u32()?;
    let name = data.bytes(len)?;
    let queries = data.u32()?;
    // Listing without a query means all there is; setting without one means none.
    let mut hit = queries == 0 && !set;
    for _ in 0..queries {
        let len = data.u32()?; // a false count ends here at the latest
        let query = data.bytes(len)?;
        hit |= query == BASE_ALLOCATION || (!set && query == b"base:");
    }
    data.0.is_empty().then_some((name, hit))
}

/// Reads option data from its front; `None` when it is too short.
struct Data<'a>(&'a [u8]);

impl<'a> Data<'a> {
    fn bytes(&mut self, len: u32) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }
}

impl Session {
    /// The transmission flags ("Transmission flags").
    #[must_use]
    pub fn transmission_flags(&self) -> u16 {
        let always = export::HAS_FLAGS
            | export::SEND_FLUSH
            | export::SEND_FUA
            | export::SEND_CACHE
            | export::CAN_MULTI_CONN;
        let changes = if self.export.read_only {
            export::READ_ONLY
        } else {
            export::SEND_TRIM | export::SEND_WRITE_ZEROES | export::SEND_FAST_ZERO
        };
        always | changes | if self.structured { export::SEND_DF } else { 0 }
    }
}
