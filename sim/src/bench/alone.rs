// SPDX-License-Identifier: MIT

//! The same I/Os alone: on files of their own on the same disk, by a ring as the server has one,
//! each when the one before it is done.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cli::error::{Failure, Outcome};
use crate::store::{Access, Cache, Volume};
use crate::uring::{Arena, Completion, File, Ring, Setup, Span};

use super::pool::Counts;
use super::Bench;

/// Bytes of one I/O.
const BLOCK: u32 = 4096;
/// Bytes of each file.
const SIZE: u64 = 16 << 20;

/// Two files and a ring.
pub struct Alone {
    ring: Ring,
    span: Span,
    save: (Volume, File),
    production: (Volume, File),
    done: Vec<Completion>,
}

impl Alone {
    /// Makes the files.
    ///
    /// # Errors
    ///
    /// They cannot be made, or the kernel has no ring for us.
    pub fn new(bench: &Bench) -> Outcome<Self> {
        let arena = Arena::new(BLOCK, 0).map_err(Failure::io("map memory"))?;
        let span = arena.whole();
        let poll = Duration::ZERO;
        let setup = Setup { entries: 8, files: 4, fixed_buffers: true, poll };
        let mut ring = Ring::new(&setup, Arc::new(arena)).map_err(Failure::io("make a ring"))?;
        let mut open = |name| -> Outcome<(Volume, File)> {
            let path = bench.place.filled(name, SIZE)?;
            let volume = Volume::open(&path, Access::Own, Cache::Direct)?;
            let file = ring.adopt(volume.file().as_raw_fd());
            Ok((volume, file))
        };
        let (save, production) = (open("alone.save")?, open("alone.prod")?);
        Ok(Self { ring, span, save, production, done: Vec::new() })
    }

    /// Makes durable what the disk holds of whoever else writes to it: who is measured next would
    /// have to wait for it.
    ///
    /// # Errors
    ///
    /// A flush fails.
    pub fn settle(&self) -> Outcome {
        self.save.0.flush()?;
        Ok(self.production.0.flush()?)
    }

    /// Issues as many I/Os: reads and writes first, and behind each write a flush, as long as there
    /// are any.
    ///
    /// # Errors
    ///
    /// One of them fails.
    pub fn issue(&mut self, counts: Counts) -> Outcome<Duration> {
        let (save, production) = (self.save.1, self.production.1);
        let sides = [
            (save, counts.save_reads, counts.save_writes, counts.save_flushes),
            (production, counts.reads, counts.writes, counts.flushes),
        ];
        let span = self.span;
        let begun = Instant::now();
        for (file, reads, writes, flushes) in sides {
            for n in 0..reads {
                self.one(|ring| ring.read(file, place(n), span, n))?;
            }
            for n in 0..writes.max(flushes) {
                if n < writes {
                    self.one(|ring| ring.write(file, place(n), span, false, n))?;
                }
                if n < flushes {
                    self.one(|ring| ring.flush(file, n))?;
                }
            }
        }
        Ok(begun.elapsed())
    }

    /// Queues an operation and waits for its end.
    fn one(&mut self, queue: impl FnOnce(&mut Ring)) -> Outcome {
        queue(&mut self.ring);
        while self.done.is_empty() {
            self.ring.turn(1, None).map_err(Failure::io("wait for a disk"))?;
            self.ring.reap(&mut self.done);
        }
        let ended = self.done.drain(..).try_for_each(|done| done.count().map(drop));
        ended.map_err(|e: io::Error| Failure::io("use a disk")(e))
    }
}

/// Where the n-th I/O goes.
fn place(n: u64) -> u64 {
    n % (SIZE / u64::from(BLOCK)) * u64::from(BLOCK)
}
