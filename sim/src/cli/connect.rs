// SPDX-License-Identifier: MIT

//! A connection to a pool: through the control socket of its server, through the kernel module that
//! has it attached, or by opening it at rest.
//!
//! All carry the same commands and replies (`rwsnap_core::control`). On the socket each is behind
//! its length, a little-endian `u32`; the module takes them in an ioctl.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rwsnap_core::control::{Command, DeviceRow, Item, Name, NameRow, PoolRow, Refusal, Verb};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use crate::store::answer::Answer;
use crate::store::identify::padded_text;
use crate::store::offline::now_ns;

use super::error::{Failure, Outcome};
use super::module::ModuleLink;
use super::refusal::{Blocker, Refused};
use super::rest::AtRest;

/// Bytes that a reply may have at most: more than any server sends.
const REPLY_MAX: usize = 64 << 20;
/// Bytes read or written with one command.
pub const PIECE: usize = 1 << 20;

/// A command of this verb, with the moment and the random bits that new objects need.
#[must_use]
pub fn command(verb: Verb, name: Name) -> Command {
    let mut command = Command::new(verb, name);
    command.time_ns = now_ns().into();
    command.random = uuid::Uuid::new_v4().into_bytes();
    command
}

/// An item that is a name, or a key and its value.
///
/// # Errors
///
/// The value is too long.
pub fn item(name: Name, value: &[u8]) -> Outcome<Item> {
    let mut padded = [0; 192];
    let text = name.text().to_owned();
    let room = padded.get_mut(..value.len()).filter(|_| value.len() < 192);
    let room = room.ok_or_else(|| {
        Failure::new(format!(
            "the value of `{text}` is longer than 191 bytes, the most there can be"
        ))
    })?;
    room.copy_from_slice(value);
    Ok(Item { name, value: padded })
}

/// A pool that can be talked to.
pub struct Connection {
    link: Link,
    /// Where it is, for messages: a socket, a save volume or a control device.
    pub place: PathBuf,
}

enum Link {
    Server(UnixStream),
    Module(Box<ModuleLink>),
    Rest(Box<AtRest>),
}

impl Connection {
    /// Through a server's control socket.
    #[must_use]
    pub fn server(stream: UnixStream, place: PathBuf) -> Self {
        Self { link: Link::Server(stream), place }
    }

    /// Through the kernel module.
    #[must_use]
    pub fn module(link: ModuleLink, place: PathBuf) -> Self {
        Self { link: Link::Module(Box::new(link)), place }
    }

    /// The same, for this pool of the module's from now on.
    #[must_use]
    pub fn on_pool(self, pool: Name) -> Self {
        match self.link {
            Link::Module(link) => Self::module(link.on(pool), self.place),
            link => Self { link, ..self },
        }
    }

    /// By opening the pool.
    #[must_use]
    pub fn at_rest(pool: AtRest, place: PathBuf) -> Self {
        Self { link: Link::Rest(Box::new(pool)), place }
    }

    /// Whether a server runs.
    #[must_use]
    pub fn is_served(&self) -> bool {
        matches!(self.link, Link::Server(_))
    }

