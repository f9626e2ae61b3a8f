// SPDX-License-Identifier: MIT

//! What a connection does I/O on.

use crate::nbd::{Export, Exports, Refusal};

use super::config::{Config, Disk, Plain};

/// A disk that is served as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Bare {
    /// Which disk.
    pub(crate) disk: usize,
    /// How it looks to clients.
    pub(crate) export: Export,
}

impl Bare {
    fn new(id: usize, plain: &Plain, disks: &[Disk]) -> Option<Self> {
        let device = disks.get(plain.disk)?.device;
        let block = u64::from(device.block).max(1);
        let export = Export {
            id: u64::try_from(id).ok()?,
            name: plain.name.clone(),
            description: String::from("a bare disk"),
            size: device.size.checked_div(block)?.checked_mul(block)?,
            read_only: plain.read_only,
            min_block: device.block,
            preferred_block: 4096.max(device.block),
        };
        Some(Self { disk: plain.disk, export })
    }
}

/// The disks that are served as they are, in the order of their names.
#[derive(Debug)]
pub(crate) struct BareExports(pub(crate) Vec<Bare>);

impl BareExports {
    /// As configured.
    pub(crate) fn new(config: &Config) -> Self {
        let plain = config.plain.iter().enumerate();
        let made = plain.filter_map(|(id, plain)| Bare::new(id, plain, &config.disks));
        Self(made.collect())
    }
}

impl Exports for BareExports {
    fn list(&self, after: Option<&str>, visit: &mut dyn FnMut(&str, &str) -> bool) {
        let mut sorted: Vec<_> = self.0.iter().map(|bare| &bare.export).collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        let rest = sorted.iter().filter(|export| after.is_none_or(|a| export.name.as_str() > a));
        for export in rest {
            if !visit(&export.name, &export.description) {
                return;
            }
        }
    }

    fn find(&self, name: &str) -> Result<Export, Refusal> {
        let found = match (name, self.0.as_slice()) {
            ("", [only]) => Some(only),
            _ => self.0.iter().find(|bare| bare.export.name == name),
        };
        found.map(|bare| bare.export.clone()).ok_or(Refusal::Unknown)
    }
}
