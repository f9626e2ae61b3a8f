// SPDX-License-Identifier: MIT

//! `rwsnap storm`: the deterministic simulation, for those who work on rwsnap.

use super::error::{Failure, Outcome};

/// Run the core against simulated disks that lose power
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap storm --seeds 100")]
pub(super) struct Storm {
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Storm {
    pub(super) fn run(self) -> Outcome<u8> {
        Err(Failure::new(format!("this build has no storm ({} from {})", self.seeds, self.seed)))
    }
}
