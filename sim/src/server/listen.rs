// SPDX-License-Identifier: MIT

//! Listening sockets, and the distribution of connections over reactors.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::{umask, Mode};

use crate::store::sockets;
use crate::uring::{Completion, File};

use super::config::Listen;
use super::conn::Phase;
use super::control::Control;
use super::reactor::Reactor;
use super::shared::Message;
use super::token::Token;

/// How long to wait for those who look after a folder of sockets.
const PATIENCE: Duration = Duration::from_secs(2);

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    /// The socket's file, to be removed at the end.
    path: Option<PathBuf>,
    /// Which file that is: it may have been replaced meanwhile.
    inode: Option<(u64, u64)>,
    /// Control clients come here.
    control: bool,
    /// As the ring names it, once it accepts.
    file: Option<File>,
    accepting: bool,
}

impl Listener {
    /// Begins to listen.
    pub(crate) fn open(listen: &Listen, insecure: bool) -> io::Result<Self> {
        let (socket, path) = match listen {
            Listen::Unix(path) => (unix(path)?, Some(path.clone())),
            Listen::Tcp(address) if insecure || address.ip().is_loopback() => {
                let named = |error| named(&error, &address.to_string());
                (TcpListener::bind(address).map_err(named)?.into(), None)
            }
            Listen::Tcp(address) => {
                let text = format!(
                    "{address} is not a loopback address, and NBD knows no password: use an SSH \
                     tunnel to a loopback address or a Unix socket, or add --insecure"
                );
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
            }
        };
        Ok(Self::new(socket, path, false))
    }

    /// Begins to listen for control clients.
    pub(crate) fn control(path: &Path) -> io::Result<Self> {
        let path = path.to_path_buf();
        let socket = unix(&path)?;
        Ok(Self::new(socket, Some(path), true))
    }

    fn new(socket: OwnedFd, path: Option<PathBuf>, control: bool) -> Self {
        let inode = path.as_deref().and_then(inode);
        Self { socket, path, inode, control, file: None, accepting: false }
    }

    /// The address that a TCP listener got.
    pub(crate) fn address(&self) -> Option<std::net::SocketAddr> {
        let copy = self.socket.try_clone().ok()?;
        if self.path.is_some() {
            return None;
        }
        TcpListener::from(copy).local_addr().ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = self.path.as_ref().filter(|path| inode(path) == self.inode) {
            // Somebody else may have removed it; there is nothing to be done about it here.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn named(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {what}: {error}"))
}

/// Device and inode of a file.
fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Listens on a Unix socket that only its owner can reach; one that a dead server left is
/// replaced.
pub(crate) fn unix(path: &Path) -> io::Result<OwnedFd> {
    let name = path.display().to_string();
    // A socket refuses clients between bind and listen: nobody must take it for a dead one's.
    let _folder = path.parent().and_then(|folder| sockets::lock(folder, PATIENCE));
    let mask = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path).or_else(|error| {
        // To connect to what is no socket at all is refused in the same way.
        let stale = error.kind() == io::ErrorKind::AddrInUse
            && is_socket(path)
            && UnixStream::connect(path)
                .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
        if !stale {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        UnixListener::bind(path)
    });
    umask(mask);
    Ok(bound.map_err(|error| named(&error, &name))?.into())
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

impl Reactor {
    /// Lets all listeners accept that do not.
    pub(super) fn listen(&mut self) {
        if !self.is_serving() || self.is_stopping() {
            return;
        }
        for (number, listener) in (0..).zip(&mut self.listeners) {
            if !listener.accepting {
                let raw = listener.socket.as_fd().as_raw_fd();
                let file = *listener.file.get_or_insert_with(|| self.ring.adopt(raw));
                listener.accepting = true;
                self.ring.accept(file, Token::Accept(number).pack());
            }
        }
    }

    /// A connection came, or the accept ended.
    pub(super) fn accepted(&mut self, number: u32, completion: Completion) {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.accepting = completion.more;
        }
        let Some(socket) = completion.socket else {
            // Out of descriptors, perhaps: the next tick tries again.
            tracing::debug!(errno = completion.result.saturating_neg(), "accept");
            return;
        };
        if self.listeners.get(index).is_some_and(|listener| listener.control) {
            self.place_control(socket);
        } else {
            self.place(socket);
        }
        self.listen();
    }

    /// Finds a reactor for a connection.
    fn place(&mut self, socket: OwnedFd) {
        let Some(reactor) = self.shared.admit() else {
            tracing::info!("a client was turned away: there are too many");
            return;
        };
        // It is no TCP socket, or it works without.
        let _ = setsockopt(&socket, sockopt::TcpNoDelay, &true);
        match self.shared.inboxes.get(reactor) {
            Some(inbox) if reactor != self.id => inbox.send(Message::Connection(socket)),
            _ => self.welcome(socket, Phase::Greeting(Box::default())),
        }
    }

    fn place_control(&mut self, socket: OwnedFd) {
        if self.shared.admit_control() {
            self.welcome(socket, Phase::Control(Control::default()));
        } else {
            tracing::info!("a control client was turned away: there are too many");
        }
    }

    /// Ends all accepts and removes the sockets' files.
    pub(super) fn close_listeners(&mut self) {
        for (number, listener) in (0..).zip(&self.listeners) {
            if listener.accepting {
                self.ring.cancel_accept(Token::Accept(number).pack(), Token::Ignore.pack());
            }
        }
        for listener in std::mem::take(&mut self.listeners) {
            if let Some(file) = listener.file {
                self.ring.forget(file);
            }
        }
    }
}
