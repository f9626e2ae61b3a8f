// SPDX-License-Identifier: MIT

//! Finds the pool that a command is for: the one named with `--pool`, or the one being served.
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

use crate::store::device::kind_of;
use crate::store::{identify, lock, signature, sockets, Access, Cache, Volume};

use super::connect::Connection;
use super::error::{Failure, Outcome};
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

/// A server that runs.
struct Served {
    socket: PathBuf,
    uuid: String,
    /// Empty if it does not tell.
    name: String,
}

impl Served {
    /// The server behind a socket, if one lives.
    fn at(socket: &Path) -> Option<Self> {
        let stream = reach(socket).ok()?;
        stream.set_read_timeout(Some(ANSWER)).ok()?;
        let row = Connection::server(stream, socket.to_path_buf()).pool().ok();
        let uuid = row.map(|row| uuid::Uuid::from_bytes(row.uuid).to_string());
        let stem = || socket.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Some(Self {
            socket: socket.to_path_buf(),
            uuid: uuid.unwrap_or_else(stem),
            name: row.map(|row| Connection::pool_name(&row)).unwrap_or_default(),
        })
    }

    fn connect(self) -> Outcome<Connection> {
        let at = self.socket.display().to_string();
        let stream =
            reach(&self.socket).map_err(Failure::io(format!("connect to the server at {at}")))?;
        Ok(Connection::server(stream, self.socket))
    }
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
fn served() -> Vec<Served> {
    let mut found = Vec::new();
    for folder in folders().iter().filter(|folder| is_trusted(folder)) {
        if usable(folder).is_ok() {
            sockets::sweep(folder);
        }
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let sockets = paths.iter().filter(|p| p.extension().is_some_and(|e| e == "sock"));
        found.extend(sockets.filter_map(|path| Served::at(path)));
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
    match global.pool.as_deref().filter(|pool| !pool.is_empty()) {
        None => the_only_one(),
        Some(pool) if Path::new(pool).exists() => at_path(Path::new(pool)),
        Some(pool) if pool.contains('/') => Err(Failure::new(format!(
            "{pool} does not exist; `rwsnap create` makes a pool on a new save volume"
        ))),
        Some(pool) => by_name(pool),
    }
}

/// The pool being served, if there is just one.
fn the_only_one() -> Outcome<Connection> {
    let mut pools = served();
    match (pools.pop(), pools.is_empty()) {
        (Some(only), true) => only.connect(),
        (None, _) => Err(Failure::new(
            "no pool is being served; name one by its save volume, with --pool SAVE or RWSNAP_POOL",
        )),
        (Some(last), false) => {
            pools.push(last);
            Err(Failure::new(format!(
                "{} pools are being served; say which one with --pool or RWSNAP_POOL:\n{}",
                pools.len(),
                candidates(&pools)
            )))
        }
    }
}

fn candidates(pools: &[Served]) -> String {
    let line = |p: &Served| match p.name.as_str() {
        "" => format!("  {}  (does not answer yet)", p.uuid),
        name => format!("  {}  {name}", p.uuid),
    };
    pools.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The pool of this name or UUID, which a server has.
fn by_name(pool: &str) -> Outcome<Connection> {
    let (mut fits, others): (Vec<_>, Vec<_>) =
        served().into_iter().partition(|p| p.name == pool || p.uuid == pool);
    match (fits.pop(), fits.is_empty()) {
        (Some(only), true) => only.connect(),
        (Some(last), false) => {
            fits.push(last);
            Err(Failure::new(format!(
                "{} pools of the name `{pool}` are being served; name one by its UUID:\n{}",
                fits.len(),
                candidates(&fits)
            )))
        }
        (None, _) => {
            let known = if others.is_empty() {
                String::new()
            } else {
                format!("\nBeing served:\n{}", candidates(&others))
            };
            Err(Failure::new(format!(
                "no pool `{pool}` is being served; a pool at rest is named by the path of its \
                 save volume{known}"
            )))
        }
    }
}

/// The pool on this save volume, or behind this socket.
fn at_path(path: &Path) -> Outcome<Connection> {
    if fs::metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
        let stream = reach(path)
            .map_err(Failure::io(format!("connect to the server at {}", path.display())))?;
        return Ok(Connection::server(stream, path.to_path_buf()));
    }
    let pool = pool_of(path)?;
    if let Some((stream, socket)) = server_of(pool) {
        return Ok(Connection::server(stream, socket));
    }
    Ok(Connection::at_rest(AtRest::open(path)?, path.to_path_buf()))
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

/// Refuses to go on if a server has the pool at rest.
///
/// # Errors
///
/// A server has it.
pub fn require_rest(path: &Path, verb: &str) -> Outcome {
    let Some((_, socket)) = server_of(pool_of(path)?) else { return Ok(()) };
    let by = lock::holder(path).map(|h| format!(" by {h}")).unwrap_or_default();
    Err(Failure::new(format!(
        "cannot {verb} {}: it is being served{by}\n`rwsnap stop --pool {}` ends its server.",
        path.display(),
        socket.display()
    )))
}
