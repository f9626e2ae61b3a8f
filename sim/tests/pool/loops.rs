// SPDX-License-Identifier: MIT

//! Loop devices, made and ended as root.

use std::process::Command;

/// Runs a program as root, by sudo if need be; what it printed.
pub(crate) fn as_root(command: &[&str]) -> String {
    let is_root = nix::unistd::geteuid().is_root();
    let sudo: &[&str] = if is_root { &[] } else { &["sudo", "-n"] };
    let words = [sudo, command].concat();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A loop device, which ends with this.
pub(crate) struct Loop(pub(crate) String);

impl Loop {
    pub(crate) fn over(path: &str) -> Self {
        Self::of(path, "512")
    }

    /// With this logical block.
    pub(crate) fn of(path: &str, block: &str) -> Self {
        let device = Self(as_root(&["losetup", "--find", "--show", "--sector-size", block, path]));
        if !nix::unistd::geteuid().is_root() {
            as_root(&["chown", &nix::unistd::geteuid().to_string(), &device.0]);
        }
        device
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        as_root(&["losetup", "--detach", &self.0]);
    }
}
