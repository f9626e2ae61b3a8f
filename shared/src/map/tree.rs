// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Finding groups in the tree on the save volume, through the cache.

use super::cache::Cache;
use super::group::Group;
use super::list::lower;
use super::Miss;
use crate::bug;
use crate::fault::Fault;
use crate::format::node::{Entries, Node, LEVELS};
use crate::format::record::{GroupKey, Key, RawRecord};
use crate::platform::Platform;
use crate::units::PageNo;

/// A whole tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// Its topmost page.
    pub page: PageNo,
    /// Levels, at least one: one if the root is a leaf.
    pub height: u8,
    /// The checkpoint that made it; none of its pages is younger.
    pub generation: u64,
    /// Records in it.
    pub records: u64,
    /// Pages in it.
    pub pages: u64,
}

/// Takes a page apart that is expected at this level of a tree.
pub(super) fn open<P: Platform>(
    cache: &mut Cache<P>,
    page: PageNo,
    level: u8,
    generation: u64,
) -> Result<Node<'_>, Miss> {
    let bytes = cache.get(page).ok_or(Miss::Page(page))?;
    let node = Node::parse(bytes).ok_or(Fault::Corrupt)?;
    if node.level != level || node.generation > generation {
        return Err(Fault::Corrupt.into());
    }
    Ok(node)
}

/// A leaf, and which keys belong there: those from `low` to before `high`.
#[derive(Clone, Copy, Debug)]
struct Span {
    page: PageNo,
    low: Key,
    high: Option<Key>,
}

/// A record of the tree; good until the next page is loaded or the tree changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    page: PageNo,
    pos: usize,
    pub(super) group: GroupKey,
}

/// The tree, and the leaf where something was found last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    root: Option<Root>,
    last: Option<Span>,
}

impl Tree {
    pub(super) fn new(root: Option<Root>) -> Self {
        Self { root, last: None }
    }

    pub(super) fn root(&self) -> Option<Root> {
        self.root
    }

    /// The first record of the first group at or after `from` and before `end`.
    pub(super) fn find<P: Platform>(
        &mut self,
        cache: &mut Cache<P>,
        from: GroupKey,
        end: GroupKey,
    ) -> Result<Option<Place>, Miss> {
        let Some(root) = self.root else { return Ok(None) };
        let mut key = from.first();
        // Where a leaf ends before `key`, the next one has it: it is not empty.
        for _ in 0..LEVELS {
            let span = self.leaf_of(cache, root, key)?;
            let node = open(cache, span.page, 0, root.generation)?;
            let records = node.records().ok_or(Fault::Corrupt)?;
            let pos = lower::<8, _>(records, |record| record.group().first() < key);
            if let Some(record) = records.get(pos) {
                let found = record.group();
                let place = Place { page: span.page, pos, group: found };
                return Ok((found < end).then_some(place));
            }
            match span.high {
                Some(high) if high < end.first() => key = high,
                _ => return Ok(None),
            }
        }
        Err(Fault::Corrupt.into())
    }

    /// Adds the records at `place`, cut to the chunks of `allow`, to `out`.
    pub(super) fn collect<P: Platform>(
        self,
        cache: &mut Cache<P>,
        place: Place,
        allow: u64,
        out: &mut Group,
    ) -> Result<(), Miss> {
        let generation = self.root.ok_or(bug!())?.generation;
        let node = open(cache, place.page, 0, generation)?;
        let records = node.records().ok_or(Fault::Corrupt)?;
        let same = |raw: &&RawRecord| raw.group() == place.group;
        for raw in records.get(place.pos..).unwrap_or_default().iter().take_while(same) {
            for piece in raw.get().ok_or(Fault::Corrupt)?.only(allow) {
                out.push(piece)?;
            }
        }
        Ok(())
    }

    /// The leaf that `key` belongs to.
    fn leaf_of<P: Platform>(
        &mut self,
        cache: &mut Cache<P>,
        root: Root,
        key: Key,
    ) -> Result<Span, Miss> {
        if let Some(last) = self.last {
            if last.low <= key && last.high.is_none_or(|high| key < high) {
                return Ok(last);
            }
        }
        let mut span = Span { page: root.page, low: Key(0), high: None };
        for level in (1..root.height).rev() {
            let node = open(cache, span.page, level, root.generation)?;
            let Entries::Inner(kids) = node.entries else { return Err(Fault::Corrupt.into()) };
            // The key of the very first child is not looked at.
            let later = kids.get(1..).ok_or(Fault::Corrupt)?;
            let place = lower::<12, _>(later, |kid| kid.first() <= key);
            let kid = kids.get(place).ok_or(Fault::Corrupt)?;
            span.page = kid.page();
            if place != 0 {
                span.low = kid.first();
            }
            if let Some(next) = later.get(place) {
                span.high = Some(next.first());
            }
        }
        self.last = Some(span);
        Ok(span)
    }
}
