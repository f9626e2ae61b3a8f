// SPDX-License-Identifier: MIT

//! The core's steps, carried out on a reactor's ring.
//!
//! A step is *prepared* while the core is locked: its memory is named, metadata to be written is
//! copied to a bounce buffer. It is started once the lock is released, and reported with the next
//! lock. A step for which there is no bounce buffer waits; those that have one end by themselves.

use std::io;

use rwsnap_core::api::{Seg, Step, StepId};
use rwsnap_core::fault::Fault;
use rwsnap_core::platform::Platform;
use rwsnap_core::units::Dev;

use crate::platform::Host;
use crate::store::engine::Engine;
use crate::store::Kind;
use crate::uring::{Hollow, Span};

use super::cookie::Cookie;
use super::pool::{disk_of, Pool};
use super::reactor::Reactor;
use super::token::Token;

/// Bytes of an io vector's entry.
const ENTRY: usize = 16;

/// What a step's operation is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Act {
    Read,
    Write {
        durable: bool,
    },
    Flush,
    /// Zeros without giving up space; then, if there is no such operation, written ones.
    Zero {
        durable: bool,
    },
    Zeros {
        durable: bool,
    },
    Discard,
    /// More space for the save volume.
    Grow,
}

/// A step under way.
#[derive(Debug)]
pub(crate) struct Run {
    id: StepId,
    act: Act,
    dev: Dev,
    at: u64,
    len: u64,
    /// Bytes done, of zeros that are written.
    done: u64,
    spans: Vec<Span>,
    /// Metadata on its way, and the io vector.
    bounce: Span,
    vector: Span,
    /// Bytes of `bounce` that are read for the core.
    meta: u32,
    /// Parts of copy units that are read.
    copies: Vec<(u32, Span)>,
    /// For the core, once it has ended.
    pub(super) sums: Vec<u64>,
    pub(super) result: Result<(), Fault>,
}

impl Run {
    fn new(id: StepId, act: Act, dev: Dev, at: u64, len: u64) -> Self {
        Self {
            id,
            act,
            dev,
            at,
            len,
            done: 0,
            spans: Vec::new(),
            bounce: Span::default(),
            vector: Span::default(),
            meta: 0,
            copies: Vec::new(),
            sums: Vec::new(),
            result: Ok(()),
        }
    }

    /// Which step it is.
    pub(super) fn id(&self) -> StepId {
        self.id
    }

    /// Where what was read for the core lies.
    pub(super) fn found(&self) -> Span {
        self.bounce.cut(0, self.meta)
    }

    /// Whether it changes a production.
    pub(super) fn changes_production(&self) -> bool {
        self.dev != Dev::SAVE && !matches!(self.act, Act::Read | Act::Flush)
    }

    /// Adds a span, to the last one if it goes on where that ends.
    fn add(&mut self, span: Span) {
        match self.spans.last_mut() {
            Some(last) if last.at() + last.len() == span.at() => *last = last.joined(span),
            _ => self.spans.push(span),
        }
    }
}

/// What a step's segments need.
#[derive(Default)]
struct Needs {
    bytes: u32,
    count: usize,
}

/// What preparing a step came to.
pub(super) enum Prepared {
    /// It can be started.
    Run(Run),
    /// It is done already, well or not.
    Done(Result<(), Fault>),
    /// There is no bounce buffer.
    Later,
}

impl Reactor {
    /// Prepares a step, while the core is locked.
    pub(super) fn prepare(
        &mut self,
        pool: &Pool,
        core: &dyn Engine,
        id: StepId,
        step: Step,
    ) -> Prepared {
        let run = match step {
            Step::Read { dev, at, len } => Run::new(id, Act::Read, dev, at, len.into()),
            Step::Write { dev, at, len, fua } => {
                Run::new(id, Act::Write { durable: fua }, dev, at, len.into())
            }
            Step::Flush { dev } => return Prepared::Run(Run::new(id, Act::Flush, dev, 0, 0)),
            Step::Zero { dev, at, len, fua } => {
                return Prepared::Run(Run::new(id, Act::Zero { durable: fua }, dev, at, len));
            }
            Step::Discard { dev, at, len } => return self.prepare_discard(id, (dev, at, len)),
            Step::Grow { bytes } => return self.prepare_grow(id, bytes),
            Step::Clear { .. } => {
                self.clear(core, id);
                return Prepared::Done(Ok(()));
            }
            Step::Finish { .. } | Step::Reply { .. } | Step::Wake => return Prepared::Done(Ok(())),
        };
        self.prepare_segments(pool, core, run)
    }

