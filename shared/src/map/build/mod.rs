// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The checkpoint's tree: the old tree and the frozen delta become a new tree, copy-on-write.
//!
//! One pass in the order of keys, depth first. *Input* is a way down the old tree; *output* is one
//! open node for each level, which gathers entries until a page can be cut from it. A child of the
//! old tree that the delta does not touch is attached as it is, once the open nodes below have
//! been closed; but where that would close a node less than half full, the child is entered and
//! its entries are gathered too. So all pages but the last of a level are at least half full (a
//! leaf a little less where groups are large).
//!
//! It is a machine: a step does a bounded amount of work, or gives a page to be written, or misses
//! a page of the old tree and has changed nothing. Old pages that are entered are freed; the new
//! tree does not have them.

mod bound;
mod output;
#[cfg(test)]
mod tests;
mod walk;

use super::group::Group;
use super::layers::Layers;
use super::tree::Root;
use super::Miss;
use crate::bug;
use crate::fault::Fault;
use crate::format::node::{Identity, Page, RawChild, LEVELS};
use crate::format::record::{GroupKey, Key};
use crate::platform::Platform;
use crate::units::PageNo;
use output::Output;

pub use bound::pages_needed;

/// Groups and children that one step looks at.
const BUDGET: u32 = 256;

/// Where the pages of the new tree come from.
pub trait PageAlloc {
    /// A page that neither tree has.
    fn alloc(&mut self) -> Option<PageNo>;
    /// A page of the old tree that the new one does not have.
    fn free(&mut self, page: PageNo);
}

/// What a step has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Something; go on.
    More,
    /// A page is to be written: `Builder::page_bytes`, until the next step.
    Emit {
        /// Where to.
        page: PageNo,
    },
    /// This is the new tree; `None` if no record is left.
    Done(Option<Root>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Not started, or done.
    Idle,
    /// The old root is to be looked at.
    Begin,
    /// Through the old tree.
    Walk,
    /// All input is consumed; the open nodes are to be closed.
    Finish,
}

/// An open page of the old tree.
#[derive(Clone, Copy, Debug)]
struct Input {
    /// `None` for the leaf that an empty tree does not have.
    page: Option<PageNo>,
    level: u8,
    /// The entry to be looked at next.
    pos: usize,
    /// All keys below come before this.
    high: Option<Key>,
}

const NO_INPUT: Input = Input { page: None, level: 0, pos: 0, high: None };

/// A child of the old tree on its way into the new one.
#[derive(Clone, Copy, Debug)]
struct Subtree {
    level: u8,
    kid: RawChild,
}

/// Makes the new tree.
///
/// # Invariants
///
/// `next` is the first group of the frozen delta, freed slots aside, that is not in the output
/// yet. All that the output has comes before it and before what the path points at.
pub struct Builder<P: Platform> {
    output: Output<P>,
    /// [`LEVELS`] of them.
    path: P::Array<Input>,
    depth: usize,
    attach: Option<Subtree>,
    next: Option<GroupKey>,
    /// One to merge in, one for what the delta has.
    scratch: P::Array<Group>,
    phase: Phase,
    old: Option<Root>,
    pool: u64,
    generation: u64,
    records: u64,
    pages: u64,
}

impl<P: Platform> Builder<P> {
    /// One for the trees of `pool`.
    pub fn new(p: &P, pool: u64) -> Result<Self, Fault> {
        let mut builder = Self::bare(pool);
        builder.make(p)?;
        Ok(builder)
    }

    /// One without room: [`Self::make`].
    #[inline(always)]
    pub(crate) fn bare(pool: u64) -> Self {
        Self {
            output: Output::bare(),
            path: P::Array::default(),
            depth: 0,
            attach: None,
            next: None,
            scratch: P::Array::default(),
            phase: Phase::Idle,
            old: None,
            pool,
            generation: 0,
            records: 0,
            pages: 0,
        }
    }

