// SPDX-License-Identifier: MIT

//! The virtual machine: how it is made, and the guest's boots.

pub(crate) mod accel;
mod disk;
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

    /// The machine for a boot; its traces and disks go to a folder.
    fn boot(&self, boot: &Boot, folder: &Path) -> Result<(Command, Traces)> {
        let traces = Traces::of(&places::empty_folder(folder)?)?;
        let kind = self.kernel.kind.name();
        let told = format!("ktest.kernel={kind} ktest.run={} {}", boot.told(), self.words);
        let mut qemu = self.qemu(boot.memory_bytes, &told)?;
        qemu.args(["-serial", &format!("file:{}", traces.console.display())]);
        qemu.args(["-device", "virtio-serial-pci"]);
        qemu.args(["-chardev", &format!("file,id=ktap,path={}", traces.ktap.display())]);
        qemu.args(["-device", "virtserialport,chardev=ktap,name=ktap"]);
        disk::attach(&mut qemu, &boot.disks, folder)?;
        Ok((qemu, traces))
    }

    /// A prompt in a guest with some disks.
    pub(crate) fn shell(&self, boot: &Boot, folder: &Path) -> Result<Command> {
        places::empty_folder(folder)?;
        let kind = self.kernel.kind.name();
        let mut qemu = self.qemu(boot.memory_bytes, &format!("quiet ktest.kernel={kind}"))?;
        qemu.args(["-serial", "mon:stdio"]);
        disk::attach(&mut qemu, &boot.disks, folder)?;
        Ok(qemu)
    }
}
