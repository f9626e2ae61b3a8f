// SPDX-License-Identifier: MIT

//! The command line. One file for each verb; what they share is in [`connect`] (talking to a pool),
//! [`locate`] (finding it), [`output`] (tables and JSON), [`view`] (rows as JSON) and [`args`].
//!
//! Exit codes: 0 done, 1 failed, 64 usage; `check` has its own (0 sound, 1 could not check,
//! 2 corrupt, 3 leaks).

pub mod args;
pub mod connect;
pub mod error;
pub mod fault;
pub mod full;
pub mod io;
pub mod locate;
pub mod module;
pub mod output;
pub mod progress;
pub mod refusal;
pub mod rest;
pub mod ties;
pub mod view;

mod add;
mod attach;
mod bench;
mod check;
mod clone;
mod completions;
mod create;
mod destroy;
mod detach;
mod diff;
mod dump;
mod export;
mod expose;
mod get;
mod hide;
mod hold;
mod info;
mod list;
mod lossy;
mod man;
mod map;
mod read;
mod refresh;
mod release;
mod remove;
mod rename;
mod restore;
mod serve;
mod set;
mod snapshot;
mod status;
mod stop;
mod storm;
mod target;
mod write;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, Parser, Subcommand};

use self::connect::Connection;
use self::error::{Failure, Outcome, USAGE};

/// Block-level snapshots, writable clones, refresh and instant restore for disk images and devices.
#[derive(Parser, Debug)]
#[command(
    name = "rwsnap",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Examples:
  rwsnap create save.img --size 2G --production disk.img
  rwsnap serve save.img --nbd unix:/tmp/disk.sock &
  rwsnap snapshot prod@monday
  rwsnap clone prod@monday dev1
  rwsnap restore prod --from prod@monday

Environment:
  RWSNAP_POOL            the pool, as --pool names it
  RWSNAP_RUNTIME_DIR     the only folder of control sockets, in place of /run/rwsnap and the others
  RWSNAP_CONTROL_DEVICE  the kernel module's control device, in place of /dev/rwsnap-control
  RUST_LOG               what is logged, in place of -q and -v

Exit codes: 0 done, 1 failed, 64 usage (check: 0 sound, 1 could not check, 2 corrupt, 3 leaks)."
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options that every command has.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Global {
    /// The pool: its save volume, the control socket of its server, or the name or UUID of a pool
    /// that is being served or attached. Not needed if there is just one such
    #[arg(long, global = true, env = "RWSNAP_POOL", value_name = "SAVE|POOL")]
    #[arg(help_heading = "Global options")]
    pub pool: Option<String>,
    /// Say nothing but errors
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Say more; twice: much more
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

impl Global {
    /// Says something to the person at the terminal, unless they asked for quiet.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// Connects to the pool that the command line means.
    ///
    /// # Errors
    ///
    /// See [`locate::connect`].
    pub fn connect(&self) -> Outcome<Connection> {
        locate::connect(self)
    }

    /// Connects, does something, closes; what was done is undone by nothing if closing fails.
    ///
    /// # Errors
    ///
    /// Those of connecting, of what is done, of closing.
    pub fn with<T>(&self, f: impl FnOnce(&mut Connection) -> Outcome<T>) -> Outcome<T> {
        let mut connection = self.connect()?;
        let done = f(&mut connection);
        let closed = connection.close();
        let done = done?;
        closed?;
        Ok(done)
    }
}

#[derive(Subcommand, Debug)]
enum Verb {
    Create(create::Create),
    Serve(serve::Serve),
    Stop(stop::Stop),
    Attach(attach::Attach),
    Detach(detach::Detach),
    Expose(expose::Expose),
    Hide(hide::Hide),
    Snapshot(snapshot::Snapshot),
    Clone(clone::Clone),
    Refresh(refresh::Refresh),
    Restore(restore::Restore),
    Destroy(destroy::Destroy),
    Rename(rename::Rename),
    Hold(hold::Hold),
    Release(release::Release),
    Get(get::Get),
    Set(set::Set),
    Add(add::Add),
    Remove(remove::Remove),
    List(list::List),
    Status(status::Status),
    Info(info::Info),
    Map(map::Map),
    Read(read::Read),
    Write(write::Write),
    Export(export::Export),
    Diff(diff::Diff),
    Check(check::Check),
    Dump(dump::Dump),
    Bench(bench::Bench),
    Completions(completions::Completions),
    Man(man::Man),
    #[command(hide = true)]
    Lossy(lossy::Lossy),
    #[command(hide = true)]
    Storm(storm::Storm),
}

impl Verb {
    fn run(self, global: &Global) -> Outcome<u8> {
        match self {
            Self::Create(verb) => verb.run(global),
            Self::Serve(verb) => verb.run(global),
            Self::Stop(verb) => verb.run(global),
            Self::Attach(verb) => verb.run(global),
            Self::Detach(verb) => verb.run(global),
            Self::Expose(verb) => verb.run(global),
            Self::Hide(verb) => verb.run(global),
            Self::Snapshot(verb) => verb.run(global),
            Self::Clone(verb) => verb.run(global),
            Self::Refresh(verb) => verb.run(global),
            Self::Restore(verb) => verb.run(global),
            Self::Destroy(verb) => verb.run(global),
            Self::Rename(verb) => verb.run(global),
            Self::Hold(verb) => verb.run(global),
            Self::Release(verb) => verb.run(global),
            Self::Get(verb) => verb.run(global),
            Self::Set(verb) => verb.run(global),
            Self::Add(verb) => verb.run(global),
            Self::Remove(verb) => verb.run(global),
            Self::List(verb) => verb.run(global),
            Self::Status(verb) => verb.run(global),
            Self::Info(verb) => verb.run(global),
            Self::Map(verb) => verb.run(global),
            Self::Read(verb) => verb.run(global),
            Self::Write(verb) => verb.run(global),
            Self::Export(verb) => verb.run(global),
            Self::Diff(verb) => verb.run(global),
            Self::Check(verb) => return verb.run(global),
            Self::Dump(verb) => verb.run(global),
            Self::Bench(verb) => return verb.run(global),
            Self::Completions(verb) => verb.run(),
            Self::Man(verb) => verb.run(global),
            Self::Lossy(verb) => verb.run(),
            Self::Storm(verb) => return verb.run(global.verbose > 0),
        }
        .map(|()| 0)
    }
}

/// The whole command line as clap knows it, for completions and man pages.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return not_run(&e),
    };
    start_log(&cli.global);
    match cli.verb.run(&cli.global) {
        Ok(code) => ExitCode::from(code),
        Err(Failure { message, code }) => {
            if !message.is_empty() {
                eprintln!("rwsnap: {message}");
            }
            ExitCode::from(code)
        }
    }
}

/// Help and version go to standard output and are no failure; all else is usage.
fn not_run(e: &clap::Error) -> ExitCode {
    let printed = e.print();
    match (e.use_stderr(), printed) {
        (false, Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::from(USAGE),
    }
}

/// Messages go to standard error; `RUST_LOG` overrides -q and -v.
fn start_log(global: &Global) {
    let usual = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(usual));
    // In a file or a journal the codes of colours are rubbish.
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let plain = log.with_target(false).without_time().with_ansi(coloured);
    if plain.try_init().is_err() {
        tracing::debug!("a log is set up already");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn clap_finds_nothing_wrong() {
        super::command().debug_assert();
    }
}
