// SPDX-License-Identifier: MIT

//! 4k random reads and writes over NBD at depth 32: the disk itself, QEMU's server, the
//! passthrough, production without a snapshot, and production whose chunks are all copied.
//!
//! All of them work on one and the same image, one after the other, and each overwrites it from its
//! first byte to its last before it is measured: of several images, those that the machine below
//! happens to have in its memory would win.

use std::path::PathBuf;

use crate::cli::error::Outcome;

use super::contender::Contender;
use super::load::{Kind, Load, Whom};
use super::pool::{Files, How, USUAL};
use super::report::{Series, Target};
use super::Bench;

/// A pool whose production others write to between.
const SHARED: How = How { trust: true, ..USUAL };

/// All who are measured.
struct Ring {
    disk: Series,
    qemu: Series,
    passthrough: Series,
    idle: Series,
    copied: Series,
}

/// What they are measured with.
struct Track {
    image: PathBuf,
    idle: Files,
    copied: Files,
    load: Load,
    fill: Load,
}

impl Track {
    fn new(bench: &Bench, kind: Kind) -> Outcome<Self> {
        let size = bench.options.size;
        let image = bench.place.filled("prod.img", size)?;
        let (program, place) = (&bench.options.program, &bench.place);
        let idle = Files::create(program, place, "idle", &image, size / 4)?;
        let copied = Files::create(program, place, "copied", &image, size * 3 / 2)?;
        let load = Load::timed(kind, size, bench.options.seconds);
        let fill = Load { block: 1 << 20, depth: 4, ..Load::once(Kind::Fill, size, size, 1) };
        let track = Self { image, idle, copied, load, fill };
        let mut pool = track.copied.serve(USUAL)?;
        pool.snapshot("prod@old")?;
        track.fill.drive(&pool.whom("prod"))?;
        pool.quiet()?;
        pool.stop()?;
        Ok(track)
    }

    fn run(&self, whom: &Whom) -> Outcome<f64> {
        self.fill.drive(whom)?;
        Ok(self.load.drive(whom)?.iops)
    }

    fn served(&self, server: Contender) -> Outcome<f64> {
        let rate = self.run(&server.whom())?;
        server.stop()?;
        Ok(rate)
    }

    fn pooled(&self, files: &Files) -> Outcome<f64> {
        let pool = files.serve(SHARED)?;
        let rate = self.run(&pool.whom("prod"))?;
        pool.stop()?;
        Ok(rate)
    }
}

/// Measures reads or writes.
///
/// # Errors
///
/// A server does not start, or a load fails.
pub fn measure(bench: &mut Bench, kind: Kind) -> Outcome {
    let what = if kind == Kind::Read { "reads" } else { "writes" };
    bench.say(format!("{what}: making images"));
    let track = Track::new(bench, kind)?;
    let mut ring = Ring {
        disk: Series::new("the disk itself"),
        qemu: Series::new("qemu-storage-daemon"),
        passthrough: Series::new(format!("passthrough {what}")),
        idle: Series::new(format!("production {what}, no snapshot")),
        copied: Series::new(format!("production {what}, all copied")),
    };
    for round in 1..=bench.options.rounds {
        bench.say(format!("{what}: round {round}"));
        ring.disk.push(track.run(&Whom::File(track.image.clone()))?);
        if let Some(qemu) = Contender::qemu_raw(bench, &track.image)? {
            ring.qemu.push(track.served(qemu)?);
        }
        ring.passthrough.push(track.served(Contender::passthrough(bench, &track.image)?)?);
        ring.idle.push(track.pooled(&track.idle)?);
        ring.copied.push(track.pooled(&track.copied)?);
    }
    tell(bench, kind, &ring);
    Ok(())
}

fn tell(bench: &mut Bench, kind: Kind, ring: &Ring) {
    let report = &mut bench.report;
    let (beside_qemu, beside_disk) = match kind {
        Kind::Read => (1.5, Target::None),
        Kind::Write | Kind::Fill => (1.0, Target::AtLeast(0.85)),
    };
    report.compare(&ring.passthrough, &ring.qemu, "IOPS", Target::AtLeast(beside_qemu));
    report.compare(&ring.passthrough, &ring.disk, "IOPS", beside_disk);
    report.compare(&ring.idle, &ring.passthrough, "IOPS", Target::AtLeast(0.95));
    report.compare(&ring.copied, &ring.passthrough, "IOPS", Target::AtLeast(0.95));
}
