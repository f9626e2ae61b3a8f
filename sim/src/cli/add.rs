// SPDX-License-Identifier: MIT

//! `rwsnap add`: one more production volume for the pool.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rwsnap_core::control::{self, Item, Refusal};

use crate::store::device::kind_of;
use crate::store::module::PATH_KEY;

use super::args::{self, Located};
use super::connect::{command, item};
use super::error::{Failure, Outcome};
use super::module::require_block;
use super::refusal::{Blocker, Refused};
use super::Global;

/// Add a production volume to the pool; its data is not touched
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap add wal=/dev/vg0/wal")]
pub(super) struct Add {
    /// Its name, and the file or device that it is
    #[arg(value_name = "NAME=PATH", value_parser = args::located)]
    volume: Located,
}

impl Add {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let name = self.volume.name.clone().unwrap_or_default();
        let name = args::new_volume(&name).map_err(Failure::usage)?;
        let add = command(control::Verb::Add, name);
        let items = [path_item(&self.volume.path)?];
        let taken = global.with(|pool| {
            if pool.is_attached() {
                require_block(&self.volume.path)?;
            }
            // A server opens the volume first, and would say that it is in use.
            let (refusal, _) = pool.try_call(&command(control::Verb::Info, name), &[])?;
            if refusal == Refusal::None {
                return Ok(true);
            }
            pool.call(&add, &items).map(|_| false)
        });
        if !taken? {
            return Ok(());
        }
        let name = name.text();
        let (verb, refusal) = (control::Verb::Add, Refusal::Exists);
        let blockers = [Blocker { name: name.to_owned(), why: refusal }];
        let refused = Refused { verb, name, other: "", refusal, blockers: &blockers, value: 0 };
        Err(Failure::new(refused.text()))
    }
}

/// The item that says where a production volume is, by its absolute path.
pub(super) fn path_item(path: &Path) -> Outcome<Item> {
    kind_of(path)?;
    let path = absolute(path)?;
    let key = args::name(PATH_KEY).map_err(Failure::new)?;
    item(key, path.as_os_str().as_bytes()).map_err(|e| {
        Failure::new(format!("{}: {e}; a symbolic link can be shorter", path.display()))
    })
}

/// The absolute path, with symbolic links left as they are: `/dev/disk/by-id` is to stay.
pub(super) fn absolute(path: &Path) -> Outcome<std::path::PathBuf> {
    std::path::absolute(path).map_err(Failure::io(format!("find {}", path.display())))
}
