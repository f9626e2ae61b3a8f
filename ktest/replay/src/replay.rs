// SPDX-License-Identifier: MIT

//! Puts entries onto a device.
//!
//! A discard is replayed as zeros, for that is what the next reader of a device that honours it
//! finds; where the device does not, whoever reads discarded blocks must expect anything, and
//! discards may be skipped.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::format::Flags;
use crate::log::{Entry, Log, Point};

/// Bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// What a discard does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Discards {
    /// It leaves zeros.
    #[default]
    Zero,
    /// It leaves what there was.
    Skip,
}

/// A part of a log: from one entry to another, both included.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// The first; the log's first if not given.
    pub from: Option<Point>,
    /// The last; the log's last if not given.
    pub until: Option<Point>,
}

impl Span {
    /// Calls `visit` with each entry, in their order.
    ///
    /// # Errors
    ///
    /// Those of the log and of `visit`; or there is no such entry.
    pub fn walk(&self, log: &Log, mut visit: impl FnMut(&Entry) -> Result<()>) -> Result<u64> {
        let (mut begun, mut count) = (self.from.is_none(), 0);
        for entry in log.entries() {
            let entry = entry?;
            begun = begun || self.from.as_ref().is_some_and(|from| from.is(&entry));
            if !begun {
                continue;
            }
            visit(&entry)?;
            count += 1;
            if self.until.as_ref().is_some_and(|until| until.is(&entry)) {
                return Ok(count);
            }
        }
        let had = format!("among its {} entries", log.len());
        match (&self.from, &self.until) {
            (Some(from), _) if !begun => Err(Error::NoEntry(format!("{from} {had}"))),
            (Some(from), Some(until)) => Err(Error::NoEntry(format!("{until} from {from} on"))),
            (None, Some(until)) => Err(Error::NoEntry(format!("{until} {had}"))),
            (_, None) => Ok(count),
        }
    }
}

/// What is replayed to.
#[derive(Debug)]
pub struct Device {
    path: PathBuf,
    file: File,
    size: u64,
    discards: Discards,
    piece: Vec<u8>,
}

impl Device {
    /// Opens a device or file; it is not made larger.
    ///
    /// # Errors
    ///
    /// It cannot be written, or is the log itself.
    pub fn open(path: &Path, log: &Log, discards: Discards) -> Result<Self> {
        let mut file =
            File::options().read(true).write(true).open(path).map_err(Error::io(path))?;
        let same = identity(&file)
            .and_then(|id| Ok(id == identity(log.file())?))
            .map_err(Error::io(path))?;
        if same {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "this is the log itself");
            return Err(Error::Io(path.to_owned(), error));
        }
        let size = file.seek(SeekFrom::End(0)).map_err(Error::io(path))?;
        Ok(Self { path: path.to_owned(), file, size, discards, piece: vec![0; PIECE] })
    }

    /// Does what an entry did.
    ///
    /// # Errors
    ///
    /// It does not fit, or the log or the device fails.
    pub fn apply(&mut self, log: &Log, entry: &Entry) -> Result<()> {
        let end = entry.at.saturating_add(entry.bytes);
        let discard = entry.flags.any(Flags::DISCARD);
        if discard && self.discards == Discards::Skip {
            return Ok(());
        }
        if end > self.size && entry.bytes > 0 {
            return Err(Error::Beyond { entry: entry.number, end, size: self.size });
        }
        let (mut at, mut data) = (entry.at, entry.data);
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let piece = &mut self.piece[..left.min(PIECE)];
            let wrong = Error::io(&self.path);
            if discard {
                zero(&self.file, at, piece).map_err(wrong)?;
            } else {
                log.read(data, piece)?;
                self.file.write_all_at(piece, at).map_err(wrong)?;
            }
            at += piece.len() as u64;
            data += piece.len() as u64;
        }
        Ok(())
    }

    /// Makes it all durable, and lets go of the device: whoever opens it next, around the page
    /// cache or not, finds what was replayed.
    ///
    /// # Errors
    ///
    /// The device fails.
    pub fn close(self) -> Result<()> {
        self.file.sync_all().map_err(Error::io(&self.path))
    }
}

/// Zeros a range, but for what is zero already: most discards are of large and empty parts.
fn zero(file: &File, at: u64, piece: &mut [u8]) -> io::Result<()> {
    file.read_exact_at(piece, at)?;
    if piece.iter().any(|byte| *byte != 0) {
        piece.fill(0);
        file.write_all_at(piece, at)?;
    }
    Ok(())
}

/// What tells a file or device from all others.
fn identity(file: &File) -> io::Result<(bool, u64, u64)> {
    let meta = file.metadata()?;
    let device = meta.file_type().is_block_device();
    Ok(if device { (true, meta.rdev(), 0) } else { (false, meta.dev(), meta.ino()) })
}

/// Replays a part of a log; gives the number of entries.
///
/// # Errors
///
/// What went wrong; what came before it was replayed.
pub fn replay(log: &Log, device: &Path, span: &Span, discards: Discards) -> Result<u64> {
    let mut device = Device::open(device, log, discards)?;
    let count = span.walk(log, |entry| device.apply(log, entry))?;
    device.close()?;
    Ok(count)
}
