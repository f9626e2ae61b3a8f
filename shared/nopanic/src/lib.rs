// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The core, made for a platform that is opaque to the compiler, so that its machine code can be
//! looked at: `shared/tests/symbols.rs` fails if any of it can panic, or asks for memory by itself.
//!
//! Nothing here is ever run. Generic code exists only where it is used, so each public function of
//! the core that has a type parameter must be named in [`keep_core`]; the others are compiled with
//! the core itself.
#![no_std]

mod platform;

use core::hint::black_box;

pub use platform::Opaque;

/// Makes the compiler write out each of these functions.
macro_rules! keep {
    ($($function:expr),* $(,)?) => {
        $(black_box($function as *const ());)*
    };
}

/// Names what is generic in the core.
pub fn keep_core() {
    keep!(
        <Opaque as rwsnap_core::platform::Platform>::array::<u64>,
        <Opaque as rwsnap_core::platform::Platform>::atoms,
        <Opaque as rwsnap_core::platform::Platform>::hash,
    );
}
