// SPDX-License-Identifier: MIT

//! A file whose reads, writes and flushes fail when a test says so: nbdkit's error filter over an
//! image, made a file again by nbdfuse.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{posix_fadvise, PosixFadviseAdvice};

use super::pool::Place;

/// What is behind the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Behind {
    /// The image: a write that fails says so itself.
    Image,
    /// A cache that writes back when it is flushed: a flush says that writes have failed.
    Cache,
}

/// The file; gone when dropped.
pub(crate) struct Faulty {
    fuse: Child,
    folder: PathBuf,
    file: PathBuf,
    triggers: [PathBuf; 2],
}

impl Faulty {
    /// Over an image of the place, of so many bytes; it is made if it is not there.
    pub(crate) fn over(place: &Place, image: &str, size: u64, behind: Behind) -> Self {
        let folder = place.path(&format!("faulty-{image}"));
        fs::create_dir_all(&folder).unwrap();
        let keep = File::options().create(true).append(true).open(place.path(image)).unwrap();
        keep.set_len(size).unwrap();
        let triggers = ["read", "write"].map(|op| place.path(&format!("{image}-fail-{op}")));
        let [read, write] = triggers.each_ref().map(|path| path.display());
        let file = folder.join(image);
        let mut fuse = Command::new("nbdfuse");
        fuse.arg(&file).args(["--command", "nbdkit", "-s", "--exit-with-parent"]);
        if behind == Behind::Cache {
            fuse.arg("--filter=cache");
        }
        fuse.args(["--filter=error", "file"]).arg(place.path(image));
        fuse.args([format!("error-pread-file={read}"), "error-pread-rate=100%".into()]);
        fuse.args([format!("error-pwrite-file={write}"), "error-pwrite-rate=100%".into()]);
        fuse.args([format!("error-zero-file={write}"), "error-zero-rate=100%".into()]);
        if behind == Behind::Cache {
            fuse.arg("cache=writeback");
        }
        let log = File::create(place.path("nbdkit.log")).unwrap();
        let fuse = fuse.stdin(Stdio::null()).stderr(log).spawn().expect("nbdfuse is installed");
        let mut faulty = Self { fuse, folder, file, triggers };
        let begun = Instant::now();
        while fs::metadata(&faulty.file).map_or(0, |meta| meta.len()) != size {
            let ended = faulty.fuse.try_wait().unwrap();
            assert!(ended.is_none(), "nbdfuse: {ended:?}, see nbdkit.log");
            assert!(begun.elapsed() < Duration::from_secs(20), "nbdfuse does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        faulty
    }

    pub(crate) fn path(&self) -> &str {
        self.file.to_str().unwrap()
    }

    /// All reads fail from now on; what the page cache holds is forgotten.
    pub(crate) fn fail_reads(&self) {
        let file = File::open(&self.file).unwrap();
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
        File::create(&self.triggers[0]).unwrap();
    }

    /// All writes fail from now on; with a cache, all flushes that have something to write.
    pub(crate) fn fail_writes(&self) {
        File::create(&self.triggers[1]).unwrap();
    }

    /// Nothing fails any more.
    pub(crate) fn mend(&self) {
        for trigger in &self.triggers {
            let _ = fs::remove_file(trigger);
        }
    }
}

impl Drop for Faulty {
    /// As if the power were cut: what the cache holds is lost.
    fn drop(&mut self) {
        let _ = self.fuse.kill();
        let _ = self.fuse.wait();
        let _ = Command::new("fusermount3").args(["-u", "-z"]).arg(&self.folder).output();
        self.mend();
    }
}
