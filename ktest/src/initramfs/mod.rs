// SPDX-License-Identifier: MIT

//! Packs what the guest starts with: busybox, tools with their libraries, udev, the kernel's
//! modules, the `rwsnap` program, the module, and the cases.

mod cpio;
mod guest;
mod libs;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::command::{command, output, quietly};
use crate::failure::{fail, Context, Result};
use crate::kernel::Kernel;
use crate::machine::rust::ensure_udev;
use crate::places;
use cpio::Archive;

/// The archive with this machine's files in it.
struct Root<W: Write>(Archive<W>);

/// What goes in that was built here.
pub(crate) struct Built {
    /// Programs, and their places in the guest.
    pub(crate) programs: Vec<(PathBuf, &'static str)>,
    /// `rwsnap.ko`, if the cases need it.
    pub(crate) module: Option<PathBuf>,
}

impl<W: Write> Root<W> {
    /// A file, under another name.
    fn put(&mut self, file: &Path, at: &str) -> Result {
        let permissions = fs::metadata(file).about(file)?.permissions().mode() & 0o777;
        let bytes = fs::read(file).about(file)?;
        self.0.file(at, permissions, &bytes).about(file)
    }

    /// A program of this machine and its libraries; one that is a link stays one.
    fn program(&mut self, file: &Path) -> Result {
        let real = fs::canonicalize(file).about(file)?;
        let at = |path: &Path| guest::place(&path.to_string_lossy());
        self.put(&real, &at(&real))?;
        if at(file) != at(&real) {
            self.0.link(&at(file), &format!("/{}", at(&real)))?;
        }
        self.libraries(&real)
    }

    fn libraries(&mut self, program: &Path) -> Result {
        for library in libs::of(program)? {
            let at = guest::place(&library);
            if !self.0.has(&at) {
                self.put(Path::new(&library), &at)?;
            }
        }
        Ok(())
    }

    /// All that is below a folder; programs with their libraries.
    fn tree(&mut self, folder: &Path, at: &str) -> Result {
        let mut entries: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).about(folder)? {
            entries.push(entry?.path());
        }
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let at = guest::place(&format!("{at}/{name}"));
            let data = fs::symlink_metadata(&path).about(&path)?;
            if data.is_dir() {
                self.tree(&path, &at)?;
            } else if data.is_symlink() {
                self.0.link(&at, &fs::read_link(&path)?.to_string_lossy())?;
            } else {
                self.put(&path, &at)?;
                if data.permissions().mode() & 0o111 != 0 {
                    self.libraries(&path)?;
                }
            }
        }
        Ok(())
    }

    fn busybox(&mut self) -> Result {
        let busybox = Path::new("/bin/busybox");
        self.put(busybox, "usr/bin/busybox")?;
        self.0.link("usr/bin/sh", "dash")?;
        for applet in output(command(busybox)?.arg("--list"))?.lines() {
            let at = [format!("usr/bin/{applet}"), format!("usr/sbin/{applet}")];
            if !at.iter().any(|place| self.0.has(place)) {
                self.0.link(&at[0], "busybox")?;
            }
        }
        Ok(())
    }

    fn udev(&mut self) -> Result {
        let udev = ensure_udev()?;
        for below in ["bin", "lib/udev", "lib/modprobe.d", "usr/bin", "usr/lib/udev"] {
            if udev.join(below).is_dir() && !below.ends_with("hwdb.d") {
                self.tree(&udev.join(below), below)?;
            }
        }
        self.0.link("usr/sbin/udevd", "../bin/udevadm")?;
        for file in rules()? {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            self.put(&file, &format!("usr/lib/udev/rules.d/{name}"))?;
        }
        Ok(())
    }
}

/// The project's own rules for udev.
fn rules() -> Result<Vec<PathBuf>> {
    let folder = places::project().join("kmod");
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let files = entries.flatten().map(|entry| entry.path());
    Ok(files.filter(|file| file.extension().is_some_and(|e| e == "rules")).collect())
}

/// Packs everything into a file.
pub(crate) fn pack(kernel: &Kernel, built: &Built, to: &Path) -> Result {
    let file = BufWriter::new(File::create(to).about(to)?);
    let mut root = Root(Archive::new(file));
    for folder in guest::FOLDERS {
        root.0.folder(folder)?;
    }
    for moved in guest::MOVED {
        root.0.folder(&format!("usr/{moved}"))?;
        root.0.link(moved, &format!("usr/{moved}"))?;
    }
    for (at, text) in guest::TEXTS {
        root.0.file(at, 0o644, text.as_bytes())?;
    }
    root.0.link("etc/mtab", "/proc/self/mounts")?;
    for name in guest::PROGRAMS {
        match places::program(name) {
            Some(file) => root.program(&file)?,
            None => return fail(format!("{name} is missing; run: ktest setup")),
        }
    }
    for file in guest::FILES.iter().map(Path::new).filter(|file| file.exists()) {
        root.put(file, &guest::place(&file.to_string_lossy()))?;
    }
    root.udev()?;
    root.busybox()?;
    root.tree(&kernel.modules.join("lib/modules"), "lib/modules")?;
    ours(&mut root, built)?;
    root.0.end().about(to)?;
    Ok(())
}

/// The project's own: programs, the module, the cases, and `/init`.
fn ours<W: Write>(root: &mut Root<W>, built: &Built) -> Result {
    for (program, at) in &built.programs {
        let stripped = program.with_extension("stripped");
        quietly(command("strip")?.arg("-o").arg(&stripped).arg(program))?;
        root.put(&stripped, at)?;
        root.libraries(&stripped)?;
        fs::remove_file(&stripped).about(&stripped)?;
    }
    if let Some(module) = &built.module {
        root.put(module, "ktest/rwsnap.ko")?;
    }
    let init = places::ktest().join("guest/init.sh");
    root.0.file("init", 0o755, &fs::read(&init).about(&init)?)?;
    root.tree(&places::ktest().join("cases"), "ktest/cases")?;
    root.tree(&places::ktest().join("bench"), "ktest/cases")
}
