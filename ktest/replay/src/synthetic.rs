// SPDX-License-Identifier: MIT

//! Logs as the kernel writes them, for the tests.

use std::path::{Path, PathBuf};

use crate::format::{Flags, MAGIC, VERSION};

/// A log that is being written.
pub(crate) struct Writer {
    bytes: Vec<u8>,
    sector: usize,
    entries: u64,
}

impl Writer {
    /// An empty log.
    pub(crate) fn new(sector: u32) -> Self {
        let mut writer = Self { bytes: Vec::new(), sector: sector as usize, entries: 0 };
        writer.head(&[MAGIC, VERSION, 0, sector.into()], b"");
        writer
    }

    /// A sector that begins with these numbers.
    fn head(&mut self, numbers: &[u64; 4], text: &[u8]) {
        self.bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        self.bytes.extend(text);
        self.bytes.resize(self.bytes.len().next_multiple_of(self.sector), 0);
    }

    /// Any entry at all.
    pub(crate) fn raw(mut self, numbers: [u64; 4], text: &[u8], data: &[u8]) -> Self {
        self.head(&numbers, text);
        self.bytes.extend(data);
        self.entries += 1;
        self.bytes[16..24].copy_from_slice(&self.entries.to_le_bytes());
        self
    }

    /// Sectors of a value.
    pub(crate) fn write(self, at: u64, sectors: u64, value: u8, flags: Flags) -> Self {
        let data = vec![value; usize::try_from(sectors).unwrap() * self.sector];
        self.raw([at, sectors, flags.0, 0], b"", &data)
    }

    pub(crate) fn flush(self) -> Self {
        self.raw([0, 0, Flags::FLUSH.0, 0], b"", b"")
    }

    pub(crate) fn discard(self, at: u64, sectors: u64) -> Self {
        self.raw([at, sectors, Flags::DISCARD.0, 0], b"", b"")
    }

    pub(crate) fn mark(self, text: &str) -> Self {
        self.raw([0, 0, Flags::MARK.0, text.len() as u64], text.as_bytes(), b"")
    }

    /// Its bytes.
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Stores it in a folder.
    pub(crate) fn store(self, dir: &Path) -> PathBuf {
        let path = dir.join("log");
        std::fs::write(&path, self.bytes).unwrap();
        path
    }
}
