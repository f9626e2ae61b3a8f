// SPDX-License-Identifier: MIT

//! Starting and ending: memory, listeners, signals, threads.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::AtomicU32;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::nbd::Address;
use crate::uring::pool::LARGEST;
use crate::uring::{Arena, Span};

use super::config::{Config, Listen, Served};
use super::conn;
use super::ending::Opener;
use super::listen::Listener;
use super::memory::Memory;
use super::pool::{Disks, Pool};
use super::reactor::{Parts, Reactor};
use super::shared::{inboxes, Shared, CONTROLS};
use super::volume::Bare;

/// Bytes of each reactor's memory for metadata on its way.
const BOUNCE: u32 = 4 << 20;

/// How the arena is divided: data and bounce buffers of each reactor, which are registered; then
/// memory for sockets, and copy units. Those are many and mostly idle, and what is registered is
/// taken from the system at once, whether it is used or not.
struct Layout {
    reactors: u32,
    connections: u32,
    units: u32,
    data: u32,
    sockets: u32,
}

impl Layout {
    fn new(config: &Config) -> Self {
        let reactors = u32::try_from(config.reactors.clamp(1, 256)).unwrap_or(1);
        let connections = config.limits.connections.div_ceil(reactors) + CONTROLS;
        let shared = config.limits.shared_bytes.div_ceil(reactors);
        let units = match &config.served {
            Served::Plain(_) => 0,
            Served::Pool(pool) => pool.chunk.saturating_mul(pool.copy_units),
        };
        Self {
            reactors,
            connections,
            units: units.next_multiple_of(LARGEST),
            data: Memory::bytes(connections + 1, shared).next_multiple_of(LARGEST),
            sockets: ((connections + 1) * conn::BLOCK).next_multiple_of(LARGEST),
        }
    }

    fn arena(&self) -> io::Result<Arena> {
        Arena::new(self.registered(), self.sockets * self.reactors + self.units)
    }

    fn registered(&self) -> u32 {
        (self.data + BOUNCE) * self.reactors
    }

    fn data(&self, arena: &Arena, reactor: u32) -> Span {
        arena.whole().cut(reactor * (self.data + BOUNCE), self.data)
    }

    fn bounce(&self, arena: &Arena, reactor: u32) -> Span {
        let first = reactor * (self.data + BOUNCE) + self.data;
        arena.whole().cut(first, BOUNCE)
    }

    fn sockets(&self, arena: &Arena, reactor: u32) -> Span {
        arena.whole().cut(self.registered() + reactor * self.sockets, self.sockets)
    }

    fn units(&self, arena: &Arena) -> Span {
        arena.whole().cut(self.registered() + self.reactors * self.sockets, self.units)
    }

    fn parts(&self, shared: &Arc<Shared>, number: u32) -> Parts {
        Parts {
            id: usize::try_from(number).unwrap_or(0),
            data: self.data(&shared.arena, number),
            bounce: self.bounce(&shared.arena, number),
            sockets: self.sockets(&shared.arena, number),
            connections: self.connections,
            shared: Arc::clone(shared),
            listeners: Vec::new(),
            signals: None,
        }
    }
}

/// What is served, made ready for the reactors.
struct Stage {
    disks: Disks,
    bare: Vec<Bare>,
    pool: Option<Arc<Pool>>,
    opener: Option<Opener>,
    control: Option<Listener>,
}

impl Stage {
    fn new(served: Served, layout: &Layout, arena: &Arena) -> io::Result<Self> {
        let disks = Disks::default();
        let pool = match served {
            Served::Plain(plain) => {
                let put = |(number, plain): (usize, super::config::Plain)| {
                    disks.put(number, Arc::clone(&plain.disk));
                    Bare::new(number, &plain)
                };
                let bare = plain.into_iter().enumerate().map(put).collect();
                return Ok(Self { disks, bare, pool: None, opener: None, control: None });
            }
            Served::Pool(pool) => *pool,
        };
        let control = Some(Listener::control(&pool.control)?);
        let units = layout.units(arena);
        let mut opener = Opener { begin: pool.begin, find: pool.find, save: pool.save.device() };
        disks.put(0, Arc::new(pool.save));
        let core = opener.begin(0)?;
        let pool = Some(Arc::new(Pool::new(core, pool.chunk, units, pool.open)));
        Ok(Self { disks, bare: Vec::new(), pool, opener: Some(opener), control })
    }
}

