// SPDX-License-Identifier: MIT

//! Replies of the transmission phase, written into the caller's memory.
//!
//! A session has simple replies, or structured ones once they were negotiated ("Simple reply
//! message", "Structured reply chunk message"). A read that succeeds is answered with one chunk,
//! its data behind [`Replies::data`], which also honours "don't fragment". All else fits into
//! [`REPLY_MAX`] bytes, so that a driver with that much room cannot fail.

use zerocopy::IntoBytes;

use super::handshake::Session;
use super::wire::{
    chunk, Chunk, ChunkError, Descriptor, NbdError, SimpleReply, ALLOCATION_ID, CHUNK_MAGIC,
    SIMPLE_REPLY_MAGIC,
};
use super::Request;

/// Bytes that the longest reply takes (without a read's data and a block status).
pub const REPLY_MAX: usize = 128;

/// Bytes of a block status reply before its descriptors.
const STATUS_HEAD: usize = size_of::<Chunk>() + 4;

/// Bytes of a block status reply with that many descriptors.
#[must_use]
pub const fn status_bytes(descriptors: usize) -> usize {
    descriptors.saturating_mul(size_of::<Descriptor>()).saturating_add(STATUS_HEAD)
}

/// An extent of the answer to a block status request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Bytes; an extent may reach beyond what was asked for.
    pub len: u64,
    /// See [`super::wire::state`].
    pub flags: u32,
}

/// The encoder of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replies {
    structured: bool,
}

impl Replies {
    /// For a session.
    #[must_use]
    pub const fn new(session: &Session) -> Self {
        Self { structured: session.structured }
    }

    /// What goes before the data of a read that succeeded; gives its length.
    ///
    /// All of the data must be there already: the chunk says that it is the last, which "MUST
    /// NOT" be said while it may still fail.
    pub fn data(&self, read: &Request, out: &mut [u8; REPLY_MAX]) -> usize {
        if !self.structured {
            return simple(read.cookie, 0, out);
        }
        let len = read.len.saturating_add(8);
        let head = head(read.cookie, chunk::OFFSET_DATA, len);
        put(out, &[head.as_bytes(), &read.at.to_be_bytes()])
    }

    /// The request is done; it was not a read or a block status.
    pub fn done(&self, cookie: u64, out: &mut [u8; REPLY_MAX]) -> usize {
        if !self.structured {
            return simple(cookie, 0, out);
        }
        put(out, &[head(cookie, chunk::NONE, 0).as_bytes()])
    }

    /// The request failed; a structured reply says why in words, cut to what fits.
    pub fn failed(
        &self,
        cookie: u64,
        error: NbdError,
        why: &str,
        out: &mut [u8; REPLY_MAX],
    ) -> usize {
        if !self.structured {
            return simple(cookie, error.code(), out);
        }
        let why = cut(why);
        let message = u16::try_from(why.len()).unwrap_or(0);
        let head = head(cookie, chunk::ERROR, u32::from(message).saturating_add(6));
        let error = ChunkError { error: error.code().into(), message: message.into() };
        put(out, &[head.as_bytes(), error.as_bytes(), why.as_bytes()])
    }

    /// A block status reply ("`NBD_REPLY_TYPE_BLOCK_STATUS`"), of as many descriptors as `out` has
    /// room for ([`status_bytes`]); gives its length. `None` if there is no room for one.
    ///
    /// Neighbours of equal flags become one; the sum of the lengths is cut to the request's, so
    /// that no extent, however long, can overflow. Where extents are missing, 0 may "always
    /// safely" be reported: without any, the whole range is.
    pub fn block_status(
        &self,
        request: &Request,
        one: bool,
        extents: impl IntoIterator<Item = Extent>,
        out: &mut [u8],
    ) -> Option<usize> {
        let room = out.len().checked_sub(status_bytes(1))? / size_of::<Descriptor>();
        let most = if one { 1 } else { room.saturating_add(1) };
        let (front, body) = out.split_at_mut_checked(STATUS_HEAD)?;
        let mut slots = body.chunks_exact_mut(size_of::<Descriptor>()).take(most);
        let mut used = 0_u32;
        for (len, flags) in Merge::new(request.len, extents) {
            let Some(slot) = slots.next() else { break };
            let descriptor = Descriptor { len: len.into(), flags: flags.into() };
            descriptor.write_to(slot).ok()?;
            used = used.saturating_add(8);
        }
        let head = head(request.cookie, chunk::BLOCK_STATUS, used.saturating_add(4));
        let id = ALLOCATION_ID.to_be_bytes();
        let bytes = head.as_bytes().iter().chain(&id);
        front.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        usize::try_from(used).ok()?.checked_add(STATUS_HEAD)
    }
}

/// Joins extents, and cuts them to what was asked for; never empty for a request that is not.
struct Merge<I> {
    extents: I,
    next: Option<(u32, u32)>,
    left: u32,
    any: bool,
}

impl<I: Iterator<Item = Extent>> Merge<I> {
    fn new(len: u32, extents: impl IntoIterator<IntoIter = I>) -> Self {
        Self { extents: extents.into_iter(), next: None, left: len, any: false }
    }

    /// The next extent that is not empty, cut to what is left.
    fn pull(&mut self) -> Option<(u32, u32)> {
        if self.left == 0 {
            return None;
        }
        let extent = self.extents.find(|extent| extent.len > 0)?;
        let len = u32::try_from(extent.len).unwrap_or(u32::MAX).min(self.left);
        self.left = self.left.saturating_sub(len);
        Some((len, extent.flags))
    }
}

impl<I: Iterator<Item = Extent>> Iterator for Merge<I> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        let whole = (self.left, 0);
        let mut current = match self.next.take().or_else(|| self.pull()) {
            Some(extent) => extent,
            None if self.any || whole.0 == 0 => return None,
            None => {
                self.left = 0;
                whole
            }
        };
        self.any = true;
        while let Some((len, flags)) = self.pull() {
            if flags != current.1 {
                self.next = Some((len, flags));
                break;
            }
            current.0 = current.0.saturating_add(len);
        }
        Some(current)
    }
}

/// The header of the one and last chunk of a structured reply.
fn head(cookie: u64, kind: u16, len: u32) -> Chunk {
    Chunk {
        magic: CHUNK_MAGIC.into(),
        flags: chunk::DONE.into(),
        kind: kind.into(),
        cookie: cookie.into(),
        len: len.into(),
    }
}

fn simple(cookie: u64, error: u32, out: &mut [u8; REPLY_MAX]) -> usize {
    let reply = SimpleReply {
        magic: SIMPLE_REPLY_MAGIC.into(),
        error: error.into(),
        cookie: cookie.into(),
    };
    put(out, &[reply.as_bytes()])
}

/// The parts one behind the other; gives their length.
fn put(out: &mut [u8; REPLY_MAX], parts: &[&[u8]]) -> usize {
    let mut at = 0_usize;
    for part in parts {
        let end = at.saturating_add(part.len());
        if let Some(to) = out.get_mut(at..end) {
            to.copy_from_slice(part);
            at = end;
        }
    }
    at
}

/// A message, cut to the room that an error chunk has for it.
fn cut(why: &str) -> &str {
    let mut end = why.len().min(REPLY_MAX - size_of::<Chunk>() - size_of::<ChunkError>());
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.get(..end).unwrap_or("")
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
