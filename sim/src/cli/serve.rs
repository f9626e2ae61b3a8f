// SPDX-License-Identifier: MIT

//! `rwsnap serve`: the server of a pool, in the foreground until it is stopped.

use std::io::Write;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rwsnap_core::api::Limits;
use rwsnap_core::control::Name;

use crate::nbd::Address;
use crate::server::{self, Find, Listen, Pool, Served};
use crate::store::engine::{Engine, NotOpened};
use crate::store::{core, identify, prepare, Access, Cache, Volume};

use super::args::{self, Located};
use super::error::{Failure, Outcome};
use super::locate::{self, Link};
use super::module::Module;
use super::Global;

/// Records that each delta can hold.
const DELTA_RECORDS: u32 = 1 << 20;
/// Requests and commands that the core has under way at once.
const REQUESTS: u32 = 256;
/// The names of the productions that were looked for.
type Seen = Arc<Mutex<Vec<String>>>;

/// Bytes that a page of the cache takes: itself, and its place in the cache's index.
const CACHED_PAGE: u64 = 4096 + 32;
/// Bytes of copy units: what first writes and a merge that are under way copy. A merge has two
/// batches of 8 MiB in flight, and with undo copies each chunk twice.
const COPY_BYTES: u32 = 32 << 20;
/// Copy units at least, with large chunks.
const COPY_UNITS: u32 = 1024;

/// Serve a pool over NBD until it is stopped
///
/// Prints a URI for each volume and snapshot, then the line `rwsnap: ready`. Volumes and snapshots
/// that are made later are served under their names as well. SIGTERM and `rwsnap stop` end it in
/// order.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap serve save.img
  rwsnap serve save.img --nbd unix:/tmp/disk.sock --nbd tcp:localhost:10809
  rwsnap serve /dev/vg0/save --production db=/dev/vg1/db")]
pub(super) struct Serve {
    /// The save volume
    #[arg(value_name = "SAVE")]
    save: PathBuf,
    /// Where a production volume is now, if it moved
    #[arg(long, value_name = "NAME=PATH", value_parser = args::located)]
    production: Vec<Located>,
    /// Where NBD clients come from: unix:PATH or tcp:HOST:PORT; a socket beside the control socket
    /// if not given
    #[arg(long, value_name = "ADDRESS")]
    nbd: Vec<String>,
    /// The control socket; if not given, in /run/rwsnap, else under $XDG_RUNTIME_DIR, else in a
    /// folder of this user's in /tmp, or in $RWSNAP_RUNTIME_DIR alone
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Threads that serve
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    reactors: u16,
    /// How long a thread looks for work before it sleeps, in microseconds; it does so only while
    /// its waits are no longer than that. 0: never
    #[arg(long, value_name = "US", default_value_t = server::POLL_US)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=10_000))]
    poll: u32,
    /// Memory for the cache of metadata
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = args::size)]
    cache: u64,
    /// Go through the page cache instead of around it (O_DIRECT)
    #[arg(long)]
    buffered: bool,
    /// Use a production volume although it was changed while rwsnap did not look: its snapshots
    /// show the changes wherever they hold no copy
    #[arg(long, value_name = "NAME", value_parser = args::name)]
    trust: Vec<Name>,
    /// Allow TCP beyond this machine: NBD knows no passwords
    #[arg(long)]
    insecure: bool,
    /// Make each flush of a disk take longer, in ms: how slower disks are measured
    #[arg(long, value_name = "MS", default_value_t = 0, hide = true)]
    flush_delay: u16,
}

impl Serve {
    pub(super) fn run(self, global: &Global) -> Outcome {
        locate::require_not_attached(&self.save, "serve", &mut Module::open())?;
        // Locked before it is read: until then another server may write a later superblock.
        let save = Volume::open(&self.save, Access::Own, self.cache_mode())?;
        let superblock = identify::superblock(&self.save)?.ok_or_else(|| {
            Failure::new(format!(
                "{} is not a save volume; `rwsnap create` makes one",
                self.save.display()
            ))
        })?;
        let control = match &self.control {
            Some(path) => path.clone(),
            None => locate::default_socket(superblock.pool)?,
        };
        let _link = Link::new(superblock.pool, &control);
        let listen = self.listen(&control)?;
        let chunk = superblock.chunk.get();
        let limits = self.limits(chunk);
        let begin = move |delta: u32, device| -> Result<Box<dyn Engine + Send>, NotOpened> {
            let limits = Limits { delta_records: limits.delta_records.max(delta), ..limits };
            Ok(core::begin_with(device, &superblock, &limits)?)
        };
        let seen = Seen::default();
        let pool = Pool {
            begin: Box::new(begin),
            save,
            find: self.find(&seen),
            open: if self.buffered { open_buffered } else { open_direct },
            chunk,
            copy_units: limits.copy_units,
            control,
        };
        let (quiet, unknown) = (global.quiet, self.unknown(&seen));
        let flush_delay = Duration::from_millis(self.flush_delay.into());
        let poll = Duration::from_micros(self.poll.into());
        server::run(server::Config {
            served: Served::Pool(Box::new(pool)),
            listen,
            insecure: self.insecure,
            reactors: usize::from(self.reactors),
            limits: server::Limits { flush_delay, poll, ..server::Limits::default() },
            ready: Box::new(move |uris| {
                unknown();
                announce(uris, quiet);
            }),
        })
        .map(drop)
        .map_err(|e| Failure::new(e.to_string()))
    }

