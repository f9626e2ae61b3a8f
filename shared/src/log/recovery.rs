// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Recovery: which blocks of the ring count, and their entries in order.
//!
//! The caller asks [`Recovery::want`], reads the block named, and hands it to [`Recovery::feed`];
//! a block that cannot be read is handed in empty. Three passes:
//!
//! | pass | blocks | what for |
//! |---|---|---|
//! | scan | all of the ring, once | where the chain ends, and what is known durable (D) |
//! | verify | D to the chain's end | the caller compares data with the sums, and gives a verdict |
//! | apply | P to the end | the caller takes over the entries |
//!
//! Nothing is applied before all is known to count: groups that the end cuts are never seen.
//!
//! After a close in order nothing stands behind P. The first block of the scan shows it: whatever
//! was logged since begins there, and would name a superblock newer than this one, or a position
//! of a later lap. If it shows nothing of the kind, and is not damaged, the scan is over.
//!
//! # Invariants
//!
//! `start.pos <= end <= scanned`; blocks before `end` were chained when they were scanned, and are
//! checked again when they are applied.

use crate::format::log::{open, Entries, Header};
use crate::format::superblock::Superblock;
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::LogPos;

/// What the superblock says of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Start {
    /// The pool's number.
    pub pool: u64,
    /// The superblock's generation.
    pub super_generation: u64,
    /// What blocks from `known_end` on must bear.
    pub log_generation: u64,
    /// Blocks of the ring.
    pub blocks: u64,
    /// The checkpoint's position P.
    pub pos: LogPos,
    /// Checksum of the block before P.
    pub hash: u64,
    /// All before this was durable when the superblock was written.
    pub known_end: LogPos,
    /// Checksum of the block before `known_end`.
    pub known_hash: u64,
    /// The pool was closed in order: the log is empty from P on.
    pub clean: bool,
}

impl Start {
    /// What this superblock says.
    #[must_use]
    pub fn of(superblock: &Superblock) -> Self {
        Self {
            pool: superblock.pool_number(),
            super_generation: superblock.generation.get(),
            log_generation: superblock.log_generation.get(),
            blocks: superblock.log_blocks.get(),
            pos: LogPos(superblock.log_pos.get()),
            hash: superblock.log_hash.get(),
            known_end: LogPos(superblock.known_end.get()),
            known_hash: superblock.known_hash.get(),
            clean: superblock.clean.get() != 0,
        }
    }
}

/// What recovery waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// The block for this position: read it and feed it; its entries are of no concern.
    Scan(LogPos),
    /// The block for this position: read and feed it, then compare the slots of its summed entries
    /// with their sums.
    Verify(LogPos),
    /// The verdict on the block of this position.
    Verdict(LogPos),
    /// The block for this position: read and feed it, and take over its entries.
    Apply(LogPos),
    /// Nothing: all is applied.
    Nothing,
}

/// Why the log cannot be recovered: the pool is damaged, and what was acknowledged is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// The block at this position is bad, although it is known to have been durable.
    Durable(LogPos),
    /// A block names a superblock or a generation newer than the superblock at hand.
    Superblock(LogPos),
    /// The log reaches the position up to which it is known with another checksum.
    Chain(LogPos),
    /// A block read differently than before.
    Unstable(LogPos),
}

/// Where the log ends, for [`super::Resume`] and the next superblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// The position of the next block.
    pub head: LogPos,
    /// Checksum of the block before it.
    pub hash: u64,
    /// Blocks of the chain that were cut off: their group or their data was not whole.
    pub dropped: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pass {
    Scan,
    Verify,
    Verdict,
    Apply,
}

