// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Opening a pool: bit maps, catalogue, then recovery of the log.
//!
//! The driver has found the superblock (`format::superblock::Finder`). One read is under way at a
//! time. When all of the log is applied, what was read is made durable by a flush, a superblock of a
//! new generation says where the log ends, and from there on blocks bear that generation (rule 3).

use crate::api::{Device, Done, Limits, Step};
use crate::catalog::Catalog;
use crate::control::{Name, Refusal};
use crate::engine::checkpoint::Checkpoint;
use crate::engine::slab::{Queue, Slab};
use crate::engine::space::Space;
use crate::engine::step::{Open, Owner, Piece, Steps, SEGS};
use crate::engine::task::Task;
use crate::engine::view::{View, Volume};
use crate::engine::views::device_of;
use crate::engine::{Claims, Commit, CopyUnits, Core, Flush, Stats, Versions};
use crate::fast::Fast;
use crate::fault::Fault;
use crate::format::entity::{read_page, Entity, Kind, FLAG_FINGERPRINT};
use crate::format::log::{Counters, Entry, Fold};
use crate::format::superblock::Superblock;
use crate::lifecycle::Lifecycle;
use crate::log::{Damage, Recovery, Resume, Start, Want, Writer};
use crate::map::{Group, Layers, Root, Sizes};
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::slots::{Meta, Slots};
use crate::units::{Dev, EntityId, Epoch, LogPos, MapId, PageNo, PAGE, PAGE_BYTES};

/// Volumes at run time, and what is opened, at most.
const VOLUMES: u32 = 2048;
const VIEWS: u32 = 2048;
/// Tasks beside those of clients: sweep, merge, commands.
const OWN_TASKS: u32 = 96;
/// Blocks of the log that are read at once.
const BATCH: u64 = 16;

/// Why a pool cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// A read or write of the save volume failed.
    Io,
    /// Memory was not to be had.
    NoMemory,
    /// A metadata page at this byte of the save volume is not sound.
    Page {
        /// First byte.
        at: u64,
    },
    /// The log is damaged at this position: what was acknowledged would be lost.
    Log(Damage),
    /// The save volume is smaller than the superblock says.
    Short {
        /// Bytes that it should have.
        need: u64,
    },
    /// The log holds more records than the delta: open with this many.
    Delta {
        /// Records.
        need: u64,
    },
    /// The pool contradicts itself.
    Corrupt,
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Io => Self::Io,
            Fault::NoMemory => Self::NoMemory,
            _ => Self::Corrupt,
        }
    }
}

/// A production volume that the driver has to find.
pub struct Production<'a> {
    /// Its number.
    pub id: EntityId,
    /// Its name.
    pub name: Name,
    /// The device number that steps will bear.
    pub dev: Dev,
    /// Bytes.
    pub size: u64,
    /// What it looked like at the last orderly close.
    pub fingerprint: Option<u64>,
    /// Where it was last.
    pub path: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    SlotMap(u64),
    MetaMap(u64),
    Catalog(PageNo),
    Log,
    Verify,
    Flush,
    Superblock,
    LastFlush,
    Done,
}

/// The state of opening.
pub(crate) struct Opening<P: Platform> {
    phase: Phase,
    io: u32,
    pub(crate) recovery: Recovery,
    /// The block whose data is being verified, and which of its entries comes next.
    block: P::Array<u8>,
    entry: usize,
    result: Option<Result<(), OpenError>>,
    /// The pool was closed in order: fingerprints are valid.
    was_clean: bool,
}

impl<P: Platform> Core<P> {
    /// Begins to open the pool whose superblock is `superblock`, on a save volume like `save`.
    /// Drive it until [`Core::opened`] says how it went.
    ///
    /// # Errors
    ///
    /// No memory, or the superblock does not fit the device.
    pub fn open(
        platform: P,
        limits: &Limits,
        save: Device,
        superblock: &Superblock,
    ) -> Result<Self, OpenError> {
        let need = superblock.end();
        if save.size < need {
            return Err(OpenError::Short { need });
        }
        let mut core = Self::build(platform, limits, save, superblock)?;
        core.opening_next();
        Ok(core)
    }

