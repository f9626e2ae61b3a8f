// SPDX-License-Identifier: GPL-2.0-only

//! A volume or snapshot as a block device: who has it open, and how its bios find their way.
//!
//! The core knows a client for as long as somebody has the device open: one that reads, or one
//! that writes as soon as anybody opened it for writing. So the core refuses a refresh or a
//! restore under a mounted file system by itself.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        rcu::synchronize_rcu,
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use rwsnap_core::{
    api::Handle,
    control::Name, //
};

use super::{
    bdev::Lower,
    bio::BioSet,
    gate::Gate,
    gendisk::GenDisk,
    hot, //
};
use crate::{
    mem::Fast,
    pool::Pool, //
};

/// No handle.
const NONE: u32 = u32::MAX;

/// What a disk shows.
#[derive(Clone, Copy)]
pub(crate) struct Face {
    /// The core's number of it.
    pub(crate) id: u32,
    /// `KIND_*`.
    pub(crate) kind: u32,
    /// Its name.
    pub(crate) name: Name,
    /// Its UUID.
    pub(crate) uuid: [u8; 16],
    /// Bytes.
    pub(crate) size: u64,
    /// For a production: the device number.
    pub(crate) dev: u16,
}

/// Who has it open.
#[derive(Default)]
struct Openers {
    count: u32,
    reader: Option<Handle>,
    writer: Option<Handle>,
    /// Nobody may open it any more.
    closing: bool,
}

/// A disk.
#[pin_data]
pub(crate) struct Disk {
    /// Whose it is.
    pub(crate) pool: Arc<Pool>,
    /// What it shows; the name may change.
    #[pin]
    face: Mutex<Face>,
    /// `KIND_*`.
    pub(crate) kind: u32,
    /// The core's number of it.
    pub(crate) id: u32,
    /// Counts its bios that go to the worker; those that pass are in the core's guard.
    #[pin]
    pub(crate) gate: Gate,
    /// Where bios that pass come from.
    #[pin]
    pub(crate) set: BioSet,
    home: Option<(Arc<Fast>, Arc<Lower>)>,
    #[pin]
    openers: Mutex<Openers>,
    /// The handle that requests bear.
    handle: Atomic<u32>,
    /// Nothing passes: a command that cuts writers off is under way, or has cut these off.
    held: Atomic<bool>,
    /// Set once it is shown.
    #[pin]
    pub(crate) gendisk: Mutex<Option<GenDisk>>,
}

impl Disk {
    /// A disk that is not shown yet; a production passes through `home`.
    #[inline(never)]
    pub(crate) fn new(
        pool: Arc<Pool>,
        face: Face,
        home: Option<(Arc<Fast>, Arc<Lower>)>,
    ) -> Result<Arc<Self>> {
        let Face { kind, id, .. } = face;
        Arc::pin_init(
            try_pin_init!(Self {
                pool,
                face <- kernel::new_mutex!(face, "rwsnap_face"),
                kind,
                id,
                gate <- Gate::new(),
                set <- hot::set(),
                home,
                openers <- kernel::new_mutex!(Openers::default(), "rwsnap_openers"),
                handle: Atomic::new(NONE),
                held: Atomic::new(false),
                gendisk <- kernel::new_mutex!(None, "rwsnap_gendisk"),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// What it shows.
    pub(crate) fn face(&self) -> Face {
        *self.face.lock()
    }

    /// It bears another name, or has another size.
    pub(crate) fn set_face(&self, face: Face) {
        *self.face.lock() = face;
    }

    /// The hot path, of a production.
    pub(crate) fn fast(&self) -> Option<&Fast> {
        self.home.as_ref().map(|(fast, _)| &**fast)
    }

    /// The hot path of a production and the device that it leads to.
    pub(crate) fn home(&self) -> Option<(&Fast, &Lower)> {
        self.home.as_ref().map(|(fast, lower)| (&**fast, &**lower))
    }

    /// Whether nothing may pass.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Acquire)
    }

    /// The handle that requests bear now.
    pub(crate) fn handle(&self) -> Option<Handle> {
        let handle = self.handle.load(Acquire);
        (handle != NONE).then_some(Handle(handle))
    }

    /// Openers.
    pub(crate) fn open_count(&self) -> u32 {
        self.openers.lock().count
    }

    /// Somebody opens it.
    ///
    /// # Errors
    ///
    /// It is going away, or the core has no place for one more (or has lost the data).
    pub(crate) fn open(&self, write: bool) -> Result {
        let mut openers = self.openers.lock();
        if openers.closing {
            return Err(ENXIO);
        }
        let held = if write {
            openers.writer
        } else {
            openers.writer.or(openers.reader)
        };
        if held.is_none() {
            let name = self.face().name;
            let handle = self.pool.enter(&name, write)?;
            let place = if write {
                &mut openers.writer
            } else {
                &mut openers.reader
            };
            *place = Some(handle);
            self.handle.store(handle.0, Release);
        }
        openers.count = openers.count.saturating_add(1);
        Ok(())
    }

    /// Somebody closes it. The last one takes the core's handles back.
    pub(crate) fn close(&self) {
        let mut openers = self.openers.lock();
        openers.count = openers.count.saturating_sub(1);
        if openers.count > 0 {
            return;
        }
        self.handle.store(NONE, Release);
        let handles = [openers.reader.take(), openers.writer.take()];
        for handle in handles.into_iter().flatten() {
            self.pool.leave(handle);
        }
        self.held.store(false, Release);
    }

    /// From now on nobody opens it; false, and nothing changes, if somebody has it open.
    pub(crate) fn retire(&self) -> bool {
        let mut openers = self.openers.lock();
        openers.closing |= openers.count == 0;
        openers.closing
    }

    /// It may be opened again.
    pub(crate) fn reinstate(&self) {
        self.openers.lock().closing = false;
    }

    /// A command comes that cuts writers off: nothing passes by the core, which knows who is cut
    /// off, until `resume`.
    pub(crate) fn hold(&self) {
        self.held.store(true, Release);
    }

    /// The command is over. Those who were cut off stay so until all have closed it.
    pub(crate) fn resume(&self) {
        let openers = self.openers.lock();
        let lost = openers
            .writer
            .is_some_and(|handle| self.pool.is_lost(handle));
        if !lost {
            self.held.store(false, Release);
        }
    }

    /// Takes it away. Nobody has it open.
    pub(crate) fn remove(&self) {
        let gendisk = self.gendisk.lock().take();
        if let Some(gendisk) = gendisk {
            gendisk.remove();
            self.gate.shut();
            self.wait_for_passed();
        }
    }

    /// Nothing comes any more: waits until what passed has ended, and nobody looks at the disk who
    /// was told of an end.
    fn wait_for_passed(&self) {
        let Some(fast) = self.fast() else { return };
        while !fast.is_idle() {
            fsleep(Delta::from_millis(1));
        }
        synchronize_rcu();
    }
}
