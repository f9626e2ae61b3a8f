// SPDX-License-Identifier: MIT

//! The server: a thread a connection around the protocol machines, requests one after the other.
//!
//! Replies are sent when all that has come was carried out. A flush in the same batch as a write
//! was sent by a client that cannot know the write to be done, and therefore does not cover it.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::disk::{Data, Disk};
use super::rack::Rack;
use crate::nbd::reply::{status_bytes, REPLY_MAX};
use crate::nbd::{
    Command, Event, Export, Exports, Handshake, Inlet, NbdError, Progress, Refusal, Replies,
    Request, Session, CONNECTIONS_MAX, HANDSHAKE_TIME,
};

/// Bytes that are received at once.
const BATCH: usize = 256 << 10;

/// Bytes of replies that wait until all of a batch was carried out.
const REPLIES: usize = 4 << 20;

/// What a client is told when an image fails.
const WHY: &str = "the image behind the disk failed";

/// A connection: its socket, to break it, and its thread.
type Link = (UnixStream, JoinHandle<()>);

/// What the threads share.
pub(super) struct Shared {
    rack: Mutex<Rack>,
    exports: Names,
    /// None when no more are to come.
    links: Mutex<Option<Vec<Link>>>,
}

impl Shared {
    /// Nobody is connected yet.
    pub(super) fn new(rack: Rack) -> Self {
        let exports = Names(rack.exports().to_vec());
        Self { rack: Mutex::new(rack), exports, links: Mutex::new(Some(Vec::new())) }
    }

    /// The disks, for one step.
    pub(super) fn rack(&self) -> MutexGuard<'_, Rack> {
        self.rack.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts connections, in a thread of its own.
    pub(super) fn listen(self: &Arc<Self>, socket: OwnedFd) {
        let (shared, listener) = (Arc::clone(self), UnixListener::from(socket));
        thread::spawn(move || {
            let accepted = |stream| Arc::clone(&shared).accept(stream);
            listener.incoming().map_while(Result::ok).map_while(accepted).for_each(drop);
        });
    }

    /// Takes one more connection; none if no more are to come. Too many are hung up on.
    fn accept(self: Arc<Self>, stream: UnixStream) -> Option<()> {
        let shared = Arc::clone(&self);
        let mut guard = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let links = guard.as_mut()?;
        links.retain(|(_, thread)| !thread.is_finished());
        if let Some(copy) = stream.try_clone().ok().filter(|_| links.len() < CONNECTIONS_MAX) {
            links.push((copy, thread::spawn(move || serve(stream, &shared))));
        }
        Some(())
    }

    /// Breaks all connections. What reached this side of them is still carried out.
    pub(super) fn disconnect(&self) {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner).take();
        let links = links.unwrap_or_default();
        for (stream, _) in &links {
            // It fails if the client was faster.
            let _ = stream.shutdown(Shutdown::Both);
        }
        for (_, thread) in links {
            let _ = thread.join();
        }
    }
}

/// The exports by name; a lone one is the default.
struct Names(Vec<Export>);

impl Exports for Names {
    fn list(&self, after: Option<&str>, visit: &mut dyn FnMut(&str, &str) -> bool) {
        let mut names: Vec<&str> = self.0.iter().map(|export| export.name.as_str()).collect();
        names.sort_unstable();
        names.retain(|name| after.is_none_or(|after| *name > after));
        let _ = names.into_iter().all(|name| visit(name, ""));
    }

    fn find(&self, name: &str) -> Result<Export, Refusal> {
        let found = match self.0.as_slice() {
            [lone] if name.is_empty() => Some(lone),
            all => all.iter().find(|export| export.name == name),
        };
        found.cloned().ok_or(Refusal::Unknown)
    }
}

/// A connection, from its first byte to its last.
fn serve(mut stream: UnixStream, shared: &Shared) {
    let served = shake_hands(&mut stream, &shared.exports).and_then(|begun| match begun {
        Some((session, input)) => Connection::new(stream, shared, &session).run(&session, input),
        None => Ok(()),
    });
    if let Err(error) = served {
        tracing::debug!("a connection broke: {error}");
    }
}

/// Ends with a session and what was received behind it; with none if the client wants none.
fn shake_hands(stream: &mut UnixStream, exports: &Names) -> io::Result<Option<(Session, Vec<u8>)>> {
    stream.set_read_timeout(Some(HANDSHAKE_TIME))?;
    let mut shake = Handshake::new();
    let mut input = Vec::new();
    loop {
        let (consumed, progress) = shake.feed(&input, exports);
        input.drain(..consumed);
        stream.write_all(shake.output())?;
        shake.sent(shake.output().len());
        match progress {
            Progress::Receive if receive(stream, &mut input)? == 0 => return Ok(None),
            Progress::Receive | Progress::Send => {}
            Progress::Close(_) => return Ok(None),
            Progress::Ready(session) => {
                stream.set_read_timeout(None)?;
                return Ok(Some((session, input)));
            }
        }
    }
}

