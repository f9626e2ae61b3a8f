// SPDX-License-Identifier: MIT

//! Devices and files, past the page cache.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::model::{Piece, Table};
use crate::sector::{fill, value, SECTOR};

/// `O_DIRECT` of Linux on x86-64.
const O_DIRECT: i32 = 0o40000;
/// What buffers are aligned to.
const ALIGNMENT: usize = 4096;
/// Bytes that are read at once.
const STEP: usize = 512 << 10;

/// Bytes that the kernel takes without copying them.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    from: usize,
    len: usize,
}

impl Buffer {
    pub(crate) fn new(len: usize) -> Self {
        let bytes = vec![0; len + ALIGNMENT];
        let from = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, from, len }
    }

    pub(crate) fn get(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..][..self.len]
    }
}

/// Opens a device.
pub(crate) fn open(path: &Path, writable: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(writable).custom_flags(O_DIRECT).open(path);
    file.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// How large it is.
pub(crate) fn bytes(file: &mut File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// What a device holds; a sector that nobody wrote is an error that names it.
pub(crate) fn table(file: &mut File) -> io::Result<Result<Table, String>> {
    let all = usize::try_from(bytes(file)?).map_err(io::Error::other)?;
    let mut table = Table::with_capacity(all / SECTOR);
    let mut buffer = Buffer::new(STEP.min(all));
    for from in (0..all).step_by(STEP) {
        let part = &mut buffer.get()[..STEP.min(all - from)];
        file.read_exact_at(part, from as u64)?;
        for sector in part.chunks_exact(SECTOR) {
            let index = table.len();
            match value(sector, index as u64) {
                Some(value) => table.push(value),
                None => {
                    let head = &sector[..16];
                    return Ok(Err(format!("sector {index} is nobody's: it begins {head:02x?}")));
                }
            }
        }
    }
    Ok(Ok(table))
}

/// Writes some sectors.
pub(crate) fn write(file: &File, piece: &Piece) -> io::Result<()> {
    let mut buffer = Buffer::new(piece.count * SECTOR);
    for (index, sector) in (piece.at..).zip(buffer.get().chunks_exact_mut(SECTOR)) {
        fill(sector, piece.value, index as u64);
    }
    file.write_all_at(buffer.get(), (piece.at * SECTOR) as u64)
}
