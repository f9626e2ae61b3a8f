// SPDX-License-Identifier: MIT

//! What a scenario runs on: who serves the pool, and what its volumes lie on.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::model::fill;

/// Bytes of the save volume.
const SAVE_BYTES: u64 = 512 << 20;

/// Says on which media scenarios run: `module` for those of the kernel module, `module-512` or
/// `module-4096` for one of them; those of the server if it is not set.
const CHOICE: &str = "RWSNAP_MEDIUM";

/// Who serves the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Driver {
    /// The program, over NBD.
    Server,
    /// The kernel module, as block devices.
    Module,
}

/// What the volumes lie on, and who serves the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Medium {
    /// An image file.
    File,
    /// A loop device with logical blocks of 512 bytes.
    Loop512,
    /// A loop device with logical blocks of 4096 bytes.
    Loop4096,
    /// As `Loop512`, below the kernel module.
    Module512,
    /// As `Loop4096`, below the kernel module.
    Module4096,
}

impl Medium {
    /// Those that are to be used.
    pub(crate) fn wanted() -> &'static [Self] {
        match std::env::var(CHOICE).as_deref() {
            Err(_) | Ok("") => &[Self::File, Self::Loop512, Self::Loop4096],
            Ok("module") => &[Self::Module512, Self::Module4096],
            Ok("module-512") => &[Self::Module512],
            Ok("module-4096") => &[Self::Module4096],
            Ok(other) => panic!("{CHOICE}={other}: module, module-512, module-4096, or not set"),
        }
    }

    /// Who serves the pool.
    pub(crate) fn driver(self) -> Driver {
        match self {
            Self::File | Self::Loop512 | Self::Loop4096 => Driver::Server,
            Self::Module512 | Self::Module4096 => Driver::Module,
        }
    }

    /// Bytes in a logical block of the devices, if they are devices.
    fn block(self) -> Option<&'static str> {
        match self {
            Self::File => None,
            Self::Loop512 | Self::Module512 => Some("512"),
            Self::Loop4096 | Self::Module4096 => Some("4096"),
        }
    }
}

/// The volumes of one scenario; gone when it is dropped.
pub(crate) struct Media {
    medium: Medium,
    loops: Vec<PathBuf>,
    folder: TempDir,
}

impl Media {
    /// No volumes yet.
    pub(crate) fn new(medium: Medium) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the volumes");
        Self { medium, loops: Vec::new(), folder }
    }

    /// Who serves the pool.
    pub(crate) fn driver(&self) -> Driver {
        self.medium.driver()
    }

    /// Where files of the scenario go.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An empty volume for the pool.
    pub(crate) fn save(&mut self) -> Result<PathBuf, String> {
        let path = self.folder.path().join("pool.save");
        if self.medium == Medium::File {
            return Ok(path);
        }
        let file = File::create(&path).map_err(|e| e.to_string())?;
        file.set_len(SAVE_BYTES).map_err(|e| e.to_string())?;
        self.attach(path)
    }

    /// A production volume that holds pattern 1 everywhere.
    pub(crate) fn production(&mut self, name: &str, bytes: u64) -> Result<PathBuf, String> {
        let path = self.folder.path().join(format!("{name}.img"));
        let file = File::create(&path).map_err(|e| e.to_string())?;
        file.write_all_at(&fill(1, 0, bytes), 0).map_err(|e| e.to_string())?;
        file.sync_all().map_err(|e| e.to_string())?;
        self.attach(path)
    }

    /// The file itself, or a loop device over it.
    fn attach(&mut self, path: PathBuf) -> Result<PathBuf, String> {
        let Some(block) = self.medium.block() else { return Ok(path) };
        let file = path.to_string_lossy();
        let said = as_root(&["losetup", "--find", "--show", "--sector-size", block, &file])?;
        let device = PathBuf::from(said.trim());
        let owner = as_root_owner(&device);
        self.loops.push(device.clone());
        owner.map(|()| device)
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        for device in &self.loops {
            // A device that is still in use goes when its last user does.
            let _ = as_root(&["losetup", "--detach", &device.to_string_lossy()]);
        }
    }
}

/// Runs a program as root, by sudo if need be.
fn as_root(command: &[&str]) -> Result<String, String> {
    let is_root = nix::unistd::geteuid().is_root();
    let words: Vec<_> = if is_root { &[][..] } else { &["sudo", "-n"][..] }
        .iter()
        .chain(command)
        .copied()
        .collect();
    let run = Command::new(words[0]).args(&words[1..]).output();
    let run = run.map_err(|e| format!("{words:?}: {e}"))?;
    if run.status.success() {
        Ok(String::from_utf8_lossy(&run.stdout).into_owned())
    } else {
        Err(format!("{words:?}: {}", String::from_utf8_lossy(&run.stderr)))
    }
}

/// Lets the user of the tests open the device.
fn as_root_owner(device: &Path) -> Result<(), String> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let user = nix::unistd::geteuid().to_string();
    as_root(&["chown", &user, &device.to_string_lossy()]).map(|_| ())
}
