// SPDX-License-Identifier: MIT

//! What building Rust in a kernel needs beside rustc: the library's source, and bindgen.

use std::fs;
use std::path::{Path, PathBuf};

use super::apt::Apt;
use crate::command::{command, output, quietly, say};
use crate::failure::{fail, Result};
use crate::places;

/// The bindgen that was seen to work with Linux 7.3.
const BINDGEN: &str = "0.73.2";

/// The number of the rustc in use, `1.95.0`.
pub(crate) fn version() -> Result<String> {
    let said = output(command("rustc")?.arg("-V"))?;
    match said.split_whitespace().nth(1) {
        Some(number) => Ok(number.to_owned()),
        None => fail(format!("`rustc -V` says {said:?}")),
    }
}

/// The library's source: rustc's own, or that of Debian's package of the very same version.
pub(crate) fn library() -> Result<PathBuf> {
    let root = output(command("rustc")?.args(["--print", "sysroot"]))?;
    let own = Path::new(root.trim()).join("lib/rustlib/src/rust/library");
    let version = version()?;
    let folder = places::cache("rust-src")?.join(&version);
    let unpacked = folder.join(format!("usr/src/rustc-{version}/library"));
    if let Some(found) = [&own, &unpacked].into_iter().find(|l| l.join("core/src/lib.rs").exists())
    {
        return Ok(found.clone());
    }
    say(format!("fetching the library's source of rustc {version}"));
    if quietly(command("rustup")?.args(["component", "add", "rust-src"])).is_ok()
        && own.join("core/src/lib.rs").exists()
    {
        return Ok(own);
    }
    let apt = Apt::of("rust", super::SUITES)?;
    let same = |v: &String| v.split(['+', '-', '~']).next() == Some(version.as_str());
    let Some(found) = apt.versions("rust-src")?.into_iter().find(same) else {
        return fail(format!(
            "neither rustup nor Debian has the library's source of rustc {version}; \
             run: rustup component add rust-src"
        ));
    };
    apt.unpack(&format!("rust-src={found}"), &folder)?;
    if !unpacked.join("core/src/lib.rs").exists() {
        return fail(format!("rust-src {found} has no {}", unpacked.display()));
    }
    Ok(unpacked)
}

/// Builds bindgen, unless a bindgen is there.
pub(crate) fn ensure_bindgen() -> Result {
    if places::program("bindgen").is_some() {
        return Ok(());
    }
    say(format!("building bindgen {BINDGEN}"));
    let mut install = command("cargo")?;
    install.args(["install", "--quiet", "--locked", "--version", BINDGEN, "bindgen-cli"]);
    quietly(install.arg("--root").arg(places::cache("tools")?))
}

/// udev for the guest: unpacked and not installed, so that no daemon appears on this machine.
pub(crate) fn ensure_udev() -> Result<PathBuf> {
    let folder = places::cache("guest")?.join("udev");
    let has = |f: &Path| ["bin/udevadm", "usr/bin/udevadm"].iter().any(|p| f.join(p).exists());
    if has(&folder) {
        return Ok(folder);
    }
    say("fetching udev for the guest");
    let own = super::apt::codename()?;
    let half = places::empty_folder(&folder.with_extension("half"))?;
    Apt::of("own", &[&own])?.unpack("udev", &half)?;
    if !has(&half) {
        return fail("Debian's package udev has no udevadm");
    }
    fs::rename(&half, &folder)?;
    Ok(folder)
}
