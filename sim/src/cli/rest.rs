// SPDX-License-Identifier: MIT

//! A pool at rest, opened for one command: the commands that the core knows go to the core, those
//! of a server are done here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rwsnap_core::control::{Command, Item, Name, Refusal, Reply, Verb, MAGIC, VERSION};
use zerocopy::IntoBytes;

use crate::store::engine::{Opened, Production};
use crate::store::identify::{self, padded_text};
use crate::store::module::PATH_KEY;
use crate::store::offline::{Offline, OfflineError};
use crate::store::{core, device, prepare, Access, Cache, Volume};

use super::error::{Failure, Outcome};
use super::refusal::Refused;

/// A pool that was opened for this command.
pub struct AtRest {
    pool: Offline,
    block: u32,
    opened: BTreeMap<(Vec<u8>, bool), Opened>,
}

impl AtRest {
    /// Opens the pool on a save volume, with those of its production volumes that are there.
    pub fn open(path: &Path) -> Outcome<Self> {
        let save = Volume::open(path, Access::Own, Cache::Buffered)?;
        let superblock = identify::superblock(path)?;
        let superblock = superblock
            .ok_or_else(|| Failure::new(format!("{} is not a save volume", path.display())))?;
        let mut begin = |delta, device| core::begin(device, &superblock, delta);
        let pool = Offline::open(save, superblock.chunk.get(), &mut begin, &mut find)
            .map_err(|e| Failure::new(format!("cannot open {}: {}", path.display(), text(e))))?;
        for (name, why) in pool.missing() {
            tracing::warn!("`{name}` is offline: {why}");
        }
        Ok(Self { pool, block: superblock.block.get(), opened: BTreeMap::new() })
    }

    /// Carries out a command; gives the bytes of the reply.
    pub fn command(&mut self, head: &Command, items: &[Item], bytes: &[u8]) -> Outcome<Vec<u8>> {
        match Verb::from_number(head.verb.get()) {
            Some(Verb::Stop | Verb::Exports) => {
                Err(Failure::new("the pool is not being served; `rwsnap serve` does that"))
            }
            Some(Verb::Add) => self.add(head, items),
            Some(Verb::Remove) => self.remove(head, bytes),
            _ => self.forward(bytes),
        }
    }

    fn forward(&mut self, bytes: &[u8]) -> Outcome<Vec<u8>> {
        self.pool.command(bytes).map_err(failure("carry out the command"))
    }

    /// Opens the volume at the item's path, and gives it to the core under a number of its own.
    fn add(&mut self, head: &Command, items: &[Item]) -> Outcome<Vec<u8>> {
        let path = items.iter().find(|i| i.name.text() == PATH_KEY);
        let path = path.map(|i| PathBuf::from(padded_text(&i.value))).unwrap_or_default();
        let opened = Volume::open(&path, Access::Own, Cache::Buffered)
            .and_then(|volume| prepare::check_new(&volume, self.block).map(|()| volume));
        let volume = opened.map_err(|e| {
            let (name, why) = (head.name.text(), prepare::not_added(&e));
            Failure::new(format!("cannot add `{name}`: {why}"))
        })?;
        let Some(dev) = self.pool.free_dev() else {
            return Ok(refused(Refusal::NoMemory));
        };
        let mut command = *head;
        command.value = u64::from(dev.0).into();
        command.limit = volume.device().size.into();
        command.count = u32::try_from(items.len()).unwrap_or(0).into();
        let bytes = [command.as_bytes(), items.as_bytes()].concat();
        self.pool.add_volume(dev, volume);
        let reply = self.forward(&bytes)?;
        if !was_done(&reply) {
            self.pool.drop_volume(dev);
        }
        Ok(reply)
    }

    /// Removes a production, then lets go of its volume.
    fn remove(&mut self, head: &Command, bytes: &[u8]) -> Outcome<Vec<u8>> {
        let productions = self.pool.core().productions();
        let reply = self.forward(bytes)?;
        let gone = productions.iter().find(|p| p.name == head.name.text());
        if let (true, Some(gone)) = (was_done(&reply), gone) {
            self.pool.drop_volume(gone.dev);
        }
        Ok(reply)
    }

