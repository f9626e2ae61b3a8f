// SPDX-License-Identifier: MIT

//! Drives the core over the volumes of a pool at rest: one step after another, with plain reads,
//! writes and `fdatasync`, on the caller's thread. This is the driver to read first.
//!
//! # Invariants
//!
//! - A step is complete before the next one is polled, so that the only order is the core's own.
//! - I/O goes through the page cache; a flush is `fdatasync`, and a write with `fua` is followed by
//!   one.
//! - A pool that is dropped without [`Offline::close`] is as after a crash: nothing that was
//!   flushed is lost.

mod steps;

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rwsnap_core::api::{Device, Done, Op, Request, Step, StepId, Submit};
use rwsnap_core::control::Refusal;
use rwsnap_core::fault::Fault;
use rwsnap_core::units::Dev;

use self::steps::{size, Devices, Piece};
use super::engine::{Engine, NotOpened, Opened, Production};
use super::{fingerprint, StoreError, Volume};

/// Copy units that the core is given: enough for a batch of a merge, and a few at any chunk.
#[must_use]
pub fn copy_units(chunk: u32) -> u32 {
    ((16 << 20) / chunk.max(1)).max(512)
}

/// How long to wait before the clock is shown to a core that has nothing to do.
const PAUSE: Duration = Duration::from_millis(20);

/// Why something did not work on a pool at rest.
#[derive(Debug)]
pub enum OfflineError {
    /// The pool cannot be opened; the sentence says why.
    Open(String),
    /// A volume failed.
    Store(StoreError),
    /// The core refused.
    Refused(Refusal),
    /// A request failed.
    Fault(Fault),
}

impl From<StoreError> for OfflineError {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

fn why(e: NotOpened) -> OfflineError {
    OfflineError::Open(match e {
        NotOpened::Why(why) => why,
        NotOpened::Delta(need) => format!("it takes memory for {need} records"),
    })
}

/// Why a production stays offline.
#[must_use]
pub fn not_online(refusal: Refusal, path: &Path) -> String {
    let path = path.display();
    match refusal {
        Refusal::Lost => format!(
            "{path} was changed while rwsnap did not look; `rwsnap serve --trust` uses it all the \
             same, and its snapshots show the changes wherever they hold no copy"
        ),
        Refusal::WrongKind => format!("{path} is smaller than it was"),
        Refusal::NoMemory => format!("there is no memory for {path}"),
        other => format!("{path} cannot be used ({other:?})"),
    }
}

/// Now, in ns since 1970.
#[must_use]
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Begins to open the pool on a save volume.
pub type Begin<'a> = dyn FnMut(u32, Device) -> Result<Box<dyn Engine>, NotOpened> + 'a;

/// Finds the volume of a production; says too whether to trust that it was not changed.
pub type Find<'a> = dyn FnMut(&Production) -> Result<(Volume, bool), String> + 'a;

/// An opened pool.
pub struct Offline {
    core: Box<dyn Engine>,
    devices: Devices,
    /// Productions that could not be brought online, and why.
    missing: Vec<(String, String)>,
    cookie: u64,
    finished: VecDeque<(u64, Result<(), Fault>)>,
}

impl Offline {
    /// Opens a pool. `begin` starts to open it, with room for at least so many records in a delta;
    /// `find` is asked for each production.
    pub fn open(
        save: Volume,
        chunk: u32,
        begin: &mut Begin<'_>,
        find: &mut Find<'_>,
    ) -> Result<Self, OfflineError> {
        let mut devices = Devices::new(save, chunk);
        let mut delta = 0;
        loop {
            let core = begin(delta, devices.save()).map_err(why)?;
            let mut this =
                Self { core, devices, missing: Vec::new(), cookie: 0, finished: VecDeque::new() };
            this.run(|core| core.opened().is_some());
            match this.core.opened() {
                Some(Ok(())) => {
                    this.begin_work(find);
                    return Ok(this);
                }
                Some(Err(NotOpened::Delta(need))) if need > delta => delta = need,
                Some(Err(e)) => return Err(why(e)),
                None => return Err(OfflineError::Open("opening it came to no end".to_owned())),
            }
            devices = this.devices;
        }
    }

