// SPDX-License-Identifier: MIT

//! Builds a kernel into the cache, once for each version, configuration and compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use xxhash_rust::xxh64::xxh64;

use super::config::Config;
use super::source::{self, Source};
use super::{tools, Kernel, Kind, IMAGE};
use crate::command::{command, logged, quietly, say};
use crate::failure::{fail, Context, Result};
use crate::machine::rust;
use crate::places;

/// Where a kernel is in the cache.
struct Home(PathBuf);

impl Home {
    /// What goes into the kernel is in its name.
    fn of(kind: Kind, source: &Source, wanted: &Config) -> Result<Self> {
        let tools = [kind.compiler_version()?, rust::version()?].join("\n");
        let made_of = [wanted.text(), tools, source.tree.display().to_string()].join("\n");
        let hash = xxh64(made_of.as_bytes(), 0);
        let name = format!("{}-{}-{hash:016x}", source.version, kind.name());
        Ok(Self(places::cache("kernel")?.join(name)))
    }

    fn tree(&self) -> PathBuf {
        self.0.join("build")
    }

    fn modules(&self) -> PathBuf {
        self.0.join("modules")
    }

    fn log(&self) -> PathBuf {
        self.0.join("build.log")
    }

    fn ready(&self) -> PathBuf {
        self.0.join("ready")
    }
}

/// The kernel, from the cache if it is there.
pub(crate) fn ensure(kind: Kind) -> Result<Kernel> {
    let source = source::ensure()?;
    let wanted = Config::wanted(kind)?;
    let home = Home::of(kind, &source, &wanted)?;
    if !home.ready().exists() {
        places::folder(&home.0)?;
        let began = Instant::now();
        say(format!(
            "building Linux {} ({}); {}",
            source.version,
            kind.name(),
            home.log().display()
        ));
        build(kind, &source, &wanted, &home)?;
        fs::write(home.ready(), "").about(&home.ready())?;
        say(format!("built in {} s", began.elapsed().as_secs()));
    }
    Kernel::of(kind, &fs::canonicalize(home.tree())?, &home.modules())
}

fn build(kind: Kind, source: &Source, wanted: &Config, home: &Home) -> Result {
    let tree = places::folder(&home.tree())?;
    let make = |targets: &[&str]| {
        let mut make = tools(kind)?;
        make.arg("-C").arg(&source.tree).arg(format!("O={}", tree.display())).args(targets);
        logged(&mut make, &home.log())
    };
    configure(&tree, wanted, &make)?;
    make(&["rustavailable"])?;
    make(&["bzImage", "modules"])?;
    install_modules(kind, &tree, &home.modules(), &home.log())
}

fn configure(tree: &Path, wanted: &Config, make: &dyn Fn(&[&str]) -> Result) -> Result {
    make(&["allnoconfig"])?;
    let path = tree.join(".config");
    let read = || fs::read_to_string(&path).about(&path).map(|text| Config::parse(&text));
    let mut config = read()?;
    config.lay_over(wanted);
    fs::write(&path, config.text()).about(&path)?;
    make(&["olddefconfig"])?;
    let lost = wanted.lost_in(&read()?);
    if !lost.is_empty() {
        let lost = lost.join("\n");
        return fail(format!("this kernel cannot be configured as it has to be:\n{lost}"));
    }
    Ok(())
}

/// Installs the tree's modules, stripped, and says what needs what.
pub(crate) fn install_modules(kind: Kind, tree: &Path, into: &Path, log: &Path) -> Result {
    if !tree.join("modules.order").exists() || !tree.join(IMAGE).exists() {
        return fail(format!("{}: the kernel is not built", tree.display()));
    }
    places::empty_folder(into)?;
    let mut install = tools(kind)?;
    install.arg("-C").arg(tree).arg(format!("INSTALL_MOD_PATH={}", into.display()));
    logged(install.args(["INSTALL_MOD_STRIP=1", "modules_install"]), log)?;
    let below = into.join("lib/modules");
    for release in fs::read_dir(&below).about(&below)? {
        for link in ["build", "source"] {
            let link = release.as_ref().map(|r| r.path().join(link));
            if let Ok(link) = link {
                let _ = quietly(command("rm")?.arg("-f").arg(link));
            }
        }
    }
    Ok(())
}