    fn build(
        p: P,
        limits: &Limits,
        save: Device,
        superblock: &Superblock,
    ) -> Result<Self, OpenError> {
        let pool = superblock.pool_number();
        let n = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let tasks = limits.requests.saturating_add(OWN_TASKS);
        let start = Start::of(superblock);
        let resume = Resume {
            generation: superblock.log_generation.get(),
            super_generation: superblock.generation.get(),
            start: start.pos,
            head: start.pos,
            hash: start.hash,
        };
        let sizes = Sizes {
            delta: n(limits.delta_records),
            pending: n((limits.delta_records / 4).max(2048)),
            cache: n(limits.cache_pages.max(4)),
        };
        let root = root_of(superblock);
        let no_memory = Fault::NoMemory;
        Ok(Self {
            geometry: superblock.geometry().ok_or(OpenError::Corrupt)?,
            block: superblock.block.get(),
            save,
            superblock: *superblock,
            limits: *limits,
            mutant: None,
            catalog: Catalog::new(&p, 64).ok_or(no_memory)?,
            layers: Layers::new(&p, sizes, pool, root)?,
            group: Group::new(),
            slots: Slots::new(&p, superblock.slots.get(), superblock.slot_limit.get())
                .ok_or(no_memory)?,
            meta: Meta::new(&p, superblock.extents().map(|e| e.pages)).ok_or(no_memory)?,
            log: Writer::new(&p, pool, superblock.log_blocks.get(), 64, &resume)
                .ok_or(no_memory)?,
            tasks: Slab::new(&p, tasks, Task::free())?,
            tasks_reserved: OWN_TASKS,
            views: Slab::new(&p, VIEWS, View::free())?,
            vols: Slab::new(&p, VOLUMES, Volume::free())?,
            claims: Claims::new(&p, tasks.saturating_mul(3))?,
            steps: Steps::new(&p, limits.requests.saturating_mul(4).max(1024), tasks)?,
            units: CopyUnits::new(&p, limits.copy_units)?,
            versions: Versions(p.array(1024, 0).ok_or(no_memory)?),
            run: Queue::default(),
            walker_waiters: Queue::default(),
            step_waiters: Queue::default(),
            unit_waiters: Queue::default(),
            room_waiters: Queue::default(),
            page_waiters: p.array(64, Queue::default()).ok_or(no_memory)?,
            walkers: 0,
            commit: Commit::default(),
            flush: Flush::default(),
            checkpoint: Checkpoint::new(&p, pool)?,
            opening: Opening {
                phase: Phase::SlotMap(0),
                io: 0,
                recovery: Recovery::new(&start).map_err(OpenError::Log)?,
                block: p.array(PAGE, 0).ok_or(no_memory)?,
                entry: 0,
                result: None,
                was_clean: superblock.clean.get() != 0,
            },
            space: Space::new(&p)?,
            lifecycle: Lifecycle::new(&p, limits)?,
            counters: Counters {
                epoch: Epoch(superblock.epoch.get()),
                next_map: MapId(superblock.next_map.get()),
                next_entity: EntityId(superblock.next_entity.get()),
                slots: superblock.slots.get(),
            },
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
            stats: Stats::default(),
            platform: p,
        })
    }

    /// How opening went; `None` while it is under way.
    pub fn opened(&self) -> Option<Result<(), OpenError>> {
        self.opening.result
    }

    /// Plants a bug (feature `mutants` alone).
    pub fn plant(&mut self, mutant: Mutant) {
        self.mutant = Some(mutant);
        self.opening.recovery.plant(mutant);
    }

    fn read_meta(&mut self, at: u64, len: u32, tag: u64) {
        let pieces = [Piece::Meta(len), Piece::None, Piece::None, Piece::None];
        let step = Step::Read { dev: Dev::SAVE, at, len };
        self.opening.io = self.opening.io.saturating_add(1);
        self.open_step(Owner::Open(tag), step, pieces, 0);
    }

    fn opening_fails(&mut self, error: OpenError) {
        self.opening.result.get_or_insert(Err(error));
        self.opening.phase = Phase::Done;
    }

