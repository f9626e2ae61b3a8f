// SPDX-License-Identifier: MIT

//! The house rules that no compiler and no lint can see, as tests over the project's own files.
//!
//! There is no list of exceptions: a file that breaks a rule is changed, or the rule is, for all.

mod tree;

use std::collections::BTreeSet;

use tree::{code_only, functions, has_word, is_source, read_all, words_like, File};

/// Lines in a file.
const FILE_LINES: usize = 500;
/// Lines in a function.
const FUNCTION_LINES: usize = 70;
/// Columns in a line.
const COLUMNS: usize = 100;

/// Where unsafe code may stand, and what for.
const UNSAFE_HOMES: &[(&str, &str)] = &[
    ("sim/src/check/image.rs", "a save volume mapped into memory"),
    (
        "sim/src/store/sys.rs",
        "sizes of devices, the alignment of O_DIRECT, local time, the module's ioctl",
    ),
    ("sim/src/uring/", "the ring, its registered buffers and the calls of the kernel"),
    (
        "sim/tests/nbd_fuzz.rs",
        "an allocator that counts, to see that peers' numbers allocate nothing",
    ),
    ("kmod/ffi/", "what the kernel's bindings lack"),
    ("kmod/block/", "the block layer behind safe types"),
    ("kmod/clock.rs", "the wall clock"),
    ("kmod/control/", "the control device: its capability check, its events, its list's lock"),
    ("kmod/main.rs", "the module's own reference count"),
    ("kmod/numbers.rs", "a lock that is initialized once"),
    ("kmod/queue.rs", "the work queues"),
    ("shared/nopanic/src/platform.rs", "an opaque platform that is compiled and never run"),
];

/// Fails with every finding, one a line.
fn none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}\n  {}", findings.join("\n  "));
}

/// Runs a check over each line of the files that `wanted` admits.
fn lines_that(
    wanted: impl Fn(&File) -> bool,
    bad: impl Fn(&File, &str) -> Option<String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for file in read_all().iter().filter(|f| wanted(f)) {
        for (n, line) in file.text.lines().enumerate() {
            if let Some(what) = bad(file, line) {
                found.push(format!("{}:{}: {what}", file.path, n + 1));
            }
        }
    }
    found
}

#[test]
fn files_are_short() {
    let mut found = Vec::new();
    for file in read_all().iter().filter(|f| is_source(f)) {
        let lines = file.text.lines().count();
        if lines > FILE_LINES {
            found.push(format!("{}: {lines} lines", file.path));
        }
    }
    none("Files have at most 500 lines: split by noun or verb.", &found);
}

#[test]
fn functions_are_short() {
    let mut found = Vec::new();
    for file in read_all().iter().filter(|f| f.path.ends_with(".rs")) {
        for (name, first, lines) in functions(&code_only(&file.text)) {
            if lines > FUNCTION_LINES {
                found.push(format!("{}:{first}: {name} has {lines} lines", file.path));
            }
        }
    }
    none("Functions have at most 70 lines.", &found);
}

#[test]
fn lines_are_narrow() {
    let found = lines_that(
        |f| (is_source(f) || f.path.ends_with(".md")) && !f.path.ends_with(".toml"),
        |f, line| {
            let table = f.path.ends_with(".md") && (line.starts_with('|') || line.contains("]("));
            let columns = line.chars().count();
            (columns > COLUMNS && !table).then(|| format!("{columns} columns"))
        },
    );
    none(
        "Lines have at most 100 columns (tables and links of documents, and TOML, may be wider).",
        &found,
    );
}

#[test]
fn text_is_plain() {
    let found = lines_that(
        |_| true,
        |_, line| {
            let odd = line.chars().find(|c| !c.is_ascii_graphic() && !matches!(c, ' ' | '\t'))?;
            Some(format!("the character {odd:?}"))
        },
    );
    none("Sources and documents are ASCII.", &found);
    let found = lines_that(
        |f| f.path != "Makefile" && !f.path.ends_with(".mk") && is_source(f),
        |_, line| line.ends_with([' ', '\t']).then(|| "a blank at the end".to_owned()),
    );
    none("No line ends in a blank.", &found);
}

#[test]
fn every_source_names_its_licence() {
    let mut found = Vec::new();
    for file in read_all().iter().filter(|f| is_source(f)) {
        let licence = match file.path.split('/').next() {
            Some("shared") => "GPL-2.0-only OR MIT",
            Some("kmod" | "Kbuild") => "GPL-2.0-only",
            _ => "MIT",
        };
        let mark = if file.is_c_like() { "//" } else { "#" };
        let mut wanted = format!("{mark} SPDX-License-Identifier: {licence}");
        if file.path.ends_with(".h") {
            wanted = format!("/* SPDX-License-Identifier: {licence} */");
        }
        let first = file.text.lines().find(|line| !line.starts_with("#!/"));
        if first != Some(&wanted) {
            found.push(format!("{}: {:?}, not {wanted:?}", file.path, first.unwrap_or("")));
        }
    }
    none("The first line of a source (after #!) names the licence of its folder.", &found);
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = [["FIX", "ME"], ["TO", "DO"], ["XX", "X"]].map(|m| m.concat());
    let found = lines_that(is_source, |_, line| {
        marks.iter().find(|m| has_word(line, m)).map(|m| format!("the mark {m}"))
    });
    none("What is not finished is an issue, not a mark in the source.", &found);
}