    /// Whether the kernel module has the pool.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        matches!(self.link, Link::Module(_))
    }

    /// Whether somebody works on the pool in the background: a server or the module.
    #[must_use]
    pub fn is_driven(&self) -> bool {
        !matches!(self.link, Link::Rest(_))
    }

    /// The block devices of the pool; none but the module makes any.
    pub fn devices(&mut self) -> Outcome<Vec<DeviceRow>> {
        if !self.is_attached() {
            return Ok(Vec::new());
        }
        self.all(command(Verb::Devices, Name::default()))
    }

    /// Carries out a command; the answer may be a refusal.
    pub fn try_call(&mut self, command: &Command, items: &[Item]) -> Outcome<(Refusal, Answer)> {
        self.exchange(command, items, &[])
    }

    /// Carries out a command that has these bytes behind it; a refusal becomes a failure.
    pub fn send(&mut self, command: &Command, bytes: &[u8]) -> Outcome<Answer> {
        let (refusal, answer) = self.exchange(command, &[], bytes)?;
        finish(command, &[], refusal, answer)
    }

    /// Carries out a command; a refusal becomes a failure with its sentences.
    pub fn call(&mut self, command: &Command, items: &[Item]) -> Outcome<Answer> {
        let (refusal, answer) = self.try_call(command, items)?;
        finish(command, items, refusal, answer)
    }

    /// All rows of a verb that gives them in portions.
    pub fn all<T: FromBytes + KnownLayout + Immutable>(
        &mut self,
        mut command: Command,
    ) -> Outcome<Vec<T>> {
        let mut rows = Vec::new();
        loop {
            let answer = self.call(&command, &[])?;
            rows.extend(answer.rows::<T>());
            let next = answer.reply.next.get();
            if next == u64::MAX || next <= command.value.get() {
                return Ok(rows);
            }
            command.value = next.into();
        }
    }

    /// The pool's row.
    pub fn pool(&mut self) -> Outcome<PoolRow> {
        let answer = self.call(&command(Verb::Status, Name::default()), &[])?;
        answer.rows::<PoolRow>().pop().ok_or_else(|| self.nonsense())
    }

    /// The pool's name, or its UUID if it has none.
    #[must_use]
    pub fn pool_name(row: &PoolRow) -> String {
        match padded_text(&row.label) {
            name if name.is_empty() => uuid::Uuid::from_bytes(row.uuid).to_string(),
            name => name,
        }
    }

    /// Reads whole blocks of a volume.
    pub fn read(&mut self, name: Name, bytes: &mut [u8], at: u64) -> Outcome {
        match &mut self.link {
            Link::Rest(rest) => return rest.read(name, bytes, at),
            Link::Module(module) => return module.read(name, bytes, at),
            Link::Server(_) => {}
        }
        let mut place = at;
        for piece in bytes.chunks_mut(PIECE) {
            let mut wanted = command(Verb::Read, name);
            wanted.value = place.into();
            wanted.limit = (piece.len() as u64).into();
            let answer = self.call(&wanted, &[])?;
            if answer.bytes().len() != piece.len() {
                return Err(self.nonsense());
            }
            piece.copy_from_slice(answer.bytes());
            place += piece.len() as u64;
        }
        Ok(())
    }

    /// Writes whole blocks of a volume.
    pub fn write(&mut self, name: Name, bytes: &[u8], at: u64) -> Outcome {
        if let Link::Rest(rest) = &mut self.link {
            return rest.write(name, bytes, at);
        }
        let mut place = at;
        for piece in bytes.chunks(PIECE) {
            let mut wanted = command(Verb::Write, name);
            wanted.value = place.into();
            wanted.limit = (piece.len() as u64).into();
            self.send(&wanted, piece)?;
            place += piece.len() as u64;
        }
        Ok(())
    }

    /// Makes durable what was written to a volume.
    pub fn flush(&mut self, name: Name) -> Outcome {
        match &mut self.link {
            Link::Rest(rest) => rest.flush(name),
            _ => self.call(&command(Verb::Flush, name), &[]).map(drop),
        }
    }

    /// Waits for a while, in which whoever drives it, or here the pool at rest, does its background
    /// work.
    pub fn work(&mut self, time: Duration) -> Outcome {
        match &mut self.link {
            Link::Rest(rest) => rest.work(time),
            Link::Server(_) | Link::Module(_) => {
                std::thread::sleep(time);
                Ok(())
            }
        }
    }

    /// Ends the connection; a pool at rest is closed in order.
    pub fn close(self) -> Outcome {
        match self.link {
            Link::Server(_) => Ok(()),
            Link::Module(module) => module.close(),
            Link::Rest(rest) => rest.close(),
        }
    }

    fn exchange(
        &mut self,
        command: &Command,
        items: &[Item],
        data: &[u8],
    ) -> Outcome<(Refusal, Answer)> {
        let mut command = *command;
        command.count = u32::try_from(items.len()).unwrap_or(u32::MAX).into();
        let mut bytes = command.as_bytes().to_vec();
        bytes.extend_from_slice(items.as_bytes());
        bytes.extend_from_slice(data);
        let reply = match &mut self.link {
            Link::Server(stream) => over_socket(stream, &bytes)
                .map_err(Failure::io(format!("talk to the server at {}", self.place.display())))?,
            Link::Module(module) => module.command(&bytes)?,
            Link::Rest(rest) => rest.command(&command, items, &bytes)?,
        };
        let answer = Answer::parse(&reply).ok_or_else(|| self.nonsense())?;
        Ok((answer.refusal(), answer))
    }

    fn nonsense(&self) -> Failure {
        Failure::new(format!(
            "the answer from {} makes no sense: is its {} of another version?",
            self.place.display(),
            if self.is_attached() { "module" } else { "server" }
        ))
    }
}

/// The answer, unless it is a refusal.
fn finish(command: &Command, items: &[Item], refusal: Refusal, answer: Answer) -> Outcome<Answer> {
    if refusal == Refusal::None {
        return Ok(answer);
    }
    let named: Vec<&str> = items.iter().map(|i| i.name.text()).collect();
    let named = named.join(" ");
    let verb = Verb::from_number(command.verb.get()).unwrap_or(Verb::Status);
    let rows = answer.rows::<NameRow>();
    let blockers: Vec<Blocker> = rows.iter().map(|row| Blocker::new(row, refusal)).collect();
    let lists_objects = matches!(verb, Verb::Snapshot | Verb::Destroy);
    let refused = Refused {
        verb,
        name: if lists_objects { &named } else { command.name.text() },
        other: command.other.text(),
        refusal,
        blockers: &blockers,
        value: answer.reply.value.get(),
    };
    // A server or module that has something to say about it says so itself.
    Err(Failure::new(match (answer.reply.row_bytes.get(), answer.bytes()) {
        (1, said @ [_, ..]) => format!("{}: {}", refused.failed(), String::from_utf8_lossy(said)),
        _ => and_more(refused.text(), answer.more_names()),
    }))
}

/// The sentences, with what the first of them does not name.
fn and_more(text: String, more: u64) -> String {
    if more == 0 {
        return text;
    }
    let (reasons, ways) = text.split_at(text.find('\n').unwrap_or(text.len()));
    format!("{reasons} and {more} more{ways}")
}

/// Sends a command and reads the reply.
fn over_socket(stream: &mut UnixStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let length = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
    stream.write_all(&length.to_le_bytes())?;
    stream.write_all(bytes)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > REPLY_MAX {
        return Err(std::io::Error::other("the reply is longer than any can be"));
    }
    let mut reply = vec![0; length];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}
