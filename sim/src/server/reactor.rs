// SPDX-License-Identifier: MIT

//! A thread with a ring that does everything: accept, receive, send, device I/O, time, wakeups.
//!
//! It works in turns: wait for completions, handle all that are there, look once at each
//! connection that something happened to (its next requests, its replies), submit.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::nbd;
use crate::uring::{Arena, Completion, File, Pool, Ring, Setup, Span};

use super::conn::{self, Conn, Phase, Receiving};
use super::listen::Listener;
use super::memory::Memory;
use super::shared::{Message, Shared};
use super::slab::Slab;
use super::token::Token;
use super::work::{Part, Work};

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_millis(500);

/// How long clients may take to read their last replies when the server ends.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a reactor is made from.
pub(crate) struct Parts {
    /// Its number.
    pub(crate) id: usize,
    /// What all see.
    pub(crate) shared: Arc<Shared>,
    /// Its buffers for data.
    pub(crate) data: Span,
    /// Its memory for sockets.
    pub(crate) sockets: Span,
    /// Connections that it can have.
    pub(crate) connections: u32,
    /// The listeners, for the first reactor.
    pub(crate) listeners: Vec<Listener>,
    /// Signals that end the server, for the first reactor.
    pub(crate) signals: Option<OwnedFd>,
}

/// Small things that operations point to.
struct Fixtures {
    event: Span,
    time: Span,
    signal: Span,
}

/// The thread's state.
pub(crate) struct Reactor {
    pub(super) id: usize,
    pub(super) ring: Ring,
    pub(super) arena: Arc<Arena>,
    pub(super) shared: Arc<Shared>,
    pub(super) memory: Memory,
    pub(super) sockets: Pool,
    pub(super) disks: Vec<File>,
    pub(super) conns: Slab<Conn>,
    pub(super) works: Slab<Work>,
    pub(super) parts: Slab<Part>,
    /// Zeros to be written.
    pub(super) zeros: Span,
    /// Connections to be looked at at the end of the turn.
    pub(super) dirty: Vec<u32>,
    /// Connections that wait for memory.
    pub(super) hungry: Vec<u32>,
    pub(super) listeners: Vec<Listener>,
    fixtures: Fixtures,
    event: File,
    signals: Option<(OwnedFd, File)>,
    stopping: Option<Instant>,
    turn: Vec<Completion>,
}

