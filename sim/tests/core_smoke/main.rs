// SPDX-License-Identifier: MIT

//! The core over disks in memory, one step at a time: the shortest way to see each path work.

#![expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod ahead;
mod away;
mod corners;
mod costs;
mod counting;
mod counts;
mod deferred;
mod devices;
mod discards;
mod forgoing;
mod limits;
mod promises;
mod stories;
mod superblocks;
mod unreadable;
mod versions;
mod water;
mod world;

use rwsnap_core::api::Op;
use rwsnap_core::control::{Reply, Verb};
use world::World;
use zerocopy::FromBytes;

#[test]
fn a_snapshot_keeps_what_production_held() {
    let mut w = World::new();
    w.write("prod", 0, 200, 512);
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.write("prod", 0, 201, 512);
    w.write("prod", 8192, 202, 8192);
    assert_eq!(w.first("prod@one", 0), 200);
    assert_eq!(w.first("prod@one", 8192), 2);
    assert_eq!(w.first("prod@one", 12288), 3);
    assert_eq!(w.first("prod", 0), 201);
    assert_eq!(w.first("prod", 8192), 202);
    assert_eq!(w.first("prod@one", 40960), 10);
    w.done(Verb::Snapshot, "", "", &["prod@two"]);
    w.write("prod", 0, 203, 512);
    assert_eq!(w.first("prod@one", 0), 200);
    assert_eq!(w.first("prod@two", 0), 201);
    assert_eq!(w.first("prod", 0), 203);
}

#[test]
fn clones_keep_their_own_data() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    w.done(Verb::Clone, "prod@one", "dev2", &[]);
    w.write("dev1", 512, 100, 512);
    w.write("dev2", 512, 101, 512);
    w.write("prod", 512, 102, 512);
    for (name, byte) in [("dev1", 100), ("dev2", 101), ("prod", 102), ("prod@one", 0)] {
        assert_eq!(w.first(name, 512), byte, "{name}");
        assert_eq!(w.first(name, 0), 0, "{name}");
        assert_eq!(w.first(name, 1024), 0, "{name}");
    }
    w.flush("dev1");
    w.done(Verb::Snapshot, "", "", &["dev1@s"]);
    w.write("dev1", 512, 110, 512);
    assert_eq!(w.first("dev1@s", 512), 100);
    assert_eq!(w.first("dev1", 512), 110);
    w.request("dev1", Op::Discard, 0, vec![0; 4096]);
    assert_eq!(w.first("dev1", 512), 0);
    assert_eq!(w.first("dev1@s", 512), 100);
    w.done(Verb::Refresh, "dev2", "", &[]);
    assert_eq!(w.first("dev2", 512), 102);
}

#[test]
fn a_reopened_pool_is_what_it_was() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    for n in 0..200u64 {
        w.write("prod", n * 4096, 50, 512);
        w.write("dev1", n * 8192, 60, 4096);
    }
    w.flush("dev1");
    let mut w = World::open(w.disks);
    for n in 0..200u64 {
        assert_eq!(w.first("prod", n * 4096), 50);
        assert_eq!(w.first("dev1", n * 8192), 60);
        assert_eq!(w.first("prod@one", n * 4096), n as u8);
    }
    w.core.close();
    w.drain();
    assert_eq!(w.core.closed(), Some(Ok(())));
    let mut w = World::open(w.disks);
    for n in 0..200u64 {
        assert_eq!(w.first("dev1", n * 8192), 60);
        assert_eq!(w.first("prod@one", n * 4096), n as u8);
    }
}

#[test]
fn production_is_restored_from_a_clone_and_back() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    for n in 0..100u64 {
        w.write("prod", n * 4096, 150, 4096);
        w.write("dev1", n * 8192, 160, 4096);
    }
    w.done(Verb::Restore, "prod", "dev1", &[]);
    for n in 0..100u64 {
        assert_eq!(w.first("prod", n * 8192), 160, "{n}");
        assert_eq!(w.first("prod", n * 8192 + 4096), (n * 2 + 1) as u8, "{n}");
    }
    assert_eq!(w.first("prod@one", 0), 0);
    let list = w.command(Verb::RestoreStatus, "prod", "", &[]);
    assert_eq!(Reply::ref_from_prefix(&list).unwrap().0.count.get(), 0, "still merging");
    w.write("prod", 0, 170, 512);
    assert_eq!(w.first("dev1", 0), 160);
}
