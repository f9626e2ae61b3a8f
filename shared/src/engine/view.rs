// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Views: how a volume or snapshot reads, as a list of levels to search, and the volumes that are
//! written.
//!
//! A level is one map and a range of epochs. Production's old data is searched for the *first*
//! record of the range (I-8), a clone's new data for the *last* (I-9). What no level has is in
//! place on the device at the view's end, or zeros.
//!
//! A snapshot of production that is being restored has its own records first, then M up to its
//! epoch, then what X holds; the production itself has M, then X. X's levels end before the epoch
//! of R: later records hold the restored volume's data (I-16).

use crate::api::Op;
use crate::engine::prints::Print;
use crate::engine::slab::Queue;
use crate::fast::Fast;
use crate::platform::Platform;
use crate::units::{Dev, EntityId, Epoch, LogPos, MapId};

/// Levels of one view; clones of snapshots of clones nest no deeper.
pub(crate) const LEVELS: usize = 24;

/// Which record of a level counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dir {
    /// The one with the lowest epoch of the range.
    First,
    /// The one with the highest.
    Last,
}

/// A level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Level {
    pub(crate) map: MapId,
    /// Lowest epoch.
    pub(crate) lo: Epoch,
    /// Highest epoch.
    pub(crate) hi: Epoch,
    pub(crate) dir: Dir,
}

pub(crate) const NO_LEVEL: Level =
    Level { map: MapId(0), lo: Epoch(0), hi: Epoch(0), dir: Dir::First };

/// An opened volume or snapshot, or a view that the engine itself reads through.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) open: bool,
    pub(crate) id: EntityId,
    pub(crate) write: bool,
    /// Cut off by a forced command, or its data is given up: every request fails.
    pub(crate) lost: bool,
    /// Its volume in the table of volumes, if it is one.
    pub(crate) vol: u32,
    pub(crate) size: u64,
    pub(crate) levels: [Level; LEVELS],
    pub(crate) depth: u8,
    /// The device at its end; `Dev::SAVE` for zeros.
    pub(crate) end: Dev,
    /// Chunks that are lost at this level or a later one are in place: a restore's X could not be
    /// read there, and production keeps what it has.
    pub(crate) kept_from: u8,
    /// The map whose claims guard reads in place on `end`.
    pub(crate) end_map: MapId,
}

impl View {
    pub(crate) const FREE: Self = Self {
        open: false,
        id: EntityId(0),
        write: false,
        lost: false,
        vol: crate::engine::slab::NONE,
        size: 0,
        levels: [NO_LEVEL; LEVELS],
        depth: 0,
        end: Dev::SAVE,
        kept_from: u8::MAX,
        end_map: MapId(0),
    };

    pub(crate) fn level(&self, at: u8) -> Option<Level> {
        if at >= self.depth {
            return None;
        }
        self.levels.get(usize::from(at)).copied()
    }

    /// Adds a level; false if there are too many.
    pub(crate) fn push(&mut self, level: Level) -> bool {
        match self.levels.get_mut(usize::from(self.depth)) {
            Some(place) => {
                *place = level;
                self.depth = self.depth.saturating_add(1);
                true
            }
            None => false,
        }
    }
}

/// A production volume or clone at run time.
pub(crate) struct Volume<P: Platform> {
    pub(crate) live: bool,
    pub(crate) id: EntityId,
    pub(crate) clone: bool,
    /// Its device (production).
    pub(crate) dev: Dev,
    /// The device has a volatile cache.
    pub(crate) volatile: bool,
    pub(crate) size: u64,
    /// Its own map.
    pub(crate) map: MapId,
    /// Epoch of its newest living snapshot; 0 for none.
    pub(crate) newest: Epoch,
    /// A newer snapshot is gone, but the record that says so is durable only from this position on:
    /// until then `newest` stays, and what would need a copy waits (I-13).
    pub(crate) lowers: Option<LogPos>,
    /// Whether its fingerprint is valid (production): it is not written before that is void (I-45).
    pub(crate) print: Print,
    /// What it looks like, for the checkpoint that closes the pool.
    pub(crate) seen: Option<u64>,
    /// The map that redirected writes go to: its own (clones), M (restoring production).
    pub(crate) redirect: Option<MapId>,
    /// Epoch that redirected writes bear.
    pub(crate) write_epoch: Epoch,
    pub(crate) fast: Option<P::Ref<Fast<P>>>,
    /// New requests wait: a snapshot, refresh or restore is at its moment.
    pub(crate) hold: bool,
    pub(crate) held: Queue,
    /// Slow writes whose data is on its way to where it will stay.
    pub(crate) writes: u32,
    pub(crate) readers: u32,
    pub(crate) writers: u32,
    /// Slots of its map, and the limit for them (0: none).
    pub(crate) used: u64,
    /// Slots that it may use at most; 0 for no end.
    pub(crate) quota: u64,
    /// Slots that are kept for it, those that it uses among them.
    pub(crate) reservation: u64,
    /// Free slots that are promised to it (`promise.rs`).
    pub(crate) promised: u64,
    /// The view that copies ahead look up through.
    pub(crate) ahead: u32,
    /// The chunk behind the last first write and what was copied with it, and how many first writes
    /// began there, one after another.
    pub(crate) last_end: u64,
    pub(crate) streak: u32,
    pub(crate) reads_served: u64,
    pub(crate) writes_served: u64,
}

impl<P: Platform> Clone for Volume<P> {
    fn clone(&self) -> Self {
        Self { fast: self.fast.clone(), ..*self }
    }
}

impl<P: Platform> Volume<P> {
    pub(crate) const fn free() -> Self {
        Self {
            live: false,
            id: EntityId(0),
            clone: false,
            dev: Dev::SAVE,
            volatile: true,
            size: 0,
            map: MapId(0),
            newest: Epoch(0),
            lowers: None,
            print: Print::Void,
            seen: None,
            redirect: None,
            write_epoch: Epoch(0),
            fast: None,
            hold: false,
            held: Queue::EMPTY,
            writes: 0,
            readers: 0,
            writers: 0,
            used: 0,
            quota: 0,
            reservation: 0,
            promised: 0,
            ahead: crate::engine::slab::NONE,
            last_end: u64::MAX,
            streak: 0,
            reads_served: 0,
            writes_served: 0,
        }
    }
}

/// Whether an operation changes data.
pub(crate) const fn changes(op: Op) -> bool {
    matches!(op, Op::Write { .. } | Op::Discard | Op::Zero { .. })
}
