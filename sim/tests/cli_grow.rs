// SPDX-License-Identifier: MIT

//! A save volume that grows in a file system that cannot allocate ahead: ext2 has no `fallocate`.

#[path = "pool/loops.rs"]
mod loops;
#[expect(dead_code, reason = "other tests use the rest")]
mod pool;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "pool/server.rs"]
mod server;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use loops::{as_root, Loop};
use nix::errno::Errno;
use nix::fcntl::{fallocate, FallocateFlags};
use pool::Place;
use server::Server;

const M: u64 = 1 << 20;
const SIZE: u64 = 32 * M;

/// An ext2 file system of so many bytes in a file of the place; unmounted when dropped, or soon
/// after: the kernel lets go of a ring that has ended a moment later.
struct Mount {
    folder: PathBuf,
    _device: Loop,
}

impl Mount {
    fn new(place: &Place, size: u64) -> Self {
        let image = place.path("ext2.img");
        File::create(&image).unwrap().set_len(size).unwrap();
        let device = Loop::over(image.to_str().unwrap());
        as_root(&["mkfs.ext2", "-q", "-F", "-m", "0", &device.0]);
        let folder = place.path("mnt");
        fs::create_dir(&folder).unwrap();
        as_root(&["mount", &device.0, folder.to_str().unwrap()]);
        as_root(&["chmod", "777", folder.to_str().unwrap()]);
        let mount = Self { folder, _device: device };
        let probe = File::create(mount.folder.join("probe")).unwrap();
        let refused = fallocate(&probe, FallocateFlags::empty(), 0, 4096);
        assert_eq!(refused, Err(Errno::EOPNOTSUPP), "it can allocate: nothing is tested");
        mount
    }

    fn save(&self) -> String {
        self.folder.join("save.img").to_str().unwrap().to_owned()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        as_root(&["umount", "--lazy", self.folder.to_str().unwrap()]);
    }
}

#[test]
fn a_save_volume_grows_where_there_is_no_fallocate() {
    let place = Place::new();
    let mount = Mount::new(&place, 96 * M);
    let (save, prod) = (mount.save(), place.production("prod.img", SIZE));
    let create = ["-q", "create", &save, "--size", "16M", "--production", &prod];
    place.ok(&[&create[..], &["--when-full", "grow", "--grow-limit", "64M"]].concat());
    let server = Server::start_on(&place, &save, &[]);
    place.ok(&["--pool", "save", "snapshot", "prod@a"]);
    fs::write(place.path("in"), pool::pattern(0, SIZE, 2)).unwrap();
    place.ok(&["--pool", "save", "write", "prod", "-i", "in"]);
    let grown = fs::metadata(&save).unwrap();
    assert!((SIZE..=64 * M).contains(&grown.len()), "{} bytes", grown.len());
    assert!(grown.blocks() * 512 >= SIZE, "{} blocks", grown.blocks());
    let status = place.json(&["--pool", "save", "status"]);
    assert_eq!(status["save_bytes"], grown.len());
    assert_eq!((&status["state"], &status["full"]), (&"sound".into(), &false.into()));
    let kinds: Vec<_> = status["latest_events"].as_array().unwrap().iter().collect();
    assert!(kinds.iter().any(|event| event["kind"] == "grown"), "{kinds:?}");
    place.ok(&["--pool", "save", "stop"]);
    server.ended();
    place.ok(&["check", &save]);
    // Again by a server that is killed, and once at rest: what was flushed is there.
    let server = Server::start_on(&place, &save, &[]);
    for (name, seed) in [("prod@a", 1), ("prod", 2)] {
        let output = place.run(&["--pool", "save", "read", name]);
        assert!(output.status.success() && output.stdout == pool::pattern(0, SIZE, seed), "{name}");
    }
    place.ok(&["--pool", "save", "snapshot", "prod@b"]);
    fs::write(place.path("in"), pool::pattern(0, 16 * M, 3)).unwrap();
    place.ok(&["--pool", "save", "write", "prod", "-i", "in"]);
    assert!(fs::metadata(&save).unwrap().len() > grown.len(), "it has not grown again");
    drop(server);
    place.ok(&["check", &save]);
    let server = Server::start_on(&place, &save, &[]);
    let output = place.run(&["--pool", "save", "read", "prod@b"]);
    assert!(output.status.success() && output.stdout == pool::pattern(0, SIZE, 2), "prod@b");
    place.ok(&["--pool", "save", "stop"]);
    server.ended();
    place.ok(&["check", &save]);
}

/// The file got its length, and there was no space for what it has: the pool is fenced, and says
/// why; nothing that was acknowledged is lost.
#[test]
fn a_full_file_system_below_a_grown_save_volume_is_said() {
    let place = Place::new();
    let mount = Mount::new(&place, 32 * M);
    let (save, prod) = (mount.save(), place.production("prod.img", SIZE));
    let create = ["-q", "create", &save, "--size", "12M", "--production", &prod];
    place.ok(&[&create[..], &["--when-full", "grow", "--grow-limit", "64M"]].concat());
    let server = Server::start_on(&place, &save, &[]);
    place.ok(&["--pool", "save", "snapshot", "prod@a"]);
    fs::write(place.path("in"), pool::pattern(0, 4 * M, 2)).unwrap();
    place.ok(&["--pool", "save", "write", "prod", "-i", "in"]);
    fs::write(place.path("in"), pool::pattern(0, SIZE, 3)).unwrap();
    place.refused(&["--pool", "save", "write", "prod", "-i", "in"], &["cannot write to `prod`"]);
    let status = place.json(&["--pool", "save", "status"]);
    assert_eq!(status["state"], "fenced");
    let why = status["fenced"].as_str().unwrap();
    assert!(why.contains("no room left below the save volume"), "{why}");
    // Writes that need nothing of the save volume go on.
    fs::write(place.path("in"), pool::pattern(0, M, 4)).unwrap();
    place.ok(&["--pool", "save", "write", "prod", "-i", "in"]);
    place.run(&["--pool", "save", "stop"]);
    drop(server);
    place.ok(&["check", &save]);
    let read = |name| place.run(&["--pool", &save, "read", name]).stdout;
    assert!(read("prod@a") == pool::pattern(0, SIZE, 1), "prod@a");
    let prod = read("prod");
    assert!(prod[..1 << 20] == pool::pattern(0, M, 4) && prod.len() == 32 << 20, "prod");
}
