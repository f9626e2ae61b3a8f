// SPDX-License-Identifier: MIT

//! The client's side of the handshake ("Fixed newstyle negotiation").

use zerocopy::{FromBytes, IntoBytes};

use super::super::wire::{
    info, opt, rep, shake, Greeting, InfoBlockSize, InfoExport, OptionHeader, OptionReply,
    BASE_ALLOCATION, INIT_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC,
};
use super::super::PAYLOAD_MAX;
use super::error::{ClientError, Result};
use super::link::Link;
use super::Facts;

/// Bytes that a reply to an option may have.
const REPLY_MAX: u32 = 16 << 10;

/// Replies to one option.
const REPLIES_MAX: usize = 100_000;

/// Hears the greeting and sends the client's flags.
pub(super) fn begin(link: &mut Link) -> Result<()> {
    let greeting: Greeting = link.get()?;
    if greeting.magic != INIT_MAGIC || greeting.option_magic != OPTION_MAGIC {
        return Err(ClientError::Protocol("not a newstyle NBD server"));
    }
    let needed = shake::FIXED_NEWSTYLE | shake::NO_ZEROES;
    if greeting.flags.get() & needed != needed {
        return Err(ClientError::Protocol("an NBD server of before 2016"));
    }
    link.write(&u32::from(needed).to_be_bytes())
}

/// Structured replies, `base:allocation`, then `OPT_GO`.
pub(super) fn enter(link: &mut Link, export: &str) -> Result<Facts> {
    let structured = accepted(send(link, opt::STRUCTURED_REPLY, &[], |_, _| Ok(())))?;
    let mut facts = Facts {
        size: 0,
        flags: 0,
        min_block: 1,
        preferred_block: 4096,
        max_block: PAYLOAD_MAX,
        structured,
        context: None,
    };
    let name = [&len_of(export.as_bytes())?, export.as_bytes()].concat();
    if structured {
        let query = [&1_u32.to_be_bytes(), &len_of(BASE_ALLOCATION)?[..], BASE_ALLOCATION].concat();
        let set = [name.as_slice(), &query].concat();
        let context = &mut facts.context;
        accepted(send(link, opt::SET_META_CONTEXT, &set, |kind, data| {
            if let (rep::META_CONTEXT, Some((id, BASE_ALLOCATION))) =
                (kind, data.split_first_chunk())
            {
                *context = Some(u32::from_be_bytes(*id));
            }
            Ok(())
        }))?;
    }
    let go = [&name, &1_u16.to_be_bytes()[..], &info::BLOCK_SIZE.to_be_bytes()].concat();
    let mut known = false;
    send(link, opt::GO, &go, |kind, data| {
        known |= kind == rep::INFO && learn(&mut facts, data)?;
        Ok(())
    })?;
    if !known {
        return Err(ClientError::Protocol("no size in the reply"));
    }
    Ok(facts)
}

/// Takes an information reply in; says whether it was the one on the export.
fn learn(facts: &mut Facts, data: &[u8]) -> Result<bool> {
    let kind = data.first_chunk().map(|kind| u16::from_be_bytes(*kind));
    match kind {
        Some(info::EXPORT) => {
            let export = InfoExport::read_from_bytes(data);
            let export = export.map_err(|_| ClientError::Protocol("malformed export"))?;
            (facts.size, facts.flags) = (export.size.get(), export.flags.get());
            return Ok(true);
        }
        Some(info::BLOCK_SIZE) => {
            let blocks = InfoBlockSize::read_from_bytes(data);
            let blocks = blocks.map_err(|_| ClientError::Protocol("malformed block size"))?;
            facts.min_block = blocks.min.get();
            facts.preferred_block = blocks.preferred.get();
            facts.max_block = blocks.max.get();
            if !facts.min_block.is_power_of_two() || facts.max_block < facts.min_block {
                return Err(ClientError::Protocol("impossible block sizes"));
            }
            // Pieces of a long read must stay aligned, however odd the maximum is.
            let most = facts.max_block.min(PAYLOAD_MAX);
            facts.max_block = most & !(facts.min_block.wrapping_sub(1));
        }
        _ => {}
    }
    Ok(false)
}

/// The exports, as (name, description).
pub(super) fn list(link: &mut Link) -> Result<Vec<(String, String)>> {
    let mut exports = Vec::new();
    send(link, opt::LIST, &[], |kind, data| {
        if kind == rep::SERVER {
            let entry = data.split_first_chunk().and_then(|(len, rest)| {
                let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
                let (name, description) = rest.split_at_checked(len)?;
                Some((text(name), text(description)))
            });
            exports.push(entry.ok_or(ClientError::Protocol("malformed list"))?);
        }
        Ok(())
    })?;
    let _ = send(link, opt::ABORT, &[], |_, _| Ok(()));
    Ok(exports)
}

/// Sends an option, and hands its replies to `take` up to the last.
fn send(
    link: &mut Link,
    option: u32,
    data: &[u8],
    mut take: impl FnMut(u32, &[u8]) -> Result<()>,
) -> Result<()> {
    let len = u32::from_be_bytes(len_of(data)?);
    let header =
        OptionHeader { magic: OPTION_MAGIC.into(), option: option.into(), len: len.into() };
    link.write(&[header.as_bytes(), data].concat())?;
    for _ in 0..REPLIES_MAX {
        let head: OptionReply = link.get()?;
        let (kind, len) = (head.kind.get(), head.len.get());
        if head.magic != OPTION_REPLY_MAGIC || head.option != option || len > REPLY_MAX {
            return Err(ClientError::Protocol("bad reply to an option"));
        }
        let data = link.text(usize::try_from(len).unwrap_or(0))?;
        match kind {
            rep::ACK => return Ok(()),
            kind if kind & rep::ERR != 0 => return Err(ClientError::Refused(kind, text(&data))),
            kind => take(kind, &data)?,
        }
    }
    Err(ClientError::Protocol("no end to the replies"))
}

/// Whether an option was accepted; a refusal is an answer, too.
fn accepted(result: Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(ClientError::Refused(..)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn len_of(bytes: &[u8]) -> Result<[u8; 4]> {
    let len = u32::try_from(bytes.len()).map_err(|_| ClientError::Protocol("too long"))?;
    Ok(len.to_be_bytes())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