    /// Brings the productions online that are there, and lets work begin.
    fn begin_work(&mut self, find: &mut Find<'_>) {
        for production in self.core.productions() {
            if let Err(why) = self.bring_online(&production, find) {
                self.missing.push((production.name, why));
            }
        }
        self.core.start();
        // Whoever could make room is kept out by this very command.
        self.core.wait_no_more();
        self.core.tick(now_ns());
        self.drain();
    }

    fn bring_online(&mut self, production: &Production, find: &mut Find<'_>) -> Result<(), String> {
        let (volume, trust) = find(production)?;
        let print = fingerprint::of(&volume).map_err(|e| e.to_string())?;
        let device = volume.device();
        let online = self.core.online(production.dev, device, print, trust);
        online.map_err(|refusal| not_online(refusal, volume.path()))?;
        self.devices.volumes.insert(production.dev.0, volume);
        Ok(())
    }

    /// Productions that are offline, and why.
    #[must_use]
    pub fn missing(&self) -> &[(String, String)] {
        &self.missing
    }

    /// The core itself.
    pub fn core(&mut self) -> &mut dyn Engine {
        self.core.as_mut()
    }

    /// Gives the core the device of a production that was added.
    pub fn add_volume(&mut self, dev: Dev, volume: Volume) {
        self.devices.volumes.insert(dev.0, volume);
    }

    /// Lets go of the device of a production that was removed.
    pub fn drop_volume(&mut self, dev: Dev) {
        self.devices.volumes.remove(&dev.0);
    }

    /// A device number that is free.
    #[must_use]
    pub fn free_dev(&self) -> Option<Dev> {
        let known: Vec<u16> = self.core.productions().iter().map(|p| p.dev.0).collect();
        (1..u16::MAX).find(|n| !known.contains(n) && !self.devices.volumes.contains_key(n)).map(Dev)
    }

    /// Carries out a command; gives the reply's bytes.
    pub fn command(&mut self, bytes: &[u8]) -> Result<Vec<u8>, OfflineError> {
        let cookie = self.next_cookie();
        self.hand_in(|core| core.command(cookie, bytes))?;
        self.wait_for(cookie)?;
        Ok(self.core.reply(cookie))
    }

    /// Opens a volume for I/O.
    pub fn attach(&mut self, name: &[u8], write: bool) -> Result<Opened, OfflineError> {
        let opened = self.core.attach(name, write).map_err(OfflineError::Refused)?;
        self.drain();
        Ok(opened)
    }

    /// Closes it.
    pub fn detach(&mut self, opened: Opened) {
        self.core.detach(opened.handle);
        self.drain();
    }

    /// Reads a whole number of blocks.
    pub fn read(&mut self, from: Opened, bytes: &mut [u8], at: u64) -> Result<(), OfflineError> {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let place = at.saturating_add(done as u64);
            let len = rest.len().min(self.to_word_end(place));
            self.devices.client.clear();
            self.devices.client.resize(len, 0);
            self.request(from, Op::Read, place, len)?;
            rest.iter_mut().zip(&self.devices.client).for_each(|(to, from)| *to = *from);
            done += len;
        }
        Ok(())
    }

