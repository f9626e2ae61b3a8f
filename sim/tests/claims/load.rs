// SPDX-License-Identifier: MIT

//! Load on a block device: random reads and writes of blocks, each read verified.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::device::Device;
use super::door::Load;
use super::model::length;

/// Bytes read or written at once.
const BLOCK: u64 = 4096;
/// Threads that make load.
const THREADS: u64 = 4;

/// Starts threads that read and write blocks of the range, each its own part of it.
pub(crate) fn load(path: &Path, at: u64, bytes: u64, seconds: u64) -> Load {
    let part = bytes / THREADS / BLOCK * BLOCK;
    let end = Instant::now() + Duration::from_secs(seconds);
    let threads = (0..THREADS).map(|n| {
        let (path, from) = (path.to_owned(), at + n * part);
        thread::spawn(move || Worker::new(&path, from, part / BLOCK, n + 1)?.run(end))
    });
    let threads: Vec<_> = threads.collect();
    Box::new(move || {
        let mut sum = (0, 0);
        for thread in threads {
            let (reads, writes) = thread.join().map_err(|_| "a thread of load panicked")??;
            sum = (sum.0 + reads, sum.1 + writes);
        }
        Ok(sum)
    })
}

/// A thread of load: what it wrote last to each block is known to it.
struct Worker {
    device: Device,
    from: u64,
    /// The version of each block; 0: not written yet.
    versions: Vec<u64>,
    random: u64,
}

impl Worker {
    fn new(path: &Path, from: u64, blocks: u64, seed: u64) -> Result<Self, String> {
        let device = Device::open(path, true)?;
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        Ok(Self { device, from, versions: vec![0; length(blocks)], random })
    }

    /// Reads and writes until then, and reads all that it wrote at the end.
    fn run(mut self, end: Instant) -> Result<(u64, u64), String> {
        let (mut reads, mut writes) = (0, 0);
        while Instant::now() < end {
            let random = self.next();
            let block = length((random >> 1) % self.versions.len() as u64);
            if random & 1 == 0 && self.versions[block] > 0 {
                self.verify(block)?;
                reads += 1;
            } else {
                self.write(block)?;
                writes += 1;
            }
        }
        for block in 0..self.versions.len() {
            if self.versions[block] > 0 {
                self.verify(block)?;
                reads += 1;
            }
        }
        self.device.flush()?;
        Ok((reads, writes))
    }

    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn place(&self, block: usize) -> u64 {
        self.from + block as u64 * BLOCK
    }

    /// What a block holds: its place and its version.
    fn data(&self, block: usize) -> Vec<u8> {
        let cell = [self.place(block).to_le_bytes(), self.versions[block].to_le_bytes()].concat();
        cell.repeat(length(BLOCK) / cell.len())
    }

    fn write(&mut self, block: usize) -> Result<(), String> {
        self.versions[block] += 1;
        self.device.write(self.place(block), &self.data(block))
    }

    fn verify(&self, block: usize) -> Result<(), String> {
        let found = self.device.read(self.place(block), BLOCK)?;
        let holds = found == self.data(block);
        let version = self.versions[block];
        holds.then_some(()).ok_or_else(|| {
            let place = self.place(block);
            format!("load: byte {place} does not hold version {version}: {:?}", &found[..16])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::media::{Media, Medium};
    use super::super::model::fill;
    use super::*;

    /// Load sees what another has written into its range.
    #[test]
    fn load_notices_what_is_wrong() {
        let mut media = Media::new(Medium::Loop4096);
        let path = media.production("prod", 1 << 20).expect("a loop device");
        let mut worker = Worker::new(&path, 0, 4, 1).expect("it opens");
        worker.write(2).expect("it writes");
        worker.verify(2).expect("it is there");
        worker.device.write(2 * BLOCK, &fill(1, 0, BLOCK)).expect("it writes");
        assert!(worker.verify(2).is_err());
        worker.versions[3] = 1;
        assert!(worker.run(Instant::now()).is_err());
    }
}
