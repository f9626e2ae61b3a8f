// SPDX-License-Identifier: MIT

//! Finds the pool that a command is for: the one named with `--pool`, or the only one that is being
//! served or attached by the kernel module.
//!
//! A server's control socket bears the UUID of its pool and lies in one of three folders, or in
//! the one that `RWSNAP_RUNTIME_DIR` names. A socket whose server is gone refuses connections and
//! counts as not there; it is removed.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rwsnap_core::control::PoolAtRow;

use crate::store::device::kind_of;
use crate::store::identify::padded_text;
use crate::store::module::{block_device, is_saved_on, key, loop_over, title};
use crate::store::{identify, lock, signature, sockets, Access, Cache, Volume};

use super::connect::Connection;
use super::error::{Failure, Outcome};
use super::module::Module;
use super::rest::AtRest;
use super::Global;

/// The folder of control sockets when the system has one for it.
const SYSTEM: &str = "/run/rwsnap";

/// Names the only folder of control sockets: whoever runs servers apart from all others sets it.
const APART: &str = "RWSNAP_RUNTIME_DIR";

/// The folders where control sockets may lie, best first.
fn folders() -> Vec<PathBuf> {
    if let Some(apart) = std::env::var_os(APART).filter(|dir| !dir.is_empty()) {
        return vec![PathBuf::from(apart)];
    }
    let mut folders = vec![PathBuf::from(SYSTEM)];
    if let Some(own) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        folders.push(PathBuf::from(own).join("rwsnap"));
    }
    folders.push(PathBuf::from(format!("/tmp/rwsnap-{}", nix::unistd::geteuid())));
    folders
}

/// Where the server of a pool puts its control socket; makes the folder.
///
/// # Errors
///
/// None of the folders can be made or belongs to this user.
pub fn default_socket(pool: [u8; 16]) -> Outcome<PathBuf> {
    let mut last = None;
    for folder in folders() {
        match usable(&folder) {
            Ok(()) => {
                sockets::sweep(&folder);
                return Ok(folder.join(socket_name(pool)));
            }
            Err(e) => last = Some((folder, e)),
        }
    }
    let (folder, e) = last.unwrap_or_default();
    Err(Failure::new(format!(
        "cannot make a folder for the control socket ({}: {e}); give a path with --control",
        folder.display()
    )))
}

/// A link to a control socket that lies elsewhere, so that it is found like the others; it is gone
/// when dropped.
pub struct Link(Option<(PathBuf, PathBuf)>);

impl Link {
    /// For the socket of this pool, of which no other server runs. It is a convenience: if it
    /// cannot be made, the socket is found by its path alone.
    #[must_use]
    pub fn new(pool: [u8; 16], control: &Path) -> Self {
        let Ok(place) = default_socket(pool) else { return Self(None) };
        let Ok(target) = std::path::absolute(control) else { return Self(None) };
        if target == place {
            return Self(None);
        }
        let _folder = place.parent().and_then(|folder| sockets::lock(folder, ANSWER));
        // A copy of a save volume is the same pool to the eye: its server keeps its socket.
        if UnixStream::connect(&place).is_ok() {
            return Self(None);
        }
        let _ = fs::remove_file(&place);
        let made = std::os::unix::fs::symlink(&target, &place);
        Self(made.ok().map(|()| (place, target)))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let Some((place, target)) = &self.0 else { return };
        if fs::read_link(place).is_ok_and(|to| to == *target) {
            let _ = fs::remove_file(place);
        }
    }
}

/// Whether sockets of this user can be made in the folder, and nobody else's.
fn usable(folder: &Path) -> Result<(), String> {
    if !folder.exists() {
        let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(folder);
        made.map_err(|e| e.to_string())?;
    }
    let meta = fs::symlink_metadata(folder).map_err(|e| e.to_string())?;
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err("it is not a folder of this user's".to_owned());
    }
    if meta.mode() & 0o022 != 0 {
        return Err("others can write to it".to_owned());
    }
    Ok(())
}

fn socket_name(pool: [u8; 16]) -> String {
    format!("{}.sock", uuid::Uuid::from_bytes(pool))
}

/// How long a server may take to tell its name. One that is opening its pool answers when it is
/// open, which is no reason not to find another one.
const ANSWER: Duration = Duration::from_secs(2);