#[test]
fn lints_are_expected_with_a_reason() {
    let mut found = Vec::new();
    for file in read_all().iter().filter(|f| f.path.ends_with(".rs")) {
        let code = code_only(&file.text);
        for (n, line) in code.lines().enumerate() {
            if line.contains("#[allow(") || line.contains("#![allow(") {
                found.push(format!("{}:{}: allow", file.path, n + 1));
            }
        }
        for (n, _) in code.match_indices("[expect(") {
            let rest = &code[n..];
            let attribute = rest.split_once(")]").map_or(rest, |(a, _)| a);
            if !attribute.contains("reason") {
                found.push(format!("{}: an expect without a reason", file.path));
            }
        }
    }
    none("Lints are silenced by #[expect(..., reason = \"...\")] alone.", &found);
}

#[test]
fn unsafe_code_stays_at_home() {
    let mut found = Vec::new();
    for file in read_all().iter().filter(|f| f.path.ends_with(".rs")) {
        if UNSAFE_HOMES.iter().any(|(home, _)| file.path.starts_with(home)) {
            continue;
        }
        for (n, line) in code_only(&file.text).lines().enumerate() {
            if has_word(line, "unsafe") {
                found.push(format!("{}:{}", file.path, n + 1));
            }
        }
    }
    none("Unsafe code stands in the files that UNSAFE_HOMES lists.", &found);
}

#[test]
fn every_module_says_what_it_is() {
    let mut found = Vec::new();
    for file in read_all().iter().filter(|f| f.path.ends_with(".rs")) {
        let mut lines = file.text.lines().skip(1).filter(|line| !line.is_empty());
        if !lines.next().is_some_and(|line| line.starts_with("//! ")) {
            found.push(file.path.clone());
        }
    }
    none("A module opens with its purpose (//!) after the licence.", &found);
}

/// The text of a document that has to be there.
fn document(path: &str) -> String {
    let file = read_all().into_iter().find(|f| f.path == path);
    file.unwrap_or_else(|| panic!("{path} is missing")).text
}

#[test]
fn invariants_that_are_cited_exist() {
    let text = document("docs/INVARIANTS.md");
    let heads = text.lines().filter_map(|line| line.strip_prefix("**I-")?.split_once("**"));
    let known: Vec<String> = heads.map(|(number, _)| format!("I-{number}")).collect();
    let numbers: BTreeSet<_> = known.iter().cloned().collect();
    assert_eq!(known.len(), numbers.len(), "an invariant is numbered twice");
    assert!(known.len() > 20, "docs/INVARIANTS.md was not understood: {known:?}");
    let mut found = Vec::new();
    for file in read_all().iter().filter(|f| is_source(f) || f.path.ends_with(".md")) {
        for cited in words_like(&file.text, "I-") {
            if !numbers.contains(&cited) {
                found.push(format!("{}: {cited}", file.path));
            }
        }
    }
    none("An invariant that is cited stands in docs/INVARIANTS.md.", &found);
}

#[test]
fn every_claim_has_its_test() {
    let text = document("docs/CLAIMS.md");
    let named: BTreeSet<_> = words_like(&text, "claim_").into_iter().collect();
    let tests = document("sim/tests/claims/main.rs");
    let there: BTreeSet<_> = words_like(&tests, "claim_").into_iter().collect();
    assert_eq!(named, there, "docs/CLAIMS.md names each test of sim/tests/claims, and no other");
    assert_eq!(there.len(), 17, "there are 17 tests of the claims");
    for claim in 1..=32 {
        let row = |line: &str| {
            let first = line.strip_prefix("| ").and_then(|l| l.split(" |").next());
            first.is_some_and(|c| c.split(", ").any(|n| n.parse() == Ok(claim)))
        };
        assert!(text.lines().any(row), "docs/CLAIMS.md has no row for claim {claim}");
    }
}

#[test]
fn documents_name_files_that_exist() {
    let files: BTreeSet<_> = read_all().into_iter().map(|f| f.path).collect();
    let exists = |path: &str| {
        files.contains(path) || files.iter().any(|f| f.starts_with(path.trim_end_matches('/')))
    };
    let roots = ["shared/", "sim/", "docs/", "kmod/", "ktest/", ".ci/", "LICENSES/"];
    let mut found = Vec::new();
    for file in read_all().iter().filter(|f| f.path.ends_with(".md")) {
        for quoted in file.text.split('`').skip(1).step_by(2) {
            let path = quoted.split([':', '*', '{']).next().unwrap_or(quoted);
            if roots.iter().any(|r| path.starts_with(r)) && !path.contains(' ') && !exists(path) {
                found.push(format!("{}: {quoted}", file.path));
            }
        }
    }
    none("A file or folder that a document names exists.", &found);
}
