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

/// Make a read-only block device of a snapshot, if it has none, and print its path
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

/// The block device that the snapshot has now.
fn expose(pool: &mut Connection, snapshot: Name) -> Outcome<DeviceRow> {
    if let Some(row) = pool.devices()?.into_iter().find(|row| row.name == snapshot) {
        return Ok(row);
    }
    let answer = pool.call(&command(control::Verb::Expose, snapshot), &[])?;
    let row = answer.rows::<DeviceRow>().pop();
    row.ok_or_else(|| Failure::new(format!("nothing was told about `{}`", snapshot.text())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::module::fake::{name, Fake, Pool};
    use rwsnap_core::control::rows::{KIND_PRODUCTION, KIND_SNAPSHOT};
    use rwsnap_core::control::Verb;

    #[test]
    fn a_snapshot_is_exposed_once_and_hidden() {
        let pool = Pool::new("tank", 1).with("prod", KIND_PRODUCTION).with("prod@a", KIND_SNAPSHOT);
        let fake = Fake::of(&[pool]);
        let mut pool =
            connect_attached(Some("tank"), Module::Open(Box::new(fake.clone()))).unwrap();
        for _ in 0..2 {
            let row = expose(&mut pool, name("prod@a")).unwrap();
            let wanted = serde_json::json!({
                "name": "prod@a", "type": "snapshot", "node": "/dev/rwsnap1", "major": 254,
                "minor": 1, "open": 0, "read_only": true,
            });
            assert_eq!(serde_json::to_value(Device::from(&row)).unwrap(), wanted);
        }
        let hide = |text: &str| command(Verb::Hide, name(text));
        pool.call(&hide("prod@a"), &[]).unwrap();
        let said = pool.call(&hide("prod@b"), &[]).unwrap_err().message;
        assert!(said.starts_with("cannot hide `prod@b`: `prod@b` has no block device"), "{said}");
        assert_eq!(fake.sent(), [Verb::Expose, Verb::Hide, Verb::Hide]);
    }
}
