// SPDX-License-Identifier: MIT

//! What first writes, snapshots, clones, refreshes and restores take, in I/Os and flushes: counted
//! by the server, not timed. `rwsnap bench` counts the same at full size.

use std::path::PathBuf;

use rwsnap::bench::counted::{at_depth_32, each, one_by_one, Moment};
use rwsnap::bench::pool::{Counts, Files, USUAL};
use rwsnap::bench::{records, Bench, Options};

const MIB: u64 = 1 << 20;

fn bench(size: u64) -> Bench {
    let options = Options {
        program: PathBuf::from(env!("CARGO_BIN_EXE_rwsnap")),
        dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        size,
        rounds: 1,
        seconds: 1,
        records: 20_000,
        parts: Vec::new(),
        progress: false,
    };
    Bench::new(options).unwrap()
}

#[test]
fn a_first_write_takes_one_read_and_three_writes() {
    let bench = bench(64 * MIB);
    let image = bench.place.filled("prod.img", 64 * MIB).unwrap();
    let program = &bench.options.program;
    let files = Files::create(program, &bench.place, "first", &image, 256 * MIB).unwrap();
    let mut pool = files.serve(USUAL).unwrap();
    for living in 1..=3 {
        pool.snapshot(&format!("prod@s{living}")).unwrap();
        let counts = one_by_one(&mut pool, 64 * MIB, 50, 0).unwrap();
        let wanted = Counts {
            reads: 50,
            save_writes: 100,
            save_flushes: 50,
            writes: 50,
            copied: 50,
            ..Counts::default()
        };
        assert_eq!(counts, wanted, "with {living} snapshots");
        let again = one_by_one(&mut pool, 64 * MIB, 50, 0).unwrap();
        assert_eq!(again, Counts::default(), "the second time they go past the core");
    }
    pool.stop().unwrap();
}

#[test]
fn first_writes_at_depth_32_share_what_they_take() {
    let bench = bench(64 * MIB);
    let image = bench.place.filled("prod.img", 64 * MIB).unwrap();
    let program = &bench.options.program;
    let files = Files::create(program, &bench.place, "many", &image, 256 * MIB).unwrap();
    let mut pool = files.serve(USUAL).unwrap();
    pool.snapshot("prod@one").unwrap();
    let (counts, _) = at_depth_32(&mut pool, 64 * MIB, 32 * MIB, 7).unwrap();
    pool.stop().unwrap();
    assert!(each(counts.save_writes, counts) <= 0.25, "{counts:?}");
    assert!(each(counts.all_flushes(), counts) <= 0.1, "{counts:?}");
}

/// What each moment takes in a pool of that size with so many records.
fn moments(bench: &Bench, size: u64, records: u64) -> Vec<Counts> {
    let image = bench.place.sparse("prod.img", size).unwrap();
    let files = records::pool(bench, "moments", &image, size, records).unwrap();
    let mut pool = files.serve(USUAL).unwrap();
    let measure = |moment: Moment| {
        moment.prepare(&mut pool, 1).unwrap();
        let counts = moment.measure(&mut pool, 1).unwrap().0;
        moment.undo(&mut pool).unwrap();
        // A page of the map may be missing in the cache: one for each level, however many records.
        // (The merge of a restore that is paused does not read the map either.)
        assert!(counts.save_reads <= 2, "{moment:?}: {counts:?}");
        Counts { save_reads: 0, ..counts }
    };
    let counts = Moment::ALL.into_iter().map(measure).collect();
    pool.stop().unwrap();
    bench.place.clear();
    counts
}

#[test]
fn neither_size_nor_records_cost_a_moment() {
    let bench = bench(64 * MIB);
    let usual = moments(&bench, 64 * MIB, 0);
    assert!(usual.iter().all(|c| c.ios() <= 12 && c.all_flushes() <= 8), "{usual:?}");
    assert_eq!(moments(&bench, 1 << 40, 0), usual, "1 TiB");
    assert_eq!(moments(&bench, 64 * MIB, bench.options.records), usual, "many records");
    assert_eq!(moments(&bench, 1 << 40, bench.options.records), usual, "1 TiB, many records");
}
