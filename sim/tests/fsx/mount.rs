// SPDX-License-Identifier: MIT

//! The program fsx, of the crate of that name, on a loop device over nbdfuse over production.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::pool::Place;
use super::server::Server;

const SIZE: u64 = 48 << 20;

/// What fsx may do to a block device: no size but the device's, and whole sectors.
const BLOCK_MODE: &str = "blockmode = true
[opsize]
align = 512
min = 512
max = 131072
[weights]
truncate = 0
fsync = 1
";

/// A program run as root, by sudo if need be.
fn root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
    output
}

/// Where `make setup` puts fsx.
fn fsx() -> PathBuf {
    let of = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = of("RWSNAP_CACHE")
        .or_else(|| of("XDG_CACHE_HOME").map(|cache| cache.join("rwsnap")))
        .or_else(|| of("HOME").map(|home| home.join(".cache/rwsnap")));
    let fsx = cache.unwrap().join("tools/bin/fsx");
    assert!(fsx.exists(), "{} is missing: `make setup` builds it", fsx.display());
    fsx
}

/// Production as a block device; undone when dropped.
struct Stack {
    fuse: Child,
    folder: PathBuf,
    device: Option<String>,
    mounted: bool,
}

impl Stack {
    fn new(place: &Place, uri: &str) -> Self {
        let folder = place.path("fuse");
        fs::create_dir(&folder).unwrap();
        let fuse = root("nbdfuse").arg(&folder).arg(uri).spawn().unwrap();
        let mut stack = Self { fuse, folder, device: None, mounted: false };
        let file = stack.folder.join("nbd");
        let begun = Instant::now();
        while !root("test").arg("-s").arg(&file).status().unwrap().success() {
            assert!(begun.elapsed() < Duration::from_secs(20), "nbdfuse does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        let found = run(root("losetup").args(["--find", "--show"]).arg(file));
        stack.device = Some(String::from_utf8_lossy(&found.stdout).trim().to_owned());
        stack
    }

    fn device(&self) -> &str {
        self.device.as_deref().unwrap()
    }

    fn mount(&mut self, at: &Path) {
        run(root("mount").arg(self.device()).arg(at));
        self.mounted = true;
    }

    fn unmount(&mut self) {
        run(root("umount").arg(self.device()));
        self.mounted = false;
    }

    /// Takes it down; all has to go well.
    fn end(mut self) {
        run(root("losetup").args(["--detach", self.device()]));
        self.device = None;
        run(root("fusermount3").arg("-u").arg(&self.folder));
        assert!(self.fuse.wait().unwrap().success());
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(device) = &self.device {
            if self.mounted {
                let _ = root("umount").arg(device).output();
            }
            let _ = root("losetup").args(["--detach", device]).output();
            let _ = root("fusermount3").arg("-u").arg(&self.folder).output();
        }
        let _ = self.fuse.wait();
    }
}

/// Runs fsx to its end; takes snapshots meanwhile, and gives their names.
fn with_snapshots(place: &Place, head: &str, fsx: &mut Command) -> Vec<String> {
    let mut names = Vec::new();
    let log = fs::File::create(place.path("fsx.log")).unwrap();
    let mut child = fsx.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if names.len() < 8 {
            names.push(format!("prod@{head}{}", names.len()));
            place.ok(&["snapshot", names.last().unwrap()]);
        }
        std::thread::sleep(Duration::from_millis(150));
    };
    let said = fs::read_to_string(place.path("fsx.log")).unwrap();
    let tail: String = said.chars().skip(said.chars().count().saturating_sub(3000)).collect();
    assert!(status.success(), "fsx: {status}: {tail}");
    assert!(names.len() > 1, "fsx was over before a snapshot was taken");
    names
}

/// The file system of a snapshot is whole once its journal is replayed.
fn is_whole(place: &Place, name: &str) {
    let image = place.path("image");
    let _ = fs::remove_file(&image);
    place.ok(&["-q", "export", name, "image"]);
    let replay = Command::new("e2fsck").args(["-fy", "-E", "journal_only"]).arg(&image).output();
    // 1: it has changed something, the journal.
    assert!(matches!(replay.unwrap().status.code(), Some(0 | 1)), "{name} has a bad journal");
    run(Command::new("e2fsck").arg("-fn").arg(&image));
}

/// Exercises the bare device, then a file on it.
pub(crate) fn exercise() {
    let place = Place::new();
    let prod = place.production("prod.img", SIZE);
    place.ok(&["-q", "create", "save.img", "--size", "256M", "--production", &prod]);
    let server = Server::start(&place, &["--nbd", "unix:n.sock"]);
    let socket = place.path("n.sock");
    let uri = format!("nbd+unix:///prod?socket={}", socket.display());
    let mut stack = Stack::new(&place, &uri);
    fs::write(place.path("fsx.toml"), BLOCK_MODE).unwrap();
    let (config, artifacts) = (place.path("fsx.toml"), place.path(""));
    let mut bare = root(fsx().to_str().unwrap());
    bare.arg("-q").arg("-f").arg(config).arg("-P").arg(artifacts);
    with_snapshots(&place, "bare", bare.args(["-N", "1500", "-S", "7", stack.device()]));

    run(root("mkfs.ext4").args(["-q", "-F", stack.device()]));
    let mount = place.path("mnt");
    fs::create_dir(&mount).unwrap();
    stack.mount(&mount);
    let mut file = root(fsx().to_str().unwrap());
    file.args(["-q", "-N", "4000", "-S", "8"]).arg(mount.join("file"));
    let names = with_snapshots(&place, "file", &mut file);
    stack.unmount();
    stack.end();
    place.ok(&["snapshot", "prod@end"]);
    names.iter().for_each(|name| is_whole(&place, name));
    is_whole(&place, "prod@end");
    place.ok(&["stop"]);
    server.ended();
    place.check();
    run(Command::new("e2fsck").arg("-fn").arg(place.path("prod.img")));
}
