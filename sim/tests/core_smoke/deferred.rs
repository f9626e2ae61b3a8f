// SPDX-License-Identifier: MIT

//! Snapshots that go with their last user, and what a destroy says of them.

use rwsnap_core::control::rows::FREES_LATER;
use rwsnap_core::control::{
    Command, Name, NameRow, Refusal, Reply, Verb, FLAG_DEFER, FLAG_DRY_RUN, FLAG_RECURSIVE,
    NAMES_MAX,
};
use zerocopy::{FromBytes, IntoBytes};

use super::world::{Setup, World, USUAL};

const CHUNK: u64 = 4096;

/// Why it was refused, the number of the reply, and the names with theirs.
fn destroy(w: &mut World, flags: u32, names: &[&str]) -> (Option<Refusal>, u64, Vec<NameRow>) {
    let mut command = Command::new(Verb::Destroy, Name::default());
    command.flags = flags.into();
    w.begin(command, names);
    let reply = w.until_answered();
    w.drain();
    let (head, rows) = Reply::ref_from_prefix(&reply).unwrap();
    let rows = rows.chunks(size_of::<NameRow>()).map(|row| NameRow::read_from_bytes(row).unwrap());
    (Refusal::from_number(head.refusal.get()), head.value.get(), rows.collect())
}

fn refusal(w: &mut World, flags: u32, names: &[&str]) -> Option<Refusal> {
    destroy(w, flags, names).0
}

/// Snapshots of clones, each below the next; no clone but the last stands on them any more.
fn chain(w: &mut World, depth: usize) -> Vec<String> {
    w.done(Verb::Snapshot, "", "", &["prod@z"]);
    w.done(Verb::Snapshot, "", "", &["prod@s"]);
    let mut all = vec!["prod@s".to_owned()];
    for n in 0..depth {
        let (clone, base) = (format!("c{n}"), all.last().unwrap().clone());
        w.done(Verb::Clone, &base, &clone, &[]);
        w.write(&clone, n as u64 * CHUNK, 200, CHUNK as usize);
        all.push(format!("{clone}@s"));
        w.done(Verb::Snapshot, "", "", &[all.last().unwrap()]);
    }
    w.done(Verb::Clone, all.last().unwrap(), "last", &[]);
    for n in 0..depth {
        w.done(Verb::Refresh, &format!("c{n}"), "prod@z", &[]);
    }
    all
}

/// Of deferred snapshots that stood on each other only the uppermost went with its last user.
#[test]
fn deferred_snapshots_go_with_their_last_user_all_the_way_down() {
    let mut w = World::with(Setup { log_blocks: 16, ..USUAL });
    let all = chain(&mut w, 15);
    w.write("prod", 3 * CHUNK, 201, CHUNK as usize);
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(refusal(&mut w, FLAG_DEFER, &names), Some(Refusal::None));
    w.done(Verb::Hold, "c7@s", "", &[]);
    assert_eq!((w.first("last", 0), w.first("last", 3 * CHUNK)), (200, 200));
    assert_eq!(refusal(&mut w, 0, &["last"]), Some(Refusal::None));
    let left: Vec<String> = w.names().into_iter().filter(|n| n.ends_with("@s")).collect();
    assert_eq!(left, all[..9], "those from the one that is held on down");
    w.done(Verb::Release, "c7@s", "", &[]);
    assert!(!w.names().iter().any(|n| n.ends_with("@s")));
    let mut w = World::open_with(Setup { log_blocks: 16, ..USUAL }, w.disks);
    assert!(!w.names().iter().any(|n| n.ends_with("@s")));
    assert_eq!((w.first("c3", 3 * CHUNK), w.first("prod@z", 3 * CHUNK)), (3, 3));
}

/// One that a restore needed when it was destroyed stayed for ever.
#[test]
fn a_deferred_snapshot_goes_when_the_restore_that_needs_it_is_done() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.write("prod", 0, 9, CHUNK as usize);
    w.restore("prod", "prod@one", 0);
    assert_eq!(refusal(&mut w, FLAG_DEFER, &["prod@one"]), Some(Refusal::None));
    assert_eq!(w.first("prod@one", 0), 0);
    w.rate("prod", u64::MAX);
    w.drain();
    assert!(!w.names().contains(&"prod@one".to_owned()), "{:?}", w.names());
    assert_eq!(w.first("prod", 0), 0);
}

/// What would go later was left out.
#[test]
fn a_dry_run_says_what_would_go_now_and_what_later() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    w.done(Verb::Snapshot, "", "", &["prod@two"]);
    w.done(Verb::Clone, "prod@one", "dev1", &[]);
    let names = ["prod@one", "prod@two"];
    let (refusal, _, rows) = destroy(&mut w, FLAG_DEFER | FLAG_DRY_RUN, &names);
    assert_eq!(refusal, Some(Refusal::None));
    let said: Vec<_> = rows.iter().map(|r| (r.name.text(), r.frees.get())).collect();
    assert_eq!(said, [("prod@two", 0), ("prod@one", FREES_LATER)]);
    let (_, _, rows) = destroy(&mut w, FLAG_DEFER | FLAG_DRY_RUN, &["prod@one", "prod@none"]);
    assert_eq!(rows.as_bytes().len(), size_of::<NameRow>(), "what is in the way, and nothing else");
}

/// Blockers that the reply had no room for were left out without a word.
#[test]
fn a_reply_says_how_many_names_it_has_no_room_for() {
    let mut w = World::new();
    w.done(Verb::Snapshot, "", "", &["prod@one"]);
    for n in 0..500 {
        w.done(Verb::Clone, "prod@one", &format!("c{n}"), &[]);
    }
    let (refusal, more, rows) = destroy(&mut w, 0, &["prod@one"]);
    assert_eq!(refusal, Some(Refusal::Needed));
    assert_eq!((rows.len(), more), (NAMES_MAX, 500 - NAMES_MAX as u64));
    let (refusal, more, rows) = destroy(&mut w, FLAG_DRY_RUN | FLAG_RECURSIVE, &["prod@one"]);
    assert_eq!(refusal, Some(Refusal::None));
    assert_eq!((rows.len(), more), (NAMES_MAX, 501 - NAMES_MAX as u64));
}
