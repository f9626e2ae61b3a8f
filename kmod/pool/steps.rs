// SPDX-License-Identifier: GPL-2.0-only

//! The core's steps, carried out as bios on the lower devices.

use kernel::{
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    }, //
};
use rwsnap_core::{
    api::{
        Done,
        Seg,
        Step,
        StepId, //
    },
    fault::Fault,
    platform::Platform,
    units::Dev, //
};

use super::{
    bench::{
        Act,
        Bench,
        Run, //
    },
    Pool, //
};
use crate::{
    block::{
        bdev::Lower,
        step::{
            Builder,
            Kind, //
        }, //
    },
    mem::{
        Core,
        Kernel, //
    }, //
};

/// What became of a step that is to be started.
pub(super) enum Started {
    /// It is under way.
    Runs,
    /// It is done already, well or not.
    Done(Result<(), Fault>),
    /// There are no pages for its metadata now.
    Later,
}

impl Pool {
    /// Starts a step.
    pub(super) fn start(
        self: ArcBorrow<'_, Self>,
        bench: &mut Bench,
        core: &mut Core,
        id: StepId,
        step: Step,
    ) -> Started {
        let (act, dev, at, len) = match step {
            Step::Read { dev, at, len } => (Act::Read, dev, at, len.into()),
            Step::Write { dev, at, len, fua } => (Act::Write { fua }, dev, at, len.into()),
            Step::Flush { dev } => (Act::Flush, dev, 0, 0),
            Step::Zero { dev, at, len, fua } => (Act::Zero { fua }, dev, at, len),
            Step::Discard { dev, at, len } => (Act::Discard, dev, at, len),
            Step::Grow { bytes } => return Started::Done(grow(bench, bytes)),
            Step::Clear { .. } => {
                clear(bench, core, id);
                return Started::Done(Ok(()));
            }
            Step::Finish { .. } | Step::Reply { .. } | Step::Wake => return Started::Done(Ok(())),
        };
        let discards = |lower: &Lower| lower.discards();
        if act == Act::Discard && !bench.lower(dev).is_some_and(discards) {
            return Started::Done(Ok(()));
        }
        let mut run = Run {
            id,
            act,
            dev,
            at,
            len,
            ..Run::IDLE
        };
        if !take_bounce(bench, core, &mut run) {
            return Started::Later;
        }
        let Some(place) = bench.runs.get_mut(id.index as usize) else {
            return Started::Done(Err(rwsnap_core::bug!()));
        };
        *place = run;
        self.submit(bench, core, &run);
        Started::Runs
    }

    /// Submits the bios of a step that has its place among those under way.
    fn submit(self: ArcBorrow<'_, Self>, bench: &Bench, core: &Core, run: &Run) {
        let Some(lower) = bench.lower(run.dev) else {
            return self.fail_step(run.id.index);
        };
        let kind = match run.act {
            Act::Idle => return,
            Act::Read => Kind::Read,
            Act::Write { fua } => Kind::Write { fua },
            Act::Flush => Kind::Flush,
            // The block layer takes no such thing that is to be durable by itself.
            Act::Zero { fua: false } if lower.zeroes() => Kind::Zeroes,
            Act::Zero { fua } | Act::Zeros { fua } => Kind::Write { fua },
            Act::Discard => Kind::Discard,
        };
        let mut builder = Builder::new(self, lower, run.id.index, kind, (run.at, run.len));
        match kind {
            Kind::Flush => builder.flush(),
            Kind::Discard | Kind::Zeroes => builder.range(run.len),
            Kind::Read | Kind::Write { .. } if run.has_data() => {
                let mut used = 0;
                core.segs(run.id, &mut |seg| {
                    add(&mut builder, bench, run, &mut used, seg)
                });
            }
            Kind::Read | Kind::Write { .. } => builder.zeros(run.len),
        }
        builder.finish(run.at.wrapping_add(run.len));
    }

    /// Tells the core of a step that has ended.
    pub(super) fn report(
        self: ArcBorrow<'_, Self>,
        bench: &mut Bench,
        core: &mut Core,
        index: u32,
        error: Option<Error>,
    ) {
        let Some(run) = bench.runs.get(index as usize).copied() else {
            return;
        };
        if let (Act::Zero { fua }, Some(EOPNOTSUPP)) = (run.act, error) {
            // The device cannot make zeros after all: they are written.
            let act = Act::Zeros { fua };
            let run = Run { act, ..run };
            if let Some(place) = bench.runs.get_mut(index as usize) {
                *place = run;
            }
            return self.submit(bench, core, &run);
        }
        if let Some(place) = bench.runs.get_mut(index as usize) {
            *place = Run::IDLE;
        }
        match error {
            Some(error) if run.act != Act::Discard => {
                let fault = if error == ENOSPC {
                    Fault::NoSpace
                } else {
                    Fault::Io
                };
                core.complete(run.id, &Done::failed(fault));
            }
            _ => succeed(bench, core, &run),
        }
        bench.bounce.give(run.bounce);
    }
}

