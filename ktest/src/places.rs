// SPDX-License-Identifier: MIT

//! Where things lie: the project, the cache outside it, and what a run leaves behind.
//!
//! ```text
//! ${XDG_CACHE_HOME:-~/.cache}/rwsnap/
//!     apt/                    lists and packages of other suites than the machine's own
//!     tools/bin/              what Cargo built: bindgen
//!     rust-src/VERSION/       the library's source for `core`, if rustc came without it
//!     guest/                  packages that are unpacked for the guest and not installed here
//!     linux/VERSION/          the kernel's source
//!     kernel/VERSION-HASH/    one kernel: build/, modules/, build.log, and `ready` when it is done
//! target/ktest/KIND/          the module's build, the initramfs, and logs and disks of the boots
//! ```

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{fail, Context, Result};
use crate::kernel::Kind;

/// The project's root.
pub(crate) fn project() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// This crate's folder: cases, configurations and what the guest starts with.
pub(crate) fn ktest() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The cache outside the project, made if it is not there.
pub(crate) fn cache(below: &str) -> Result<PathBuf> {
    let given = env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = match given.or_else(|| env::var_os("HOME").map(|h| Path::new(&h).join(".cache"))) {
        Some(base) => base,
        None => return fail("neither XDG_CACHE_HOME nor HOME is set: there is no place to cache"),
    };
    folder(&base.join("rwsnap").join(below))
}

/// Where Cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    let given = env::var_os("CARGO_TARGET_DIR").filter(|v| !v.is_empty());
    project().join(given.unwrap_or_else(|| OsString::from("target")))
}

/// What belongs to runs on one of the kernels.
pub(crate) fn work(kind: Kind, below: &str) -> Result<PathBuf> {
    folder(&target().join("ktest").join(kind.name()).join(below))
}

/// The folder, made if it is not there.
pub(crate) fn folder(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).about(path)?;
    Ok(path.to_path_buf())
}

/// The folder, emptied.
pub(crate) fn empty_folder(path: &Path) -> Result<PathBuf> {
    if path.exists() {
        fs::remove_dir_all(path).about(path)?;
    }
    folder(path)
}

/// `PATH` with the places where Cargo and administrators keep programs.
pub(crate) fn search_path() -> Result<OsString> {
    let mut places = vec![cache("tools")?.join("bin")];
    places.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    if let Some(home) = env::var_os("HOME") {
        places.push(Path::new(&home).join(".cargo/bin"));
    }
    places.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    env::join_paths(places).or_else(|error| fail(format!("PATH cannot be used: {error}")))
}

/// A program's file, if the machine has it.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let places = search_path().ok()?;
    let found = env::split_paths(&places).map(|place| place.join(name)).find(|p| p.is_file())?;
    Some(found)
}
