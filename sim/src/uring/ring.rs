// SPDX-License-Identifier: MIT

//! One io_uring instance: its setup with the features that the kernel has, submission and
//! completions. What operations there are is in `ops`.
//!
//! # Invariants
//!
//! - Every entry pushed comes from `ops`, whose pointers all lie in the arena.
//! - A ring is used by the thread that made it (`IORING_SETUP_SINGLE_ISSUER`); it is not `Send`.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{cqueue, opcode, squeue::Entry, IoUring, Probe};

use super::arena::{Arena, Span};
use super::poll::Poll;

/// How a ring is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Entries of the submission queue.
    pub entries: u32,
    /// Places in the table of registered files.
    pub files: u32,
    /// Register the arena's fixed part.
    pub fixed_buffers: bool,
    /// How long it may look for completions before it sleeps; zero: not at all.
    pub poll: Duration,
}

/// What the kernel gave us, for the log and for choices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// Completions are handled when we ask for them, not by interrupting us.
    pub deferred: bool,
    /// The arena's fixed part is registered.
    pub fixed_buffers: bool,
    /// Files can be registered.
    pub fixed_files: bool,
    /// Vectored I/O on registered buffers.
    pub fixed_vectors: bool,
    /// Rings can wake one another.
    pub messages: bool,
    /// One accept serves all connections to come.
    pub multishot_accept: bool,
}

/// A file as operations name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum File {
    /// A descriptor of the process.
    Fd(RawFd),
    /// A place in the ring's table.
    Slot(u32),
}

/// The end of an operation, or one result of many.
#[derive(Debug)]
pub struct Completion {
    /// As given with the operation; below 2^63.
    pub token: u64,
    /// A count of bytes, a descriptor, or the negative errno.
    pub result: i32,
    /// More results will come under this token.
    pub more: bool,
    /// The socket that an accept gave.
    pub socket: Option<OwnedFd>,
}

/// Set in the token of an accept while it is in flight.
pub(super) const ACCEPT: u64 = 1 << 63;

/// Makes the completion of an entry.
fn completion(entry: &cqueue::Entry) -> Completion {
    let result = entry.result();
    let accepted = entry.user_data() & ACCEPT != 0 && result >= 0;
    // SAFETY: the mark says that this was an accept; it hands over a descriptor that nobody else
    // owns, and each entry is seen once.
    let socket = accepted.then(|| unsafe { OwnedFd::from_raw_fd(result) });
    let token = entry.user_data() & !ACCEPT;
    Completion { token, result, more: cqueue::more(entry.flags()), socket }
}

impl Completion {
    /// The result as a count, or the error.
    pub fn count(&self) -> io::Result<u32> {
        u32::try_from(self.result)
            .map_err(|_| io::Error::from_raw_os_error(self.result.saturating_neg()))
    }
}

/// A ring.
pub struct Ring {
    io: IoUring,
    pub(super) arena: Arc<Arena>,
    features: Features,
    /// Entries that found no room in the queue; bounded by the operations in flight.
    backlog: VecDeque<Entry>,
    free_slots: Vec<u32>,
    poll: Poll,
    /// A duration in the arena that each flush waits before it begins.
    pub(super) flush_delay: Option<Span>,
    _own_thread: PhantomData<*const ()>,
}

impl Ring {
    /// Makes a ring with what the kernel can do.
    pub fn new(setup: &Setup, arena: Arc<Arena>) -> io::Result<Self> {
        let (io, deferred) = build(setup.entries)?;
        let mut probe = Probe::new();
        io.submitter().register_probe(&mut probe)?;
        let has = |code| probe.is_supported(code);
        let fixed_buffers = setup.fixed_buffers && register_arena(&io, &arena);
        let fixed_files = register_files(&io, setup.files);
        let features = Features {
            deferred,
            fixed_buffers,
            fixed_files,
            fixed_vectors: fixed_buffers
                && has(opcode::ReadvFixed::CODE)
                && has(opcode::WritevFixed::CODE),
            messages: has(opcode::MsgRingData::CODE),
            // It came with Linux 5.19, as did this operation.
            multishot_accept: has(opcode::Socket::CODE),
        };
        let free_slots = if fixed_files { (0..setup.files).rev().collect() } else { Vec::new() };
        let (backlog, flush_delay) = (VecDeque::new(), None);
        let (poll, _own_thread) = (Poll::new(setup.poll), PhantomData);
        Ok(Self { io, arena, features, backlog, free_slots, poll, flush_delay, _own_thread })
    }

