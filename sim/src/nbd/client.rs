// SPDX-License-Identifier: MIT

//! A small blocking NBD client, for the command line and the tests: one request at a time.
//!
//! It trusts a server no more than the server trusts a client: each length is checked before it
//! is used, a read succeeds only if every byte of it came exactly once, and no error is lost.

mod error;
mod link;
mod shake;

use std::time::Duration;

use zerocopy::{FromBytes, IntoBytes};

use super::wire::{
    chunk, cmd, flag, Chunk, ChunkError, Descriptor, RequestHeader, SimpleReply, CHUNK_MAGIC,
    REQUEST_MAGIC, SIMPLE_REPLY_MAGIC,
};
use super::{Address, NbdError, PAYLOAD_MAX};

pub use error::{ClientError, Result};
use link::Link;

/// Bytes that a reply other than read data may have.
const REPLY_MAX: usize = 1 << 20;

/// Pieces that a server may cut a read into.
const PIECES_MAX: usize = 1 << 16;

/// An extent of a block status reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// Bytes.
    pub len: u64,
    /// See [`super::wire::state`].
    pub flags: u32,
}

/// What the server said of the export.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Bytes.
    pub size: u64,
    /// Transmission flags, see [`super::wire::export`].
    pub flags: u16,
    /// Smallest length and alignment of a request.
    pub min_block: u32,
    /// Length and alignment that go well.
    pub preferred_block: u32,
    /// Bytes that a read or write may carry.
    pub max_block: u32,
    /// Structured replies were negotiated.
    pub structured: bool,
    /// Id of `base:allocation`, if it was selected.
    pub context: Option<u32>,
}

/// A connection in the transmission phase. Dropping it says good-bye.
#[derive(Debug)]
pub struct Client {
    link: Link,
    facts: Facts,
    cookie: u64,
}

impl Client {
    /// Connects, and enters the export.
    ///
    /// # Errors
    ///
    /// The server is not there, or refuses the export.
    pub fn connect(address: &Address, export: &str) -> Result<Self> {
        let mut link = Link::connect(address)?;
        shake::begin(&mut link)?;
        let facts = shake::enter(&mut link, export)?;
        Ok(Self { link, facts, cookie: 0 })
    }

    /// Connects to an `nbd://` or `nbd+unix://` URI.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`], or it is not such a URI.
    pub fn connect_uri(uri: &str) -> Result<Self> {
        let (address, export) = Address::from_uri(uri).map_err(ClientError::Address)?;
        Self::connect(&address, &export)
    }

    /// The exports of a server, as (name, description).
    ///
    /// # Errors
    ///
    /// The server is not there, or does not list.
    pub fn list(address: &Address) -> Result<Vec<(String, String)>> {
        let mut link = Link::connect(address)?;
        shake::begin(&mut link)?;
        shake::list(&mut link)
    }

    /// What the server said of the export.
    #[must_use]
    pub const fn facts(&self) -> Facts {
        self.facts
    }

