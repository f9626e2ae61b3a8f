// SPDX-License-Identifier: MIT

//! Keeps a second opener out of a volume, and names the first.
//!
//! A volume is held by a BSD lock on its file or device node: it ends with the process, however
//! that ends, and udev leaves devices alone that bear one. A block device is opened with `O_EXCL`
//! besides, which keeps mounts and device-mapper out. Who holds a volume is not written down
//! anywhere, so that it cannot be out of date: the kernel is asked (`/proc/locks`, `/proc/swaps`,
//! mounts, the holders in sysfs), and its rwsnap module.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};

use super::StoreError;

/// How long to wait for the kernel to let go of a volume that no process holds. It has been seen to
/// take more than five seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(10);

/// Who holds a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process.
    Process {
        /// Its id.
        pid: u32,
        /// Its command line, if it may be seen.
        command: String,
    },
    /// The kernel: a mount, swap, or a device on top.
    Kernel(String),
}

impl Holder {
    /// Whether it is one of udev's workers: they lock a device that was written, for as long as
    /// they look at it.
    fn is_passing(&self) -> bool {
        let names = ["(udev-worker)", "systemd-udevd", "udevd"];
        let program = |command: &str| {
            let word = command.split(' ').next().unwrap_or_default();
            names.contains(&word.rsplit('/').next().unwrap_or_default())
        };
        matches!(self, Self::Process { command, .. } if program(command))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command } if command.is_empty() => write!(f, "process {pid}"),
            Self::Process { pid, command } => write!(f, "process {pid} ({command})"),
            Self::Kernel(what) => f.write_str(what),
        }
    }
}

/// Locks an opened volume, for writing or for reading beside other readers. The lock ends with
/// what is given back.
pub fn take(file: File, path: &Path, exclusive: bool) -> Result<Flock<File>, StoreError> {
    let how =
        if exclusive { FlockArg::LockExclusiveNonblock } else { FlockArg::LockSharedNonblock };
    let mut file = file;
    let begun = Instant::now();
    loop {
        match Flock::lock(file, how) {
            Ok(locked) => return Ok(locked),
            Err((back, Errno::EWOULDBLOCK)) if is_orphaned(path, begun) => file = back,
            Err((_, Errno::EWOULDBLOCK)) => return Err(locked(path)),
            Err((_, errno)) => return Err(StoreError::io(path, "lock")(errno.into())),
        }
    }
}

/// Whether the volume is held by nobody who lives, or by udev in passing: the kernel lets go of
/// the files of a killed server only when its ring has come to rest, a moment after the process is
/// gone. Waits a bit, and gives up in the end.
pub(super) fn is_orphaned(path: &Path, begun: Instant) -> bool {
    if begun.elapsed() > PATIENCE || holder(path).is_some_and(|holder| !holder.is_passing()) {
        return false;
    }
    std::thread::sleep(PAUSE);
    true
}

/// The error for a volume that somebody else has.
pub(super) fn locked(path: &Path) -> StoreError {
    StoreError::Locked { path: path.to_path_buf(), holder: holder(path) }
}

/// Who holds the volume, as far as can be told.
#[must_use]
pub fn holder(path: &Path) -> Option<Holder> {
    let meta = fs::metadata(path).ok()?;
    if let Some(pid) = locks_holder(&meta).and_then(|pid| living(pid, &meta)) {
        return Some(Holder::Process { pid, command: command_of(pid) });
    }
    if meta.file_type().is_block_device() {
        return kernel_holder(meta.rdev());
    }
    None
}

