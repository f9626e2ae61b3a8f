// SPDX-License-Identifier: MIT

//! Pools made by hand, sound and damaged.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rwsnap_core::control::Name;
use rwsnap_core::format::entity::{fill_page, Entity, Kind as EntityKind};
use rwsnap_core::format::log::{fold, seal as seal_block, Entry, Fill, Header, HEADER};
use rwsnap_core::format::node::{write_inner, write_leaf, Identity, RawChild};
use rwsnap_core::format::page::{self, Owner, Place, TYPE_META_BITS, TYPE_SLOT_BITS};
use rwsnap_core::format::record::{GroupKey, Kind, RawRecord, Record};
use rwsnap_core::format::superblock::{Options, Superblock};
use rwsnap_core::units::{EntityId, Epoch, LogPos, MapId, PageNo, Slot, Word, PAGE};

use super::{check, Report, Severity, Verdict};
use crate::platform::Host;

const BYTES: u64 = 4 << 20;

/// A pool of a production with a snapshot, a clone of that, and records in two leaves.
struct Pool {
    superblock: Superblock,
    entities: Vec<Entity>,
    leaves: Vec<Vec<Record>>,
    slots: Vec<u64>,
    pages: Vec<u64>,
    log: Vec<Vec<Entry<'static>>>,
    /// Bytes to spoil after all has been written.
    spoil: Vec<u64>,
    /// Data to write, by slot.
    data: Vec<(u64, u8)>,
}

fn record(map: u32, word: u64, epoch: u32, kind: Kind, mask: u64, slot: u64) -> Record {
    let (map, word, epoch, slot) = (MapId(map), Word(word), Epoch(epoch), Slot(slot));
    Record { map, word, epoch, kind, mask, slot }
}

fn entity(kind: EntityKind, id: u32, name: &str, map: u32) -> Entity {
    let mut entity = Entity::new(kind, EntityId(id));
    entity.name = Name::new(name.as_bytes()).unwrap();
    entity.uuid = [u8::try_from(id).unwrap(); 16];
    entity.map = map.into();
    entity.size = (8u64 << 20).into();
    entity
}

impl Pool {
    fn new() -> Self {
        let mut superblock = Superblock::default();
        let options = Options { bytes: BYTES, log_blocks: 16, ..Options::default() };
        superblock.lay_out(&options).unwrap();
        superblock.pool = [9; 16];
        superblock.generation = 4.into();
        superblock.log_generation = 4.into();
        superblock.epoch = 3.into();
        superblock.next_entity = 10.into();
        superblock.next_map = 10.into();
        let production = entity(EntityKind::Production, 1, "prod", 1);
        let mut snapshot = entity(EntityKind::Snapshot, 2, "prod@a", 1);
        snapshot.owner = 1.into();
        snapshot.epoch = 3.into();
        let mut clone = entity(EntityKind::Clone, 3, "dev", 2);
        clone.base = 2.into();
        clone.epoch = 4.into();
        let leaves = vec![
            vec![
                record(1, 0, 3, Kind::Copied, 0b11, 0),
                record(1, 0, 3, Kind::Copied, 0b100, 5),
                record(1, 3, 3, Kind::Lost, 1, 0),
            ],
            vec![record(2, 1, 4, Kind::New, 0b1, 2), record(2, 1, 4, Kind::Zero, 0b10, 0)],
        ];
        Self {
            superblock,
            entities: vec![production, snapshot, clone],
            leaves,
            slots: vec![0, 1, 2, 5],
            pages: vec![0, 1, 2, 3],
            log: Vec::new(),
            spoil: Vec::new(),
            data: Vec::new(),
        }
    }