/// Receives behind what there is; gives how much.
fn receive(stream: &mut UnixStream, input: &mut Vec<u8>) -> io::Result<usize> {
    let old = input.len();
    input.resize(old + BATCH, 0);
    let received = stream.read(&mut input[old..]);
    input.truncate(old + *received.as_ref().unwrap_or(&0));
    received
}

/// The transmission phase of a connection.
struct Connection<'a> {
    stream: UnixStream,
    shared: &'a Shared,
    disk: usize,
    replies: Replies,
    /// Replies that wait to be sent.
    out: Vec<u8>,
    /// The writes among what they answer.
    writes: Vec<u64>,
}

impl<'a> Connection<'a> {
    fn new(stream: UnixStream, shared: &'a Shared, session: &Session) -> Self {
        let disk = usize::try_from(session.export.id).unwrap_or(usize::MAX);
        let replies = Replies::new(session);
        Self { stream, shared, disk, replies, out: Vec::new(), writes: Vec::new() }
    }

    /// Until the client goes.
    fn run(mut self, session: &Session, mut input: Vec<u8>) -> io::Result<()> {
        let mut inlet = Inlet::new(session);
        let mut writing: Option<(Request, Vec<u8>)> = None;
        let mut at = 0;
        loop {
            let (consumed, event) = inlet.next(&input[at..]);
            let bytes = &input[at..at + consumed];
            at += consumed;
            match event {
                Event::Need => {
                    self.send()?;
                    input.drain(..at);
                    at = 0;
                    if receive(&mut self.stream, &mut input)? == 0 {
                        return Ok(());
                    }
                }
                Event::Request(request) if request.payload() > 0 => {
                    writing = Some((request, Vec::new()));
                }
                Event::Request(request) => self.answer(&request, Vec::new())?,
                Event::Payload { last } => {
                    if let Some((_, data)) = &mut writing {
                        data.extend_from_slice(bytes);
                    }
                    if let Some((request, data)) = writing.take_if(|_| last) {
                        self.answer(&request, data)?;
                    }
                }
                Event::Refused(no) => {
                    self.reply(|r, out| r.failed(no.cookie, no.error, no.why, out));
                }
                Event::Ended(_) => return self.send(),
            }
        }
    }

    /// Sends the replies that wait. Without power there are none.
    fn send(&mut self) -> io::Result<()> {
        let done = match self.shared.rack().disk(self.disk) {
            Some(disk) => disk.done(&self.writes),
            None => {
                self.out.clear();
                Ok(())
            }
        };
        self.writes.clear();
        // What the replies promise does not hold: the client learns it as one does of a dead disk.
        done?;
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Appends a reply.
    fn reply(&mut self, encode: impl FnOnce(&Replies, &mut [u8; REPLY_MAX]) -> usize) {
        let mut reply = [0; REPLY_MAX];
        let bytes = encode(&self.replies, &mut reply);
        self.out.extend_from_slice(&reply[..bytes]);
    }

    /// Carries a request out, and appends its reply.
    fn answer(&mut self, request: &Request, payload: Vec<u8>) -> io::Result<()> {
        let (cookie, zeros) = (request.cookie, Data::Zeros(request.len.into()));
        let mut outcome = Ok(());
        match request.command {
            Command::Read => return self.read(request),
            Command::BlockStatus { one } => {
                let mut status = vec![0; status_bytes(1)];
                let bytes = self.replies.block_status(request, one, [], &mut status);
                self.out.extend_from_slice(&status[..bytes.unwrap_or(0)]);
                return Ok(());
            }
            Command::Write { fua } => self.write(request.at, Data::Bytes(payload), fua),
            Command::Zero { fua, .. } | Command::Trim { fua } => self.write(request.at, zeros, fua),
            Command::Flush => {
                outcome = self.shared.rack().disk(self.disk).map_or(Ok(()), Disk::flush);
            }
            Command::Cache => {}
        }
        match outcome {
            Ok(()) => self.reply(|replies, out| replies.done(cookie, out)),
            Err(_) => self.reply(|replies, out| replies.failed(cookie, NbdError::Io, WHY, out)),
        }
        Ok(())
    }

    /// A write arrives; it is done when its reply is sent.
    fn write(&mut self, at: u64, data: Data, fua: bool) {
        self.writes.extend(self.shared.rack().write(self.disk, at, data, fua));
    }

    /// Reads; does not let replies pile up.
    fn read(&mut self, request: &Request) -> io::Result<()> {
        let mut data = vec![0; usize::try_from(request.len).unwrap_or(0)];
        let read = match self.shared.rack().disk(self.disk) {
            Some(disk) => disk.read(request.at, &mut data),
            None => return Ok(()),
        };
        if read.is_err() {
            self.reply(|replies, out| replies.failed(request.cookie, NbdError::Io, WHY, out));
            return Ok(());
        }
        self.reply(|replies, out| replies.data(request, out));
        self.out.extend_from_slice(&data);
        if self.out.len() > REPLIES {
            self.send()?;
        }
        Ok(())
    }
}
