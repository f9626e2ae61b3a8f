// SPDX-License-Identifier: MIT

//! `ktest bench`: what the module costs, side by side with dm-snapshot and dm-thin, in the guest.
//!
//! The guest's scripts (`ktest/bench/`) make the contenders and the load, and report a line for
//! each thing that they measured ([`figures`]). What is asked of them is in [`targets`]; it comes
//! out as a table ([`table`]), as JSON, and as a plot ([`plot`]).

mod figures;
mod plot;
mod table;
mod targets;

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cases::plan::boots;
use crate::cases::Case;
use crate::command::{say, text};
use crate::failure::{fail, Context, Result};
use crate::kernel::Kind;
use crate::places;
use crate::qemu::accel::Accel;
use crate::qemu::watch;
use crate::report::Outcome;
use crate::run;

use figures::{Figures, CONTENDERS};

/// What a report begins with: where it was measured.
const PLACE: &str = "# place: ";

/// What is to be measured, and where it goes.
#[derive(Args)]
pub(crate) struct Options {
    /// Measure these parts alone
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Times that everything is measured, in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measure these contenders alone
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = CONTENDERS.to_vec())]
    who: Vec<String>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    /// Draw it into this file (SVG)
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Measure nothing, and show what these runs reported (target/ktest/plain/bench/report)
    #[arg(long, value_name = "REPORT", conflicts_with_all = ["rounds", "icount", "parts", "who"])]
    from: Vec<PathBuf>,
    /// Let the guest's clock go by instructions: the same every time, and no real time
    #[arg(long)]
    icount: bool,
}

/// A part of a round.
#[derive(Clone, Copy, ValueEnum)]
enum Part {
    /// One snapshot: first writes, written again, reads, a clone
    One,
    /// First writes with 8 snapshots
    #[value(name = "8")]
    Eight,
    /// First writes with 64 snapshots, without dm-snapshot
    #[value(name = "64")]
    Most,
    /// One snapshot and 8, on devices with a volatile cache
    Cache,
}

impl Options {
    /// What the guest is told.
    fn words(&self) -> String {
        let parts = match self.parts.as_slice() {
            [] => Part::value_variants(),
            some => some,
        };
        let name = |part: &Part| part.to_possible_value().map(|v| v.get_name().to_owned());
        let parts: Vec<String> = parts.iter().filter_map(name).collect();
        let (rounds, parts, who) = (self.rounds, parts.join(","), self.who.join(","));
        format!("ktest.bench.rounds={rounds} ktest.bench.parts={parts} ktest.bench.who={who}")
    }
}

/// Boots and measures; what was reported, and where.
fn report(options: &Options) -> Result<String> {
    let script = places::ktest().join("bench/bench.sh");
    let case = Case::parse("bench", &fs::read_to_string(&script).about(&script)?)?;
    let mut machine = run::ready(Kind::Plain, true)?;
    machine.words = options.words();
    if options.icount {
        machine.accel = Accel::Counted;
    }
    let folder = places::work(Kind::Plain, "bench")?;
    for boot in boots(vec![case], 1) {
        let outcomes = watch::run(&machine, &boot, &folder)?;
        if outcomes.is_empty() || !outcomes.iter().all(Outcome::is_well) {
            return fail(format!("it could not be measured; see {}", folder.display()));
        }
    }
    let (release, accel) = (&machine.kernel.release, machine.accel.name());
    let told = text(&folder.join("ktap"))?;
    let report = format!("{PLACE}Linux {release}, {accel}\n{told}");
    let kept = folder.join("report");
    fs::write(&kept, &report).about(&kept)?;
    Ok(report)
}

/// Measures, and shows it; true if all targets are met.
pub(crate) fn measure(options: &Options) -> Result<bool> {
    let mut reports = Vec::new();
    for file in &options.from {
        reports.push(text(file)?);
    }
    if reports.is_empty() {
        reports.push(report(options)?);
    }
    let place = reports.iter().find_map(|r| r.lines().next()?.strip_prefix(PLACE));
    let place = place.unwrap_or("somewhere");
    let figures = Figures::read(&reports);
    let checks = targets::check(&figures);
    if options.json {
        println!("{}", table::json(&figures, &checks, place)?);
    } else {
        println!("{}", table::text(&figures, &checks, place));
    }
    if let Some(file) = &options.plot {
        plot::draw(&figures, place, file)?;
        say(format!("drawn into {}", file.display()));
    }
    Ok(checks.iter().all(|check| check.met))
}
