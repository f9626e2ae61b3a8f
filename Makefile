# SPDX-License-Identifier: MIT
#
# make test    sets the machine up (Debian packages, by root or sudo) and runs every check
# make demo    the main job on a real file system image; IMAGE=path takes one of yours (a copy)
# make build   target/release/rwsnap
# make bench   measures it beside the peers that are installed
# make modules KDIR=TREE   rwsnap.ko for a built tree of Linux 7.3 or later, into target/kmod
# make ktest   the module's cases in a virtual machine; CASE=name one of them, DEBUG=1 on the debug
#              kernel; ktest-full all of them on both (DEBUG=1: on that one); ktest-shell a prompt
# make ktest-bench   measures the module beside dm-snapshot and dm-thin in the virtual machine
# make setup fmt clippy symbols unit storm ktest    the parts of `make test`, alone

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.PHONY: build demo modules test bench setup fmt clippy symbols unit core storm clean
.PHONY: ktest ktest-full ktest-shell ktest-bench

export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin
export RWSNAP_CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rwsnap

CARGO ?= cargo
# Seeds of the storm in `make test`.
export SEEDS ?= 1000
# A file system image for the demonstration; empty: one is made.
IMAGE ?=

rwsnap = $(or $(CARGO_TARGET_DIR),target)/release/rwsnap

build:
	@sim/setup.sh build
	$(CARGO) build --release --locked

demo:
	@sim/setup.sh demo
	$(CARGO) build --release --locked
	RWSNAP=$(rwsnap) sim/demo.sh $(IMAGE)

# What is built goes to target/kmod: the sources stay as they are.
KDIR ?= /lib/modules/$(shell uname -r)/build
MO ?= $(CURDIR)/target/kmod

modules:
	@test -e $(KDIR)/rust/libkernel.rmeta || { echo "make modules: $(KDIR) is no built tree" \
		"with CONFIG_RUST=y; name one with KDIR=, see docs/KERNEL.md" >&2; exit 1; }
	@mkdir -p $(MO)
	$(MAKE) -C $(KDIR) M=$(CURDIR) MO=$(MO) modules

# The kernel is built once (some 10 minutes on 2 cores), and kept.
test: setup fmt clippy unit storm ktest
	@echo "make test: all checks passed"

setup:
	@sim/setup.sh test

fmt:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path shared/nopanic/Cargo.toml --check

clippy:
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --manifest-path shared/nopanic/Cargo.toml -- -D warnings

# The core's machine code: no panics, no heap calls, small frames. Fast; run it often.
symbols:
	$(CARGO) test --locked -p rwsnap-core --test symbols

# Every test of both crates: structures beside their models, the house rules, the symbols, and the
# claims end to end with real NBD clients on files and loop devices.
unit:
	SEEDS=20 $(CARGO) test --locked --workspace --no-fail-fast

# The core with its structures beside their models, its symbols, and over disks in memory.
core:
	$(CARGO) test --locked -p rwsnap-core
	$(CARGO) test --locked -p rwsnap --test core_smoke --test nbd_hostile

# The core over simulated disks that lose, reorder and tear what was not flushed; then with bugs
# planted in it, each of which must be found.
storm:
	$(CARGO) test --locked --release -p rwsnap --features mutants --test storm -- \
		--nocapture --test-threads 1

ktest = $(CARGO) run --quiet --locked --package ktest --

ktest:
	$(ktest) run $(if $(CASE),--case $(CASE)) $(if $(DEBUG),--debug)

ktest-full:
	$(ktest) run --full $(if $(DEBUG),--debug)

ktest-shell:
	$(ktest) shell $(if $(DEBUG),--debug)

# Nothing else should run meanwhile: the virtual machine has no processor of its own.
ktest-bench:
	$(ktest) bench --plot docs/ktest-bench.svg

bench:
	$(CARGO) build --locked --release
	$(rwsnap) bench

clean:
	$(CARGO) clean
	$(CARGO) clean --manifest-path shared/nopanic/Cargo.toml