    /// Bytes of the export.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.facts.size
    }

    /// Lets requests fail that take longer.
    ///
    /// # Errors
    ///
    /// The socket refuses.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.link.set_timeout(timeout)
    }

    /// Reads `data.len()` bytes from `at`.
    ///
    /// # Errors
    ///
    /// What the server answered, or that the connection broke.
    pub fn read(&mut self, at: u64, data: &mut [u8]) -> Result<()> {
        let mut at = at;
        for piece in data.chunks_mut(self.piece()) {
            let len = self.send(cmd::READ, 0, at, as_len(piece.len())?)?;
            self.read_reply(at, piece)?;
            at = at.saturating_add(u64::from(len));
        }
        Ok(())
    }

    /// Writes `data` at `at`; with `fua`, durably.
    ///
    /// # Errors
    ///
    /// What the server answered, or that the connection broke.
    pub fn write(&mut self, at: u64, data: &[u8], fua: bool) -> Result<()> {
        let mut at = at;
        for piece in data.chunks(self.piece()) {
            let len =
                self.send(cmd::WRITE, if fua { flag::FUA } else { 0 }, at, as_len(piece.len())?)?;
            self.link.write(piece)?;
            self.plain_reply()?;
            at = at.saturating_add(u64::from(len));
        }
        Ok(())
    }

    /// Makes all writes that were answered durable.
    ///
    /// # Errors
    ///
    /// What the server answered, or that the connection broke.
    pub fn flush(&mut self) -> Result<()> {
        self.send(cmd::FLUSH, 0, 0, 0)?;
        self.plain_reply()
    }

    /// Tells that the bytes are not needed any more.
    ///
    /// # Errors
    ///
    /// What the server answered, or that the connection broke.
    pub fn trim(&mut self, at: u64, len: u32) -> Result<()> {
        self.send(cmd::TRIM, 0, at, len)?;
        self.plain_reply()
    }

    /// Writes zeros; `flags` of [`flag`]: `FUA`, `NO_HOLE`, `FAST_ZERO`.
    ///
    /// # Errors
    ///
    /// What the server answered, or that the connection broke.
    pub fn zero(&mut self, at: u64, len: u32, flags: u16) -> Result<()> {
        self.send(cmd::WRITE_ZEROES, flags, at, len)?;
        self.plain_reply()
    }

    /// Tells that the bytes will be wanted soon.
    ///
    /// # Errors
    ///
    /// What the server answered, or that the connection broke.
    pub fn cache(&mut self, at: u64, len: u32) -> Result<()> {
        self.send(cmd::CACHE, 0, at, len)?;
        self.plain_reply()
    }

    /// The extents from `at` on, as one reply gives them: at least one, maybe not all of `len`.
    ///
    /// # Errors
    ///
    /// What the server answered, or that the connection broke.
    pub fn block_status(&mut self, at: u64, len: u32, one: bool) -> Result<Vec<Extent>> {
        let Some(context) = self.facts.context else {
            return Err(ClientError::Protocol("the server has no block status"));
        };
        self.send(cmd::BLOCK_STATUS, if one { flag::REQ_ONE } else { 0 }, at, len)?;
        let mut extents = Vec::new();
        self.chunks(|link, head, left| {
            if head.kind != chunk::BLOCK_STATUS || left < 12 || left % 8 != 4 || left > REPLY_MAX {
                return Err(ClientError::Protocol("unexpected chunk"));
            }
            if link.u32()? != context || !extents.is_empty() {
                return Err(ClientError::Protocol("unknown metadata context"));
            }
            for _ in 0..left / 8 {
                let extent: Descriptor = link.get()?;
                if extent.len == 0 {
                    return Err(ClientError::Protocol("empty extent"));
                }
                extents.push(Extent { len: extent.len.get().into(), flags: extent.flags.get() });
            }
            Ok(())
        })?;
        if extents.is_empty() {
            return Err(ClientError::Protocol("no extents"));
        }
        Ok(extents)
    }

    /// Says good-bye.
    ///
    /// # Errors
    ///
    /// The connection broke before.
    pub fn disconnect(mut self) -> Result<()> {
        self.send(cmd::DISC, 0, 0, 0).map(drop)
    }

    /// Bytes that one read or write carries at most.
    fn piece(&self) -> usize {
        usize::try_from(self.facts.max_block.clamp(1, PAYLOAD_MAX)).unwrap_or(1)
    }

    /// Sends a header; gives the length back.
    fn send(&mut self, kind: u16, flags: u16, at: u64, len: u32) -> Result<u32> {
        self.cookie = self.cookie.wrapping_add(1);
        let header = RequestHeader {
            magic: REQUEST_MAGIC.into(),
            flags: flags.into(),
            kind: kind.into(),
            cookie: self.cookie.into(),
            at: at.into(),
            len: len.into(),
        };
        self.link.write(header.as_bytes())?;
        Ok(len)
    }

    /// The reply to a request without data.
    fn plain_reply(&mut self) -> Result<()> {
        self.chunks(|_, _, _| Err(ClientError::Protocol("unexpected chunk")))
    }

    /// The reply to a read.
    fn read_reply(&mut self, at: u64, data: &mut [u8]) -> Result<()> {
        if !self.facts.structured {
            self.simple()?;
            return self.link.read(data);
        }
        let mut pieces = Vec::new();
        self.chunks(|link, head, left| {
            let (first, len) = match head.kind.get() {
                chunk::OFFSET_DATA if left > 8 => (link.u64()?, left.saturating_sub(8)),
                chunk::OFFSET_HOLE if left == 12 => (link.u64()?, as_usize(link.u32()?)),
                _ => return Err(ClientError::Protocol("unexpected chunk")),
            };
            // Offsets count from the start of the export, and must lie within the request.
            let piece = first
                .checked_sub(at)
                .and_then(|from| usize::try_from(from).ok())
                .and_then(|from| data.get_mut(from..from.checked_add(len)?).map(|d| (from, d)));
            let Some((from, place)) = piece.filter(|_| len > 0) else {
                return Err(ClientError::Protocol("data outside of the request"));
            };
            if pieces.len() >= PIECES_MAX {
                return Err(ClientError::Protocol("too many chunks"));
            }
            pieces.push((from, len));
            if head.kind == chunk::OFFSET_DATA {
                link.read(place)
            } else {
                place.fill(0);
                Ok(())
            }
        })?;
        covers(&mut pieces, data.len())
    }

    /// Goes through the chunks of a reply, or the one simple reply; `content` takes those that
    /// bring something, all of their data.
    fn chunks(
        &mut self,
        mut content: impl FnMut(&mut Link, &Chunk, usize) -> Result<()>,
    ) -> Result<()> {
        if !self.facts.structured {
            return self.simple();
        }
        let mut failed = Ok(());
        loop {
            let magic = self.link.u32()?;
            if magic == SIMPLE_REPLY_MAGIC {
                return self.simple_rest(); // allowed for all but reads with data
            }
            if magic != CHUNK_MAGIC {
                return Err(ClientError::Protocol("bad magic"));
            }
            let mut bytes = [0; size_of::<Chunk>()];
            self.link.read(&mut bytes[4..])?;
            let head =
                Chunk::read_from_bytes(&bytes).map_err(|_| ClientError::Protocol("chunk"))?;
            if head.cookie.get() != self.cookie {
                return Err(ClientError::Protocol("reply to another request"));
            }
            let (kind, left) = (head.kind.get(), as_usize(head.len.get()));
            if kind & chunk::ERROR_BIT != 0 {
                failed = failed.and(Err(self.error_chunk(left)?));
            } else if kind != chunk::NONE {
                content(&mut self.link, &head, left)?;
            } else if left > 0 {
                return Err(ClientError::Protocol("NONE with data"));
            }
            if head.flags.get() & chunk::DONE != 0 {
                return failed;
            }
        }
    }

    /// The error that an error chunk of `left` bytes tells of.
    fn error_chunk(&mut self, left: usize) -> Result<ClientError> {
        let Some(room) = left.checked_sub(size_of::<ChunkError>()).filter(|&n| n <= REPLY_MAX)
        else {
            return Err(ClientError::Protocol("bad error chunk"));
        };
        let head: ChunkError = self.link.get()?;
        let text = self.link.text(room)?;
        let Some(message) = text.get(..usize::from(head.message.get())) else {
            return Err(ClientError::Protocol("bad error message"));
        };
        let message = String::from_utf8_lossy(message).into_owned();
        Ok(ClientError::Failed(NbdError::from_code(head.error.get()), message))
    }

    /// A simple reply.
    fn simple(&mut self) -> Result<()> {
        if self.link.u32()? != SIMPLE_REPLY_MAGIC {
            return Err(ClientError::Protocol("bad magic"));
        }
        self.simple_rest()
    }

    /// A simple reply behind its magic number.
    fn simple_rest(&mut self) -> Result<()> {
        const { assert!(size_of::<SimpleReply>() == 16) };
        let (error, cookie) = (self.link.u32()?, self.link.u64()?);
        if cookie != self.cookie {
            return Err(ClientError::Protocol("reply to another request"));
        }
        match error {
            0 => Ok(()),
            code => Err(ClientError::Failed(NbdError::from_code(code), String::new())),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.send(cmd::DISC, 0, 0, 0);
    }
}

/// Whether the pieces cover `len` bytes, each once.
fn covers(pieces: &mut [(usize, usize)], len: usize) -> Result<()> {
    pieces.sort_unstable();
    let end =
        pieces.iter().try_fold(
            0_usize,
            |end, &(from, len)| {
                if from == end {
                    end.checked_add(len)
                } else {
                    None
                }
            },
        );
    if end == Some(len) {
        Ok(())
    } else {
        Err(ClientError::Protocol("the read came with gaps or overlaps"))
    }
}

fn as_len(len: usize) -> Result<u32> {
    u32::try_from(len).map_err(|_| ClientError::Protocol("request too long"))
}

fn as_usize(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
