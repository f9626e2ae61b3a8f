// SPDX-License-Identifier: MIT

//! The module's block devices: one a volume, and one for a snapshot while it is exposed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::device::{self, Device};
use super::door::{Door, Load};
use super::load::load;
use super::program::Program;

/// How long a device may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// All devices of a pool.
pub(crate) struct Devices {
    program: Program,
    /// Volumes held open for writing. Snapshots never are: they are exposed for one use.
    held: BTreeMap<String, Device>,
}

impl Devices {
    /// Of the pool that this program works on.
    pub(crate) fn new(program: &Program) -> Self {
        Self { program: program.clone(), held: BTreeMap::new() }
    }

    /// Where the device is.
    fn path(&self, name: &str) -> Result<PathBuf, String> {
        let begun = Instant::now();
        loop {
            let said = self.program.ok(&["list", name, "-H", "-p", "-o", "node"])?;
            let path = Path::new(said.trim());
            if path.starts_with("/dev") && path.exists() {
                return Ok(path.to_owned());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("{name} has no device: list says {said:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Does something with a volume, which stays open, or with a snapshot, which is exposed for it.
    fn with<T>(
        &mut self,
        name: &str,
        action: impl FnOnce(&Device) -> Result<T, String>,
    ) -> Result<T, String> {
        if is_snapshot(name) {
            return self.exposed(name, action);
        }
        if !self.held.contains_key(name) {
            let device = Device::open(&self.path(name)?, true)?;
            self.held.insert(name.to_owned(), device);
        }
        action(&self.held[name])
    }

    /// Exposes a snapshot while the action runs; its device has to be read-only.
    fn exposed<T>(
        &self,
        name: &str,
        action: impl FnOnce(&Device) -> Result<T, String>,
    ) -> Result<T, String> {
        self.program.ok(&["expose", name])?;
        let result = self.path(name).and_then(|path| {
            let device = Device::open(&path, false)?;
            let is_safe = device.is_read_only()?;
            is_safe.then_some(()).ok_or_else(|| format!("{name} may be written to"))?;
            action(&device)
        });
        let hidden = self.program.patiently(&["hide", name]);
        result.and_then(|value| hidden.map(|()| value))
    }
}

/// Whether the name is a snapshot's.
fn is_snapshot(name: &str) -> bool {
    name.contains('@')
}

impl Door for Devices {
    fn write(&mut self, name: &str, at: u64, data: &[u8]) -> Result<(), String> {
        self.with(name, |device| device.write(at, data))
    }

    fn read(&mut self, name: &str, at: u64, bytes: u64) -> Result<Vec<u8>, String> {
        self.with(name, |device| device.read(at, bytes))
    }

    fn zero(&mut self, name: &str, at: u64, bytes: u64) -> Result<(), String> {
        self.with(name, |device| device.zero(at, bytes))
    }

    fn discard(&mut self, name: &str, at: u64, bytes: u64) -> Result<(), String> {
        self.with(name, |device| device.discard(at, bytes))
    }

    fn flush(&mut self, name: &str) -> Result<(), String> {
        self.with(name, Device::flush)
    }

    fn info(&mut self, name: &str) -> Result<String, String> {
        self.with(name, Device::info)
    }

    fn node(&mut self, name: &str) -> Result<String, String> {
        Ok(self.path(name)?.display().to_string())
    }

    fn close(&mut self, name: &str) -> Result<(), String> {
        self.held.remove(name);
        Ok(())
    }

    fn whole(&mut self, name: &str) -> Result<Vec<u8>, String> {
        if is_snapshot(name) {
            return self.with(name, Device::whole);
        }
        Device::open(&self.path(name)?, false)?.whole()
    }

    fn alike(&mut self, a: &str, b: &str) -> Result<(), String> {
        let is_same = self.whole(a)? == self.whole(b)?;
        is_same.then_some(()).ok_or_else(|| format!("{a} and {b} differ"))
    }

    fn visit(&mut self, name: &str, at: u64, bytes: u64, byte: u8) -> Result<(), String> {
        device::visit(&self.path(name)?, at, bytes, byte)
    }

    fn load(&mut self, name: &str, at: u64, bytes: u64, seconds: u64) -> Result<Load, String> {
        Ok(load(&self.path(name)?, at, bytes, seconds))
    }
}
