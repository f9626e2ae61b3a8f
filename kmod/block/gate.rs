// SPDX-License-Identifier: GPL-2.0-only

//! Counts the bios of a disk that the worker has, with a counter for each processor, so that a disk
//! is let go when the last one has ended. The block layer itself does not wait for them. Those that
//! pass by the worker are counted by the core's guard (`Fast::is_idle`).
//!
//! C header: [`include/linux/percpu-refcount.h`](srctree/include/linux/percpu-refcount.h)

use kernel::{
    bindings,
    container_of,
    error::to_result,
    prelude::*,
    sync::Completion,
    types::Opaque, //
};

use crate::ffi;

/// Counts users until it is shut, and then waits for the last of them.
#[pin_data(PinnedDrop)]
#[repr(C)]
pub(crate) struct Gate {
    #[pin]
    users: Opaque<bindings::percpu_ref>,
    #[pin]
    empty: Completion,
}

// SAFETY: the counter is made for many threads.
unsafe impl Send for Gate {}
// SAFETY: as above.
unsafe impl Sync for Gate {}

impl Gate {
    /// An open one.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            users <- Opaque::try_ffi_init(|users: *mut bindings::percpu_ref| {
                // SAFETY: the memory is ours to initialize.
                to_result(unsafe {
                    bindings::percpu_ref_init(users, Some(emptied), 0, bindings::GFP_KERNEL)
                })
            }),
            empty <- Completion::new(),
        }? Error)
    }

    /// Comes in; false if it is shut.
    pub(crate) fn enter(&self) -> bool {
        // SAFETY: it was initialized.
        unsafe { ffi::rwsnap_ref_tryget_live(self.users.get()) }
    }

    /// Leaves.
    pub(crate) fn leave(&self) {
        // SAFETY: it was initialized, and the caller came in.
        unsafe { ffi::rwsnap_ref_put(self.users.get()) };
    }

    /// Shuts it and waits until it is empty. To be called once.
    pub(crate) fn shut(&self) {
        // SAFETY: it was initialized, and is killed once.
        unsafe { bindings::percpu_ref_kill_and_confirm(self.users.get(), None) };
        self.empty.wait_for_completion();
    }
}

#[pinned_drop]
impl PinnedDrop for Gate {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: it was initialized; nobody is inside, or its owner would be there.
        unsafe { bindings::percpu_ref_exit(self.users.get()) };
    }
}

/// The last user has left a gate that is shut.
///
/// # Safety
///
/// The counter calls it with itself.
unsafe extern "C" fn emptied(users: *mut bindings::percpu_ref) {
    let users: *mut Opaque<bindings::percpu_ref> = users.cast();
    // SAFETY: the counter is a gate's, and the gate waits in `shut`.
    unsafe { (*container_of!(users, Gate, users)).empty.complete_all() };
}
