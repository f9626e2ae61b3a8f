// SPDX-License-Identifier: MIT

//! Productions that are not there when a pool is opened.

use rwsnap_core::control::{Name, Refusal, Reply, Verb};
use rwsnap_core::format::create::{create, NewPool, NewProduction};
use rwsnap_core::format::superblock::Options;
use rwsnap_core::units::Dev;
use zerocopy::FromBytes;

use super::counting::Counting as Host;
use super::world::{World, USUAL};

/// A pool of the productions `one` and `two`.
fn two() -> Vec<Vec<u8>> {
    let disks = vec![vec![0; 8 << 20], vec![1; 1 << 20], vec![2; 1 << 20]];
    let name = |name: &str| Name::new(name.as_bytes()).unwrap();
    let production = |called| NewProduction { name: name(called), size: 1 << 20, path: b"" };
    let pool = NewPool {
        layout: Options { bytes: disks[0].len() as u64, ..Options::default() },
        uuid: *b"0123456789abcdef",
        label: [0; 64],
        when_full: USUAL.when_full,
        copy_span: 4096,
        time_ns: 1,
        productions: &[production("one"), production("two")],
    };
    let mut disks = disks;
    let save = &mut disks[0];
    create(&Host, &pool, &mut |at, bytes| {
        save[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    })
    .unwrap();
    disks
}

/// Opens the pool with these productions, which look like this; how each was met.
fn open(disks: Vec<Vec<u8>>, here: &[(u16, u64)]) -> (World, Vec<Result<(), Refusal>>) {
    let mut w = World::opening(USUAL, disks);
    w.drain();
    assert_eq!(w.core.opened(), Some(Ok(())));
    let meet = |&(dev, print): &(u16, u64)| {
        let device = USUAL.device(&w.disks[usize::from(dev)]);
        w.core.online(Dev(dev), device, print, false)
    };
    let met = here.iter().map(meet).collect();
    w.core.start();
    w.drain();
    (w, met)
}

/// Closes the pool; the productions look like this.
fn close(mut w: World, here: &[(u16, u64)]) -> Vec<Vec<u8>> {
    here.iter().for_each(|&(dev, print)| w.core.set_fingerprint(Dev(dev), print));
    w.core.close();
    w.drain();
    assert_eq!(w.core.closed(), Some(Ok(())));
    w.disks
}

fn refusal(reply: &[u8]) -> Option<Refusal> {
    Refusal::from_number(Reply::ref_from_prefix(reply).unwrap().0.refusal.get())
}

/// A restore whose production was missing did not count as one that is under way: another one could
/// begin. When both productions were back, one of the two went no further.
#[test]
fn there_is_no_other_restore_while_one_waits_for_its_production() {
    let (mut w, _) = open(two(), &[(1, 0), (2, 0)]);
    w.done(Verb::Snapshot, "", "", &["one@a", "two@a"]);
    w.write("one", 0, 7, 8192);
    w.write("two", 0, 8, 8192);
    assert_eq!(refusal(&w.restore("one", "one@a", 0)), Some(Refusal::None));
    let disks = close(w, &[(2, 5)]);
    let (mut w, met) = open(disks, &[(2, 5)]);
    assert_eq!(met, [Ok(())]);
    assert_eq!(refusal(&w.restore("two", "two@a", 0)), Some(Refusal::Restoring));
    let disks = close(w, &[(2, 5)]);
    let (mut w, met) = open(disks, &[(1, 0), (2, 5)]);
    assert_eq!(met, [Ok(()), Ok(())]);
    w.rate("one", u64::MAX);
    w.core.tick(1_000_000_000);
    w.drain();
    assert_eq!(refusal(&w.restore("two", "two@a", u64::MAX)), Some(Refusal::None));
    assert_eq!((w.first("one", 4096), w.first("two", 4096)), (1, 2));
}

/// The opening that found a production changed forgot what it had to look like: the next one took
/// it as it was. Later on so did one that followed a crash amid an opening.
#[test]
fn a_changed_production_is_refused_until_it_is_as_it_was() {
    let (w, _) = open(two(), &[(1, 0), (2, 0)]);
    let mut disks = close(w, &[(1, 10), (2, 20)]);
    for _ in 0..3 {
        let (mut w, met) = open(disks, &[(1, 11), (2, 20)]);
        assert_eq!(met, [Err(Refusal::Lost), Ok(())]);
        w.write("two", 0, 9, 4096);
        assert!(matches!(w.core.attach(b"one", false), Err(Refusal::Offline)));
        // Every other time there is a crash.
        disks = w.disks.clone();
        let (w, met) = open(disks, &[(1, 11), (2, 21)]);
        assert_eq!(met, [Err(Refusal::Lost), Ok(())]);
        disks = close(w, &[(2, 20)]);
    }
    // A crash right after an opening forgets nothing.
    let mut w = World::opening(USUAL, disks);
    w.drain();
    let (w, met) = open(w.disks, &[(1, 11), (2, 21)]);
    assert_eq!(met, [Err(Refusal::Lost), Err(Refusal::Lost)]);
    let (_, met) = open(w.disks, &[(1, 10), (2, 20)]);
    assert_eq!(met, [Ok(()), Ok(())]);
}

/// What the production that is written to looks like is void before that.
#[test]
fn a_production_that_was_written_to_is_taken_as_it_is_after_a_crash() {
    let (w, _) = open(two(), &[(1, 0), (2, 0)]);
    let disks = close(w, &[(1, 10), (2, 20)]);
    let (mut w, _) = open(disks, &[(1, 10), (2, 20)]);
    assert_eq!(w.first("one", 0), 1);
    w.write("two", 4096, 9, 4096);
    let (mut w, met) = open(w.disks, &[(1, 11), (2, 21)]);
    assert_eq!(met, [Err(Refusal::Lost), Ok(())]);
    assert_eq!(w.first("two", 4096), 9);
}
