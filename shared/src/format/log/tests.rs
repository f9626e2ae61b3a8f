// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Entries and blocks of the log, there and back.

use super::*;
use crate::control::Name;
use crate::format::entity::{Entity, Kind};
use crate::format::record::{Kind as RecordKind, Record};
use crate::testing::{Random, TestPlatform};
use crate::units::{EntityId, Epoch, MapId, Slot, Word};

const T: TestPlatform = TestPlatform;

fn record(n: u64) -> Record {
    Record {
        map: MapId(1),
        word: Word(n),
        epoch: Epoch(2),
        kind: RecordKind::Copied,
        mask: n | 1,
        slot: Slot(n),
    }
}

fn sealed(used: usize, payload: &[u8]) -> Vec<u8> {
    let mut block = vec![0; PAGE];
    copy(&mut block, HEADER, payload);
    let header = Header { position: LogPos(5), before: 9, generation: 2, ..Header::default() };
    seal(&T, &mut block, 7, &header, used);
    block
}

/// An entry as text, for comparing.
fn text(entry: &Entry<'_>) -> String {
    format!("{entry:?}")
}

#[test]
fn entries_are_read_back() {
    let mut random = Random(3);
    let mut entity = Entity::new(Kind::Clone, EntityId(4));
    entity.name = Name::new(b"dev").unwrap();
    for _ in 0..300 {
        let mut payload = vec![0; PAYLOAD];
        let mut fill = Fill::default();
        let mut pushed = Vec::new();
        loop {
            let n = random.below(1000);
            let entry = match random.below(9) {
                0 => Entry::Entity(&entity),
                1 => Entry::Remove(EntityId(77)),
                2 => Entry::Counters(Counters { epoch: Epoch(4), ..Counters::default() }),
                3 => Entry::Note,
                4 => Entry::Rename(EntityId(4), entity.name),
                5 | 6 => Entry::PutSummed(record(n), n),
                _ => Entry::Put(record(n)),
            };
            if random.once_in(9) {
                fill.part();
            }
            let before = fill.used();
            if !fill.push(&mut payload, &entry) {
                assert!(before + entry.bytes() > PAYLOAD);
                break;
            }
            assert!(fill.used() <= before + entry.bytes() && entry.bytes() <= ENTRY_MAX);
            pushed.push(text(&entry));
        }
        let block = sealed(fill.used(), &payload);
        let (header, entries) = open(&T, &block, 7).unwrap();
        assert_eq!((header.position, header.before, header.generation), (LogPos(5), 9, 2));
        let read: Vec<_> = entries.map(|e| text(&e.unwrap())).collect();
        assert_eq!(read, pushed);
    }
}

#[test]
fn records_in_a_row_share_an_entry() {
    let (mut payload, mut fill) = (vec![0; PAYLOAD], Fill::default());
    let count = (0..).take_while(|&n| fill.push(&mut payload, &Entry::Put(record(n)))).count();
    assert_eq!(count, (PAYLOAD - 8) / 32);
}

#[test]
fn each_flipped_bit_is_seen() {
    let (mut payload, mut fill) = (vec![0; PAYLOAD], Fill::default());
    fill.push(&mut payload, &Entry::Put(record(3)));
    let mut block = sealed(fill.used(), &payload);
    assert!(open(&T, &block, 7).is_some() && open(&T, &block, 8).is_none());
    for bit in 0..PAGE * 8 {
        block[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&T, &block, 7).is_none(), "bit {bit}");
        block[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn entries_that_make_no_sense_are_corrupt_and_end() {
    let mut random = Random(8);
    for round in 0..2000 {
        let mut payload = vec![0; 200];
        let mut fill = Fill::default();
        while fill.push(&mut payload, &Entry::PutSummed(record(1), 4)) {}
        for _ in 0..3 {
            let at = random.index(if round % 2 == 0 { 16 } else { 200 });
            payload[at] = random.bits().to_le_bytes()[0];
        }
        let all: Vec<_> = Entries::new(&payload[..fill.used()]).collect();
        let bad = all.iter().position(Result::is_err);
        assert!(bad.is_none_or(|bad| bad == all.len() - 1));
    }
    assert!(Entries::new(&[1, 0, 0]).next().unwrap().is_err());
    assert!(Entries::new(&[99, 0, 0, 0, 0, 0, 0, 0]).next().unwrap().is_err());
}

#[test]
fn folding_depends_on_order_and_number() {
    let sums = [fold([]), fold([0]), fold([0, 0]), fold([1, 2]), fold([2, 1]), fold([1, 2, 0])];
    for (i, a) in sums.iter().enumerate() {
        assert!(sums.iter().skip(i + 1).all(|b| a != b));
    }
}
