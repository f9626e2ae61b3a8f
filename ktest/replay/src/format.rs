// SPDX-License-Identifier: MIT

//! The bytes of a log (the kernel's `drivers/md/dm-log-writes.c`); all integers little-endian.
//!
//! ```text
//! sector 0   magic 8 | version 8 | entries 8 | bytes of a sector 4
//! then, an entry after the other:
//! a sector   sector 8 | sectors 8 | flags 8 | length 8 | a mark's text
//! sectors    the data that was written; none for a discard
//! ```

use std::fmt;

/// Bytes of the head of the log and of an entry's numbers.
pub const HEAD: usize = 32;

/// The first eight bytes.
pub const MAGIC: u64 = 0x006a_7366_7773_6872;

/// The one version there is.
pub const VERSION: u64 = 1;

/// Sectors may have from 512 bytes to as many as the largest page.
pub const SECTORS: std::ops::RangeInclusive<u32> = 512..=65536;

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u64);

impl Flags {
    /// The device was flushed before.
    pub const FLUSH: Self = Self(1 << 0);
    /// The data was durable when the write completed.
    pub const FUA: Self = Self(1 << 1);
    /// A discard.
    pub const DISCARD: Self = Self(1 << 2);
    /// A mark, set by `dmsetup message`.
    pub const MARK: Self = Self(1 << 3);
    /// A file system called it metadata.
    pub const METADATA: Self = Self(1 << 4);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::FLUSH, "FLUSH"),
        (Self::FUA, "FUA"),
        (Self::DISCARD, "DISCARD"),
        (Self::MARK, "MARK"),
        (Self::METADATA, "METADATA"),
    ];

    /// Whether it has any of these.
    #[must_use]
    pub const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// A moment at which the device is known to hold what the log says.
    #[must_use]
    pub const fn is_flush(self) -> bool {
        self.any(Self::FLUSH.and(Self::FUA).and(Self::MARK))
    }

    /// Bits that mean nothing.
    #[must_use]
    pub const fn unknown(self) -> u64 {
        self.0 & !0x1f
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::NAMES.iter().filter(|(flag, _)| self.any(*flag));
        let names: Vec<&str> = names.map(|(_, name)| *name).collect();
        f.pad(&if names.is_empty() { "WRITE".to_owned() } else { names.join("+") })
    }
}

/// The head of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Super {
    /// Entries that are complete.
    pub entries: u64,
    /// Bytes of a sector.
    pub sector: u32,
}

impl Super {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// Why it is none.
    pub fn read(bytes: &[u8; HEAD]) -> Result<Self, String> {
        let [magic, version, entries, sector] = words(bytes);
        if magic != MAGIC {
            return Err(format!("it begins with {magic:#x}, not with {MAGIC:#x}"));
        }
        if version != VERSION {
            return Err(format!("its version is {version}, and only {VERSION} is known"));
        }
        // The field has four bytes; what follows is not a part of it.
        let sector = u32::try_from(sector & u64::from(u32::MAX)).unwrap_or(0);
        if !sector.is_power_of_two() || !SECTORS.contains(&sector) {
            return Err(format!("sectors of {sector} bytes cannot be"));
        }
        Ok(Self { entries, sector })
    }
}

/// The numbers of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The first sector that was written.
    pub sector: u64,
    /// How many.
    pub sectors: u64,
    /// What it is.
    pub flags: Flags,
    /// Bytes of a mark's text.
    pub length: u64,
}

impl Head {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// Why the target cannot have written this.
    pub fn read(bytes: &[u8; HEAD], sector_bytes: u32) -> Result<Self, String> {
        let [sector, sectors, flags, length] = words(bytes);
        let head = Self { sector, sectors, flags: Flags(flags), length };
        let bytes_of = |sectors: u64| sectors.checked_mul(sector_bytes.into());
        let end = sector.checked_add(sectors).and_then(bytes_of);
        let is = |flag| head.flags.any(flag);
        if head.flags.unknown() != 0 {
            return Err(format!("its flags {flags:#x} have no meaning"));
        }
        if end.is_none_or(|end| end > i64::MAX.unsigned_abs()) {
            return Err(format!("it writes {sectors} sectors at {sector}, beyond any device"));
        }
        if is(Flags::MARK) {
            let room = u64::from(sector_bytes) - HEAD as u64;
            if sectors > 0 || length > room {
                return Err(format!("a mark of {length} bytes and {sectors} sectors cannot be"));
            }
        } else if sectors == 0 && !is(Flags::FLUSH) {
            return Err("it writes nothing: nothing was logged here".to_owned());
        } else if bytes_of(sectors).is_none_or(|bytes| length > bytes) {
            return Err(format!("{length} bytes are not within {sectors} sectors"));
        }
        Ok(head)
    }

    /// Sectors of data behind it in the log.
    #[must_use]
    pub const fn stored(&self) -> u64 {
        if self.flags.any(Flags::DISCARD) {
            0
        } else {
            self.sectors
        }
    }
}

fn words(bytes: &[u8; HEAD]) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    words
}
