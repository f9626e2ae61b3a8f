// SPDX-License-Identifier: MIT

//! `rwsnap attach`: gives a pool to the kernel module, which makes block devices of its volumes.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rwsnap_core::control::rows::{FLAG_OFFLINE, KIND_PRODUCTION};
use rwsnap_core::control::{self, DeviceRow, EntityRow, Name, PoolAtRow, PropertyRow};

use crate::store::device::kind_of;
use crate::store::identify::padded_text;
use crate::store::module::{key, title, PATH_KEY};
use crate::store::Kind;

use super::add::absolute;
use super::args::{self, Located};
use super::connect::{command, Connection};
use super::error::{Failure, Outcome};
use super::locate::{require_not_attached, require_not_served};
use super::module::{node, require_block, Module};
use super::output::{print, print_json, Rows};
use super::view::Device;
use super::Global;

/// Attach a pool by the kernel module: a block device, /dev/rwsnapN, for each of its volumes
///
/// Prints which volume has which device. `rwsnap expose` makes devices of snapshots. Save volume
/// and production volumes have to be block devices; `rwsnap serve` takes files as well.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap attach /dev/vg0/save
  rwsnap attach /dev/vg0/save --production db=/dev/vg1/db --json")]
pub(super) struct Attach {
    /// The save volume
    #[arg(value_name = "SAVE")]
    save: PathBuf,
    /// Where a production volume is now, if it moved
    #[arg(long, value_name = "NAME=PATH", value_parser = args::located)]
    production: Vec<Located>,
    /// Use a production volume although it was changed while rwsnap did not look: its snapshots
    /// show the changes wherever they hold no copy
    #[arg(long, value_name = "NAME", value_parser = args::name)]
    trust: Vec<Name>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Attached {
    pool: String,
    uuid: String,
    save: String,
    devices: Vec<Device>,
    offline: Vec<String>,
}

impl Attach {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let mut module = Module::open();
        self.check(&mut module)?;
        let (row, mut pool) = self.attach(module)?;
        let devices = pool.devices()?;
        let rows = pool.all::<EntityRow>(command(control::Verb::List, Name::default()))?;
        for name in self.unknown(&rows) {
            tracing::warn!("the pool has no production volume `{name}`");
        }
        let offline = offline(&mut pool, &rows)?;
        for (name, why) in &offline {
            tracing::warn!("`{name}` is offline: {why}");
        }
        pool.close()?;
        if self.json {
            return print_json(&Attached {
                pool: title(&row),
                uuid: key(&row).text().to_owned(),
                save: padded_text(&row.path),
                devices: devices.iter().map(Device::from).collect(),
                offline: offline.into_iter().map(|(name, _)| name).collect(),
            });
        }
        if global.quiet {
            return Ok(());
        }
        print(&table(&devices))
    }

    /// Refuses what the module cannot or must not have, before it is asked.
    fn check(&self, module: &mut Module) -> Outcome {
        require_not_attached(&self.save, "attach", module)?;
        require_not_served(&self.save, "attach")?;
        require_block(&self.save)?;
        self.production.iter().try_for_each(|production| require_block(&production.path))
    }

    /// The pool, attached.
    fn attach(&self, module: Module) -> Outcome<(PoolAtRow, Connection)> {
        let link = module.link(Name::default())?;
        let mut pool = Connection::module(link, self.save.clone());
        let paths = self.paths()?;
        let mut attach = command(control::Verb::AttachPool, Name::default());
        attach.limit = (paths.len() as u64).into();
        let answer = pool.send(&attach, &paths)?;
        let row = answer.rows::<PoolAtRow>().pop();
        let row = row.ok_or_else(|| Failure::new("the module does not tell what it attached"))?;
        Ok((row, pool.on_pool(key(&row))))
    }

    /// The names of the command line that are of no production.
    fn unknown(&self, rows: &[EntityRow]) -> Vec<&str> {
        let is_there = |name: &&str| {
            rows.iter().any(|row| row.kind.get() == KIND_PRODUCTION && row.name.text() == *name)
        };
        let named = self.production.iter().filter_map(|located| located.name.as_deref());
        named.filter(|name| !is_there(name)).collect()
    }

