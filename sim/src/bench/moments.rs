// SPDX-License-Identifier: MIT

//! Snapshot, clone, refresh, and restore up to its first foreground write: I/Os and flushes
//! counted, the same on a small production and on one of 1 TiB, with an empty map and with a large
//! one; and the time beside that of the same I/Os issued alone.

use crate::cli::error::Outcome;

use super::alone::Alone;
use super::counted::Moment;
use super::numbers::median;
use super::pool::{Counts, Files, USUAL};
use super::records;
use super::report::{Series, Target};
use super::Bench;

/// Bytes of the small production.
const SMALL: u64 = 1 << 30;
/// Bytes of the large one, which is full of holes.
const LARGE: u64 = 1 << 40;

/// Turns in a round, of whose times the one in the middle counts: a flush takes 0.1 ms or 10.
const TURNS: usize = 7;

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
    let mut alone = Alone::new(bench)?;
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
            let mut times = (Vec::new(), Vec::new());
            for turn in 0..TURNS {
                let n = round * TURNS + turn;
                seen.moment.prepare(&mut pool, n)?;
                // Who comes first changes: neither is to pay for the other.
                let first = seen.counts.last().copied().filter(|_| turn % 2 == 1);
                if let Some(counts) = first {
                    times.1.push(timed_alone(&mut alone, counts)?);
                }
                alone.settle()?;
                let (counts, time) = seen.moment.measure(&mut pool, n)?;
                times.0.push(time.as_secs_f64() * 1e3);
                seen.counts.push(counts);
                if first.is_none() {
                    times.1.push(timed_alone(&mut alone, counts)?);
                }
                seen.moment.undo(&mut pool)?;
            }
            seen.ours.push(median(&times.0));
            seen.alone.push(median(&times.1));
        }
    }
    pool.stop()?;
    Ok(all)
}

fn timed_alone(alone: &mut Alone, counts: Counts) -> Outcome<f64> {
    alone.settle()?;
    Ok(alone.issue(counts)?.as_secs_f64() * 1e3)
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
