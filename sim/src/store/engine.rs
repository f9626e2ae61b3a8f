// SPDX-License-Identifier: MIT

//! What `offline` needs of the core, so that its tests can put something simpler in its place.

use std::sync::Arc;

use rwsnap_core::api::{Device, Done, Handle, Request, Seg, Step, StepId, Submit};
use rwsnap_core::control::{EventRow, Refusal};
use rwsnap_core::fast::Fast;
use rwsnap_core::fault::Fault;
use rwsnap_core::units::Dev;

use crate::platform::Host;

/// A production volume that the pool knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Production {
    /// Name.
    pub name: String,
    /// Its device number.
    pub dev: Dev,
    /// Bytes.
    pub size: u64,
    /// As it was when the pool was last closed in order.
    pub fingerprint: Option<u64>,
    /// Where it was then.
    pub path: String,
}

/// A volume or snapshot that is open for I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Names it in requests.
    pub handle: Handle,
    /// Bytes.
    pub size: u64,
    /// It cannot be written.
    pub read_only: bool,
}

/// Why a pool could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// It takes a delta of this many records.
    Delta(u32),
    /// For the reason that the sentence gives.
    Why(String),
}

/// The core, as a driver sees it. `Core` has the same methods; see there.
pub trait Engine {
    /// Whether opening is over, and if it failed, why.
    fn opened(&self) -> Option<Result<(), NotOpened>>;
    /// Bytes in a chunk.
    fn chunk(&self) -> u32;
    /// The production volumes to be found.
    fn productions(&self) -> Vec<Production>;
    /// The device of a production is there.
    ///
    /// # Errors
    ///
    /// It is not the one that it was.
    fn online(&mut self, dev: Dev, device: Device, print: u64, trust: bool) -> Result<(), Refusal>;
    /// Requests may begin.
    fn start(&mut self);
    /// Opens a volume or snapshot.
    ///
    /// # Errors
    ///
    /// Why not.
    fn attach(&mut self, name: &[u8], write: bool) -> Result<Opened, Refusal>;
    /// Closes it.
    fn detach(&mut self, handle: Handle);
    /// Hands in a request.
    fn submit(&mut self, request: &Request) -> Submit;
    /// Hands in a command.
    fn command(&mut self, cookie: u64, bytes: &[u8]) -> Submit;
    /// The reply to a command that is done.
    fn reply(&mut self, cookie: u64) -> Vec<u8>;
    /// The next step.
    fn poll(&mut self) -> Option<(StepId, Step)>;
    /// Whether work in the background waits for `resume`.
    fn is_behind(&self) -> bool {
        false
    }
    /// The next `poll` goes on with it.
    fn resume(&mut self) {}
    /// The pieces of a read or write.
    fn segs(&self, id: StepId, f: &mut dyn FnMut(Seg<'_>));
    /// A step has ended.
    fn complete(&mut self, id: StepId, done: &Done<'_>);
    /// The wall clock.
    fn tick(&mut self, now_ns: u64);
    /// The fingerprint of a production, to be kept when the pool is closed.
    fn set_fingerprint(&mut self, dev: Dev, print: u64);
    /// No request waits any more until somebody makes room: it fails.
    fn wait_no_more(&mut self) {}
    /// Begins to close the pool.
    fn close(&mut self);
    /// Whether it is closed.
    fn closed(&self) -> Option<Result<(), Fault>>;
    /// Bytes in a logical block.
    fn block(&self) -> u32 {
        512
    }
    /// As `attach`, with the hot path of a production.
    ///
    /// # Errors
    ///
    /// As `attach`.
    fn enter(&mut self, name: &[u8], write: bool) -> Result<(Opened, Option<Hot>), Refusal> {
        Ok((self.attach(name, write)?, None))
    }
    /// `Fast::leave` said that somebody waits.
    fn kick(&mut self) {}
    /// The first event behind number `number`, if there is one.
    fn event_after(&self, _number: u64) -> Option<EventRow> {
        None
    }
    /// Whether a forced command cut this off.
    fn handle_lost(&self, _handle: Handle) -> bool {
        false
    }
    /// What is under way, for a person who looks for what hangs.
    fn describe(&self) -> String {
        String::new()
    }
    /// Calls `visit` with the names of all volumes and snapshots that can be served.
    fn names(&self, _visit: &mut dyn FnMut(&str)) {}
}

/// The hot path of a production.
pub type Hot = Arc<Fast<Host>>;
