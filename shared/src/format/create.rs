// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Making a pool: an empty save volume that knows its production volumes.

use zerocopy::IntoBytes;

use crate::catalog::Catalog;
use crate::control::Name;
use crate::fault::Fault;
use crate::format::entity::{fill_page, Entity, Kind, PER_PAGE};
use crate::format::page::Owner;
use crate::format::superblock::{LayoutError, Options, Superblock, COPIES};
use crate::platform::Platform;
use crate::slots::{Meta, Slots};
use crate::units::{PageNo, PAGE};

/// A production volume of a new pool.
#[derive(Clone, Copy, Debug)]
pub struct NewProduction<'a> {
    /// Its name.
    pub name: Name,
    /// Bytes; a multiple of the logical block.
    pub size: u64,
    /// Where it is: at most 192 bytes are kept.
    pub path: &'a [u8],
}

/// A new pool.
#[derive(Clone, Copy, Debug)]
pub struct NewPool<'a> {
    /// Sizes.
    pub layout: Options,
    /// UUID; random.
    pub uuid: [u8; 16],
    /// Name, padded with zeros.
    pub label: [u8; 64],
    /// 0 grow, 1 oldest, 2 stall, 3 fail.
    pub when_full: u32,
    /// Bytes that a first write copies: a power of two from the chunk to 1 MiB.
    pub copy_span: u32,
    /// Now: ns since 1970.
    pub time_ns: u64,
    /// The production volumes, in the order of their device numbers from 1 on.
    pub productions: &'a [NewProduction<'a>],
}

/// Percent of slots that a new pool has as its low water.
const LOW_WATER: u32 = 5;

/// Why a pool cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateError {
    /// The layout.
    Layout(LayoutError),
    /// A name that volumes cannot have, or two that are alike; which of them.
    Name(usize),
    /// The metadata has no room for so many volumes.
    TooMany,
    /// Memory, or a broken invariant.
    Fault(Fault),
}

impl From<Fault> for CreateError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Makes the metadata of a new pool and hands it out, piece by piece, with the byte of the save
/// volume that each belongs to. The superblocks come last: the driver flushes before the first of
/// them (it is the piece at byte `COPIES[0]`), and at the end.
///
/// # Errors
///
/// The layout or the names; what was handed out before then is no pool.
pub fn create<P: Platform>(
    platform: &P,
    pool: &NewPool<'_>,
    write: &mut dyn FnMut(u64, &[u8]),
) -> Result<(), CreateError> {
    let mut s = platform.boxed(|| Superblock::ZERO).ok_or(Fault::NoMemory)?;
    s.magic = crate::format::superblock::MAGIC;
    s.pool = pool.uuid;
    s.label = pool.label;
    s.lay_out(&pool.layout).map_err(CreateError::Layout)?;
    s.when_full = pool.when_full.into();
    s.copy_span = pool.copy_span.into();
    s.low_water = LOW_WATER.into();
    s.written_ns = pool.time_ns.into();
    s.generation = 1.into();
    s.clean = 1.into();
    let owner = Owner { pool: s.pool_number(), generation: s.generation.get() };
    let catalog = entities(platform, pool, &mut s)?;
    let mut page = platform.array(PAGE, &0).ok_or(Fault::NoMemory)?;
    let mut meta = Meta::new(platform, s.extents().map(|e| e.pages)).ok_or(Fault::NoMemory)?;
    write_catalog(platform, &catalog, &mut meta, &mut s, &mut page, write)?;
    for n in 0..meta.map_pages() {
        let (extent, index) = meta.map_place(n).ok_or(crate::bug!())?;
        let at = s.extents().nth(extent).map(|e| e.map_byte(0, index)).ok_or(crate::bug!())?;
        meta.fill_page(platform, &owner, n, &mut page);
        write(at, &page);
    }
    write_slots(platform, &s, &mut page, write)?;
    s.pages_used = meta.used().into();
    s.seal(platform);
    page.fill(0);
    write(0, &page);
    for at in COPIES {
        if s.pair().contains(&at) {
            write(at, s.as_bytes());
        } else {
            write(at, &page);
        }
    }
    Ok(())
}

