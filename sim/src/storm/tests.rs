// SPDX-License-Identifier: MIT

//! The storm against a core too simple to be wrong, and against that core with faults planted.

use super::fake::{Fake, MUTANTS};
use super::run::{Options, Summary};

const SEEDS: u64 = 200;

fn storm(options: &Options) -> Summary {
    super::run::storm::<Fake>(options, &|_| ())
}

#[test]
fn finds_nothing_where_there_is_nothing() {
    let summary = storm(&Options { seeds: SEEDS, ..Options::default() });
    assert!(summary.violations.is_empty(), "{summary}");
    assert!(summary.tally.crashes > 1000, "{summary}");
    println!("{summary}");
}

#[test]
fn a_seed_says_it_all() {
    let options = Options { seeds: 30, ..Options::default() };
    assert_eq!(storm(&options).hash, storm(&options).hash);
}

#[test]
fn finds_each_planted_fault() {
    for (mutant, what) in (1..).zip(&MUTANTS[1..]) {
        let options = Options { seeds: SEEDS, mutant, stop: true, ..Options::default() };
        let summary = storm(&options);
        assert!(!summary.violations.is_empty(), "not found: {what}");
        println!("{what}: {summary}");
    }
}