    /// Gives out the next read of opening.
    fn opening_next(&mut self) {
        let side = self.superblock.map_side.get();
        match self.opening.phase {
            Phase::SlotMap(index) => match self.superblock.slot_map_byte(side, index) {
                Some(at) if index < self.slots.pages() => self.read_meta(at, 4096, index),
                _ => {
                    self.opening.phase = Phase::MetaMap(0);
                    self.opening_next();
                }
            },
            Phase::MetaMap(index) => match self.meta_map_byte(side, index) {
                Some(at) => self.read_meta(at, 4096, index),
                None => {
                    let first = self.superblock.catalog_first.get();
                    self.opening.phase =
                        if first == u64::MAX { Phase::Log } else { Phase::Catalog(PageNo(first)) };
                    self.opening_next();
                }
            },
            Phase::Catalog(page) => match self.superblock.page_byte(page) {
                Some(at) => self.read_meta(at, 4096, page.0),
                None => self.opening_fails(OpenError::Corrupt),
            },
            Phase::Log => self.next_block(),
            Phase::Verify => self.next_verify(),
            Phase::Flush | Phase::LastFlush => {
                self.opening.io = 1;
                let step = Step::Flush { dev: Dev::SAVE };
                self.open_step(Owner::Open(0), step, [Piece::None; SEGS], 0);
            }
            Phase::Superblock => self.write_opened(),
            Phase::Done => {}
        }
    }

    /// A step of opening has ended.
    pub(crate) fn open_step_done(&mut self, tag: u64, open: &Open, done: &Done<'_>) {
        self.opening.io = self.opening.io.saturating_sub(1);
        // An unreadable block or slot is no crash's leftover: to cut the log there would lose what
        // was released on its strength.
        if done.result.is_err() {
            return self.opening_fails(OpenError::Io);
        }
        if let Err(error) = self.take_opened(tag, open, done) {
            return self.opening_fails(error);
        }
        if self.opening.io == 0 {
            self.opening_next();
        }
    }

    fn take_opened(&mut self, tag: u64, open: &Open, done: &Done<'_>) -> Result<(), OpenError> {
        let at = match open.step {
            Step::Read { at, .. } => at,
            _ => 0,
        };
        let bad = OpenError::Page { at };
        let pool = self.superblock.pool_number();
        match self.opening.phase {
            Phase::SlotMap(index) => {
                self.slots.load(&self.platform, pool, index, done.bytes).map_err(|_| bad)?;
                self.opening.phase = Phase::SlotMap(index.saturating_add(1));
            }
            Phase::MetaMap(index) => {
                self.meta.load(&self.platform, pool, index, done.bytes).map_err(|_| bad)?;
                self.opening.phase = Phase::MetaMap(index.saturating_add(1));
            }
            Phase::Catalog(page) => {
                let (entities, next) =
                    read_page(&self.platform, done.bytes, pool, page).ok_or(bad)?;
                self.catalog.reserve(&self.platform, entities.len())?;
                self.space.catalog_pages.push(page)?;
                for entity in entities {
                    self.catalog.put(entity)?;
                }
                self.opening.phase = next.map_or(Phase::Log, Phase::Catalog);
            }
            Phase::Log => self.take_blocks(tag, open, done)?,
            Phase::Verify => self.take_verify(open, done),
            Phase::Flush => self.opening.phase = Phase::Superblock,
            Phase::Superblock if self.opening.io == 0 => self.opening.phase = Phase::LastFlush,
            Phase::LastFlush => self.opening_done()?,
            Phase::Superblock | Phase::Done => {}
        }
        Ok(())
    }

    /// Reads what recovery wants next.
    fn next_block(&mut self) {
        let pos = match self.opening.recovery.want() {
            Want::Scan(pos) | Want::Verify(pos) | Want::Apply(pos) => pos,
            Want::Verdict(_) => {
                self.opening.phase = Phase::Verify;
                self.opening.entry = 0;
                return self.next_verify();
            }
            Want::Nothing => {
                self.opening.phase = Phase::Flush;
                return self.opening_next();
            }
        };
        let blocks = self.superblock.log_blocks.get();
        let index = pos.0.checked_rem(blocks).unwrap_or(0);
        let n = match self.opening.recovery.want() {
            Want::Verify(_) => 1,
            _ => BATCH.min(blocks.saturating_sub(index)),
        };
        let Some(at) = self.superblock.log_byte(pos) else {
            return self.opening_fails(OpenError::Corrupt);
        };
        let len = u32::try_from(n.saturating_mul(PAGE_BYTES)).unwrap_or(4096);
        self.read_meta(at, len, pos.0);
    }