    /// What the kernel gave us.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.features
    }

    /// From now on each flush takes longer by `time`, which `area` (16 bytes) holds for good: how a
    /// slower disk is measured.
    pub fn delay_flushes(&mut self, time: Duration, area: Span) {
        self.arena.put_time(area, time);
        self.flush_delay = Some(area);
    }

    /// The descriptor of the ring, for messages from other rings.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.io.as_raw_fd()
    }

    /// Puts a file into the ring's table; if that cannot be, its descriptor will do.
    ///
    /// The caller keeps the descriptor open until [`Ring::forget`].
    pub fn adopt(&mut self, fd: RawFd) -> File {
        let Some(slot) = self.free_slots.pop() else { return File::Fd(fd) };
        match self.io.submitter().register_files_update(slot, &[fd]) {
            Ok(_) => File::Slot(slot),
            Err(_) => {
                self.free_slots.push(slot);
                File::Fd(fd)
            }
        }
    }

    /// Takes a file out of the table.
    pub fn forget(&mut self, file: File) {
        if let File::Slot(slot) = file {
            // A place that cannot be cleared holds a file open until the ring goes; it is lost.
            if self.io.submitter().register_files_update(slot, &[-1]).is_ok() {
                self.free_slots.push(slot);
            }
        }
    }

    /// Queues an entry.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.backlog.is_empty() && self.try_push(&entry) {
            return;
        }
        self.backlog.push_back(entry);
        // An error shows again, and is handled, when the turn ends.
        let _ = self.io.submit();
        self.drain_backlog();
    }

    fn try_push(&mut self, entry: &Entry) -> bool {
        // SAFETY: the entry comes from `ops` (type invariant): what its pointers name lies in
        // the arena, which is never unmapped.
        unsafe { self.io.submission().push(entry).is_ok() }
    }

    fn drain_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }

    /// Submits what is queued and waits for `want` completions, for `patience` at most.
    ///
    /// With patience and `want` above one, the first completion is enough once it has passed.
    pub fn turn(&mut self, want: usize, patience: Option<Duration>) -> io::Result<()> {
        let want = if self.backlog.is_empty() { want } else { 0 };
        let result = match patience {
            None if want == 0 => self.io.submit_and_wait(0),
            None => self.wait(want),
            Some(time) => {
                let time = Timespec::from(time);
                self.io.submitter().submit_with_args(want, &SubmitArgs::new().timespec(&time))
            }
        };
        self.drain_backlog();
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Time is up; a signal; the completion queue wants to be emptied first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Waits without end; looks for a while before it sleeps.
    fn wait(&mut self, want: usize) -> io::Result<usize> {
        let begun = Instant::now();
        let window = self.poll.window();
        let mut result = Ok(0);
        let mut there = false;
        if !window.is_zero() {
            result = self.io.submit();
            while result.is_ok() && !there && begun.elapsed() < window {
                // What the kernel has to do in our thread it does when we enter it to wait.
                if self.io.submission().taskrun() {
                    break;
                }
                there = self.io.completion().len() >= want;
                std::hint::spin_loop();
            }
        }
        if result.is_ok() && !there {
            result = self.io.submit_and_wait(want);
        }
        self.poll.waited(begun.elapsed());
        result
    }

    /// Moves the completions that are there to the end of `into`.
    pub fn reap(&mut self, into: &mut Vec<Completion>) {
        into.extend(self.io.completion().map(|entry| completion(&entry)));
    }
}

/// The best ring that the kernel will make, and whether its completions are deferred.
fn build(entries: u32) -> io::Result<(IoUring, bool)> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(entries.saturating_mul(4)).setup_submit_all().dontfork();
    let mut best = builder.clone();
    best.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    if let Ok(ring) = best.build(entries) {
        return Ok((ring, true));
    }
    let mut second = builder.clone();
    second.setup_coop_taskrun().setup_taskrun_flag();
    if let Ok(ring) = second.build(entries) {
        tracing::info!("io_uring: no deferred completions here (Linux 6.1 has them)");
        return Ok((ring, false));
    }
    tracing::info!("io_uring: an old kernel; it will interrupt us for each completion");
    IoUring::builder()
        .setup_cqsize(entries.saturating_mul(4))
        .build(entries)
        .map_err(explain)
        .map(|ring| (ring, false))
}

fn explain(error: io::Error) -> io::Error {
    let way_out = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "it is forbidden here: see /proc/sys/kernel/io_uring_disabled, or the container's \
             seccomp profile"
        }
        Some(libc::ENOSYS) => "this kernel has none: Linux 5.11 or later is needed",
        Some(libc::ENOMEM) => "no locked memory left: raise `ulimit -l`",
        Some(libc::EMFILE | libc::ENFILE) => "no descriptor left: raise `ulimit -n`",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("cannot set up io_uring: {way_out} ({error})"))
}

/// Registers the arena's fixed part as buffer 0.
fn register_arena(io: &IoUring, arena: &Arena) -> bool {
    let span = arena.fixed();
    let len = usize::try_from(span.len()).unwrap_or(0);
    let vector = libc::iovec { iov_base: arena.address(span).cast(), iov_len: len };
    // SAFETY: the arena is never unmapped.
    match unsafe { io.submitter().register_buffers(&[vector]) } {
        Ok(()) => true,
        Err(error) => {
            tracing::info!(
                "io_uring: {} MiB of buffers not registered, a little slower: {error} \
                 (raise `ulimit -l`)",
                span.len() >> 20
            );
            false
        }
    }
}

fn register_files(io: &IoUring, count: u32) -> bool {
    let sparse = io.submitter().register_files_sparse(count).or_else(|_| {
        let none = vec![-1; usize::try_from(count).unwrap_or(0)];
        io.submitter().register_files(&none)
    });
    sparse.map_err(|error| tracing::info!("io_uring: no registered files: {error}")).is_ok()
}
