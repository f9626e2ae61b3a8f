// SPDX-License-Identifier: MIT

//! Writes an archive in the format "newc", as the kernel unpacks one for its first root.
//!
//! A member is a header of 110 hexadecimal characters, its name with a zero byte, and its data;
//! name and data are padded to 4 bytes. Folders stand before what is in them.

use std::collections::BTreeSet;
use std::io::{self, Write};

/// What a member is, as in `st_mode`.
const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const FILE: u32 = 0o100_000;
/// The name of the last member.
const TRAILER: &str = "TRAILER!!!";

/// An archive that is being written.
pub(crate) struct Archive<W: Write> {
    to: W,
    members: u32,
    names: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// An empty one.
    pub(crate) fn new(to: W) -> Self {
        Self { to, members: 0, names: BTreeSet::new() }
    }

    /// A folder, with those above it.
    pub(crate) fn folder(&mut self, path: &str) -> io::Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || self.has(path) {
            return Ok(());
        }
        self.above(path)?;
        self.member(path, FOLDER, b"")
    }

    /// A file with its bytes; the first of a name stays.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, bytes: &[u8]) -> io::Result<()> {
        self.once(path, FILE | permissions, bytes)
    }

    /// A symbolic link; the first of a name stays.
    pub(crate) fn link(&mut self, path: &str, to: &str) -> io::Result<()> {
        self.once(path, LINK, to.as_bytes())
    }

    /// Whether there is a member of this name.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.names.contains(path.trim_matches('/'))
    }

    /// Ends the archive.
    pub(crate) fn end(mut self) -> io::Result<W> {
        self.member(TRAILER, 0, b"")?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn once(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let path = path.trim_matches('/');
        if self.has(path) {
            return Ok(());
        }
        self.above(path)?;
        self.member(path, mode, bytes)
    }

    fn above(&mut self, path: &str) -> io::Result<()> {
        match path.rsplit_once('/') {
            Some((folder, _)) => self.folder(folder),
            None => Ok(()),
        }
    }

    fn member(&mut self, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let long = |_| io::Error::other(format!("{name}: too long for an archive"));
        let data_bytes = u32::try_from(bytes.len()).map_err(long)?;
        let name_bytes = u32::try_from(name.len() + 1).map_err(long)?;
        self.members += 1;
        self.names.insert(name.to_owned());
        // inode, mode, owner, group, links, time, size, device (2), device itself (2), name, sum
        let fields = [self.members, mode, 0, 0, 1, 0, data_bytes, 0, 0, 0, 0, name_bytes, 0];
        let mut head = String::from("070701");
        for field in fields {
            head.push_str(&format!("{field:08x}"));
        }
        self.padded(&[head.as_bytes(), name.as_bytes(), b"\0"].concat())?;
        self.padded(bytes)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        self.to.write_all(&[0; 3][..padding])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn some() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        archive.file("/etc/deep/hosts", 0o640, b"hello").unwrap();
        archive.link("/etc/link", "deep/hosts").unwrap();
        archive.file("etc/deep/hosts", 0o600, b"another of this name is left out").unwrap();
        archive.end().unwrap()
    }

    #[test]
    fn members_are_aligned_and_folders_come_first() {
        let bytes = some();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let heads: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(heads.len(), 5);
        assert!(heads.iter().all(|at| at % 4 == 0), "{heads:?}");
        let at = |name: &str| text.find(name).unwrap();
        assert!(at("etc\0") < at("etc/deep\0") && at("etc/deep\0") < at("etc/deep/hosts\0"));
    }

    /// The format as another program understands it, if there is one.
    #[test]
    fn cpio_lists_what_was_written() {
        let mut list = Command::new("cpio");
        list.args(["-itv", "--quiet"]).stdin(Stdio::piped());
        let Ok(mut list) = list.stdout(Stdio::piped()).spawn() else { return };
        list.stdin.take().unwrap().write_all(&some()).unwrap();
        let output = list.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<_> =
            text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).collect();
        let seen: Vec<_> = lines.iter().map(|l| (l[0], l[4], l[8])).collect();
        let wanted = [
            ("drwxr-xr-x", "0", "etc"),
            ("drwxr-xr-x", "0", "etc/deep"),
            ("-rw-r-----", "5", "etc/deep/hosts"),
            ("lrwxrwxrwx", "10", "etc/link"),
        ];
        assert_eq!(seen, wanted);
    }
}