/// A pool that somebody drives.
struct Found {
    uuid: String,
    /// Empty if it does not tell, or has none.
    name: String,
    by: Driver,
}

/// Who drives a pool.
enum Driver {
    /// A server behind this socket.
    Server(PathBuf),
    /// The kernel module.
    Module(Box<PoolAtRow>),
}

impl Found {
    /// The server behind a socket, if one lives.
    fn at(socket: &Path) -> Option<Self> {
        let stream = reach(socket).ok()?;
        stream.set_read_timeout(Some(ANSWER)).ok()?;
        let row = Connection::server(stream, socket.to_path_buf()).pool().ok();
        let uuid = row.map(|row| uuid::Uuid::from_bytes(row.uuid).to_string());
        let stem = || socket.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Some(Self {
            uuid: uuid.unwrap_or_else(stem),
            name: row.map(|row| Connection::pool_name(&row)).unwrap_or_default(),
            by: Driver::Server(socket.to_path_buf()),
        })
    }

    /// One that the module has.
    fn attached(pool: &PoolAtRow) -> Self {
        Self {
            uuid: key(pool).text().to_owned(),
            name: title(pool),
            by: Driver::Module(Box::new(*pool)),
        }
    }

    fn is_attached(&self) -> bool {
        matches!(self.by, Driver::Module(_))
    }

    fn connect(self, module: Module) -> Outcome<Connection> {
        let socket = match self.by {
            Driver::Server(socket) => socket,
            Driver::Module(pool) => return through(module, &pool),
        };
        let at = socket.display().to_string();
        let stream =
            reach(&socket).map_err(Failure::io(format!("connect to the server at {at}")))?;
        Ok(Connection::server(stream, socket))
    }
}

/// Connects to a pool that the module has.
fn through(module: Module, pool: &PoolAtRow) -> Outcome<Connection> {
    Ok(Connection::module(module.link(key(pool))?, PathBuf::from(padded_text(&pool.path))))
}

/// Connects to a server that lives. The socket of one that was killed takes connections until the
/// kernel has put its ring to rest.
fn reach(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    let peer = getsockopt(&stream, PeerCredentials)?;
    match u32::try_from(peer.pid()) {
        Ok(pid) if pid != 0 && !lock::is_alive(pid) => Err(io::ErrorKind::ConnectionRefused.into()),
        _ => Ok(stream),
    }
}

/// All pools that are being served and can be reached.
fn served() -> Vec<Found> {
    let mut found = Vec::new();
    for folder in folders().iter().filter(|folder| is_trusted(folder)) {
        if usable(folder).is_ok() {
            sockets::sweep(folder);
        }
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let sockets = paths.iter().filter(|p| p.extension().is_some_and(|e| e == "sock"));
        found.extend(sockets.filter_map(|path| Found::at(path)));
    }
    found
}

/// Whether what lies in the folder was put there by this user or by root.
fn is_trusted(folder: &Path) -> bool {
    let me = nix::unistd::geteuid().as_raw();
    fs::symlink_metadata(folder).is_ok_and(|m| m.is_dir() && (m.uid() == me || m.uid() == 0))
}

/// Connects to the pool that the command line means.
///
/// # Errors
///
/// There is none, or more than one, or it cannot be opened.
pub fn connect(global: &Global) -> Outcome<Connection> {
    connect_to(global.pool.as_deref(), Module::open())
}

fn connect_to(pool: Option<&str>, mut module: Module) -> Outcome<Connection> {
    let pool = pool.filter(|pool| !pool.is_empty());
    match pool {
        Some(pool) if Path::new(pool).exists() => return at_path(Path::new(pool), module),
        Some(pool) if pool.contains('/') => return Err(missing(pool)),
        _ => {}
    }
    let (mut pools, unseen) = (served(), module.pools());
    pools.extend(unseen.iter().flatten().map(Found::attached));
    choose(pools, pool).map_err(|e| noting(e, unseen.err()))?.connect(module)
}

fn missing(pool: &str) -> Failure {
    Failure::new(format!(
        "{pool} does not exist; `rwsnap create` makes a pool on a new save volume"
    ))
}

