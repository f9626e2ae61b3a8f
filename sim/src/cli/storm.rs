// SPDX-License-Identifier: MIT

//! `rwsnap storm`: the deterministic simulation, for those who work on rwsnap.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::error::Outcome;
use crate::storm::{main, Options};

/// Run the core against simulated disks that lose power
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap storm --seeds 100
  rwsnap storm --seeds 1000 -v             # counts what happened
  rwsnap storm --seeds 1 --seed 4711 -v    # tells all that happens in one seed")]
pub(super) struct Storm {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop at the first violation
    #[arg(long)]
    stop: bool,
    /// Plant this bug, by number from 1 (builds with the feature `mutants` alone)
    #[arg(long, default_value_t = 0, hide = true)]
    mutant: u32,
}

impl Storm {
    /// Exit code 1 on any violation.
    pub(super) fn run(self, verbose: bool) -> Outcome<u8> {
        let bar = self.bar(verbose);
        let options = Options {
            first: self.seed,
            seeds: self.seeds,
            verbose: verbose && self.seeds == 1,
            stop: self.stop,
            mutant: self.mutant,
            ..Options::default()
        };
        let summary = main(&options, &|done| bar.set_position(done));
        bar.finish_and_clear();
        print!("{summary}");
        if verbose {
            print!("{}", summary.tally.kinds);
        }
        Ok(u8::from(!summary.violations.is_empty()))
    }

    /// How far it is, on a terminal.
    fn bar(&self, verbose: bool) -> ProgressBar {
        let seen = std::io::stderr().is_terminal() && !verbose;
        let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(self.seeds), target);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar}  {pos}/{len} seeds  {eta}") {
            bar.set_style(style);
        }
        bar
    }
}
