// SPDX-License-Identifier: MIT

//! The merge of a restore, with and without undo, beside plain copying of as much data on the same
//! disk: by four threads, 1 MiB at once, around the page cache, and a flush at the end.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::cli::error::{Failure, Outcome};
use crate::store::{Access, Cache, StoreError, Volume};

use super::load::{Kind, Load};
use super::numbers::real;
use super::pool::{Files, Pool, USUAL};
use super::report::{Series, Target};
use super::Bench;

/// Bytes copied at once.
const PIECE: u64 = 1 << 20;
/// Threads that copy.
const THREADS: u64 = 4;

/// Measures.
///
/// # Errors
///
/// A server does not start, a command is refused, a load fails.
pub fn measure(bench: &mut Bench) -> Outcome {
    let size = bench.options.size;
    bench.say("merge: making images");
    let from = bench.place.filled("from.img", size)?;
    let to = bench.place.filled("to.img", size)?;
    let prod = bench.place.filled("prod.img", size)?;
    let program = bench.options.program.clone();
    let files = Files::create(&program, &bench.place, "merge", &prod, size * 4)?;
    let mut pool = files.serve(USUAL)?;
    let mut copying = Series::new("plain copying");
    let mut plain = Series::new("merge without undo");
    let mut undo = Series::new("merge with undo");
    for round in 1..=bench.options.rounds {
        bench.say(format!("merge: round {round}"));
        copying.push(rate(size, copy(&from, &to, size)?));
        plain.push(rate(size, merge(&mut pool, size, false)?));
        undo.push(rate(size, merge(&mut pool, size, true)?));
    }
    pool.stop()?;
    let report = &mut bench.report;
    report.compare(&plain, &copying, "MiB/s", Target::AtLeast(0.7));
    report.compare(&undo, &copying, "MiB/s", Target::AtLeast(0.4));
    Ok(())
}

fn rate(bytes: u64, time: Duration) -> f64 {
    real(bytes >> 20) / time.as_secs_f64().max(1e-9)
}

/// Overwrites all of production behind a snapshot, and restores it; how long the merge took.
fn merge(pool: &mut Pool, size: u64, undo: bool) -> Outcome<Duration> {
    pool.snapshot("prod@base")?;
    let fill = Load { block: 1 << 20, depth: 4, ..Load::once(Kind::Fill, size, size, 1) };
    fill.drive(&pool.whom("prod"))?;
    pool.quiet()?;
    let begun = Instant::now();
    pool.restore("prod@base", u64::MAX, undo)?;
    pool.merged()?;
    let time = begun.elapsed();
    for snapshot in pool.snapshots()? {
        pool.destroy(&snapshot)?;
    }
    pool.quiet()?;
    Ok(time)
}

/// Copies a file over another one; how long it took.
fn copy(from: &Path, to: &Path, size: u64) -> Outcome<Duration> {
    let from = Volume::open(from, Access::Own, Cache::Direct)?;
    let to = Volume::open(to, Access::Own, Cache::Direct)?;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let each = |first| {
            let (from, to) = (&from, &to);
            scope.spawn(move || copy_some(from, to, first, size))
        };
        let all: Vec<_> = (0..THREADS).map(each).collect();
        all.into_iter().try_for_each(|thread| {
            let done = thread.join().map_err(|_| Failure::new("copying panicked"))?;
            done.map_err(Failure::from)
        })
    })?;
    to.flush()?;
    Ok(begun.elapsed())
}

/// Every fourth piece.
fn copy_some(from: &Volume, to: &Volume, first: u64, size: u64) -> Result<(), StoreError> {
    let len = usize::try_from(PIECE).unwrap_or(0);
    let mut room = vec![0_u8; len + 4096];
    let lead = room.as_ptr().align_offset(4096);
    let bytes = room.get_mut(lead..lead + len).unwrap_or_default();
    let mut at = first * PIECE;
    while at + PIECE <= size {
        from.read_at(bytes, at)?;
        to.write_at(bytes, at)?;
        at += PIECE * THREADS;
    }
    Ok(())
}
