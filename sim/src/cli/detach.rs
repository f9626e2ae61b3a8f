// SPDX-License-Identifier: MIT

//! `rwsnap detach`: takes a pool from the kernel module.

use rwsnap_core::control::{self, Name};

use super::connect::command;
use super::error::Outcome;
use super::locate::connect_attached;
use super::module::Module;
use super::Global;

/// Take a pool from the kernel module; refused as long as a device of it is in use
///
/// All is written and flushed first. The pool is at rest then, and can be served or attached again.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap detach
  rwsnap detach /dev/vg0/save")]
pub(super) struct Detach {
    /// The pool: its name, UUID or save volume; not needed if just one is attached
    #[arg(value_name = "POOL")]
    name: Option<String>,
}

impl Detach {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let pool = self.name.as_deref().or(global.pool.as_deref());
        let mut pool = connect_attached(pool, Module::open())?;
        pool.call(&command(control::Verb::DetachPool, Name::default()), &[]).map(drop)
    }
}
