// SPDX-License-Identifier: MIT

//! Opening a pool with a large map, after a clean close and after a crash, beside reading as many
//! bytes; and the server's memory, when the map is four times the cache.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rwsnap_core::format::fingerprint as rule;

use crate::cli::error::{Failure, Outcome};
use crate::store::{fingerprint, Access, Cache, StoreError, Volume};

use super::load::{Kind, Load};
use super::numbers::real;
use super::pool::{Files, How, Pool, USUAL};
use super::records;
use super::report::{Series, Target};
use super::Bench;

/// Bytes read at once.
const PIECE: usize = 128 << 10;

/// Bytes of a block of a fingerprint's sample.
const BLOCK: usize = 4096;

/// Bytes of a page of the map.
const PAGE: u64 = 4096;

/// Measures.
///
/// # Errors
///
/// A server does not start, a command is refused, a load fails.
pub fn measure(bench: &mut Bench) -> Outcome {
    let size = bench.options.size;
    let image = bench.place.filled("prod.img", size)?;
    let files = records::pool(bench, "open", &image, size, bench.options.records)?;
    opening(bench, &files, &image, false)?;
    opening(bench, &files, &image, true)?;
    memory(bench, &files)
}

/// The time to the ready line, beside that of a small pool's server and a read of the same bytes.
fn opening(bench: &mut Bench, files: &Files, production: &Path, crashed: bool) -> Outcome {
    let how = if crashed { "after a crash" } else { "after a clean close" };
    let mut ours = Series::new(format!("opening a large map, {how}"));
    let mut alone = Series::new("reading the same bytes");
    let mut amount = Series::new(format!("read by opening, {how}"));
    let mut last = 0;
    for round in 0..=bench.options.rounds {
        bench.say(format!("open: {how}, round {round}"));
        if crashed {
            leave_log(bench, files, round)?;
        }
        // What the machine below has in its memory is to be the same for both: neither is first.
        read(&files.save, production, last)?;
        let pool = files.serve(USUAL)?;
        let (bytes, time) = (read_by(&pool)?, pool.started_in);
        pool.stop()?;
        last = bytes;
        let same = read(&files.save, production, bytes)?;
        // Nobody knows in the first round what is to be read.
        if round > 0 {
            ours.push(time.as_secs_f64() * 1e3);
            amount.push(real(bytes >> 10));
            alone.push(same.as_secs_f64() * 1e3);
        }
    }
    bench.report.compare(&ours, &alone, "ms", Target::AtMost(1.5));
    bench.report.figure(&amount, "KiB", Target::None);
    Ok(())
}

/// Ends a server as a crash would, with a log to be replayed.
fn leave_log(bench: &Bench, files: &Files, round: usize) -> Outcome {
    let mut pool = files.serve(USUAL)?;
    let names = pool.snapshots()?;
    let crash = |name: &&String| name.starts_with("prod@crash");
    for old in names.iter().filter(crash) {
        pool.destroy(old)?;
    }
    pool.snapshot(&format!("prod@crash{round}"))?;
    pool.quiet()?;
    let size = bench.options.size;
    Load::once(Kind::Write, size, size / 16, 77).drive(&pool.whom("prod"))?;
    pool.kill();
    Ok(())
}

/// Bytes that the server has read from disks.
fn read_by(pool: &Pool) -> Outcome<u64> {
    field(&format!("/proc/{}/io", pool.id()), "read_bytes:")
}

/// Reads as many bytes, one read after the other: the blocks that a production's fingerprint is
/// made of, as they lie, and the rest from a save volume, front to back.
fn read(save: &Path, production: &Path, bytes: u64) -> Result<Duration, StoreError> {
    let production = Volume::open(production, Access::Own, Cache::Direct)?;
    let volume = Volume::open(save, Access::Own, Cache::Direct)?;
    let mut room = vec![0_u8; PIECE + 4096];
    let lead = room.as_ptr().align_offset(4096);
    let piece = room.get_mut(lead..lead + PIECE).unwrap_or_default();
    let sample = rule::sample(production.device().size);
    let begun = Instant::now();
    for block in sample {
        let bytes = piece.get_mut(..BLOCK).unwrap_or_default();
        production.read_up_to(bytes, block * rule::BLOCK)?;
    }
    let mut at = fingerprint::BYTES.min(bytes);
    while at < bytes {
        volume.read_at(piece, at)?;
        at += u64::try_from(PIECE).unwrap_or(u64::MAX);
    }
    Ok(begun.elapsed())
}

/// The memory that reads all over a map of four times the cache take, beyond what the server takes
/// anyhow.
fn memory(bench: &mut Bench, files: &Files) -> Outcome {
    bench.say("open: memory");
    let mut pool = files.serve(USUAL)?;
    let map = pool.status()?.pages_used.get() * PAGE;
    let oldest = pool.snapshots()?.pop().unwrap_or_default();
    pool.stop()?;
    let cache = (map / 4).next_multiple_of(PAGE);
    let mut pool = files.serve(How { cache: Some(cache), ..USUAL })?;
    let size = bench.options.size;
    // Buffers for requests are touched before.
    Load::timed(Kind::Read, size, 1).drive(&pool.whom("prod"))?;
    let before = field(&format!("/proc/{}/status", pool.id()), "VmRSS:")?;
    let reads = pool.counts()?.save_reads;
    Load::once(Kind::Read, size, size / 4, 5).drive(&pool.whom(&oldest))?;
    let after = field(&format!("/proc/{}/status", pool.id()), "VmHWM:")?;
    let reads = pool.counts()?.save_reads - reads;
    pool.stop()?;
    let report = &mut bench.report;
    let one = |name: String, value: f64| Series { name, rounds: vec![value] };
    let grown = one(format!("memory grown by {reads} reads"), real(after.saturating_sub(before)));
    let asked = one("the cache asked for".to_owned(), real(cache >> 10));
    report.compare(&grown, &asked, "KiB", Target::AtMost(1.0));
    report.figure(&one("the map".to_owned(), real(map >> 10)), "KiB", Target::None);
    report.figure(&one("all of the server".to_owned(), real(after)), "KiB", Target::None);
    Ok(())
}

/// A number in a file of `/proc`.
fn field(path: &str, key: &str) -> Outcome<u64> {
    let text = fs::read_to_string(path).map_err(Failure::io(format!("read {path}")))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| Failure::new(format!("{path} has no {key}")))
}
