// SPDX-License-Identifier: MIT

//! `rwsnap serve`: the server of a pool, in the foreground until it is stopped.

use std::path::PathBuf;

use rwsnap_core::control::Name;

use super::args::{self, Located};
use super::error::{Failure, Outcome};
use super::Global;

/// Serve a pool over NBD until it is stopped
///
/// Prints a URI for each volume and snapshot, then the line `rwsnap: ready`. Volumes and snapshots
/// that are made later are served under their names as well. SIGTERM and `rwsnap stop` end it in
/// order.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap serve save.img
  rwsnap serve save.img --nbd unix:/tmp/disk.sock --nbd tcp:localhost:10809
  rwsnap serve /dev/vg0/save --production db=/dev/vg1/db")]
pub(super) struct Serve {
    /// The save volume
    #[arg(value_name = "SAVE")]
    save: PathBuf,
    /// Where a production volume is now, if it moved
    #[arg(long, value_name = "NAME=PATH", value_parser = args::located)]
    production: Vec<Located>,
    /// Where NBD clients come from: unix:PATH or tcp:HOST:PORT; a socket beside the control socket
    /// if not given
    #[arg(long, value_name = "ADDRESS")]
    nbd: Vec<String>,
    /// The control socket; in /run/rwsnap, or where this user may make sockets, if not given
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Threads that serve
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    reactors: u16,
    /// Memory for the cache of metadata
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = args::size)]
    cache: u64,
    /// Go through the page cache instead of around it (O_DIRECT)
    #[arg(long)]
    buffered: bool,
    /// Use a production volume although it was changed while rwsnap did not look: its snapshots
    /// show the changes wherever they hold no copy
    #[arg(long, value_name = "NAME", value_parser = args::name)]
    trust: Vec<Name>,
    /// Allow TCP beyond this machine: NBD knows no passwords
    #[arg(long)]
    insecure: bool,
}

impl Serve {
    pub(super) fn run(self, _global: &Global) -> Outcome {
        Err(Failure::new(format!("this build has no server ({self:?})")))
    }
}
