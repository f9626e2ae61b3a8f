// SPDX-License-Identifier: MIT

//! The virtual machine: how it is made, and the guest's boots.

pub(crate) mod accel;
mod disk;
mod power;
pub(crate) mod watch;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cases::plan::Boot;
use crate::command::command;
use crate::failure::{Context, Result};
use crate::kernel::Kernel;
use crate::places;
use accel::Accel;

/// What every boot is made of.
pub(crate) struct Machine {
    /// What runs.
    pub(crate) kernel: Kernel,
    /// `rwsnap.ko`, if a case needs it.
    pub(crate) module: Option<PathBuf>,
    /// Its first root.
    pub(crate) initramfs: PathBuf,
    /// What runs its instructions.
    pub(crate) accel: Accel,
    /// More words for the guest, on its kernel's command line.
    pub(crate) words: String,
}

/// One of the lives of a guest.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// The first is 1.
    number: u32,
    /// What cases draw their random numbers from.
    seed: u64,
}

/// What a boot leaves behind.
pub(crate) struct Traces {
    /// All that the guest said on its serial port.
    pub(crate) console: PathBuf,
    /// What it reported.
    pub(crate) ktap: PathBuf,
}

impl Traces {
    fn of(folder: &Path) -> Result<Self> {
        let traces = Self { console: folder.join("console"), ktap: folder.join("ktap") };
        for file in [&traces.console, &traces.ktap] {
            fs::write(file, "").about(file)?;
        }
        Ok(traces)
    }
}

impl Machine {
    /// QEMU with what every boot has.
    fn qemu(&self, memory_bytes: u64, told: &str) -> Result<Command> {
        let mut qemu = command("qemu-system-x86_64")?;
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        qemu.args(self.accel.arguments()).args(["-smp", "2", "-m"]);
        qemu.arg(format!("{}M", memory_bytes >> 20));
        qemu.arg("-kernel").arg(self.kernel.image()).arg("-initrd").arg(&self.initramfs);
        let quiet = "console=ttyS0 printk.time=1 panic=-1 log_buf_len=4M";
        qemu.arg("-append").arg(format!("{quiet} {told}"));
        qemu.args(["-device", "virtio-rng-pci"]);
        Ok(qemu)
    }

    /// Makes a folder ready for a boot's traces and disks.
    fn prepare(boot: &Boot, folder: &Path) -> Result<Traces> {
        let traces = Traces::of(&places::empty_folder(folder)?)?;
        disk::create(&boot.disks, folder)?;
        Ok(traces)
    }

    /// The machine for a boot. The guest lives again if it lost its power: it finds its disks as
    /// they are, and its traces go on.
    fn boot(&self, boot: &Boot, folder: &Path, traces: &Traces, life: Life) -> Result<Command> {
        let kind = self.kernel.kind.name();
        let Life { number, seed } = life;
        let lives = format!("ktest.life={number} ktest.seed={seed}");
        let told = format!("ktest.kernel={kind} {lives} ktest.run={} {}", boot.told(), self.words);
        let mut qemu = self.qemu(boot.memory_bytes, &told)?;
        let to = |id: &str, file: &Path| format!("file,id={id},append=on,path={}", file.display());
        qemu.args(["-chardev", &to("console", &traces.console), "-serial", "chardev:console"]);
        qemu.args(["-device", "virtio-serial-pci"]);
        qemu.args(["-chardev", &to("ktap", &traces.ktap)]);
        qemu.args(["-device", "virtserialport,chardev=ktap,name=ktap"]);
        disk::attach(&mut qemu, &boot.disks, folder);
        Ok(qemu)
    }

    /// A prompt in a guest with some disks.
    pub(crate) fn shell(&self, boot: &Boot, folder: &Path) -> Result<Command> {
        places::empty_folder(folder)?;
        let kind = self.kernel.kind.name();
        let mut qemu = self.qemu(boot.memory_bytes, &format!("quiet ktest.kernel={kind}"))?;
        qemu.args(["-serial", "mon:stdio"]);
        disk::create(&boot.disks, folder)?;
        disk::attach(&mut qemu, &boot.disks, folder);
        Ok(qemu)
    }
}