    fn cache_mode(&self) -> Cache {
        if self.buffered {
            Cache::Buffered
        } else {
            Cache::Direct
        }
    }

    fn limits(&self, chunk: u32) -> Limits {
        Limits {
            cache_pages: u32::try_from(self.cache / CACHED_PAGE).unwrap_or(u32::MAX).max(4),
            delta_records: DELTA_RECORDS,
            requests: REQUESTS,
            copy_units: (COPY_BYTES / chunk.max(1)).max(COPY_UNITS),
        }
    }

    /// Where NBD clients come from.
    fn listen(&self, control: &Path) -> Outcome<Vec<Listen>> {
        if self.nbd.is_empty() {
            return Ok(vec![Listen::Unix(control.with_extension("nbd"))]);
        }
        self.nbd.iter().map(|text| listen(text)).collect()
    }

    /// Says which names of the command line are of no production, once all were looked for.
    fn unknown(&self, seen: &Seen) -> impl FnOnce() + Send {
        let moved = self.production.iter().filter_map(|located| located.name.clone());
        let named: Vec<_> = moved.chain(self.trust.iter().map(|n| n.text().to_owned())).collect();
        let seen = Arc::clone(seen);
        move || {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            for name in named.iter().filter(|name| !seen.contains(name)) {
                tracing::warn!("the pool has no production volume `{name}`");
            }
        }
    }

    /// Finds a production: where the command line says, else where it was.
    fn find(&self, seen: &Seen) -> Find {
        let seen = Arc::clone(seen);
        let (cache, trust) = (self.cache_mode(), self.trust.clone());
        let moved: Vec<_> =
            self.production.iter().map(|l| (l.name.clone(), l.path.clone())).collect();
        Box::new(move |production| {
            let mut names = seen.lock().unwrap_or_else(PoisonError::into_inner);
            names.push(production.name.clone());
            drop(names);
            let here = moved.iter().find(|(name, _)| {
                name.as_deref().map_or(moved.len() == 1, |name| name == production.name)
            });
            let path = here.map_or_else(|| PathBuf::from(&production.path), |(_, p)| p.clone());
            if path.as_os_str().is_empty() {
                let name = &production.name;
                return Err(format!("it is not known where it is: --production {name}=PATH says"));
            }
            let volume = Volume::open(&path, Access::Own, cache).map_err(|e| e.to_string())?;
            let trust = trust.iter().any(|name| name.text() == production.name);
            Ok((volume, trust))
        })
    }
}

fn open_direct(path: &Path) -> Result<Volume, String> {
    open_new(path, Cache::Direct)
}

fn open_buffered(path: &Path) -> Result<Volume, String> {
    open_new(path, Cache::Buffered)
}

/// A volume that comes to the pool.
fn open_new(path: &Path, cache: Cache) -> Result<Volume, String> {
    Volume::open(path, Access::Own, cache).map_err(|e| prepare::not_added(&e))
}

/// An address as the command line writes it.
fn listen(text: &str) -> Outcome<Listen> {
    match text.parse::<Address>().map_err(Failure::usage)? {
        Address::Unix(path) => Ok(Listen::Unix(path)),
        Address::Tcp(host, port) => {
            let found = (host.as_str(), port).to_socket_addrs().ok().and_then(|mut all| all.next());
            found.map(Listen::Tcp).ok_or_else(|| Failure::new(format!("there is no host `{host}`")))
        }
    }
}

/// Tells where clients find what; the ready line comes last.
fn announce(uris: &[String], quiet: bool) {
    let mut out = std::io::stdout().lock();
    if !quiet {
        for uri in uris {
            // Nobody may be listening; the server serves all the same.
            let _ = writeln!(out, "{uri}");
        }
    }
    let _ = writeln!(out, "rwsnap: ready");
    let _ = out.flush();
}
