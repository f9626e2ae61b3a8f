// SPDX-License-Identifier: MIT

//! What a server is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rwsnap_core::api::Device;

use crate::store::engine::{Engine, NotOpened, Production};
use crate::store::Volume;

/// Where clients come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    /// A Unix socket, made by the server and removed at its end.
    Unix(PathBuf),
    /// TCP; an address that is not loopback needs [`Config::insecure`].
    Tcp(SocketAddr),
}

/// What is served.
pub enum Served {
    /// Disks as they are, the core not called.
    Plain(Vec<Plain>),
    /// A pool.
    Pool(Box<Pool>),
}

/// A disk that is served as it is.
#[derive(Debug)]
pub struct Plain {
    /// Name of the export.
    pub name: String,
    /// The disk; it may be served under several names.
    pub disk: Arc<Volume>,
    /// Refuse to write.
    pub read_only: bool,
}

/// Finds the volume of a production, and says whether to trust that it was not changed.
pub type Find = Box<dyn FnMut(&Production) -> Result<(Volume, bool), String> + Send>;

/// Begins to open a pool on a save volume, with room for so many records in a delta at least.
pub type Begin = Box<dyn FnMut(u32, Device) -> Result<Box<dyn Engine + Send>, NotOpened> + Send>;

/// A pool that is to be opened and served.
pub struct Pool {
    /// Begins to open it.
    pub begin: Begin,
    /// The save volume.
    pub save: Volume,
    /// Finds its productions.
    pub find: Find,
    /// Opens the volume of a production that is added while the pool is served.
    pub open: fn(&std::path::Path) -> Result<Volume, String>,
    /// Bytes in a chunk.
    pub chunk: u32,
    /// Copy units that the core is told of.
    pub copy_units: u32,
    /// The control socket.
    pub control: PathBuf,
}

/// How long a reactor looks for work before it sleeps if nobody says, in microseconds.
pub const POLL_US: u32 = 50;

/// How much a server may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at once, of NBD and control clients together.
    pub connections: u32,
    /// Requests under way at once for one connection.
    pub requests: u32,
    /// Bytes of buffers that one connection may hold beyond what is kept for it.
    pub connection_bytes: u32,
    /// Bytes of buffers that connections share.
    pub shared_bytes: u32,
    /// What each flush of a device takes longer: zero, but for measurements.
    pub flush_delay: Duration,
    /// How long a reactor may look for work before it sleeps; zero: not at all.
    pub poll: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 100,
            requests: 128,
            connection_bytes: 8 << 20,
            shared_bytes: 32 << 20,
            flush_delay: Duration::ZERO,
            poll: Duration::from_micros(POLL_US.into()),
        }
    }
}

/// Called once, when clients can come, with the URI of each export at each listener.
pub type Ready = Box<dyn FnOnce(&[String]) + Send>;

/// All that a server is told.
pub struct Config {
    /// What is served.
    pub served: Served,
    /// Where NBD clients come from.
    pub listen: Vec<Listen>,
    /// Allow TCP beyond loopback: NBD knows no password.
    pub insecure: bool,
    /// Threads, each with its own ring; at least one.
    pub reactors: usize,
    /// How much it may use.
    pub limits: Limits,
    /// Called when clients can come.
    pub ready: Ready,
}