    /// The save file keeps its space: what was discarded will be written again, and without a
    /// journal of the file system under it.
    fn prepare_discard(&self, id: StepId, (dev, at, len): (Dev, u64, u64)) -> Prepared {
        let disk = self.shared.disks.get(disk_of(dev));
        let is_file = disk.is_none_or(|disk| disk.kind() == Kind::File);
        if dev == Dev::SAVE && is_file {
            return Prepared::Done(Ok(()));
        }
        Prepared::Run(Run::new(id, Act::Discard, dev, at, len))
    }

    fn prepare_grow(&self, id: StepId, bytes: u64) -> Prepared {
        let Some(save) = self.shared.disks.get(0) else { return Prepared::Done(Err(Fault::Io)) };
        let now = save.file().metadata().map_or(0, |meta| meta.len());
        match save.kind() {
            Kind::Block if bytes <= save.device().size => Prepared::Done(Ok(())),
            Kind::Block => Prepared::Done(Err(Fault::NoSpace)),
            Kind::File if bytes <= now => Prepared::Done(Ok(())),
            Kind::File => Prepared::Run(Run::new(id, Act::Grow, Dev::SAVE, now, bytes - now)),
        }
    }

    fn clear(&self, core: &dyn Engine, id: StepId) {
        core.segs(id, &mut |seg| {
            if let Seg::Client { cookie, at, len } = seg {
                self.arena.zero(Cookie::unpack(cookie).bytes(&self.arena, at, len));
            }
        });
    }

    /// Names the memory of a read or write.
    fn prepare_segments(&mut self, pool: &Pool, core: &dyn Engine, mut run: Run) -> Prepared {
        let mut needs = Needs::default();
        core.segs(run.id, &mut |seg| needs.add(seg, self.zeros.len()));
        let Some((bounce, vector)) = self.take_bounce(&needs) else { return Prepared::Later };
        run.bounce = bounce;
        run.vector = vector;
        let mut used = 0;
        core.segs(run.id, &mut |seg| match seg {
            Seg::Client { cookie, at, len } => {
                run.add(Cookie::unpack(cookie).bytes(&self.arena, at, len));
            }
            Seg::Copy { unit, at, len } => {
                let span = pool.unit(unit).cut(at, len);
                run.add(span);
                if run.act == Act::Read {
                    run.copies.push((unit, span));
                }
            }
            Seg::Bytes(bytes) => {
                let span = bounce.from(used);
                let len = self.arena.write(span, bytes);
                run.add(span.cut(0, len));
                used += len;
            }
            Seg::Meta { len } => {
                run.add(bounce.cut(used, len));
                run.meta += len;
                used += len;
            }
            Seg::Zeros { len } => {
                let mut left = len;
                while left > 0 {
                    let piece = self.zeros.cut(0, left);
                    run.spans.push(piece);
                    left -= piece.len();
                }
            }
        });
        let all = run.spans.iter().fold(0, |sum, span| sum + u64::from(span.len()));
        if all != run.len {
            tracing::error!(all, want = run.len, act = ?run.act, "a step's memory");
            self.give_bounce(&run);
            return Prepared::Done(Err(rwsnap_core::bug!()));
        }
        Prepared::Run(run)
    }

    fn take_bounce(&mut self, needs: &Needs) -> Option<(Span, Span)> {
        let none = Span::default();
        let bounce = if needs.bytes > 0 { self.bounce.take(needs.bytes)? } else { none };
        if needs.count < 2 {
            return Some((bounce, none));
        }
        let bytes = u32::try_from(needs.count * ENTRY).unwrap_or(u32::MAX);
        let vector = self.bounce.take(bytes);
        if vector.is_none() && !bounce.is_empty() {
            self.bounce.give(bounce);
        }
        Some((bounce, vector?))
    }

