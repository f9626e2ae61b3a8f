// SPDX-License-Identifier: GPL-2.0

//! The module's work queue. It has a rescuer, so that pools make progress when memory is short.
//!
//! All pools share it: their work never waits for each other's, nor for I/O.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use core::ptr;

use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Release, //
    },
    workqueue::{
        self,
        Queue, //
    }, //
};

static QUEUE: Atomic<usize> = Atomic::new(0);

/// The queue's owner: the module.
pub(crate) struct Owner(());

impl Owner {
    /// Makes the queue. To be called once.
    ///
    /// # Errors
    ///
    /// No memory.
    pub(crate) fn new() -> Result<Self> {
        let flags = bindings::wq_flags_WQ_MEM_RECLAIM
            | bindings::wq_flags_WQ_UNBOUND
            | bindings::wq_flags_WQ_HIGHPRI;
        // SAFETY: the format takes no arguments.
        let queue = unsafe { bindings::alloc_workqueue_noprof(c"rwsnap".as_char_ptr(), flags, 0) };
        if queue.is_null() {
            return Err(ENOMEM);
        }
        QUEUE.store(queue.expose_provenance(), Release);
        Ok(Self(()))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let queue = QUEUE.xchg(0, kernel::sync::atomic::Full);
        // SAFETY: `new` made it; no pool is left that would use it. What is queued is done first.
        unsafe { bindings::destroy_workqueue(ptr::with_exposed_provenance_mut(queue)) };
    }
}

/// The queue.
pub(crate) fn get() -> &'static Queue {
    let queue: *const bindings::workqueue_struct =
        ptr::with_exposed_provenance(QUEUE.load(Acquire));
    if queue.is_null() {
        return workqueue::system_unbound();
    }
    // SAFETY: it is there as long as the module is, and whoever calls this is a part of that.
    unsafe { Queue::from_raw(queue) }
}
