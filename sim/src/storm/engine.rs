// SPDX-License-Identifier: MIT

//! The core as the storm drives it. A trait, so that the storm itself is tested with a core that
//! is naive enough to be right.

use rwsnap_core::api::{Device, Done, Handle, Op, Request, Seg, Step, StepId, Submit};
use rwsnap_core::control::Refusal;
use rwsnap_core::fault::Fault;
use rwsnap_core::units::{Dev, EntityId, Geometry};

use super::disk::Disk;
use super::plan::Plan;
use super::rng::Rng;

/// A production volume that the pool knows of.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Its device.
    pub dev: Dev,
    /// Bytes.
    pub size: u64,
    /// Of its content at the last clean close.
    pub fingerprint: Option<u64>,
}

/// An opened volume.
#[derive(Clone, Debug)]
pub(super) struct Opened<F> {
    /// For requests.
    pub handle: Handle,
    /// Bytes.
    pub size: u64,
    /// Not to be written.
    pub read_only: bool,
    /// The hot path, if it has one.
    pub fast: Option<F>,
    /// Which volume it is.
    pub id: EntityId,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Routed<T> {
    /// Straight to this device, from this byte on; then `leave` with the token.
    Pass(Dev, u64, T),
    /// Through the core.
    Slow,
}

/// What has rotted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rot {
    /// A block of the log that was known to be durable: the pool must not open.
    Log,
    /// A metadata page, maybe one in use: it is reported when it is read.
    Page,
    /// One copy of the superblock: there are others.
    Superblock,
}

/// `rwsnap_core`'s `Core` and `Fast`; see there.
pub(super) trait Engine: Sized {
    /// What is under way, for a person.
    fn dump(&self) -> String {
        String::new()
    }
    /// Whether it copies what no client has asked for yet.
    fn copies_ahead(&self) -> bool {
        false
    }
    /// The hot path of a production volume.
    type Fast: Clone;
    /// Names a passed request.
    type Token: Copy;

    /// Bends a plan to what this engine can do.
    fn adjust(_: &mut Plan) {}
    /// Whether the check of slots makes sense.
    const SLOTS: bool = true;
    /// Whether it opens a pool without touching a production.
    const OPENS_ALONE: bool = true;
    /// Writes an empty pool.
    fn create(plan: &Plan, put: &mut dyn FnMut(u64, &[u8]));
    /// Begins to open the pool.
    fn open(plan: &Plan, save: &Disk) -> Result<Self, String>;
    /// Whether the pool was opened and no checkpoint followed: the core may have forgotten which
    /// changed productions it was told to use.
    fn is_early(_: &Disk) -> bool {
        false
    }
    /// Slots that the save volume has given to metadata.
    fn metadata_slots(_: &Disk) -> u64 {
        0
    }
    /// Whether it is open.
    fn opened(&self) -> Option<Result<(), String>>;
    /// Spoils a block of metadata, if there is one.
    fn rot(_: &mut Disk, _: &mut Rng) -> Option<Rot> {
        None
    }
    /// The pool's geometry.
    fn geometry(&self) -> Geometry;
    /// The volumes that must be found.
    fn productions(&self) -> Vec<Found>;
    /// One of them is there.
    fn online(
        &mut self,
        dev: Dev,
        device: Device,
        fingerprint: u64,
        trust: bool,
    ) -> Result<(), Refusal>;
    /// All are there.
    fn start(&mut self);
    /// Opens a volume by name.
    fn attach(&mut self, name: &str, write: bool) -> Result<Opened<Self::Fast>, Refusal>;
    /// Closes it.
    fn detach(&mut self, handle: Handle);
    /// Whether a command cut it off.
    fn is_lost(&self, handle: Handle) -> bool;
    /// A request's way.
    fn route(fast: &Self::Fast, cpu: u32, op: Op, at: u64, len: u32) -> Routed<Self::Token>;
    /// The end of a passed request.
    fn leave(fast: &Self::Fast, cpu: u32, token: Self::Token) -> bool;
    /// A request for the core.
    fn submit(&mut self, request: &Request) -> Submit;
    /// A command.
    fn command(&mut self, cookie: u64, bytes: &[u8]) -> Submit;
    /// Its reply.
    fn reply(&mut self, cookie: u64) -> Vec<u8>;
    /// The next step.
    fn poll(&mut self) -> Option<(StepId, Step)>;
    /// Whether work in the background waits for `resume`.
    fn is_behind(&self) -> bool {
        false
    }
    /// The next `poll` goes on with it.
    fn resume(&mut self) {}
    /// The memory of a step.
    fn segs(&self, id: StepId, f: &mut dyn FnMut(Seg<'_>));
    /// The end of a step.
    fn complete(&mut self, id: StepId, done: &Done<'_>);
    /// After `leave`.
    fn kick(&mut self);
    /// Time goes by.
    fn tick(&mut self, now_ns: u64);
    /// Ends.
    fn close(&mut self, fingerprints: &[(Dev, u64)]);
    /// Whether it has.
    fn closed(&self) -> Option<Result<(), Fault>>;
}
