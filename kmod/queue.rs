// SPDX-License-Identifier: GPL-2.0-only

//! The module's work queues.
//!
//! The pools' workers have one with a rescuer, so that they make progress when memory is short. All
//! pools share it: their work never waits for each other's, nor for I/O. What may wait for others,
//! and for memory, has one without.
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
static SLOW: Atomic<usize> = Atomic::new(0);

/// The queues' owner: the module.
pub(crate) struct Owner(());

impl Owner {
    /// Makes the queues. To be called once.
    ///
    /// # Errors
    ///
    /// No memory.
    pub(crate) fn new() -> Result<Self> {
        // Bound to the processor that has something for it, and at no higher priority: so what a
        // client submits, and what devices end, comes together before the worker has its turn. In
        // the guest that is worth a third of the first writes.
        let flags = bindings::wq_flags_WQ_MEM_RECLAIM | bindings::wq_flags_WQ_PERCPU;
        let owner = Self(());
        QUEUE.store(make(c"rwsnap", flags)?, Release);
        SLOW.store(
            make(c"rwsnap_slow", bindings::wq_flags_WQ_UNBOUND)?,
            Release,
        );
        Ok(owner)
    }
}

fn make(name: &CStr, flags: c_uint) -> Result<usize> {
    // SAFETY: the format takes no arguments.
    let queue = unsafe { bindings::alloc_workqueue_noprof(name.as_char_ptr(), flags, 0) };
    if queue.is_null() {
        return Err(ENOMEM);
    }
    Ok(queue.expose_provenance())
}

impl Drop for Owner {
    fn drop(&mut self) {
        for queue in [&QUEUE, &SLOW] {
            let queue = queue.xchg(0, kernel::sync::atomic::Full);
            if queue != 0 {
                // SAFETY: `new` made it; no pool is left that would use it. What is queued is done
                // first.
                unsafe { bindings::destroy_workqueue(ptr::with_exposed_provenance_mut(queue)) };
            }
        }
    }
}

/// The workers' queue.
pub(crate) fn get() -> &'static Queue {
    of(&QUEUE)
}

/// The queue for what may wait.
pub(crate) fn slow() -> &'static Queue {
    of(&SLOW)
}

/// Waits until what was queued for the slow one is done.
pub(crate) fn flush_slow() {
    let queue = SLOW.load(Acquire);
    if queue != 0 {
        // SAFETY: `new` made it, and it is there as long as the module is.
        unsafe { bindings::__flush_workqueue(ptr::with_exposed_provenance_mut(queue)) };
    }
}

fn of(queue: &Atomic<usize>) -> &'static Queue {
    let queue: *const bindings::workqueue_struct =
        ptr::with_exposed_provenance(queue.load(Acquire));
    if queue.is_null() {
        return workqueue::system_unbound();
    }
    // SAFETY: it is there as long as the module is, and whoever calls this is a part of that.
    unsafe { Queue::from_raw(queue) }
}
