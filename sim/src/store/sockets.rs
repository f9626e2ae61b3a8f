// SPDX-License-Identifier: MIT

//! The sockets that servers leave in a folder when they are killed.
//!
//! A socket whose server is gone refuses clients. So does one that is bound and not yet listened
//! on: both binding and removing happen under a lock on the folder, so that no server that lives
//! loses its socket.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

/// How long before another attempt.
const PAUSE: Duration = Duration::from_millis(5);

/// Locks a folder of sockets; none if somebody else has it for longer than `patience`.
#[must_use]
pub fn lock(folder: &Path, patience: Duration) -> Option<Flock<File>> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut file = File::open(here).ok()?;
    let begun = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Some(locked),
            Err((back, _)) if begun.elapsed() < patience => file = back,
            Err(_) => return None,
        }
        std::thread::sleep(PAUSE);
    }
}

/// Removes the sockets of pools whose servers are gone, unless somebody is at work in the folder:
/// `UUID.sock`, and the `UUID.nbd` beside it.
pub fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let is = |path: &&PathBuf, extension| {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        path.extension().is_some_and(|e| e == extension)
            && stem.is_some_and(|stem| uuid::Uuid::try_parse(stem).is_ok())
    };
    // NBD clients' sockets are not knocked at while the control socket is there.
    let lone = |path: &&PathBuf| is(path, "nbd") && !path.with_extension("sock").exists();
    if !paths.iter().any(|path| is_dead(path) && (is(&path, "sock") || lone(&path))) {
        return;
    }
    let Some(_locked) = lock(folder, Duration::ZERO) else { return };
    for path in paths.iter().filter(|path| is(path, "sock") && is_dead(path)) {
        let _ = fs::remove_file(path);
    }
    for path in paths.iter().filter(lone).filter(|path| is_dead(path)) {
        let _ = fs::remove_file(path);
    }
}

/// Whether it is a socket that nobody listens on. A link to one elsewhere may be that of a server
/// that is about to listen there.
fn is_dead(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_dead_sockets_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let [dead, alive] = ["7d133bda-b858-42f9-9564-e6bed0a27078"; 2].map(str::to_owned);
        let alive = alive.replace('7', "8");
        for name in [format!("{dead}.sock"), format!("{dead}.nbd"), "others.sock".to_owned()] {
            drop(UnixListener::bind(at(&name)).unwrap());
        }
        let _listeners = ["sock", "nbd"].map(|e| UnixListener::bind(at(&format!("{alive}.{e}"))));
        fs::write(at("note.txt"), "x").unwrap();
        // Somebody is about to listen: nothing is touched.
        let held = lock(dir.path(), Duration::ZERO).unwrap();
        sweep(dir.path());
        assert!(at(&format!("{dead}.sock")).exists());
        drop(held);
        sweep(dir.path());
        let entries = fs::read_dir(dir.path()).unwrap().flatten();
        let mut left: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        left.sort();
        let alive = |e: &str| format!("{alive}.{e}");
        assert_eq!(left, [&alive("nbd"), &alive("sock"), "note.txt", "others.sock"]);
    }
}
