// SPDX-License-Identifier: MIT

//! All metadata of a pool at rest as text, for people who look for something.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use rwsnap_core::format::entity::Entity;
use rwsnap_core::format::log::Entry;
use rwsnap_core::format::node::{Entries, Node};
use rwsnap_core::format::record::{RawRecord, Record};
use rwsnap_core::format::superblock::{Superblock, COPIES};
use rwsnap_core::units::PAGE;

use crate::platform::Host;
use crate::store::{identify, StoreError};

use super::catalog;
use super::image::Image;
use super::report::Report;
use super::tree::{self, Tree};
use super::{bits, log};

/// Why a dump ended early.
#[derive(Debug)]
pub enum DumpError {
    /// The volume cannot be used.
    Store(StoreError),
    /// The text could not be written.
    Write(std::io::Error),
}

/// Writes all metadata of the pool as text.
///
/// # Errors
///
/// It cannot be read or is no save volume; or the text could not be written.
pub fn dump(path: &Path, out: &mut dyn Write) -> Result<(), DumpError> {
    let image = Image::open(path).map_err(DumpError::Store)?;
    let superblock = image.superblock().map_err(DumpError::Store)?;
    let superblock = superblock.ok_or_else(|| {
        DumpError::Store(StoreError::unfit(path, "is not a save volume of rwsnap"))
    })?;
    let mut report = Report::new(&superblock);
    let all = [
        superblocks(&image, &superblock),
        catalogue(&image, &superblock, &mut report),
        bit_maps(&image, &superblock, &mut report),
        map(&image, &superblock, &mut report),
        entries(&image, &superblock, &mut report),
    ];
    for text in all {
        out.write_all(text.as_bytes()).map_err(DumpError::Write)?;
    }
    for finding in &report.findings {
        writeln!(out, "! {}", finding.what).map_err(DumpError::Write)?;
    }
    out.flush().map_err(DumpError::Write)
}

/// Adds a line; writing to a `String` does not fail.
macro_rules! line {
    ($text:expr, $($args:tt)*) => {
        let _ = writeln!($text, $($args)*);
    };
}

fn superblocks(image: &Image, s: &Superblock) -> String {
    let mut text = String::new();
    for (number, at) in COPIES.iter().enumerate() {
        let bytes = image.bytes(*at, PAGE).unwrap_or_default();
        match Superblock::parse(&Host, bytes) {
            Ok(copy) => {
                line!(text, "superblock copy {number} at {at}: generation {}", copy.generation);
            }
            Err(why) => {
                line!(text, "superblock copy {number} at {at}: {why:?}");
            }
        }
    }
    let side = s.map_side.get();
    line!(text, "pool `{}` {}", identify::label(s), uuid::Uuid::from_bytes(s.pool));
    line!(text, "  chunk {} block {} clean {} side {side}", s.chunk, s.block, s.clean);
    line!(text, "  log: start {} blocks {}", s.log_start, s.log_blocks);
    line!(text, "  log: checkpoint at {} hash {:#018x}", s.log_pos, s.log_hash.get());
    line!(text, "  log: known end {} generation {}", s.known_end, s.log_generation);
    line!(text, "  slots: start {} count {} limit {}", s.slots_start, s.slots, s.slot_limit);
    line!(text, "  slots: used {}", s.slots_used);
    let [a, b] = s.slot_map;
    line!(text, "  slot bit map: {a} and {b}, {} pages each", s.slot_map_pages);
    for extent in s.extents() {
        line!(text, "  metadata: start {} pages {}", extent.start, extent.pages);
    }
    line!(text, "  metadata: pages used {}", s.pages_used);
    let (root, height) = (s.tree_root.get(), s.tree_height.get());
    line!(text, "  tree: root {root} levels {height} records {}", s.tree_records);
    line!(text, "  catalogue: first page {} pages {}", s.catalog_first, s.catalog_pages);
    line!(text, "  next entity {} next map {} epoch {}", s.next_entity, s.next_map, s.epoch);
    line!(text, "  opened {} times, recovered {}", s.opened, s.recovered);
    text
}

fn catalogue(image: &Image, superblock: &Superblock, report: &mut Report) -> String {
    let mut text = String::from("catalogue\n");
    for entity in catalog::read(image, superblock, report).entities.values() {
        line!(text, "  {}", entity_text(entity));
    }
    text
}

fn entity_text(entity: &Entity) -> String {
    let mut text = catalog::title(entity);
    let _ = write!(
        text,
        " map {} epoch {} size {} flags {:#x} base {} owner {}",
        entity.map, entity.epoch, entity.size, entity.flags, entity.base, entity.owner
    );
    if let Some(r) = entity.restoring() {
        let _ = write!(text, " restore of {} m {} r {} at {}", r.x, r.m_map, r.r, r.cursor);
    }
    for (key, value) in entity.properties() {
        let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
        let _ = write!(text, " {key}={value}");
    }
    text
}

fn bit_maps(image: &Image, superblock: &Superblock, report: &mut Report) -> String {
    let mut text = String::new();
    let none = bits::Bits::default();
    for (what, bits) in [
        ("slots in use", bits::slots(image, superblock, report)),
        ("metadata pages in use", bits::pages(image, superblock, report)),
    ] {
        line!(text, "{what}: {}", bits.count());
        for (first, count) in bits.runs_without(&none) {
            line!(text, "  {first} +{count}");
        }
    }
    text
}

fn map(image: &Image, superblock: &Superblock, report: &mut Report) -> String {
    let mut text = String::from("tree\n");
    let mut show = |depth: u64, node: &Node<'_>| {
        let indent = "  ".repeat(usize::try_from(depth).unwrap_or(0) + 1);
        line!(text, "{indent}level {} generation {}", node.level, node.generation);
        match node.entries {
            Entries::Leaf(records) => {
                for record in records.iter().filter_map(RawRecord::get) {
                    line!(text, "{indent}  {}", record_text(&record));
                }
            }
            Entries::Inner(kids) => {
                for kid in kids {
                    line!(text, "{indent}  page {} from {:?}", kid.page().0, kid.first().group());
                }
            }
        }
    };
    tree::walk_with(image, superblock, report, &mut Tree::default(), &mut show);
    text
}

fn record_text(r: &Record) -> String {
    let place = if r.kind.has_slots() { format!(" slot {}", r.slot.0) } else { String::new() };
    let (map, word, epoch, mask) = (r.map.0, r.word.0, r.epoch.0, r.mask);
    format!("map {map} word {word} epoch {epoch} {:?} mask {mask:#018x}{place}", r.kind)
}

fn entries(image: &Image, superblock: &Superblock, report: &mut Report) -> String {
    let mut text = String::from("log\n");
    log::replay(image, superblock, report, &mut |pos, entry, _| {
        let said = match entry {
            Entry::Put(record) => format!("put {}", record_text(record)),
            Entry::PutSummed(record, sum) => format!("put {} sum {sum:#x}", record_text(record)),
            Entry::Entity(entity) => format!("entity {}", entity_text(entity)),
            other => format!("{other:?}"),
        };
        line!(text, "  {}: {said}", pos.0);
    });
    text
}
