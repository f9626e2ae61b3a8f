// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Opening a pool: bit maps, catalogue, then recovery of the log.
//!
//! The driver has found the superblock (`format::superblock::Finder`). The other side of each bit
//! map is read too, for the next checkpoint to write what differs alone. One read is under way at a
//! time, but of the log and what it speaks of. When all of the log is applied, what was read is
//! made durable by a flush, a superblock of a new generation says where the log ends, and from
//! there on blocks bear that generation (rule 3).
//! `build.rs` takes the memory, `replay.rs` reads the log, `copies.rs` wipes torn superblocks.

mod build;
mod copies;
mod limits;
mod replay;

pub use build::{VIEWS, VOLUMES};
pub use limits::{Short, CACHE_PAGES_MIN, COPY_UNITS_MIN, DELTA_RECORDS_MIN};

use replay::Blocks;

use crate::api::{Device, Done, Limits, Step};
use crate::control::{Name, Refusal};
use crate::engine::prints::known_fingerprint;
use crate::engine::step::{Closed, Owner, Piece, SEGS};
use crate::engine::views::device_of;
use crate::engine::Core;
use crate::fast::Fast;
use crate::fault::Fault;
use crate::format::entity::{read_page, Entity, Kind};
use crate::format::superblock::Superblock;
use crate::log::{Damage, Recovery, Resume};
use crate::map::Root;
use crate::mutants::Mutant;
use crate::platform::Platform;
use crate::units::{Dev, EntityId, LogPos, PageNo, PAGE, PAGE_BYTES};

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
    /// A limit that the driver has set, or the pool's log, is too small to work with.
    Limit {
        /// Which.
        what: Short,
        /// How much it takes at least.
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
    /// What it looked like at the last orderly close, unless it was written since.
    pub fingerprint: Option<u64>,
    /// Where it was last.
    pub path: &'a [u8],
}

/// Pages of the slot bit map that are read at once.
const BITS_BATCH: u64 = 256;