    fn take_blocks(&mut self, pos: u64, open: &Open, done: &Done<'_>) -> Result<(), OpenError> {
        let len = match open.step {
            Step::Read { len, .. } => len,
            _ => 0,
        };
        let mut next = LogPos(pos);
        for n in 0..usize::try_from(len / 4096).unwrap_or(0) {
            let from = n.saturating_mul(PAGE);
            let block = done.bytes.get(from..from.saturating_add(PAGE)).unwrap_or(&[]);
            match self.opening.recovery.want() {
                Want::Scan(at) if at == next => self.feed(block, false)?,
                Want::Apply(at) if at == next => self.feed(block, true)?,
                Want::Verify(at) if at == next => {
                    for (to, from) in self.opening.block.iter_mut().zip(block) {
                        *to = *from;
                    }
                    self.feed(block, false)?;
                    return Ok(());
                }
                _ => return Ok(()),
            }
            next = next.next();
        }
        Ok(())
    }

    fn feed(&mut self, block: &[u8], apply: bool) -> Result<(), OpenError> {
        let entries = self.opening.recovery.feed(&self.platform, block).map_err(OpenError::Log)?;
        if !apply {
            return Ok(());
        }
        for entry in entries {
            self.apply(&entry?)?;
        }
        Ok(())
    }

    /// Takes over an entry of the log.
    fn apply(&mut self, entry: &Entry<'_>) -> Result<(), OpenError> {
        match entry {
            Entry::Put(record) | Entry::PutSummed(record, _) => {
                if self.layers.active.room() == 0 {
                    let need = u64::from(self.limits.delta_records).saturating_mul(2);
                    return Err(OpenError::Delta { need });
                }
                self.slots.replay(record)?;
                self.put_active(record)?;
            }
            Entry::Entity(entity) => {
                self.catalog.reserve(&self.platform, 8)?;
                self.catalog.put(entity)?;
            }
            Entry::Remove(id) => {
                self.catalog.remove(*id)?;
            }
            Entry::Counters(counters) => self.counters = *counters,
            Entry::Rename(id, name) => self.apply_rename(*id, name)?,
            Entry::Note => {}
        }
        Ok(())
    }

    /// The next entry with a sum of the block that is being verified: its slots are read.
    fn next_verify(&mut self) {
        let block = &self.opening.block;
        let pool = self.superblock.pool_number();
        let found = crate::format::log::open(&self.platform, block, pool);
        let skip = self.opening.entry;
        let summed = found.and_then(|(_, entries)| {
            entries
                .filter_map(Result::ok)
                .filter_map(|e| match e {
                    Entry::PutSummed(record, sum) => Some((record, sum)),
                    _ => None,
                })
                .nth(skip)
        });
        let Some((record, _)) = summed else { return self.verdict(true) };
        if self.mutant(Mutant::NoSums) {
            return self.verdict(true);
        }
        let n = record.slots();
        let Some(at) = self.superblock.slot_byte(record.slot) else { return self.verdict(false) };
        let Some(units) = self.units.chain(n) else {
            return self.opening_fails(OpenError::NoMemory);
        };
        let pieces = [
            Piece::Chain(units, n, self.geometry.chunk_bytes()),
            Piece::None,
            Piece::None,
            Piece::None,
        ];
        let step = Step::Read { dev: Dev::SAVE, at, len: n << self.geometry.shift() };
        self.opening.io = self.opening.io.saturating_add(1);
        self.open_step(Owner::Open(u64::from(units)), step, pieces, 0);
    }

    fn verdict(&mut self, matches: bool) {
        self.opening.recovery.verdict(matches);
        self.opening.phase = Phase::Log;
        self.next_block();
    }

    fn take_verify(&mut self, open: &Open, done: &Done<'_>) {
        let Some(Piece::Chain(first, n, _)) = open.pieces.first().copied() else { return };
        self.units.free(first, n);
        let mut fold = Fold::default();
        for sum in done.sums {
            fold.add(*sum);
        }
        let pool = self.superblock.pool_number();
        let found = crate::format::log::open(&self.platform, &self.opening.block, pool);
        let wanted = found.and_then(|(_, entries)| {
            entries
                .filter_map(Result::ok)
                .filter_map(|e| match e {
                    Entry::PutSummed(_, sum) => Some(sum),
                    _ => None,
                })
                .nth(self.opening.entry)
        });
        self.opening.entry = self.opening.entry.saturating_add(1);
        if wanted != Some(fold.end()) {
            self.opening.recovery.verdict(false);
            self.opening.phase = Phase::Log;
        }
    }

