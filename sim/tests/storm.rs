// SPDX-License-Identifier: MIT

//! The storm, as `make test` runs it: it finds nothing in the core, the same seed tells the same
//! story, nothing goes untried, and each bug that is planted in the core is found.

use rwsnap::storm::{main, Options, Summary};

/// Seeds from 1 on that `make test` runs (`make storm SEEDS=n`); few where the core is slow.
fn seeds() -> u64 {
    let few = if cfg!(debug_assertions) { 20 } else { 300 };
    std::env::var("SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(few)
}

fn storm(options: &Options) -> Summary {
    main(options, &|_| ())
}

/// What has to happen now and then, or the storm does not try what it should.
const KINDS: [&str; 92] = [
    "cancel of a restore",
    "changed production is as it was",
    "changed production is trusted",
    "clone of a clone's snapshot",
    "close",
    "command is done with a production away",
    "command is refused: offline",
    "copy ahead",
    "copy span of several words",
    "crash at a step of the recovery",
    "crash during a restore",
    "cut off by force",
    "destroy --defer",
    "destroy -r",
    "destroy by force",
    "destroy of several",
    "discard of a clone",
    "discard of production",
    "discard of production that copies for a clone",
    "during a restore: clone",
    "during a restore: destroy",
    "during a restore: rate",
    "during a restore: refresh",
    "during a restore: restore",
    "during a restore: snapshot",
    "fault: flush of production",
    "fault: flush of the save volume",
    "fault: read of production",
    "fault: read of the save volume",
    "fault: write to production",
    "fault: write to the save volume",
    "fenced",
    "flush of a clone",
    "flush of production",
    "FUA on a device without it",
    "hold",
    "I/O error is reported",
    "listed: damaged",
    "listed: deferred",
    "listed: given up",
    "lost data is reported",
    "no space for a clone",
    "no space for production",
    "not opened: offline",
    "passed straight through",
    "production away",
    "production away after a crash",
    "production changed",
    "production changed, and a crash",
    "production with a short last chunk",
    "production without a cache",
    "productions of several sizes",
    "read during a restore",
    "read of a clone",
    "read of a snapshot",
    "read of a snapshot without its production",
    "refresh by force",
    "refresh of a clone with snapshots",
    "refresh that keeps the old state",
    "refresh with a named snapshot",
    "refresh with a new snapshot",
    "rename",
    "restore by force",
    "restore from a clone",
    "restore from a clone of a clone",
    "restore from a snapshot",
    "restore that is paused",
    "restore with a rate",
    "restore without undo",
    "restore, new data first",
    "restore, old data first",
    "rot does no harm",
    "rot is refused at opening",
    "rot is reported in place",
    "save volume without a cache",
    "set copy-span",
    "set discard",
    "set quota",
    "set reservation",
    "set when-full",
    "snapshot of a clone",
    "snapshot of several volumes",
    "step: clear",
    "step: discard",
    "step: write, FUA",
    "step: zero",
    "story after a crash",
    "the save volume has grown",
    "write during a restore",
    "write to a clone, FUA",
    "zero of a clone",
    "zero of production",
];

#[test]
fn finds_nothing_and_tries_everything() {
    let summary = storm(&Options { seeds: seeds(), ..Options::default() });
    println!("{summary}{}", summary.tally.kinds);
    assert!(summary.violations.is_empty(), "{summary}");
    if seeds() >= 300 {
        let missing: Vec<_> = KINDS.iter().filter(|k| summary.tally.kinds.of(k) == 0).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

#[test]
fn a_seed_says_it_all() {
    let options = Options { first: 40, seeds: seeds().min(30), threads: 1, ..Options::default() };
    let once = storm(&options);
    let again = storm(&Options { threads: 3, ..options });
    assert_eq!(once.hash, again.hash);
    assert_eq!(once.to_string(), again.to_string());
}

/// Each rule is broken once, and some more than once. A seed that finds a planted bug finds
/// nothing where there is none: all of them are among those of the first test.
#[cfg(feature = "mutants")]
#[test]
fn finds_each_planted_bug() {
    let mut missed = Vec::new();
    for (number, mutant) in (1..).zip(rwsnap_core::mutants::Mutant::ALL) {
        let options = Options { seeds: seeds(), mutant: number, stop: true, ..Options::default() };
        let summary = storm(&options);
        match summary.violations.first() {
            Some(found) => {
                let line = found.wrong.lines().next().unwrap_or("");
                println!("{mutant:?}: seed {}: {line}", found.seed);
            }
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not found within {} seeds: {missed:?}", seeds());
}