    /// Gives a bare builder its room.
    pub(crate) fn make(&mut self, p: &P) -> Result<(), Fault> {
        self.output.make(p)?;
        self.path = p.array(LEVELS, &NO_INPUT).ok_or(Fault::NoMemory)?;
        self.scratch = p.array(2, &Group::EMPTY).ok_or(Fault::NoMemory)?;
        Ok(())
    }

    /// Begins, or begins again, with the tree and the frozen delta of `layers`.
    pub fn start(&mut self, layers: &Layers<P>, generation: u64) -> Result<(), Fault> {
        let frozen = layers.frozen().ok_or(bug!())?;
        self.next = mapped(frozen.next_group(GroupKey::default())?);
        self.output.clear();
        self.depth = 0;
        self.attach = None;
        self.old = layers.root();
        self.generation = generation;
        self.records = self.old.map_or(0, |root| root.records);
        self.pages = self.old.map_or(0, |root| root.pages);
        self.phase = Phase::Begin;
        Ok(())
    }

    /// The page to be written.
    #[must_use]
    pub fn page_bytes(&self) -> Option<&Page> {
        self.output.page()
    }

    /// Goes on. After a miss the same step can be asked again.
    pub fn step(
        &mut self,
        p: &P,
        layers: &mut Layers<P>,
        alloc: &mut impl PageAlloc,
    ) -> Result<Progress, Miss> {
        for _ in 0..BUDGET {
            if let Some(level) = self.output.overfull() {
                return self.emit(p, level, false, alloc);
            }
            let closed = match (self.phase, self.attach) {
                (Phase::Idle, _) => return Err(bug!().into()),
                (Phase::Begin, _) => return self.begin(layers, alloc),
                (Phase::Walk, Some(subtree)) => self.join(subtree)?,
                (Phase::Walk, None) => {
                    self.walk(layers, alloc)?;
                    None
                }
                (Phase::Finish, _) => match self.output.lowest() {
                    Some(level) if !self.output.is_root(level) => Some(level),
                    _ => return self.done(),
                },
            };
            if let Some(level) = closed {
                return self.emit(p, level, true, alloc);
            }
        }
        Ok(Progress::More)
    }

    /// Cuts a page from the open node of a level.
    fn emit(
        &mut self,
        p: &P,
        level: usize,
        closing: bool,
        alloc: &mut impl PageAlloc,
    ) -> Result<Progress, Miss> {
        let count = self.output.cut(level, closing)?;
        let page = alloc.alloc().ok_or(Fault::NoSpace)?;
        let id = Identity { page, pool: self.pool, generation: self.generation };
        self.output.emit(p, level, count, id)?;
        self.pages = self.pages.saturating_add(1);
        Ok(Progress::Emit { page })
    }

    /// Attaches a subtree, or names the level that has to be closed before.
    fn join(&mut self, subtree: Subtree) -> Result<Option<usize>, Fault> {
        let level = usize::from(subtree.level);
        if let Some(open) = self.output.lowest().filter(|open| *open <= level) {
            return Ok(Some(open));
        }
        self.output.push_kid(level.saturating_add(1), subtree.kid)?;
        self.attach = None;
        Ok(None)
    }

    fn done(&mut self) -> Result<Progress, Miss> {
        self.phase = Phase::Idle;
        let Some(level) = self.output.lowest() else { return Ok(Progress::Done(None)) };
        let page = self.output.only_kid(level).ok_or(bug!())?.page();
        let height = u8::try_from(level).map_err(|_| bug!())?;
        let (generation, records, pages) = (self.generation, self.records, self.pages);
        Ok(Progress::Done(Some(Root { page, height, generation, records, pages })))
    }
}

/// The group, unless it names freed slots: those are the last, and no business of the tree.
fn mapped(group: Option<GroupKey>) -> Option<GroupKey> {
    group.filter(|group| group.map != crate::format::record::FREE_MAP)
}
