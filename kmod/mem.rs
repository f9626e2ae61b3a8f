// SPDX-License-Identifier: GPL-2.0-only

//! The core's platform in the kernel: its allocators, `Arc`, LKMM atomics and XXH64.
//!
//! Everything is allocated with `GFP_KERNEL`: when a pool is attached that is what it may do, and
//! the workers of a pool run between `memalloc_noio_save` and `memalloc_noio_restore`, so that
//! there it means `GFP_NOIO`.
//!
//! C header: [`include/linux/xxhash.h`](srctree/include/linux/xxhash.h)

use kernel::{
    alloc::{
        KVBox,
        KVVec, //
    },
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Release, //
        },
        barrier::{
            self,
            smp_mb, //
        },
        Arc, //
    },
};
use rwsnap_core::platform;

use crate::ffi;

/// A 64-bit atomic of the kernel's memory model.
pub(crate) struct Atom(Atomic<u64>);

impl platform::Atom for Atom {
    fn new(value: u64) -> Self {
        Self(Atomic::new(value))
    }

    fn load(&self) -> u64 {
        self.0.load(Acquire)
    }

    fn store(&self, value: u64) {
        self.0.store(value, Release);
    }

    fn add(&self, value: u64) -> u64 {
        self.0.fetch_add(value, Full)
    }

    fn sub(&self, value: u64) -> u64 {
        self.0.fetch_sub(value, Full)
    }

    fn set(&self, bits: u64) -> u64 {
        ffi::fetch_or(&self.0, bits)
    }

    fn clear(&self, bits: u64) -> u64 {
        ffi::fetch_andnot(&self.0, bits)
    }

    fn fence() {
        smp_mb(barrier::Full);
    }

    // A fully ordered operation is a full barrier in the kernel's memory model.
    fn add_fenced(&self, value: u64) {
        let _ = self.0.fetch_add(value, Full);
    }
}

/// Whether the kernel can have so much in one piece: it warns of who asks for more, and how much is
/// asked for may stand on a disk.
fn fits<T>(len: usize) -> Option<()> {
    let bytes = len.checked_mul(size_of::<T>())?;
    i32::try_from(bytes).ok().map(|_| ())
}

/// The kernel as the core sees it.
#[derive(Clone, Copy)]
pub(crate) struct Kernel;

impl platform::Platform for Kernel {
    type Array<T> = KVVec<T>;
    type Box<T> = KVBox<T>;
    type Ref<T> = Arc<T>;
    type Atom = Atom;

    fn array<T: Clone>(&self, len: usize, fill: &T) -> Option<KVVec<T>> {
        fits::<T>(len)?;
        KVVec::from_elem(fill.clone(), len, GFP_KERNEL).ok()
    }

    fn boxed<T>(&self, make: impl FnOnce() -> T) -> Option<KVBox<T>> {
        Some(KVBox::new_uninit(GFP_KERNEL).ok()?.write(make()))
    }

    fn atoms(&self, len: usize) -> Option<KVVec<Atom>> {
        fits::<Atom>(len)?;
        let mut all = KVVec::with_capacity(len, GFP_KERNEL).ok()?;
        for _ in 0..len {
            all.push(<Atom as platform::Atom>::new(0), GFP_KERNEL)
                .ok()?;
        }
        Some(all)
    }

    fn share<T>(&self, value: T) -> Option<Arc<T>> {
        Arc::new(value, GFP_KERNEL).ok()
    }

    fn hash(&self, seed: u64, bytes: &[u8]) -> u64 {
        ffi::xxh64(bytes, seed)
    }
}

/// The core in the kernel.
pub(crate) type Core = rwsnap_core::Core<Kernel>;

/// The hot path of a production.
pub(crate) type Fast = rwsnap_core::fast::Fast<Kernel>;
