#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Makes a Debian machine with Rust on it ready for `make test` and `make demo`: installs the
# packages whose programs are missing, and nothing else. What is there stays as it is, in whatever
# version. Tools that Cargo builds go to ${XDG_CACHE_HOME:-~/.cache}/rwsnap/tools.
#
#   sim/setup.sh build|demo|test
set -euo pipefail

what=${1:?usage: sim/setup.sh build|demo|test}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rwsnap
fsx_version=0.3.2
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'setup: %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

# Program and the package that has it, for each purpose; a later purpose needs all before it.
programs() {
    printf '%s\n' cc:gcc
    [ "$what" = build ] && return
    printf '%s\n' fio:fio nbdcopy:libnbd-bin nbdinfo:libnbd-bin qemu-io:qemu-utils \
        qemu-img:qemu-utils mkfs.ext4:e2fsprogs e2fsck:e2fsprogs debugfs:e2fsprogs \
        /usr/bin/python3:python3-minimal nbdkit:nbdkit nbdfuse:libnbd-bin fusermount3:fuse3
    [ "$what" = demo ] && return
    printf '%s\n' nbdsh:python3-libnbd losetup:mount mkfs.xfs:xfsprogs \
        xfs_repair:xfsprogs nm:binutils objdump:binutils
}

missing_packages() {
    local pair
    for pair in $(programs); do
        command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
    done | sort -u
}

install_packages() {
    local packages=$1 as_root=()
    command -v apt-get >/dev/null ||
        die "this machine has no apt-get; install what Debian calls: $packages"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "these packages are missing; as root, run:" \
            "    apt-get update && apt-get install -y $packages"
        as_root=(sudo)
    fi
    say "installing Debian packages: $packages"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    # shellcheck disable=SC2086 # a list of names
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends --no-remove $packages </dev/null
}

ensure_packages() {
    local packages
    packages=$(missing_packages | xargs)
    [ -z "$packages" ] || install_packages "$packages"
    packages=$(missing_packages | xargs)
    [ -z "$packages" ] || die "still missing after the installation: $packages"
}

ensure_rust() {
    command -v cargo >/dev/null || die "cargo is missing: install Rust (rustup), 1.85 or later"
    [ "$what" = test ] || return 0
    local tool
    for tool in fmt clippy; do
        cargo "$tool" --version >/dev/null 2>&1 && continue
        say "installing cargo $tool with rustup"
        rustup component add "${tool/fmt/rustfmt}" ||
            die "cargo $tool is missing; run: rustup component add ${tool/fmt/rustfmt}"
    done
}

ensure_fsx() {
    local fsx=$cache/tools/bin/fsx
    if [ -x "$fsx" ] && "$fsx" --version | grep -qF "$fsx_version"; then return; fi
    say "building the program fsx $fsx_version into $cache/tools"
    cargo install --quiet --locked --root "$cache/tools" --version "$fsx_version" fsx
}

# What no package can give: without these the tests could not run, so nothing starts.
check_machine() {
    PATH=/usr/bin:$PATH nbdsh -c 'print(h.get_version())' >/dev/null ||
        die "nbdsh does not run with /usr/bin/python3 (package python3-libnbd)"
    if [ "$(id -u)" != 0 ] && ! sudo -n true; then
        die "the tests make loop devices: run them as root, or where sudo asks no password"
    fi
    [ -e /dev/loop-control ] || die "no /dev/loop-control: the kernel has no loop devices"
    local uring=/proc/sys/kernel/io_uring_disabled
    if [ -e $uring ] && [ "$(cat $uring)" = 2 ]; then
        die "io_uring is switched off (sysctl kernel.io_uring_disabled=2)"
    fi
}

mkdir -p "$cache"
ensure_packages
ensure_rust
if [ "$what" != build ] && [ ! -e /dev/fuse ]; then
    die "no /dev/fuse: the kernel has no FUSE"
fi
if [ "$what" = test ]; then
    ensure_fsx
    check_machine
fi
say "ready for $what"