impl Reactor {
    /// Makes the ring; to be called in the reactor's own thread.
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let Parts { id, shared, data, sockets, connections, listeners, signals } = parts;
        let arena = Arc::clone(&shared.arena);
        let files = connections.saturating_add(64);
        let setup = Setup { entries: 1024, files, fixed_buffers: true };
        let mut ring = Ring::new(&setup, Arc::clone(&arena))?;
        tracing::debug!(reactor = id, features = ?ring.features(), "ring");
        let disks = shared.disks.iter().map(|disk| ring.adopt(disk.as_fd().as_raw_fd())).collect();
        let event = match shared.inboxes.get(id) {
            Some(inbox) => ring.adopt(inbox.event.as_fd().as_raw_fd()),
            None => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let signals = signals.map(|fd| {
            let file = ring.adopt(fd.as_raw_fd());
            (fd, file)
        });
        let mut sockets = Pool::new(sockets);
        let page = sockets.take(4096).ok_or(io::ErrorKind::OutOfMemory)?;
        let fixtures =
            Fixtures { event: page.cut(0, 8), time: page.cut(64, 16), signal: page.cut(128, 128) };
        let limits = shared.limits;
        let mut memory = Memory::new(data, connections + 1, limits.connection_bytes);
        let zeros =
            memory.take(&mut 0, super::memory::ASSURED).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            id,
            ring,
            arena,
            memory,
            sockets,
            disks,
            conns: Slab::new(usize::try_from(connections).unwrap_or(0)),
            works: Slab::new(1024),
            parts: Slab::new(1024),
            zeros,
            dirty: Vec::with_capacity(128),
            hungry: Vec::new(),
            listeners,
            fixtures,
            event,
            signals,
            stopping: None,
            turn: Vec::with_capacity(4096),
            shared,
        })
    }

    /// Serves until told to stop and all is finished.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        self.listen();
        self.await_inbox();
        self.await_signal();
        self.await_tick();
        while self.stopping.is_none() || self.conns.len() > 0 {
            self.ring.turn(1, None)?;
            let mut turn = std::mem::take(&mut self.turn);
            self.ring.reap(&mut turn);
            for completion in turn.drain(..) {
                self.handle(completion);
            }
            self.turn = turn;
            self.finish_turn();
        }
        Ok(())
    }

    fn handle(&mut self, completion: Completion) {
        match Token::unpack(completion.token) {
            Token::Part(part) => self.part_ended(part, completion.count()),
            Token::Receive(conn) => self.received(conn, completion.count()),
            Token::Payload(conn) => self.payload_received(conn, completion.count()),
            Token::Send(conn) => self.sent(conn, completion.count()),
            Token::Accept(listener) => self.accepted(listener, completion),
            Token::Inbox => {
                self.read_inbox();
                self.await_inbox();
            }
            Token::Tick => {
                self.tick();
                self.await_tick();
            }
            Token::Signal => {
                tracing::info!("ending: no more requests, those under way are finished");
                self.shared.stop();
                self.await_signal();
            }
            Token::Step(_) | Token::ControlReceive(_) | Token::ControlSend(_) | Token::Ignore => {}
        }
    }

    /// Looks at each connection that something happened to.
    fn finish_turn(&mut self) {
        let mut index = 0;
        while let Some(&conn) = self.dirty.get(index) {
            self.look(conn);
            index += 1;
            if index == self.dirty.len() && self.memory.was_freed() {
                let mut hungry = std::mem::take(&mut self.hungry);
                hungry.drain(..).for_each(|conn| self.touch(conn));
                self.hungry = hungry;
            }
        }
        self.dirty.clear();
    }

    /// The connection is to be looked at at the end of the turn.
    pub(super) fn touch(&mut self, id: u32) {
        if let Some(conn) = self.conns.get_mut(id) {
            if !conn.dirty {
                conn.dirty = true;
                self.dirty.push(id);
            }
        }
    }

    fn look(&mut self, id: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.dirty = false;
        conn.hungry = false;
        self.pump(id);
        self.send(id);
        self.retire(id);
    }

    /// Takes in a client that this reactor was chosen for.
    pub(super) fn welcome(&mut self, socket: OwnedFd) {
        let block = self.sockets.take(conn::BLOCK);
        let (Some(block), None) = (block, self.stopping) else {
            return self.shared.dismiss(self.id);
        };
        let file = self.ring.adopt(socket.as_raw_fd());
        let id = self.conns.insert(Conn::new(socket, file, block));
        self.touch(id);
    }

    /// Lets a connection go that is over and that nothing in flight names.
    fn retire(&mut self, id: u32) {
        let Some(conn) = self.conns.get(id) else { return };
        let over = conn.broken || (conn.leaving && conn.out.is_empty());
        if !over || conn.requests > 0 || conn.out.since.is_some() {
            return;
        }
        if conn.receiving != Receiving::No {
            // The receive ends when the socket is shut, and then we come here again.
            return self.cut_off(id);
        }
        let Some(conn) = self.conns.remove(id) else { return };
        self.ring.forget(conn.file);
        self.sockets.give(conn.block);
        self.shared.dismiss(self.id);
    }

    /// Nothing more comes from this client or goes to it.
    pub(super) fn cut_off(&mut self, id: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if !std::mem::replace(&mut conn.broken, true) {
            self.ring.shut(conn.file, Token::Ignore.pack());
            self.drop_replies(id);
            self.abandon(id);
            self.touch(id);
        }
    }

    fn tick(&mut self) {
        for id in self.conns.numbers() {
            let Some(conn) = self.conns.get(id) else { continue };
            let greeting = matches!(conn.phase, Phase::Greeting(_));
            let silent = greeting && conn.since.elapsed() > nbd::HANDSHAKE_TIME;
            let unread = conn.out.since.is_some_and(|since| since.elapsed() > nbd::SEND_TIME);
            let late = self.stopping.is_some_and(|since| since.elapsed() > FAREWELL);
            if (silent || unread || late) && !conn.broken {
                tracing::info!(silent, unread, late, "a client is cut off");
                self.cut_off(id);
            }
        }
        self.listen();
    }

    fn read_inbox(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(inbox) = shared.inboxes.get(self.id) else { return };
        inbox.look();
        while let Some(message) = inbox.take() {
            match message {
                Message::Connection(socket) => self.welcome(socket),
                Message::Stop => self.stop(),
            }
        }
    }

    fn stop(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        self.stopping = Some(Instant::now());
        self.close_listeners();
        for id in self.conns.numbers() {
            self.leave(id);
        }
    }

    /// No more requests are taken from this client; it gets the replies to those under way.
    pub(super) fn leave(&mut self, id: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if !std::mem::replace(&mut conn.leaving, true) {
            self.abandon(id);
        }
        self.touch(id);
    }

    /// Whether no new connection is taken.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    fn await_inbox(&mut self) {
        self.ring.read(self.event, 0, self.fixtures.event, Token::Inbox.pack());
    }

    fn await_signal(&mut self) {
        if let Some((_, file)) = &self.signals {
            self.ring.read(*file, 0, self.fixtures.signal, Token::Signal.pack());
        }
    }

    fn await_tick(&mut self) {
        self.ring.timer(TICK, self.fixtures.time, Token::Tick.pack());
    }
}
