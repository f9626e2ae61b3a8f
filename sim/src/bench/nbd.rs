// SPDX-License-Identifier: MIT

//! 4k random reads and writes over NBD at depth 32: the disk itself, QEMU's server, the
//! passthrough, production without a snapshot, and production whose chunks are all copied.

use crate::cli::error::Outcome;

use super::contender::Contender;
use super::load::{Kind, Load, Whom};
use super::pool::{Files, USUAL};
use super::report::{Series, Target};
use super::Bench;

/// All who are measured.
struct Ring {
    disk: Series,
    qemu: Series,
    passthrough: Series,
    idle: Series,
    copied: Series,
}

/// Measures reads or writes.
///
/// # Errors
///
/// A server does not start, or a load fails.
pub fn measure(bench: &mut Bench, kind: Kind) -> Outcome {
    let what = if kind == Kind::Read { "reads" } else { "writes" };
    let size = bench.options.size;
    bench.say(format!("{what}: making images"));
    let image = bench.place.filled("bare.img", size)?;
    let peer = bench.place.filled("peer.img", size)?;
    let idle = bench.place.filled("idle.img", size)?;
    let copied = bench.place.filled("copied.img", size)?;
    let passthrough = Contender::passthrough(bench, &image)?;
    let qemu = Contender::qemu_raw(bench, &peer)?;
    let program = bench.options.program.clone();
    let files = Files::create(&program, &bench.place, "idle", &idle, size)?;
    let idle = files.serve(USUAL)?;
    let files = Files::create(&program, &bench.place, "copied", &copied, size * 3 / 2)?;
    let mut copied = files.serve(USUAL)?;
    bench.say(format!("{what}: copying all chunks"));
    copied.snapshot("prod@old")?;
    let fill = Load { block: 1 << 20, depth: 4, ..Load::once(Kind::Fill, size, size, 1) };
    fill.drive(&copied.whom("prod"))?;
    copied.quiet()?;
    let mut ring = Ring {
        disk: Series::new("the disk itself"),
        qemu: Series::new("qemu-storage-daemon"),
        passthrough: Series::new(format!("passthrough {what}")),
        idle: Series::new(format!("production {what}, no snapshot")),
        copied: Series::new(format!("production {what}, all copied")),
    };
    let load = Load::timed(kind, size, bench.options.seconds);
    for round in 1..=bench.options.rounds {
        bench.say(format!("{what}: round {round}"));
        ring.passthrough.push(load.drive(&passthrough.whom())?.iops);
        ring.idle.push(load.drive(&idle.whom("prod"))?.iops);
        ring.copied.push(load.drive(&copied.whom("prod"))?.iops);
        if let Some(qemu) = &qemu {
            ring.qemu.push(load.drive(&qemu.whom())?.iops);
        }
        ring.disk.push(load.drive(&Whom::File(peer.clone()))?.iops);
    }
    qemu.map_or(Ok(()), Contender::stop)?;
    passthrough.stop()?;
    idle.stop()?;
    copied.stop()?;
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
