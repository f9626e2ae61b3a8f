// SPDX-License-Identifier: MIT

//! The kernel module as one who drives pools: what it has attached, and commands for a pool of it.
//!
//! What cannot be answered by a reply becomes a sentence here. That the module is not loaded is no
//! failure for a command that does not need it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use rwsnap_core::control::{Command, DeviceRow, Name, PoolAtRow, Verb};
use zerocopy::IntoBytes;

use crate::store::device::{kind_of, Kind};
use crate::store::identify::padded_text;
use crate::store::module::{self, title, Control, Exchanger};

use super::connect::PIECE;
use super::error::{Failure, Outcome};

/// The alignment that reads around the page cache have.
const ALIGN: usize = 4096;

/// The kernel module, as far as it can be reached.
pub enum Module {
    /// It is not loaded.
    Absent,
    /// It is not for this user.
    Closed(Failure),
    /// It takes commands.
    Open(Box<dyn Exchanger>),
}

impl Module {
    /// Opens its control device.
    #[must_use]
    pub fn open() -> Self {
        match Control::open() {
            Ok(control) => Self::Open(Box::new(control)),
            Err(e) => match (e.kind(), e.raw_os_error()) {
                (ErrorKind::NotFound, _) | (_, Some(libc::ENODEV | libc::ENXIO)) => Self::Absent,
                (ErrorKind::PermissionDenied, _) => Self::Closed(Failure::new(denied())),
                _ => Self::Closed(Failure::io(format!("open {}", module::place().display()))(e)),
            },
        }
    }

    /// Itself, if it takes commands.
    ///
    /// # Errors
    ///
    /// It is not loaded, or not for this user.
    pub fn required(self) -> Outcome<Self> {
        match self {
            Self::Absent => Err(Failure::new(absent())),
            Self::Closed(why) => Err(why),
            Self::Open(_) => Ok(self),
        }
    }

    /// The pools that are attached.
    ///
    /// # Errors
    ///
    /// They are not to be seen.
    pub fn pools(&mut self) -> Outcome<Vec<PoolAtRow>> {
        match self {
            Self::Absent => Ok(Vec::new()),
            Self::Closed(why) => Err(Failure::new(why.message.clone())),
            Self::Open(to) => {
                module::pools(to.as_mut()).map_err(|errno| Failure::new(sentence(errno, "", &[])))
            }
        }
    }

    /// A link for commands on the pool of this name or UUID; of no name for those on none.
    ///
    /// # Errors
    ///
    /// The module is not loaded, or not for this user.
    pub fn link(self, pool: Name) -> Outcome<ModuleLink> {
        match self {
            Self::Absent => Err(Failure::new(absent())),
            Self::Closed(why) => Err(why),
            Self::Open(to) => Ok(ModuleLink::new(to, pool)),
        }
    }
}

/// A pool of the module's, or the module itself.
pub struct ModuleLink {
    to: Box<dyn Exchanger>,
    pool: Name,
    /// What was read from.
    opened: BTreeMap<Vec<u8>, File>,
    /// Snapshots that were exposed to read them.
    exposed: Vec<Name>,
}

impl ModuleLink {
    /// For commands on this pool.
    #[must_use]
    pub fn new(to: Box<dyn Exchanger>, pool: Name) -> Self {
        Self { to, pool, opened: BTreeMap::new(), exposed: Vec::new() }
    }

    /// From now on for this pool.
    #[must_use]
    pub fn on(self, pool: Name) -> Self {
        Self { pool, ..self }
    }

    /// Carries out a command with all that is behind it; gives the bytes of the reply.
    pub fn command(&mut self, bytes: &[u8]) -> Outcome<Vec<u8>> {
        self.to.exchange(self.pool, bytes).map_err(|errno| {
            let tells = matches!(errno, Errno::ENODEV | Errno::ENOTUNIQ);
            let pools = if tells { module::pools(self.to.as_mut()) } else { Ok(Vec::new()) };
            Failure::new(sentence(errno, self.pool.text(), &pools.unwrap_or_default()))
        })
    }