    /// The save volume's path, then names and paths of productions, a zero byte behind each; the
    /// path of one that is to be trusted is empty.
    fn paths(&self) -> Outcome<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut put = |part: &[u8]| {
            bytes.extend_from_slice(part);
            bytes.push(0);
        };
        put(absolute(&self.save)?.as_os_str().as_bytes());
        for production in &self.production {
            put(production.name.as_deref().unwrap_or_default().as_bytes());
            put(absolute(&production.path)?.as_os_str().as_bytes());
        }
        for name in &self.trust {
            put(name.bytes());
            put(&[]);
        }
        Ok(bytes)
    }
}

/// Which volume has which device.
fn table(devices: &[DeviceRow]) -> String {
    let mut table = Rows::new(&["VOLUME", "DEVICE"]);
    for row in devices {
        table.push(vec![row.name.text().to_owned(), node(row).display().to_string()]);
    }
    table.aligned()
}

/// The productions that are offline, and why as far as is known.
fn offline(pool: &mut Connection, rows: &[EntityRow]) -> Outcome<Vec<(String, String)>> {
    let offline = rows.iter().filter(|row| row.flags.get() & FLAG_OFFLINE != 0);
    let mut all = Vec::new();
    for row in offline {
        let properties = command(control::Verb::Properties, row.name);
        let properties = pool.all::<PropertyRow>(properties)?;
        let path = properties.iter().find(|property| property.key.text() == PATH_KEY);
        let path = path.map(|property| padded_text(&property.value)).unwrap_or_default();
        all.push((row.name.text().to_owned(), why(row.name.text(), Path::new(&path))));
    }
    Ok(all)
}

/// Why the production that was at this path is offline.
fn why(name: &str, path: &Path) -> String {
    let at = path.display();
    let moved = format!("`rwsnap attach SAVE --production {name}=PATH` says where it is");
    match kind_of(path) {
        Ok(Kind::File) => match require_block(path) {
            Ok(()) => moved,
            Err(e) => format!("{e}\n{moved}."),
        },
        Ok(Kind::Block) => format!("{at} is in use, or was changed while rwsnap did not look"),
        Err(_) if path.as_os_str().is_empty() => format!("it is not known where it is; {moved}"),
        Err(e) => format!("{e}; {moved}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::module::fake::{Fake, Pool};
    use rwsnap_core::control::rows::KIND_CLONE;
    use rwsnap_core::control::Verb;

    fn attach(save: &str, production: &[&str]) -> Attach {
        let production = production.iter().map(|text| args::located(text).unwrap()).collect();
        Attach { save: PathBuf::from(save), production, trust: Vec::new(), json: false }
    }

    #[test]
    fn what_is_attached_is_told() {
        let mut pool = Pool::new("tank", 1).with("db", KIND_PRODUCTION).with("dev", KIND_CLONE);
        pool.rows[0].flags = FLAG_OFFLINE.into();
        let fake = Fake::of(&[Pool::new("other", 2)]);
        fake.0.borrow_mut().next = Some(pool);
        let module = Module::Open(Box::new(fake.clone()));
        let verb = attach("/dev/../dev/save", &["db=/dev/a", "wal=b"]);
        let (row, mut pool) = verb.attach(module).unwrap();
        assert_eq!(title(&row), "tank");
        let devices = pool.devices().unwrap();
        let wanted = "VOLUME  DEVICE\ndb      /dev/rwsnap0\ndev     /dev/rwsnap1\n";
        assert_eq!(table(&devices), wanted);
        let list = command(Verb::List, Name::default());
        let rows = pool.all::<EntityRow>(list).unwrap();
        assert_eq!(verb.unknown(&rows), ["wal"]);
        let [(name, why)] = offline(&mut pool, &rows).unwrap().try_into().unwrap();
        assert_eq!(name, "db");
        assert!(why.contains("--production db=PATH"), "{why}");
        let here = std::env::current_dir().unwrap();
        let sent = format!("/dev/../dev/save\0db\0/dev/a\0wal\0{}/b\0", here.display());
        assert_eq!(fake.0.borrow().sent, [(Verb::AttachPool, sent.into_bytes())]);
    }

    #[test]
    fn a_production_that_became_a_file_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prod.img");
        assert!(why("db", &path).contains("does not exist"));
        std::fs::write(&path, "").unwrap();
        let said = why("db", &path);
        assert!(said.contains("losetup") && said.contains("--production db=PATH"), "{said}");
    }

    #[test]
    fn without_the_module_nothing_is_attached() {
        let said = attach("/dev/save", &[]).attach(Module::Absent).err().unwrap();
        assert!(said.message.contains("modprobe rwsnap"), "{said}");
    }
}