/// The state of a recovery.
#[derive(Clone, Debug)]
pub struct Recovery {
    start: Start,
    pass: Pass,
    /// The next block of the pass.
    pos: LogPos,
    /// Scan, apply: checksum of the last block of the chain.
    hash: u64,
    /// Scan: the chain goes on.
    chained: bool,
    /// Scan: where the chain has come to.
    scanned: LogPos,
    /// The end: no group goes on over it, and all data before it is whole.
    end: LogPos,
    /// D, as far as known.
    durable: LogPos,
    /// Verify: the first block of the group of the block that waits for its verdict.
    group_start: LogPos,
    /// A bug that is planted.
    mutant: Option<Mutant>,
}

impl Recovery {
    /// Begins with the scan.
    ///
    /// # Errors
    ///
    /// The superblock contradicts itself.
    pub fn new(start: &Start) -> Result<Self, Damage> {
        let made = Self {
            start: *start,
            pass: Pass::Scan,
            pos: start.pos,
            hash: start.hash,
            chained: true,
            scanned: start.pos,
            end: start.pos,
            durable: start.known_end,
            group_start: start.pos,
            mutant: None,
        };
        made.check_known()?;
        Ok(made)
    }

    /// Plants a bug (feature `mutants` alone).
    pub(crate) fn plant(&mut self, mutant: Mutant) {
        self.mutant = Some(mutant);
    }

    fn has(&self, mutant: Mutant) -> bool {
        cfg!(feature = "mutants") && self.mutant == Some(mutant)
    }

    /// What to do next.
    #[must_use]
    pub fn want(&self) -> Want {
        match self.pass {
            Pass::Scan => Want::Scan(self.pos),
            Pass::Verify => Want::Verify(self.pos),
            Pass::Verdict => Want::Verdict(self.pos),
            Pass::Apply if self.pos < self.end => Want::Apply(self.pos),
            Pass::Apply => Want::Nothing,
        }
    }

    /// How many blocks the pass wants from the one that it wants now on; verdicts may make them
    /// fewer.
    #[must_use]
    pub fn ahead(&self) -> u64 {
        match self.pass {
            Pass::Scan if self.start.clean && self.pos == self.start.pos => 1,
            Pass::Scan => self.start.blocks.saturating_sub(self.pos.since(self.start.pos)),
            Pass::Verify | Pass::Apply => self.end.since(self.pos),
            Pass::Verdict => 0,
        }
    }

