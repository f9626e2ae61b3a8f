// SPDX-License-Identifier: GPL-2.0

//! The wall clock.

use kernel::time::{
    Instant, RealTime, //
};

/// Nanoseconds since 1970.
pub(crate) fn real_ns() -> u64 {
    Instant::<RealTime>::now().as_nanos().unsigned_abs()
}
