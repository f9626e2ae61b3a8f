// SPDX-License-Identifier: MIT

//! Programs that are run: with what they say captured, kept in a log, or shown.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use crate::failure::{fail, Context, Result};
use crate::places;

/// Lines of a log that are shown when a program failed.
const TAIL_LINES: usize = 30;

/// A program to run, with our `PATH`, no input, and nothing of an outer `make`.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = Command::new(program);
    command.env("PATH", places::search_path()?).stdin(Stdio::null());
    for outer in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "KDIR", "KERNEL_SRC"] {
        command.env_remove(outer);
    }
    Ok(command)
}

/// The command as one would type it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

fn judged(command: &Command, status: ExitStatus, said: &str) -> Result {
    if status.success() {
        return Ok(());
    }
    let said = tail(said, TAIL_LINES);
    fail(format!("`{}` failed ({status}):\n{said}", line(command)))
}

/// Runs it; what it says is shown only if it fails.
pub(crate) fn quietly(command: &mut Command) -> Result {
    let output = command.output().context(line(command))?;
    let said = [output.stdout, output.stderr].concat();
    judged(command, output.status, &String::from_utf8_lossy(&said))
}

/// Runs it, and returns what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context(line(command))?;
    judged(command, output.status, &String::from_utf8_lossy(&output.stderr))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs it; what it says goes to a file, whose end is shown if it fails.
pub(crate) fn logged(command: &mut Command, log: &Path) -> Result {
    let file = File::options().create(true).append(true).open(log).about(log)?;
    command.stdout(file.try_clone()?).stderr(file);
    let status = command.status().context(line(command))?;
    let said = if status.success() { String::new() } else { text(log)? };
    judged(command, status, &said).context(format!("see {}", log.display()))
}

/// A file as text, whatever bytes it holds.
pub(crate) fn text(path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(path).about(path)?).into_owned())
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Says what takes a while.
pub(crate) fn say(what: impl std::fmt::Display) {
    eprintln!("ktest: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_text_is_its_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a\n", 2), "a");
        assert_eq!(tail("", 2), "");
    }

    #[test]
    fn a_program_that_fails_says_so_with_its_last_words() {
        let mut program = Command::new("sh");
        let failure = quietly(program.args(["-c", "echo last words; exit 3"])).unwrap_err();
        let said = failure.to_string();
        assert!(said.contains("last words") && said.contains("exit status: 3"), "{said}");
    }
}