/// Serves until SIGTERM, SIGINT or a command ends it; the first reactor is the calling thread.
///
/// To be called before other threads exist: they would get the signals.
///
/// # Errors
///
/// What could not be set up or opened, or the failure of a ring.
pub fn run(config: Config) -> io::Result<ExitCode> {
    let signals = block_signals()?;
    let layout = Layout::new(&config);
    let arena = Arc::new(layout.arena()?);
    let Config { served, listen, insecure, limits, ready, .. } = config;
    let mut stage = Stage::new(served, &layout, &arena)?;
    let open = |listen| Listener::open(listen, insecure);
    let mut listeners = listen.iter().map(open).collect::<io::Result<Vec<_>>>()?;
    let addresses: Vec<_> = listen.iter().zip(&listeners).map(address).collect();
    let (inboxes, loads) = inboxes(usize::try_from(layout.reactors).unwrap_or(1))?;
    let shared = Arc::new(Shared {
        arena,
        disks: stage.disks,
        bare: stage.bare,
        pool: stage.pool,
        addresses,
        limits,
        inboxes,
        loads,
        controls: AtomicU32::new(0),
    });
    listeners.extend(stage.control.take());
    let mut parts = layout.parts(&shared, 0);
    parts.listeners = listeners;
    parts.signals = Some(signals);
    let mut first = Reactor::new(parts)?;
    first.arm();
    if let Some(opener) = &mut stage.opener {
        first.open_pool(opener)?;
    }
    let others = start_others(&layout, &shared)?;
    ready(&uris(&shared));
    let served = first.run().inspect_err(give_up).and_then(|()| first.outcome());
    shared.stop();
    others.into_iter().fold(served, |result, thread| {
        let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a reactor panicked")));
        result.and(ended)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Starts the reactors behind the first, each in a thread of its own.
fn start_others(
    layout: &Layout,
    shared: &Arc<Shared>,
) -> io::Result<Vec<JoinHandle<io::Result<()>>>> {
    let start = |number| {
        let parts = layout.parts(shared, number);
        thread::Builder::new().name(format!("reactor-{number}")).spawn(move || {
            let mut reactor = Reactor::new(parts)?;
            reactor.arm();
            reactor.run().inspect_err(give_up)
        })
    };
    (1..layout.reactors).map(start).collect()
}

/// A ring does not work any more. Nobody could wait for what is under way on it, so that no order
/// of ending is left but the one that is always safe: at once, as `kill -9` would.
fn give_up(error: &io::Error) {
    tracing::error!(%error, "a ring fails: the server ends at once");
    std::process::abort();
}

/// SIGTERM and SIGINT end the server, SIGUSR1 makes it tell what is under way. They come as bytes
/// from a descriptor, not as interruptions.
fn block_signals() -> io::Result<OwnedFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.add(Signal::SIGUSR1);
    set.thread_block()?;
    let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?;
    fd.as_fd().try_clone_to_owned()
}

/// Where clients find a listener.
fn address((listen, listener): (&Listen, &Listener)) -> Address {
    match listen {
        Listen::Unix(path) => Address::Unix(path.clone()),
        Listen::Tcp(wanted) => {
            let got = listener.address().unwrap_or(*wanted);
            Address::Tcp(got.ip().to_string(), got.port())
        }
    }
}

/// The URI of each export at each listener.
fn uris(shared: &Shared) -> Vec<String> {
    let mut names: Vec<String> = shared.bare.iter().map(|bare| bare.export.name.clone()).collect();
    if let Some(pool) = &shared.pool {
        pool.core().names(&mut |name| names.push(name.to_owned()));
    }
    let all = names.iter();
    all.flat_map(|name| shared.addresses.iter().map(|address| address.uri(name))).collect()
}
