// SPDX-License-Identifier: MIT

//! A log, entry by entry.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::{Flags, Head, Super, HEAD};

/// A log that was opened.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    head: Super,
}

/// An entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its number, from 0.
    pub number: u64,
    /// The first byte that it writes on the device.
    pub at: u64,
    /// How many.
    pub bytes: u64,
    /// What it is.
    pub flags: Flags,
    /// A mark's text; empty for all else.
    pub mark: String,
    /// Where its data is in the log; there is none for a discard.
    pub data: u64,
}

impl Entry {
    /// What it is, and what mark.
    #[must_use]
    pub fn name(&self) -> String {
        let Self { flags, mark, .. } = self;
        if mark.is_empty() {
            flags.to_string()
        } else {
            format!("{flags} {mark}")
        }
    }
}

/// An entry as the command line names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Point {
    /// By its number.
    Number(u64),
    /// The next mark of this text.
    Mark(String),
}

impl Point {
    /// Whether this entry is meant.
    #[must_use]
    pub fn is(&self, entry: &Entry) -> bool {
        match self {
            Self::Number(number) => entry.number == *number,
            Self::Mark(text) => entry.flags.any(Flags::MARK) && entry.mark == *text,
        }
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "entry {number}"),
            Self::Mark(text) => write!(f, "mark `{text}`"),
        }
    }
}

impl std::str::FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.strip_prefix("mark:") {
            Some(mark) => Ok(Self::Mark(mark.to_owned())),
            None => text
                .parse()
                .map(Self::Number)
                .map_err(|_| format!("`{text}` names no entry: it is a number, or mark:TEXT")),
        }
    }
}

impl Log {
    /// Opens a log.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no log.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io(path))?;
        let size = file.seek(SeekFrom::End(0)).map_err(Error::io(path))?;
        let not = |why| Error::NotALog(path.to_owned(), why);
        let mut bytes = [0; HEAD];
        match file.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(not(format!("it has {size} bytes")));
            }
            read => read.map_err(Error::io(path))?,
        }
        let head = Super::read(&bytes).map_err(not)?;
        let room = (size / u64::from(head.sector)).saturating_sub(1);
        if head.entries > room {
            let entries = head.entries;
            return Err(not(format!("its {size} bytes have no room for {entries} entries")));
        }
        Ok(Self { path: path.to_owned(), file, size, head })
    }

    /// Entries that the log's head knows to be complete.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.head.entries
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.head.entries == 0
    }

    /// Bytes of a sector.
    #[must_use]
    pub const fn sector(&self) -> u32 {
        self.head.sector
    }

    /// Its file.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// All entries, the first error as the last of them.
    #[must_use]
    pub fn entries(&self) -> Entries<'_> {
        Entries { log: self, number: 0, at: self.head.sector.into(), broken: false }
    }

    /// Data of an entry.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(data, at).map_err(Error::io(&self.path))
    }

    /// The entry whose numbers begin at a byte of the log, and where the next begins.
    fn entry(&self, number: u64, begin: u64) -> Result<(Entry, u64)> {
        let broken = |why| Error::Entry(number, begin, why);
        let sector = u64::from(self.head.sector);
        let data = begin.saturating_add(sector);
        if data > self.size {
            return Err(broken(format!("the log ends at byte {}", self.size)));
        }
        let mut bytes = [0; HEAD];
        self.read(begin, &mut bytes)?;
        let head = Head::read(&bytes, self.head.sector).map_err(broken)?;
        // Neither product overflows: `Head::read` saw to it.
        let end = data.saturating_add(head.stored().saturating_mul(sector));
        if end > self.size {
            return Err(broken(format!("its data ends at byte {end}, the log at {}", self.size)));
        }
        let mut mark = Vec::new();
        if head.flags.any(Flags::MARK) {
            mark.resize(usize::try_from(head.length).unwrap_or(0), 0);
            self.read(begin.saturating_add(HEAD as u64), &mut mark)?;
        }
        let mark = String::from_utf8_lossy(&mark).into_owned();
        let [at, bytes] = [head.sector, head.sectors].map(|n| n.saturating_mul(sector));
        Ok((Entry { number, at, bytes, flags: head.flags, mark, data }, end))
    }
}

/// The entries of a log, in their order.
#[derive(Debug)]
pub struct Entries<'a> {
    log: &'a Log,
    number: u64,
    at: u64,
    broken: bool,
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken || self.number == self.log.len() {
            return None;
        }
        let read = self.log.entry(self.number, self.at);
        self.broken = read.is_err();
        Some(read.map(|(entry, next)| {
            self.number += 1;
            self.at = next;
            entry
        }))
    }
}
