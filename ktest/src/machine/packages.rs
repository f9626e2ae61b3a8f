// SPDX-License-Identifier: MIT

//! The programs that a machine must have, and the Debian packages they come in.
//!
//! A package is installed only if its program is missing; what is there stays as it is.

use std::path::Path;

use super::apt::{self, Apt};
use crate::command::say;
use crate::failure::{fail, Context, Result};
use crate::kernel::Kind;
use crate::places;

/// A program (or a file, if it begins with `/`) and the package that has it.
type Need = (&'static str, &'static str);

/// To build kernels.
const KERNEL: &[Need] = &[
    ("gcc", "gcc"),
    ("make", "make"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("xz", "xz-utils"),
    ("perl", "perl"),
    ("cpio", "cpio"),
    ("rsync", "rsync"),
    ("depmod", "kmod"),
    ("objdump", "binutils"),
    ("/usr/include/libelf.h", "libelf-dev"),
    ("/usr/include/openssl/opensslv.h", "libssl-dev"),
    ("/usr/lib/llvm-19/lib/libclang.so", "libclang-19-dev"),
];

/// To build the debug kernel.
const CLANG: &[Need] =
    &[("clang-19", "clang-19"), ("ld.lld-19", "lld-19"), ("llvm-objdump-19", "llvm-19")];

/// To run the guest; its programs are copied from this machine.
const GUEST: &[Need] = &[
    ("/bin/busybox", "busybox-static"),
    ("fio", "fio"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("dmsetup", "dmsetup"),
    ("thin_check", "thin-provisioning-tools"),
    ("lsblk", "util-linux"),
    ("losetup", "mount"),
    ("sfdisk", "fdisk"),
    ("nbdinfo", "libnbd-bin"),
];

/// QEMU, which may have to come from backports: its other packages there may be newer already.
const QEMU: Need = ("qemu-system-x86_64", "qemu-system-x86");

fn is_there((what, _): &Need) -> bool {
    if what.starts_with('/') {
        Path::new(what).exists()
    } else {
        places::program(what).is_some()
    }
}

fn missing(needs: &[&[Need]]) -> Vec<&'static str> {
    let wanted = needs.iter().flat_map(|list| list.iter()).filter(|need| !is_there(need));
    let mut packages: Vec<_> = wanted.map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// Installs what is missing.
pub(crate) fn ensure(kind: Kind) -> Result {
    let debug = if kind == Kind::Debug { CLANG } else { &[] };
    let needs = [KERNEL, GUEST, debug];
    let packages = missing(&needs);
    if !packages.is_empty() {
        let list = packages.join(" ");
        say(format!("installing Debian packages: {list}"));
        let by_hand = format!("as root: apt-get update && apt-get install -y {list}");
        apt::install(&packages).context(by_hand)?;
    }
    let packages = missing(&needs);
    if !packages.is_empty() {
        return fail(format!("still missing after the installation: {}", packages.join(" ")));
    }
    if is_there(&QEMU) {
        return Ok(());
    }
    ensure_qemu()
}

fn ensure_qemu() -> Result {
    let package = QEMU.1;
    say(format!("installing Debian packages: {package}"));
    let Err(plain) = apt::install(&[package]) else { return Ok(()) };
    let own = apt::codename()?;
    let backports = format!("{own}-backports");
    let apt = Apt::of("own", &[&own, &backports])?;
    apt.install(&backports, &[package])
        .context(format!("{package} could not be installed; from the suite itself:\n{plain}"))
}
