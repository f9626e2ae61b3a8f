// SPDX-License-Identifier: MIT

//! The pool as `rwsnap` shows it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::device;
use crate::model::Table;

/// How often a device is looked for, and the pause between.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// Runs a command of `rwsnap`; what it says if it fails.
pub(crate) fn rwsnap<S: AsRef<str>>(words: &[S]) -> Result<String, String> {
    let mut command = Command::new("rwsnap");
    command.args(words.iter().map(AsRef::as_ref));
    let output = command.output().map_err(|error| format!("rwsnap: {error}"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match output.status.success() {
        true => Ok(said(&output.stdout)),
        false => Err(format!("{}: {}", output.status, said(&output.stderr))),
    }
}

/// Volumes and snapshots with their flags.
pub(crate) fn list() -> Result<Vec<(String, String)>, String> {
    let said = rwsnap(&["list", "-H", "-t", "production,clone,snapshot", "-o", "name,flags"])?;
    let line = |line: &str| {
        let (name, flags) = line.split_once('\t').unwrap_or((line, ""));
        (name.trim().to_owned(), flags.trim().to_owned())
    };
    Ok(said.lines().map(line).collect())
}

/// The device of a volume, or of a snapshot that is exposed.
fn node(name: &str) -> Result<PathBuf, String> {
    for _ in 0..TRIES {
        let said = rwsnap(&["list", name, "-H", "-p", "-o", "node"])?;
        let node = Path::new(said.trim());
        if node.starts_with("/dev") && node.exists() {
            return Ok(node.to_owned());
        }
        sleep(PAUSE);
    }
    Err(format!("{name} has no device"))
}

/// Opens a volume.
pub(crate) fn open(name: &str) -> Result<File, String> {
    let node = node(name)?;
    device::open(&node, !name.contains('@')).map_err(|error| format!("{name}: {error}"))
}

/// What a volume or a snapshot holds. A failure is that of reading; in a table that is none,
/// there is a sector that nobody wrote.
pub(crate) fn table(name: &str) -> Result<Result<Table, String>, String> {
    let read = |name: &str| {
        let mut file = open(name)?;
        let table = device::table(&mut file);
        table.map_err(|error: io::Error| format!("{name} cannot be read: {error}"))
    };
    if !name.contains('@') {
        return read(name);
    }
    rwsnap(&["expose", name])?;
    let table = read(name);
    // udevd may have it open for a moment.
    for _ in 0..TRIES {
        if rwsnap(&["hide", name]).is_ok() {
            break;
        }
        sleep(PAUSE);
    }
    table
}
