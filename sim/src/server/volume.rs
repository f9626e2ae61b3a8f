// SPDX-License-Identifier: MIT

//! What a connection does I/O on, and the exports that clients may choose from.

use std::cell::RefCell;

use rwsnap_core::api::Handle;
use rwsnap_core::control;

use crate::nbd::{Export, Exports, Refusal};
use crate::store::engine::{Engine, Hot};

use super::config::Plain;
use super::pool::Pool;
use super::shared::Shared;

/// What is behind a connection.
#[derive(Clone)]
pub(crate) enum Volume {
    /// A disk as it is.
    Bare {
        /// Which.
        disk: usize,
    },
    /// A volume or snapshot of the pool.
    Pooled {
        /// For the core.
        handle: Handle,
        /// The hot path of a production.
        fast: Option<Hot>,
        /// Bytes.
        size: u64,
        /// It cannot be written.
        read_only: bool,
    },
}

/// A disk that is served as it is.
#[derive(Debug)]
pub(crate) struct Bare {
    /// Which disk.
    pub(crate) disk: usize,
    /// How it looks to clients.
    pub(crate) export: Export,
}

impl Bare {
    /// As configured.
    pub(crate) fn new(disk: usize, plain: &Plain) -> Self {
        let device = plain.disk.device();
        let block = u64::from(device.block).max(1);
        let export = Export {
            id: 0,
            name: plain.name.clone(),
            description: String::from("a bare disk"),
            size: device.size.checked_div(block).unwrap_or(0).saturating_mul(block),
            read_only: plain.read_only,
            min_block: device.block,
            preferred_block: 4096.max(device.block),
        };
        Self { disk, export }
    }
}

/// The exports as one client sees them; keeps what it entered.
pub(crate) struct Door<'a> {
    shared: &'a Shared,
    entered: RefCell<Option<Volume>>,
}

impl<'a> Door<'a> {
    /// For one look.
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self { shared, entered: RefCell::new(None) }
    }

    /// What was entered.
    pub(crate) fn take(self) -> Option<Volume> {
        self.entered.into_inner()
    }

    fn bare(&self, name: &str) -> Result<&Bare, Refusal> {
        let found = match (name, self.shared.bare.as_slice()) {
            ("", [only]) => Some(only),
            (_, all) => all.iter().find(|bare| bare.export.name == name),
        };
        found.ok_or(Refusal::Unknown)
    }
}

impl Exports for Door<'_> {
    fn list(&self, after: Option<&str>, visit: &mut dyn FnMut(&str, &str) -> bool) {
        let mut names: Vec<(String, String)> = Vec::new();
        let bare = self.shared.bare.iter();
        names.extend(bare.map(|b| (b.export.name.clone(), b.export.description.clone())));
        if let Some(pool) = &self.shared.pool {
            pool.core().names(&mut |name| names.push((name.to_owned(), String::new())));
        }
        names.sort();
        for (name, description) in names.iter().filter(|n| after.is_none_or(|a| n.0.as_str() > a)) {
            if !visit(name, description) {
                return;
            }
        }
    }

    fn find(&self, name: &str) -> Result<Export, Refusal> {
        match &self.shared.pool {
            None => self.bare(name).map(|bare| bare.export.clone()),
            Some(pool) => pool.look(name),
        }
    }

    fn enter(&self, name: &str) -> Result<Export, Refusal> {
        let (export, volume) = match &self.shared.pool {
            None => {
                let bare = self.bare(name)?;
                (bare.export.clone(), Volume::Bare { disk: bare.disk })
            }
            Some(pool) => pool.enter(name)?,
        };
        if let (Some(pool), Some(before)) = (&self.shared.pool, self.entered.replace(Some(volume)))
        {
            pool.detach(&before);
        }
        Ok(export)
    }
}

impl Pool {
    /// Opens a volume for a client.
    pub(crate) fn enter(&self, name: &str) -> Result<(Export, Volume), Refusal> {
        self.open_in(self.core().as_mut(), name)
    }

    /// How a volume would look to a client who opened it now.
    fn look(&self, name: &str) -> Result<Export, Refusal> {
        // Under one lock: nobody is refused anything because somebody looks.
        let mut core = self.core();
        let (export, volume) = self.open_in(core.as_mut(), name)?;
        if let Volume::Pooled { handle, .. } = volume {
            core.detach(handle);
        }
        drop(core);
        self.poke();
        Ok(export)
    }

    fn open_in(&self, core: &mut dyn Engine, name: &str) -> Result<(Export, Volume), Refusal> {
        let name = if name.is_empty() { only_production(core)? } else { name.to_owned() };
        let (opened, fast) = core.enter(name.as_bytes(), true).map_err(refusal)?;
        let block = core.block();
        let export = Export {
            id: u64::from(opened.handle.0),
            name,
            description: String::new(),
            size: opened.size,
            read_only: opened.read_only,
            min_block: block,
            preferred_block: self.chunk.max(block),
        };
        let (handle, size, read_only) = (opened.handle, opened.size, opened.read_only);
        Ok((export, Volume::Pooled { handle, fast, size, read_only }))
    }

    /// Closes what `enter` opened.
    pub(crate) fn detach(&self, volume: &Volume) {
        if let Volume::Pooled { handle, .. } = volume {
            self.core().detach(*handle);
            self.poke();
        }
    }
}

/// The production, if there is just one: the default export.
fn only_production(core: &dyn Engine) -> Result<String, Refusal> {
    match core.productions().as_slice() {
        [only] => Ok(only.name.clone()),
        _ => Err(Refusal::Unknown),
    }
}

fn refusal(why: control::Refusal) -> Refusal {
    use control::Refusal as Why;
    match why {
        Why::BadName | Why::Malformed => Refusal::BadName,
        Why::NotFound => Refusal::Unknown,
        Why::Offline => Refusal::Policy("it is offline: its device is missing or was changed"),
        Why::Lost => Refusal::Policy("the snapshot was given up: its data is lost"),
        Why::NoMemory => Refusal::Policy("too many volumes are open"),
        Why::Restoring => Refusal::Policy("it is being restored"),
        _ => Refusal::Policy("it cannot be opened now: see `rwsnap info`"),
    }
}
