// SPDX-License-Identifier: MIT

//! Walks the tree of the block map as the checkpoint left it.

use std::collections::BTreeSet;

use rwsnap_core::format::node::{self, Entries, Node, LEVELS};
use rwsnap_core::format::record::{Key, Record};
use rwsnap_core::format::superblock::Superblock;
use rwsnap_core::units::PageNo;

use crate::platform::Host;

use super::image::Image;
use super::report::Report;

/// What the walk brings.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// All records, in order.
    pub(super) records: Vec<Record>,
    /// All pages.
    pub(super) pages: BTreeSet<u64>,
}

/// What a page has to be like.
#[derive(Clone, Copy)]
struct Expected {
    page: PageNo,
    level: u8,
    /// No key in it comes before this.
    low: Key,
    /// All keys in it come before this.
    high: Option<Key>,
}

/// A page was seen: how deep it lies, and what it is.
pub(super) type Seen<'a> = dyn FnMut(u64, &Node<'_>) + 'a;

/// Walks all of it.
pub(super) fn walk(image: &Image, superblock: &Superblock, report: &mut Report) -> Tree {
    let mut tree = Tree::default();
    walk_with(image, superblock, report, &mut tree, &mut |_, _| {});
    let known = superblock.tree_records.get();
    let found = u64::try_from(tree.records.len()).unwrap_or(u64::MAX);
    if known != found {
        report.corrupt(format!("the tree holds {found} records, and {known} by the superblock"));
    }
    tree
}

/// Walks all of it, and shows each page.
pub(super) fn walk_with(
    image: &Image,
    superblock: &Superblock,
    report: &mut Report,
    tree: &mut Tree,
    seen: &mut Seen<'_>,
) {
    let (root, height) = (superblock.tree_root.get(), superblock.tree_height.get());
    if root == u64::MAX {
        if height != 0 {
            report.corrupt(format!("the tree has {height} levels and no root"));
        }
        return;
    }
    let level = height.checked_sub(1).and_then(|n| u8::try_from(n).ok());
    let Some(level) = level.filter(|&level| usize::from(level) < LEVELS) else {
        return report.corrupt(format!("the tree has {height} levels, which cannot be"));
    };
    let expected = Expected { page: PageNo(root), level, low: Key(0), high: None };
    visit(&mut Walk { image, superblock, report, tree, seen }, expected);
}

struct Walk<'a, 'b> {
    image: &'a Image,
    superblock: &'a Superblock,
    report: &'a mut Report,
    tree: &'a mut Tree,
    seen: &'a mut Seen<'b>,
}

/// Looks at a page and all below it. The depth is bounded by the level, which sinks.
fn visit(walk: &mut Walk<'_, '_>, expected: Expected) {
    let PageNo(number) = expected.page;
    if !walk.tree.pages.insert(number) {
        return walk.report.corrupt(format!("page {number} stands in the tree twice"));
    }
    let at = walk.superblock.page_byte(expected.page);
    let image = walk.image;
    let Some(page) = at.and_then(|at| image.page(at)) else {
        return walk.report.corrupt(format!("page {number} of the tree is beyond the metadata"));
    };
    let pool = walk.superblock.pool_number();
    let sound = node::check(&Host, page, expected.page, pool).is_ok();
    let Some(node) = Node::parse(page).filter(|_| sound) else {
        return walk.report.corrupt(format!("page {number} of the tree is damaged"));
    };
    if node.level != expected.level {
        let (is, should) = (node.level, expected.level);
        return walk.report.corrupt(format!("page {number} is of level {is} and not {should}"));
    }
    if node.generation > walk.superblock.generation.get() {
        walk.report.corrupt(format!("page {number} is newer than the superblock"));
    }
    let depth = walk.superblock.tree_height.get().saturating_sub(u32::from(node.level) + 1);
    (walk.seen)(depth.into(), &node);
    match node.entries {
        Entries::Leaf(records) => {
            let records = records.iter().filter_map(rwsnap_core::format::record::RawRecord::get);
            records.for_each(|record| take(walk, &expected, record));
        }
        Entries::Inner(kids) => {
            let highs = kids.iter().skip(1).map(|kid| Some(kid.first())).chain([expected.high]);
            for (n, (kid, high)) in kids.iter().zip(highs).enumerate() {
                // The very first child may hold what comes before its key.
                let low = if n == 0 { expected.low } else { kid.first() };
                let (page, level) = (kid.page(), node.level.saturating_sub(1));
                visit(walk, Expected { page, level, low, high });
            }
        }
    }
}

/// Takes a record into the list, if it stands where it may.
fn take(walk: &mut Walk<'_, '_>, expected: &Expected, record: Record) {
    let PageNo(number) = expected.page;
    let key = record.key();
    let above = expected.high.is_some_and(|high| key >= high);
    let last = walk.tree.records.last();
    if key < expected.low || above || last.is_some_and(|last| last.key() >= key) {
        walk.report.corrupt(format!("a record of page {number} is out of order: {record:?}"));
        return;
    }
    let split = last.filter(|last| last.group() == record.group());
    if split.is_some_and(|last| last.mask & record.mask != 0) {
        walk.report.corrupt(format!("records of page {number} overlap: {record:?}"));
    }
    walk.tree.records.push(record);
}
