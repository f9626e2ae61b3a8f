// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The core, made for a platform that is opaque to the compiler, so that its machine code can be
//! looked at: `shared/tests/symbols.rs` fails if any of it can panic, or asks for memory by itself.
//!
//! Nothing here is ever run. Generic code exists only where it is used, so each public function of
//! the core that has a type parameter must be named here; the others are compiled with the core
//! itself. Never inlined: the compiler leaves out a small function that it may inline elsewhere.
#![no_std]

mod platform;

use core::hint::black_box;

use rwsnap_core::catalog::Catalog;
use rwsnap_core::fast::Fast;
use rwsnap_core::fault::Fault;
use rwsnap_core::format::create::create;
use rwsnap_core::format::superblock::Superblock;
use rwsnap_core::map::{build, Builder, Cache, Delta, Layers, Miss, PageAlloc, Progress};
use rwsnap_core::platform::Platform;
use rwsnap_core::units::PageNo;
use rwsnap_core::Core;

pub use platform::Opaque;

/// Makes the compiler write out each of these functions.
macro_rules! keep {
    ($($function:expr),* $(,)?) => {
        $(black_box($function as *const ());)*
    };
}

/// Pages that come from somewhere.
#[derive(Debug)]
pub struct Pages;

impl PageAlloc for Pages {
    fn alloc(&mut self) -> Option<PageNo> {
        black_box(None)
    }
    fn free(&mut self, page: PageNo) {
        black_box(page);
    }
}

/// The platform's own.
#[inline(never)]
pub fn keep_platform() {
    keep!(
        <Opaque as Platform>::array::<u64>,
        <Opaque as Platform>::atoms,
        <Opaque as Platform>::hash,
        <Opaque as Platform>::share::<u64>,
    );
}

/// The hot path.
#[inline(never)]
pub fn keep_fast() {
    keep!(Fast::<Opaque>::route, Fast::<Opaque>::leave, Fast::<Opaque>::passed);
}

/// The engine: everything that a driver calls.
#[inline(never)]
pub fn keep_engine() {
    keep!(
        <Core<Opaque> as core::fmt::Debug>::fmt,
        Core::<Opaque>::open,
        Core::<Opaque>::opened,
        Core::<Opaque>::plant,
        Core::<Opaque>::productions,
        Core::<Opaque>::online,
        Core::<Opaque>::start,
        Core::<Opaque>::geometry,
        Core::<Opaque>::block,
        Core::<Opaque>::attach,
        Core::<Opaque>::detach,
        Core::<Opaque>::names,
        Core::<Opaque>::handle_lost,
        Core::<Opaque>::submit,
        Core::<Opaque>::command,
        Core::<Opaque>::reply,
        Core::<Opaque>::poll,
        Core::<Opaque>::is_data,
        Core::<Opaque>::segs,
        Core::<Opaque>::complete,
        Core::<Opaque>::kick,
        Core::<Opaque>::is_behind,
        Core::<Opaque>::resume,
        Core::<Opaque>::event_after,
        Core::<Opaque>::tick,
        Core::<Opaque>::wait_no_more,
        Core::<Opaque>::close,
        Core::<Opaque>::closed,
        Core::<Opaque>::set_fingerprint,
    );
}

/// The making of pools; what is written goes nowhere.
#[inline(never)]
pub fn keep_create(
    pool: &rwsnap_core::format::create::NewPool<'_>,
    write: &mut dyn FnMut(u64, &[u8]),
) {
    let _ = black_box(create(&Opaque, pool, write));
}

/// The sample of which a fingerprint is made.
#[inline(never)]
pub fn keep_fingerprint(size: u64) -> u64 {
    rwsnap_core::format::fingerprint::sample(size).fold(0, u64::wrapping_add)
}

/// The block map.
#[inline(never)]
pub fn keep_map() {
    keep!(
        Delta::<Opaque>::new,
        Delta::<Opaque>::clear,
        Delta::<Opaque>::put,
        Delta::<Opaque>::remove,
        Delta::<Opaque>::find,
        Delta::<Opaque>::collect,
        Delta::<Opaque>::group,
        Delta::<Opaque>::next_group,
        Delta::<Opaque>::walk,
        Delta::<Opaque>::step,
        Delta::<Opaque>::weight,
        Cache::<Opaque>::new,
        Cache::<Opaque>::get,
        Cache::<Opaque>::start,
        Cache::<Opaque>::fill,
        Cache::<Opaque>::fail,
        Cache::<Opaque>::forget,
        Cache::<Opaque>::insert,
        Layers::<Opaque>::new,
        Layers::<Opaque>::stage_fresh,
        Layers::<Opaque>::freeze,
        Layers::<Opaque>::drop_frozen,
        Layers::<Opaque>::next_group,
        Builder::<Opaque>::new,
        Builder::<Opaque>::start,
        build::pages_needed::<Opaque>,
    );
}

/// The checkpoint's tree, with an allocator.
#[inline(never)]
pub fn keep_builder(
    builder: &mut Builder<Opaque>,
    layers: &mut Layers<Opaque>,
) -> Result<Progress, Miss> {
    builder.step(&Opaque, layers, &mut Pages)
}

/// The catalogue.
#[inline(never)]
pub fn keep_catalog(catalog: &mut Catalog<Opaque>) -> Result<(), Fault> {
    keep!(
        Catalog::<Opaque>::new,
        Catalog::<Opaque>::reserve,
        Catalog::<Opaque>::put,
        Catalog::<Opaque>::remove,
        Catalog::<Opaque>::set_used,
        Catalog::<Opaque>::freeze,
        Catalog::<Opaque>::thaw_unwritten,
        Catalog::<Opaque>::get,
        Catalog::<Opaque>::by_name,
        Catalog::<Opaque>::newest_epoch,
        Catalog::<Opaque>::epoch_before,
        Catalog::<Opaque>::next_epoch_at_or_after,
        Catalog::<Opaque>::epoch_in,
        Catalog::<Opaque>::snapshot_at,
        Catalog::<Opaque>::volume_of_map,
        Superblock::parse::<Opaque>,
        Superblock::seal::<Opaque>,
        rwsnap_core::format::superblock::Finder::feed::<Opaque>,
    );
    let id = catalog.iter().last().map(rwsnap_core::format::entity::Entity::id).unwrap_or_default();
    for entity in catalog.dependants(id).chain(catalog.clones_of(id)).chain(catalog.from(id)) {
        black_box(entity);
    }
    Ok(())
}
