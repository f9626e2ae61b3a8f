// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The core's machine code: no panic, no memory but the platform's, small stack frames.
//!
//! `shared/nopanic` compiles the core as a kernel would (-O2, overflow checked, panic = abort) for
//! a platform that the compiler cannot see into. What that code refers to and does not define is
//! held against a list of what is allowed, so that anything new has to be looked at. A panic that
//! the compiler proves impossible leaves no trace; one that it cannot, does, and is a failure even
//! if a person knows better: in the kernel a wrong person is an oops.
//!
//! `make symbols` runs this alone.
#![cfg(target_arch = "x86_64")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Functions of `core` that may be referred to: they neither panic nor allocate. The mem*
/// functions are the kernel's as well.
const ALLOWED: &[&str] = &[
    "memcpy",
    "memmove",
    "memset",
    "memcmp",
    "bcmp",
    "core::fmt::",
    "<core::fmt::",
    "core::num::",
    "core::slice::memchr::",
    "core::str::converts::from_utf8",
    "rwsnap_nopanic_",
];

/// Bytes that one frame of the stack may take: the kernel's stack is 16 KiB, and shared.
const FRAME_MAX: u64 = 1024;

/// Runs a program to its end and gives what it printed.
fn output(program: &str, args: &[&str]) -> String {
    let run = Command::new(program).args(args).output();
    let run = run.unwrap_or_else(|e| panic!("{program} (binutils, cargo) is needed: {e}"));
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{program} {args:?} failed:\n{errors}");
    String::from_utf8_lossy(&run.stdout).into_owned()
}

/// Compiles the instance; gives the paths of the core's, its dependencies' and the instance's code.
fn build() -> Vec<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = here.join("nopanic/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nopanic");
    let said = output(
        env!("CARGO"),
        &[
            "build",
            "--release",
            "--locked",
            "--message-format=json",
            "--manifest-path",
            &manifest.to_string_lossy(),
            "--target-dir",
            &target.to_string_lossy(),
        ],
    );
    let wanted = ["librwsnap_core-", "librwsnap_nopanic-", "libzerocopy-"];
    let ours = |path: &&str| path.ends_with(".rlib") && wanted.iter().any(|w| path.contains(w));
    let libraries: BTreeSet<_> = said.split('"').filter(ours).map(str::to_owned).collect();
    let instance = said.split('"').find(|path| path.ends_with("/librwsnap_nopanic.rlib"));
    let libraries: Vec<_> = libraries.into_iter().chain(instance.map(str::to_owned)).collect();
    assert!(libraries.len() >= 3, "the build named no libraries: {libraries:?}");
    libraries
}

/// Names that `nm` prints with this option.
fn names(libraries: &[String], option: &str) -> BTreeSet<String> {
    let mut args = vec!["-C", "--format=just-symbols", option];
    args.extend(libraries.iter().map(String::as_str));
    let said = output("nm", &args);
    let named = said.lines().filter(|line| !line.is_empty() && !line.ends_with(':'));
    named.map(str::to_owned).collect()
}

/// Walks a disassembly: `on_line(function, where in the source, line)` for each instruction and
/// relocation.
fn walk(disassembly: &str, mut on_line: impl FnMut(&str, &[&str], &str)) {
    let (mut function, mut places, mut fresh) = ("?", Vec::new(), true);
    for line in disassembly.lines() {
        if let Some(name) = line.strip_suffix(">:").and_then(|l| l.split_once(" <")) {
            function = name.1;
        } else if line.starts_with('/') || line.starts_with("inlined by ") {
            if !fresh {
                places.clear();
            }
            fresh = true;
            places.push(line.trim_start_matches("inlined by ").split(" (").next().unwrap_or(line));
        } else if line.starts_with([' ', '\t']) {
            fresh = false;
            on_line(function, &places, line);
        }
    }
}

/// Everything the libraries contain, as instructions with relocations and places in the source.
fn disassemble(libraries: &[String]) -> String {
    let mut args = vec!["-d", "-l", "-r", "-C", "--inlines", "--no-show-raw-insn"];
    args.extend(libraries.iter().map(String::as_str));
    output("objdump", &args)
}

/// For each forbidden symbol, where it is referred to: "function at file:line".
fn callers(libraries: &[String], bad: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    walk(&disassemble(libraries), |function, places, line| {
        let Some(symbol) = line.split('\t').next_back().filter(|_| line.contains(": R_")) else {
            return;
        };
        let symbol = symbol.rsplit_once(['-', '+']).map_or(symbol, |(name, _)| name);
        if bad.contains(symbol) {
            let own = places.iter().filter_map(|place| place.strip_prefix(root));
            let own = own.collect::<Vec<_>>().join(", in ");
            found.entry(symbol.into()).or_default().insert(format!("{function} at {own}"));
        }
    });
    found
}

#[test]
fn the_core_cannot_panic_or_allocate() {
    let libraries = build();
    let defined = names(&libraries, "--defined-only");
    let allowed = |name: &&String| {
        ALLOWED.iter().any(|a| name.starts_with(a)) || name.contains(" as core::fmt::")
    };
    let mut bad = names(&libraries, "--undefined-only");
    bad.retain(|name| !defined.contains(name) && !allowed(&name));
    if bad.is_empty() {
        return;
    }
    let callers = callers(&libraries, &bad);
    let mut report = String::new();
    for symbol in &bad {
        report.push_str(&format!("\n{symbol}\n"));
        for caller in callers.get(symbol).into_iter().flatten() {
            report.push_str(&format!("    {caller}\n"));
        }
    }
    panic!("the core's code refers to what a kernel must not meet:\n{report}");
}

#[test]
fn the_core_has_small_frames() {
    let mut frames: BTreeMap<String, u64> = BTreeMap::new();
    walk(&disassemble(&build()), |function, _, line| {
        let Some((_, operands)) = line.split_once("sub    $0x") else { return };
        let Some(bytes) = operands.strip_suffix(",%rsp") else { return };
        let bytes = u64::from_str_radix(bytes, 16).unwrap_or(u64::MAX);
        *frames.entry(function.to_owned()).or_default() += bytes;
    });
    assert!(!frames.is_empty(), "the disassembly was not understood");
    frames.retain(|_, bytes| *bytes > FRAME_MAX);
    assert!(frames.is_empty(), "frames of more than {FRAME_MAX} bytes: {frames:#?}");
}
