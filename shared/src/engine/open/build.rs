// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Making the core's structure: all memory that it has from then on.
//!
//! A kernel's stack is small: what is large is put into boxes, one part after another, and the
//! core itself, which is moved to its caller, is mostly references.

use super::replay::Blocks;
use super::{root_of, OpenError, Opening, Phase};
use crate::api::{Device, Limits};
use crate::catalog::Catalog;
use crate::engine::checkpoint::Checkpoint;
use crate::engine::slab::{Queue, Slab};
use crate::engine::space::Space;
use crate::engine::step::Steps;
use crate::engine::task::Task;
use crate::engine::view::{View, Volume};
use crate::engine::{Claims, Commit, CopyUnits, Core, Flush, Stats, Versions};
use crate::fault::Fault;
use crate::format::log::Counters;
use crate::format::superblock::Superblock;
use crate::lifecycle::Lifecycle;
use crate::log::{Recovery, Resume, Start, Writer};
use crate::map::{Group, Layers, Sizes};
use crate::platform::Platform;
use crate::slots::{Meta, Slots};
use crate::units::{EntityId, Epoch, MapId};

/// Production volumes and clones of a pool, at most.
pub const VOLUMES: u32 = 2048;
/// Volumes and snapshots that are opened at once, at most; the core itself takes a few.
pub const VIEWS: u32 = 2048;
/// Tasks beside those of clients: sweep, merge, commands.
const OWN_TASKS: u32 = 96;
/// Blocks of the log that are being written at once, at most.
const STAGE: usize = 64;

impl<P: Platform> Core<P> {
    #[inline(never)]
    pub(super) fn build(
        p: P,
        limits: &Limits,
        save: Device,
        superblock: &Superblock,
    ) -> Result<Self, OpenError> {
        let tasks = limits.requests.saturating_add(OWN_TASKS);
        let steps = limits.requests.saturating_mul(4).max(1024);
        let no_memory = Fault::NoMemory;
        Ok(Self {
            geometry: superblock.geometry().ok_or(OpenError::Corrupt)?,
            block: superblock.block.get(),
            save,
            superblock: p.boxed(|| *superblock).ok_or(no_memory)?,
            limits: *limits,
            mutant: None,
            catalog: catalog(&p)?,
            layers: layers(&p, limits, superblock)?,
            group: p.boxed(|| Group::EMPTY).ok_or(no_memory)?,
            slots: slots(&p, superblock)?,
            meta: meta(&p, superblock)?,
            log: log(&p, superblock)?,
            tasks: Slab::new(&p, tasks, &Task::FREE)?,
            tasks_reserved: OWN_TASKS,
            views: Slab::new(&p, VIEWS, &View::FREE)?,
            vols: Slab::new(&p, VOLUMES, &Volume::free())?,
            claims: Claims::new(&p, tasks.saturating_mul(3))?,
            steps: Steps::new(&p, steps, tasks)?,
            units: CopyUnits::new(&p, limits.copy_units)?,
            versions: Versions { words: p.array(1024, &0).ok_or(no_memory)?, changes: 0 },
            run: Queue::default(),
            walker_waiters: Queue::default(),
            step_waiters: Queue::default(),
            unit_waiters: Queue::default(),
            room_waiters: Queue::default(),
            page_waiters: p.array(64, &Queue::default()).ok_or(no_memory)?,
            walkers: 0,
            commit: Commit::default(),
            flush: Flush::default(),
            checkpoint: checkpoint(&p, superblock)?,
            opening: opening(&p, superblock)?,
            space: Space::new(&p)?,
            lifecycle: lifecycle(&p, limits)?,
            counters: counters(superblock),
            slot_io: [0; 2],
            slot_phase: false,
            fresh_reserved: 0,
            lowering: false,
            span_chunks: 1,
            cache_pages: limits.cache_pages.max(4),
            now_ns: 0,
            busy: false,
            started: false,
            closed: None,
            closing: false,
            fenced: None,
            stats: boxed(&p, Stats::default())?,
            platform: p,
        })
    }
}

/// Puts a part where it will stay.
fn boxed<P: Platform, T>(p: &P, part: T) -> Result<P::Box<T>, Fault> {
    p.boxed(|| part).ok_or(Fault::NoMemory)
}

/// The parts, each with a stack frame of its own: `Core::build` has none of them on its own.
#[inline(never)]
fn catalog<P: Platform>(p: &P) -> Result<P::Box<Catalog<P>>, Fault> {
    boxed(p, Catalog::new(p, 64).ok_or(Fault::NoMemory)?)
}

#[inline(never)]
fn layers<P: Platform>(
    p: &P,
    limits: &Limits,
    superblock: &Superblock,
) -> Result<P::Box<Layers<P>>, Fault> {
    let n = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    let sizes = Sizes {
        delta: n(limits.delta_records),
        pending: n((limits.delta_records / 4).max(2048)),
        cache: n(limits.cache_pages.max(4)),
    };
    Layers::new(p, sizes, superblock.pool_number(), root_of(superblock))
}

#[inline(never)]
fn slots<P: Platform>(p: &P, superblock: &Superblock) -> Result<P::Box<Slots<P>>, Fault> {
    let slots = Slots::new(p, superblock.slots.get(), superblock.slot_limit.get());
    boxed(p, slots.ok_or(Fault::NoMemory)?)
}

#[inline(never)]
fn meta<P: Platform>(p: &P, superblock: &Superblock) -> Result<P::Box<Meta<P>>, Fault> {
    let meta = Meta::new(p, superblock.extents().map(|e| e.pages));
    boxed(p, meta.ok_or(Fault::NoMemory)?)
}

#[inline(never)]
fn log<P: Platform>(p: &P, superblock: &Superblock) -> Result<P::Box<Writer<P>>, Fault> {
    let start = Start::of(superblock);
    let resume = Resume {
        generation: superblock.log_generation.get(),
        super_generation: superblock.generation.get(),
        start: start.pos,
        head: start.pos,
        hash: start.hash,
    };
    let pool = superblock.pool_number();
    let log = Writer::new(p, pool, superblock.log_blocks.get(), STAGE, &resume);
    boxed(p, log.ok_or(Fault::NoMemory)?)
}

#[inline(never)]
fn checkpoint<P: Platform>(p: &P, superblock: &Superblock) -> Result<P::Box<Checkpoint<P>>, Fault> {
    boxed(p, Checkpoint::new(p, superblock.pool_number())?)
}

#[inline(never)]
fn lifecycle<P: Platform>(p: &P, limits: &Limits) -> Result<P::Box<Lifecycle<P>>, Fault> {
    boxed(p, Lifecycle::new(p, limits)?)
}

#[inline(never)]
fn opening<P: Platform>(p: &P, superblock: &Superblock) -> Result<P::Box<Opening<P>>, OpenError> {
    let opening = Opening {
        phase: Phase::SlotMap(0),
        io: 0,
        recovery: Recovery::new(&Start::of(superblock)).map_err(OpenError::Log)?,
        blocks: Some(Blocks::new(p)?),
        result: None,
        was_clean: superblock.clean.get() != 0,
    };
    Ok(boxed(p, opening)?)
}

fn counters(superblock: &Superblock) -> Counters {
    Counters {
        epoch: Epoch(superblock.epoch.get()),
        next_map: MapId(superblock.next_map.get()),
        next_entity: EntityId(superblock.next_entity.get()),
        slots: superblock.slots.get(),
    }
}