    /// Reads whole blocks of a volume or snapshot from its block device. A snapshot that has none
    /// gets one until the link is closed.
    pub fn read(&mut self, name: Name, bytes: &mut [u8], at: u64) -> Outcome {
        let key = name.bytes().to_vec();
        if !self.opened.contains_key(&key) {
            let path = self.device(name)?;
            let mut options = File::options();
            let file = options.read(true).custom_flags(libc::O_DIRECT).open(&path);
            let file = file.map_err(Failure::io(format!("open {}", path.display())))?;
            self.opened.insert(key.clone(), file);
        }
        let Some(file) = self.opened.get(&key) else { return Ok(()) };
        let mut room = vec![0_u8; PIECE + ALIGN];
        let lead = room.as_ptr().align_offset(ALIGN);
        let mut place = at;
        for piece in bytes.chunks_mut(PIECE) {
            let read = room.get_mut(lead..lead + piece.len()).unwrap_or_default();
            let done = file.read_exact_at(read, place);
            done.map_err(Failure::io(format!("read `{}`", name.text())))?;
            piece.copy_from_slice(read);
            place += piece.len() as u64;
        }
        Ok(())
    }

    /// The block device of a volume or snapshot.
    fn device(&mut self, name: Name) -> Outcome<PathBuf> {
        let none = (Verb::Devices, Name::default());
        let failed = |errno| Failure::new(sentence(errno, "", &[]));
        let rows = module::ask::<DeviceRow>(self.to.as_mut(), self.pool, none).map_err(failed)?;
        if let Some(row) = rows.iter().find(|row| row.name == name) {
            return Ok(node(row));
        }
        let exposed = module::ask::<DeviceRow>(self.to.as_mut(), self.pool, (Verb::Expose, name));
        let row = exposed.ok().and_then(|mut rows| rows.pop());
        let name_of = name.text();
        let row = row.ok_or_else(|| {
            Failure::new(format!("`{name_of}` has no block device, and cannot be given one"))
        })?;
        self.exposed.push(name);
        Ok(node(&row))
    }

    /// Takes away the devices that it made.
    pub fn close(mut self) -> Outcome {
        self.opened.clear();
        for name in std::mem::take(&mut self.exposed) {
            self.command(Command::new(Verb::Hide, name).as_bytes())?;
        }
        Ok(())
    }
}

/// The path of a block device.
#[must_use]
pub fn node(row: &DeviceRow) -> PathBuf {
    Path::new("/dev").join(padded_text(&row.device))
}

/// Refuses a volume that the module cannot have: it takes block devices alone.
///
/// # Errors
///
/// It is not there, or a regular file.
pub fn require_block(path: &Path) -> Outcome {
    match kind_of(path)? {
        Kind::Block => Ok(()),
        Kind::File => Err(Failure::new(format!(
            "{} is a regular file, and the kernel module takes block devices alone\n\
             `losetup -f --show {}` makes one of it; or `rwsnap serve` the pool: that takes files.",
            path.display(),
            path.display()
        ))),
    }
}

fn absent() -> String {
    format!(
        "{} is missing: load the module with `modprobe rwsnap` or `insmod rwsnap.ko`",
        module::place().display()
    )
}

fn denied() -> String {
    format!(
        "the kernel module takes commands from root alone (CAP_SYS_ADMIN, {})",
        module::place().display()
    )
}

