// SPDX-License-Identifier: MIT

//! Reads a pool at rest from its save volume alone, and says whether its metadata is sound.
//!
//! Apart from the shapes of pages and records (`rwsnap_core::format`) nothing here is the core's:
//! the log is followed, the tree is walked and the two are merged by code of their own, so that a
//! mistake of the core's does not hide itself. Nothing is written.
//!
//! ```text
//! image     the save volume, mapped read-only
//! tree      the map as the checkpoint left it        -> records, pages used
//! catalog   volumes and snapshots, and what they refer to
//! bits      the bit maps of slots and of metadata pages
//! log       which blocks of the ring count           -> entries
//! state     all of the above with the log's entries applied
//! verify    every slot used once or free, every page, every reference
//! dump      all of it as text
//! ```

mod bits;
mod catalog;
mod dump;
mod image;
mod log;
mod report;
mod state;
mod tree;
mod verify;

use std::path::Path;

use rwsnap_core::format::superblock::Superblock;

use crate::store::{identify, StoreError};

pub use dump::{dump, DumpError};
pub use report::{Finding, Report, Severity, Verdict};

use image::Image;

/// Checks the pool on a save volume.
///
/// # Errors
///
/// It could not be checked: it cannot be read, somebody has it, or it is no save volume.
pub fn check(path: &Path) -> Result<Report, StoreError> {
    let image = Image::open(path)?;
    let Some(superblock) = image.superblock()? else {
        return Err(StoreError::unfit(path, "is not a save volume of rwsnap"));
    };
    let mut report = Report::new(&superblock);
    image.compare_copies(&superblock, &mut report);
    check_all(&image, &superblock, &mut report);
    report.finish();
    Ok(report)
}

fn check_all(image: &Image, superblock: &Superblock, report: &mut Report) {
    if image.size() < superblock.end() {
        let (has, needs) = (image.size(), superblock.end());
        report.corrupt(format!("the save volume has {has} bytes and is {needs} by its superblock"));
    }
    let tree = tree::walk(image, superblock, report);
    let catalog = catalog::read(image, superblock, report);
    verify::pages(image, superblock, &tree.pages, &catalog.pages, report);
    let slots = bits::slots(image, superblock, report);
    verify::checkpoint(superblock, &tree.records, &slots, report);
    let mut state = state::State::new(superblock, tree.records, catalog.entities, slots);
    log::replay(image, superblock, report, &mut |pos, entry, report| {
        state.apply(pos, entry, report);
    });
    verify::state(superblock, &state, report);
    catalog::verify(&state, report);
    report.pool = identify::label(superblock);
}

#[cfg(test)]
mod tests;
