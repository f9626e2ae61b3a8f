// SPDX-License-Identifier: MIT

//! What requests and commands cost in a pool of many snapshots and clones: no more than in one of a
//! few. Counted are the core's looks into its arrays, and steps.

use rwsnap_core::control::{Command, Name, Reply, Verb};
use zerocopy::FromBytes;

use super::counting::looks;
use super::world::{Setup, World, USUAL};

const CHUNK: u64 = 4096;

/// A pool with so many snapshots and clones.
fn pool(snapshots: u64, clones: u64) -> World {
    let mut w = World::with(Setup { bytes: 64 << 20, ..USUAL });
    w.done(Verb::Snapshot, "", "", &["prod@base"]);
    for n in 0..clones {
        w.done(Verb::Clone, "prod@base", &format!("dev{n}"), &[]);
    }
    for n in 0..snapshots {
        w.done(Verb::Snapshot, "", "", &[&format!("prod@s{n}")]);
    }
    w
}

/// Looks and steps of something.
fn cost(w: &mut World, what: impl FnOnce(&mut World)) -> (u64, usize) {
    let (looked, steps) = (looks(), w.steps.len());
    what(w);
    (looks() - looked, w.steps.len() - steps)
}

type Deed = (&'static str, fn(&mut World));

const DEEDS: [Deed; 6] = [
    ("a first write", |w| w.write("prod", 3 * CHUNK, 7, CHUNK as usize)),
    ("a clone's write", |w| w.write("dev1", 3 * CHUNK, 7, CHUNK as usize)),
    ("a read of a snapshot", |w| drop(w.read("prod@base", 3 * CHUNK, 4096))),
    ("a read of a clone", |w| drop(w.read("dev1", 3 * CHUNK, 4096))),
    ("a clone's flush", |w| w.flush("dev1")),
    ("nothing", |w| w.drain()),
];

/// Gives a command and goes on until it is answered: what is done behind it is not its own cost.
fn answered(w: &mut World, verb: Verb, name: &str, other: &str, items: &[&str]) {
    let mut command = Command::new(verb, Name::new(name.as_bytes()).unwrap());
    command.other = Name::new(other.as_bytes()).unwrap();
    w.begin(command, items);
    let reply = w.until_answered();
    assert_eq!(Reply::ref_from_prefix(&reply).unwrap().0.refusal.get(), 0, "{verb:?} {name}");
}

const COMMANDS: [Deed; 3] = [
    ("a snapshot", |w| answered(w, Verb::Snapshot, "", "", &["prod@new"])),
    ("a clone's snapshot", |w| answered(w, Verb::Snapshot, "", "", &["dev1@new"])),
    ("a clone", |w| answered(w, Verb::Clone, "prod@base", "new", &[])),
];

/// These leave a map to the sweep. It may have ended before they are answered, and then a
/// checkpoint has begun, which copies the catalogue.
const SWEPT: [Deed; 2] = [
    ("a refresh", |w| answered(w, Verb::Refresh, "dev1", "prod@s3", &[])),
    ("a destroy", |w| answered(w, Verb::Destroy, "", "", &["prod@s4"])),
];

#[test]
fn requests_cost_as_much_with_many_snapshots_and_clones_as_with_few() {
    let (mut few, mut many) = (pool(10, 10), pool(3000, 1000));
    for (name, deed) in DEEDS {
        let (a, b) = (cost(&mut few, deed), cost(&mut many, deed));
        println!("{name}: {a:?} and {b:?}");
        assert!(b.0 <= a.0 * 2 + 200 && b.1 <= a.1, "{name}: {a:?} and {b:?}");
    }
}

/// Commands may look at each volume once or a few times, but not at each snapshot.
#[test]
fn commands_cost_as_much_with_many_snapshots_as_with_few() {
    let (mut few, mut many) = (pool(10, 10), pool(3000, 10));
    for (deeds, copy, pages) in [(&COMMANDS[..], 0, 0), (&SWEPT[..], 4 * 3000, 2)] {
        for (name, deed) in deeds {
            let (a, b) = (cost(&mut few, deed), cost(&mut many, deed));
            println!("{name}: {a:?} and {b:?}");
            let good = b.0 <= a.0 * 2 + 200 + copy && b.1 <= a.1 + pages;
            assert!(good, "{name}: {a:?} and {b:?}");
        }
    }
}
