// SPDX-License-Identifier: MIT

//! Exercisers: operations by chance on served volumes, compared with plain copies.
//!
//! `mount.rs` has the program fsx do that on production, through FUSE and a loop device, on the
//! bare device and on a file system, while snapshots are taken. `own.rs` does it on production and
//! all clones at once, and keeps a copy of every snapshot as well.

mod mount;
mod own;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../pool/mod.rs"]
mod pool;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../pool/server.rs"]
mod server;

#[test]
fn fsx_finds_nothing_wrong_with_production() {
    mount::exercise();
}

#[test]
fn every_snapshot_and_clone_is_as_its_model() {
    for seed in [1, 2, 3] {
        own::exercise(seed, 700);
    }
}