fn pages_bytes(n: u64) -> u32 {
    u32::try_from(n.saturating_mul(PAGE_BYTES)).unwrap_or(0)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    SlotMap(u64),
    MetaMap(u64),
    /// The other sides of the bit maps: what is alike need not be written by the next checkpoint.
    OtherSlotMap(u64),
    OtherMetaMap(u64),
    Catalog(PageNo),
    Log,
    Verify,
    /// The superblock's copies that are to be written are read, and wiped if they are not sound.
    Copies,
    Wipe,
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
    /// Blocks of the log; none once the pool is open.
    blocks: Option<Blocks<P>>,
    result: Option<Result<(), OpenError>>,
    /// Of the two copies of the superblock that are to be written: not sound.
    torn: [bool; 2],
    /// The pool was closed in order.
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
    ) -> Result<P::Box<Self>, OpenError> {
        let need = superblock.end();
        if save.size < need {
            return Err(OpenError::Short { need });
        }
        limits::check(limits, superblock)?;
        let mut core = Self::build(platform, limits, save, superblock)?;
        core.opening_next();
        Ok(core)
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
        if let Err(error) = self.opening_turn() {
            self.opening_fails(error);
        }
    }

    #[inline(never)]
    fn opening_turn(&mut self) -> Result<(), OpenError> {
        let side = self.superblock.map_side.get();
        match self.opening.phase {
            Phase::SlotMap(index) | Phase::OtherSlotMap(index) if index < self.slots.pages() => {
                let other = u32::from(self.opening.phase == Phase::OtherSlotMap(index));
                let n = BITS_BATCH.min(self.slots.pages().saturating_sub(index));
                match self.superblock.slot_map_byte(side ^ other, index) {
                    Some(at) => self.read_meta(at, pages_bytes(n), index),
                    None => return Err(OpenError::Corrupt),
                }
            }
            Phase::MetaMap(index) => match self.meta_map_byte(side, index) {
                Some(at) => self.read_meta(at, 4096, index),
                None => self.open_phase(Phase::OtherSlotMap(0)),
            },
            Phase::OtherMetaMap(index) => match self.meta_map_byte(side ^ 1, index) {
                Some(at) => self.read_meta(at, 4096, index),
                None => {
                    let first = self.superblock.catalog_first.get();
                    let none = first == u64::MAX;
                    self.open_phase(if none { Phase::Log } else { Phase::Catalog(PageNo(first)) });
                }
            },
            Phase::SlotMap(_) => self.open_phase(Phase::MetaMap(0)),
            Phase::OtherSlotMap(_) => self.open_phase(Phase::OtherMetaMap(0)),
            Phase::Catalog(page) => match self.superblock.page_byte(page) {
                Some(at) => self.read_meta(at, 4096, page.0),
                None => return Err(OpenError::Corrupt),
            },
            Phase::Log => self.next_blocks(),
            Phase::Verify => self.next_verify(),
            Phase::Copies => self.read_copies(),
            Phase::Wipe => self.wipe_copies(),
            Phase::Flush if !self.save.volatile => {
                self.opening.phase = Phase::Superblock;
                self.opening_next();
            }
            Phase::LastFlush if !self.save.volatile => {
                self.opening_done()?;
            }
            Phase::Flush | Phase::LastFlush => {
                self.flush_opened();
            }
            Phase::Superblock => self.write_opened(),
            Phase::Done => {}
        }
        Ok(())
    }

    #[inline(never)]
    fn flush_opened(&mut self) {
        self.opening.io = 1;
        let step = Step::Flush { dev: Dev::SAVE };
        self.open_step(Owner::Open(0), step, [Piece::None; SEGS], 0);
    }

    fn open_phase(&mut self, phase: Phase) {
        self.opening.phase = phase;
        self.opening_next();
    }

    /// A step of opening has ended.
    #[inline(never)]
    pub(crate) fn open_step_done(&mut self, tag: u64, open: &Closed, done: &Done<'_>) {
        self.opening.io = self.opening.io.saturating_sub(1);
        // An unreadable block or slot is no crash's leftover: to cut the log there would lose what
        // was released on its strength.
        let other = matches!(
            self.opening.phase,
            Phase::OtherSlotMap(_) | Phase::OtherMetaMap(_) | Phase::Copies
        );
        if done.result.is_err() && !other {
            return self.opening_fails(OpenError::Io);
        }
        if let Err(error) = self.take_opened(tag, open, done) {
            return self.opening_fails(error);
        }
        let many = matches!(self.opening.phase, Phase::Log | Phase::Verify);
        if many || self.opening.io == 0 {
            self.opening_next();
        }
    }

    #[inline(never)]
    fn take_opened(&mut self, tag: u64, open: &Closed, done: &Done<'_>) -> Result<(), OpenError> {
        let at = match open.step {
            Step::Read { at, .. } => at,
            _ => 0,
        };
        let bad = OpenError::Page { at };
        let pool = self.superblock.pool_number();
        match self.opening.phase {
            Phase::SlotMap(index) => {
                let mut page = index;
                for bytes in done.bytes.chunks_exact(PAGE) {
                    self.slots.load(&self.platform, pool, page, bytes).map_err(|_| bad)?;
                    page = page.saturating_add(1);
                }
                if page == index {
                    return Err(OpenError::Io);
                }
                self.opening.phase = Phase::SlotMap(page);
            }
            Phase::OtherSlotMap(index) => {
                let mut page = index;
                for bytes in done.bytes.chunks_exact(PAGE) {
                    self.slots.compare(&self.platform, pool, page, bytes);
                    page = page.saturating_add(1);
                }
                self.opening.phase = Phase::OtherSlotMap(index.saturating_add(BITS_BATCH));
            }
            Phase::OtherMetaMap(index) => {
                self.meta.compare(&self.platform, pool, index, done.bytes);
                self.opening.phase = Phase::OtherMetaMap(index.saturating_add(1));
            }
            Phase::MetaMap(index) => {
                self.meta.load(&self.platform, pool, index, done.bytes).map_err(|_| bad)?;
                self.opening.phase = Phase::MetaMap(index.saturating_add(1));
            }
            Phase::Catalog(page) => self.take_catalog(page, done, bad)?,
            Phase::Log => self.take_blocks(tag, done)?,
            Phase::Verify => self.take_verify(tag, open, done),
            Phase::Copies => self.take_torn(at, done),
            Phase::Wipe if self.opening.io == 0 => self.opening.phase = Phase::Flush,
            Phase::Flush => self.opening.phase = Phase::Superblock,
            Phase::Superblock if self.opening.io == 0 => self.opening.phase = Phase::LastFlush,
            Phase::LastFlush => self.opening_done()?,
            Phase::Wipe | Phase::Superblock | Phase::Done => {}
        }
        Ok(())
    }

    /// A page of the catalogue.
    #[inline(never)]
    fn take_catalog(
        &mut self,
        page: PageNo,
        done: &Done<'_>,
        bad: OpenError,
    ) -> Result<(), OpenError> {
        let pool = self.superblock.pool_number();
        let (entities, next) = read_page(&self.platform, done.bytes, pool, page).ok_or(bad)?;
        self.catalog.reserve(&self.platform, entities.len())?;
        self.space.catalog_pages.push(page)?;
        for entity in entities {
            self.catalog.put(entity)?;
        }
        self.opening.phase = next.map_or(Phase::Log, Phase::Catalog);
        Ok(())
    }

    /// Writes the superblock that says where the log ends.
    #[inline(never)]
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
        self.commit.noted = end.head;
        self.opening.io = self.emit_superblock(Owner::Open(0));
    }

    #[inline(never)]
    fn opening_done(&mut self) -> Result<(), OpenError> {
        self.opening.phase = Phase::Done;
        self.opening.blocks = None;
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
                fingerprint: known_fingerprint(entity),
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
        let known = known_fingerprint(entity);
        if known.is_some_and(|known| known != fingerprint) && !trust {
            return Err(Refusal::Lost);
        }
        let fast = Fast::new(&self.platform, dev, self.geometry, size)
            .ok()
            .and_then(|fast| self.platform.share(fast))
            .ok_or(Refusal::NoMemory)?;
        if known.is_some_and(|known| known != fingerprint) {
            self.believe_fingerprint(id, fingerprint)?;
        }
        self.vols.at_mut(v).fast = Some(fast);
        self.vols.at_mut(v).volatile = device.volatile;
        if self.catalog.get(id).and_then(Entity::restoring).is_some() {
            self.restore_begins(v);
        }
        self.set_mode(v);
        Ok(())
    }

    /// Background work may begin.
    pub fn start(&mut self) {
        self.started = true;
        if !self.opening.was_clean {
            self.count_is_due();
        }
        self.start_fingerprints();
        if self.space.freed != 0 {
            // What the log freed can be used again after a checkpoint.
            self.want_checkpoint();
        }
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
