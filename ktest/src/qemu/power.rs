// SPDX-License-Identifier: MIT

//! Disks whose power can be cut: `rwsnap lossy` serves their files, and the guest tells when.
//!
//! A cut leaves in the files what the seed says. The guest may live on: it finds that its disks
//! fail, lets go of all it has of them, and asks for the power to come back. Or it loses its own
//! power as well, which is the end of QEMU, and starts again with these disks.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::disk;
use crate::cases::{Disk, Medium};
use crate::command::{command, quietly};
use crate::failure::{fail, Context, Result};
use crate::places;
use crate::report::ktap::Order;

/// The disks' power.
pub(super) struct Power {
    folder: PathBuf,
    disks: Vec<(usize, Disk)>,
    seed: u64,
    server: Option<Child>,
    /// When it is to be cut, and whether it is the guest's as well.
    due: Option<(Instant, bool)>,
}

/// Where the disks are served.
pub(super) fn socket(folder: &Path) -> PathBuf {
    folder.join("lossy.sock")
}

impl Power {
    /// Serves those disks that want it; their files are there.
    pub(super) fn on(disks: &[Disk], folder: &Path, seed: u64) -> Result<Self> {
        let lossy = disks.iter().copied().enumerate();
        let disks = lossy.filter(|(_, disk)| disk.medium != Medium::File).collect();
        let mut power = Self { folder: folder.to_owned(), disks, seed, server: None, due: None };
        power.serve()?;
        Ok(power)
    }

    /// Whether there is such a disk.
    pub(super) fn is_lossy(&self) -> bool {
        !self.disks.is_empty()
    }

    fn serve(&mut self) -> Result {
        if self.disks.is_empty() || self.server.is_some() {
            return Ok(());
        }
        let mut lossy = command(places::target().join("release/rwsnap"))?;
        lossy.args(["lossy", "--nbd"]).arg(format!("unix:{}", socket(&self.folder).display()));
        for (number, disk) in &self.disks {
            let file = disk::file(&self.folder, *number);
            lossy.arg("--disk");
            lossy.arg(format!("d{number}={}:{}", file.display(), disk.block_bytes));
        }
        if self.disks.iter().any(|(_, disk)| disk.medium == Medium::Forgetful) {
            // What is older is written back all the same, as by any disk.
            lossy.args(["--forget-flushes", "--cache", "1M"]);
        }
        self.seed += 1;
        lossy.args(["--seed", &self.seed.to_string()]);
        self.server = Some(started(&mut lossy, &self.folder.join("lossy.log"))?);
        Ok(())
    }

    /// Takes what the guest asks for.
    pub(super) fn take(&mut self, order: Order) -> Result {
        match order {
            Order::Cut(time) => self.due = Some((Instant::now() + time, false)),
            Order::Off(time) => self.due = Some((Instant::now() + time, true)),
            Order::On => self.serve()?,
        }
        Ok(())
    }

    /// Cuts the power if it is time; true if the guest is to go, too.
    pub(super) fn is_time(&mut self) -> Result<bool> {
        let Some((_, guest)) = self.due.filter(|(time, _)| *time <= Instant::now()) else {
            return Ok(false);
        };
        self.due = None;
        self.cut()?;
        Ok(guest)
    }

    fn cut(&mut self) -> Result {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        let id = server.id().to_string();
        quietly(command("kill")?.args(["-USR1", &id]))?;
        match server.wait()?.success() {
            true => Ok(()),
            false => fail(format!("rwsnap lossy failed; see {}", self.folder.display())),
        }
    }

    /// The guest comes again.
    pub(super) fn back(&mut self) -> Result {
        self.serve()
    }
}

/// Starts the server, and waits until it serves.
fn started(lossy: &mut Command, log: &Path) -> Result<Child> {
    let file = File::options().create(true).append(true).open(log).about(log)?;
    let mut child = lossy.stdout(Stdio::piped()).stderr(file).spawn().context("rwsnap lossy")?;
    let Some(said) = child.stdout.take() else { return fail("rwsnap lossy says nothing") };
    let mut said = BufReader::new(said);
    let mut line = String::new();
    while line != "rwsnap: ready\n" {
        line.clear();
        if said.read_line(&mut line)? == 0 {
            return fail(format!("rwsnap lossy did not start; see {}", log.display()));
        }
    }
    // Its last words, `cut: ...`, go to the log; the thread ends with it.
    let log = log.to_owned();
    std::thread::spawn(move || {
        let rest: String = said.lines().map_while(std::result::Result::ok).collect();
        let all = fs::read_to_string(&log).unwrap_or_default();
        // A log that cannot be written tells less.
        let _ = fs::write(&log, format!("{all}{rest}\n"));
    });
    Ok(child)
}

impl Drop for Power {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It may have ended by itself, which is as well.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
