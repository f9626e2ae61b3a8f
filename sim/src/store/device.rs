// SPDX-License-Identifier: MIT

//! An opened save or production volume: a regular file or a block device, locked, measured.
//!
//! # Invariants
//!
//! - The size is that at opening; a file's grows with [`Volume::grow`] alone, and never shrinks.
//! - `Volume::device` says `volatile` for every file: the page cache and the disk under it may
//!   both hold writes back, and only a flush (`fdatasync`) ends that. A block device says what
//!   its queue says.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::fcntl::{fallocate, FallocateFlags, Flock};
use nix::sys::stat::{major, minor};
use nix::sys::statfs::{fstatfs, FUSE_SUPER_MAGIC};

use rwsnap_core::api::Device;

use super::{lock, sys, StoreError};

/// Bytes in the smallest block that a volume may have.
const BLOCK_MIN: u32 = 512;
/// Bytes in the largest.
const BLOCK_MAX: u32 = 4096;

/// What the opener is going to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Read and write; nobody else has it.
    Own,
    /// Read, beside other readers.
    Read,
}

/// Whether I/O goes through the page cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cache {
    /// Around it (`O_DIRECT`), where the file system can do that, and does it right.
    #[default]
    Direct,
    /// Through it.
    Buffered,
}

/// What a volume is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An image file.
    File,
    /// A block device.
    Block,
}

/// An opened and locked volume.
#[derive(Debug)]
pub struct Volume {
    file: Flock<File>,
    path: PathBuf,
    kind: Kind,
    direct: bool,
    device: Device,
}

impl Volume {
    /// Opens, locks and measures the volume at `path`.
    pub fn open(path: &Path, access: Access, cache: Cache) -> Result<Self, StoreError> {
        let kind = kind_of(path)?;
        let (file, direct) = open_file(path, kind, access, cache)?;
        let file = lock::take(file, path, access == Access::Own)?;
        let device = measure(&file, path, kind)?;
        Ok(Self { file, path: path.to_path_buf(), kind, direct, device })
    }

    /// Size, block and cache, as the core wants them.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or a block device.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether I/O has to be aligned, since it goes around the page cache.
    #[must_use]
    pub fn direct(&self) -> bool {
        self.direct
    }

    /// The file under it.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Reads all of `bytes` from `at`.
    pub fn read_at(&self, bytes: &mut [u8], at: u64) -> Result<(), StoreError> {
        self.file.read_exact_at(bytes, at).map_err(StoreError::io(&self.path, "read"))
    }

    /// Reads into `bytes` from `at` what there is before the end of the volume.
    pub fn read_up_to(&self, bytes: &mut [u8], at: u64) -> Result<usize, StoreError> {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let from = at.saturating_add(done as u64);
            match self.file.read_at(rest, from).map_err(StoreError::io(&self.path, "read"))? {
                0 => break,
                n => done += n,
            }
            // Around the page cache, a read that ends off the alignment has met the end.
            if self.direct && done % 512 != 0 {
                break;
            }
        }
        Ok(done)
    }

    /// Writes all of `bytes` to `at`.
    pub fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, at).map_err(StoreError::io(&self.path, "write to"))
    }

    /// Makes durable what was written.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::io(&self.path, "flush"))
    }

    /// Has at least `bytes` bytes, allocated; a device must be that large already.
    pub fn grow(&mut self, bytes: u64) -> Result<(), StoreError> {
        if bytes <= self.device.size {
            return Ok(());
        }
        if self.kind == Kind::Block {
            return Err(StoreError::unfit(&self.path, "is a block device and does not grow"));
        }
        allocate(&self.file, bytes).map_err(StoreError::io(&self.path, "grow"))?;
        self.file.sync_all().map_err(StoreError::io(&self.path, "flush"))?;
        self.device.size = bytes;
        Ok(())
    }

    /// Whether both are the same file or the same device.
    pub fn is_same(&self, other: &Self) -> bool {
        identity(&self.path).is_some_and(|id| Some(id) == identity(&other.path))
    }
}

/// Gives a file `bytes` bytes with space behind each of them, where the file system can do that.
pub(super) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let len = i64::try_from(bytes).map_err(io::Error::other)?;
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EOPNOTSUPP) => file.set_len(bytes),
        Err(errno) => Err(errno.into()),
    }
}

/// Says whether two paths are the same file or device: (is a device, its device, its number).
#[must_use]
pub fn identity(path: &Path) -> Option<(bool, u64, u64)> {
    let meta = fs::metadata(path).ok()?;
    let is_device = meta.file_type().is_block_device();
    Some(if is_device { (true, meta.rdev(), 0) } else { (false, meta.dev(), meta.ino()) })
}

