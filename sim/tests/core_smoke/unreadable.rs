// SPDX-License-Identifier: MIT

//! Pages of the map that cannot be read for a while.

use rwsnap_core::api::{Op, Step};
use rwsnap_core::control::Verb;
use rwsnap_core::fault::Fault;
use rwsnap_core::units::Dev;

use super::world::World;

const CHUNK: u64 = 4096;

fn reads_save(step: &Step) -> bool {
    matches!(step, Step::Read { dev: Dev::SAVE, .. })
}

/// A pool whose map lies on the disk and not in memory: `dev` is a clone of `prod@one`.
fn cold() -> World {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev", &[]);
    w.write("prod", 0, 7, CHUNK as usize);
    w.write("dev", 0, 8, CHUNK as usize);
    w.core.close();
    w.drain();
    assert_eq!(w.core.closed(), Some(Ok(())));
    World::open(w.disks)
}

/// The reads of the save volume since.
fn reads(w: &World, since: usize) -> usize {
    w.steps[since..].iter().filter(|step| reads_save(step)).count()
}

/// A read that could not read a page tried that again, without end, and was never answered.
#[test]
fn a_read_that_meets_an_unreadable_page_fails_and_is_not_tried_for_ever() {
    for name in ["dev", "prod@one"] {
        let mut w = cold();
        w.fails = reads_save;
        let since = w.steps.len();
        assert_eq!(w.attempt(name, Op::Read, 0, vec![0; 512]).0, Err(Fault::Io));
        assert_eq!(reads(&w, since), 1);
        w.fails = |_| false;
        assert_eq!(w.first(name, 0), if name == "dev" { 8 } else { 0 });
    }
}

/// The sweep and the plan of a merge tried again at once, thousands of times a second.
#[test]
fn what_goes_on_in_the_background_waits_before_it_reads_a_page_again() {
    let works: [fn(&mut World); 2] =
        [|w| w.done(Verb::Destroy, "", "", &["dev"]), |w| drop(w.restore("prod", "dev", u64::MAX))];
    for work in works {
        let mut w = cold();
        w.fails = reads_save;
        let since = w.steps.len();
        work(&mut w);
        w.drain();
        let first = reads(&w, since);
        assert!((1..8).contains(&first), "{first} reads");
        w.core.tick(100_000_000);
        w.drain();
        assert_eq!(reads(&w, since), first, "it did not wait");
        w.core.tick(5_000_000_000);
        w.drain();
        assert!((first + 1..3 * first + 2).contains(&reads(&w, since)), "it waits for ever");
        w.fails = |_| false;
        for second in 10..20 {
            w.core.tick(second * 1_000_000_000);
            w.drain();
        }
        assert_eq!(w.status().fenced.get(), 0);
        let (restored, done) = if w.names().contains(&"dev".to_owned()) { (8, 7) } else { (7, 8) };
        assert_eq!(w.first("prod", 0), restored);
        assert!(w.events().contains(&done), "{:?}", w.events());
    }
}
