// SPDX-License-Identifier: GPL-2.0-only

//! The kernel module of rwsnap: block devices for the volumes of pools, over the shared core.
//!
//! - `control/`: `/dev/rwsnap-control`, and what is done for each command
//! - `pool/`: an attached pool: its core and the worker that drives it
//! - `block/`: the block layer behind safe types; `ffi/`: what `bindings` lacks
//!
//! `docs/KERNEL.md` says how it is loaded and used.

// With `CONFIG_RUST_OVERFLOW_CHECKS` an overflow is a `BUG`; numbers come from disks and users.
#![warn(clippy::arithmetic_side_effects)]

use kernel::{
    bindings,
    module::this_module,
    prelude::*, //
};

mod block;
mod clock;
mod control;
mod ffi;
mod mem;
mod numbers;
mod pool;
mod queue;
mod text;

module! {
    type: Rwsnap,
    name: "rwsnap",
    authors: ["The rwsnap developers"],
    description: "Block-level snapshots, writable clones, refresh and instant restore",
    license: "GPL",
}

/// The loaded module. It cannot be unloaded while a pool is attached.
#[pin_data]
struct Rwsnap {
    /// Goes first: no more commands.
    #[pin]
    control: control::Control,
    queue: queue::Owner,
}

impl kernel::InPlaceModule for Rwsnap {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        numbers::init();
        control::init();
        try_pin_init!(Self {
            queue: queue::Owner::new()?,
            control <- control::Control::new(),
        })
    }
}

/// That the module is in use: a pool is attached.
struct Using(());

impl Using {
    /// # Errors
    ///
    /// The module is being unloaded.
    fn new() -> Result<Self> {
        // SAFETY: it is this module, which is there.
        let got = unsafe { bindings::try_module_get(this_module::<LocalModule>().as_ptr()) };
        got.then_some(Self(())).ok_or(ENODEV)
    }

    /// It stays so until `drop_one`.
    fn keep(self) {
        core::mem::forget(self);
    }

    /// One that was kept is over.
    fn drop_one() {
        drop(Self(()));
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        // SAFETY: `new` got it.
        unsafe { bindings::module_put(this_module::<LocalModule>().as_ptr()) };
    }
}
