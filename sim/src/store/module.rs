// SPDX-License-Identifier: MIT

//! The kernel module, by its control device: commands and replies as a server takes and gives
//! them, and what it has attached.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{major, minor};
use rwsnap_core::control::module::{DEVICE, REPLY_ROOM};
use rwsnap_core::control::rows::KIND_PRODUCTION;
use rwsnap_core::control::{Command, EntityRow, Name, PoolAtRow, PropertyRow, Refusal, Verb};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::answer::Answer;
use super::device::identity;
use super::identify::padded_text;
use super::sys;

/// Names another control device: whoever tests without the module sets it.
const ELSEWHERE: &str = "RWSNAP_CONTROL_DEVICE";

/// The property that says where a production is.
pub const PATH_KEY: &str = "path";

/// What carries commands to the module and brings replies.
pub trait Exchanger {
    /// Carries a command out on a pool, which no name stands for if it is the only one or none is
    /// needed; the bytes of the reply.
    ///
    /// # Errors
    ///
    /// There is no reply; `rwsnap_core::control::module` says why.
    fn exchange(&mut self, pool: Name, command: &[u8]) -> nix::Result<Vec<u8>>;
}

/// The control device, opened.
#[derive(Debug)]
pub struct Control(File);

impl Control {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// It is not there, or not for this user.
    pub fn open() -> io::Result<Self> {
        File::options().read(true).write(true).open(place()).map(Self)
    }
}

impl Exchanger for Control {
    fn exchange(&mut self, pool: Name, command: &[u8]) -> nix::Result<Vec<u8>> {
        let mut reply = vec![0; REPLY_ROOM];
        let bytes = sys::exchange(&self.0, pool, command, &mut reply)?;
        reply.truncate(bytes);
        Ok(reply)
    }
}

/// Where the control device is.
#[must_use]
pub fn place() -> PathBuf {
    let elsewhere = std::env::var_os(ELSEWHERE).filter(|path| !path.is_empty());
    elsewhere.map_or_else(|| Path::new("/dev").join(DEVICE), PathBuf::from)
}

/// All rows of a verb that changes nothing.
///
/// # Errors
///
/// There is no reply, or one that makes no sense; a refusal is none either.
pub fn ask<T: FromBytes + KnownLayout + Immutable>(
    to: &mut dyn Exchanger,
    pool: Name,
    (verb, name): (Verb, Name),
) -> nix::Result<Vec<T>> {
    let mut command = Command::new(verb, name);
    let mut rows = Vec::new();
    loop {
        let reply = to.exchange(pool, command.as_bytes())?;
        let answer = Answer::parse(&reply).filter(|a| a.refusal() == Refusal::None);
        let answer = answer.ok_or(Errno::EPROTO)?;
        rows.extend(answer.rows::<T>());
        let next = answer.reply.next.get();
        if next == u64::MAX || next <= command.value.get() {
            return Ok(rows);
        }
        command.value = next.into();
    }
}

/// The pools that are attached.
///
/// # Errors
///
/// See [`ask`].
pub fn pools(to: &mut dyn Exchanger) -> nix::Result<Vec<PoolAtRow>> {
    ask(to, Name::default(), (Verb::Pools, Name::default()))
}

/// The name that only this pool has.
#[must_use]
pub fn key(pool: &PoolAtRow) -> Name {
    Name::new(uuid::Uuid::from_bytes(pool.uuid).to_string().as_bytes()).unwrap_or_default()
}

/// What people call a pool: its name, or its UUID if it has none.
#[must_use]
pub fn title(pool: &PoolAtRow) -> String {
    let named = [pool.label, key(pool)].into_iter().find(|name| !name.bytes().is_empty());
    named.unwrap_or_default().text().to_owned()
}

/// Whether this is the device of the pool's save volume.
#[must_use]
pub fn is_saved_on(pool: &PoolAtRow, rdev: u64) -> bool {
    pool.device.map(|number| u64::from(number.get())) == [major(rdev), minor(rdev)]
}

/// The number of the block device at `path`, if there is one.
#[must_use]
pub fn block_device(path: &Path) -> Option<u64> {
    let meta = fs::metadata(path).ok()?;
    meta.file_type().is_block_device().then(|| meta.rdev())
}