/// The pools, one a line.
#[must_use]
pub fn lines(pools: &[PoolAtRow]) -> String {
    let line = |pool: &PoolAtRow| {
        let (uuid, name) = (uuid::Uuid::from_bytes(pool.uuid), pool.label.text());
        format!("  {uuid}  {name}  ({})", padded_text(&pool.path))
    };
    pools.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Why there is no reply to a command on `pool`, while these are attached.
fn sentence(errno: Errno, pool: &str, pools: &[PoolAtRow]) -> String {
    let place = module::place();
    let place = place.display();
    let named: Vec<PoolAtRow> = pools.iter().filter(|row| title(row) == pool).copied().collect();
    match errno {
        Errno::EPERM | Errno::EACCES => denied(),
        Errno::ENOTTY => format!("{place} is not the control device of rwsnap's kernel module"),
        Errno::EPROTO => format!(
            "the kernel module behind {place} is of another version than this program; load the \
             one that belongs to it"
        ),
        Errno::ENODEV if pools.is_empty() => {
            "the kernel module has no pool attached; `rwsnap attach SAVE` does that".to_owned()
        }
        Errno::ENODEV => {
            format!("the kernel module has no pool `{pool}` attached; it has:\n{}", lines(pools))
        }
        Errno::ENOTUNIQ if named.len() > 1 => format!(
            "{} pools of the name `{pool}` are attached; name one by its UUID:\n{}",
            named.len(),
            lines(&named)
        ),
        Errno::ENOTUNIQ => format!(
            "{} pools are attached; say which one with --pool or RWSNAP_POOL:\n{}",
            pools.len(),
            lines(pools)
        ),
        Errno::ENOBUFS => {
            "the kernel module's answer is longer than any should be; what was commanded is done"
                .to_owned()
        }
        Errno::EINTR => {
            "a signal came while the command waited; it may still be done: `rwsnap status` and \
             `rwsnap list` show it"
                .to_owned()
        }
        Errno::E2BIG => "the command is longer than the kernel module takes".to_owned(),
        Errno::EINVAL | Errno::EFAULT => format!(
            "the kernel module does not take the command ({}); this is a mistake in rwsnap",
            errno.desc()
        ),
        _ => format!("the kernel module did not answer: {}", errno.desc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::module::fake::{name, Fake, Pool};
    use rwsnap_core::control::rows::{KIND_PRODUCTION, KIND_SNAPSHOT};

    /// What a command for `pool` is answered if the module fails so.
    fn said(fake: &Fake, pool: &str) -> String {
        let mut link = ModuleLink::new(Box::new(fake.clone()), name(pool));
        let status = Command::new(Verb::Devices, Name::default());
        link.command(status.as_bytes()).unwrap_err().message
    }

    #[test]
    fn every_failure_has_a_sentence() {
        let fake = Fake::of(&[]);
        let cases = [
            (Errno::EPERM, "root alone"),
            (Errno::ENOTTY, "is not the control device"),
            (Errno::EPROTO, "of another version"),
            (Errno::EINVAL, "does not take the command"),
            (Errno::EFAULT, "does not take the command"),
            (Errno::ENOBUFS, "what was commanded is done"),
            (Errno::EINTR, "may still be done"),
            (Errno::E2BIG, "longer than"),
            (Errno::EIO, "did not answer"),
        ];
        for (errno, part) in cases {
            fake.0.borrow_mut().fails = Some(errno);
            let said = said(&fake, "tank");
            assert!(said.contains(part), "{errno}: {said}");
        }
    }

    #[test]
    fn pools_are_listed_where_one_has_to_be_named() {
        let none = Fake::of(&[]);
        assert!(said(&none, "tank").contains("no pool attached; `rwsnap attach SAVE`"));
        let two = Fake::of(&[Pool::new("tank", 1), Pool::new("tank", 2), Pool::new("x", 3)]);
        let all = said(&two, "");
        assert!(all.starts_with("3 pools are attached; say which one with --pool"), "{all}");
        assert!(all.contains("03030303-0303-0303-0303-030303030303  x  (/dev/save3)"), "{all}");
        let twins = said(&two, "tank");
        assert!(twins.starts_with("2 pools of the name `tank` are attached"), "{twins}");
        assert!(twins.contains("/dev/save2") && !twins.contains("/dev/save3"), "{twins}");
        let other = said(&two, "y");
        assert!(
            other.starts_with("the kernel module has no pool `y` attached; it has:"),
            "{other}"
        );
    }

    #[test]
    fn a_module_that_is_not_loaded_matters_only_where_it_is_needed() {
        assert!(Module::Absent.pools().unwrap().is_empty());
        let why = Module::Absent.link(name("tank")).err().unwrap().message;
        assert!(why.ends_with("load the module with `modprobe rwsnap` or `insmod rwsnap.ko`"));
        assert_eq!(Module::Absent.required().err().unwrap().message, why);
    }

    #[test]
    fn a_snapshot_that_was_exposed_to_read_it_is_hidden_again() {
        let pool = Pool::new("tank", 1).with("prod", KIND_PRODUCTION).with("prod@a", KIND_SNAPSHOT);
        let fake = Fake::of(&[pool]);
        let mut link = ModuleLink::new(Box::new(fake.clone()), name("tank"));
        assert_eq!(link.device(name("prod")).unwrap(), Path::new("/dev/rwsnap0"));
        assert_eq!(link.device(name("prod@a")).unwrap(), Path::new("/dev/rwsnap1"));
        assert!(link.device(name("prod@b")).unwrap_err().message.contains("no block device"));
        link.close().unwrap();
        assert_eq!(fake.sent(), [Verb::Expose, Verb::Expose, Verb::Hide]);
        assert_eq!(fake.0.borrow().pools[0].devices.len(), 1);
    }

    #[test]
    fn files_are_refused_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("save.img");
        assert!(require_block(&path).unwrap_err().message.contains("does not exist"));
        std::fs::write(&path, "").unwrap();
        let said = require_block(&path).unwrap_err().message;
        let way = format!("`losetup -f --show {}`", path.display());
        assert!(said.contains("block devices alone") && said.contains(&way), "{said}");
    }
}
