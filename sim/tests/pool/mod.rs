// SPDX-License-Identifier: MIT

//! A pool in a folder of its own, and the program run on it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A folder for save and production volumes.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    /// Where control sockets lie.
    run: PathBuf,
}

/// Bytes that are different at each place: a sector says where it is, and `seed`.
pub(crate) fn pattern(at: u64, len: u64, seed: u64) -> Vec<u8> {
    let words = (at / 8..(at + len) / 8).map(|n| (n ^ (seed << 48)).to_le_bytes());
    words.flatten().collect()
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        Self { dir, run }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a production volume that holds pattern 1.
    pub(crate) fn production(&self, name: &str, size: u64) -> String {
        let path = self.path(name);
        let file = File::create(&path).unwrap();
        file.write_all_at(&pattern(0, size, 1), 0).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A pool with one production `prod`.
    pub(crate) fn pool(size: u64) -> Self {
        let place = Self::new();
        let prod = place.production("prod.img", size);
        place.ok(&["-q", "create", "save.img", "--size", "32M", "--production", &prod]);
        place
    }

    /// Finds the servers of the other place, and is found there.
    pub(crate) fn beside(mut self, other: &Self) -> Self {
        self.run.clone_from(&other.run);
        self
    }

    /// The program with its standard input and these arguments.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rwsnap"));
        command.args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command.env("RWSNAP_POOL", "save.img").env_remove("RUST_LOG");
        command.env("RWSNAP_RUNTIME_DIR", &self.run);
        command.env("RWSNAP_CONTROL_DEVICE", self.path("no-module"));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Has to succeed; what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {} {said}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Has to be refused with exit code 1 and to say all of `parts`.
    pub(crate) fn refused(&self, args: &[&str], parts: &[&str]) {
        let output = self.run(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{args:?} does not say `{part}`: {said}");
        }
    }

    /// Has to succeed and print JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    /// Writes a pattern into a volume.
    pub(crate) fn write(&self, name: &str, at: u64, len: u64, seed: u64) {
        fs::write(self.path("in"), pattern(at, len, seed)).unwrap();
        self.ok(&["write", name, "--offset", &at.to_string(), "-i", "in"]);
    }

    /// Reads a part of a volume.
    pub(crate) fn read(&self, name: &str, at: u64, len: u64) -> Vec<u8> {
        let (at, len) = (at.to_string(), len.to_string());
        let output = self.run(&["read", name, "--offset", &at, "--length", &len]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "read {name}: {said}");
        output.stdout
    }

    /// The volume holds the pattern there.
    pub(crate) fn holds(&self, name: &str, at: u64, len: u64, seed: u64) {
        assert!(
            self.read(name, at, len) == pattern(at, len, seed),
            "{name} at {at} +{len}: {seed}"
        );
    }

    /// The pool at rest is sound.
    pub(crate) fn check(&self) {
        let output = self.run(&["check", "save.img"]);
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "check: {} {said}", output.status);
    }
}
