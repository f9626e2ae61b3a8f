// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The log: a ring of 4 KiB blocks that the block map's deltas and the catalogue are rebuilt from.
//!
//! A *position* counts blocks since the format; block `position mod blocks` of the ring holds it.
//! The log reaches from the checkpoint's position P to the *head*. Each block repeats the checksum
//! of the block before it (the chain), names the *log generation* it was written in, the newest
//! superblock, and the position before which all blocks were known *durable* when it was sealed.
//!
//! A log generation is the generation of the superblock that opened it: the one that recovery
//! writes, or the one that a failed write makes necessary. Within a generation a position is
//! written once.
//!
//! # Which blocks count
//!
//! With `known_end` and `log_generation` of the superblock:
//!
//! 1. The chain is followed from P. Up to `known_end` a block may bear any generation up to
//!    `log_generation`; from there on exactly that one. The chain ends at the first block that is
//!    torn, at another position, of another generation or out of the chain.
//! 2. Durable is all before D: the greatest of `known_end`, of what the chain's blocks claim, and
//!    of what the blocks of `log_generation` claim that lie beyond the chain's end. Blocks of an
//!    *older* generation beyond `known_end` are leftovers that a former recovery cut off: what
//!    they claim was weighed then, and does not count.
//! 3. A chain that ends before D is *corruption*, never a crash. So is a block that names a newer
//!    superblock, bears a newer generation, or lies further ahead than the ring is long: the
//!    superblock it needs is lost. So is a chain that reaches `known_end` under another checksum.
//! 4. From D on, the data of an entry that bears a sum must match it; the first block where it does
//!    not ends the log. Before D it is not looked at: those slots may be in use for other data.
//! 5. A group that the end of the log cuts is dropped whole.

mod recovery;
mod writer;

pub use recovery::{Damage, End, Recovery, Start, Want};
pub use writer::{Full, Resume, Room, Sealed, Writer, STAGE_MAX};

#[cfg(test)]
mod tests;
