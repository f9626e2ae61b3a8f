// SPDX-License-Identifier: MIT

//! Runs many seeds, on all processors, and sums up.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use super::engine::Engine;
use super::plan::Plan;
use super::schedule::{Tally, World};

/// Which seeds to run, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The first.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// Print all that happens.
    pub verbose: bool,
    /// Stop at the first violation.
    pub stop: bool,
    /// Plant this bug; zero is none.
    pub mutant: u32,
    /// How many at a time.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { first: 1, seeds: 1000, verbose: false, stop: false, mutant: 0, threads }
    }
}

/// What a seed found.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed.
    pub seed: u64,
    /// What is wrong.
    pub wrong: String,
}

/// What all seeds did.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds run.
    pub seeds: u64,
    /// What was counted.
    pub tally: Tally,
    /// What was found, by seed.
    pub violations: Vec<Violation>,
    /// The hashes of all traces, in any order.
    pub hash: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.tally;
        writeln!(
            f,
            "seeds {}  crash states {}  faults {}  violations {}",
            self.seeds,
            t.crashes,
            t.faults,
            self.violations.len()
        )?;
        writeln!(f, "steps {}  blocks compared {}", t.steps, t.compared)?;
        for (verb, (done, refused)) in &t.commands {
            write!(f, "{verb} {done}+{refused}  ")?;
        }
        writeln!(f, "(done+refused)")?;
        for violation in self.violations.iter().take(20) {
            writeln!(f, "seed {}: {}", violation.seed, violation.wrong)?;
        }
        Ok(())
    }
}

/// Runs one seed.
fn one<E: Engine>(seed: u64, options: &Options) -> (Tally, u64, Option<Violation>) {
    let mut plan = Plan::draw(seed);
    plan.mutant = options.mutant;
    E::adjust(&mut plan);
    let mut world = match World::<E>::new(plan, options.verbose) {
        Ok(world) => world,
        Err(wrong) => return (Tally::default(), 0, Some(Violation { seed, wrong })),
    };
    let wrong = world.run().err().map(|wrong| Violation { seed, wrong });
    if options.verbose && wrong.is_some() {
        println!("{}", world.machine.core.dump());
        println!("{}", super::slots::show(&mut world.machine, &mut world.rng));
    }
    let hash = world.trace.hash();
    (world.tally, hash, wrong)
}

/// Runs seeds on the core that ships.
#[must_use]
pub fn main(options: &Options) -> Summary {
    storm::<rwsnap_core::Core<crate::platform::Host>>(options)
}

/// Runs seeds.
#[must_use]
pub(super) fn storm<E: Engine>(options: &Options) -> Summary {
    let summary = Mutex::new(Summary::default());
    let next = AtomicU64::new(0);
    let worker = || loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= options.seeds {
            return;
        }
        let (tally, hash, violation) = one::<E>(options.first + index, options);
        let Ok(mut sum) = summary.lock() else { return };
        sum.seeds += 1;
        sum.tally.add(&tally);
        sum.hash = sum.hash.wrapping_add(hash);
        if violation.is_some() && options.stop {
            next.store(options.seeds, Ordering::Relaxed);
        }
        sum.violations.extend(violation);
    };
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(worker);
        }
    });
    let mut summary = summary.into_inner().unwrap_or_default();
    summary.violations.sort_by_key(|v| v.seed);
    summary
}