/// The loop device that is on the file at `path`, if there is one.
#[must_use]
pub fn loop_over(path: &Path) -> Option<PathBuf> {
    let file = identity(path)?;
    let devices = fs::read_dir("/sys/block").ok()?.flatten();
    let found = devices.into_iter().find(|device| {
        let under = fs::read_to_string(device.path().join("loop/backing_file"));
        under.is_ok_and(|under| identity(Path::new(under.trim_end_matches('\n'))) == Some(file))
    });
    found.map(|device| Path::new("/dev").join(device.file_name()))
}

/// What to call the module, if it has a pool attached that this block device belongs to.
pub(super) fn holder(rdev: u64) -> Option<String> {
    held(&mut Control::open().ok()?, rdev)
}

fn held(to: &mut dyn Exchanger, rdev: u64) -> Option<String> {
    let pools = pools(to).ok()?;
    let saved = pools.iter().find(|pool| is_saved_on(pool, rdev));
    let pool = saved.or_else(|| pools.iter().find(|pool| has_production(to, pool, rdev)));
    pool.map(|pool| {
        let title = title(pool);
        format!(
            "the kernel module, which has the pool `{title}` attached; `rwsnap detach {title}` \
             ends that"
        )
    })
}

/// Whether a production of the pool is on this block device.
fn has_production(to: &mut dyn Exchanger, pool: &PoolAtRow, rdev: u64) -> bool {
    let key = key(pool);
    let all = ask::<EntityRow>(to, key, (Verb::List, Name::default())).unwrap_or_default();
    let mut productions = all.iter().filter(|row| row.kind.get() == KIND_PRODUCTION);
    productions.any(|production| {
        let properties = ask::<PropertyRow>(to, key, (Verb::Properties, production.name));
        let properties = properties.unwrap_or_default();
        let path = properties.iter().find(|property| property.key.text() == PATH_KEY);
        let path = path.map(|property| padded_text(&property.value));
        path.and_then(|path| block_device(Path::new(&path))) == Some(rdev)
    })
}

#[cfg(test)]
pub(crate) mod fake;

#[cfg(test)]
mod tests {
    use super::fake::{Fake, Pool};
    use super::*;
    use nix::sys::stat::makedev;

    #[test]
    fn rows_come_in_portions() {
        let pools: Vec<Pool> = (1..=5).map(|n| Pool::new("tank", n)).collect();
        let found = super::pools(&mut Fake::of(&pools)).unwrap();
        assert_eq!(found.iter().map(|pool| pool.uuid[0]).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn the_module_is_named_as_the_holder_of_a_save_volume() {
        let mut fake = Fake::of(&[Pool::new("", 1), Pool::new("tank", 2)]);
        let said = held(&mut fake, makedev(259, 2)).unwrap();
        assert_eq!(
            said,
            "the kernel module, which has the pool `tank` attached; `rwsnap detach tank` ends that"
        );
        let said = held(&mut fake, makedev(259, 1)).unwrap();
        assert!(said.contains("detach 01010101-0101-0101-0101-010101010101"), "{said}");
        assert_eq!(held(&mut fake, makedev(259, 3)), None);
        fake.0.borrow_mut().fails = Some(Errno::EPERM);
        assert_eq!(held(&mut fake, makedev(259, 2)), None);
    }

    #[test]
    fn the_module_is_named_as_the_holder_of_a_production() {
        let all = fs::read_dir("/dev").unwrap().flatten().map(|entry| entry.path());
        // Where there are no block devices, nobody can hold one.
        let Some((path, rdev)) = all.into_iter().find_map(|p| Some((p.clone(), block_device(&p)?)))
        else {
            return;
        };
        let mut pool = Pool::new("tank", 1).with("prod", KIND_PRODUCTION);
        assert_eq!(held(&mut Fake::of(&[pool.clone()]), rdev), None);
        pool.path = path.to_str().unwrap().to_owned();
        let said = held(&mut Fake::of(&[Pool::new("other", 2), pool]), rdev).unwrap();
        assert!(said.contains("the pool `tank`"), "{said}");
    }
}
