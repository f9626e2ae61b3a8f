// SPDX-License-Identifier: MIT

//! Builds the module for a kernel, and looks at what came out.
//!
//! Each kernel has an output folder of its own (`MO=`), so that they do not disturb each other,
//! and nothing is written between the sources.

mod stack;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{command, output, quietly, say};
use crate::failure::{fail, Context, Result};
use crate::kernel::Kernel;
use crate::places;

/// Whether there is a module to build.
pub(crate) fn is_there() -> bool {
    places::project().join("Kbuild").exists()
}

/// The project's `make modules` with this kernel, its output in a folder.
fn make(kernel: &Kernel, to: &Path) -> Result<Command> {
    let mut make = kernel.make()?;
    make.current_dir(places::project()).args(["--no-print-directory", "modules"]);
    make.arg(format!("KDIR={}", kernel.tree.display())).arg(format!("MO={}", to.display()));
    Ok(make)
}

/// Builds it.
pub(crate) fn build(kernel: &Kernel) -> Result<PathBuf> {
    if !is_there() {
        return fail("there is no Kbuild: no module to build");
    }
    let to = places::work(kernel.kind, "module")?;
    say(format!("building rwsnap.ko for Linux {} ({})", kernel.release, kernel.kind.name()));
    without_warnings(&mut make(kernel, &to)?, &to.join("make.log"))?;
    Ok(to.join("rwsnap.ko"))
}

/// What is wrong with a module that was built, each with its title.
pub(crate) fn examine(kernel: &Kernel, module: &Path) -> Vec<String> {
    let checks = [
        ("modinfo is complete", check_info(module)),
        ("frames on the stack are small", stack::check(kernel, module)),
    ];
    let wrong = checks.into_iter().filter_map(|(title, result)| {
        let failure = result.err()?.to_string().replace('\n', "\n    ");
        Some(format!("{title}\n    {failure}"))
    });
    wrong.collect()
}

/// How many checks `examine` makes.
pub(crate) const CHECKS: u32 = 2;

/// Lints: clippy as the kernel has it, and the form of the sources.
pub(crate) fn lint(kernel: &Kernel) -> Result {
    let to = places::empty_folder(&places::work(kernel.kind, "clippy")?)?;
    without_warnings(make(kernel, &to)?.arg("CLIPPY=1"), &to.join("make.log"))?;
    let mut files = Vec::new();
    sources(&places::project().join("kmod"), &mut files)?;
    // The module is formatted as the kernel is. A tree that was built in place has no `source`.
    let homes = [kernel.tree.join("source"), kernel.tree.clone()];
    let rules = homes.map(|home| home.join(".rustfmt.toml")).into_iter().find(|r| r.exists());
    let rules = rules.map(|rules| ["--config-path".into(), rules.into_os_string()]);
    quietly(command("rustfmt")?.arg("--check").args(rules.into_iter().flatten()).args(&files))
}

/// Every Rust file below a folder.
fn sources(folder: &Path, files: &mut Vec<PathBuf>) -> Result {
    for entry in fs::read_dir(folder).about(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Runs a build that must not warn of anything.
fn without_warnings(make: &mut Command, log: &Path) -> Result {
    fs::write(log, "").about(log)?;
    crate::command::logged(make, log)?;
    let said = crate::command::text(log)?;
    match said.lines().find(|line| is_warning(line)) {
        Some(line) => fail(format!("the build warns: {line}; see {}", log.display())),
        None => Ok(()),
    }
}

fn is_warning(line: &str) -> bool {
    let line = line.to_lowercase();
    line.contains("warning:") || line.starts_with("warning")
}

/// The licence decides which symbols it may use; the rest is for people.
fn check_info(module: &Path) -> Result {
    let said = output(command("modinfo")?.arg(module))?;
    let field = |name: &str| {
        let mut lines = said.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_owned())
    };
    if field("license").as_deref() != Some("GPL") {
        return fail(format!("modinfo: the license is {:?}, not GPL", field("license")));
    }
    for name in ["description", "author"] {
        if field(name).is_none_or(|value| value.is_empty()) {
            return fail(format!("modinfo: there is no {name}"));
        }
    }
    Ok(())
}

/// Whether the lints are wanted with a build: not twice for what has not changed.
pub(crate) fn wants_lint() -> bool {
    env::var("CLIPPY").is_ok_and(|value| value == "1")
}

#[cfg(test)]
mod tests {
    use super::is_warning;

    #[test]
    fn warnings_are_noticed() {
        assert!(is_warning("warning: unused variable: `x`"));
        assert!(is_warning("kmod/ffi/shim.c:3:5: warning: unused"));
        assert!(is_warning("WARNING: modpost: missing MODULE_DESCRIPTION()"));
        assert!(!is_warning("  CC [M]  kmod/ffi/warnings.o"));
    }
}
