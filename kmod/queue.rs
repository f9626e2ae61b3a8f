// SPDX-License-Identifier: GPL-2.0-only

//! The module's work queues.
//!
//! Each pool's worker has one of its own with a rescuer, so that it makes progress when memory is
//! short, also while the worker of another pool waits for it: a pool may lie on volumes of others.
//! What may wait for others, and for memory, has one without, which all pools share.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use core::ptr;

use kernel::{
    bindings,
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Release, //
        },
        rcu, //
    },
    workqueue::{
        self,
        Queue, //
    }, //
};

static SLOW: Atomic<usize> = Atomic::new(0);

/// The shared queue's owner: the module.
pub(crate) struct Owner(());

impl Owner {
    /// Makes the queue. To be called once.
    ///
    /// # Errors
    ///
    /// No memory.
    pub(crate) fn new() -> Result<Self> {
        SLOW.store(
            make(c"rwsnap_slow", bindings::wq_flags_WQ_UNBOUND)?,
            Release,
        );
        Ok(Self(()))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        destroy(SLOW.xchg(0, Full));
    }
}

fn make(name: &CStr, flags: c_uint) -> Result<usize> {
    // SAFETY: the format takes one string, which is copied.
    let queue = unsafe {
        bindings::alloc_workqueue_noprof(c"%s".as_char_ptr(), flags, 0, name.as_char_ptr())
    };
    if queue.is_null() {
        return Err(ENOMEM);
    }
    Ok(queue.expose_provenance())
}

/// Does first what is queued.
fn destroy(queue: usize) {
    if queue != 0 {
        // SAFETY: `make` made it, and whoever calls this has taken it away from where it was found.
        unsafe { bindings::destroy_workqueue(ptr::with_exposed_provenance_mut(queue)) };
    }
}

/// The queue for what may wait.
pub(crate) fn slow() -> &'static Queue {
    let queue: *const bindings::workqueue_struct = ptr::with_exposed_provenance(SLOW.load(Acquire));
    if queue.is_null() {
        return workqueue::system_unbound();
    }
    // SAFETY: it is there as long as the module is, and whoever calls this is a part of that.
    unsafe { Queue::from_raw(queue) }
}

/// Waits until what was queued for the slow one is done.
pub(crate) fn flush_slow() {
    let queue = SLOW.load(Acquire);
    if queue != 0 {
        // SAFETY: `new` made it, and it is there as long as the module is.
        unsafe { bindings::__flush_workqueue(ptr::with_exposed_provenance_mut(queue)) };
    }
}

/// The queue of a pool's worker, until it is closed.
pub(crate) struct Own(Atomic<usize>);

impl Own {
    /// For the pool of this name.
    ///
    /// # Errors
    ///
    /// No memory.
    #[inline(never)]
    pub(crate) fn new(pool: &str) -> Result<Self> {
        // A queue's name has 31 bytes at most.
        let name = CString::try_from_fmt(fmt!("rwsnap/{pool:.24}"))?;
        // Bound to the processor that has something for it, and at no higher priority: so what a
        // client submits, and what devices end, comes together before the worker has its turn. In
        // the guest that is worth a third of the first writes.
        let flags = bindings::wq_flags_WQ_MEM_RECLAIM | bindings::wq_flags_WQ_PERCPU;
        Ok(Self(Atomic::new(make(&name, flags)?)))
    }

    /// Calls `f`, which must not sleep, with the queue; `None` if it is closed.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&Queue) -> T) -> Option<T> {
        let _reader = rcu::read_lock();
        let queue: *const bindings::workqueue_struct =
            ptr::with_exposed_provenance(self.0.load(Acquire));
        if queue.is_null() {
            return None;
        }
        // SAFETY: `close` waits for this section before it destroys it.
        Some(f(unsafe { Queue::from_raw(queue) }))
    }

    /// Does what is queued, and takes nothing more. Waits for those who are in a section of RCU,
    /// too. Not to be called by what runs on the queue, and no timer must be about to queue.
    pub(crate) fn close(&self) {
        let queue = self.0.xchg(0, Full);
        rcu::synchronize_rcu();
        destroy(queue);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Of a pool that came about it is closed long since; of another it was never used.
        destroy(self.0.xchg(0, Full));
    }
}
