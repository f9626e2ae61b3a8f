// SPDX-License-Identifier: GPL-2.0-only

//! The pools' events as uevents of the control device: `RWSNAP_POOL`, `RWSNAP_EVENT`,
//! `RWSNAP_OBJECT`, `RWSNAP_NUMBER`.
//!
//! C header: [`include/linux/kobject.h`](srctree/include/linux/kobject.h)

use core::ptr;

use kernel::{
    bindings,
    prelude::*,
    str::CString,
    sync::atomic::{
        Acquire,
        Atomic,
        Release, //
    }, //
};

/// The control device, as long as it is registered.
static DEVICE: Atomic<usize> = Atomic::new(0);

/// Events are those of this device.
///
/// # Safety
///
/// It is registered, and `clear` is called before it is not any more.
pub(super) unsafe fn set(device: *mut bindings::device) {
    DEVICE.store(device.expose_provenance(), Release);
}

/// No more events.
pub(super) fn clear() {
    DEVICE.store(0, Release);
}

/// Sends one. If it cannot be sent, the log has it still.
#[inline(never)]
pub(crate) fn send(pool: &str, event: &str, object: &str, number: u64) {
    if let Err(why) = try_send(pool, event, object, number) {
        pr_warn!("no event could be sent: {why:?}\n");
    }
}

fn try_send(pool: &str, event: &str, object: &str, number: u64) -> Result {
    let device: *mut bindings::device = ptr::with_exposed_provenance_mut(DEVICE.load(Acquire));
    if device.is_null() {
        return Ok(());
    }
    let lines = [
        CString::try_from_fmt(fmt!("RWSNAP_POOL={pool}"))?,
        CString::try_from_fmt(fmt!("RWSNAP_EVENT={event}"))?,
        CString::try_from_fmt(fmt!("RWSNAP_OBJECT={object}"))?,
        CString::try_from_fmt(fmt!("RWSNAP_NUMBER={number}"))?,
    ];
    let mut environment = [ptr::null_mut(); 5];
    for (place, line) in environment.iter_mut().zip(&lines) {
        *place = line.as_char_ptr().cast_mut();
    }
    // SAFETY: the device is registered as long as pools are attached, and the lines end with zero.
    let sent = unsafe {
        bindings::kobject_uevent_env(
            &raw mut (*device).kobj,
            bindings::kobject_action_KOBJ_CHANGE,
            environment.as_mut_ptr(),
        )
    };
    kernel::error::to_result(sent)
}
