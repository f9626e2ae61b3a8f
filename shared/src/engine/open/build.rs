// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Making the core's structure: all memory that it has from then on.
//!
//! A kernel's stack is small: what is large is put into boxes, one part after another, and the
//! core itself is made in one, empty, and its tables then get their memory where they lie.

use super::replay::Blocks;
use super::{root_of, OpenError, Opening, Phase};
use crate::api::{Device, Limits};
use crate::catalog::Catalog;
use crate::engine::checkpoint::Checkpoint;
use crate::engine::claims::Claim;
use crate::engine::slab::{Queue, Slab};
use crate::engine::space::Space;
use crate::engine::step::{Open, Steps};
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
    ) -> Result<P::Box<Self>, OpenError> {
        let parts = Parts::new(&p, limits, superblock)?;
        let sinks = Sinks::new(&p)?;
        let mut core = Self::bare(p, limits, save, parts, sinks)?;
        core.make_tables()?;
        Ok(core)
    }

    /// The arrays of those parts that lie in the core itself.
    #[inline(never)]
    fn make_tables(&mut self) -> Result<(), Fault> {
        let (p, limits) = (&self.platform, &self.limits);
        let tasks = limits.requests.saturating_add(OWN_TASKS);
        let steps = limits.requests.saturating_mul(4).max(1024);
        self.tasks.make(p, tasks, &Task::FREE)?;
        self.views.make(p, VIEWS, &View::FREE)?;
        self.vols.make(p, VOLUMES, &Volume::free())?;
        self.claims.make(p, tasks.saturating_mul(3))?;
        self.steps.make(p, steps, tasks)?;
        self.units.make(p, limits.copy_units)?;
        self.versions.words = p.array(1024, &0).ok_or(Fault::NoMemory)?;
        self.page_waiters = p.array(64, &Queue::default()).ok_or(Fault::NoMemory)?;
        self.space.catalog_pages.make(p)
    }

    /// The core with all its boxes; what lies in it itself has no memory yet. It is made where it
    /// will stay.
    #[inline(never)]
    fn bare(
        p: P,
        limits: &Limits,
        save: Device,
        parts: Parts<P>,
        sinks: Sinks<P>,
    ) -> Result<P::Box<Self>, OpenError> {
        let superblock = &*parts.superblock;
        let geometry = superblock.geometry().ok_or(OpenError::Corrupt)?;
        let limits = *limits;
        let block = superblock.block.get();
        let counters = counters(superblock);
        p.boxed(|| Self {
            geometry,
            block,
            save,
            superblock: parts.superblock,
            limits,
            mutant: None,
            catalog: parts.catalog,
            layers: parts.layers,
            group: parts.group,
            slots: parts.slots,
            meta: parts.meta,
            log: parts.log,
            tasks: Slab::bare(sinks.tasks),
            tasks_reserved: OWN_TASKS,
            views: Slab::bare(sinks.views),
            vols: Slab::bare(sinks.vols),
            claims: Claims::bare(sinks.claims),
            steps: Steps::bare(sinks.steps),
            units: CopyUnits::bare(sinks.units),
            versions: Versions { words: P::Array::default(), changes: 0 },
            run: Queue::default(),
            walker_waiters: Queue::default(),
            step_waiters: Queue::default(),
            unit_waiters: Queue::default(),
            room_waiters: Queue::default(),
            page_waiters: P::Array::default(),
            walkers: 0,
            commit: Commit::default(),
            flush: Flush::default(),
            checkpoint: parts.checkpoint,
            opening: parts.opening,
            space: Space::bare(),
            lifecycle: parts.lifecycle,
            counters,
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
            stats: parts.stats,
            platform: p,
        })
        .ok_or(Fault::NoMemory.into())
    }
}

/// The core's parts in boxes.
struct Parts<P: Platform> {
    superblock: P::Box<Superblock>,
    catalog: P::Box<Catalog<P>>,
    layers: P::Box<Layers<P>>,
    group: P::Box<Group>,
    slots: P::Box<Slots<P>>,
    meta: P::Box<Meta<P>>,
    log: P::Box<Writer<P>>,
    checkpoint: P::Box<Checkpoint<P>>,
    opening: P::Box<Opening<P>>,
    lifecycle: P::Box<Lifecycle<P>>,
    stats: P::Box<Stats>,
}

impl<P: Platform> Parts<P> {
    #[inline(never)]
    fn new(p: &P, limits: &Limits, superblock: &Superblock) -> Result<Self, OpenError> {
        Ok(Self {
            superblock: p.boxed(|| *superblock).ok_or(Fault::NoMemory)?,
            catalog: Catalog::new(p, 64)?,
            layers: layers(p, limits, superblock)?,
            group: p.boxed(|| Group::EMPTY).ok_or(Fault::NoMemory)?,
            slots: slots(p, superblock)?,
            meta: meta(p, superblock)?,
            log: log(p, superblock)?,
            checkpoint: Checkpoint::new(p, superblock.pool_number())?,
            opening: opening(p, superblock)?,
            lifecycle: Lifecycle::new(p)?,
            stats: p.boxed(Stats::default).ok_or(Fault::NoMemory)?,
        })
    }
}

/// What strays in the core's tables reach.
struct Sinks<P: Platform> {
    tasks: P::Box<Task>,
    views: P::Box<View>,
    vols: P::Box<Volume<P>>,
    claims: P::Box<Claim>,
    steps: P::Box<Open>,
    units: P::Box<u64>,
}

impl<P: Platform> Sinks<P> {
    #[inline(never)]
    fn new(p: &P) -> Result<Self, Fault> {
        Ok(Self {
            tasks: Slab::<P, _>::sink(p, &Task::FREE)?,
            views: Slab::<P, _>::sink(p, &View::FREE)?,
            vols: Slab::<P, _>::sink(p, &Volume::free())?,
            claims: Claims::<P>::sink(p)?,
            steps: Steps::<P>::sink(p)?,
            units: CopyUnits::<P>::sink(p)?,
        })
    }
}

/// Puts a part where it will stay.
fn boxed<P: Platform, T>(p: &P, part: T) -> Result<P::Box<T>, Fault> {
    p.boxed(|| part).ok_or(Fault::NoMemory)
}

/// The parts, each with a stack frame of its own: `Parts::new` has none of them on its own.
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
fn opening<P: Platform>(p: &P, superblock: &Superblock) -> Result<P::Box<Opening<P>>, OpenError> {
    let opening = Opening {
        phase: Phase::SlotMap(0),
        io: 0,
        recovery: Recovery::new(&Start::of(superblock)).map_err(OpenError::Log)?,
        blocks: Some(Blocks::new(p)?),
        result: None,
        torn: [false; 2],
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
