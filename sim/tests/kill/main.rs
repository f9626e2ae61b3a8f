// SPDX-License-Identifier: MIT

//! `kill -9` of a server under load, again and again: every flushed write, every snapshot and
//! every clone is there afterwards, and the save volume is sound.
//!
//! Writers keep production and clones busy while commands make, refresh, destroy and restore. A
//! command that the kill interrupted may have been carried out or not, but not by half.

mod model;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../pool/mod.rs"]
mod pool;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../pool/server.rs"]
mod server;
mod world;

use world::World;

/// The server is killed so many times.
const KILLS: u32 = 50;

#[test]
fn nothing_is_lost_when_the_server_is_killed() {
    let mut world = World::new();
    for round in 0..KILLS {
        let reactors = if round % 2 == 0 { "1" } else { "4" };
        world.round(round, reactors);
    }
    world.finish();
    println!("{}", world.told());
    assert!(world.is_worth_it(), "there was too little to lose: {}", world.told());
}
