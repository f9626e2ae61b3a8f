// SPDX-License-Identifier: GPL-2.0-only

//! The wall clock.

use kernel::bindings;

/// Nanoseconds since 1970.
pub(crate) fn real_ns() -> u64 {
    let mut now = bindings::timespec64::default();
    // SAFETY: the place is ours to be written.
    unsafe { bindings::ktime_get_real_ts64(&mut now) };
    let seconds = now.tv_sec.unsigned_abs();
    seconds
        .wrapping_mul(1_000_000_000)
        .wrapping_add(now.tv_nsec.unsigned_abs() as u64)
}
