// SPDX-License-Identifier: MIT

//! Files and devices that a command writes to: never one that somebody has, such as a production of
//! this very pool, and never the save volume of a pool.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::fcntl::Flock;

use crate::store::lock::Holder;
use crate::store::{identify, lock, Access, Cache, StoreError, Volume};

use super::error::{Failure, Outcome};

/// What is written to, locked if it can be.
pub(super) enum Target {
    /// A block device.
    Device(Volume),
    /// A regular file.
    File(Flock<File>),
    /// Anything else, such as a pipe.
    Plain(File),
}

impl Target {
    /// Opens it; if it is a file that is not there, makes it. What is there is not touched, not
    /// even opened unless it may be overwritten.
    pub(super) fn open(path: &Path, overwrite: bool) -> Outcome<Self> {
        let kind = fs::metadata(path).ok().map(|meta| meta.file_type());
        if kind.is_some() && !overwrite {
            return Err(there(path));
        }
        if kind.is_some_and(|k| k.is_block_device() || k.is_file()) {
            refuse_pool(path)?;
        }
        if kind.is_some_and(|k| k.is_block_device()) {
            let volume = Volume::open(path, Access::Own, Cache::Buffered);
            return volume.map(Self::Device).map_err(|e| in_use(path, &e));
        }
        let mut options = OpenOptions::new();
        options.write(true).truncate(false);
        if overwrite {
            options.create(true);
        } else {
            options.create_new(true);
        }
        let file = options.open(path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => there(path),
            _ => Failure::io(format!("write {}", path.display()))(e),
        })?;
        if file.metadata().is_ok_and(|meta| !meta.is_file()) {
            return Ok(Self::Plain(file));
        }
        lock::take(file, path, true).map(Self::File).map_err(|e| in_use(path, &e))
    }

    /// To be written to.
    pub(super) fn file(&self) -> &File {
        match self {
            Self::Device(volume) => volume.file(),
            Self::File(file) => file,
            Self::Plain(file) => file,
        }
    }

    /// Makes room for so many bytes. A file is empty then, and reads as zeros.
    pub(super) fn make_room(&self, path: &Path, bytes: u64) -> Outcome {
        match self {
            Self::Device(volume) if volume.device().size < bytes => {
                let (at, has) = (path.display(), volume.device().size);
                Err(Failure::new(format!("{at} has {has} bytes, and {bytes} are to be written")))
            }
            Self::File(file) => file
                .set_len(0)
                .and_then(|()| file.set_len(bytes))
                .map_err(Failure::io(format!("write {}", path.display()))),
            _ => Ok(()),
        }
    }

    /// Whether it reads as zeros where nothing is written.
    pub(super) fn is_blank(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

fn there(path: &Path) -> Failure {
    Failure::new(format!("{} exists already; --force overwrites it", path.display()))
}

/// Whatever else may be overwritten: with a save volume, all its snapshots would be gone.
fn refuse_pool(path: &Path) -> Outcome {
    let what = match identify::superblock(path) {
        Ok(None) => return Ok(()),
        Ok(Some(pool)) => format!("is the save volume of the pool `{}`", identify::label(&pool)),
        Err(StoreError::Unfit { .. }) => "is a damaged save volume, or a later rwsnap's".to_owned(),
        Err(e) => return Err(e.into()),
    };
    Err(Failure::new(format!("{} {what}, and is not overwritten", path.display())))
}

fn in_use(path: &Path, e: &StoreError) -> Failure {
    match e {
        StoreError::Locked { holder: Some(Holder::Process { pid, .. }), .. }
            if *pid == std::process::id() =>
        {
            let at = path.display();
            Failure::new(format!("{at} is a production volume of this pool; it is not overwritten"))
        }
        e => Failure::new(e.to_string()),
    }
}