/// What stands at `path`.
pub fn kind_of(path: &Path) -> Result<Kind, StoreError> {
    let kind = fs::metadata(path).map_err(StoreError::io(path, "open"))?.file_type();
    let other = |what| Err(StoreError::NotAVolume { path: path.to_path_buf(), what });
    match () {
        () if kind.is_file() => Ok(Kind::File),
        () if kind.is_block_device() => Ok(Kind::Block),
        () if kind.is_dir() => other("a directory"),
        () if kind.is_char_device() => other("a character device"),
        () if kind.is_socket() => other("a socket"),
        () => other("a pipe"),
    }
}

/// Opens; says whether around the page cache. File systems that cannot do that are used through
/// it.
fn open_file(
    path: &Path,
    kind: Kind,
    access: Access,
    cache: Cache,
) -> Result<(File, bool), StoreError> {
    let exclusive = if kind == Kind::Block && access == Access::Own { libc::O_EXCL } else { 0 };
    let open = |flags| {
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::Own).custom_flags(exclusive | flags);
        let begun = Instant::now();
        loop {
            let error = match options.open(path) {
                Ok(file) => return Ok(file),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EBUSY) if lock::is_orphaned(path, begun) => {}
                Some(libc::EBUSY) => return Err(lock::locked(path)),
                _ => return Err(StoreError::io(path, "open")(error)),
            }
        }
    };
    if cache == Cache::Buffered {
        return Ok((open(0)?, false));
    }
    match open(libc::O_DIRECT) {
        Ok(file) if sys::direct_alignment(&file) != Some(0) && !is_fuse(&file) => Ok((file, true)),
        Ok(_) => Ok((open(0)?, false)),
        Err(e) if e.is_refused_flag() => Ok((open(0)?, false)),
        Err(e) => Err(e),
    }
}

/// Whether it lies in a FUSE file system. There Linux forgets the flush behind a durable write
/// (`RWF_DSYNC`) if that goes around the page cache and is not waited for, as io_uring's are.
fn is_fuse(file: &File) -> bool {
    fstatfs(file).is_ok_and(|fs| fs.filesystem_type() == FUSE_SUPER_MAGIC)
}

/// Asks size, block and cache.
fn measure(file: &File, path: &Path, kind: Kind) -> Result<Device, StoreError> {
    let meta = file.metadata().map_err(StoreError::io(path, "measure"))?;
    if kind == Kind::File {
        let block = match sys::direct_alignment(file) {
            Some(align @ BLOCK_MIN..=BLOCK_MAX) if align.is_power_of_two() => align,
            _ => BLOCK_MIN,
        };
        return Ok(Device { size: meta.len(), block, volatile: true, fua: false });
    }
    let size = sys::device_bytes(file).map_err(StoreError::io(path, "measure"))?;
    let block = sys::device_block(file).map_err(StoreError::io(path, "measure"))?;
    if !(BLOCK_MIN..=BLOCK_MAX).contains(&block) {
        return Err(StoreError::unfit(
            path,
            format!("has blocks of {block} bytes; rwsnap uses devices of 512 to 4096"),
        ));
    }
    let volatile =
        queue_text(meta.rdev(), "write_cache").is_none_or(|t| t.trim() != "write through");
    let fua = volatile && queue_text(meta.rdev(), "fua").is_some_and(|t| t.trim() == "1");
    Ok(Device { size, block, volatile, fua })
}

/// An attribute of a block device's queue; a partition's is that of the whole device.
fn queue_text(rdev: u64, name: &str) -> Option<String> {
    let base = format!("/sys/dev/block/{}:{}", major(rdev), minor(rdev));
    let own = fs::read_to_string(format!("{base}/queue/{name}"));
    own.or_else(|_| fs::read_to_string(format!("{base}/../queue/{name}"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_measured_and_grows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let mut volume = Volume::open(&path, Access::Own, Cache::Buffered).unwrap();
        let device = volume.device();
        assert_eq!(device.size, 1 << 20);
        assert!(device.volatile && !device.fua && [512, 4096].contains(&device.block));
        volume.grow(3 << 20).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 3 << 20);
        volume.grow(1 << 20).unwrap();
        assert_eq!(volume.device().size, 3 << 20);
    }

    #[test]
    fn what_is_not_a_volume_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| Volume::open(path, Access::Read, Cache::Direct).unwrap_err();
        assert!(open(dir.path())
            .to_string()
            .ends_with("is a directory, not a file or a block device"));
        assert!(open(Path::new("/dev/null")).to_string().contains("a character device"));
        let missing = open(&dir.path().join("none"));
        assert!(missing.is_missing() && missing.to_string().ends_with("none does not exist"));
    }

    #[test]
    fn direct_and_buffered_both_read() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let path = dir.path().join("image");
        fs::write(&path, vec![7u8; 8192]).unwrap();
        for cache in [Cache::Direct, Cache::Buffered] {
            let volume = Volume::open(&path, Access::Read, cache).unwrap();
            let mut room = vec![0u8; 4096 + 4096];
            let start = room.as_ptr().align_offset(4096);
            let bytes = room.get_mut(start..start + 4096).unwrap();
            volume.read_at(bytes, 4096).unwrap();
            assert!(bytes.iter().all(|&b| b == 7));
        }
    }
}
