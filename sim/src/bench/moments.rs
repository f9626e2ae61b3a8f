// SPDX-License-Identifier: MIT

//! Snapshot, clone, refresh, and restore up to its first foreground write: I/Os and flushes
//! counted, the same on a small production and on one of 1 TiB, with an empty map and with a large
//! one; and the time beside that of the same I/Os issued alone.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cli::error::Outcome;
use crate::store::{Access, Cache, StoreError, Volume};

use super::counted::Moment;
use super::pool::{Counts, Files, USUAL};
use super::records;
use super::report::{Series, Target};
use super::Bench;

/// Bytes of the small production.
const SMALL: u64 = 1 << 30;
/// Bytes of the large one, which is full of holes.
const LARGE: u64 = 1 << 40;
/// Bytes of one I/O that is issued alone.
const BLOCK: usize = 4096;

/// Turns in a round, whose times are added up: a flush takes 0.1 ms or 10.
const TURNS: usize = 4;
/// The same as a real number.
const TURNS_REAL: f64 = 4.0;

/// A pool that is measured.
struct Subject {
    name: &'static str,
    size: u64,
    full: bool,
}

const SUBJECTS: [Subject; 4] = [
    Subject { name: "1 GiB", size: SMALL, full: false },
    Subject { name: "1 TiB", size: LARGE, full: false },
    Subject { name: "1 GiB, large map", size: SMALL, full: true },
    Subject { name: "1 TiB, large map", size: LARGE, full: true },
];

/// What was seen of one moment in one pool.
struct Seen {
    moment: Moment,
    counts: Vec<Counts>,
    ours: Series,
    alone: Series,
}

/// Measures.
///
/// # Errors
///
/// A server does not start, a command is refused, a load fails.
pub fn measure(bench: &mut Bench) -> Outcome {
    let mut expected: Vec<Counts> = Vec::new();
    for subject in &SUBJECTS {
        let seen = one(bench, subject)?;
        tell(bench, subject, &seen, &mut expected);
        bench.place.clear();
    }
    Ok(())
}

fn one(bench: &Bench, subject: &Subject) -> Outcome<Vec<Seen>> {
    let image = bench.place.sparse("prod.img", subject.size)?;
    let wanted = if subject.full { bench.options.records } else { 0 };
    let files: Files = records::pool(bench, "moments", &image, subject.size, wanted)?;
    let alone = Alone::new(bench)?;
    let mut pool = files.serve(USUAL)?;
    let series = |moment: Moment| Seen {
        moment,
        counts: Vec::new(),
        ours: Series::new(format!("{}, {}", moment.name(), subject.name)),
        alone: Series::new("the same I/Os alone"),
    };
    let mut all: Vec<Seen> = Moment::ALL.into_iter().map(series).collect();
    for round in 1..=bench.options.rounds {
        bench.say(format!("moments: {}, round {round}", subject.name));
        for seen in &mut all {
            let mut sums = (Duration::ZERO, Duration::ZERO);
            for turn in 0..TURNS {
                let (counts, time) = seen.moment.measure(&mut pool, round * TURNS + turn)?;
                seen.counts.push(counts);
                sums.0 += time;
                sums.1 += alone.issue(counts)?;
            }
            let each = |sum: Duration| sum.as_secs_f64() * 1e3 / TURNS_REAL;
            seen.ours.push(each(sums.0));
            seen.alone.push(each(sums.1));
        }
    }
    pool.stop()?;
    Ok(all)
}

fn tell(bench: &mut Bench, subject: &Subject, all: &[Seen], expected: &mut Vec<Counts>) {
    let report = &mut bench.report;
    for (index, seen) in all.iter().enumerate() {
        let typical = middle(&seen.counts);
        let wanted = match expected.get(index) {
            Some(first) => *first,
            None => {
                expected.push(typical);
                typical
            }
        };
        let what = format!("{}, {}", seen.moment.name(), subject.name);
        let real = super::numbers::real;
        report.exact(what.clone(), real(typical.ios()), real(wanted.ios()), "I/Os");
        let flushes = (real(typical.all_flushes()), real(wanted.all_flushes()));
        report.exact(what, flushes.0, flushes.1, "flushes");
        report.compare(&seen.ours, &seen.alone, "ms", Target::AtMost(1.5));
    }
}

/// The counts in the middle, by all I/Os: a checkpoint may come between.
fn middle(counts: &[Counts]) -> Counts {
    let mut sorted = counts.to_vec();
    sorted.sort_by_key(|c| (c.ios(), c.all_flushes()));
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The same I/Os, one after the other, on files of their own on the same disk.
struct Alone {
    save: PathBuf,
    production: PathBuf,
}

impl Alone {
    fn new(bench: &Bench) -> Outcome<Self> {
        let save = bench.place.filled("alone.save", 16 << 20)?;
        let production = bench.place.filled("alone.prod", 16 << 20)?;
        Ok(Self { save, production })
    }

    /// Issues them: what is read and written first, then the flushes.
    fn issue(&self, counts: Counts) -> Result<Duration, StoreError> {
        let save = Volume::open(&self.save, Access::Own, Cache::Direct)?;
        let production = Volume::open(&self.production, Access::Own, Cache::Direct)?;
        let sides = [
            (&save, counts.save_reads, counts.save_writes, counts.save_flushes),
            (&production, counts.reads, counts.writes, counts.flushes),
        ];
        let mut room = vec![0_u8; BLOCK * 2];
        let lead = room.as_ptr().align_offset(BLOCK);
        let bytes = room.get_mut(lead..lead + BLOCK).unwrap_or_default();
        let begun = Instant::now();
        for (volume, reads, writes, flushes) in sides {
            for n in 0..reads {
                volume.read_at(bytes, n % 4096 * 4096)?;
            }
            // A flush has something to make durable, as long as there is.
            for n in 0..writes.max(flushes) {
                if n < writes {
                    volume.write_at(bytes, n % 4096 * 4096)?;
                }
                if n < flushes {
                    volume.flush()?;
                }
            }
        }
        Ok(begun.elapsed())
    }
}
