// SPDX-License-Identifier: MIT

//! The command line by itself: help, usage errors, manual pages, completions.

use std::process::{Command, Output};

/// Verbs for those who work on rwsnap.
const HIDDEN: [&str; 2] = ["lossy", "storm"];

fn rwsnap(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rwsnap"));
    command.args(args).env_remove("RWSNAP_POOL").env_remove("RUST_LOG");
    // No pool of the machine that the test runs on may be found.
    command.env("RWSNAP_CONTROL_DEVICE", "/nonexistent");
    command.env("RWSNAP_RUNTIME_DIR", "/nonexistent").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn verbs() -> Vec<String> {
    let command = rwsnap::cli::command();
    command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect()
}

#[test]
fn help_of_every_verb_has_an_example() {
    assert!(verbs().len() >= 28);
    for verb in verbs() {
        let output = rwsnap(&[&verb, "--help"]);
        assert!(output.status.success(), "{verb}");
        let help = text(&output.stdout);
        assert!(help.contains("Example"), "{verb} has no example:\n{help}");
        assert!(
            help.contains(&format!("rwsnap {verb}")),
            "{verb}'s example is of another:\n{help}"
        );
        assert!(help.contains("Usage:") && help.contains("--pool"), "{verb}");
        assert!(help.lines().all(|line| line.chars().count() <= 110), "{verb} is wide:\n{help}");
    }
}

#[test]
fn every_example_is_a_command_line_that_parses() {
    for mut verb in rwsnap::cli::command().get_subcommands().cloned().collect::<Vec<_>>() {
        let help = verb.render_help().to_string();
        let behind = help.find("Example").unwrap();
        let examples = help[behind..].lines().map(str::trim).filter(|l| l.starts_with("rwsnap "));
        for example in examples {
            let end = example.find(['|', '>', '&', '#']).unwrap_or(example.len());
            let words = example[..end].split_whitespace();
            let parsed = rwsnap::cli::command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
        }
    }
}

#[test]
fn the_tests_verbs_are_hidden_and_all_else_is_listed() {
    let help = text(&rwsnap(&["--help"]).stdout);
    for verb in verbs() {
        let listed = help.lines().any(|l| l.trim_start().split(' ').next() == Some(&verb));
        assert_eq!(listed, !HIDDEN.contains(&verb.as_str()), "{verb}");
    }
    assert!(text(&rwsnap(&["--version"]).stdout).starts_with("rwsnap "));
    let bare = text(&rwsnap(&[]).stderr);
    assert!(bare.contains("snapshot") && !HIDDEN.iter().any(|v| bare.contains(v)), "{bare}");
}

#[test]
fn usage_errors_exit_64_and_say_why() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage"),
        (&["fly"], "unrecognized subcommand"),
        (&["list", "--fly"], "unexpected argument"),
        (&["create", "save"], "--production"),
        (&["create", "save", "--production", "p", "--size", "big"], "is not a size"),
        (&["create", "save", "--production", "p", "--chunk", "12K"], "4K, 8K, 16K, 32K or 64K"),
        (&["create", "save", "--production", "p", "--production", "q"], "need names"),
        (&["create", "save", "--production", "a=p", "--production", "a=q"], "named `a`"),
        (&["create", "s", "--production", "p", "--chunk", "64K", "--copy-span", "4K"], "less than"),
        (&["create", "save", "--production", "p", "--when-full", "explode"], "oldest"),
        (&["snapshot"], "VOL@SNAP"),
        (&["snapshot", "prod"], "has no @"),
        (&["snapshot", "prod@a b"], "1 to 63"),
        (&["clone", "prod@monday"], "NAME"),
        (&["clone", "prod@monday", "a@b"], "names of snapshots alone"),
        (&["restore", "prod"], "--from"),
        (&["restore", "prod", "--order", "new-first"], "--from"),
        (&["restore", "prod", "--status", "--cancel"], "cannot be used with"),
        (&["restore", "prod", "--rate", "fast"], "paused"),
        (&["set", "dev1"], "KEY=VALUE"),
        (&["set", "dev1", "quota"], "KEY=VALUE"),
        (&["add", "/dev/sda"], "NAME=PATH"),
        (&["list", "-o", "colour"], "created"),
        (&["list", "-s", "size", "-S", "size"], "cannot be used with"),
        (&["serve", "save", "--reactors", "0"], "1..=64"),
        (&["completions", "tcl"], "bash"),
    ];
    for (args, why) in cases {
        let output = rwsnap(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn manual_pages_are_made_for_all_that_is_not_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("man1");
    assert!(rwsnap(&["-q", "man", folder.to_str().unwrap()]).status.success());
    for verb in verbs() {
        let page = std::fs::read_to_string(folder.join(format!("rwsnap-{verb}.1")));
        if HIDDEN.contains(&verb.as_str()) {
            assert!(page.is_err());
            continue;
        }
        let page = page.unwrap();
        assert!(page.contains(".SH SYNOPSIS") && page.contains("Example"), "{verb}");
    }
    assert!(folder.join("rwsnap.1").exists());
}

#[test]
fn completions_are_made_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = rwsnap(&["completions", shell]);
        assert!(output.status.success(), "{shell}");
        let script = text(&output.stdout);
        assert!(script.contains("refresh") && script.contains("keep"), "{shell}");
    }
    let bash = text(&rwsnap(&["completions", "bash"]).stdout);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rwsnap.bash");
    std::fs::write(&file, bash).unwrap();
    assert!(Command::new("bash").arg("-n").arg(&file).status().unwrap().success());
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let script = format!("{} completions bash | head -1", env!("CARGO_BIN_EXE_rwsnap"));
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}
