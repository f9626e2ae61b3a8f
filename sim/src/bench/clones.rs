// SPDX-License-Identifier: MIT

//! Clones beside a qcow2 overlay and beside the passthrough: first writes, the same chunks again,
//! and reads of what was written.

use crate::cli::error::Outcome;

use super::contender::Contender;
use super::load::{Kind, Load};
use super::pool::{Files, USUAL};
use super::report::{Series, Target};
use super::Bench;

/// The figures.
struct Figures {
    first: Series,
    overlay: Series,
    again: Series,
    reads: Series,
    bare_writes: Series,
    bare_reads: Series,
}

/// Measures.
///
/// # Errors
///
/// A server does not start, a command is refused, a load fails.
pub fn measure(bench: &mut Bench) -> Outcome {
    let size = bench.options.size;
    bench.say("clones: making images");
    let image = bench.place.filled("bare.img", size)?;
    let base = bench.place.filled("base.img", size)?;
    let prod = bench.place.filled("prod.img", size)?;
    let program = bench.options.program.clone();
    let files = Files::create(&program, &bench.place, "clones", &prod, size * 4)?;
    let passthrough = Contender::passthrough(bench, &image)?;
    let mut pool = files.serve(USUAL)?;
    pool.snapshot("prod@base")?;
    let mut figures = Figures {
        first: Series::new("first writes to a clone"),
        overlay: Series::new("qcow2 overlay, 64k, extended L2"),
        again: Series::new("rewrites of a clone"),
        reads: Series::new("reads of a clone"),
        bare_writes: Series::new("passthrough writes"),
        bare_reads: Series::new("passthrough reads"),
    };
    let once = Load::once(Kind::Write, size, size / 4, 1);
    for round in 1..=bench.options.rounds {
        bench.say(format!("clones: round {round}"));
        let clone = format!("clone{round}");
        pool.clone_of("prod@base", &clone)?;
        pool.quiet()?;
        figures.first.push(once.drive(&pool.whom(&clone))?.iops);
        bench.place.remove("overlay.qcow2");
        if let Some(qemu) = Contender::qemu_overlay(bench, &base)? {
            figures.overlay.push(once.drive(&qemu.whom())?.iops);
            qemu.stop()?;
        }
        figures.again.push(once.drive(&pool.whom(&clone))?.iops);
        figures.bare_writes.push(once.drive(&passthrough.whom())?.iops);
        let reads = Load { kind: Kind::Read, ..once.clone() };
        figures.reads.push(reads.drive(&pool.whom(&clone))?.iops);
        figures.bare_reads.push(reads.drive(&passthrough.whom())?.iops);
        pool.destroy(&clone)?;
        pool.quiet()?;
    }
    pool.stop()?;
    passthrough.stop()?;
    let report = &mut bench.report;
    report.compare(&figures.first, &figures.overlay, "IOPS", Target::AtLeast(1.5));
    report.compare(&figures.again, &figures.bare_writes, "IOPS", Target::AtLeast(0.9));
    report.compare(&figures.reads, &figures.bare_reads, "IOPS", Target::AtLeast(0.9));
    Ok(())
}
