// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The catalogue beside a naive model.

use std::collections::BTreeMap;

use super::*;
use crate::control::rows::FLAG_GIVEN_UP;
use crate::testing::{Random, TestPlatform};
use crate::units::{Epoch, MapId};

const T: TestPlatform = TestPlatform;

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

/// A random entity with one of few names, maps, epochs and bases.
fn entity(random: &mut Random, id: u32) -> Entity {
    let few = |random: &mut Random| u32::try_from(random.below(6)).unwrap();
    let kinds = [Kind::Production, Kind::Clone, Kind::Snapshot, Kind::Snapshot, Kind::Sweep];
    let kind = kinds[random.index(kinds.len())];
    let mut made = Entity::new(kind, EntityId(id));
    made.map = few(random).into();
    match kind {
        Kind::Sweep => made.sweep.what = 1.into(),
        Kind::Snapshot => {
            made.name = name(&format!("v{}@s{}", few(random), few(random)));
            made.epoch = (few(random) * 3).into();
            made.owner = few(random).into();
            made.base = few(random).into();
            made.set_flags(FLAG_GIVEN_UP, random.once_in(5));
        }
        _ => {
            made.name = name(&format!("v{}", random.below(12)));
            made.base = if kind == Kind::Clone { few(random) } else { 0 }.into();
        }
    }
    made
}

fn ids<'a>(entities: impl Iterator<Item = &'a Entity>) -> Vec<u32> {
    entities.map(|e| e.id().0).collect()
}

type Model = BTreeMap<u32, Entity>;

/// The ids of the entities that pass, in the order of a key.
fn wanted<K: Ord>(
    model: &Model,
    pass: impl Fn(&Entity) -> bool,
    key: impl Fn(&Entity) -> K,
) -> Vec<u32> {
    let mut all: Vec<_> = model.values().filter(|e| pass(e)).collect();
    all.sort_by_key(|e| (key(e), e.id().0));
    ids(all.into_iter())
}

fn compare_indices(catalog: &Catalog<TestPlatform>, model: &Model) {
    assert_eq!(ids(catalog.iter()), model.keys().copied().collect::<Vec<_>>());
    for n in 0..7 {
        let (map, id) = (MapId(n), EntityId(n));
        let of_map = |e: &Entity| e.is_living_snapshot() && e.map() == map;
        assert_eq!(ids(catalog.snapshots_of_map(map)), wanted(model, of_map, Entity::epoch));
        let owned = |e: &Entity| e.kind() == Some(Kind::Snapshot) && e.owner() == id;
        assert_eq!(ids(catalog.snapshots_of_volume(id)), wanted(model, owned, Entity::epoch));
        let based = |e: &Entity| e.base() == Some(id);
        assert_eq!(ids(catalog.dependants(id)), wanted(model, based, |_| ()));
        let clones = |e: &Entity| based(e) && e.kind() == Some(Kind::Clone);
        assert_eq!(ids(catalog.clones_of(id)), wanted(model, clones, |_| ()));
        assert_eq!(ids(catalog.users_of_map(map)), wanted(model, |e| e.map() == map, |_| ()));
        compare_epochs(catalog, model, map);
        for last in (0..42).map(EntityId) {
            let after = catalog.dependant_after(id, last).map(Entity::id);
            assert_eq!(after, catalog.dependants(id).map(Entity::id).find(|&d| d > last));
            let mut behind = catalog.snapshots_of_volume(id).map(Entity::id);
            let found = behind.any(|s| s == last);
            let first = || catalog.snapshots_of_volume(id).map(Entity::id).next();
            let wanted = if found { behind.next() } else { first() };
            assert_eq!(catalog.snapshot_after(id, last).map(Entity::id), wanted);
        }
    }
    let sweep = model.values().find(|e| e.kind() == Some(Kind::Sweep));
    assert_eq!(catalog.first_sweep().map(Entity::id), sweep.map(Entity::id));
}

fn compare_epochs(catalog: &Catalog<TestPlatform>, model: &Model, map: MapId) {
    let epochs: Vec<u32> = model
        .values()
        .filter(|e| e.is_living_snapshot() && e.map() == map)
        .map(|e| e.epoch().0)
        .collect();
    assert_eq!(catalog.newest_epoch(map).map(|e| e.0), epochs.iter().max().copied());
    for low in 0..18 {
        let least = epochs.iter().filter(|&&e| e >= low).min().copied();
        assert_eq!(catalog.next_epoch_at_or_after(map, Epoch(low)).map(|e| e.0), least);
        let before = epochs.iter().filter(|&&e| e < low).max().copied();
        assert_eq!(catalog.epoch_before(map, Epoch(low)).map(|e| e.0), before);
        let here = epochs.contains(&low);
        assert_eq!(catalog.snapshot_at(map, Epoch(low)).is_some(), here);
        for high in 0..18 {
            let any = epochs.iter().any(|&e| low < e && e <= high);
            assert_eq!(catalog.epoch_in(map, Epoch(low), Epoch(high)), any);
        }
    }
}

