// SPDX-License-Identifier: MIT

//! Makes a pool: looks at the production volumes, prepares the save volume and formats it.
//!
//! # Invariants
//!
//! - Production volumes are opened for reading alone.
//! - Nothing is written to the save volume before all has been checked; a file that was made for
//!   the pool is removed again if making the pool fails.

use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rwsnap_core::control::Name;
use rwsnap_core::format::create::{create as create_pool, CreateError, NewPool, NewProduction};
use rwsnap_core::format::entity::VALUE_MAX;
use rwsnap_core::format::superblock::{LayoutError, Options, Superblock, COPIES};
use rwsnap_core::units::PAGE_BYTES;

use crate::platform::Host;

use super::lock::Holder;
use super::offline::now_ns;
use super::{device, identify, signature, Access, Cache, Kind, StoreError, Volume};

/// The smallest save volume that is made unless a size is given.
const USUAL_MIN: u64 = 256 << 20;
/// Bytes at the end of a save volume that are cleared.
const TAIL: u64 = 64 << 10;
/// How large a save volume is made able to grow, beyond what is asked for.
const LIMIT_MAX: u64 = 256 << 30;
/// Policy when the save volume is full: make it larger.
const GROW: u32 = 0;
/// Policy when the save volume is full: give up the oldest snapshots.
const OLDEST: u32 = 1;

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
        refuse_save(path)?;
        opened.push(volume);
    }
    Ok(opened)
}

/// Refuses the save volume of a pool.
fn refuse_save(path: &Path) -> Result<(), StoreError> {
    match identify::superblock(path) {
        Ok(Some(_)) => Err(StoreError::unfit(path, "is the save volume of a pool, not production")),
        _ => Ok(()),
    }
}

/// Whether the volume can become a production of a pool of this logical block.
///
/// # Errors
///
/// It cannot; the sentence says why and what to do.
pub fn check_new(volume: &Volume, block: u32) -> Result<(), StoreError> {
    let own = volume.device().block;
    if own > block {
        return Err(StoreError::unfit(
            volume.path(),
            format!(
                "has blocks of {own} bytes, and the pool was made for blocks of {block}; \
                 `rwsnap create` makes a pool for both"
            ),
        ));
    }
    refuse_save(volume.path())?;
    check_production(volume, block)
}

