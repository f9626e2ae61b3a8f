// SPDX-License-Identifier: MIT

//! `rwsnap bench`: what rwsnap costs, side by side with the peers that are installed.
//!
//! Each measurement runs all its contenders in turn, several rounds, and compares within a round
//! only: machines drift, and others work on them. A figure is the median over the rounds, a ratio
//! the median of the rounds' ratios. What counts I/Os counts them exactly, by the server's own
//! counters.

pub mod alone;
pub mod child;
pub mod clones;
pub mod contender;
pub mod counted;
pub mod first;
pub mod load;
pub mod merge;
pub mod moments;
pub mod nbd;
pub mod numbers;
pub mod open;
pub mod place;
pub mod pool;
pub mod records;
pub mod report;

use std::path::PathBuf;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::cli::error::{Failure, Outcome};

use self::place::Place;
use self::report::Report;

/// A group of measurements, in the order they are measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Part {
    /// 4k random reads over NBD, of production and beside others
    Reads,
    /// 4k random writes over NBD, to production and beside others
    Writes,
    /// First writes to production that has snapshots
    First,
    /// Writes to clones and reads from them
    Clones,
    /// Snapshot, clone, refresh and restore, until they are done
    Moments,
    /// The merge of a restore
    Merge,
    /// Opening a pool with a large map, and memory
    Open,
}

impl Part {
    /// As the command line names it.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// What is to be measured, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program: this one.
    pub program: PathBuf,
    /// Where the images are made.
    pub dir: PathBuf,
    /// Bytes of a production volume.
    pub size: u64,
    /// Rounds.
    pub rounds: usize,
    /// Seconds of a load that is measured by time.
    pub seconds: u32,
    /// Records of a large map.
    pub records: u64,
    /// What to measure.
    pub parts: Vec<Part>,
    /// Say what is being done.
    pub progress: bool,
}

/// A run of the benchmark.
pub struct Bench {
    /// How.
    pub options: Options,
    /// Where.
    pub place: Place,
    /// What came of it.
    pub report: Report,
    bar: ProgressBar,
}

impl Bench {
    /// Makes a folder in that of the options.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn new(options: Options) -> Outcome<Self> {
        let place = Place::new(&options.dir)?;
        let target = if options.progress {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if options.progress {
            bar.enable_steady_tick(std::time::Duration::from_millis(200));
        }
        Ok(Self { options, place, report: Report::default(), bar })
    }

    /// Says what is being done.
    pub fn say(&self, what: impl Into<String>) {
        let what = what.into();
        tracing::info!("{what}");
        self.bar.set_message(what);
    }

    /// Measures all that was asked for. A part that fails is reported, and the others go on.
    ///
    /// # Errors
    ///
    /// Nothing could be measured at all.
    pub fn run(mut self) -> Outcome<Report> {
        load::installed()?;
        contender::note_missing(&mut self.report);
        for part in self.options.parts.clone() {
            self.report.part = part.name();
            let done = match part {
                Part::Reads => nbd::measure(&mut self, load::Kind::Read),
                Part::Writes => nbd::measure(&mut self, load::Kind::Write),
                Part::First => first::measure(&mut self),
                Part::Clones => clones::measure(&mut self),
                Part::Moments => moments::measure(&mut self),
                Part::Merge => merge::measure(&mut self),
                Part::Open => open::measure(&mut self),
            };
            if let Err(Failure { message, .. }) = done {
                self.report.failed(&part.name(), message);
            }
            self.place.clear();
        }
        self.bar.finish_and_clear();
        self.report.load = numbers::load_average();
        Ok(self.report)
    }
}
