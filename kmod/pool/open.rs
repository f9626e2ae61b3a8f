// SPDX-License-Identifier: GPL-2.0-only

//! Attaching a pool: its superblock, its core, its productions, its disks.

use kernel::{
    new_condvar,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::Atomic,
        Arc, //
    },
    workqueue::{
        new_delayed_work,
        new_work, //
    }, //
};
use rwsnap_core::{
    api::Limits,
    control::{
        EventRow,
        Refusal, //
    },
    engine::OpenError,
    format::{
        fingerprint,
        superblock::{
            Finder,
            Superblock, //
        }, //
    },
    platform::Platform,
    units::Dev, //
};

use super::{
    bench::{
        self,
        Bench,
        Lowers,
        Ring, //
    },
    calls,
    flag,
    news,
    Pool,
    Title, //
};
use crate::{
    block::{
        bdev::Lower,
        bio::Inbox,
        step::{
            self,
            Cells, //
        }, //
    },
    control::refused::Refused,
    mem::{
        Core,
        Kernel, //
    },
    queue,
    text::shown, //
};

/// Pages of the cache of metadata: 16 MiB.
const CACHE_PAGES: u32 = 4096;
/// Requests at once.
const REQUESTS: u32 = 64;
/// Records of a delta, at least.
const DELTA_RECORDS: u32 = 1 << 16;
/// Bytes of copy units, at least so many units.
const COPY_BYTES: u32 = 16 << 20;
const COPY_UNITS: u32 = 512;

/// A production that was named when the pool was attached.
pub(crate) struct Named<'a> {
    /// Its name; empty for the only one.
    pub(crate) name: &'a [u8],
    /// Where it is; empty if it is to be used even though it was changed.
    pub(crate) path: &'a [u8],
}

/// What is asked for.
pub(crate) struct Request<'a> {
    /// The save volume's path.
    pub(crate) save: &'a [u8],
    /// Productions that moved, or that are to be trusted.
    pub(crate) named: &'a [Named<'a>],
}

impl Request<'_> {
    /// Where a production is that moved.
    fn moved(&self, known: &Production, only: bool) -> Option<&[u8]> {
        let mut named = self.named.iter().filter(|named| known.is(named.name, only));
        named
            .find(|named| !named.path.is_empty())
            .map(|named| named.path)
    }

    fn trusts(&self, known: &Production, only: bool) -> bool {
        let mut named = self.named.iter().filter(|named| known.is(named.name, only));
        named.any(|named| named.path.is_empty())
    }
}

/// A production as the core knows it.
struct Production {
    name: rwsnap_core::control::Name,
    dev: Dev,
    path: KVec<u8>,
}

impl Production {
    fn is(&self, name: &[u8], only: bool) -> bool {
        self.name.bytes() == name || (only && name.is_empty())
    }
}

fn c_path(path: &[u8]) -> Result<CString> {
    let path = core::str::from_utf8(path).map_err(|_| EINVAL)?;
    CString::try_from_fmt(fmt!("{path}"))
}

/// Opens a device for a pool.
pub(crate) fn open_device(path: &[u8]) -> Result<Lower, Refused> {
    let opened = c_path(path).and_then(|path| Lower::open(&path));
    opened.map_err(|why| {
        let what = match why {
            EBUSY => "it is in use: mounted, held by another program, or attached already",
            ENOTBLK => "it is no block device; `losetup -f --show` makes one of a file",
            ENOENT => "there is no such device",
            EROFS | EACCES => "it cannot be written",
            EOPNOTSUPP => "it is zoned, and cannot be written anywhere",
            _ => "it cannot be opened",
        };
        Refused::said(fmt!("{}: {what} ({})", shown(path), why.to_errno()))
    })
}

/// Finds the superblock that counts.
#[inline(never)]
fn superblock(lower: &Lower, path: &[u8]) -> Result<KVBox<Superblock>, Refused> {
    let mut finder = Kernel.boxed(|| Finder::NEW).ok_or(ENOMEM)?;
    let mut bytes = KVec::from_elem(0_u8, 4096, GFP_KERNEL)?;
    let size = lower.device().size;
    for at in Finder::places() {
        let readable = at.checked_add(4096).is_some_and(|end| end <= size);
        match readable.then(|| lower.read(at, &mut bytes)) {
            Some(Ok(())) => finder.feed(&Kernel, &bytes),
            _ => finder.feed(&Kernel, &[]),
        }
    }
    match finder.finish() {
        Ok(found) if found.read_only() => Err(Refused::said(fmt!(
            "{}: the pool has features that this version cannot write",
            shown(path)
        ))),
        Ok(found) => Ok(Kernel.boxed(|| *found).ok_or(ENOMEM)?),
        Err(why) => Err(Refused::said(fmt!(
            "{}: it is no save volume of rwsnap, or a damaged one ({why:?})",
            shown(path)
        ))),
    }
}

