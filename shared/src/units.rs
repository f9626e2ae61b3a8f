// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The quantities of the core, as types, and the only arithmetic on them.
//!
//! A volume is cut into *chunks*; 64 consecutive chunks are a *word*, because their state is one
//! `u64`. The save volume is cut into *slots*, each the size of a chunk. Metadata is kept in pages
//! of 4 KiB. No operation here can overflow: it saturates or gives `None`.

/// Chunks in a word.
pub const WORD: u32 = 64;

/// Bytes in a metadata page and in a block of the log.
pub const PAGE: usize = 4096;

/// Bytes in a metadata page, as a length on a device.
pub const PAGE_BYTES: u64 = 4096;

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub $raw);

        impl $name {
            /// The one after it, or itself at the end of the type's range.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The one before it, or zero.
            #[must_use]
            pub const fn prev(self) -> Self {
                Self(self.0.saturating_sub(1))
            }

            /// This many further, saturating.
            #[must_use]
            pub const fn plus(self, n: $raw) -> Self {
                Self(self.0.saturating_add(n))
            }

            /// How far this is beyond `from`; zero if it is before it.
            #[must_use]
            pub const fn since(self, from: Self) -> $raw {
                self.0.saturating_sub(from.0)
            }
        }
    };
}

unit!(
    /// A chunk of a volume: the unit of mapping.
    Chunk(u64)
);
unit!(
    /// 64 consecutive chunks of a volume.
    Word(u64)
);
unit!(
    /// A slot of the save volume; it holds one chunk.
    Slot(u64)
);
unit!(
    /// A 4 KiB page of the metadata area.
    PageNo(u64)
);
unit!(
    /// A moment of the pool. Epochs only ever grow; zero comes before every snapshot.
    Epoch(u32)
);
unit!(
    /// A set of records in the block map: one for each production, one for each life of a clone.
    MapId(u32)
);
unit!(
    /// A volume or snapshot of the catalogue; never used twice.
    EntityId(u32)
);
unit!(
    /// A position in the log: the number of 4 KiB blocks written before it since the format.
    LogPos(u64)
);
unit!(
    /// A device that the driver does I/O on: 0 is the save volume, production volumes follow.
    Dev(u16)
);

impl Dev {
    /// The save volume.
    pub const SAVE: Self = Self(0);
}

impl Chunk {
    /// The word that the chunk lies in.
    #[must_use]
    pub const fn word(self) -> Word {
        Word(self.0 >> 6)
    }

    /// The chunk's place in its word, 0 to 63.
    #[must_use]
    pub const fn bit(self) -> u32 {
        (self.0 & 63) as u32
    }
}

impl Word {
    /// The chunk at place `bit` of the word.
    #[must_use]
    pub const fn chunk(self, bit: u32) -> Chunk {
        Chunk((self.0 << 6) | (bit as u64 & 63))
    }
}

/// The lowest `n` bits set; all of them from 64 on.
#[must_use]
pub const fn low_bits(n: u32) -> u64 {
    if n >= 64 {
        u64::MAX
    } else {
        1u64.wrapping_shl(n).wrapping_sub(1)
    }
}

/// The mask of the bits `first..first + n`, cut at 64.
#[must_use]
pub const fn bit_range(first: u32, n: u32) -> u64 {
    if first >= 64 {
        0
    } else {
        low_bits(n).wrapping_shl(first)
    }
}

/// Just the bit `bit`; none from 64 on.
#[must_use]
pub const fn bit(bit: u32) -> u64 {
    bit_range(bit, 1)
}

/// The bits that are set, lowest first.
pub fn bits(mask: u64) -> impl Iterator<Item = u32> {
    let mut left = mask;
    core::iter::from_fn(move || {
        let next = (left != 0).then(|| left.trailing_zeros());
        left &= left.wrapping_sub(1);
        next
    })
}

/// The runs of consecutive set bits of `mask`, lowest first, as (first bit, length).
pub fn runs(mask: u64) -> impl Iterator<Item = (u32, u32)> {
    let mut left = mask;
    core::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let first = left.trailing_zeros();
        let len = (!(left >> first)).trailing_zeros();
        left &= !bit_range(first, len);
        Some((first, len))
    })
}

/// How chunks lie on devices: the one place that turns chunks and slots into bytes.
///
/// # Invariants
///
/// `shift` is 12 to 16: chunks of 4 KiB to 64 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    shift: u32,
}

