// SPDX-License-Identifier: MIT

//! Reads who a save volume is, without opening the pool: its superblocks, and nothing else.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rwsnap_core::format::superblock::{Finder, Superblock, WhyBad};

use crate::platform::Host;

use super::StoreError;

/// The newest superblock of the save volume at `path`; `None` if no rwsnap wrote it.
///
/// # Errors
///
/// It cannot be read, or its superblocks are damaged or of a format that this program does not
/// know.
pub fn superblock(path: &Path) -> Result<Option<Box<Superblock>>, StoreError> {
    super::device::kind_of(path)?;
    let file = File::open(path).map_err(StoreError::io(path, "open"))?;
    let mut finder = Finder::default();
    let mut unread = None;
    for at in Finder::places() {
        let mut copy = vec![0; 4096];
        match file.read_exact_at(&mut copy, at) {
            Ok(()) => finder.feed(&Host, &copy),
            Err(error) => {
                finder.feed(&Host, &[]);
                unread = unread.or((error.kind() != ErrorKind::UnexpectedEof).then_some(error));
            }
        }
    }
    match (finder.finish(), unread) {
        (Ok(found), _) => Ok(Some(Box::new(*found))),
        // What it holds where it could not be read, nobody knows.
        (Err(_), Some(error)) => Err(StoreError::io(path, "read")(error)),
        (Err(why), None) => refuse(path, why),
    }
}

/// There is no superblock to be used.
fn refuse(path: &Path, why: WhyBad) -> Result<Option<Box<Superblock>>, StoreError> {
    match why {
        WhyBad::Foreign => Ok(None),
        WhyBad::Corrupt => Err(StoreError::unfit(
            path,
            "is a save volume of rwsnap, but none of its superblocks can be relied on; \
             `rwsnap check` says more",
        )),
        WhyBad::Version { unknown } => Err(StoreError::unfit(
            path,
            format!("is a save volume of a later rwsnap (unknown features {unknown:#x})"),
        )),
    }
}

/// The name of a pool, as text.
#[must_use]
pub fn label(superblock: &Superblock) -> String {
    padded_text(&superblock.label)
}

/// Text that is padded with zeros.
#[must_use]
pub fn padded_text(bytes: &[u8]) -> String {
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..len).unwrap_or_default()).into_owned()
}