/// Adds why the module's pools could not be seen, if they could not.
fn noting(failure: Failure, unseen: Option<Failure>) -> Failure {
    match unseen {
        None => failure,
        Some(why) => Failure::new(format!(
            "{}
Pools of the module: {why}",
            failure.message
        )),
    }
}

/// The only one of these pools, or the one of this name or UUID.
fn choose(pools: Vec<Found>, wanted: Option<&str>) -> Outcome<Found> {
    let is_wanted = |p: &Found| wanted.is_none_or(|wanted| p.name == wanted || p.uuid == wanted);
    let (mut fits, others): (Vec<_>, Vec<_>) = pools.into_iter().partition(is_wanted);
    match (fits.pop(), fits.is_empty(), wanted) {
        (Some(only), true, _) => Ok(only),
        (Some(last), false, _) => {
            fits.push(last);
            let (count, are, lines) = (fits.len(), are(&fits), candidates(&fits));
            Err(Failure::new(match wanted {
                Some(pool) => format!(
                    "{count} pools of the name `{pool}` are {are}; name one by its UUID:\n{lines}"
                ),
                None => format!(
                    "{count} pools are {are}; say which one with --pool or RWSNAP_POOL:\n{lines}"
                ),
            }))
        }
        (None, _, None) => Err(Failure::new(
            "no pool is being served or attached; name one by its save volume, with --pool SAVE \
             or RWSNAP_POOL",
        )),
        (None, _, Some(pool)) => {
            let known = if others.is_empty() {
                String::new()
            } else {
                format!("\nThere are:\n{}", candidates(&others))
            };
            Err(Failure::new(format!(
                "no pool `{pool}` is being served or attached; a pool at rest is named by the path \
                 of its save volume{known}"
            )))
        }
    }
}

/// What is done with these pools.
fn are(pools: &[Found]) -> &'static str {
    let attached = pools.iter().filter(|pool| pool.is_attached()).count();
    match attached {
        0 => "being served",
        n if n == pools.len() => "attached",
        _ => "being served or attached",
    }
}

fn candidates(pools: &[Found]) -> String {
    let line = |p: &Found| match (p.name.as_str(), p.is_attached()) {
        ("", _) => format!("  {}  (does not answer yet)", p.uuid),
        (name, true) => format!("  {}  {name}  (attached)", p.uuid),
        (name, false) => format!("  {}  {name}", p.uuid),
    };
    pools.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The pool on this save volume, or behind this socket.
fn at_path(path: &Path, mut module: Module) -> Outcome<Connection> {
    if fs::metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
        let stream = reach(path)
            .map_err(Failure::io(format!("connect to the server at {}", path.display())))?;
        return Ok(Connection::server(stream, path.to_path_buf()));
    }
    if let Some(pool) = attached_at(path, &mut module)? {
        return through(module, &pool);
    }
    if let Some((stream, socket)) = server_of(pool_of(path)?) {
        return Ok(Connection::server(stream, socket));
    }
    Ok(Connection::at_rest(AtRest::open(path)?, path.to_path_buf()))
}

/// What the module has attached of the pool on this save volume, as far as can be seen: by the
/// device, else by the pool's UUID, since a device may have several names, and a file a loop device
/// on it.
fn attached_at(path: &Path, module: &mut Module) -> Outcome<Option<PoolAtRow>> {
    let pools = match (module.pools(), loop_over(path)) {
        (Ok(pools), _) if pools.is_empty() => return Ok(None),
        (Ok(pools), _) => pools,
        // A device that the module has cannot be opened; the file under one could, and be ruined.
        (Err(why), Some(device)) => return Err(unsure(path, &device, &why)),
        (Err(_), None) => return Ok(None),
    };
    let rdev = block_device(path);
    let at = |pool: &&PoolAtRow| rdev.is_some_and(|rdev| is_saved_on(pool, rdev));
    if let Some(pool) = pools.iter().find(at) {
        return Ok(Some(*pool));
    }
    let uuid = pool_of(path)?;
    Ok(pools.iter().find(|pool| pool.uuid == uuid).copied())
}

/// It cannot be seen whether the module has the pool.
fn unsure(path: &Path, device: &Path, why: &Failure) -> Failure {
    Failure::new(format!(
        "the pool on {} may be attached by way of {}, which is on that file: {why}",
        path.display(),
        device.display()
    ))
}

