// SPDX-License-Identifier: MIT

//! A block device, read and written past the page cache.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{fallocate, FallocateFlags};

use super::model::length;

/// Bytes read or written at once, at most.
const PIECE: u64 = 1 << 20;
/// Where buffers begin.
const ALIGNED: u64 = 4096;

/// An open block device.
pub(crate) struct Device {
    file: File,
    path: PathBuf,
}

impl Device {
    /// Opens it, for writing too if that is wanted.
    pub(crate) fn open(path: &Path, to_write: bool) -> Result<Self, String> {
        let mut options = OpenOptions::new();
        options.read(true).write(to_write).custom_flags(libc::O_DIRECT);
        let file = options.open(path).map_err(|e| format!("open {}: {e}", path.display()))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Writes.
    pub(crate) fn write(&self, at: u64, data: &[u8]) -> Result<(), String> {
        let mut buffer = Buffer::new(PIECE.min(data.len() as u64));
        for (n, piece) in data.chunks(length(PIECE)).enumerate() {
            let place = at + n as u64 * PIECE;
            let part = &mut buffer.bytes()[..piece.len()];
            part.copy_from_slice(piece);
            self.done("write", place, self.file.write_all_at(part, place))?;
        }
        Ok(())
    }

    /// Reads.
    pub(crate) fn read(&self, at: u64, bytes: u64) -> Result<Vec<u8>, String> {
        let mut data = vec![0; length(bytes)];
        let mut buffer = Buffer::new(PIECE.min(bytes));
        for (n, piece) in data.chunks_mut(length(PIECE)).enumerate() {
            let place = at + n as u64 * PIECE;
            let part = &mut buffer.bytes()[..piece.len()];
            self.done("read", place, self.file.read_exact_at(part, place))?;
            piece.copy_from_slice(part);
        }
        Ok(data)
    }

    /// Writes zeros by the device's own command for it; the kernel may not write them out itself.
    pub(crate) fn zero(&self, at: u64, bytes: u64) -> Result<(), String> {
        let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let number = |n: u64| i64::try_from(n).map_err(|e| e.to_string());
        let done = fallocate(&self.file, how, number(at)?, number(bytes)?);
        self.done("zero", at, done.map_err(Into::into))
    }

    /// Discards.
    pub(crate) fn discard(&self, at: u64, bytes: u64) -> Result<(), String> {
        let (at, bytes) = (at.to_string(), bytes.to_string());
        let mut command = Command::new("blkdiscard");
        let run = command.args(["-o", &at, "-l", &bytes]).arg(&self.path).output();
        let run = run.map_err(|e| format!("blkdiscard: {e}"))?;
        let said = String::from_utf8_lossy(&run.stderr);
        run.status.success().then_some(()).ok_or_else(|| format!("blkdiscard at {at}: {said}"))
    }

    /// Makes durable what was written.
    pub(crate) fn flush(&self) -> Result<(), String> {
        self.done("flush", 0, self.file.sync_data())
    }

    /// Bytes.
    pub(crate) fn bytes(&self) -> Result<u64, String> {
        (&self.file).seek(SeekFrom::End(0)).map_err(|e| format!("{}: {e}", self.path.display()))
    }

    /// Size, whether it is read-only (0 or 1), bytes in a logical block.
    pub(crate) fn info(&self) -> Result<String, String> {
        let (read_only, block) = (self.says("ro")?, self.says("queue/logical_block_size")?);
        Ok(format!("{} {read_only} {block}", self.bytes()?))
    }

    /// Whether the kernel lets nobody write to it.
    pub(crate) fn is_read_only(&self) -> Result<bool, String> {
        Ok(self.says("ro")? == "1")
    }

    /// What sysfs says of it.
    fn says(&self, what: &str) -> Result<String, String> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let path = format!("/sys/class/block/{name}/{what}");
        let said = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        Ok(said.trim().to_owned())
    }

    /// All of it.
    pub(crate) fn whole(&self) -> Result<Vec<u8>, String> {
        self.read(0, self.bytes()?)
    }

    fn done(&self, what: &str, at: u64, result: std::io::Result<()>) -> Result<(), String> {
        result.map_err(|e| format!("{what} {} at {at}: {e}", self.path.display()))
    }
}

/// Writes through the page cache, as most programs do, and reads back past it.
pub(crate) fn visit(path: &Path, at: u64, bytes: u64, byte: u8) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}, through the page cache: {e}", path.display());
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
    file.write_all_at(&vec![byte; length(bytes)], at).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    let data = Device::open(path, false)?.read(at, bytes)?;
    let is_there = data.iter().all(|b| *b == byte);
    is_there.then_some(()).ok_or_else(|| format!("{}: {byte} is not there", path.display()))
}

/// A buffer that begins at a block's boundary.
struct Buffer {
    room: Vec<u8>,
    from: usize,
    bytes: usize,
}

impl Buffer {
    fn new(bytes: u64) -> Self {
        let room = vec![0u8; length(bytes + ALIGNED)];
        let from = room.as_ptr().align_offset(length(ALIGNED));
        Self { room, from, bytes: length(bytes) }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.room[self.from..self.from + self.bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::load;
    use super::super::media::{Media, Medium};
    use super::super::model::{fill, Contents, ANY, BYTE};
    use super::*;

    /// On a device that is surely right, none of this finds anything wrong, and all of it is there.
    #[test]
    fn a_loop_device_is_what_it_should_be() {
        for (medium, block) in [(Medium::Loop512, 512), (Medium::Loop4096, 4096)] {
            let bytes = 5 << 20;
            let mut media = Media::new(medium);
            let path = media.production("prod", bytes).expect("a loop device");
            let mut model = Contents::new(bytes);
            let device = Device::open(&path, true).expect("it opens");
            assert_eq!(device.info(), Ok(format!("{bytes} 0 {block}")));
            assert_eq!(device.is_read_only(), Ok(false));

            let (at, part) = ((1 << 20) - 4096, (2 << 20) + 8192);
            device.write(at, &fill(7, at, part)).expect("it writes");
            model.write(at, part, 7, 4096);
            device.zero(1 << 20, 64 << 10).expect("it zeroes");
            model.write(1 << 20, 64 << 10, 0, 4096);
            device.discard(2 << 20, 4096).expect("it discards");
            model.write(2 << 20, 4096, 0, 4096);
            device.flush().expect("it flushes");
            visit(&path, 4096, 8192, 171).expect("it is written through the page cache");
            model.write(4096, 8192, BYTE + 171, 4096);
            model.compare(0, &device.whole().expect("it reads")).expect("it holds that");
            model.compare(at, &device.read(at, part).expect("it reads")).expect("and there too");

            let (reads, writes) = load(&path, 4 << 20, 1 << 20, 1)().expect("load is served");
            assert!(reads > 0 && writes > 0);
            model.write(4 << 20, 1 << 20, ANY, 4096);
            model.compare(0, &device.whole().expect("it reads")).expect("load stays in its place");
            assert!(device.write(bytes, &[0; 4096]).is_err(), "there is nothing behind its end");
        }
    }
}
