// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A record of the log: a block of 4 KiB, a header of 96 bytes and entries behind one another.
//!
//! # Invariants
//!
//! A block that [`open`] accepts was written whole for this pool. That it belongs where it was
//! found is for recovery to judge, by position, generation and the chain.

mod entry;

pub use entry::{fold, Counters, Entries, Entry, Fill, Fold, ENTRY_MAX};
#[cfg(test)]
pub(crate) use entry::{RawCounters, RawHead, RawRename, RawSummed};

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::page::copy;
use crate::platform::Platform;
use crate::units::{LogPos, PAGE};

/// Bytes in the header of a block.
pub const HEADER: usize = 96;

/// Bytes in a block for entries.
pub const PAYLOAD: usize = PAGE - HEADER;

/// "rwlg" in the order of the bytes.
const MAGIC: u32 = u32::from_le_bytes(*b"rwlg");

/// Flag: the group of entries goes on in the next block.
pub const FLAG_GROUP_MORE: u32 = 1;

/// The header of a block.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Default)]
#[repr(C)]
pub struct RawHeader {
    /// XXH64, seed 0, of the bytes 8 to 4095.
    pub checksum: U64,
    /// "rwlg".
    pub magic: U32,
    /// `FLAG_*`.
    pub flags: U32,
    /// The pool's number.
    pub pool: U64,
    /// The log generation that the block was written in.
    pub generation: U64,
    /// Generation of the newest superblock that was known durable when the block was sealed.
    pub super_generation: U64,
    /// The block's position in the log.
    pub position: U64,
    /// Checksum of the block before.
    pub before: U64,
    /// All blocks before this position were known durable when the block was sealed.
    pub durable: U64,
    /// Position of the first block of the group that the block belongs to; its own if of none.
    pub group_start: U64,
    /// Bytes of entries.
    pub bytes: U32,
    /// Zero.
    pub reserved: [u8; 20],
}

const _: () = assert!(size_of::<RawHeader>() == HEADER);

/// A block taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Its checksum, which the next block repeats.
    pub checksum: u64,
    /// The group of entries goes on in the next block.
    pub group_more: bool,
    /// The log generation.
    pub generation: u64,
    /// Generation of the newest superblock known durable.
    pub super_generation: u64,
    /// The block's position.
    pub position: LogPos,
    /// Checksum of the block before.
    pub before: u64,
    /// All blocks before this were known durable.
    pub durable: LogPos,
    /// The first block of its group.
    pub group_start: LogPos,
}

/// Puts the header on a block whose entries, `used` bytes of them, are filled in; gives its
/// checksum. `header.checksum` is not looked at.
pub fn seal<P: Platform>(
    platform: &P,
    block: &mut [u8],
    pool: u64,
    header: &Header,
    used: usize,
) -> u64 {
    let raw = RawHeader {
        checksum: 0.into(),
        magic: MAGIC.into(),
        flags: if header.group_more { FLAG_GROUP_MORE } else { 0 }.into(),
        pool: pool.into(),
        generation: header.generation.into(),
        super_generation: header.super_generation.into(),
        position: header.position.0.into(),
        before: header.before.into(),
        durable: header.durable.0.into(),
        group_start: header.group_start.0.into(),
        bytes: u32::try_from(used).unwrap_or(0).into(),
        reserved: [0; 20],
    };
    copy(block, 0, raw.as_bytes());
    let sum = platform.hash(0, block.get(8..).unwrap_or(&[]));
    copy(block, 0, &sum.to_le_bytes());
    sum
}

/// The header and the entries of a block, if it is sound and of this pool.
pub fn open<'a, P: Platform>(
    platform: &P,
    block: &'a [u8],
    pool: u64,
) -> Option<(Header, Entries<'a>)> {
    if block.len() != PAGE {
        return None;
    }
    let (raw, payload) = RawHeader::ref_from_prefix(block).ok()?;
    if raw.magic.get() != MAGIC || raw.pool.get() != pool {
        return None;
    }
    let sum = platform.hash(0, block.get(8..)?);
    if raw.checksum.get() != sum {
        return None;
    }
    let header = Header {
        checksum: sum,
        group_more: raw.flags.get() & FLAG_GROUP_MORE != 0,
        generation: raw.generation.get(),
        super_generation: raw.super_generation.get(),
        position: LogPos(raw.position.get()),
        before: raw.before.get(),
        durable: LogPos(raw.durable.get()),
        group_start: LogPos(raw.group_start.get()),
    };
    let bytes = usize::try_from(raw.bytes.get()).ok()?;
    Some((header, Entries::new(payload.get(..bytes)?)))
}

#[cfg(test)]
mod tests;
