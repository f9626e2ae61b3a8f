// SPDX-License-Identifier: MIT

//! The core as an [`Engine`].

use rwsnap_core::api::{Device, Done, Handle, Limits, Request, Seg, Step, StepId, Submit};
use rwsnap_core::control::{EventRow, Refusal};
use rwsnap_core::engine::{Attached, OpenError, Short};
use rwsnap_core::fault::Fault;
use rwsnap_core::format::superblock::Superblock;
use rwsnap_core::log::Damage;
use rwsnap_core::units::Dev;
use rwsnap_core::Core;

use crate::platform::Host;

use super::engine::{Engine, Hot, NotOpened, Opened, Production};
use super::offline::copy_units;

/// Pages of the cache of metadata: 16 MiB.
const CACHE_PAGES: u32 = 4096;
/// Requests and commands at once.
const REQUESTS: u32 = 16;
/// Records of a delta, at least.
const DELTA_RECORDS: u32 = 1 << 16;

/// Begins to open the pool of this superblock on a save volume; `delta` records are to fit at
/// least.
///
/// # Errors
///
/// A sentence.
pub fn begin(
    save: Device,
    superblock: &Superblock,
    delta: u32,
) -> Result<Box<dyn Engine>, NotOpened> {
    let limits = Limits {
        cache_pages: CACHE_PAGES,
        delta_records: DELTA_RECORDS.max(delta),
        requests: REQUESTS,
        copy_units: copy_units(superblock.chunk.get()),
    };
    Ok(begin_with(save, superblock, &limits)?)
}

/// As [`begin`], with these limits; the delta is made larger if the pool wants that.
///
/// # Errors
///
/// A sentence.
pub fn begin_with(
    save: Device,
    superblock: &Superblock,
    limits: &Limits,
) -> Result<Box<Core<Host>>, NotOpened> {
    if superblock.read_only() {
        let why = "it has features that forbid this version of rwsnap to write it";
        return Err(NotOpened::Why(why.to_owned()));
    }
    let stored = u32::try_from(superblock.delta_records.get()).unwrap_or(u32::MAX);
    let limits = Limits { delta_records: limits.delta_records.max(stored), ..*limits };
    Core::open(Host, &limits, save, superblock).map_err(not_opened)
}

/// Why a pool cannot be opened, as a sentence.
#[must_use]
pub fn open_error(e: OpenError) -> String {
    const CHECK: &str = "`rwsnap check` says more";
    match e {
        OpenError::Io => "a read or write of it failed; see the kernel's log".to_owned(),
        OpenError::NoMemory => "memory was not to be had".to_owned(),
        OpenError::Page { at } => format!("its metadata at byte {at} is damaged; {CHECK}"),
        OpenError::Log(damage) => format!("its log is damaged: {}; {CHECK}", log_damage(damage)),
        OpenError::Short { need } => format!("it is cut off: it needs {need} bytes"),
        OpenError::Limit { what, need } => limit(what, need),
        OpenError::Delta { need } => format!("its log holds more than {need} records"),
        OpenError::Corrupt => format!("its metadata contradicts itself; {CHECK}"),
    }
}

fn limit(what: Short, need: u64) -> String {
    match what {
        Short::CachePages => format!("its cache must have {need} pages of 4 KiB at least"),
        Short::DeltaRecords => format!("there must be memory for {need} records at least"),
        Short::Requests => format!("it must be allowed {need} request at a time at least"),
        Short::CopyUnits => format!("there must be {need} copy buffers at least"),
        Short::LogBlocks => {
            format!("its log is too short: {need} blocks are needed, so it must be created anew")
        }
    }
}

fn log_damage(damage: Damage) -> String {
    match damage {
        Damage::Durable(pos) => format!("block {} was durable and is not readable", pos.0),
        Damage::Superblock(pos) => format!("block {} needs a superblock that is lost", pos.0),
        Damage::Chain(pos) => format!("what lies before block {} is not what it was", pos.0),
        Damage::Unstable(pos) => format!("block {} reads differently each time", pos.0),
    }
}

