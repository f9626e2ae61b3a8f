// SPDX-License-Identifier: MIT

//! Control clients: a length and a command in, a length and a reply out.
//!
//! What the core knows goes to the core. Reading, writing and flushing a volume, and what concerns
//! the server itself, is done here; a read or write becomes a request like an NBD client's, with
//! the same bounds on memory.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rwsnap_core::control::{
    Command, Item, Name, PropertyRow, Refusal, Reply, Verb, ITEMS_MAX, MAGIC, VERSION,
};
use rwsnap_core::fault::Fault;
use rwsnap_core::units::Dev;
use zerocopy::{FromBytes, IntoBytes};

use crate::nbd::{self, NbdError, Request};
use crate::store::{self, prepare};
use crate::uring::Span;

use super::conn::{Conn, Out};
use super::cookie::Cookie;
use super::pool::disk_of;
use super::reactor::Reactor;
use super::volume::Volume;
use super::work::{Failure, Work};

/// Bytes that one command reads or writes at most.
const DATA_MAX: usize = 1 << 20;

/// Bytes of a command at most.
const COMMAND_MAX: usize = size_of::<Command>() + ITEMS_MAX * size_of::<Item>() + DATA_MAX;

/// Bytes of a reply that go into one piece of the outbox.
const PIECE: usize = 8 << 10;

/// The key of the item of `Add` that says where the volume is.
const PATH_KEY: &str = "path";

/// What has come of a command, and what is done about it.
#[derive(Default)]
pub(crate) struct Control {
    /// The length, then the command, as far as it has come.
    kept: Vec<u8>,
    /// Bytes of the command's data that went into buffers.
    taken: usize,
    /// The core has it.
    waiting: bool,
    /// The device that the core's answer decides over.
    pending: Option<Pending>,
}

/// A production that comes or goes with the core's answer.
#[derive(Clone, Copy, Debug)]
enum Pending {
    Added(Dev),
    Removed(Dev),
}

impl Control {
    /// Bytes that are missing from what is known to come.
    fn missing(&self) -> Result<usize, Refusal> {
        let Some(head) = self.kept.first_chunk::<4>() else { return Ok(4 - self.kept.len()) };
        let len = usize::try_from(u32::from_le_bytes(*head)).unwrap_or(usize::MAX);
        if len < size_of::<Command>() || len > COMMAND_MAX {
            return Err(Refusal::Malformed);
        }
        Ok((len + 4).saturating_sub(self.kept.len()))
    }

    /// The command and what is behind it, once all has come.
    fn command(&self) -> Option<(Command, &[u8])> {
        let (command, rest) = Command::read_from_prefix(self.kept.get(4..)?).ok()?;
        Some((command, rest))
    }

    /// Bytes of data to be written that are not in buffers yet.
    pub(crate) fn data(&self) -> &[u8] {
        let first = 4 + size_of::<Command>() + self.taken;
        self.kept.get(first..).unwrap_or(&[])
    }

    /// So many bytes of data went into a buffer.
    pub(crate) fn took(&mut self, bytes: u32) {
        self.taken += usize::try_from(bytes).unwrap_or(0);
    }
}

/// A reply that says this.
fn reply(refusal: Refusal, count: u32, row_bytes: u32) -> Reply {
    Reply {
        magic: MAGIC.into(),
        version: VERSION.into(),
        refusal: (refusal as u16).into(),
        count: count.into(),
        row_bytes: row_bytes.into(),
        next: u64::MAX.into(),
        value: 0.into(),
    }
}

/// What a request's failure is called here.
fn refusal(failure: &Failure) -> Refusal {
    if failure.fault == Some(Fault::Lost) {
        return Refusal::Lost;
    }
    match failure.error {
        NbdError::NoSpc => Refusal::NoSpace,
        NbdError::NoMem => Refusal::NoMemory,
        NbdError::Perm => Refusal::WrongKind,
        NbdError::Inval => Refusal::Malformed,
        _ => Refusal::Io,
    }
}

/// What is done about a command.
enum Way {
    /// Answered at once.
    Said(Reply, Vec<u8>),
    /// A request on a volume.
    Work(nbd::Command),
    /// The core answers.
    Core(Vec<u8>),
}