    pub(super) fn give_bounce(&mut self, run: &Run) {
        for span in [run.bounce, run.vector] {
            if !span.is_empty() {
                self.bounce.give(span);
            }
        }
    }

    /// Starts a prepared step, or the next operation of one.
    pub(super) fn carry_out(&mut self, number: u32) {
        let Some(run) = self.runs.get(number) else { return };
        let (act, dev, at, len) = (run.act, run.dev, run.at, run.len);
        let Some(file) = self.disk(disk_of(dev)) else {
            return self.step_over(number, Err(Fault::Io));
        };
        let Some(run) = self.runs.get(number) else { return };
        let token = Token::Step(number).pack();
        match (act, run.spans.as_slice()) {
            (Act::Read, &[span]) => self.ring.read(file, at, span, token),
            (Act::Read, spans) => self.ring.read_vector(file, at, spans, run.vector, token),
            (Act::Write { durable }, &[span]) => self.ring.write(file, at, span, durable, token),
            (Act::Write { durable }, spans) => {
                self.ring.write_vector((file, at), spans, run.vector, durable, token);
            }
            (Act::Flush, _) => self.ring.flush(file, token),
            (Act::Zero { .. }, _) => self.ring.hollow(file, Hollow::Zero, (at, len), token),
            (Act::Zeros { .. }, _) => {
                let left = u32::try_from(len - run.done).unwrap_or(u32::MAX);
                self.ring.write(file, at + run.done, self.zeros.cut(0, left), false, token);
            }
            (Act::Discard, _) => self.ring.hollow(file, Hollow::Punch, (at, len), token),
            (Act::Grow, _) => self.ring.allocate(file, (at, len), token),
        }
    }

    /// An operation of a step has ended.
    pub(super) fn step_ended(&mut self, number: u32, result: io::Result<u32>) {
        let Some(run) = self.runs.get_mut(number) else { return };
        match result {
            Ok(count) => match run.advance(count) {
                Some(result) => self.step_over(number, result),
                None => self.carry_out(number),
            },
            Err(error) => self.step_failed(number, &error),
        }
    }

    fn step_failed(&mut self, number: u32, error: &io::Error) {
        let Some(run) = self.runs.get_mut(number) else { return };
        match (run.act, error.raw_os_error()) {
            (_, Some(libc::EINTR | libc::EAGAIN)) => return self.carry_out(number),
            (Act::Discard, _) => return self.step_over(number, Ok(())),
            (Act::Grow, Some(libc::EOPNOTSUPP | libc::ENOSYS)) => return self.lengthen(number),
            (Act::Zero { durable }, Some(libc::EOPNOTSUPP | libc::EINVAL)) => {
                run.act = Act::Zeros { durable };
                return self.carry_out(number);
            }
            _ => {}
        }
        let disk = self.shared.disks.get(disk_of(run.dev));
        let disk = disk.as_ref().map_or("?".into(), |disk| disk.path().to_string_lossy());
        tracing::error!(%disk, act = ?run.act, at = run.at, len = run.len, %error, "I/O");
        let full = run.act == Act::Grow || error.raw_os_error() == Some(libc::ENOSPC);
        self.step_over(number, Err(if full { Fault::NoSpace } else { Fault::Io }));
    }

    /// The file system cannot allocate: the file gets its length, and its space as it is written.
    fn lengthen(&mut self, number: u32) {
        let Some(run) = self.runs.get_mut(number) else { return };
        let save = self.shared.disks.get(0);
        match save.map(|save| save.file().set_len(run.at + run.len)) {
            Some(Ok(())) => {
                run.act = Act::Flush;
                self.carry_out(number);
            }
            _ => self.step_over(number, Err(Fault::NoSpace)),
        }
    }