/// The process that `/proc/locks` names for the file.
fn locks_holder(meta: &Metadata) -> Option<u32> {
    let table = fs::read_to_string("/proc/locks").ok()?;
    let exact = format!("{:02x}:{:02x}:{}", major(meta.dev()), minor(meta.dev()), meta.ino());
    let inode = format!(":{}", meta.ino());
    let pid_where = |matches: &dyn Fn(&str) -> bool| {
        table.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().filter(|f| *f != "->").collect();
            let (kind, pid, place) = (fields.get(1)?, fields.get(4)?, fields.get(5)?);
            (*kind == "FLOCK" && matches(place)).then(|| pid.parse().ok()).flatten()
        })
    };
    // Some file systems show another device number to stat than to the table of locks.
    pid_where(&|place| place == exact).or_else(|| pid_where(&|place| place.ends_with(&inode)))
}

/// Whether a process runs. One that was killed and that nobody waited for does not.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    let state = stat.ok().and_then(|stat| Some(stat.rsplit_once(')')?.1.trim_start().to_owned()));
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// The process itself; or, if it has ended, one that it left the opened file to.
fn living(pid: u32, meta: &Metadata) -> Option<u32> {
    if is_alive(pid) {
        return Some(pid);
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let others = pids.filter(|pid| *pid != std::process::id());
    others.filter(|pid| has_open(*pid, meta).unwrap_or(false)).min()
}

/// Whether a process has the file open, as far as may be seen.
fn has_open(pid: u32, meta: &Metadata) -> Option<bool> {
    let mut files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    Some(files.any(|file| {
        fs::metadata(file.path()).is_ok_and(|m| m.ino() == meta.ino() && m.dev() == meta.dev())
    }))
}

/// The command line of a process, cut to a readable length.
fn command_of(pid: u32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&raw).replace('\0', " ");
    let text = text.trim();
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What in the kernel has the block device.
fn kernel_holder(rdev: u64) -> Option<Holder> {
    let number = format!("{}:{}", major(rdev), minor(rdev));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted = mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.get(2) == Some(&number.as_str())).then(|| fields.get(4).map(ToString::to_string))?
    });
    if let Some(place) = mounted {
        return Some(Holder::Kernel(format!("the file system mounted on {place}")));
    }
    let above = fs::read_dir(format!("/sys/dev/block/{number}/holders")).ok()?;
    let names: Vec<String> =
        above.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    if !names.is_empty() {
        return Some(Holder::Kernel(format!("the device on top of it, {}", names.join(", "))));
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let is_swap = swaps.lines().filter_map(|l| l.split_whitespace().next()).any(|name| {
        fs::metadata(name).is_ok_and(|m| m.file_type().is_block_device() && m.rdev() == rdev)
    });
    if is_swap {
        return Some(Holder::Kernel("the system, which swaps to it".to_owned()));
    }
    super::module::holder(rdev).map(Holder::Kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool was made, and serving it right away was refused: udev held the device that was just
    /// written, and showed itself as `(udev-worker)`.
    #[test]
    fn udev_is_waited_for() {
        let held = |command: &str| Holder::Process { pid: 7, command: command.to_owned() };
        assert!(held("(udev-worker)").is_passing());
        assert!(held("/usr/lib/systemd/systemd-udevd").is_passing());
        assert!(!held("rwsnap serve udevd").is_passing());
        assert!(!Holder::Kernel("udevd".to_owned()).is_passing());
    }

    #[test]
    fn a_second_opener_is_told_who_is_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("save");
        let first = take(File::create(&path).unwrap(), &path, true).unwrap();
        let error = take(File::open(&path).unwrap(), &path, false).unwrap_err();
        let StoreError::Locked { holder: Some(Holder::Process { pid, command }), .. } = error
        else {
            panic!("{error}");
        };
        assert_eq!(pid, std::process::id());
        assert!(!command.is_empty());
        drop(first);
        take(File::open(&path).unwrap(), &path, true).unwrap();
    }

    #[test]
    fn readers_share() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("save");
        let _first = take(File::create(&path).unwrap(), &path, false).unwrap();
        let _second = take(File::open(&path).unwrap(), &path, false).unwrap();
        assert!(take(File::open(&path).unwrap(), &path, true).is_err());
    }
}
