// SPDX-License-Identifier: GPL-2.0-only

//! The pools that are attached.

use kernel::{
    prelude::*,
    sync::{
        global_lock,
        Arc, //
    }, //
};
use rwsnap_core::control::Refusal;

use super::refused::Refused;
use crate::{
    pool::{
        open::Request,
        Pool, //
    },
    text, //
};

global_lock! {
    // SAFETY: initialized by `init`, before any other use.
    unsafe(uninit) static POOLS: Mutex<KVec<Arc<Pool>>> = KVec::new();
}

global_lock! {
    // SAFETY: initialized by `init`, before any other use.
    unsafe(uninit) static ATTACHING: Mutex<()> = ();
}

/// To be called once, when the module is loaded.
pub(crate) fn init() {
    // SAFETY: called once.
    unsafe { POOLS.init() };
    // SAFETY: called once.
    unsafe { ATTACHING.init() };
}

/// All pools.
///
/// # Errors
///
/// No memory.
pub(super) fn all() -> Result<KVec<Arc<Pool>>> {
    let pools = POOLS.lock();
    let mut all = KVec::with_capacity(pools.len(), GFP_KERNEL)?;
    for pool in pools.iter() {
        all.push(pool.clone(), GFP_KERNEL)?;
    }
    Ok(all)
}

/// The pool of this name or UUID; the only one if the name is empty.
///
/// # Errors
///
/// `ENODEV` if there is none, `ENOTUNIQ` if there are several.
pub(super) fn find(name: &[u8]) -> Result<Arc<Pool>> {
    let pools = POOLS.lock();
    let bears = |pool: &&Arc<Pool>| {
        let title = pool.title();
        let label = text::unpadded(&title.label);
        name.is_empty() || text::uuid(title.uuid) == *name || (label == name && !label.is_empty())
    };
    let mut found = pools.iter().filter(bears);
    match (found.next(), found.next()) {
        (None, _) => Err(ENODEV),
        (Some(_), Some(_)) => Err(ENOTUNIQ),
        (Some(only), None) => Ok(only.clone()),
    }
}

/// Attaches a pool and lists it.
///
/// # Errors
///
/// Why it cannot be attached.
pub(super) fn attach(request: &Request<'_>) -> Result<Arc<Pool>, Refused> {
    let _attaching = ATTACHING.lock();
    let module = crate::Using::new()?;
    // A pool that is attached is listed, whatever happens: nobody could detach it otherwise.
    POOLS.lock().reserve(1, GFP_KERNEL)?;
    let pool = Pool::attach(request, &|uuid| {
        POOLS.lock().iter().any(|other| other.title().uuid == uuid)
    })?;
    let _ = POOLS.lock().push_within_capacity(pool.clone());
    module.keep();
    Ok(pool)
}

/// Detaches a pool.
///
/// # Errors
///
/// A device of it is open.
pub(super) fn detach(pool: &Arc<Pool>) -> Result<(), Refused> {
    let _attaching = ATTACHING.lock();
    if !POOLS.lock().iter().any(|other| Arc::ptr_eq(other, pool)) {
        return Err(Refused::because(Refusal::NotFound));
    }
    pool.detach()?;
    POOLS.lock().retain(|other| !Arc::ptr_eq(other, pool));
    crate::Using::drop_one();
    Ok(())
}
