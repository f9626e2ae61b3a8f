// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Commands and replies: the same bytes through the server's Unix socket and the module's ioctl.
//!
//! A command is a [`Command`], followed by `count` [`Item`]s. A reply is a [`Reply`], followed by
//! `count` rows whose type the verb decides. All integers are little-endian; strings are padded
//! with zeros. A version that differs is refused.

pub mod module;
pub mod rows;
mod verb;

pub use rows::{
    DeviceRow, EntityRow, EventRow, NameRow, PoolAtRow, PoolRow, PropertyRow, RestoreRow, RunRow,
};
pub use verb::{Refusal, Verb};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First field of each command and reply: "RWSN".
pub const MAGIC: u32 = 0x4E53_5752;

/// The version of the commands and replies.
pub const VERSION: u16 = 1;

/// Bytes in a full name, `volume@snapshot`, without its padding.
pub const NAME_MAX: usize = 127;

/// Bytes in the name of a volume, and in the part of a snapshot's behind the `@`.
pub const PART_MAX: usize = 63;

/// Items that one command may carry.
pub const ITEMS_MAX: usize = 64;

/// A name, padded with zeros.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, PartialEq, Eq)]
#[repr(transparent)]
pub struct Name(pub [u8; NAME_MAX + 1]);

impl Default for Name {
    fn default() -> Self {
        Self([0; NAME_MAX + 1])
    }
}

impl Name {
    /// None.
    pub const EMPTY: Self = Self([0; NAME_MAX + 1]);

    /// The name, if it fits and holds no zero byte.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        let mut padded = Self::default();
        if name.len() > NAME_MAX || name.contains(&0) {
            return None;
        }
        padded.0.get_mut(..name.len())?.copy_from_slice(name);
        Some(padded)
    }

    /// The name without its padding.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|&b| b == 0).unwrap_or(self.0.len());
        self.0.get(..len).unwrap_or(&[])
    }

    /// The name as text; names that rwsnap admits are ASCII.
    #[must_use]
    pub fn text(&self) -> &str {
        core::str::from_utf8(self.bytes()).unwrap_or("?")
    }

    /// The volume and, if the name has an `@`, the snapshot.
    #[must_use]
    pub fn split(&self) -> (&[u8], Option<&[u8]>) {
        let mut parts = self.bytes().splitn(2, |&b| b == b'@');
        (parts.next().unwrap_or(&[]), parts.next())
    }

    /// Whether a volume may bear the part of a name: 1 to 63 of `A-Z a-z 0-9 . _ : -`, not
    /// beginning with `-` or `.`.
    #[must_use]
    pub fn part_is_valid(part: &[u8]) -> bool {
        let fits = !part.is_empty() && part.len() <= PART_MAX;
        let head = part.first().is_some_and(|&b| b != b'-' && b != b'.');
        fits && head && part.iter().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(b))
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.text())
    }
}

/// Command flag: go on in spite of clients that write (they are cut off).
pub const FLAG_FORCE: u32 = 1;
/// Command flag: also what depends on the object (destroy -r).
pub const FLAG_RECURSIVE: u32 = 2;
/// Command flag: change nothing; the reply lists what would be done (destroy --dry-run).
pub const FLAG_DRY_RUN: u32 = 4;
/// Command flag: when the last user is gone (destroy --defer).
pub const FLAG_DEFER: u32 = 8;
/// Command flag: restore without a `before-restore` snapshot.
pub const FLAG_NO_UNDO: u32 = 16;
/// Command flag: restore old data first (else new data first).
pub const FLAG_OLD_FIRST: u32 = 32;
/// Command flag of `List` and `Info`: count anew what volumes and snapshots use and refer to, if
/// anything has changed since it was counted last.
pub const FLAG_COUNT: u32 = 64;

/// What every command begins with.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
pub struct Command {
    /// [`MAGIC`].
    pub magic: U32,
    /// [`VERSION`].
    pub version: U16,
    /// A [`Verb`].
    pub verb: U16,
    /// `FLAG_*`.
    pub flags: U32,
    /// Items that follow, at most [`ITEMS_MAX`].
    pub count: U32,
    /// The object.
    pub name: Name,
    /// The second object, where the verb has one.
    pub other: Name,
    /// A number, where the verb takes one: a rate, a cursor.
    pub value: U64,
    /// A second number: rows wanted at most.
    pub limit: U64,
    /// Wall clock in ns since 1970, for what the command creates.
    pub time_ns: U64,
    /// 64 random bits, from which the UUIDs of what the command creates are made.
    pub random: [u8; 16],
    /// Zero.
    pub reserved: [u8; 80],
}

const _: () = assert!(size_of::<Command>() == 392);

impl Command {
    /// A command of this verb on this object; all else is zero.
    #[must_use]
    pub fn new(verb: Verb, name: Name) -> Self {
        Self {
            magic: MAGIC.into(),
            version: VERSION.into(),
            verb: (verb as u16).into(),
            flags: 0.into(),
            count: 0.into(),
            name,
            other: Name::default(),
            value: 0.into(),
            limit: 0.into(),
            time_ns: 0.into(),
            random: [0; 16],
            reserved: [0; 80],
        }
    }
}

/// One of several objects of a command: a snapshot to take, an object to destroy, a property.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
pub struct Item {
    /// The object, or a property's key.
    pub name: Name,
    /// A property's value, padded with zeros.
    pub value: [u8; 192],
}

const _: () = assert!(size_of::<Item>() == 320);

/// What every reply begins with.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug)]
#[repr(C)]
pub struct Reply {
    /// [`MAGIC`].
    pub magic: U32,
    /// [`VERSION`].
    pub version: U16,
    /// A [`Refusal`]; zero if the command was done.
    pub refusal: U16,
    /// Rows that follow: the verb's, or with a refusal [`NameRow`]s, one for each blocker; or the
    /// refusal's sentence, in rows of one byte.
    pub count: U32,
    /// Bytes in a row.
    pub row_bytes: U32,
    /// Where to go on asking, or `u64::MAX` after the last row.
    pub next: U64,
    /// A number: how many [`NameRow`]s the reply had no room for, if there are such; else the
    /// detail of a refusal, or what the verb says.
    pub value: U64,
}

const _: () = assert!(size_of::<Reply>() == 32);

/// Bytes of a reply at most.
pub const REPLY_MAX: usize = 65_536;

/// [`NameRow`]s in a reply at most: if there are as many, `Reply::value` is how many more there
/// would be.
pub const NAMES_MAX: usize = (REPLY_MAX - size_of::<Reply>()) / size_of::<NameRow>();