    /// Page 0 is the root, 1 and 2 are leaves, 3 the catalogue.
    fn build(&mut self, dir: &Path) -> PathBuf {
        let path = dir.join("save");
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(BYTES).unwrap();
        let s = &mut self.superblock;
        s.tree_root = 0.into();
        s.tree_height = 2.into();
        s.tree_records = (self.leaves.iter().map(Vec::len).sum::<usize>() as u64).into();
        s.catalog_first = 3.into();
        s.catalog_pages = 1.into();
        s.slots_used = (self.slots.len() as u64).into();
        s.pages_used = (self.pages.len() as u64).into();
        s.seal(&Host);
        let s = &self.superblock;
        for at in s.pair() {
            file.write_all_at(zerocopy::IntoBytes::as_bytes(s), at).unwrap();
        }
        self.write_tree(&file);
        self.write_bits(&file);
        self.write_log(&file);
        for (slot, byte) in &self.data {
            let at = s.slot_byte(Slot(*slot)).unwrap();
            file.write_all_at(&vec![*byte; 4096], at).unwrap();
        }
        for at in &self.spoil {
            let mut byte = [0];
            file.read_at(&mut byte, *at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x40], *at).unwrap();
        }
        path
    }

    fn write_tree(&self, file: &File) {
        let s = &self.superblock;
        let id = |page| Identity { page: PageNo(page), pool: s.pool_number(), generation: 4 };
        let mut out = [0; PAGE];
        let mut kids = Vec::new();
        for (n, leaf) in self.leaves.iter().enumerate() {
            let page = n as u64 + 1;
            let raw: Vec<RawRecord> = leaf.iter().map(RawRecord::new).collect();
            assert!(write_leaf(&Host, &mut out, id(page), &raw));
            file.write_all_at(&out, s.page_byte(PageNo(page)).unwrap()).unwrap();
            kids.push(RawChild::new(leaf[0].group().first(), PageNo(page)));
        }
        assert!(write_inner(&Host, &mut out, id(0), 1, &kids));
        file.write_all_at(&out, s.page_byte(PageNo(0)).unwrap()).unwrap();
        let owner = Owner { pool: s.pool_number(), generation: 4 };
        fill_page(&Host, &mut out, &owner, PageNo(3), None, self.entities.iter());
        file.write_all_at(&out, s.page_byte(PageNo(3)).unwrap()).unwrap();
    }

    fn write_bits(&self, file: &File) {
        let s = &self.superblock;
        let owner = Owner { pool: s.pool_number(), generation: 4 };
        let extent = s.extents().next().unwrap();
        for (bits, page_type, at) in [
            (&self.slots, TYPE_SLOT_BITS, s.slot_map_byte(0, 0).unwrap()),
            (&self.pages, TYPE_META_BITS, extent.map_byte(0, 0)),
        ] {
            let mut out = [0; PAGE];
            for bit in bits {
                let byte = page::HEADER + usize::try_from(bit / 8).unwrap();
                out[byte] |= 1 << (bit % 8);
            }
            page::seal(&Host, &mut out, &owner, Place { page_type, page: 0 }, 0, 0);
            file.write_all_at(&out, at).unwrap();
        }
    }

    fn write_log(&self, file: &File) {
        let s = &self.superblock;
        let mut before = 0;
        for (pos, entries) in (0u64..).zip(&self.log) {
            let mut block = [0; PAGE];
            let mut fill = Fill::default();
            for entry in entries {
                assert!(fill.push(&mut block[HEADER..], entry));
            }
            let header = Header {
                generation: 4,
                super_generation: 4,
                position: LogPos(pos),
                before,
                group_start: LogPos(pos),
                ..Header::default()
            };
            before = seal_block(&Host, &mut block, s.pool_number(), &header, fill.used());
            file.write_all_at(&block, s.log_byte(LogPos(pos)).unwrap()).unwrap();
        }
    }

    fn check(&mut self) -> Report {
        let dir = tempfile::tempdir().unwrap();
        check(&self.build(dir.path())).unwrap()
    }

    /// Says that it is corrupt, in these words.
    fn is_corrupt(&mut self, words: &str) {
        let report = self.check();
        assert_eq!(report.verdict, Verdict::Corrupt, "{words}: {report:#?}");
        let told = report
            .findings
            .iter()
            .any(|f| f.severity == Severity::Corrupt && f.what.contains(words));
        assert!(told, "`{words}` is not told: {report:#?}");
    }
}

#[test]
fn a_sound_pool_is_sound() {
    let report = Pool::new().check();
    assert_eq!(report.verdict, Verdict::Sound, "{report:#?}");
    assert_eq!((report.volumes, report.records, report.slots_used), (3, 5, 4));
}

#[test]
fn the_log_counts() {
    let mut pool = Pool::new();
    pool.log = vec![
        vec![Entry::Put(record(1, 9, 3, Kind::Copied, 0b11, 6)), Entry::Note],
        vec![
            // The clone's chunk moves to slot 8; its former slot is freed.
            Entry::Put(record(2, 1, 4, Kind::New, 0b1, 8)),
            Entry::Put(record(u32::MAX, 0, 0, Kind::Free, 0b100, 0)),
        ],
        vec![
            Entry::Put(record(1, 0, 3, Kind::Gone, 0b10, 0)),
            Entry::Put(record(u32::MAX, 0, 0, Kind::Free, 0b10, 0)),
            Entry::Rename(EntityId(1), Name::new(b"db").unwrap()),
        ],
    ];
    let report = pool.check();
    assert_eq!(report.verdict, Verdict::Sound, "{report:#?}");
    assert_eq!((report.log_blocks, report.slots_used, report.records), (3, 5, 6));
}