/// The bit map of the slots.
#[inline(never)]
fn write_slots<P: Platform>(
    platform: &P,
    s: &Superblock,
    page: &mut [u8],
    write: &mut dyn FnMut(u64, &[u8]),
) -> Result<(), CreateError> {
    let owner = Owner { pool: s.pool_number(), generation: s.generation.get() };
    let slots = Slots::new(platform, s.slots.get(), s.slot_limit.get()).ok_or(Fault::NoMemory)?;
    for n in 0..slots.pages() {
        slots.fill_page(platform, &owner, n, page);
        write(s.slot_map_byte(0, n).ok_or(crate::bug!())?, page);
    }
    Ok(())
}

/// The catalogue of a new pool.
#[inline(never)]
fn entities<P: Platform>(
    platform: &P,
    pool: &NewPool<'_>,
    s: &mut Superblock,
) -> Result<P::Box<Catalog<P>>, CreateError> {
    let room = pool.productions.len().saturating_add(2);
    let mut catalog = Catalog::new(platform, room)?;
    let mut id = 1u32;
    let mut entity = platform.boxed(|| Entity::ZERO).ok_or(Fault::NoMemory)?;
    entity.id = id.into();
    entity.kind = Kind::Pool as u8;
    entity.created_ns = pool.time_ns.into();
    catalog.put(&entity)?;
    for (at, production) in pool.productions.iter().enumerate() {
        let taken = catalog.by_name(production.name.bytes()).is_some();
        if taken || !Name::part_is_valid(production.name.bytes()) {
            return Err(CreateError::Name(at));
        }
        id = id.saturating_add(1);
        *entity = Entity::ZERO;
        entity.id = id.into();
        entity.kind = Kind::Production as u8;
        entity.name = production.name;
        entity.size = production.size.into();
        entity.map = id.saturating_sub(1).into();
        entity.device = id.saturating_sub(1).into();
        entity.created_ns = pool.time_ns.into();
        let a = platform.hash(u64::from(id), &pool.uuid).to_le_bytes();
        let b = platform.hash(u64::from(id), &a).to_le_bytes();
        for (to, from) in entity.uuid.iter_mut().zip(a.iter().chain(&b)) {
            *to = *from;
        }
        let path = production.path.get(..production.path.len().min(192)).unwrap_or(&[]);
        let _ = entity.set_property(b"path", path);
        catalog.put(&entity)?;
    }
    s.next_entity = id.saturating_add(1).into();
    s.next_map = id.into();
    let _ = catalog.freeze();
    Ok(catalog)
}

#[inline(never)]
fn write_catalog<P: Platform>(
    platform: &P,
    catalog: &Catalog<P>,
    meta: &mut Meta<P>,
    s: &mut Superblock,
    page: &mut [u8],
    write: &mut dyn FnMut(u64, &[u8]),
) -> Result<(), CreateError> {
    let owner = Owner { pool: s.pool_number(), generation: s.generation.get() };
    let mut take = || meta.alloc().ok_or(CreateError::TooMany);
    let mut at = take()?;
    s.catalog_first = at.0.into();
    let count = catalog.frozen().len().div_ceil(PER_PAGE);
    s.catalog_pages = u64::try_from(count).unwrap_or(0).into();
    let mut left = count;
    for some in catalog.frozen().chunks(PER_PAGE) {
        left = left.saturating_sub(1);
        let next: Option<PageNo> = if left == 0 { None } else { Some(take()?) };
        let _ = fill_page(platform, page, &owner, at, next, some.iter());
        write(s.page_byte(at).ok_or(crate::bug!())?, page);
        at = next.unwrap_or(at);
    }
    Ok(())
}