    /// A step is over; the core hears of it at the end of the turn.
    fn step_over(&mut self, number: u32, result: Result<(), Fault>) {
        let Some(run) = self.runs.get_mut(number) else { return };
        run.result = result;
        if result.is_ok() {
            if let Some(pool) = &self.shared.pool {
                for &(unit, span) in &run.copies {
                    run.sums.push(sum(&self.arena, pool.unit(unit), span, &mut self.scratch));
                }
            }
        }
        self.ended.push(number);
    }
}

impl Needs {
    fn add(&mut self, seg: Seg<'_>, zeros: u32) {
        match seg {
            Seg::Client { .. } | Seg::Copy { .. } => self.count += 1,
            Seg::Bytes(bytes) => {
                self.bytes += u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                self.count += 1;
            }
            Seg::Meta { len } => {
                self.bytes += len;
                self.count += 1;
            }
            Seg::Zeros { len } => {
                self.count += usize::try_from(len.div_ceil(zeros.max(1))).unwrap_or(0);
            }
        }
    }
}

impl Run {
    /// What the end of an operation means; `None` if another one follows.
    fn advance(&mut self, count: u32) -> Option<Result<(), Fault>> {
        match self.act {
            Act::Read | Act::Write { .. } if u64::from(count) < self.len => self.rest(count),
            Act::Zero { durable: true } => self.then(Act::Flush),
            Act::Grow => self.then(Act::Flush),
            Act::Zeros { durable } => {
                self.done = self.done.saturating_add(u64::from(count));
                match (count, durable) {
                    (0, _) => Some(Err(Fault::Io)),
                    _ if self.done < self.len => None,
                    (_, true) => self.then(Act::Flush),
                    (_, false) => Some(Ok(())),
                }
            }
            _ => Some(Ok(())),
        }
    }

    /// Only a part of it was done, as may be with a file; what is left follows. Nothing done is the
    /// end of the file.
    fn rest(&mut self, count: u32) -> Option<Result<(), Fault>> {
        if count == 0 {
            return Some(Err(Fault::Io));
        }
        self.at += u64::from(count);
        self.len -= u64::from(count);
        let mut done = count;
        self.spans.retain_mut(|span| {
            let here = done.min(span.len());
            done -= here;
            *span = span.from(here);
            !span.is_empty()
        });
        None
    }

    fn then(&mut self, act: Act) -> Option<Result<(), Fault>> {
        self.act = act;
        None
    }
}

/// The checksum of a copy unit of which `span` was read: zeros behind it.
fn sum(arena: &crate::uring::Arena, unit: Span, span: Span, scratch: &mut Vec<u8>) -> u64 {
    let end = (span.at() + span.len()).saturating_sub(unit.at());
    let behind = unit.from(end);
    if !behind.is_empty() {
        arena.zero(behind);
    }
    scratch.resize(usize::try_from(unit.len()).unwrap_or(0), 0);
    Host.hash(0, arena.read(unit, scratch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uring::Arena;

    /// A write that was done in part goes on with what is left of its spans.
    #[test]
    fn a_short_write_goes_on_with_the_rest() {
        let whole = Arena::new(1 << 16, 0).unwrap().whole();
        let spans = vec![whole.cut(0, 4096), whole.cut(8192, 8192), whole.cut(32768, 512)];
        let id = StepId { index: 0, generation: 0 };
        let write = Act::Write { durable: true };
        let mut run = Run { spans, ..Run::new(id, write, Dev::SAVE, 512, 12800) };
        assert_eq!(run.advance(1024), None);
        assert_eq!((run.at, run.len, run.spans[0].at(), run.spans.len()), (1536, 11776, 1024, 3));
        assert_eq!(run.advance(3072), None);
        assert_eq!((run.at, run.len, run.spans[0]), (4608, 8704, whole.cut(8192, 8192)));
        assert_eq!(run.advance(8200), None);
        assert_eq!((run.at, run.len, &run.spans[..]), (12808, 504, &[whole.cut(32776, 504)][..]));
        assert_eq!(run.advance(504), Some(Ok(())));
        // Nothing more is to be had: that is no progress.
        let mut run = Run::new(id, Act::Read, Dev::SAVE, 0, 4096);
        assert_eq!(run.advance(0), Some(Err(Fault::Io)));
    }
}
