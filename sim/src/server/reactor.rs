// SPDX-License-Identifier: MIT

//! A thread with a ring that does everything: accept, receive, send, device I/O, time, wakeups.
//!
//! It works in turns: wait for completions, handle all that are there, look once at each
//! connection that something happened to (its next requests, its replies), submit.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{shutdown, Shutdown};

use crate::nbd;
use crate::store::Volume;
use crate::uring::{Arena, Completion, File, Pool, Ring, Setup, Span};

use super::conn::{self, Conn, Phase, Receiving};
use super::drive::Desk;
use super::ending::Ending;
use super::listen::Listener;
use super::memory::Memory;
use super::shared::{Message, Shared};
use super::slab::Slab;
use super::steps::Run;
use super::token::Token;
use super::work::{Part, Work};

/// Time between two looks at the clock.
const TICK: Duration = Duration::from_millis(100);

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
    /// Its memory for metadata on its way.
    pub(crate) bounce: Span,
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
    disks: Vec<Option<(Arc<Volume>, File)>>,
    pub(super) conns: Slab<Conn>,
    pub(super) works: Slab<Work>,
    pub(super) parts: Slab<Part>,
    /// Steps of the core under way, and those that have ended.
    pub(super) runs: Slab<Run>,
    pub(super) ended: Vec<u32>,
    /// For metadata on its way.
    pub(super) bounce: Pool,
    pub(super) scratch: Vec<u8>,
    pub(super) desk: Desk,
    pub(super) ending: Ending,
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
    /// The pool is open: clients may come. Until then they wait to be accepted.
    serving: bool,
    stopping: Option<Instant>,
    turn: Vec<Completion>,
}

