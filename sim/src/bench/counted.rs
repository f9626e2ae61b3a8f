// SPDX-License-Identifier: MIT

//! What is counted rather than timed: the I/Os and flushes of first writes, and of what a snapshot,
//! a clone, a refresh and a restore take until they are done.

use std::time::{Duration, Instant};

use crate::cli::error::{Failure, Outcome};

use super::load::{Kind, Load};
use super::numbers::real;
use super::pool::{Counts, Pool};

/// Bytes of a small request.
const SMALL: u64 = 4096;

/// Chunks that differ from the first snapshot in every pool whose moments are measured.
pub const DIFFERENT: u64 = 64;

/// First writes of 4 KiB to `prod`, one after the other, spread evenly, each to a chunk of its own:
/// the `nth` behind each of the places; right after a snapshot that was taken for this.
///
/// # Errors
///
/// A command is refused, or a write fails.
pub fn one_by_one(pool: &mut Pool, size: u64, writes: u64, nth: u64) -> Outcome<Counts> {
    let mut client = pool.client("prod")?;
    pool.quiet()?;
    let before = pool.counts()?;
    let stride = (size / SMALL / writes.max(1)).max(1);
    for n in 0..writes {
        let bytes = [0x5A; 4096];
        let done = client.write((n * stride + nth) * SMALL, &bytes, false);
        done.map_err(|e| Failure::new(format!("a first write: {e}")))?;
    }
    Ok(pool.counts()? - before)
}

/// First writes of 4 KiB to `prod` at depth 32, in random order; and how many a second.
///
/// # Errors
///
/// The load fails.
pub fn at_depth_32(pool: &mut Pool, size: u64, bytes: u64, seed: u64) -> Outcome<(Counts, f64)> {
    pool.quiet()?;
    let before = pool.counts()?;
    let done = Load::once(Kind::Write, size, bytes, seed).drive(&pool.whom("prod"))?;
    let counts = pool.counts()? - before;
    if counts.copied < done.count * 9 / 10 {
        let copied = counts.copied;
        let why = format!("of {} writes {copied} only were first writes", done.count);
        return Err(Failure::new(why));
    }
    Ok((counts, done.iops))
}

/// Of so many first writes, what each took of something.
#[must_use]
pub fn each(count: u64, counts: Counts) -> f64 {
    real(count) / real(counts.copied.max(1))
}

/// What is done at a moment, however large the volume is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// A snapshot.
    Snapshot,
    /// A clone of it.
    Clone,
    /// The clone is refreshed; what it was is kept, so that nothing is swept meanwhile.
    Refresh,
    /// A restore of production from its first snapshot, up to its first foreground write.
    Restore,
}

impl Moment {
    /// All, in an order in which they can be done.
    pub const ALL: [Self; 4] = [Self::Snapshot, Self::Clone, Self::Refresh, Self::Restore];

    /// For a person.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Clone => "clone",
            Self::Refresh => "refresh",
            Self::Restore => "restore to first write",
        }
    }

    /// Makes ready for the `n`th time: nothing goes on in the background, and the pages of the map
    /// that a restore's first write asks are in the cache. The pool comes from `records::pool`: it
    /// has the snapshot `prod@first`, and the chunk that the first write after a restore goes to
    /// was written since.
    ///
    /// # Errors
    ///
    /// A read fails, or the server does not answer.
    pub fn prepare(self, pool: &mut Pool, n: usize) -> Outcome {
        if self == Self::Restore {
            for snapshot in ["prod@first", &format!("prod@moment{n}")] {
                let mut client = pool.client(snapshot)?;
                let at = place(client.size(), n);
                client.read(at, &mut [0; 4096]).map_err(|e| Failure::new(e.to_string()))?;
            }
        }
        pool.quiet()
    }

    /// Does it; what it took. The first write comes by the way that the command came.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn measure(self, pool: &mut Pool, n: usize) -> Outcome<(Counts, Duration)> {
        let (snapshot, clone) = (format!("prod@moment{n}"), format!("moment{n}"));
        let size = pool.size("prod")?;
        let before = pool.counts()?;
        let begun = Instant::now();
        match self {
            Self::Snapshot => pool.snapshot(&snapshot)?,
            Self::Clone => pool.clone_of(&snapshot, &clone)?,
            Self::Refresh => pool.refresh(&clone, &format!("kept{n}"))?,
            Self::Restore => {
                pool.restore("prod@first", 0, true)?;
                pool.write("prod", place(size, n), &[0xA5; 4096])?;
            }
        }
        let time = begun.elapsed();
        Ok((pool.counts()? - before, time))
    }

    /// Takes a restore back.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn undo(self, pool: &mut Pool) -> Outcome {
        if self == Self::Restore {
            pool.cancel()?;
            pool.rate(u64::MAX)?;
            pool.merged()?;
        }
        Ok(())
    }
}

/// Where the first write after the `n`th restore goes.
fn place(size: u64, n: usize) -> u64 {
    u64::try_from(n).unwrap_or(0) % DIFFERENT * (size / SMALL / DIFFERENT) * SMALL
}