impl Reactor {
    /// Goes on with a control client; false if there is nothing to be done now.
    pub(super) fn serve_control(&mut self, id: u32) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        let (unread, idle) = (conn.unread(), conn.out.is_empty());
        let Some(control) = conn.control() else { return false };
        if control.waiting || !idle {
            return false;
        }
        let missing = match control.missing() {
            Ok(missing) => missing,
            Err(_) => {
                tracing::info!("a control client does not speak our language");
                self.leave(id);
                return false;
            }
        };
        if missing == 0 {
            self.obey(id);
            return true;
        }
        let want = missing.min(usize::try_from(unread.len()).unwrap_or(0));
        let before = control.kept.len();
        control.kept.resize(before + want, 0);
        let room = control.kept.get_mut(before..).unwrap_or_default();
        self.arena.read(unread, room);
        conn.consume(u32::try_from(want).unwrap_or(0));
        want > 0
    }

    /// Carries out the command that has come.
    fn obey(&mut self, id: u32) {
        let Some(control) = self.conns.get_mut(id).and_then(Conn::control) else { return };
        let Some((command, rest)) = control.command() else { return self.leave(id) };
        let rest = rest.to_vec();
        match self.way(id, &command, &rest) {
            Ok(Way::Said(reply, rows)) => self.answer_control(id, &reply, &rows, Span::default()),
            Ok(Way::Work(doing)) => self.begin_work(id, &command, doing),
            Ok(Way::Core(bytes)) => {
                let cookie = Cookie::new(self.id, id, Span::default()).pack();
                self.desk.commands.push((cookie, bytes));
                let Some(conn) = self.conns.get_mut(id) else { return };
                // The core's answer names the connection: it must not be let go before.
                conn.requests += 1;
                if let Some(control) = conn.control() {
                    control.waiting = true;
                }
            }
            Err(why) => self.answer_control(id, &reply(why, 0, 0), &[], Span::default()),
        }
    }

    fn way(&mut self, id: u32, command: &Command, rest: &[u8]) -> Result<Way, Refusal> {
        let whole = || [command.as_bytes(), rest].concat();
        if command.magic.get() != MAGIC || command.version.get() != VERSION {
            return Err(Refusal::Malformed);
        }
        let len = usize::try_from(command.limit.get()).unwrap_or(usize::MAX);
        match Verb::from_number(command.verb.get()).ok_or(Refusal::Malformed)? {
            Verb::Stop => {
                self.shared.stop();
                Ok(Way::Said(reply(Refusal::None, 0, 0), Vec::new()))
            }
            Verb::Exports => Ok(self.exports()),
            Verb::Read if len <= DATA_MAX => Ok(Way::Work(nbd::Command::Read)),
            Verb::Write if len == rest.len() => Ok(Way::Work(nbd::Command::Write { fua: false })),
            Verb::Read | Verb::Write => Err(Refusal::Malformed),
            Verb::Flush => Ok(Way::Work(nbd::Command::Flush)),
            Verb::Add => self.add(id, command, rest),
            Verb::Remove => {
                let pool = self.pool().ok_or(Refusal::Malformed)?;
                let all = pool.core().productions();
                let gone = all.iter().find(|p| p.name == command.name.text());
                self.note_pending(id, gone.map(|p| Pending::Removed(p.dev)));
                Ok(Way::Core(whole()))
            }
            _ => Ok(Way::Core(whole())),
        }
    }

    /// The names of all exports with their URIs.
    fn exports(&self) -> Way {
        let mut rows = Vec::new();
        if let Some(pool) = self.pool() {
            pool.core().names(&mut |export| {
                for address in &self.shared.addresses {
                    let (uri, mut value) = (address.uri(export), [0; 192]);
                    let room = value.get_mut(..uri.len()).filter(|_| uri.len() < 192);
                    if let (Some(room), Some(key)) = (room, Name::new(export.as_bytes())) {
                        room.copy_from_slice(uri.as_bytes());
                        rows.push(PropertyRow { key, value });
                    }
                }
            });
        }
        let count = u32::try_from(rows.len()).unwrap_or(0);
        let width = u32::try_from(size_of::<PropertyRow>()).unwrap_or(0);
        Way::Said(reply(Refusal::None, count, width), rows.as_bytes().to_vec())
    }

    /// Opens the volume of a new production, and tells the core its number and size. If that fails,
    /// the client is told what is wrong with it.
    fn add(&mut self, id: u32, command: &Command, rest: &[u8]) -> Result<Way, Refusal> {
        let pool = self.pool().ok_or(Refusal::Malformed)?;
        let items = <[Item]>::ref_from_bytes(rest).map_err(|_| Refusal::Malformed)?;
        let path = items.iter().find(|item| item.name.text() == PATH_KEY);
        let path = path.map(|item| item.value.split(|&b| b == 0).next().unwrap_or_default());
        let path = Path::new(std::ffi::OsStr::from_bytes(path.ok_or(Refusal::Malformed)?));
        let block = pool.core().block();
        let fit = |volume: store::Volume| {
            prepare::check_new(&volume, block).map(|()| volume).map_err(|e| e.to_string())
        };
        let volume = match (pool.open)(path).and_then(fit) {
            Ok(volume) => volume,
            Err(why) => {
                let bytes = u32::try_from(why.len()).unwrap_or(0);
                return Ok(Way::Said(reply(Refusal::Io, bytes, 1), why.into_bytes()));
            }
        };
        let known = pool.core().productions();
        let used = known.iter().map(|p| disk_of(p.dev) + 1).max().unwrap_or(1);
        let number = used.max(self.shared.disks.len());
        let dev = Dev(u16::try_from(number).map_err(|_| Refusal::NoMemory)?);
        let mut command = *command;
        command.value = u64::from(dev.0).into();
        command.limit = volume.device().size.into();
        self.shared.disks.put(number, Arc::new(volume));
        self.note_pending(id, Some(Pending::Added(dev)));
        Ok(Way::Core([command.as_bytes(), rest].concat()))
    }

    fn note_pending(&mut self, id: u32, pending: Option<Pending>) {
        if let Some(control) = self.conns.get_mut(id).and_then(Conn::control) {
            control.pending = pending;
        }
    }

    /// Opens the volume and begins a request on it.
    fn begin_work(&mut self, id: u32, command: &Command, doing: nbd::Command) {
        let write = doing != nbd::Command::Read;
        let entered = self.pool().ok_or(Refusal::Malformed).and_then(|pool| {
            let (opened, fast) = pool.core().enter(command.name.bytes(), write)?;
            let (size, read_only) = (opened.size, opened.read_only);
            pool.poke();
            Ok(Volume::Pooled { handle: opened.handle, fast, size, read_only })
        });
        let volume = match entered {
            Ok(volume) => volume,
            Err(why) => return self.answer_control(id, &reply(why, 0, 0), &[], Span::default()),
        };
        let (at, len) = (command.value.get(), u32::try_from(command.limit.get()).unwrap_or(0));
        let len = if doing == nbd::Command::Flush { 0 } else { len };
        let fits = self.fits(&volume, at, len, write);
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.volume = Some(volume);
        if let Err(why) = fits {
            return self.answer_control(id, &reply(why, 0, 0), &[], Span::default());
        }
        conn.requests += 1;
        if let Some(control) = conn.control() {
            control.waiting = true;
        }
        let request = Request { cookie: 0, command: doing, at, len };
        conn.current = Some(self.works.insert(Work::new(id, request)));
    }

    /// What the rules of NBD see to for its clients.
    fn fits(&self, volume: &Volume, at: u64, len: u32, write: bool) -> Result<(), Refusal> {
        let Volume::Pooled { size, read_only, .. } = volume else { return Err(Refusal::Malformed) };
        let block = self.pool().map_or(512, |pool| u64::from(pool.core().block()));
        let inside = at.checked_add(u64::from(len)).is_some_and(|end| end <= *size);
        if write && *read_only {
            return Err(Refusal::WrongKind);
        }
        let aligned = (at | u64::from(len)) & block.wrapping_sub(1) == 0;
        if inside && aligned {
            Ok(())
        } else {
            Err(Refusal::Malformed)
        }
    }

    /// The request of a control client is over.
    pub(super) fn answer_work(&mut self, id: u32, error: Option<Failure>) {
        let said = match error {
            None => reply(Refusal::None, 0, 0),
            Some(failure) => reply(refusal(&failure), 0, 0),
        };
        self.answer_control(id, &said, &[], Span::default());
    }

    /// The head of a reply with data: the data itself follows piece by piece.
    pub(super) fn head_of_data(len: u32) -> Vec<u8> {
        let head = reply(Refusal::None, len, 1);
        let bytes = u32::try_from(size_of::<Reply>()).unwrap_or(0).saturating_add(len);
        [&bytes.to_le_bytes()[..], head.as_bytes()].concat()
    }

    /// The core has answered.
    pub(super) fn replied(&mut self, id: u32, bytes: &[u8]) {
        let done = Reply::read_from_prefix(bytes).is_ok_and(|(head, _)| head.refusal.get() == 0);
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.requests = conn.requests.saturating_sub(1);
        let pending = conn.control().and_then(|control| control.pending.take());
        match (pending, done) {
            (Some(Pending::Added(dev)), false) | (Some(Pending::Removed(dev)), true) => {
                self.shared.forget_disk(disk_of(dev));
            }
            _ => {}
        }
        let len = u32::try_from(bytes.len()).unwrap_or(0);
        self.say(id, &len.to_le_bytes(), Span::default());
        self.say(id, bytes, Span::default());
        self.end_command(id);
    }

    fn answer_control(&mut self, id: u32, head: &Reply, rows: &[u8], data: Span) {
        let len = u32::try_from(size_of::<Reply>() + rows.len()).unwrap_or(0);
        self.say(id, &[&len.to_le_bytes()[..], head.as_bytes(), rows].concat(), data);
        self.end_command(id);
    }

    /// The command is answered: the next one may come.
    pub(super) fn end_command(&mut self, id: u32) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if let Some(control) = conn.control() {
            *control = Control::default();
        }
        if let (Some(volume), Some(pool)) = (conn.volume.take(), self.pool()) {
            pool.detach(&volume);
        }
        self.touch(id);
    }

    /// Queues bytes, in pieces that fit into a message, and data behind them.
    pub(super) fn say(&mut self, id: u32, bytes: &[u8], data: Span) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.broken {
            return self.give(id, data);
        }
        conn.out.heads.extend_from_slice(bytes);
        for piece in bytes.chunks(PIECE) {
            let head = u32::try_from(piece.len()).unwrap_or(0);
            conn.out.queue.push_back(Out { head, data: Span::default() });
        }
        if let Some(last) = conn.out.queue.back_mut().filter(|_| !bytes.is_empty()) {
            last.data = data;
        } else {
            conn.out.queue.push_back(Out { head: 0, data });
        }
        self.touch(id);
    }
}