#[test]
fn data_that_did_not_arrive_ends_the_log() {
    let mut pool = Pool::new();
    let sum = fold([xxhash_rust::xxh64::xxh64(&[7; 4096], 0)]);
    let put = Entry::PutSummed(record(1, 9, 3, Kind::Copied, 1, 6), sum);
    pool.log = vec![vec![Entry::Note], vec![put], vec![Entry::Note]];
    let report = pool.check();
    assert_eq!((report.verdict, report.log_blocks, report.log_dropped), (Verdict::Sound, 1, 2));
    pool.data = vec![(6, 7)];
    let report = pool.check();
    assert_eq!((report.log_blocks, report.slots_used), (3, 5), "{report:#?}");
}

#[test]
fn leaks_are_leaks() {
    let mut pool = Pool::new();
    pool.slots.extend([9, 10]);
    pool.pages.push(11);
    let report = pool.check();
    assert_eq!(report.verdict, Verdict::Leaks, "{report:#?}");
    assert_eq!((report.slots_leaked, report.pages_leaked), (2, 1));
    assert_eq!(report.verdict.exit_code(), 3);
    let mut pool = Pool::new();
    pool.entities.pop();
    let report = pool.check();
    assert!(report.findings.iter().any(|f| f.what.contains("are of map 2, which nothing has")));
}

#[test]
fn damage_is_found() {
    let page = |n| Pool::new().superblock.page_byte(PageNo(n)).unwrap();
    let spoiled = |at: u64, words: &str| {
        let mut pool = Pool::new();
        pool.spoil.push(at);
        pool.is_corrupt(words);
    };
    spoiled(page(1) + 100, "page 1 of the tree is damaged");
    spoiled(page(0), "page 0 of the tree is damaged");
    spoiled(page(3) + 4000, "page 3 of the catalogue is damaged");
    let bits = Pool::new().superblock.slot_map_byte(0, 0).unwrap();
    spoiled(bits + 70, "bit map of slots is damaged");
    let mut pool = Pool::new();
    pool.superblock.known_end = 1.into();
    pool.is_corrupt("the log ends at 0, and was durable up to 1");
}

#[test]
fn contradictions_are_found() {
    let changed = |f: &dyn Fn(&mut Pool), words: &str| {
        let mut pool = Pool::new();
        f(&mut pool);
        pool.is_corrupt(words);
    };
    changed(&|p| p.slots.retain(|s| *s != 5), "1 slots from 5 on are in use and marked free");
    changed(&|p| p.pages.retain(|n| *n != 2), "1 pages from 2 on are in use and marked free");
    changed(&|p| p.leaves[1][0].slot = Slot(1), "slot 1 is used 2 times");
    changed(&|p| p.leaves[1][0].slot = Slot(1 << 30), "which is none");
    changed(&|p| p.leaves[1][1].epoch = Epoch(9), "an epoch that never was");
    changed(&|p| p.leaves[1].insert(0, record(1, 0, 9, Kind::Lost, 1, 0)), "out of order");
    changed(&|p| p.leaves[0].push(record(1, 9000, 3, Kind::Lost, 1, 0)), "beyond the end");
    changed(&|p| p.entities[2].base = 7.into(), "has 7 for its base, which is none");
    changed(&|p| p.entities[1].owner = 2.into(), "has 2 for its volume");
    changed(&|p| p.entities[2].name = p.entities[0].name, "bear the same name");
    changed(&|p| p.entities[2].uuid = p.entities[0].uuid, "bear the same UUID");
    changed(&|p| p.superblock.next_entity = 3.into(), "a number that was not given out");
    let free = record(u32::MAX, 0, 0, Kind::Free, 0b1000, 0);
    changed(&|p| p.log = vec![vec![Entry::Put(free), Entry::Put(free)]], "frees slot 3 once more");
    let again = record(2, 1, 4, Kind::New, 0b1, 3);
    changed(&|p| p.log = vec![vec![Entry::Put(free), Entry::Put(again)]], "slot 3, just freed");
    changed(&|p| p.log = vec![vec![Entry::Remove(EntityId(8))]], "removes 8, no entity");
}

#[test]
fn a_dump_tells_of_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::new();
    pool.log = vec![vec![Entry::Put(record(1, 9, 3, Kind::Copied, 0b11, 6))]];
    let path = pool.build(dir.path());
    let mut text = Vec::new();
    super::dump(&path, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let group = GroupKey { map: MapId(2), word: Word(1), epoch: Epoch(4) };
    for part in ["`prod@a`", "map 1 word 9", "slots in use: 4", &format!("{group:?}")] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