fn not_opened(e: OpenError) -> NotOpened {
    match e {
        OpenError::Delta { need } => NotOpened::Delta(u32::try_from(need).unwrap_or(u32::MAX)),
        e => NotOpened::Why(open_error(e)),
    }
}

impl Engine for Core<Host> {
    fn opened(&self) -> Option<Result<(), NotOpened>> {
        Self::opened(self).map(|result| result.map_err(not_opened))
    }

    fn chunk(&self) -> u32 {
        self.geometry().chunk_bytes()
    }

    fn block(&self) -> u32 {
        Self::block(self)
    }

    fn productions(&self) -> Vec<Production> {
        let mut found = Vec::new();
        Self::productions(self, &mut |p| {
            found.push(Production {
                name: p.name.text().to_owned(),
                dev: p.dev,
                size: p.size,
                fingerprint: p.fingerprint,
                path: String::from_utf8_lossy(p.path).into_owned(),
            });
        });
        found
    }

    fn online(&mut self, dev: Dev, device: Device, print: u64, trust: bool) -> Result<(), Refusal> {
        Self::online(self, dev, device, print, trust)
    }

    fn start(&mut self) {
        Self::start(self);
    }

    fn attach(&mut self, name: &[u8], write: bool) -> Result<Opened, Refusal> {
        Self::attach(self, name, write).map(|attached| Opened {
            handle: attached.handle,
            size: attached.size,
            read_only: attached.read_only,
        })
    }

    fn enter(&mut self, name: &[u8], write: bool) -> Result<(Opened, Option<Hot>), Refusal> {
        let Attached { handle, size, read_only, fast, .. } = Self::attach(self, name, write)?;
        Ok((Opened { handle, size, read_only }, fast))
    }

    fn event_after(&self, number: u64) -> Option<EventRow> {
        Self::event_after(self, number)
    }

    fn kick(&mut self) {
        Self::kick(self);
    }

    fn handle_lost(&self, handle: Handle) -> bool {
        Self::handle_lost(self, handle)
    }

    fn describe(&self) -> String {
        format!("{self:?}")
    }

    fn names(&self, visit: &mut dyn FnMut(&str)) {
        Self::names(self, &mut |name| visit(name.text()));
    }

    fn detach(&mut self, handle: Handle) {
        Self::detach(self, handle);
    }

    fn submit(&mut self, request: &Request) -> Submit {
        Self::submit(self, request)
    }

    fn command(&mut self, cookie: u64, bytes: &[u8]) -> Submit {
        Self::command(self, cookie, bytes)
    }

    fn reply(&mut self, cookie: u64) -> Vec<u8> {
        let mut reply = Vec::new();
        Self::reply(self, cookie, &mut |bytes| reply.extend_from_slice(bytes));
        reply
    }

    fn poll(&mut self) -> Option<(StepId, Step)> {
        Self::poll(self)
    }

    fn is_behind(&self) -> bool {
        Self::is_behind(self)
    }

    fn resume(&mut self) {
        Self::resume(self);
    }

    fn segs(&self, id: StepId, f: &mut dyn FnMut(Seg<'_>)) {
        Self::segs(self, id, f);
    }

    fn complete(&mut self, id: StepId, done: &Done<'_>) {
        Self::complete(self, id, done);
    }

    fn tick(&mut self, now_ns: u64) {
        Self::tick(self, now_ns);
    }

    fn set_fingerprint(&mut self, dev: Dev, print: u64) {
        Self::set_fingerprint(self, dev, print);
    }

    fn wait_no_more(&mut self) {
        Self::wait_no_more(self);
    }

    fn close(&mut self) {
        Self::close(self);
    }

    fn closed(&self) -> Option<Result<(), Fault>> {
        Self::closed(self)
    }
}