/// What to say of a volume that cannot be added to the pool that this process has.
#[must_use]
pub fn not_added(e: &StoreError) -> String {
    match e {
        StoreError::Locked { path, holder: Some(Holder::Process { pid, .. }) }
            if *pid == std::process::id() =>
        {
            format!("{} is in this pool already", path.display())
        }
        e => e.to_string(),
    }
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
        let way = match volume.kind() {
            Kind::File => format!("; `truncate -s {whole}` makes it one"),
            Kind::Block => String::new(),
        };
        let why = "no multiple of the pool's logical block of";
        let why = format!("has {size} bytes, {why} {block}{way}");
        return Err(StoreError::unfit(volume.path(), why));
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

/// Writes an empty pool: the log once, so that its blocks are allocated, then the metadata.
fn format(
    wanted: &Wanted,
    productions: &[Volume],
    save: &Volume,
    block: u32,
    size: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Made, StoreError> {
    let path = &wanted.save;
    let layout = layout(wanted, productions, save, block, size);
    let mut planned = Superblock::default();
    planned.lay_out(&layout).map_err(|e| StoreError::unfit(path, layout_error(e)))?;
    let log = (planned.log_start.get(), planned.log_blocks.get().saturating_mul(PAGE_BYTES));
    write_zeros(save, log, progress)?;
    // Copies of partition tables and of superblocks of other kinds lie at the end.
    write_zeros(save, (size.saturating_sub(TAIL), TAIL), &mut |_, _| {})?;
    let uuid = uuid::Uuid::new_v4().into_bytes();
    let names = new_productions(wanted, productions)?;
    let pool = NewPool {
        layout,
        uuid,
        label: padded(&wanted.name),
        when_full: policy(wanted, save),
        copy_span: wanted.copy_span.unwrap_or(wanted.chunk),
        time_ns: now_ns(),
        productions: &names,
    };
    let mut written = Ok(());
    let made = create_pool(&Host, &pool, &mut |at, bytes| {
        if written.is_ok() && at == COPIES[0] {
            written = save.flush();
        }
        if written.is_ok() {
            written = save.write_at(bytes, at);
        }
    });
    made.map_err(|e| StoreError::unfit(path, create_error(e, wanted)))?;
    written?;
    save.flush()?;
    Ok(Made { name: wanted.name.clone(), uuid, slots: planned.slots.get() })
}

fn layout(
    wanted: &Wanted,
    productions: &[Volume],
    save: &Volume,
    block: u32,
    size: u64,
) -> Options {
    let all: u64 = productions.iter().map(|v| v.device().size).sum();
    // Room for every chunk of production to be copied, and for clones as large again.
    let usual = size.saturating_mul(4).max(size.saturating_add(all.saturating_mul(2)));
    if save.kind() == Kind::Block {
        return Options { bytes: size, chunk: wanted.chunk, block, ..Options::default() };
    }
    let grow = wanted.grow_limit.unwrap_or(usual).max(size);
    // Somebody may want more later: a bit for each slot costs little.
    let limit = grow.max(usual.saturating_mul(4).min(LIMIT_MAX));
    Options { bytes: size, limit, grow, chunk: wanted.chunk, block, ..Options::default() }
}

/// What to do when the save volume is full: files grow, of devices the oldest snapshots go.
fn policy(wanted: &Wanted, save: &Volume) -> u32 {
    let usual = if save.kind() == Kind::File { GROW } else { OLDEST };
    wanted.when_full.unwrap_or(usual)
}

fn new_productions<'a>(
    wanted: &'a Wanted,
    productions: &[Volume],
) -> Result<Vec<NewProduction<'a>>, StoreError> {
    let each = wanted.productions.iter().zip(productions);
    each.map(|(production, volume)| {
        let path = production.path.as_os_str().as_bytes();
        if path.len() > VALUE_MAX {
            let why = "has a path of more than 192 bytes; a symbolic link to it can be shorter";
            return Err(StoreError::unfit(&production.path, why));
        }
        let name = Name::new(production.name.as_bytes()).unwrap_or_default();
        Ok(NewProduction { name, size: volume.device().size, path })
    })
    .collect()
}

/// Writes zeros, piece by piece.
fn write_zeros(
    save: &Volume,
    (start, len): (u64, u64),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), StoreError> {
    let zeros = vec![0; 1 << 20];
    let mut done = 0;
    while done < len {
        let now = usize::try_from(len - done).unwrap_or(usize::MAX).min(zeros.len());
        save.write_at(zeros.get(..now).unwrap_or_default(), start + done)?;
        done += now as u64;
        progress(done, len);
    }
    Ok(())
}

/// A pool's name, padded with zeros.
fn padded(name: &str) -> [u8; 64] {
    let mut label = [0; 64];
    label.iter_mut().zip(name.as_bytes()).for_each(|(to, from)| *to = *from);
    label
}

fn layout_error(e: LayoutError) -> String {
    match e {
        LayoutError::TooSmall { need } => {
            format!("is too small for a pool: at least {need} bytes are needed")
        }
        LayoutError::TooLarge => "is larger than a pool can be".to_owned(),
        other => format!("cannot be laid out as asked ({other:?})"),
    }
}

fn create_error(e: CreateError, wanted: &Wanted) -> String {
    match e {
        CreateError::Layout(e) => layout_error(e),
        CreateError::Name(at) => {
            let name = wanted.productions.get(at).map(|p| p.name.as_str()).unwrap_or_default();
            format!("cannot have a production volume named `{name}`")
        }
        CreateError::TooMany => "has no room for so many production volumes".to_owned(),
        CreateError::Fault(fault) => format!("cannot be formatted ({fault:?})"),
    }
}