#[test]
fn follows_a_model() {
    for seed in 0..12 {
        let mut random = Random(seed);
        let mut catalog = Catalog::new(&T, 2).unwrap();
        let mut model = Model::new();
        for round in 0..400 {
            let id = 1 + u32::try_from(random.below(40)).unwrap();
            if random.once_in(3) {
                assert_eq!(catalog.remove(EntityId(id)), Ok(model.remove(&id).is_some()));
            } else {
                let entity = entity(&mut random, id);
                if catalog.room() == 0 && !model.contains_key(&id) {
                    assert_eq!(catalog.put(&entity), Err(Fault::NoMemory));
                    catalog.reserve(&T, 3).unwrap();
                }
                catalog.put(&entity).unwrap();
                model.insert(id, entity);
            }
            assert_eq!(catalog.len(), model.len());
            let name = format!("v{}", random.below(12));
            let named = model.values().find(|e| e.name.bytes() == name.as_bytes());
            assert_eq!(catalog.by_name(name.as_bytes()).map(Entity::id), named.map(Entity::id));
            if round % 20 == 0 {
                compare_indices(&catalog, &model);
            }
        }
    }
}

#[test]
fn the_frozen_copy_stays_as_it_was() {
    let mut catalog = Catalog::new(&T, 4).unwrap();
    assert!(!catalog.freeze());
    let mut one = Entity::new(Kind::Clone, EntityId(7));
    one.name = name("one");
    catalog.put(&one).unwrap();
    assert!(catalog.freeze());
    one.name = name("two");
    catalog.put(&one).unwrap();
    catalog.set_used(EntityId(7), 5, 6);
    catalog.reserve(&T, 50).unwrap();
    assert_eq!(catalog.frozen().len(), 1);
    assert_eq!(catalog.frozen()[0].name.text(), "one");
    assert!(catalog.freeze() && !catalog.freeze());
    assert_eq!(catalog.frozen()[0].used.get(), 5);
    catalog.remove(EntityId(7)).unwrap();
    assert!(catalog.freeze() && catalog.frozen().is_empty());
    catalog.thaw_unwritten();
    assert!(catalog.freeze());
}

#[test]
fn ten_thousand_entities() {
    let mut catalog = Catalog::new(&T, 0).unwrap();
    for id in 1..=10_000_u32 {
        let mut made = Entity::new(Kind::Snapshot, EntityId(id));
        made.name = name(&format!("prod@s{id}"));
        (made.map, made.owner, made.epoch) = (1.into(), 1.into(), id.into());
        if catalog.room() == 0 {
            catalog.reserve(&T, 1).unwrap();
        }
        catalog.put(&made).unwrap();
    }
    assert_eq!(catalog.by_name(b"prod@s9999").unwrap().id(), EntityId(9999));
    assert!(catalog.by_name(b"prod@s10001").is_none());
    assert_eq!(catalog.newest_epoch(MapId(1)), Some(Epoch(10_000)));
    assert!(catalog.epoch_in(MapId(1), Epoch(9_999), Epoch(10_000)));
    assert_eq!(catalog.from(EntityId(9_990)).count(), 11);
}

#[test]
fn names_follow_the_rules() {
    let valid = |kind, text: &str| Catalog::<TestPlatform>::name_is_valid(kind, &name(text));
    assert!(valid(Kind::Production, "prod") && valid(Kind::Snapshot, "prod@monday"));
    assert!(!valid(Kind::Production, "prod@monday") && !valid(Kind::Snapshot, "prod"));
    assert!(!valid(Kind::Clone, "-x") && !valid(Kind::Snapshot, "prod@a@b"));
    assert!(!valid(Kind::Snapshot, "prod@") && !valid(Kind::Snapshot, "@a"));
    assert!(valid(Kind::Sweep, "") && !valid(Kind::Pool, "x"));
}

#[test]
fn snapshots_are_renamed_with_their_volume() {
    let mut catalog = Catalog::new(&T, 8).unwrap();
    let mut volume = Entity::new(Kind::Production, EntityId(1));
    volume.name = name("prod");
    catalog.put(&volume).unwrap();
    for id in 2..6 {
        let mut snapshot = Entity::new(Kind::Snapshot, EntityId(id));
        snapshot.name = name(&format!("prod@s{id}"));
        snapshot.owner = if id == 5 { 9 } else { 1 }.into();
        catalog.put(&snapshot).unwrap();
    }
    assert_eq!(catalog.rename(EntityId(1), &name("main")), Ok(true));
    assert_eq!(catalog.rename(EntityId(7), &name("other")), Ok(false));
    assert_eq!(catalog.rename(EntityId(1), &name("a@b")), Err(Fault::Corrupt));
    let names: Vec<_> = catalog.iter().map(|e| e.name.text().to_owned()).collect();
    assert_eq!(names, ["main", "main@s2", "main@s3", "main@s4", "prod@s5"]);
    assert_eq!(catalog.by_name(b"main@s3").unwrap().id(), EntityId(3));
    assert!(catalog.by_name(b"prod@s3").is_none());
}
