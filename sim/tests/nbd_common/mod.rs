// SPDX-License-Identifier: MIT

//! A small server around the protocol machines, one thread a connection, volumes in memory; and
//! builders for what a client may say.

#![expect(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::cast_possible_truncation, reason = "small volumes, and numbers cut on purpose")]

pub(crate) mod speak;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::ops::Bound;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use rwsnap::nbd::reply::{Extent, REPLY_MAX};
use rwsnap::nbd::wire::{sentence, state, NbdError};
use rwsnap::nbd::{
    Address, Command, Event, Export, Exports, Handshake, Inlet, Progress, Refusal, Replies,
    Request, Session, HANDSHAKE_TIME,
};
use rwsnap_core::fault::Fault;
use tempfile::TempDir;

/// Granularity of the answers to block status.
const BLOCK: usize = 4096;

/// A volume in memory.
pub(crate) struct Volume {
    pub(crate) export: Export,
    pub(crate) data: Mutex<Vec<u8>>,
    /// Requests that touch this byte fail.
    pub(crate) broken: Option<u64>,
}

/// The volumes of a server, by name; the first is the default.
#[derive(Default)]
pub(crate) struct Volumes(pub(crate) BTreeMap<String, Volume>);

impl Volumes {
    pub(crate) fn add(
        &mut self,
        name: &str,
        data: Vec<u8>,
        read_only: bool,
        min_block: u32,
    ) -> &mut Volume {
        let export = Export {
            id: 0,
            name: name.to_owned(),
            description: format!("the volume {name}"),
            size: data.len() as u64,
            read_only,
            min_block,
            preferred_block: 4096,
        };
        let volume = Volume { export, data: Mutex::new(data), broken: None };
        self.0.entry(name.to_owned()).or_insert(volume)
    }

    pub(crate) fn data(&self, name: &str) -> Vec<u8> {
        self.0[name].data.lock().unwrap().clone()
    }
}

impl Exports for Volumes {
    fn list(&self, after: Option<&str>, visit: &mut dyn FnMut(&str, &str) -> bool) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (name, volume) in self.0.range::<str, _>((from, Bound::Unbounded)) {
            if !visit(name, &volume.export.description) {
                return;
            }
        }
    }

    fn find(&self, name: &str) -> Result<Export, Refusal> {
        let volume = self.0.get(name);
        volume.map(|volume| volume.export.clone()).ok_or(Refusal::Unknown)
    }
}

/// A running server; its threads end with the process.
pub(crate) struct Server {
    pub(crate) volumes: Arc<Volumes>,
    pub(crate) socket: PathBuf,
    pub(crate) dir: TempDir,
}

