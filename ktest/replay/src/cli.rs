// SPDX-License-Identifier: MIT

//! The command line. Exit codes: 0 done, 1 failed, 64 usage.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::each::each;
use crate::error::{Error, Result};
use crate::log::{Log, Point};
use crate::replay::{replay, Discards, Span};

/// What it can do.
const HELP: &str = "\
Replays the log of dm-log-writes.

  replay-log list LOG                                    all entries
  replay-log flushes LOG                                 the flushes, writes with FUA, and marks
  replay-log replay LOG --to DEVICE [OPTIONS]            puts entries onto a device
  replay-log each LOG --to DEVICE [OPTIONS] -- CMD...    runs CMD after each flush, FUA and mark

Options:
  --from ENTRY      the first entry to replay; what comes before is taken to be there
  --until ENTRY     the last entry to replay
  --skip-discards   leave what is discarded as it is; zero it if not given

ENTRY is a number as `list` shows it, from 0, or mark:TEXT. CMD must not change DEVICE, and finds
the entry's number in $REPLAY_ENTRY. The first that fails ends it.
";

/// Exit code: the command line makes no sense (`EX_USAGE`).
const USAGE: u8 = 64;

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    verb: String,
    log: PathBuf,
    to: Option<PathBuf>,
    span: Span,
    discards: Discards,
    command: Vec<OsString>,
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    if args.iter().take(1).any(|first| first == "--help" || first == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let asked = match parse(args) {
        Ok(asked) => asked,
        Err(why) => {
            eprintln!("replay-log: {why}\n\n{HELP}");
            return ExitCode::from(USAGE);
        }
    };
    match run(&asked) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has gone.
        Err(Error::Io(_, error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("replay-log: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Understands the command line.
fn parse(args: Vec<OsString>) -> std::result::Result<Asked, String> {
    let mut args = args.into_iter();
    let mut asked = Asked::default();
    let verb = args.next().ok_or("no command is given")?;
    asked.verb = verb.to_string_lossy().into_owned();
    let mut log = None;
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy().into_owned();
        let mut value = || args.next().ok_or(format!("{text} wants a value"));
        match text.as_str() {
            "--to" => asked.to = Some(value()?.into()),
            "--from" => asked.span.from = Some(point(&value()?)?),
            "--until" => asked.span.until = Some(point(&value()?)?),
            "--skip-discards" => asked.discards = Discards::Skip,
            "--" => asked.command = args.by_ref().collect(),
            _ if text.starts_with('-') => return Err(format!("there is no option {text}")),
            _ if log.is_some() => return Err(format!("`{text}` is one word too many")),
            _ => log = Some(PathBuf::from(arg)),
        }
    }
    asked.log = log.ok_or("no log is given")?;
    fits(&asked)?;
    Ok(asked)
}

fn point(text: &OsString) -> std::result::Result<Point, String> {
    text.to_string_lossy().parse()
}

/// Whether all that the verb needs is there, and nothing else.
fn fits(asked: &Asked) -> std::result::Result<(), String> {
    let verb = &asked.verb;
    let (writes, runs) = match verb.as_str() {
        "list" | "flushes" => (false, false),
        "replay" => (true, false),
        "each" => (true, true),
        _ => return Err(format!("there is no command `{verb}`")),
    };
    if asked.to.is_some() != writes {
        let how = if writes { "wants" } else { "has no" };
        return Err(format!("{verb} {how} --to DEVICE"));
    }
    if asked.command.is_empty() == runs {
        let how = if runs { "wants" } else { "runs no" };
        return Err(format!("{verb} {how} command behind --"));
    }
    Ok(())
}

fn run(asked: &Asked) -> Result<()> {
    let log = Log::open(&asked.log)?;
    let Asked { span, discards, command, .. } = asked;
    match &asked.to {
        None => list(&log, span, asked.verb == "flushes"),
        Some(to) if command.is_empty() => {
            let count = replay(&log, to, span, *discards)?;
            say(format_args!("{count} entries were replayed"))
        }
        Some(to) => {
            let count = each(&log, to, span, *discards, command)?;
            say(format_args!("{count} checks passed"))
        }
    }
}

/// Prints the entries: number, first sector of 512 bytes, how many, what it is.
fn list(log: &Log, span: &Span, flushes: bool) -> Result<()> {
    span.walk(log, |entry| match flushes {
        true if !entry.flags.is_flush() => Ok(()),
        true => say(format_args!("{} {}", entry.number, entry.name())),
        false => {
            let (at, sectors) = (entry.at / 512, entry.bytes / 512);
            say(format_args!("{} {at} {sectors} {}", entry.number, entry.name()))
        }
    })?;
    Ok(())
}

fn say(line: std::fmt::Arguments<'_>) -> Result<()> {
    writeln!(io::stdout(), "{line}").map_err(Error::io(Path::new("standard output")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> std::result::Result<Asked, String> {
        parse(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn command_lines_that_make_sense() {
        assert_eq!(parsed("list log").map(|asked| asked.log), Ok("log".into()));
        let asked = parsed("replay --to dev log --from mark:mkfs --until 7").unwrap();
        assert_eq!(asked.to, Some("dev".into()));
        let from = Some(Point::Mark("mkfs".to_owned()));
        assert_eq!(asked.span, Span { from, until: Some(Point::Number(7)) });
        let asked = parsed("each log --to dev --skip-discards -- fsck -n --to x").unwrap();
        assert_eq!(asked.command, ["fsck", "-n", "--to", "x"]);
        assert_eq!((asked.discards, asked.to), (Discards::Skip, Some("dev".into())));
    }

    #[test]
    fn command_lines_that_make_none() {
        let lines = [
            ("", "no command"),
            ("list", "no log"),
            ("fly log", "fly"),
            ("list log more", "more"),
            ("list log --to dev", "has no --to"),
            ("replay log", "wants --to"),
            ("replay log --to", "wants a value"),
            ("replay log --to dev --until x", "names no entry"),
            ("replay log --to dev -- fsck", "runs no command"),
            ("each log --to dev", "wants command"),
            ("each log --to dev --fast -- fsck", "--fast"),
        ];
        for (line, why) in lines {
            let said = parsed(line).unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
    }
}