/// A block device does not grow by itself; somebody may have made it larger.
fn grow(bench: &Bench, bytes: u64) -> Result<(), Fault> {
    let save = bench.lower(Dev::SAVE).ok_or(Fault::Io)?;
    if bytes <= save.device().size {
        Ok(())
    } else {
        Err(Fault::NoSpace)
    }
}

/// Adds a segment's memory to a step's bios.
fn add(builder: &mut Builder<'_>, bench: &Bench, run: &Run, used: &mut usize, seg: Seg<'_>) {
    match seg {
        Seg::Client { cookie, at, len } => {
            if let Some(cursor) = bench.client(cookie, at, len) {
                builder.client(cursor);
            }
        }
        Seg::Copy { unit, at, len } => {
            builder.memory(&bench.units, bench.unit(unit, at), len);
        }
        Seg::Bytes(bytes) => {
            let at = run.bounce.at().saturating_add(*used);
            builder.memory(bench.bounce.memory(), at, bytes.len() as u32);
            *used = used.saturating_add(bytes.len());
        }
        Seg::Meta { len } => {
            let at = run.bounce.at().saturating_add(*used);
            builder.memory(bench.bounce.memory(), at, len);
            *used = used.saturating_add(len as usize);
        }
        Seg::Zeros { len } => builder.zeros(len.into()),
    }
}

/// Takes pages for a step's metadata, and copies what is to be written; false if there are none.
fn take_bounce(bench: &mut Bench, core: &Core, run: &mut Run) -> bool {
    let (mut bytes, mut meta) = (0_usize, 0_usize);
    if core.is_data(run.id) {
        return true;
    }
    if run.has_data() {
        core.segs(run.id, &mut |seg| match seg {
            Seg::Bytes(data) => bytes = bytes.saturating_add(data.len()),
            Seg::Meta { len } => meta = meta.saturating_add(len as usize),
            _ => {}
        });
    }
    let Some(span) = bench.bounce.take(bytes.saturating_add(meta)) else {
        return false;
    };
    run.bounce = span;
    run.meta = meta;
    if bytes > 0 {
        let mut at = span.at();
        core.segs(run.id, &mut |seg| {
            if let Seg::Bytes(data) = seg {
                bench.bounce.memory().write(at, data);
                at = at.saturating_add(data.len());
            }
        });
    }
    true
}

/// A step has ended well.
fn succeed(bench: &mut Bench, core: &mut Core, run: &Run) {
    if run.act == Act::Read {
        bench.sum(core, run.id);
        let (at, sums) = (run.bounce.at(), &bench.sums);
        let read = bench.bounce.memory().read(at, run.meta, |bytes| {
            core.complete(
                run.id,
                &Done {
                    result: Ok(()),
                    bytes,
                    sums,
                },
            );
        });
        if read.is_some() {
            return;
        }
    }
    core.complete(run.id, &Done::ok());
}

fn clear(bench: &Bench, core: &Core, id: StepId) {
    core.segs(id, &mut |seg| {
        if let Seg::Client { cookie, at, len } = seg {
            for piece in bench.client(cookie, at, len).into_iter().flatten() {
                piece.zero();
            }
        }
    });
}

impl Bench {
    /// First byte of a part of a copy unit.
    fn unit(&self, unit: u32, at: u32) -> usize {
        let first = (unit as usize).saturating_mul(self.chunk as usize);
        first.saturating_add(at as usize)
    }

    /// Checksums of the units that a step has read; what is behind the bytes read is zeroed.
    fn sum(&mut self, core: &Core, id: StepId) {
        self.sums.clear();
        let chunk = self.chunk as usize;
        let (units, sums) = (&self.units, &mut self.sums);
        core.segs(id, &mut |seg| {
            let Seg::Copy { unit, at, len } = seg else {
                return;
            };
            let first = (unit as usize).saturating_mul(chunk);
            let end = (at as usize).saturating_add(len as usize);
            units.zero(first.saturating_add(end), chunk.saturating_sub(end));
            let sum = units.read(first, chunk, |bytes| Kernel.hash(0, bytes));
            let _ = sums.push_within_capacity(sum.unwrap_or(0));
        });
    }
}

/// The save volume's device, for those who look.
pub(super) fn save(pool: &Pool) -> Option<Arc<Lower>> {
    pool.lower(usize::from(Dev::SAVE.0))
}
