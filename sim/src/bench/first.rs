// SPDX-License-Identifier: MIT

//! First writes to production: with 64 living snapshots beside those with one, on the disk as it
//! is and on one whose flushes take 4 ms longer; and what each of them takes in I/Os.

use crate::cli::error::Outcome;

use super::counted::{at_depth_32, each, one_by_one};
use super::load::{Kind, Load};
use super::pool::{Counts, Files, How, Pool, USUAL};
use super::report::{Series, Target};
use super::Bench;

/// Living snapshots of the second pool.
const MANY: usize = 64;

/// First writes that are counted one by one.
const COUNTED: u64 = 200;

/// What a slow disk's flush takes longer.
const SLOW: How = How { flush_delay_ms: 4, ..USUAL };

/// A pool, and which snapshots it has.
struct Side {
    files: Files,
    living: usize,
    taken: usize,
}

impl Side {
    fn new(bench: &Bench, name: &str, living: usize) -> Outcome<Self> {
        let size = bench.options.size;
        let image = bench.place.filled(&format!("{name}.img"), size)?;
        let program = &bench.options.program;
        let files = Files::create(program, &bench.place, name, &image, size * 6)?;
        Ok(Self { files, living, taken: 0 })
    }

    /// One more snapshot; the oldest goes if there are too many.
    fn snapshot(&mut self, pool: &mut Pool) -> Outcome {
        self.taken += 1;
        pool.snapshot(&format!("prod@s{}", self.taken))?;
        if self.taken > self.living {
            pool.destroy(&format!("prod@s{}", self.taken - self.living))?;
        }
        pool.quiet()
    }

    /// All snapshots, and 5 % of the chunks written between each.
    fn fill(&mut self, bench: &Bench) -> Outcome {
        let mut pool = self.files.serve(USUAL)?;
        let size = bench.options.size;
        while self.taken < self.living {
            bench.say(format!("first: snapshot {} of {}", self.taken + 1, self.living));
            self.snapshot(&mut pool)?;
            let seed = u64::try_from(self.taken).unwrap_or(0);
            Load::once(Kind::Write, size, size / 20, seed).drive(&pool.whom("prod"))?;
        }
        pool.stop()
    }
}

/// Measures.
///
/// # Errors
///
/// A server does not start, a command is refused, a load fails.
pub fn measure(bench: &mut Bench) -> Outcome {
    bench.say("first: making images");
    let mut one = Side::new(bench, "one", 1)?;
    let mut many = Side::new(bench, "many", MANY)?;
    one.fill(bench)?;
    many.fill(bench)?;
    let size = bench.options.size;
    let counts = timed(bench, &mut one, &mut many, USUAL, size / 8)?;
    timed(bench, &mut one, &mut many, SLOW, size / 32)?;
    let report = &mut bench.report;
    let mut most = |name: &str, value: f64, most: f64| {
        let series =
            Series { name: format!("{name} per first write, depth 32"), rounds: vec![value] };
        report.figure(&series, "I/Os", Target::AtMost(most));
    };
    most("writes to the save volume", each(counts.save_writes, counts), 0.25);
    most("flushes", each(counts.all_flushes(), counts), 0.1);
    let mut pool = many.files.serve(USUAL)?;
    many.snapshot(&mut pool)?;
    // The server has just started: the first of these bring pages of the map into the cache.
    let cold = one_by_one(&mut pool, size, COUNTED, 0)?;
    one_by_one(&mut pool, size, COUNTED, 2)?;
    let counts = one_by_one(&mut pool, size, COUNTED, 1)?;
    pool.stop()?;
    let report = &mut bench.report;
    let pages = each(cold.save_reads, cold);
    let pages = Series { name: "pages of the map, nothing cached".into(), rounds: vec![pages] };
    report.figure(&pages, "I/Os", Target::None);
    let reads = each(counts.reads + counts.save_reads, counts);
    report.exact("reads per first write, depth 1", reads, 1.0, "I/Os");
    let writes = each(counts.writes + counts.save_writes, counts);
    report.exact("writes per first write, depth 1", writes, 3.0, "I/Os");
    Ok(())
}

/// Both pools in turn; what the first writes of the one with many snapshots took.
fn timed(
    bench: &mut Bench,
    one: &mut Side,
    many: &mut Side,
    how: How,
    bytes: u64,
) -> Outcome<Counts> {
    let disk = if how == USUAL { "" } else { ", flushes 4 ms slower" };
    let mut few = Series::new("with 1 snapshot");
    let mut lots = Series::new(format!("first writes with {MANY} snapshots{disk}"));
    let mut total = Counts::default();
    let (mut left, mut right) = (one.files.serve(how)?, many.files.serve(how)?);
    for round in 1..=bench.options.rounds {
        bench.say(format!("first: round {round}{disk}"));
        let seed = 1000 + u64::try_from(round).unwrap_or(0);
        one.snapshot(&mut left)?;
        few.push(at_depth_32(&mut left, bench.options.size, bytes, seed)?.1);
        many.snapshot(&mut right)?;
        let (counts, iops) = at_depth_32(&mut right, bench.options.size, bytes, seed)?;
        lots.push(iops);
        total = total + counts;
    }
    left.stop()?;
    right.stop()?;
    bench.report.compare(&lots, &few, "IOPS", Target::AtLeast(0.95));
    Ok(total)
}
