// SPDX-License-Identifier: MIT

//! What one logical block of a simulated disk holds.
//!
//! User data is one number, repeated: it names the write that it came from, so that the oracle
//! compares one number and not a block of bytes. Metadata is kept byte for byte.

use std::rc::Rc;

use super::rng::mix;

/// The content of a logical block.
///
/// # Invariants
///
/// Bytes that are one repeated `u64` are a `Word`, so that equal contents compare equal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Block {
    /// This number, little-endian, from the first byte to the last.
    Word(u64),
    /// These bytes.
    Bytes(Rc<[u8]>),
}

impl Block {
    /// All zeros.
    pub(super) const ZERO: Self = Self::Word(0);

    /// The block that holds `bytes`.
    #[must_use]
    pub(super) fn new(bytes: &[u8]) -> Self {
        let first = bytes.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        if bytes.chunks_exact(8).all(|b| b == first.to_le_bytes()) {
            return Self::Word(first);
        }
        Self::Bytes(bytes.into())
    }

    /// Writes the content into `out`, a whole block.
    pub(super) fn expand(&self, out: &mut [u8]) {
        match self {
            Self::Word(word) => {
                for part in out.chunks_exact_mut(8) {
                    part.copy_from_slice(&word.to_le_bytes());
                }
            }
            Self::Bytes(bytes) => out.copy_from_slice(bytes),
        }
    }

    /// The number that a client finds: bytes that no client wrote become a number that no write
    /// of a client bears.
    #[must_use]
    pub(super) fn value(&self) -> u64 {
        match self {
            Self::Word(word) => *word,
            Self::Bytes(bytes) => {
                let sum = bytes.chunks(8).fold(0, |sum, part| {
                    part.iter().fold(mix(sum), |sum, &b| sum.rotate_left(8) ^ u64::from(b))
                });
                sum | GARBAGE
            }
        }
    }
}

/// Set in a value that no client wrote.
pub(super) const GARBAGE: u64 = 1 << 63;

/// The value of write number `version` to block `block` of the volume with this tag.
#[must_use]
pub(super) const fn value(tag: u64, block: u64, version: u64) -> u64 {
    ((tag & 0x7F) << 56) | ((block & 0xFF_FFFF) << 32) | (version & 0xFFFF_FFFF)
}

/// A value, for people.
#[must_use]
pub(super) fn show(value: u64) -> String {
    match value {
        0 => "zeros".into(),
        v if v & GARBAGE != 0 => format!("bytes of no client ({v:#x})"),
        v => format!("v{}@{}#{}", v >> 56, v >> 32 & 0xFF_FFFF, v & 0xFFFF_FFFF),
    }
}
