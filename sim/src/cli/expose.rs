// SPDX-License-Identifier: MIT

//! `rwsnap expose`: makes a block device of a snapshot.

use rwsnap_core::control::{self, DeviceRow, Name};

use super::args;
use super::connect::{command, Connection};
use super::error::{Failure, Outcome};
use super::locate::connect_attached;
use super::module::{node, Module};
use super::output::{print, print_json};
use super::view::Device;
use super::Global;

/// Make a read-only block device of a snapshot, and print its path
///
/// Volumes have theirs from the beginning; snapshots get one on request alone. The pool has to be
/// attached by the kernel module; a server exports all snapshots.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap expose prod@monday --json")]
pub(super) struct Expose {
    /// The snapshot
    #[arg(value_name = "VOL@SNAP", value_parser = args::snapshot)]
    snapshot: Name,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Expose {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let mut pool = connect_attached(global.pool.as_deref(), Module::open())?;
        let row = expose(&mut pool, self.snapshot)?;
        if self.json {
            return print_json(&Device::from(&row));
        }
        print(&format!("{}\n", node(&row).display()))
    }
}

/// The block device that the snapshot got.
fn expose(pool: &mut Connection, snapshot: Name) -> Outcome<DeviceRow> {
    let answer = pool.call(&command(control::Verb::Expose, snapshot), &[])?;
    let row = answer.rows::<DeviceRow>().pop();
    row.ok_or_else(|| Failure::new(format!("nothing was told about `{}`", snapshot.text())))
}