impl Server {
    pub(crate) fn start(volumes: Volumes) -> Self {
        let dir = tempfile::tempdir().expect("a directory for the socket");
        let socket = dir.path().join("nbd.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let volumes = Arc::new(volumes);
        let shared = Arc::clone(&volumes);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let volumes = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &volumes));
            }
        });
        Self { volumes, socket, dir }
    }

    pub(crate) fn address(&self) -> Address {
        Address::Unix(self.socket.clone())
    }

    pub(crate) fn uri(&self, name: &str) -> String {
        self.address().uri(name)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// A connection, from its first byte to its last. Errors of the socket end it, too.
fn serve(mut stream: UnixStream, volumes: &Volumes) -> Option<()> {
    stream.set_read_timeout(Some(HANDSHAKE_TIME)).ok()?;
    let (session, input) = shake_hands(&mut stream, volumes)?;
    stream.set_read_timeout(None).ok()?;
    let volume = &volumes.0[&session.export.name];
    transmit(stream, &session, volume, input)
}

fn shake_hands(stream: &mut UnixStream, volumes: &Volumes) -> Option<(Session, Vec<u8>)> {
    let mut shake = Handshake::new();
    let mut input = Vec::new();
    loop {
        let (consumed, progress) = shake.feed(&input, volumes);
        input.drain(..consumed);
        stream.write_all(shake.output()).ok()?;
        shake.sent(shake.output().len());
        match progress {
            Progress::Receive => receive(stream, &mut input)?,
            Progress::Send => {}
            Progress::Ready(session) => return Some((session, input)),
            Progress::Close(_) => return None,
        }
    }
}

fn receive(stream: &mut UnixStream, input: &mut Vec<u8>) -> Option<()> {
    let mut bytes = [0; 64 << 10];
    let n = stream.read(&mut bytes).ok().filter(|&n| n > 0)?;
    input.extend(&bytes[..n]);
    Some(())
}

fn transmit(
    mut stream: UnixStream,
    session: &Session,
    volume: &Volume,
    mut input: Vec<u8>,
) -> Option<()> {
    let (mut inlet, replies) = (Inlet::new(session), Replies::new(session));
    let mut writing: Option<(Request, Vec<u8>)> = None;
    let mut out = Vec::new();
    let mut at = 0;
    loop {
        let (consumed, event) = inlet.next(&input[at..]);
        let bytes = &input[at..at + consumed];
        at += consumed;
        match event {
            Event::Need => {
                stream.write_all(&out).ok()?;
                out.clear();
                input.drain(..at);
                at = 0;
                receive(&mut stream, &mut input)?;
            }
            Event::Request(request) if request.payload() > 0 => writing = Some((request, vec![])),
            Event::Request(request) => answer(volume, &replies, &request, &[], &mut out),
            Event::Payload { last } => {
                let (request, data) = writing.as_mut().expect("a write is under way");
                data.extend(bytes);
                if last {
                    assert_eq!(data.len(), request.len as usize);
                    answer(volume, &replies, request, data, &mut out);
                }
            }
            Event::Refused(refused) => {
                let mut reply = [0; REPLY_MAX];
                let n = replies.failed(refused.cookie, refused.error, refused.why, &mut reply);
                out.extend(&reply[..n]);
            }
            Event::Ended(_) => return stream.write_all(&out).ok(),
        }
    }
}

/// Carries a request out and appends its reply.
fn answer(
    volume: &Volume,
    replies: &Replies,
    request: &Request,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    let mut reply = [0; REPLY_MAX];
    let mut data = volume.data.lock().unwrap();
    let range = request.at as usize..request.at as usize + request.len as usize;
    let place = &mut data[range];
    let broken = volume.broken.is_some_and(|at| at.wrapping_sub(request.at) < request.len.into());
    let n = match request.command {
        _ if broken => {
            replies.failed(request.cookie, Fault::Io.into(), sentence(Fault::Io), &mut reply)
        }
        Command::Read => {
            let n = replies.data(request, &mut reply);
            out.extend(&reply[..n]);
            out.extend_from_slice(place);
            return;
        }
        Command::BlockStatus { one } => {
            let mut status = vec![0; 4096];
            let n = replies.block_status(request, one, extents(place), &mut status);
            out.extend(&status[..n.expect("room for descriptors")]);
            return;
        }
        Command::Zero { fast: true, .. } if request.len % 4096 != 0 => {
            replies.failed(request.cookie, NbdError::NotSup, "not fast", &mut reply)
        }
        Command::Write { .. } => {
            place.copy_from_slice(payload);
            replies.done(request.cookie, &mut reply)
        }
        Command::Zero { .. } | Command::Trim { .. } => {
            place.fill(0);
            replies.done(request.cookie, &mut reply)
        }
        Command::Flush | Command::Cache => replies.done(request.cookie, &mut reply),
    };
    out.extend(&reply[..n]);
}

/// Which blocks of the bytes are zeros.
fn extents(bytes: &[u8]) -> impl Iterator<Item = Extent> + '_ {
    bytes.chunks(BLOCK).map(|block| {
        let zero = block.iter().all(|&byte| byte == 0);
        let flags = if zero { state::HOLE | state::ZERO } else { 0 };
        Extent { len: block.len() as u64, flags }
    })
}

/// A deterministic generator (SplitMix64).
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