    /// Writes the superblock that says where the log ends.
    fn write_opened(&mut self) {
        let end = self.opening.recovery.end();
        let crashed = self.superblock.clean.get() == 0;
        let s = &mut self.superblock;
        let generation = s.generation.get().saturating_add(1);
        s.generation = generation.into();
        s.known_end = end.head.0.into();
        s.known_hash = end.hash.into();
        s.log_generation = generation.into();
        s.clean = 0.into();
        s.opened = s.opened.get().saturating_add(1).into();
        if crashed {
            s.recovered = s.recovered.get().saturating_add(1).into();
        }
        self.log.resume(&Resume {
            generation,
            super_generation: generation,
            start: LogPos(s.log_pos.get()),
            head: end.head,
            hash: end.hash,
        });
        self.commit.durable = end.head;
        self.commit.upto = end.head;
        self.opening.io = 2;
        self.emit_superblock(Owner::Open(0));
    }

    fn opening_done(&mut self) -> Result<(), OpenError> {
        self.opening.phase = Phase::Done;
        let mut last = EntityId(0);
        loop {
            let next = self.catalog.from(last.next()).next().map(|e| (e.id(), e.kind()));
            let Some((id, kind)) = next else { break };
            last = id;
            if matches!(kind, Some(Kind::Production | Kind::Clone)) {
                self.add_volume(id)?;
            }
        }
        self.refresh_volumes();
        self.take_pool_properties();
        self.opening.result = Some(Ok(()));
        Ok(())
    }

    /// The production volumes that the driver has to find, in order of their device numbers.
    pub fn productions(&self, f: &mut dyn FnMut(&Production<'_>)) {
        for entity in self.catalog.iter().filter(|e| e.kind() == Some(Kind::Production)) {
            f(&Production {
                id: entity.id(),
                name: entity.name,
                dev: device_of(entity),
                size: entity.size.get(),
                fingerprint: (self.opening.was_clean && entity.has(FLAG_FINGERPRINT))
                    .then_some(entity.fingerprint.get()),
                path: entity.property(b"path").unwrap_or(&[]),
            });
        }
    }

    /// The device of a production is there, and looks like `fingerprint`.
    ///
    /// # Errors
    ///
    /// There is no such production; its device is too small; it was changed while rwsnap was not
    /// looking (unless `trust`); or memory is not to be had. The volume stays offline.
    pub fn online(
        &mut self,
        dev: Dev,
        device: Device,
        fingerprint: u64,
        trust: bool,
    ) -> Result<(), Refusal> {
        let v = self.vol_by_dev(dev).ok_or(Refusal::NotFound)?;
        let (id, size) = (self.vols.at(v).id, self.vols.at(v).size);
        if device.size < size {
            return Err(Refusal::WrongKind);
        }
        let entity = self.catalog.get(id).ok_or(Refusal::NotFound)?;
        let valid = self.opening.was_clean && entity.has(FLAG_FINGERPRINT);
        let known = valid.then_some(entity.fingerprint.get());
        if known.is_some_and(|known| known != fingerprint) && !trust {
            return Err(Refusal::Lost);
        }
        let fast = Fast::new(&self.platform, dev, self.geometry, size)
            .ok()
            .and_then(|fast| self.platform.share(fast))
            .ok_or(Refusal::NoMemory)?;
        self.vols.at_mut(v).fast = Some(fast);
        if self.catalog.get(id).and_then(Entity::restoring).is_some() {
            self.restore_begins(v);
        }
        self.set_mode(v);
        Ok(())
    }

    /// Background work may begin.
    pub fn start(&mut self) {
        self.started = true;
    }
}

/// The tree of a superblock.
pub(crate) fn root_of(s: &Superblock) -> Option<Root> {
    (s.tree_height.get() != 0).then(|| Root {
        page: PageNo(s.tree_root.get()),
        height: u8::try_from(s.tree_height.get()).unwrap_or(u8::MAX),
        generation: s.generation.get(),
        records: s.tree_records.get(),
        pages: s.tree_pages.get(),
    })
}
