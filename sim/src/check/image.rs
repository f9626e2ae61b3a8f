// SPDX-License-Identifier: MIT

//! A save volume, mapped read-only.

use std::path::Path;

use memmap2::{Mmap, MmapOptions};
use rwsnap_core::format::node::Page;
use rwsnap_core::format::superblock::{Superblock, COPIES};
use rwsnap_core::units::PAGE;

use crate::platform::Host;
use crate::store::{identify, Access, Cache, StoreError, Volume};

use super::report::Report;

/// A save volume that nobody writes while it is looked at.
pub(super) struct Image {
    map: Mmap,
    volume: Volume,
}

impl Image {
    /// Maps the volume, and keeps writers out of it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let volume = Volume::open(path, Access::Read, Cache::Buffered)?;
        let len = usize::try_from(volume.device().size)
            .map_err(|_| StoreError::unfit(path, "is larger than memory can be"))?;
        // SAFETY: the mapping is private to this process and read-only, and the volume is locked
        // for as long as it lives, so that no rwsnap changes or shortens it meanwhile.
        let map = unsafe { MmapOptions::new().len(len).map(volume.file()) };
        let map = map.map_err(StoreError::io(path, "map"))?;
        Ok(Self { map, volume })
    }

    /// Bytes in the volume.
    pub(super) fn size(&self) -> u64 {
        self.volume.device().size
    }

    /// The bytes `at..at + len`, if they are there.
    pub(super) fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(at).ok()?;
        self.map.get(at..at.checked_add(len)?)
    }

    /// The page at byte `at`.
    pub(super) fn page(&self, at: u64) -> Option<&Page> {
        self.bytes(at, PAGE)?.try_into().ok()
    }

    /// The newest superblock.
    pub(super) fn superblock(&self) -> Result<Option<Box<Superblock>>, StoreError> {
        identify::superblock(self.volume.path())
    }

    /// Tells of copies of the superblock that are not as they were written. A crash may leave one
    /// torn, and those of the generation before need not be there.
    pub(super) fn compare_copies(&self, newest: &Superblock, report: &mut Report) {
        for (number, at) in COPIES.iter().enumerate() {
            let bytes = self.bytes(*at, PAGE).unwrap_or_default();
            let parity = u64::try_from(number & 1).unwrap_or(0);
            let own = parity == newest.generation.get() & 1;
            match Superblock::parse(&Host, bytes) {
                Ok(copy) if own && copy.generation != newest.generation => report.note(format!(
                    "superblock copy {number} is of generation {}, not {}",
                    copy.generation.get(),
                    newest.generation.get()
                )),
                Ok(_) => {}
                Err(_) if bytes.iter().all(|&b| b == 0) && !own => {}
                Err(why) => report.note(format!("superblock copy {number} is damaged ({why:?})")),
            }
        }
    }
}
