// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The block map: which slots, or what else, every chunk of every map reads from.
//!
//! It is one ordered set of records ([`crate::format::record`]) in four layers, the upper of which
//! hide the lower chunk by chunk: new records of clones that are not logged yet (pending), what
//! was logged since the last freeze (active), what the running checkpoint writes (frozen), and the
//! tree of pages on the save volume. [`layers::Layers`] reads through all of them; a request never
//! changes the tree, only [`build::Builder`] makes a new one from the old one and the frozen
//! delta.
//!
//! Nothing here waits: where a page is not in memory, [`Miss::Page`] names it, and the caller asks
//! again when [`cache::Cache`] has it.

use crate::fault::Fault;
use crate::units::PageNo;

pub mod build;
pub mod cache;
pub mod delta;
pub mod group;
pub mod layers;
mod list;
#[cfg(test)]
mod model;
mod tree;

pub use build::{pages_needed, Builder, PageAlloc, Progress};
pub use cache::{Cache, Load};
pub use delta::{Cursor, Delta};
pub use group::Group;
pub use layers::{Layers, Sizes};
pub use tree::Root;

/// Why the map has no answer now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Miss {
    /// This page is not in the cache: load it and ask again.
    Page(PageNo),
    /// It will not have one.
    Fault(Fault),
}

impl From<Fault> for Miss {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
