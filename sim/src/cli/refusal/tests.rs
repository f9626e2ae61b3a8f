// SPDX-License-Identifier: MIT

//! Refusals as sentences.

use super::*;

fn text(verb: Verb, refusal: Refusal, blockers: &[&str]) -> String {
    let one = |name: &&str| Blocker { name: (*name).to_owned(), why: refusal };
    let blockers: Vec<Blocker> = blockers.iter().map(one).collect();
    let (name, other) = ("prod@monday", "dev1");
    Refused { verb, name, other, refusal, blockers: &blockers, value: 7 }.text()
}

#[test]
fn every_blocker_is_named_and_the_way_out() {
    let said = text(Verb::Destroy, Refusal::Needed, &["dev1", "dev2"]);
    assert_eq!(
        said,
        "cannot destroy `prod@monday`: needed by `dev1`, `dev2`\nDestroy these first, or add \
         -r to destroy them too, or --defer to have a snapshot go when they are gone."
    );
}

#[test]
fn blockers_of_all_kinds_are_named() {
    let one = |name: &str, why| Blocker { name: name.to_owned(), why };
    let blockers = [
        one("dev1", Refusal::Needed),
        one("prod@monday", Refusal::Held),
        one("nope", Refusal::NotFound),
        one("dev1", Refusal::Needed),
    ];
    let (refusal, blockers) = (Refusal::Needed, &blockers[..]);
    let (name, verb) = ("prod@monday nope", Verb::Destroy);
    let said = Refused { verb, name, other: "", refusal, blockers, value: 0 }.text();
    assert_eq!(
        said,
        "cannot destroy `prod@monday`, `nope`: needed by `dev1`; held: `prod@monday`; there \
         is no `nope`\nDestroy these first, or add -r to destroy them too, or --defer to have \
         a snapshot go when they are gone.\n`rwsnap release prod@monday` ends the hold.\n\
         `rwsnap list` shows what there is."
    );
}

#[test]
fn every_refusal_of_every_verb_has_a_sentence() {
    for verb in (0..600).filter_map(Verb::from_number) {
        for refusal in (0..100).filter_map(Refusal::from_number) {
            let said = text(verb, refusal, &[]);
            assert!(said.starts_with("cannot ") && !said.contains("``"), "{said}");
        }
    }
}
