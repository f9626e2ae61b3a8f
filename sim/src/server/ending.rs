// SPDX-License-Identifier: MIT

//! Opening the pool before the first client comes, and closing it after the last has gone.
//!
//! ```text
//! Serving --stop, no client left--> Pausing --no write to a production under way--> Closing
//!                                                           --closed--> Closed
//! ```
//!
//! A production's fingerprint says what it held when the pool was closed; so it is taken while
//! nothing changes it, and the core is told to close under the same lock.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use rwsnap_core::api::Device;
use rwsnap_core::fault::Fault;

use crate::store::engine::{Engine, NotOpened, Production};
use crate::store::offline::not_online;
use crate::store::{fingerprint, Volume};

use super::config::{Begin, Find};
use super::pool::{disk_of, Pool};
use super::reactor::Reactor;

/// How far the end has come; the first reactor leads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Ending {
    /// Clients may be there.
    #[default]
    Serving,
    /// All that changes productions comes to its end.
    Pausing,
    /// The core writes its checkpoint.
    Closing,
    /// It has done so, or has failed.
    Closed(Result<(), Fault>),
}

/// What it takes to open the pool.
pub(crate) struct Opener {
    /// Begins to open it.
    pub(crate) begin: Begin,
    /// Finds its productions.
    pub(crate) find: Find,
    /// The save volume.
    pub(crate) save: Device,
}

impl Opener {
    /// Begins to open the pool, with room for so many records at least.
    pub(crate) fn begin(&mut self, delta: u32) -> io::Result<Box<dyn Engine + Send>> {
        (self.begin)(delta, self.save).map_err(|why| match why {
            NotOpened::Why(why) => cannot_open(&why),
            NotOpened::Delta(need) => cannot_open(&format!("it takes memory for {need} records")),
        })
    }
}

fn cannot_open(why: &str) -> io::Error {
    io::Error::other(format!("cannot open the pool: {why}"))
}

impl Reactor {
    /// Opens the pool; brings its productions online; gives the names of those that are missing.
    pub(crate) fn open_pool(&mut self, opener: &mut Opener) -> io::Result<()> {
        let Some(pool) = self.pool() else { return Ok(()) };
        loop {
            match self.opened(&pool)? {
                Ok(()) => break,
                Err(NotOpened::Delta(need)) => *pool.core() = opener.begin(need)?,
                Err(NotOpened::Why(why)) => return Err(cannot_open(&why)),
            }
        }
        let productions = pool.core().productions();
        for production in productions {
            if let Err(why) = self.bring_online(&pool, &production, &mut opener.find) {
                tracing::warn!("`{}` is offline: {why}", production.name);
            }
        }
        pool.core().start();
        self.desk.poke = true;
        self.drive();
        Ok(())
    }

    /// Drives the core until it is opened or cannot be.
    fn opened(&mut self, pool: &Pool) -> io::Result<Result<(), NotOpened>> {
        self.desk.poke = true;
        self.drive();
        loop {
            let opened = pool.core().opened();
            if let (Some(result), true) = (opened, self.runs.len() == 0) {
                return Ok(result);
            }
            self.turn()?;
        }
    }

    fn bring_online(
        &self,
        pool: &Pool,
        production: &Production,
        find: &mut Find,
    ) -> Result<(), String> {
        let (volume, trust) = find(production)?;
        let print = fingerprint::of(&volume).map_err(|e| e.to_string())?;
        let online = pool.core().online(production.dev, volume.device(), print, trust);
        online.map_err(|why| not_online(why, volume.path()))?;
        self.shared.disks.put(disk_of(production.dev), Arc::new(volume));
        Ok(())
    }

    /// Goes on towards the end, as far as things stand.
    pub(super) fn go_on_ending(&mut self) {
        // Told to end while the pool is being opened: it is opened first.
        if self.id != 0 || !self.is_stopping() || !self.is_serving() {
            return;
        }
        let Some(pool) = self.pool() else { return };
        match self.ending {
            Ending::Serving if self.shared.is_deserted() => {
                pool.paused.store(true, Ordering::SeqCst);
                self.ending = Ending::Pausing;
                self.go_on_ending();
            }
            Ending::Pausing if pool.writing.load(Ordering::SeqCst) == 0 => {
                if let Err(error) = self.close_core(&pool) {
                    tracing::error!("{error}");
                }
                pool.paused.store(false, Ordering::SeqCst);
                self.ending = Ending::Closing;
                self.desk.poke = true;
                self.drive();
                self.go_on_ending();
            }
            Ending::Closing => {
                let closed = pool.core().closed();
                if let Some(result) = closed {
                    self.ending = Ending::Closed(result);
                    pool.over.store(true, Ordering::SeqCst);
                    self.shared.stop();
                }
            }
            Ending::Serving | Ending::Pausing | Ending::Closed(_) => {}
        }
    }

    /// The clients are gone, but writes of theirs may wait for room that nobody makes any more.
    pub(super) fn end_waits(&mut self) {
        if let Some(pool) = self.pool() {
            pool.core().wait_no_more();
            self.desk.poke = true;
        }
    }

    /// Takes the fingerprints and tells the core to close. What fails is as a crash: the next
    /// opening recovers.
    fn close_core(&self, pool: &Pool) -> Result<(), crate::store::StoreError> {
        let mut core = pool.core();
        let productions = core.productions();
        let result = productions.iter().try_for_each(|production| {
            let Some(disk) = self.shared.disks.get(disk_of(production.dev)) else { return Ok(()) };
            set_fingerprint(core.as_mut(), production, &disk)
        });
        core.close();
        result
    }

    /// How closing the pool ended.
    pub(crate) fn outcome(&self) -> io::Result<()> {
        match self.ending {
            Ending::Closed(Err(fault)) => Err(io::Error::other(format!(
                "the pool could not be closed in order ({}): the next opening recovers it",
                crate::nbd::wire::sentence(fault)
            ))),
            _ => Ok(()),
        }
    }
}

fn set_fingerprint(
    core: &mut dyn Engine,
    production: &Production,
    disk: &Volume,
) -> Result<(), crate::store::StoreError> {
    disk.flush()?;
    core.set_fingerprint(production.dev, fingerprint::of(disk)?);
    Ok(())
}