/// Connects to a pool that the module has attached: the only one, or the one that is named by its
/// name, its UUID or its save volume.
///
/// # Errors
///
/// The module is not loaded; or it has no such pool, or more than one.
pub fn connect_attached(pool: Option<&str>, module: Module) -> Outcome<Connection> {
    let mut module = module.required()?;
    let pools = module.pools()?;
    let pool = pool.filter(|pool| !pool.is_empty());
    if let Some(path) = pool.map(Path::new).filter(|path| path.exists()) {
        return match attached_at(path, &mut module)? {
            Some(pool) => through(module, &pool),
            None => Err(not_attached(path)),
        };
    }
    if pool.is_none() && pools.is_empty() {
        return Err(Failure::new("no pool is attached; `rwsnap attach SAVE` does that"));
    }
    let found = pools.iter().map(Found::attached).collect();
    let served = || served().into_iter().any(|p| Some(p.name.as_str()) == pool);
    choose(found, pool)
        .map_err(|e| match pool {
            Some(pool) if served() => Failure::new(format!(
                "`{pool}` is being served, not attached; `rwsnap stop` ends its server"
            )),
            _ => e,
        })?
        .connect(module)
}

/// The pool on a save volume is not the module's.
fn not_attached(path: &Path) -> Failure {
    let at = path.display();
    let served = pool_of(path).ok().and_then(server_of);
    Failure::new(match served {
        Some((_, socket)) => format!(
            "{at} is being served, not attached by the kernel module\n\
             `rwsnap stop --pool {}` ends its server.",
            socket.display()
        ),
        None => {
            format!("{at} is not attached by the kernel module; `rwsnap attach {at}` does that")
        }
    })
}

/// The UUID of the pool on a save volume.
///
/// # Errors
///
/// It is no save volume; the sentence says what it is instead.
pub fn pool_of(path: &Path) -> Outcome<[u8; 16]> {
    if let Some(found) = identify::superblock(path)? {
        return Ok(found.pool);
    }
    kind_of(path)?;
    let what = Volume::open(path, Access::Read, Cache::Buffered)
        .ok()
        .and_then(|volume| signature::find(&volume).ok().flatten());
    let but = what.map(|what| format!(": it holds {what}")).unwrap_or_default();
    Err(Failure::new(format!(
        "{} is not a save volume of rwsnap{but}\n`rwsnap create` makes one.",
        path.display()
    )))
}

/// The server of a pool, if one runs that can be reached.
#[must_use]
pub fn server_of(pool: [u8; 16]) -> Option<(UnixStream, PathBuf)> {
    let places = folders().into_iter().filter(|folder| is_trusted(folder));
    places
        .map(|folder| folder.join(socket_name(pool)))
        .find_map(|path| reach(&path).ok().map(|stream| (stream, path)))
}

/// Refuses to go on unless the pool is at rest.
///
/// # Errors
///
/// A server or the kernel module has it.
pub fn require_rest(path: &Path, verb: &str) -> Outcome {
    require_not_attached(path, verb, &mut Module::open())?;
    require_not_served(path, verb)
}

/// Refuses to go on if a server has the pool.
///
/// # Errors
///
/// A server has it.
pub fn require_not_served(path: &Path, verb: &str) -> Outcome {
    let Some((_, socket)) = server_of(pool_of(path)?) else { return Ok(()) };
    let by = lock::holder(path).map(|h| format!(" by {h}")).unwrap_or_default();
    Err(Failure::new(format!(
        "cannot {verb} {}: it is being served{by}\n`rwsnap stop --pool {}` ends its server.",
        path.display(),
        socket.display()
    )))
}

/// Refuses to go on if the kernel module has the pool.
///
/// # Errors
///
/// The module has it.
pub fn require_not_attached(path: &Path, verb: &str, module: &mut Module) -> Outcome {
    let Some(pool) = attached_at(path, module)? else { return Ok(()) };
    Err(Failure::new(format!(
        "cannot {verb} {}: it is attached by the kernel module\n`rwsnap detach {}` ends that.",
        path.display(),
        title(&pool)
    )))
}

#[cfg(test)]
mod tests;