    /// Writes a whole number of blocks.
    pub fn write(&mut self, to: Opened, bytes: &[u8], at: u64) -> Result<(), OfflineError> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let place = at.saturating_add(done as u64);
            let len = rest.len().min(self.to_word_end(place));
            self.devices.client = rest.get(..len).unwrap_or_default().to_vec();
            self.request(to, Op::Write { fua: false }, place, len)?;
            done += len;
        }
        Ok(())
    }

    /// Makes durable what was written to the volume.
    pub fn flush(&mut self, volume: Opened) -> Result<(), OfflineError> {
        self.request(volume, Op::Flush, 0, 0)
    }

    /// Runs background work until `done` says so, which is asked whenever there is a pause.
    pub fn work<F>(&mut self, mut done: F) -> Result<(), OfflineError>
    where
        F: FnMut(&mut Self) -> Result<bool, OfflineError>,
    {
        loop {
            self.core.tick(now_ns());
            let worked = self.drain();
            if done(self)? {
                return Ok(());
            }
            if !worked {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Closes the pool in order.
    pub fn close(mut self) -> Result<(), OfflineError> {
        self.drain();
        for (dev, volume) in self.devices.volumes.iter().filter(|(dev, _)| **dev != Dev::SAVE.0) {
            volume.flush()?;
            self.core.set_fingerprint(Dev(*dev), fingerprint::of(volume)?);
        }
        self.core.close();
        self.run(|core| core.closed().is_some());
        self.core.closed().unwrap_or(Err(Fault::Io)).map_err(OfflineError::Fault)
    }

    fn next_cookie(&mut self) -> u64 {
        self.cookie += 1;
        self.cookie
    }

    /// Bytes from `at` to the end of its word, which no request may cross.
    fn to_word_end(&self, at: u64) -> usize {
        let word = self.devices.chunk as u64 * 64;
        usize::try_from(word - at % word.max(1)).unwrap_or(self.devices.chunk)
    }

    fn request(&mut self, volume: Opened, op: Op, at: u64, len: usize) -> Result<(), OfflineError> {
        let cookie = self.next_cookie();
        let len = u32::try_from(len).map_err(|_| OfflineError::Fault(Fault::Range))?;
        let request = Request { volume: volume.handle, op, at, len, cookie };
        self.hand_in(|core| core.submit(&request))?;
        self.wait_for(cookie)
    }

    /// Hands something in; if there is no room, once what is under way has ended.
    fn hand_in(
        &mut self,
        mut f: impl FnMut(&mut dyn Engine) -> Submit,
    ) -> Result<(), OfflineError> {
        for _ in 0..1000 {
            if f(self.core.as_mut()) == Submit::Queued {
                return Ok(());
            }
            if !self.drain() {
                self.core.tick(now_ns());
                std::thread::sleep(PAUSE);
            }
        }
        Err(OfflineError::Fault(Fault::NoMemory))
    }

    /// Carries out steps until the request or command has ended.
    fn wait_for(&mut self, cookie: u64) -> Result<(), OfflineError> {
        loop {
            let worked = self.drain();
            while let Some((ended, outcome)) = self.finished.pop_front() {
                if ended == cookie {
                    return outcome.map_err(OfflineError::Fault);
                }
            }
            if !worked {
                // What is left waits for time to pass: a rate, or the sweep's next turn.
                std::thread::sleep(PAUSE);
            }
            self.core.tick(now_ns());
        }
    }

    /// Carries out steps until there are none, or `end`.
    fn run(&mut self, end: impl Fn(&dyn Engine) -> bool) {
        let mut idle = 0;
        while !end(self.core.as_ref()) && idle < 500 {
            idle = if self.drain() { 0 } else { idle + 1 };
            if idle > 0 && !end(self.core.as_ref()) {
                std::thread::sleep(PAUSE);
                self.core.tick(now_ns());
            }
        }
    }

    /// Carries out all steps that there are; whether there were any.
    fn drain(&mut self) -> bool {
        let mut worked = self.core.is_behind();
        self.core.resume();
        while let Some((id, step)) = self.core.poll() {
            worked = true;
            tracing::trace!(?id, ?step, "step");
            self.carry_out(id, step);
        }
        worked
    }

    fn carry_out(&mut self, id: StepId, step: Step) {
        let mut pieces = Vec::new();
        self.core.segs(id, &mut |seg| pieces.push(Piece::of(seg)));
        let result = match step {
            Step::Read { dev, at, len } => {
                let read = self.devices.read(dev, at, size(len), &pieces);
                let (result, meta, sums) = match &read {
                    Ok((meta, sums)) => (Ok(()), meta.as_slice(), sums.as_slice()),
                    Err(fault) => (Err(*fault), &[][..], &[][..]),
                };
                self.core.complete(id, &Done { result, bytes: meta, sums });
                return;
            }
            Step::Write { dev, at, fua, .. } => self.devices.write(dev, at, fua, &pieces),
            Step::Zero { dev, at, len, fua } => self.devices.zero(dev, at, len, fua),
            Step::Clear { .. } => self.devices.clear(&pieces),
            Step::Flush { dev } => self.devices.on(dev, Volume::flush),
            Step::Grow { bytes } => self.devices.grow(bytes),
            Step::Discard { .. } => Ok(()),
            Step::Finish { cookie, outcome } => {
                self.finished.push_back((cookie, outcome));
                return;
            }
            Step::Reply { cookie } => {
                self.finished.push_back((cookie, Ok(())));
                return;
            }
            Step::Wake => return,
        };
        self.core.complete(id, &Done { result, bytes: &[], sums: &[] });
    }
}
