// SPDX-License-Identifier: MIT

//! Runs many seeds, on all processors, and sums up. What comes out does not depend on how many
//! processors there are: outcomes are taken in the order of their seeds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use super::engine::Engine;
use super::plan::Plan;
use super::schedule::World;
use super::tally::Tally;

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
    /// The hash of all traces.
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
        for violation in &self.violations {
            let line = violation.wrong.lines().next().unwrap_or("");
            let wrong = if self.seeds == 1 { &violation.wrong } else { line };
            writeln!(f, "seed {}: {wrong}", violation.seed)?;
        }
        Ok(())
    }
}

/// What one seed gives.
struct Outcome {
    tally: Tally,
    hash: u64,
    violation: Option<Violation>,
}

/// The outcomes so far, taken in order.
#[derive(Default)]
struct Gathered {
    /// Of seeds that came before their turn.
    early: BTreeMap<u64, Outcome>,
    next: u64,
    summary: Summary,
}

impl Gathered {
    /// Takes an outcome; whether it is time to stop.
    fn take(&mut self, index: u64, outcome: Outcome, stop: bool) -> bool {
        self.early.insert(index, outcome);
        let sum = &mut self.summary;
        while let Some(outcome) = self.early.remove(&self.next) {
            if stop && !sum.violations.is_empty() {
                return true;
            }
            self.next += 1;
            sum.seeds += 1;
            sum.tally.add(&outcome.tally);
            sum.hash = super::rng::mix(sum.hash ^ outcome.hash);
            sum.violations.extend(outcome.violation);
        }
        stop && !sum.violations.is_empty()
    }
}

/// Runs one seed.
fn one<E: Engine>(seed: u64, options: &Options) -> Outcome {
    let mut plan = Plan::draw(seed);
    plan.mutant = options.mutant;
    E::adjust(&mut plan);
    let mut world = match World::<E>::new(plan, options.verbose) {
        Ok(world) => world,
        Err(wrong) => {
            let violation = Some(Violation { seed, wrong });
            return Outcome { tally: Tally::default(), hash: 0, violation };
        }
    };
    let violation = world.run().err().map(|wrong| Violation { seed, wrong });
    if options.verbose && violation.is_some() {
        println!("{}", world.machine.core.dump());
        println!("{}", super::slots::show(&mut world.machine, &mut world.rng));
    }
    world.tally.kinds.absorb(&mut world.machine.kinds);
    Outcome { hash: world.trace.hash(), tally: world.tally, violation }
}

/// Runs seeds on the core that ships; `progress` is told how many are done.
#[must_use]
pub fn main(options: &Options, progress: &(dyn Fn(u64) + Sync)) -> Summary {
    storm::<rwsnap_core::Core<crate::platform::Host>>(options, progress)
}

/// Runs seeds.
#[must_use]
pub(super) fn storm<E: Engine>(options: &Options, progress: &(dyn Fn(u64) + Sync)) -> Summary {
    let gathered = Mutex::new(Gathered::default());
    let next = AtomicU64::new(0);
    let worker = || loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= options.seeds {
            return;
        }
        let outcome = one::<E>(options.first + index, options);
        let Ok(mut all) = gathered.lock() else { return };
        if all.take(index, outcome, options.stop) {
            next.store(options.seeds, Ordering::Relaxed);
        }
        progress(all.summary.seeds);
    };
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(worker);
        }
    });
    gathered.into_inner().unwrap_or_default().summary
}
