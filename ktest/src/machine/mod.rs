// SPDX-License-Identifier: MIT

//! Makes a machine ready: packages, tools, the kernel's source, and the kernel itself.
//!
//! What is there already is left alone, so that a second run has nothing to do.

pub(crate) mod apt;
mod packages;
pub(crate) mod rust;

use std::env;

use crate::failure::Result;
use crate::kernel::{build, Kernel, Kind};

/// Where newer packages come from, the first that has what is wanted first.
pub(crate) const SUITES: &[&str] = &["trixie-backports", "trixie", "forky", "sid"];

/// Everything that builds and runs on this kernel need.
pub(crate) fn setup(kind: Kind) -> Result<Kernel> {
    packages::ensure(kind)?;
    rust::ensure_udev()?;
    rust::ensure_bindgen()?;
    match env::var_os("KDIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => Kernel::given(kind, dir.as_ref()),
        None => build::ensure(kind),
    }
}