fn limits(superblock: &Superblock, delta: u32) -> Limits {
    Limits {
        cache_pages: CACHE_PAGES,
        delta_records: DELTA_RECORDS
            .max(delta)
            .max(u32::try_from(superblock.delta_records.get()).unwrap_or(u32::MAX)),
        requests: REQUESTS,
        copy_units: COPY_BYTES
            .checked_div(superblock.chunk.get())
            .unwrap_or(0)
            .max(COPY_UNITS),
    }
}

/// The fingerprint of a production of `size` bytes as it is now.
pub(super) fn print(lower: &Lower, size: u64) -> Result<u64> {
    let blocks = fingerprint::sample(size).count();
    let bytes = fingerprint::BLOCK as usize;
    let mut all = KVVec::with_capacity(blocks.saturating_mul(bytes).saturating_add(8), GFP_KERNEL)?;
    all.extend_from_slice(&fingerprint::head(size), GFP_KERNEL)?;
    let mut block = KVec::from_elem(0_u8, bytes, GFP_KERNEL)?;
    for number in fingerprint::sample(size) {
        let at = number.saturating_mul(fingerprint::BLOCK);
        let len = size.saturating_sub(at).min(fingerprint::BLOCK) as usize;
        block.fill(0);
        lower.read(at, block.get_mut(..len).unwrap_or_default())?;
        all.extend_from_slice(&block, GFP_KERNEL)?;
    }
    Ok(Kernel.hash(0, &all))
}

/// What a pool is made of that has to be had before there is a place for it.
struct Parts {
    title: Title,
    bench: KVBox<Bench>,
    cells: Cells,
    lowers: Lowers,
    calls: KVec<Arc<calls::Call>>,
    news: Ring<EventRow>,
    queue: queue::Own,
}

impl Parts {
    #[inline(never)]
    fn new(path: &[u8], superblock: &Superblock, save: Lower) -> Result<Self> {
        let mut own = KVec::new();
        own.extend_from_slice(path, GFP_KERNEL)?;
        let title = Title {
            uuid: superblock.pool,
            label: superblock.label,
            path: own,
        };
        let limits = limits(superblock, 0);
        let save = Arc::new(save, GFP_KERNEL)?;
        let mut bench = Bench::new(&limits, superblock.chunk.get())?;
        bench.lowers.push(Some(save.clone()), GFP_KERNEL)?;
        let mut lowers = KVec::new();
        lowers.push(Some(save), GFP_KERNEL)?;
        Ok(Self {
            bench,
            cells: Cells::new(bench::steps(&limits))?,
            lowers,
            calls: KVec::with_capacity(calls::WAITING, GFP_KERNEL)?,
            news: Ring::new(news::WAITING)?,
            queue: title.with(|title| queue::Own::new(shown(title)))?,
            title,
        })
    }
}

impl Pool {
    /// Attaches a pool, up to its disks.
    ///
    /// # Errors
    ///
    /// A device cannot be opened, holds no pool, or the pool cannot be opened; or it is attached
    /// already, as `is_known` says of its UUID. Nothing is written then.
    #[inline(never)]
    pub(crate) fn attach(
        request: &Request<'_>,
        is_known: &dyn Fn([u8; 16]) -> bool,
    ) -> Result<Arc<Self>, Refused> {
        let save = open_device(request.save)?;
        let superblock = superblock(&save, request.save)?;
        if is_known(superblock.pool) {
            return Err(Refused::said(fmt!(
                "a pool of the same UUID is attached: is this a copy of its save volume?"
            )));
        }
        let pool = Self::new(request.save, &superblock, save)?;
        pool.set_running(true);
        let opened = pool.open(&superblock, request);
        if let Err(why) = opened {
            pool.abandon();
            return Err(why);
        }
        Ok(pool)
    }

