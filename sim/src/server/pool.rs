// SPDX-License-Identifier: MIT

//! The pool as all reactors share it: the core behind one lock, its disks, its copy units.
//!
//! # Invariants
//!
//! - Whoever changes the core drains it: by `Reactor::drive`, or, where there is no reactor at
//!   hand, by asking the first one to (`poke`).
//! - While `paused`, no step is taken from the core. `writing` counts the steps under way that
//!   change a production.
//! - A device number is used for one disk only as long as the server runs.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rwsnap_core::units::Dev;

use crate::store::engine::Engine;
use crate::store::Volume;
use crate::uring::Span;

/// The disks by device number.
#[derive(Debug, Default)]
pub(crate) struct Disks(RwLock<Vec<Option<Arc<Volume>>>>);

impl Disks {
    /// The disk of that number.
    pub(crate) fn get(&self, number: usize) -> Option<Arc<Volume>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(number)?.clone()
    }

    /// Puts a disk under a number.
    pub(crate) fn put(&self, number: usize, disk: Arc<Volume>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= number {
            all.resize(number.saturating_add(1), None);
        }
        if let Some(place) = all.get_mut(number) {
            *place = Some(disk);
        }
    }

    /// Lets go of a disk; it is closed when the last reactor has let go, too.
    pub(crate) fn drop_one(&self, number: usize) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = all.get_mut(number) {
            *place = None;
        }
    }

    /// How many numbers were ever used.
    pub(crate) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// The pool.
pub(crate) struct Pool {
    core: Mutex<Box<dyn Engine + Send>>,
    /// Bytes in a chunk.
    pub(crate) chunk: u32,
    /// Memory of the copy units.
    units: Span,
    /// Somebody changed the core and could not drain it.
    poked: AtomicBool,
    /// No step is to be taken.
    pub(crate) paused: AtomicBool,
    /// Steps under way that change a production.
    pub(crate) writing: AtomicU32,
    /// The core is closed, or there is no more to wait for.
    pub(crate) over: AtomicBool,
    /// Opens the volume of a production that is added.
    pub(crate) open: fn(&std::path::Path) -> Result<Volume, String>,
}

impl Pool {
    /// A pool whose core is begun.
    pub(crate) fn new(
        core: Box<dyn Engine + Send>,
        chunk: u32,
        units: Span,
        open: fn(&std::path::Path) -> Result<Volume, String>,
    ) -> Self {
        Self {
            core: Mutex::new(core),
            chunk,
            units,
            poked: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            writing: AtomicU32::new(0),
            over: AtomicBool::new(false),
            open,
        }
    }

    /// The core, locked. A reactor that panicked may have left it anyhow, but the core's own
    /// checks, and the log on the disk, hold; to go on is no worse than a crash.
    pub(crate) fn core(&self) -> MutexGuard<'_, Box<dyn Engine + Send>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The core was changed, and somebody else has to drain it.
    pub(crate) fn poke(&self) {
        self.poked.store(true, Ordering::SeqCst);
    }

    /// Whether somebody has to drain the core; asked by him who will.
    pub(crate) fn was_poked(&self) -> bool {
        self.poked.load(Ordering::Relaxed) && self.poked.swap(false, Ordering::SeqCst)
    }

    /// Bytes of a copy unit.
    pub(crate) fn unit(&self, unit: u32) -> Span {
        self.units.cut(unit.saturating_mul(self.chunk), self.chunk)
    }

    /// Bytes in a word.
    pub(crate) fn word_bytes(&self) -> u64 {
        u64::from(self.chunk).saturating_mul(64)
    }
}

/// The index of a device's disk.
pub(crate) fn disk_of(dev: Dev) -> usize {
    usize::from(dev.0)
}