    /// The block that `want` named; empty if it could not be read. Gives its entries, none in the
    /// scan.
    ///
    /// # Errors
    ///
    /// The pool is damaged; recovery has ended.
    pub fn feed<'a, P: Platform>(
        &mut self,
        platform: &P,
        block: &'a [u8],
    ) -> Result<Entries<'a>, Damage> {
        let found = open(platform, block, self.start.pool);
        match self.pass {
            Pass::Scan => {
                let damaged = found.is_none() && block.iter().any(|&byte| byte != 0);
                self.scan(found.map(|(header, _)| header), damaged)?;
                Ok(Entries::default())
            }
            Pass::Verify => self.verify(found),
            Pass::Apply => self.apply(found),
            Pass::Verdict => Err(Damage::Unstable(self.pos)),
        }
    }

    /// Whether the summed entries of the block that was fed last match their data.
    pub fn verdict(&mut self, matches: bool) {
        if self.pass != Pass::Verdict {
            return;
        }
        self.pos = self.pos.next();
        if !matches {
            self.end = self.group_start.max(self.start.pos);
            self.begin_apply();
        } else if self.pos < self.end {
            self.pass = Pass::Verify;
        } else {
            self.begin_apply();
        }
    }

    /// Where the log ends: right once `want` says `Nothing`.
    #[must_use]
    pub fn end(&self) -> End {
        End { head: self.end, hash: self.hash, dropped: self.scanned.since(self.end) }
    }

    /// All before this position was known durable.
    #[must_use]
    pub fn durable(&self) -> LogPos {
        self.durable
    }

    /// Looks at one block of the ring.
    fn scan(&mut self, header: Option<Header>, damaged: bool) -> Result<(), Damage> {
        let first = self.pos == self.start.pos;
        if let Some(header) = header {
            self.check_superblock(&header)?;
            if self.chained && self.follows(&header, self.hash) {
                self.accept(&header)?;
            } else {
                self.chained = false;
                self.consider_claim(&header);
            }
        } else {
            self.chained = false;
        }
        self.pos = self.pos.next();
        let known_empty = self.start.clean && self.start.known_end == self.start.pos;
        let empty = first && known_empty && !self.chained && !damaged;
        if !empty && self.pos.since(self.start.pos) < self.start.blocks {
            return Ok(());
        }
        self.end_scan()
    }

    /// A block that this superblock cannot know of means that a newer one is lost.
    fn check_superblock(&self, header: &Header) -> Result<(), Damage> {
        let newer = header.super_generation > self.start.super_generation
            || header.generation > self.start.log_generation
            || header.position.since(self.start.pos) >= self.start.blocks;
        if newer {
            Err(Damage::Superblock(header.position))
        } else {
            Ok(())
        }
    }

    /// Whether a block is the one for `pos` and goes on from the block whose checksum is `hash`.
    fn follows(&self, header: &Header, hash: u64) -> bool {
        let generation = if self.pos < self.start.known_end {
            header.generation <= self.start.log_generation
        } else {
            header.generation == self.start.log_generation
        };
        header.position == self.pos
            && (self.has(Mutant::NoChain) || (generation && header.before == hash))
    }

    /// Takes a block into the chain.
    fn accept(&mut self, header: &Header) -> Result<(), Damage> {
        self.hash = header.checksum;
        self.scanned = self.pos.next();
        self.durable = self.durable.max(header.durable.min(self.pos));
        if !header.group_more {
            self.end = self.scanned;
        }
        self.check_known()
    }

    /// Compares the chain with what the superblock knows of it, where they meet.
    fn check_known(&self) -> Result<(), Damage> {
        let known = &self.start;
        if self.scanned == known.known_end && self.hash != known.known_hash {
            return Err(Damage::Chain(known.known_end));
        }
        Ok(())
    }

    /// Weighs what a block beyond the chain's end claims: it counts only if it is of this
    /// generation, and no leftover.
    fn consider_claim(&mut self, header: &Header) {
        let here = header.position >= self.scanned.max(self.start.known_end);
        if here && header.generation == self.start.log_generation {
            self.durable = self.durable.max(header.durable.min(header.position));
        }
    }

    /// The ring is scanned: says whether the chain is long enough, and goes on.
    fn end_scan(&mut self) -> Result<(), Damage> {
        if self.has(Mutant::CutDurable) {
            self.durable = self.durable.min(self.scanned);
        }
        if self.scanned < self.durable {
            return Err(Damage::Durable(self.scanned));
        }
        self.pos = self.durable.max(self.start.pos);
        if self.pos < self.end {
            self.pass = Pass::Verify;
        } else {
            self.begin_apply();
        }
        Ok(())
    }

    /// Looks at a block whose data is to be verified.
    fn verify<'a>(&mut self, found: Option<(Header, Entries<'a>)>) -> Result<Entries<'a>, Damage> {
        let (header, entries) = found
            .filter(|(header, _)| self.follows(header, header.before))
            .ok_or(Damage::Unstable(self.pos))?;
        self.group_start = header.group_start.min(self.pos);
        self.pass = Pass::Verdict;
        Ok(entries)
    }

    /// Goes over to the last pass.
    fn begin_apply(&mut self) {
        self.pass = Pass::Apply;
        self.pos = self.start.pos;
        self.hash = self.start.hash;
    }

    /// Looks at a block whose entries are to be taken over.
    fn apply<'a>(&mut self, found: Option<(Header, Entries<'a>)>) -> Result<Entries<'a>, Damage> {
        let (header, entries) = found
            .filter(|(header, _)| self.pos < self.end && self.follows(header, self.hash))
            .ok_or(Damage::Unstable(self.pos))?;
        self.hash = header.checksum;
        self.pos = self.pos.next();
        Ok(entries)
    }
}
