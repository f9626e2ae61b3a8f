// SPDX-License-Identifier: MIT

//! Starting and ending: memory, listeners, signals, threads.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::nbd::Address;
use crate::uring::pool::LARGEST;
use crate::uring::{Arena, Span};

use super::config::{Config, Listen};
use super::conn;
use super::listen::Listener;
use super::memory::Memory;
use super::reactor::{Parts, Reactor};
use super::shared::Shared;
use super::volume::BareExports;

/// How the arena is divided among reactors.
struct Layout {
    reactors: u32,
    connections: u32,
    data: u32,
    sockets: u32,
}

impl Layout {
    fn new(config: &Config) -> Self {
        let reactors = u32::try_from(config.reactors.max(1)).unwrap_or(1);
        let connections = config.limits.connections.div_ceil(reactors);
        let shared = config.limits.shared_bytes.div_ceil(reactors);
        let data = Memory::bytes(connections + 1, shared).next_multiple_of(LARGEST);
        let sockets = ((connections + 1) * conn::BLOCK).next_multiple_of(LARGEST);
        Self { reactors, connections, data, sockets }
    }

    fn arena(&self) -> io::Result<Arena> {
        Arena::new(self.data * self.reactors, self.sockets * self.reactors)
    }

    fn data(&self, arena: &Arena, reactor: u32) -> Span {
        arena.whole().cut(reactor * self.data, self.data)
    }

    fn sockets(&self, arena: &Arena, reactor: u32) -> Span {
        arena.whole().cut(self.data * self.reactors + reactor * self.sockets, self.sockets)
    }
}

/// Serves until SIGTERM, SIGINT or a command ends it.
///
/// To be called before other threads exist: they would get the signals.
///
/// # Errors
///
/// What could not be set up, or the failure of a ring.
pub fn run(config: Config) -> io::Result<ExitCode> {
    let signals = block_signals()?;
    let layout = Layout::new(&config);
    let arena = Arc::new(layout.arena()?);
    let open = |listen| Listener::open(listen, config.insecure);
    let listeners = config.listen.iter().map(open).collect::<io::Result<Vec<_>>>()?;
    let bare = BareExports::new(&config);
    let uris = uris(&config.listen, &listeners, &bare);
    let Config { disks, limits, ready, .. } = config;
    let reactors = usize::try_from(layout.reactors).unwrap_or(1);
    let shared = Arc::new(Shared::new(arena, disks, bare, limits, reactors)?);
    let mut first = Some((listeners, signals));
    let mut threads = Vec::new();
    for (id, number) in (0..reactors).zip(0..) {
        let (listeners, signals) = first.take().map_or((Vec::new(), None), |(l, s)| (l, Some(s)));
        let parts = Parts {
            id,
            data: layout.data(&shared.arena, number),
            sockets: layout.sockets(&shared.arena, number),
            connections: layout.connections,
            shared: Arc::clone(&shared),
            listeners,
            signals,
        };
        let thread = thread::Builder::new().name(format!("reactor-{id}"));
        threads.push(thread.spawn(move || Reactor::new(parts).and_then(|mut r| r.run()))?);
    }
    ready(&uris);
    let mut result = Ok(ExitCode::SUCCESS);
    for thread in threads {
        let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a reactor panicked")));
        if let Err(error) = ended {
            shared.stop();
            result = Err(error);
        }
    }
    result
}

/// SIGTERM and SIGINT come as bytes from a descriptor, not as interruptions.
fn block_signals() -> io::Result<OwnedFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?;
    Ok(fd.as_fd().try_clone_to_owned()?)
}

/// The URI of each export at each listener.
fn uris(listen: &[Listen], listeners: &[Listener], bare: &BareExports) -> Vec<String> {
    let address = |(listen, listener): (&Listen, &Listener)| match listen {
        Listen::Unix(path) => Address::Unix(path.clone()),
        Listen::Tcp(wanted) => {
            let got = listener.address().unwrap_or(*wanted);
            Address::Tcp(got.ip().to_string(), got.port())
        }
    };
    let addresses: Vec<_> = listen.iter().zip(listeners).map(address).collect();
    let all = bare.0.iter();
    all.flat_map(|bare| addresses.iter().map(|a| a.uri(&bare.export.name))).collect()
}
