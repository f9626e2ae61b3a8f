// SPDX-License-Identifier: MIT

//! Makes a pool: looks at the production volumes, prepares the save volume and formats it.
//!
//! # Invariants
//!
//! - Production volumes are opened for reading alone.
//! - Nothing is written to the save volume before all has been checked; a file that was made for
//!   the pool is removed again if making the pool fails.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{device, identify, signature, Access, Cache, Kind, StoreError, Volume};

/// The smallest save volume that is made unless a size is given.
const USUAL_MIN: u64 = 256 << 20;

/// A production volume to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Production {
    /// Name.
    pub name: String,
    /// File or device; absolute.
    pub path: PathBuf,
}

/// A pool to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The save volume; absolute.
    pub save: PathBuf,
    /// Its bytes.
    pub size: Option<u64>,
    /// Bytes in a chunk.
    pub chunk: u32,
    /// Bytes that a first write copies.
    pub copy_span: Option<u32>,
    /// 0 grow, 1 oldest, 2 stall, 3 fail.
    pub when_full: Option<u32>,
    /// Bytes that the save volume may grow to.
    pub grow_limit: Option<u64>,
    /// Name of the pool.
    pub name: String,
    /// Overwrite what is there.
    pub force: bool,
    /// Production volumes.
    pub productions: Vec<Production>,
}

/// A pool that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Name.
    pub name: String,
    /// UUID.
    pub uuid: [u8; 16],
    /// Slots there are.
    pub slots: u64,
}

/// Makes the pool. `progress` is told bytes done and bytes in all.
///
/// # Errors
///
/// A volume is missing, in use, or does not suit; nothing was changed then.
pub fn create(wanted: &Wanted, progress: &mut dyn FnMut(u64, u64)) -> Result<Made, StoreError> {
    let productions = open_productions(wanted)?;
    let size = save_size(wanted, &productions)?;
    let is_new = !wanted.save.exists();
    let made = make(wanted, &productions, size, progress);
    if is_new && made.is_err() && device::kind_of(&wanted.save).is_ok_and(|k| k == Kind::File) {
        // What is left of it would be in the way of the next attempt.
        fs::remove_file(&wanted.save).map_err(StoreError::io(&wanted.save, "remove"))?;
    }
    made
}

fn open_productions(wanted: &Wanted) -> Result<Vec<Volume>, StoreError> {
    let mut opened: Vec<Volume> = Vec::new();
    for production in &wanted.productions {
        let path = &production.path;
        let volume = Volume::open(path, Access::Read, Cache::Buffered)?;
        if device::identity(path) == device::identity(&wanted.save) && wanted.save.exists() {
            return Err(StoreError::unfit(path, "cannot be production and save volume at once"));
        }
        if let Some(same) = opened.iter().find(|other| other.is_same(&volume)) {
            let same = same.path().display();
            return Err(StoreError::unfit(path, format!("is given twice; see {same}")));
        }
        if identify::superblock(path).ok().flatten().is_some() {
            return Err(StoreError::unfit(path, "is the save volume of a pool, not production"));
        }
        opened.push(volume);
    }
    Ok(opened)
}

/// The logical block of the pool: the largest of its volumes.
fn pool_block(volumes: &[Volume], save: &Volume) -> u32 {
    let blocks = volumes.iter().chain([save]).map(|v| v.device().block);
    blocks.max().unwrap_or(512)
}

/// How large the save volume is to be.
fn save_size(wanted: &Wanted, productions: &[Volume]) -> Result<u64, StoreError> {
    let there = match device::kind_of(&wanted.save) {
        Ok(_) => Volume::open(&wanted.save, Access::Read, Cache::Buffered)?.device().size,
        Err(e) if e.is_missing() => 0,
        Err(e) => return Err(e),
    };
    let usual = || {
        let all: u64 = productions.iter().map(|v| v.device().size).sum();
        (all / 5).max(USUAL_MIN).next_multiple_of(1 << 20)
    };
    match wanted.size {
        Some(size) if size < there && device::kind_of(&wanted.save)? == Kind::File => {
            Err(StoreError::unfit(
                &wanted.save,
                format!("has {there} bytes already, more than --size; remove it first"),
            ))
        }
        Some(size) => Ok(size),
        None if there > 0 => Ok(there),
        None => Ok(usual()),
    }
}

fn make(
    wanted: &Wanted,
    productions: &[Volume],
    size: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Made, StoreError> {
    let mut save = open_save(wanted)?;
    if save.kind() == Kind::Block && size > save.device().size {
        let has = save.device().size;
        return Err(StoreError::unfit(&wanted.save, format!("has {has} bytes, less than --size")));
    }
    let block = pool_block(productions, &save);
    for volume in productions {
        check_production(volume, block)?;
    }
    save.grow(size)?;
    format(wanted, productions, &save, block, size, progress)
}

fn check_production(volume: &Volume, block: u32) -> Result<(), StoreError> {
    let size = volume.device().size;
    if size == 0 {
        return Err(StoreError::unfit(volume.path(), "is empty: a production volume has a size"));
    }
    if size % u64::from(block) != 0 {
        let whole = size.next_multiple_of(block.into());
        return Err(StoreError::unfit(
            volume.path(),
            format!(
                "has {size} bytes, no multiple of the pool's logical block of {block}; \
                 `truncate -s {whole}` makes it one"
            ),
        ));
    }
    Ok(())
}

/// Opens the save volume, or makes it; refuses to overwrite what it knows.
fn open_save(wanted: &Wanted) -> Result<Volume, StoreError> {
    let path = &wanted.save;
    if !path.exists() {
        let mut options = OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o600).open(path);
        made.map_err(StoreError::io(path, "make"))?;
    }
    let save = Volume::open(path, Access::Own, Cache::Buffered)?;
    if wanted.force {
        return Ok(save);
    }
    match found(path, &save)? {
        None => Ok(save),
        Some(what) => Err(StoreError::unfit(
            path,
            format!("holds {what}; --force overwrites it, and it is lost then"),
        )),
    }
}

/// What the save volume holds already.
fn found(path: &Path, save: &Volume) -> Result<Option<String>, StoreError> {
    match identify::superblock(path) {
        Ok(Some(pool)) => {
            let uuid = uuid::Uuid::from_bytes(pool.pool);
            let name = identify::label(&pool);
            Ok(Some(format!("the pool `{name}` ({uuid}) with its snapshots and clones")))
        }
        Ok(None) => signature::find(save),
        Err(StoreError::Unfit { .. }) => {
            Ok(Some("a damaged pool, or one of a later rwsnap".into()))
        }
        Err(e) => Err(e),
    }
}

/// Writes an empty pool.
fn format(
    wanted: &Wanted,
    _productions: &[Volume],
    save: &Volume,
    _block: u32,
    _size: u64,
    _progress: &mut dyn FnMut(u64, u64),
) -> Result<Made, StoreError> {
    let _ = (wanted, save);
    Err(StoreError::unfit(&wanted.save, "cannot be formatted: this build has no format"))
}