impl Reactor {
    /// Makes the ring; to be called in the reactor's own thread.
    pub(crate) fn new(parts: Parts) -> io::Result<Self> {
        let Parts { id, shared, data, sockets, connections, listeners, signals, bounce } = parts;
        let arena = Arc::clone(&shared.arena);
        let files = connections.saturating_add(64);
        let setup = Setup { entries: 1024, files, fixed_buffers: true, poll: shared.limits.poll };
        let mut ring = Ring::new(&setup, Arc::clone(&arena))?;
        tracing::debug!(reactor = id, features = ?ring.features(), "ring");
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
        if !limits.flush_delay.is_zero() {
            ring.delay_flushes(limits.flush_delay, page.cut(256, 16));
        }
        let mut memory = Memory::new(data, connections + 1, limits.connection_bytes);
        let zeros =
            memory.take(&mut 0, super::memory::ASSURED).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            id,
            ring,
            arena,
            memory,
            sockets,
            disks: Vec::new(),
            runs: Slab::new(256),
            ended: Vec::with_capacity(256),
            bounce: Pool::new(bounce),
            scratch: Vec::new(),
            desk: Desk::default(),
            ending: Ending::default(),
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
            serving: false,
            stopping: None,
            turn: Vec::with_capacity(4096),
            shared,
        })
    }

    /// Arms what always stands: messages, signals, time. To be called once.
    pub(crate) fn arm(&mut self) {
        self.await_inbox();
        self.await_signal();
        self.await_tick();
    }

    /// Serves until told to stop and all is finished.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        self.serving = true;
        self.listen();
        while !self.is_over() {
            self.turn()?;
        }
        Ok(())
    }

    /// Waits for completions and does all that follows from them.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        // Work in the background goes on when all that is there has been looked at.
        let patience = std::mem::take(&mut self.desk.behind).then_some(Duration::ZERO);
        self.desk.resume = patience.is_some();
        self.ring.turn(1, patience)?;
        let mut turn = std::mem::take(&mut self.turn);
        self.ring.reap(&mut turn);
        for completion in turn.drain(..) {
            self.handle(completion);
        }
        self.turn = turn;
        self.finish_turn();
        Ok(())
    }

    fn is_over(&self) -> bool {
        let pool = self.shared.pool.as_ref();
        let closed = pool.is_none_or(|pool| pool.over.load(Ordering::SeqCst));
        self.stopping.is_some() && self.conns.len() == 0 && self.runs.len() == 0 && closed
    }

    fn handle(&mut self, completion: Completion) {
        match Token::unpack(completion.token) {
            Token::Part(part) => self.part_ended(part, completion.count()),
            Token::Receive(conn) => self.received(conn, &completion.count()),
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
                self.signalled();
                self.await_signal();
            }
            Token::Step(step) => self.step_ended(step, completion.count()),
            Token::Ignore => {}
        }
    }

    fn signalled(&mut self) {
        let mut number = [0; 4];
        self.arena.read(self.fixtures.signal, &mut number);
        if i32::from_ne_bytes(number) == libc::SIGUSR1 {
            let core = self.pool().map(|pool| pool.core().describe()).unwrap_or_default();
            let (refused, commands, later) = self.desk.waiting();
            let (parts, runs) = (self.parts.len(), self.runs.len());
            tracing::warn!(parts, runs, refused, commands, later, "under way\n{core}");
            return;
        }
        tracing::info!("ending: no more requests, those under way are finished");
        self.shared.stop();
    }

    /// Looks at each connection that something happened to, and visits the core, until nothing
    /// comes of it.
    fn finish_turn(&mut self) {
        loop {
            self.look_at_all();
            if !self.drive() {
                break;
            }
        }
        self.go_on_ending();
    }

    fn look_at_all(&mut self) {
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
    pub(super) fn welcome(&mut self, socket: OwnedFd, phase: Phase) {
        let block = self.sockets.take(conn::BLOCK);
        let (Some(block), None) = (block, self.stopping) else {
            return self.shared.dismiss(self.id, matches!(phase, Phase::Control(_)));
        };
        let file = self.ring.adopt(socket.as_raw_fd());
        let id = self.conns.insert(Conn::new(socket, file, block, phase));
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
        if let (Some(volume), Some(pool)) = (&conn.volume, self.pool()) {
            pool.detach(volume);
        }
        self.shared.dismiss(self.id, matches!(conn.phase, Phase::Control(_)));
        if self.stopping.is_some() {
            self.shared.look();
        }
    }

    /// Nothing more comes from this client or goes to it.
    pub(super) fn cut_off(&mut self, id: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if !std::mem::replace(&mut conn.broken, true) {
            // At once, and not on the ring: by the time that the ring came to it, the socket's
            // place there might be another's. A socket that is closed already needs it no more.
            let _ = shutdown(conn.socket.as_raw_fd(), Shutdown::Both);
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
            let lost = self.is_lost(conn);
            if (silent || unread || late || lost) && !conn.broken {
                tracing::info!(silent, unread, late, lost, "a client is cut off");
                self.cut_off(id);
            }
        }
        self.listen();
        self.desk.tick = self.id == 0;
        if self.id == 0 && self.stopping.is_some_and(|since| since.elapsed() > FAREWELL) {
            self.end_waits();
        }
    }

    /// Whether a forced command has taken the connection's volume away.
    fn is_lost(&self, conn: &Conn) -> bool {
        match (&conn.volume, &self.shared.pool) {
            (Some(super::volume::Volume::Pooled { handle, .. }), Some(pool)) => {
                pool.core().handle_lost(*handle)
            }
            _ => false,
        }
    }

    fn read_inbox(&mut self) {
        let shared = Arc::clone(&self.shared);
        let Some(inbox) = shared.inboxes.get(self.id) else { return };
        inbox.look();
        while let Some(message) = inbox.take() {
            match message {
                Message::Connection(socket) => {
                    self.welcome(socket, Phase::Greeting(Box::default()));
                }
                Message::Stop => self.stop(),
                Message::Finished(part, outcome) => self.request_over(part, outcome),
                Message::Replied(conn, reply) => self.replied(conn, &reply),
                Message::Room => self.room(),
                Message::Forget(number) => self.forget_disk(number),
                Message::Look => {}
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

    /// A disk as this ring names it.
    pub(super) fn disk(&mut self, number: usize) -> Option<File> {
        if let Some(Some((_, file))) = self.disks.get(number) {
            return Some(*file);
        }
        let disk = self.shared.disks.get(number)?;
        let file = self.ring.adopt(disk.file().as_raw_fd());
        if self.disks.len() <= number {
            self.disks.resize(number.saturating_add(1), None);
        }
        *self.disks.get_mut(number)? = Some((disk, file));
        Some(file)
    }

    fn forget_disk(&mut self, number: usize) {
        if let Some((_, file)) = self.disks.get_mut(number).and_then(Option::take) {
            self.ring.forget(file);
        }
    }

    /// Whether no new connection is taken any more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Whether the pool is open, and clients may come or came.
    pub(super) fn is_serving(&self) -> bool {
        self.serving
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
