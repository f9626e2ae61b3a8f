// SPDX-License-Identifier: MIT

//! What a server is told when it starts.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use rwsnap_core::api::Device;

/// An opened file or block device that the server does I/O on.
pub struct Disk {
    /// Keeps the descriptor, and with it the lock, for as long as the server runs.
    file: Box<dyn AsFd + Send + Sync>,
    /// For messages: its path.
    pub name: String,
    /// As it was measured.
    pub device: Device,
}

impl Disk {
    /// From whatever holds the descriptor.
    pub fn new(file: impl AsFd + Send + Sync + 'static, name: String, device: Device) -> Self {
        Self { file: Box::new(file), name, device }
    }
}

impl AsFd for Disk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("name", &self.name).field("device", &self.device).finish()
    }
}

/// Where clients come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    /// A Unix socket, made by the server and removed at its end.
    Unix(PathBuf),
    /// TCP; an address that is not loopback needs [`Config::insecure`].
    Tcp(SocketAddr),
}

/// A disk that is served as it is, the core not called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plain {
    /// Name of the export.
    pub name: String,
    /// Which of [`Config::disks`].
    pub disk: usize,
    /// Refuse to write.
    pub read_only: bool,
}

/// How much a server may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// NBD connections at once.
    pub connections: u32,
    /// Requests under way at once for one connection.
    pub requests: u32,
    /// Bytes of buffers that one connection may hold beyond what is kept for it.
    pub connection_bytes: u32,
    /// Bytes of buffers that connections share.
    pub shared_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 100, requests: 128, connection_bytes: 8 << 20, shared_bytes: 32 << 20 }
    }
}

/// All that a server is told.
pub struct Config {
    /// The files and devices.
    pub disks: Vec<Disk>,
    /// Disks to be served as they are.
    pub plain: Vec<Plain>,
    /// Where clients come from.
    pub listen: Vec<Listen>,
    /// Allow TCP beyond loopback: NBD knows no password.
    pub insecure: bool,
    /// Threads, each with its own ring; at least one.
    pub reactors: usize,
    /// How much it may use.
    pub limits: Limits,
    /// Called once, when clients can come, with the URI of each export at each listener.
    pub ready: Box<dyn FnOnce(&[String]) + Send>,
}
