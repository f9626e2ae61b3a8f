// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Compares the tables of `docs/FORMAT.md` with the structs.

use std::collections::BTreeMap;
use std::mem::offset_of;

use super::entity::{Entity, Restore, Sweep};
use super::log::{RawCounters, RawHead, RawHeader, RawRename, RawSummed};
use super::page::Header;
use super::record::RawRecord;
use super::superblock::{RawExtent, Superblock};

const DOCUMENT: &str = include_str!("../../../docs/FORMAT.md");

/// Documented here, but laid out in `format/node.rs`.
const ELSEWHERE: [&str; 2] = ["NodeHeader", "RawChild"];

/// A field: its name, offset and bytes.
type Field = (String, usize, usize);

/// The bytes of the field that a function picks.
const fn bytes_of<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! structs {
    ($($name:ident { $($field:ident)* })*) => {
        vec![$((
            stringify!($name),
            size_of::<$name>(),
            vec![$((
                stringify!($field).to_owned(),
                offset_of!($name, $field),
                bytes_of(|s: &$name| &s.$field),
            ),)*],
        ),)*]
    };
}

/// The structs, as the compiler lays them out.
fn in_code() -> Vec<(&'static str, usize, Vec<Field>)> {
    structs! {
        Superblock {
            magic checksum compat ro_compat incompat generation pool label checksum_id chunk block
            clean base_align log_start log_blocks slot_map slot_map_pages slots_start slots
            slot_limit map_side extents_used log_pos log_hash known_end known_hash log_generation
            tree_root tree_records catalog_first catalog_pages tree_height next_entity next_map
            epoch slots_used pages_used delta_records reserves when_full copy_span discard
            low_water save_limit opened recovered written_ns attached extents tree_pages
            reserved
        }
        RawExtent { start pages }
        Header { checksum magic page_type level count page pool generation next reserved }
        RawRecord { map epoch word_kind mask slot }
        RawHeader {
            checksum magic flags pool generation super_generation position before durable
            group_start bytes reserved
        }
        RawHead { entry_type bytes zero }
        RawSummed { record sum }
        RawCounters { epoch next_map next_entity zero slots }
        RawRename { id zero name }
        Entity {
            id kind reserved_kind flags map uuid name created_ns size used refer base epoch owner
            device group quota reservation fingerprint device_uuid reason reserved_reason restore
            sweep reserved props
        }
        Restore {
            active order phase reserved before_epoch r_epoch x m_map r before retried cursor rate
            started_ns total done
        }
        Sweep { cursor what reserved }
    }
}

/// The structs that the document lays out: "Layout of `Name`, n bytes:" and a table.
fn in_document() -> BTreeMap<&'static str, (usize, Vec<Field>)> {
    let mut found = BTreeMap::new();
    for part in DOCUMENT.split("Layout of `").skip(1) {
        let (name, rest) = part.split_once("`, ").unwrap();
        let (bytes, rest) = rest.split_once(" bytes:\n\n").unwrap();
        let rows = rest.lines().take_while(|line| line.starts_with('|')).skip(2);
        let fields = rows.map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let number = |cell: &str| cell.parse::<usize>().unwrap();
            (cells[3].trim_matches('`').to_owned(), number(cells[1]), number(cells[2]))
        });
        let fields: Vec<_> = fields.collect();
        assert!(found.insert(name, (bytes.parse().unwrap(), fields)).is_none(), "{name} twice");
    }
    found
}

#[test]
fn the_document_states_the_layout() {
    let mut documented = in_document();
    for (name, bytes, fields) in in_code() {
        let end = fields.iter().fold(0, |end, (field, at, len)| {
            assert_eq!(end, *at, "{name}::{field} follows a gap, or the list lacks a field");
            end + len
        });
        assert_eq!(end, bytes, "{name}");
        assert_eq!(documented.remove(name), Some((bytes, fields)), "{name} in docs/FORMAT.md");
    }
    let left: Vec<_> = documented.into_keys().collect();
    assert_eq!(left, ELSEWHERE);
}
