// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Entities, their properties and their pages, stored and read back.

use std::collections::BTreeMap;

use super::*;
use crate::format::page::Owner;
use crate::testing::{Random, TestPlatform};
use crate::units::{PageNo, PAGE};

const T: TestPlatform = TestPlatform;
const OWNER: Owner = Owner { pool: 5, generation: 2 };

fn clone(id: u32, name: &str) -> Entity {
    let mut made = Entity::new(Kind::Clone, EntityId(id));
    made.name = Name::new(name.as_bytes()).unwrap();
    made
}

#[test]
fn checks_what_each_kind_needs() {
    assert!(!Entity::default().check());
    assert!(clone(1, "dev").check());
    assert!(!clone(0, "dev").check());
    assert!(!clone(1, "").check());
    assert!(!Entity { kind: 9, ..clone(1, "dev") }.check());
    let mut restoring = clone(1, "dev");
    restoring.restore.active = 1;
    assert!(!restoring.check() && restoring.restoring().is_some());
    restoring.kind = Kind::Production as u8;
    assert!(restoring.check());
    let mut sweep = Entity::new(Kind::Sweep, EntityId(3));
    assert!(!sweep.check());
    sweep.sweep.what = SWEEP_VIEWS.into();
    assert!(sweep.check());
    assert!(Entity::new(Kind::Pool, EntityId(4)).check());
    let mut hidden_tail = clone(1, "dev");
    hidden_tail.name.0[100] = b'x';
    assert!(!hidden_tail.check());
}

#[test]
fn given_up_snapshots_do_not_live() {
    let mut snapshot = Entity::new(Kind::Snapshot, EntityId(3));
    assert!(snapshot.is_living_snapshot());
    snapshot.set_flags(FLAG_GIVEN_UP, true);
    assert!(!snapshot.is_living_snapshot());
    snapshot.set_flags(FLAG_GIVEN_UP, false);
    assert!(snapshot.is_living_snapshot() && !clone(1, "dev").is_living_snapshot());
}

/// Properties beside a map, with keys and values of all lengths.
#[test]
fn properties_follow_a_model() {
    let mut random = Random(7);
    for _ in 0..200 {
        let mut entity = clone(1, "dev");
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for _ in 0..60 {
            let key = vec![b"abcdef"[random.index(6)]; 1 + random.index(4)];
            let longest = if random.once_in(4) { 210 } else { 60 };
            let value = vec![b'v'; random.index(longest)];
            let mut after = model.clone();
            after.remove(&key);
            if !value.is_empty() {
                after.insert(key.clone(), value.clone());
            }
            let bytes: usize = after.iter().map(|(k, v)| 2 + k.len() + v.len()).sum();
            let expected = if value.len() > VALUE_MAX {
                Err(PropertyError::Length)
            } else if bytes > PROPERTY_BYTES && !value.is_empty() {
                Err(PropertyError::Full)
            } else {
                model = after;
                Ok(())
            };
            assert_eq!(entity.set_property(&key, &value), expected);
            let seen: BTreeMap<_, _> =
                entity.properties().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
            assert_eq!(seen, model);
            assert_eq!(entity.property(&key), model.get(&key).map(|v| &v[..]));
            assert!(entity.check());
        }
    }
    assert_eq!(clone(1, "a").set_property(b"", b"v"), Err(PropertyError::Length));
    assert!(!clone(1, "a").remove_property(b"k"));
}

#[test]
fn damaged_properties_are_refused_and_read_within_bounds() {
    let mut entity = clone(1, "dev");
    entity.set_property(b"key", b"value").unwrap();
    entity.props[1] = 255;
    entity.props[510] = 250;
    assert!(!entity.check());
    assert!(entity.properties().count() <= 2);
    entity.props = [255; PROPERTY_BYTES];
    assert!(!entity.check());
}

#[test]
fn pages_hold_four_and_chain_on() {
    let all: Vec<Entity> = (1..7).map(|id| clone(id, &format!("dev{id}"))).collect();
    let mut entities = all.iter();
    let mut page = vec![1; PAGE];
    let next = Some(PageNo(9));
    assert_eq!(fill_page(&T, &mut page, &OWNER, PageNo(8), next, entities.by_ref()), 4);
    let (read, next) = read_page(&T, &page, 5, PageNo(8)).unwrap();
    assert_eq!((read.len(), next), (4, Some(PageNo(9))));
    assert_eq!(read[3].name.text(), "dev4");
    assert_eq!(fill_page(&T, &mut page, &OWNER, PageNo(9), None, entities.by_ref()), 2);
    let (read, next) = read_page(&T, &page, 5, PageNo(9)).unwrap();
    assert_eq!((read.len(), next), (2, None));
    assert!(read_page(&T, &page, 5, PageNo(8)).is_none());
    assert!(read_page(&T, &page, 6, PageNo(9)).is_none());
    let unordered = [clone(2, "b"), clone(1, "a")];
    fill_page(&T, &mut page, &OWNER, PageNo(9), None, unordered.iter());
    assert!(read_page(&T, &page, 5, PageNo(9)).is_none());
}

#[test]
fn each_flipped_bit_of_a_page_is_seen() {
    let all: Vec<Entity> = (1..5).map(|id| clone(id, "x")).collect();
    let mut page = vec![0; PAGE];
    fill_page(&T, &mut page, &OWNER, PageNo(8), None, all.iter());
    for bit in 0..PAGE * 8 {
        page[bit / 8] ^= 1 << (bit % 8);
        assert!(read_page(&T, &page, 5, PageNo(8)).is_none(), "bit {bit}");
        page[bit / 8] ^= 1 << (bit % 8);
    }
}
