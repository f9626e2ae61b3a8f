// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The on-disk format, as types. `docs/FORMAT.md` has it byte for byte.

pub mod create;
pub mod entity;
pub mod fingerprint;
pub mod log;
pub mod node;
pub mod page;
pub mod record;
pub mod superblock;

#[cfg(test)]
mod document;
