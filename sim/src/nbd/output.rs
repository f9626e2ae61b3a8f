// SPDX-License-Identifier: MIT

//! What the handshake has to say: a buffer of fixed size.
//!
//! # Invariants
//!
//! It never grows beyond [`OUTPUT_MAX`]: an option is looked at only while [`REPLY_ROOM`] bytes
//! are free, which is more than one option's replies take (a list asks again for each entry).

use zerocopy::IntoBytes;

use super::wire::{opt, rep, OptionReply, ALLOCATION_ID, BASE_ALLOCATION, OPTION_REPLY_MAGIC};
use super::NAME_MAX;

/// Bytes of output that may wait to be sent.
pub const OUTPUT_MAX: usize = 16 << 10;

/// Free bytes that the machine asks for before it goes on.
pub(super) const REPLY_ROOM: usize = 1024;

/// Bytes that wait to be sent.
#[derive(Debug)]
pub(super) struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

impl Output {
    /// Nothing to send yet.
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(OUTPUT_MAX), sent: 0 }
    }

    /// What waits.
    pub(super) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or(&[])
    }

    /// The first `n` bytes of what waits were sent.
    pub(super) fn sent(&mut self, n: usize) {
        self.sent = self.sent.saturating_add(n).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
    }

    /// Whether the next replies fit; makes room by closing the gap in front.
    pub(super) fn has_room(&mut self) -> bool {
        if self.bytes.len() + REPLY_ROOM > OUTPUT_MAX {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        self.bytes.len() + REPLY_ROOM <= OUTPUT_MAX
    }

    /// Appends; callers stay within [`REPLY_ROOM`], and what does not fit is cut.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = OUTPUT_MAX.saturating_sub(self.bytes.len());
        debug_assert!(bytes.len() <= room, "replies exceed the room that was checked");
        self.bytes.extend(bytes.iter().take(room));
    }

    /// One reply to an option, its data in parts ("Fixed newstyle negotiation").
    pub(super) fn reply(&mut self, option: u32, kind: u32, parts: &[&[u8]]) {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let header = OptionReply {
            magic: OPTION_REPLY_MAGIC.into(),
            option: option.into(),
            kind: kind.into(),
            len: u32::try_from(len).unwrap_or(u32::MAX).into(),
        };
        self.push(header.as_bytes());
        for part in parts {
            self.push(part);
        }
    }

    /// The option went well.
    pub(super) fn ack(&mut self, option: u32) {
        self.reply(option, rep::ACK, &[]);
    }

    /// An entry of the list of exports.
    pub(super) fn server(&mut self, name: &str, description: &str) {
        let len = u32::try_from(name.len()).unwrap_or(0).to_be_bytes();
        let parts = [&len, name.as_bytes(), cut(description).as_bytes()];
        self.reply(opt::LIST, rep::SERVER, &parts);
    }

    /// The one metadata context, with the id 0 in a list.
    pub(super) fn context(&mut self, option: u32) {
        let id = if option == opt::SET_META_CONTEXT { ALLOCATION_ID } else { 0 };
        self.reply(option, rep::META_CONTEXT, &[&id.to_be_bytes(), BASE_ALLOCATION]);
    }
}

/// The text, cut to what a string should have at most ("Conventions").
pub(super) fn cut(text: &str) -> &str {
    let mut end = text.len().min(NAME_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_makes_room_when_bytes_were_sent() {
        let mut out = Output::new();
        while out.has_room() {
            out.push(&[7; REPLY_ROOM]);
        }
        let full = out.waiting().len();
        assert!(full <= OUTPUT_MAX);
        out.sent(REPLY_ROOM);
        assert!(out.has_room());
        assert_eq!(out.waiting().len(), full - REPLY_ROOM);
        out.sent(usize::MAX);
        assert!(out.waiting().is_empty());
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let long = "\u{e4}".repeat(NAME_MAX);
        assert_eq!(cut(&long).len(), NAME_MAX);
        assert_eq!(cut(&format!("x{long}")).len(), NAME_MAX - 1);
    }
}
