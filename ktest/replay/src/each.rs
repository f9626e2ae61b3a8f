// SPDX-License-Identifier: MIT

//! A check at every flush: replays up to it, and runs a command.
//!
//! The command must leave the device as it is, or work on a copy of it: what comes later is
//! replayed on top. The device is closed while it runs.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::log::{Entry, Log};
use crate::replay::{Device, Discards, Span};

/// Replays a part of a log and runs the command after each flush, write with FUA, and mark; gives
/// how often it ran.
///
/// The command finds the entry's number in `REPLAY_ENTRY`, and a mark's text in `REPLAY_MARK`. Its
/// standard input is empty.
///
/// # Errors
///
/// What went wrong, or the first check that failed.
pub fn each(
    log: &Log,
    device: &Path,
    span: &Span,
    discards: Discards,
    command: &[OsString],
) -> Result<u64> {
    let (mut open, mut checks) = (None, 0);
    span.walk(log, |entry| {
        let target = match &mut open {
            Some(target) => target,
            none => none.insert(Device::open(device, log, discards)?),
        };
        target.apply(log, entry)?;
        if !entry.flags.is_flush() {
            return Ok(());
        }
        open.take().map_or(Ok(()), Device::close)?;
        checks += 1;
        check(entry, command)
    })?;
    open.map_or(Ok(()), Device::close)?;
    Ok(checks)
}

/// Runs the command.
fn check(entry: &Entry, command: &[OsString]) -> Result<()> {
    let failed = |how| Error::Check(entry.number, entry.name(), how);
    let Some((program, args)) = command.split_first() else {
        return Err(failed("there is no command".to_owned()));
    };
    let status = Command::new(program)
        .args(args)
        .env("REPLAY_ENTRY", entry.number.to_string())
        .env("REPLAY_MARK", &entry.mark)
        .stdin(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(status.to_string())),
        Err(error) => Err(failed(format!("cannot run {}: {error}", program.to_string_lossy()))),
    }
}
