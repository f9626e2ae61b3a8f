// SPDX-License-Identifier: MIT

//! What runs the guest's instructions: KVM, if it really works, else QEMU itself (TCG).
//!
//! `/dev/kvm` may be there and still not run an ordinary kernel, when this machine is a guest
//! itself. So it is tried once since this machine started: a boot that has to report in time.

use std::env;
use std::fs;
use std::time::Duration;

use super::{watch, Life, Machine};
use crate::cases::plan::Boot;
use crate::command::say;
use crate::failure::{fail, Context, Result};
use crate::places;

/// How long the boot that tries KVM may take.
const TRIAL: Duration = Duration::from_secs(20);

/// What runs the guest's instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Accel {
    /// The processor.
    Kvm,
    /// QEMU; one thread, since with several the kernel's patching of itself crashed.
    Tcg,
    /// QEMU, and the guest's clock goes by instructions: 4 ns each, however long they take.
    Counted,
}

impl Accel {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
            Self::Counted => "TCG, instructions as time",
        }
    }

    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => &["-accel", "tcg,thread=single", "-cpu", "max"],
            Self::Counted => {
                const COUNT: &str = "shift=2,sleep=off";
                &["-accel", "tcg,thread=single", "-icount", COUNT, "-cpu", "max"]
            }
        }
    }
}

/// Has the machine use the best that works; `KTEST_ACCEL=kvm` or `tcg` decides it.
pub(crate) fn choose(machine: &mut Machine) -> Result {
    machine.accel = match env::var("KTEST_ACCEL").unwrap_or_default().as_str() {
        "kvm" => Accel::Kvm,
        "tcg" => Accel::Tcg,
        "" => tried(machine)?,
        other => return fail(format!("KTEST_ACCEL={other}: it is kvm or tcg")),
    };
    Ok(())
}

/// What was found out since this machine started, or is found out now.
fn tried(machine: &mut Machine) -> Result<Accel> {
    if fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(Accel::Tcg);
    }
    let start = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let found = places::target().join("ktest/accel");
    let known = fs::read_to_string(&found).unwrap_or_default();
    let accel = match known.strip_prefix(&start).map(str::trim) {
        Some("KVM") => return Ok(Accel::Kvm),
        Some("TCG") => return Ok(Accel::Tcg),
        _ => attempt(machine)?,
    };
    fs::write(&found, format!("{start}{}\n", accel.name())).about(&found)?;
    Ok(accel)
}

fn attempt(machine: &mut Machine) -> Result<Accel> {
    machine.accel = Accel::Kvm;
    let nothing = Boot { cases: Vec::new(), disks: Vec::new(), memory_bytes: 2 << 30 };
    let folder = places::work(machine.kernel.kind, "trial")?;
    let traces = Machine::prepare(&nothing, &folder)?;
    let mut qemu = machine.boot(&nothing, &folder, &traces, Life { number: 1, seed: 0 })?;
    let works = watch::reports_within(&mut qemu, &traces, TRIAL)?;
    if !works {
        say("/dev/kvm is there and does not run the guest: QEMU runs it without (TCG)");
    }
    Ok(if works { Accel::Kvm } else { Accel::Tcg })
}
