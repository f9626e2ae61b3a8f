// SPDX-License-Identifier: MIT

//! Reads and writes of a volume at any byte: the core takes whole blocks, so the edges are read
//! with their blocks, and written by reading their blocks first.

use rwsnap_core::control::{Name, Verb};

use super::connect::{command, Connection, PIECE};
use super::error::{Failure, Outcome};
use super::info::entity;
use super::module::node;

/// A volume or snapshot, and the block that its I/O is aligned to.
pub struct Bytes<'a> {
    pool: &'a mut Connection,
    name: Name,
    block: u64,
    /// Bytes in it.
    pub size: u64,
}

impl<'a> Bytes<'a> {
    /// Of the volume or snapshot of this name; not if it has a block device, or can have one, which
    /// all programs can read and write.
    pub fn new(pool: &'a mut Connection, name: Name) -> Outcome<Self> {
        if pool.is_attached() {
            return Err(use_device(pool, name));
        }
        Self::inside(pool, name)
    }

    /// The same, wherever it is.
    pub fn inside(pool: &'a mut Connection, name: Name) -> Outcome<Self> {
        let block = u64::from(pool.pool()?.block.get()).max(512);
        let size = entity(pool, name)?.size.get();
        Ok(Self { pool, name, block, size })
    }

    /// The same, where block and size are known.
    pub fn known(pool: &'a mut Connection, name: Name, (block, size): (u64, u64)) -> Self {
        Self { pool, name, block, size }
    }

    /// Block and size, for [`Bytes::known`].
    #[must_use]
    pub fn shape(&self) -> (u64, u64) {
        (self.block, self.size)
    }

    /// Refuses bytes beyond the end.
    pub fn check(&self, at: u64, len: u64) -> Outcome {
        if at.checked_add(len).is_some_and(|end| end <= self.size) {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{len} bytes from {at} on lie beyond the end of `{}`, which has {}",
            self.name.text(),
            self.size
        )))
    }

    /// The bytes `at..at + len`.
    pub fn read(&mut self, at: u64, len: usize) -> Outcome<Vec<u8>> {
        let start = at - at % self.block;
        let lead = usize::try_from(at - start).unwrap_or(0);
        let end = (at + len as u64).next_multiple_of(self.block);
        let whole = usize::try_from(end - start).unwrap_or(0);
        let mut bytes = vec![0; whole];
        self.pool.read(self.name, &mut bytes, start)?;
        bytes.drain(..lead);
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Writes `bytes` to `at`.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Outcome {
        let is_whole = at % self.block == 0 && bytes.len() as u64 % self.block == 0;
        if is_whole {
            return self.pool.write(self.name, bytes, at);
        }
        let start = at - at % self.block;
        let lead = usize::try_from(at - start).unwrap_or(0);
        let end = (at + bytes.len() as u64).next_multiple_of(self.block);
        let mut whole = self.read(start, usize::try_from(end - start).unwrap_or(0))?;
        whole.iter_mut().skip(lead).zip(bytes).for_each(|(to, from)| *to = *from);
        self.pool.write(self.name, &whole, start)
    }

    /// Makes durable what was written.
    pub fn flush(&mut self) -> Outcome {
        self.pool.flush(self.name)
    }

    /// Hands out the bytes `at..at + len` piece by piece.
    pub fn each(&mut self, at: u64, len: u64, mut f: impl FnMut(u64, &[u8]) -> Outcome) -> Outcome {
        let end = at.saturating_add(len);
        let mut place = at;
        while place < end {
            let now = usize::try_from(end - place).unwrap_or(PIECE).min(PIECE);
            f(place, &self.read(place, now)?)?;
            place += now as u64;
        }
        Ok(())
    }
}

/// Names the block device to use, or how to get it.
fn use_device(pool: &mut Connection, name: Name) -> Failure {
    let said = pool.call(&command(Verb::Info, name), &[]).and_then(|_| pool.devices());
    let devices = match said {
        Ok(devices) => devices,
        Err(e) => return e,
    };
    let text = name.text();
    let has = "the kernel module has the pool attached";
    Failure::new(match devices.iter().find(|row| row.name == name) {
        Some(row) => format!("{has}: `{text}` is the block device {}", node(row).display()),
        None => format!("{has}: `rwsnap expose {text}` makes a block device of it"),
    })
}
