// SPDX-License-Identifier: MIT

//! What can go wrong with a volume, as sentences that name it and say what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::lock::Holder;

/// Why a volume could not be used.
#[derive(Debug)]
pub enum StoreError {
    /// The system refused.
    Io {
        /// The volume.
        path: PathBuf,
        /// What was tried: "open", "read".
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else has it.
    Locked {
        /// The volume.
        path: PathBuf,
        /// Who, as far as the system tells.
        holder: Option<Holder>,
    },
    /// It is neither a regular file nor a block device.
    NotAVolume {
        /// What it was said to be.
        path: PathBuf,
        /// What it is: "a directory".
        what: &'static str,
    },
    /// It does not suit; the sentence says why and what to do.
    Unfit {
        /// The volume.
        path: PathBuf,
        /// Why, and the way out.
        why: String,
    },
}

impl StoreError {
    /// For use with `map_err`: `doing` failed on `path`.
    pub fn io<'a>(path: &'a Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { path: path.to_path_buf(), doing, source }
    }

    /// The volume does not suit, for this reason.
    pub fn unfit(path: &Path, why: impl Into<String>) -> Self {
        Self::Unfit { path: path.to_path_buf(), why: why.into() }
    }

    /// Whether the file system does not know how it was to be opened (`O_DIRECT`).
    pub(super) fn is_refused_flag(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.raw_os_error() == Some(libc::EINVAL))
    }

    /// Whether the volume is not there at all.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source, .. } if source.kind() == io::ErrorKind::NotFound => {
                write!(f, "{} does not exist", path.display())
            }
            Self::Io { path, doing, source } => {
                write!(f, "cannot {doing} {}: {source}", path.display())?;
                if source.kind() == io::ErrorKind::PermissionDenied {
                    write!(f, " (its owner or root can)")?;
                }
                Ok(())
            }
            Self::Locked { path, holder: Some(holder) } => {
                write!(f, "{} is in use by {holder}", path.display())
            }
            Self::Locked { path, holder: None } => {
                write!(f, "{} is in use by another process", path.display())
            }
            Self::NotAVolume { path, what } => {
                write!(f, "{} is {what}, not a file or a block device", path.display())
            }
            Self::Unfit { path, why } => write!(f, "{} {why}", path.display()),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