impl Geometry {
    /// For chunks of `bytes`, a power of two from 4 KiB to 64 KiB.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        // INVARIANT: the match admits the shifts 12 to 16 alone.
        match bytes {
            4096 | 8192 | 16384 | 32768 | 65536 => Some(Self { shift: bytes.trailing_zeros() }),
            _ => None,
        }
    }

    /// Log2 of the bytes in a chunk.
    #[must_use]
    pub const fn shift(self) -> u32 {
        // The mask changes nothing: it shows the compiler that to shift by it cannot overflow.
        self.shift & 31
    }

    /// Bytes in a chunk.
    #[must_use]
    pub const fn chunk_bytes(self) -> u32 {
        1u32.wrapping_shl(self.shift)
    }

    /// Bytes in a word of chunks.
    #[must_use]
    pub const fn word_bytes(self) -> u64 {
        64u64.wrapping_shl(self.shift)
    }

    /// The chunk that the byte `at` of a volume lies in.
    #[must_use]
    pub const fn chunk_of(self, at: u64) -> Chunk {
        Chunk(at.wrapping_shr(self.shift))
    }

    /// The word that the byte `at` of a volume lies in.
    #[must_use]
    pub const fn word_of(self, at: u64) -> Word {
        Word(at.wrapping_shr(self.shift.wrapping_add(6)))
    }

    /// Where in its word the byte `at` lies.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a word has at most 22 bits of bytes")]
    pub const fn in_word(self, at: u64) -> u32 {
        (at & (self.word_bytes().wrapping_sub(1))) as u32
    }

    /// The byte that a chunk begins at, saturating.
    #[must_use]
    pub const fn byte_of(self, chunk: Chunk) -> u64 {
        if chunk.0 > u64::MAX.wrapping_shr(self.shift) {
            u64::MAX
        } else {
            chunk.0.wrapping_shl(self.shift)
        }
    }

    /// The byte that a slot begins at, counted from the first slot.
    #[must_use]
    pub const fn byte_of_slot(self, slot: Slot) -> u64 {
        self.byte_of(Chunk(slot.0))
    }

    /// How many chunks it takes to hold `bytes`; the last may be short.
    #[must_use]
    pub const fn chunks_for(self, bytes: u64) -> u64 {
        let whole = bytes.wrapping_shr(self.shift);
        if bytes & (self.chunk_bytes() as u64).wrapping_sub(1) == 0 {
            whole
        } else {
            whole.saturating_add(1)
        }
    }

    /// The chunks of a word that the bytes `at..at + len` of the word touch.
    #[must_use]
    pub const fn mask_of(self, at: u32, len: u32) -> u64 {
        if len == 0 {
            return 0;
        }
        let first = at.wrapping_shr(self.shift);
        let last = at.saturating_add(len).saturating_sub(1).wrapping_shr(self.shift);
        bit_range(first, last.saturating_sub(first).saturating_add(1))
    }

    /// The chunks of a word that the bytes `at..at + len` of the word cover whole.
    #[must_use]
    pub const fn mask_whole(self, at: u32, len: u32) -> u64 {
        let first =
            at.saturating_add(self.chunk_bytes()).saturating_sub(1).wrapping_shr(self.shift);
        let end = at.saturating_add(len).wrapping_shr(self.shift);
        bit_range(first, end.saturating_sub(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_the_mask() {
        for mask in [0, 1, 0b1011, u64::MAX, 1 << 63, 0xF0F0_0000_0000_0001] {
            let all = runs(mask).fold(0, |sum, (first, len)| sum | bit_range(first, len));
            assert_eq!(all, mask);
        }
        assert_eq!(runs(u64::MAX).collect::<Vec<_>>(), [(0, 64)]);
    }

    #[test]
    fn masks_of_bytes() {
        let g = Geometry::new(4096).unwrap();
        assert_eq!(g.mask_of(0, 4096), 1);
        assert_eq!(g.mask_of(512, 4096), 0b11);
        assert_eq!(g.mask_whole(512, 4096), 0);
        assert_eq!(g.mask_whole(512, 8192), 0b10);
        assert_eq!(g.mask_of(0, 64 * 4096), u64::MAX);
        assert_eq!(g.mask_whole(0, 64 * 4096), u64::MAX);
        assert_eq!(g.mask_whole(100, 200), 0);
    }
}