    fn open_volume(&mut self, name: Name, write: bool) -> Outcome<Opened> {
        let key = (name.bytes().to_vec(), write);
        if let Some(opened) = self.opened.get(&key) {
            return Ok(*opened);
        }
        let opened = self.pool.attach(name.bytes(), write).map_err(|e| match e {
            OfflineError::Refused(refusal) => {
                let verb = if write { Verb::Write } else { Verb::Read };
                let name = name.text();
                let refused = Refused { verb, name, other: "", refusal, blockers: &[], value: 0 };
                Failure::new(refused.text())
            }
            e => failure("open the volume")(e),
        })?;
        self.opened.insert(key, opened);
        Ok(opened)
    }

    /// Reads whole blocks of a volume.
    pub fn read(&mut self, name: Name, bytes: &mut [u8], at: u64) -> Outcome {
        let opened = self.open_volume(name, false)?;
        self.pool.read(opened, bytes, at).map_err(failure(&format!("read `{}`", name.text())))
    }

    /// Writes whole blocks of a volume.
    pub fn write(&mut self, name: Name, bytes: &[u8], at: u64) -> Outcome {
        let opened = self.open_volume(name, true)?;
        self.pool.write(opened, bytes, at).map_err(failure(&format!("write to `{}`", name.text())))
    }

    /// Makes durable what was written to a volume.
    pub fn flush(&mut self, name: Name) -> Outcome {
        let opened = self.open_volume(name, true)?;
        self.pool.flush(opened).map_err(failure(&format!("flush `{}`", name.text())))
    }

    /// Lets background work go on for a while.
    pub fn work(&mut self, time: Duration) -> Outcome {
        let begun = Instant::now();
        let over = |_: &mut Offline| Ok(begun.elapsed() >= time);
        self.pool.work(over).map_err(failure("go on"))
    }

    /// Closes the pool in order.
    pub fn close(mut self) -> Outcome {
        for opened in std::mem::take(&mut self.opened).into_values() {
            self.pool.detach(opened);
        }
        self.pool.close().map_err(failure("close the pool"))
    }
}

/// Finds the volume of a production where it was last.
fn find(production: &Production) -> Result<(Volume, bool), String> {
    let path = Path::new(&production.path);
    if production.path.is_empty() {
        return Err("it is not known where it is; `rwsnap serve --production` says".to_owned());
    }
    device::kind_of(path).map_err(|e| e.to_string())?;
    let volume = Volume::open(path, Access::Own, Cache::Buffered).map_err(|e| e.to_string())?;
    if volume.device().size < production.size {
        let (is, was) = (volume.device().size, production.size);
        return Err(format!("{} has {is} bytes and had {was}", path.display()));
    }
    Ok((volume, false))
}

/// A reply that refuses.
fn refused(why: Refusal) -> Vec<u8> {
    let reply = Reply {
        magic: MAGIC.into(),
        version: VERSION.into(),
        refusal: (why as u16).into(),
        count: 0.into(),
        row_bytes: 0.into(),
        next: u64::MAX.into(),
        value: 0.into(),
    };
    reply.as_bytes().to_vec()
}

fn was_done(reply: &[u8]) -> bool {
    super::connect::Answer::parse(reply).is_some_and(|a| a.reply.refusal.get() == 0)
}

fn text(e: OfflineError) -> String {
    match e {
        OfflineError::Open(why) => why,
        OfflineError::Store(e) => e.to_string(),
        OfflineError::Refused(refusal) => format!("refused ({refusal:?})"),
        OfflineError::Fault(fault) => super::fault::text(fault),
    }
}

fn failure(doing: &str) -> impl FnOnce(OfflineError) -> Failure {
    let doing = doing.to_owned();
    move |e| Failure::new(format!("cannot {doing}: {}", text(e)))
}
