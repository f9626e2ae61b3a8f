// SPDX-License-Identifier: MIT

//! The kernel's source: the user's own, the one in the cache, or Debian's newest.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::version::{newest, OLDEST};
use super::Version;
use crate::command::{command, quietly, say};
use crate::failure::{fail, Context, Result};
use crate::machine::apt::Apt;
use crate::machine::SUITES;
use crate::places;

/// A source tree.
pub(crate) struct Source {
    /// Where it lies.
    pub(crate) tree: PathBuf,
    /// What it is.
    pub(crate) version: Version,
}

impl Source {
    fn of(tree: &Path) -> Result<Self> {
        let tree = fs::canonicalize(tree).about(tree)?;
        let makefile = tree.join("Makefile");
        let text = fs::read_to_string(&makefile).about(&makefile)?;
        match Version::of_makefile(&text) {
            Some(version) => Ok(Self { tree, version }),
            None => fail(format!("{}: this is no kernel's Makefile", makefile.display())),
        }
    }
}

/// The source to build from; fetched if there is none.
pub(crate) fn ensure() -> Result<Source> {
    if let Some(given) = env::var_os("KERNEL_SRC").filter(|dir| !dir.is_empty()) {
        let source = Source::of(given.as_ref())?;
        if !source.version.fits() {
            return fail(format!("KERNEL_SRC is Linux {}: {OLDEST} is needed", source.version));
        }
        return Ok(source);
    }
    let folder = places::cache("linux")?;
    match cached(&folder)? {
        Some(source) => Ok(source),
        None => fetch(&folder),
    }
}

/// The newest that was unpacked before.
fn cached(folder: &Path) -> Result<Option<Source>> {
    let mut newest: Option<Source> = None;
    for entry in fs::read_dir(folder).about(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "half") {
            continue;
        }
        let source = Source::of(&path)?;
        let newer = newest.as_ref().is_none_or(|n| n.version < source.version);
        if source.version.fits() && newer {
            newest = Some(source);
        }
    }
    Ok(newest)
}

/// The suite that has one is asked first; the others, if it has none.
fn fetch(folder: &Path) -> Result<Source> {
    let (first, _) = SUITES.split_at(1);
    for suites in [first, SUITES] {
        let Ok(apt) = Apt::of("linux", suites) else { continue };
        let packages = apt.names("linux-source-7.")?;
        if let Some(package) = newest(&packages) {
            return unpack(&apt, package, folder);
        }
    }
    fail(format!(
        "Debian has no linux-source of {OLDEST} or later in {}; \
         give a source tree with KERNEL_SRC=",
        SUITES.join(", ")
    ))
}

fn unpack(apt: &Apt, package: &str, folder: &Path) -> Result<Source> {
    say(format!("fetching {package}"));
    let half = places::empty_folder(&folder.join("fetched.half"))?;
    apt.unpack(package, &half)?;
    let archive = half.join(format!("usr/src/{package}.tar.xz"));
    let tree = places::folder(&half.join("tree"))?;
    let mut tar = command("tar")?;
    tar.arg("xf").arg(&archive).arg("-C").arg(&tree).arg("--strip-components=1");
    quietly(&mut tar)?;
    let version = Source::of(&tree)?.version;
    let kept = folder.join(version.to_string());
    fs::rename(&tree, &kept).about(&kept)?;
    fs::remove_dir_all(&half).about(&half)?;
    Source::of(&kept)
}
