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

/// Bytes that one frame of the stack may take, as the kernel's `make checkstack` counts them. There
/// it is 1 KiB, of a stack of 16 KiB that is shared; what is compiled here comes out a little
/// smaller than the kernel's, which has no vectors.
const FRAME_MAX: u64 = 1000;

/// Bytes that the frames of functions that call one another may take together.
const STACK_MAX: u64 = 4096;

/// What the kernel's build says to the compiler beside the profile of `nopanic/Cargo.toml`, as far
/// as it can be said of a target with a prebuilt `core`: vectors stay in use.
const FLAGS: &str = "-Cforce-frame-pointers=yes -Cno-redzone=yes -Crelocation-model=static \
                     -Ccode-model=kernel -Cforce-unwind-tables=no -Ctarget-cpu=x86-64";

/// Runs a program to its end and gives what it printed.
fn output(program: &str, args: &[&str]) -> String {
    let run = Command::new(program).args(args).env("RUSTFLAGS", FLAGS).output();
    let run = run.unwrap_or_else(|e| panic!("{program} (binutils, cargo) is needed: {e}"));
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{program} {args:?} failed:\n{errors}");
    String::from_utf8_lossy(&run.stdout).into_owned()
}

/// This machine's target. It has to be named: the flags are not for build scripts.
fn host() -> String {
    let said = output("rustc", &["-vV"]);
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc says for which machine it was made").to_owned()
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
            "--target",
            &host(),
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

/// Everything the libraries contain, as instructions with relocations.
fn disassemble(libraries: &[String], options: &[&str]) -> String {
    let mut args = vec!["-d", "-r", "--no-show-raw-insn"];
    args.extend(options);
    args.extend(libraries.iter().map(String::as_str));
    output("objdump", &args)
}

/// What an instruction takes of the stack.
fn stack_taken(line: &str) -> u64 {
    let taken = line.split_once("sub    $0x").and_then(|(_, to)| to.strip_suffix(",%rsp"));
    let push = u64::from(line.contains("\tpush")) * 8;
    taken.map_or(push, |bytes| u64::from_str_radix(bytes, 16).unwrap_or(u64::MAX))
}

/// For each forbidden symbol, where it is referred to: "function at file:line".
fn callers(libraries: &[String], bad: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let told = disassemble(libraries, &["-l", "-C", "--inlines"]);
    walk(&told, |function, places, line| {
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

/// What the kernel's `scripts/checkstack.pl` counts of an instruction: all changes of the stack
/// pointer, so that a frame that is left in two ways counts three times.
fn stack_counted(line: &str) -> u64 {
    let change = ["sub    $0x", "add    $0x"].iter().find_map(|change| line.split_once(change));
    let bytes = change.and_then(|(_, to)| to.strip_suffix(",%rsp"));
    bytes.map_or(0, |bytes| u64::from_str_radix(bytes, 16).unwrap_or(u64::MAX))
}

#[test]
fn the_core_has_small_frames() {
    let mut frames: BTreeMap<String, u64> = BTreeMap::new();
    // Without -C: the names of a generic function's instances are told apart by their hash.
    walk(&disassemble(&build(), &[]), |function, _, line| {
        *frames.entry(function.to_owned()).or_default() += stack_counted(line);
    });
    assert!(!frames.is_empty(), "the disassembly was not understood");
    frames.retain(|_, bytes| *bytes > FRAME_MAX);
    assert!(frames.is_empty(), "frames of more than {FRAME_MAX} bytes: {frames:#?}");
}

/// A function's own frame, and whom it calls.
#[derive(Default)]
struct Function {
    frame: u64,
    calls: BTreeSet<String>,
}

/// What a function and those it calls take of the stack. A function that is met again on the way is
/// not counted again: the core's few cycles end after one turn.
fn depth(
    name: &str,
    functions: &BTreeMap<String, Function>,
    known: &mut BTreeMap<String, u64>,
) -> u64 {
    if let Some(depth) = known.get(name) {
        return *depth;
    }
    let Some(function) = functions.get(name) else { return 0 };
    known.insert(name.to_owned(), 0);
    let below = function.calls.iter().map(|call| depth(call, functions, known)).max();
    // The address to return to is a word more.
    let depth = function.frame + 8 + below.unwrap_or(0);
    known.insert(name.to_owned(), depth);
    depth
}

#[test]
fn the_core_takes_little_stack() {
    let mut functions: BTreeMap<String, Function> = BTreeMap::new();
    walk(&disassemble(&build(), &[]), |name, _, line| {
        let function = functions.entry(name.to_owned()).or_default();
        function.frame += stack_taken(line);
        if let Some(symbol) = line.split('\t').next_back().filter(|_| line.contains(": R_")) {
            let symbol = symbol.rsplit_once(['-', '+']).map_or(symbol, |(name, _)| name);
            function.calls.insert(symbol.trim_start_matches(".text.").to_owned());
        }
    });
    let mut known = BTreeMap::new();
    let depths = functions.keys().filter(|name| !name.contains("keep_"));
    let depths = depths.map(|name| (depth(name, &functions, &mut known), name.clone()));
    let deepest = depths.max().expect("the disassembly was understood");
    assert!(deepest.0 > 1024, "calls were not understood: {deepest:?}");
    assert!(deepest.0 <= STACK_MAX, "more than {STACK_MAX} bytes of stack: {deepest:?}");
}

/// The sources of a folder of the core, below it too.
fn sources(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<_> = entries.map(|e| e.expect("the folder can be read").path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        if path.is_dir() {
            return sources(path);
        }
        std::fs::read_to_string(path).expect("the file can be read")
    };
    paths.iter().map(read).collect()
}

#[test]
fn the_instance_has_all_of_the_core() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let instance = sources(&here.join("nopanic/src"));
    let defined = names(&build(), "--defined-only");
    for keep in instance.split("pub fn keep_").skip(1) {
        let name = format!("rwsnap_nopanic::keep_{}", keep.split('(').next().unwrap_or(keep));
        assert!(defined.contains(&name), "{name} was left out by the compiler");
    }
    let core = sources(&here.join("src/engine")) + &sources(&here.join("src/lifecycle"));
    for function in core.split("\n    pub fn ").skip(1) {
        let name = function.split('(').next().unwrap_or(function);
        let named = instance.contains(&format!("Core::<Opaque>::{name},"));
        assert!(named, "Core::{name} is not in shared/nopanic");
    }
}
