// SPDX-License-Identifier: MIT

//! The kernels that the module is tested on.

pub(crate) mod build;
pub(crate) mod config;
mod source;
mod version;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{command, output};
use crate::failure::{fail, Context, Result};
use crate::machine::rust;
use crate::places;

use version::Version;

/// Which of the two kernels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// For function and speed; built by gcc.
    Plain,
    /// For correctness: lockdep, KASAN, kmemleak and more; built by clang.
    Debug,
}

impl Kind {
    /// Its name in folders, in the headers of cases, and for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Debug => "debug",
        }
    }

    /// How much longer things may take on it.
    pub(crate) fn slowness(self) -> u32 {
        match self {
            Self::Plain => 1,
            Self::Debug => 5,
        }
    }

    /// What its builds are told about the compiler.
    fn compiler(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Debug => &["LLVM=-19"],
        }
    }

    /// The compiler's own words about its version.
    fn compiler_version(self) -> Result<String> {
        let program = if self == Self::Plain { "gcc" } else { "clang-19" };
        let said = output(command(program)?.arg("--version"))?;
        Ok(said.lines().next().unwrap_or_default().to_owned())
    }
}

/// A kernel that is built.
pub(crate) struct Kernel {
    /// Which one.
    pub(crate) kind: Kind,
    /// Its release, as in `uname -r`.
    pub(crate) release: String,
    /// The build tree: what `KDIR` names.
    pub(crate) tree: PathBuf,
    /// Where its modules are installed: below it is `lib/modules`.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// The kernel of a build tree.
    fn of(kind: Kind, tree: &Path, modules: &Path) -> Result<Self> {
        let release = tree.join("include/config/kernel.release");
        let release = fs::read_to_string(&release).about(&release)?.trim().to_owned();
        let (tree, modules) = (tree.to_path_buf(), modules.to_path_buf());
        Ok(Self { kind, release, tree, modules })
    }

    /// The user's own build tree.
    pub(crate) fn given(kind: Kind, tree: &Path) -> Result<Self> {
        if !tree.join("Module.symvers").exists() || !tree.join(IMAGE).exists() {
            return fail(format!("KDIR={}: no built kernel is there", tree.display()));
        }
        let modules = places::work(kind, "modules")?;
        build::install_modules(kind, tree, &modules, &modules.join("install.log"))?;
        Self::of(kind, &fs::canonicalize(tree)?, &modules)
    }

    /// The file that boots.
    pub(crate) fn image(&self) -> PathBuf {
        self.tree.join(IMAGE)
    }

    /// A make that builds with the tools that the kernel was built with.
    pub(crate) fn make(&self) -> Result<Command> {
        tools(self.kind)
    }
}

/// The image below a build tree.
const IMAGE: &str = "arch/x86/boot/bzImage";

/// A make that knows the compilers and the libraries' places.
fn tools(kind: Kind) -> Result<Command> {
    let mut make = command("make")?;
    let library = rust::library()?;
    make.env("LIBCLANG_PATH", "/usr/lib/llvm-19/lib");
    make.arg(format!("RUST_LIB_SRC={}", library.display())).args(kind.compiler());
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    make.arg(format!("-j{}", env::var("KTEST_JOBS").unwrap_or_else(|_| processors.to_string())));
    Ok(make)
}
