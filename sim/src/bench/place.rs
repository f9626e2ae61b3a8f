// SPDX-License-Identifier: MIT

//! The folder of the benchmark's images, which goes when it is done.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cli::error::{Failure, Outcome};

use super::numbers::Dice;

/// Bytes written at once.
const PIECE: usize = 1 << 20;

/// A folder.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
}

impl Place {
    /// A new one in `dir`.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn new(dir: &Path) -> Outcome<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let dir = dir.join(format!("rwsnap-bench-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).map_err(Failure::io(format!("make {}", dir.display())))?;
        let dir = dir.canonicalize().map_err(Failure::io(format!("find {}", dir.display())))?;
        Ok(Self { dir })
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A file full of bytes that no disk can compress, on the disk and not in memory alone.
    ///
    /// # Errors
    ///
    /// The disk is full, most likely.
    pub fn filled(&self, name: &str, size: u64) -> Outcome<PathBuf> {
        let path = self.path(name);
        fill(&path, size).map_err(Failure::io(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// A file of holes.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn sparse(&self, name: &str, size: u64) -> Outcome<PathBuf> {
        let path = self.path(name);
        let made = File::create(&path).and_then(|file| file.set_len(size));
        made.map_err(Failure::io(format!("make {}", path.display())))?;
        Ok(path)
    }

    /// Removes one of its files, if it is there.
    pub fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    /// Removes all files.
    pub fn clear(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn fill(path: &Path, size: u64) -> std::io::Result<()> {
    let mut dice = Dice(size);
    let mut file = File::create(path)?;
    let mut bytes = vec![0_u8; PIECE];
    for word in bytes.chunks_exact_mut(8) {
        word.copy_from_slice(&dice.roll().to_le_bytes());
    }
    let mut at = 0;
    while at < size {
        // Each piece is different.
        if let Some(head) = bytes.first_chunk_mut::<8>() {
            *head = at.to_le_bytes();
        }
        let len = usize::try_from(size - at).unwrap_or(PIECE).min(PIECE);
        file.write_all(bytes.get(..len).unwrap_or_default())?;
        at += u64::try_from(len).unwrap_or(u64::MAX);
    }
    file.sync_all()
}