    #[inline(never)]
    fn new(path: &[u8], superblock: &Superblock, save: Lower) -> Result<Arc<Self>, Refused> {
        let parts = Parts::new(path, superblock, save)?;
        let chunk = superblock.chunk.get();
        let pool = Arc::pin_init(
            try_pin_init!(Self {
                title: parts.title,
                chunk,
                core <- new_mutex!(None, "rwsnap_core"),
                bench <- new_mutex!(parts.bench, "rwsnap_bench"),
                lowers <- new_mutex!(parts.lowers, "rwsnap_lowers"),
                disks <- new_mutex!(KVec::new(), "rwsnap_disks"),
                calls <- new_mutex!(parts.calls, "rwsnap_calls"),
                changing <- new_mutex!((), "rwsnap_changing"),
                stale: Atomic::new(false),
                inbox: Inbox::new(),
                cells: parts.cells,
                set <- step::set(),
                queue: parts.queue,
                flags: Atomic::new(0),
                running: Atomic::new(false),
                ticking: Atomic::new(false),
                turns <- new_mutex!(0, "rwsnap_turns"),
                turned <- new_condvar!("rwsnap_turned"),
                work <- new_work!("rwsnap_work"),
                ticker <- new_delayed_work!("rwsnap_ticker"),
                news <- new_mutex!(parts.news, "rwsnap_news"),
                teller <- new_work!("rwsnap_teller"),
            }? Error),
            GFP_KERNEL,
        )?;
        Ok(pool)
    }

    #[inline(never)]
    fn open(
        self: &Arc<Self>,
        superblock: &Superblock,
        request: &Request<'_>,
    ) -> Result<(), Refused> {
        let mut delta = 0;
        loop {
            self.begin(superblock, delta)?;
            self.bench.lock().paused = false;
            self.as_arc_borrow().wake(flag::POKE);
            let opened = self.wait(|core| core.opened()).ok_or(ENODEV)?;
            match opened {
                Ok(()) => break,
                Err(OpenError::Delta { need }) if delta == 0 => {
                    delta = u32::try_from(need).unwrap_or(u32::MAX);
                    // Steps that are still under way belong to the core that is thrown away.
                    self.wait_idle();
                }
                Err(why) => {
                    return Err(Refused::said(fmt!(
                        "{}: the pool cannot be opened: {why:?}; `rwsnap check` says more",
                        shown(request.save)
                    )))
                }
            }
        }
        self.find_productions(request)?;
        let _ = self.with_core(Core::start);
        self.as_arc_borrow().wake(flag::POKE);
        self.clone().tick_later();
        self.sync_disks()?;
        Ok(())
    }

    #[inline(never)]
    fn begin(&self, superblock: &Superblock, delta: u32) -> Result<(), Refused> {
        let save = super::steps::save(self).ok_or(ENODEV)?.device();
        let limits = limits(superblock, delta);
        let core = Core::open(Kernel, &limits, save, superblock)
            .map_err(|why| Refused::said(fmt!("the pool cannot be opened: {why:?}")))?;
        *self.core.lock() = Some(core);
        Ok(())
    }

    #[inline(never)]
    fn find_productions(self: &Arc<Self>, request: &Request<'_>) -> Result<(), Refused> {
        let all = self.productions()?;
        let only = all.len() == 1;
        for named in request.named {
            if !all.iter().any(|known| known.is(named.name, only)) {
                return Err(Refused::said(fmt!(
                    "the pool has no production `{}`",
                    shown(named.name)
                )));
            }
        }
        for known in &all {
            let path = request.moved(known, only).unwrap_or(&known.path);
            let trust = request.trusts(known, only);
            if let Err(why) = self.bring_online(known, path, trust) {
                pr_warn!("`{}` is offline: {}\n", known.name.text(), why.text());
            }
        }
        Ok(())
    }

    fn productions(&self) -> Result<KVec<Production>> {
        let mut found = KVec::new();
        let mut result = Ok(());
        let _ = self.with_core(|core| {
            core.productions(&mut |known| {
                let mut path = KVec::new();
                let copied = path.extend_from_slice(known.path, GFP_KERNEL);
                let known = Production {
                    name: known.name,
                    dev: known.dev,
                    path,
                };
                result = result
                    .and(copied)
                    .and_then(|()| found.push(known, GFP_KERNEL));
            });
        });
        result?;
        Ok(found)
    }

    #[inline(never)]
    fn bring_online(&self, known: &Production, path: &[u8], trust: bool) -> Result<(), Refused> {
        let lower = open_device(path)?;
        let device = lower.device();
        let print = print(&lower, device.size).map_err(|why| match why {
            EIO => Refused::said(fmt!("{} cannot be read ({})", shown(path), why.to_errno())),
            why => why.into(),
        })?;
        let online = self.with_core(|core| core.online(known.dev, device, print, trust));
        online.ok_or(ENODEV)?.map_err(|why| match why {
            Refusal::Lost => Refused::said(fmt!(
                "{} was changed while rwsnap did not look; `rwsnap attach --trust` uses it all the \
                 same",
                shown(path)
            )),
            Refusal::WrongKind => Refused::said(fmt!("{} is too small", shown(path))),
            why => Refused::because(why),
        })?;
        self.set_lower(usize::from(known.dev.0), lower)?;
        Ok(())
    }
}
