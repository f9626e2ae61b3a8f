// SPDX-License-Identifier: MIT

//! `ktest`: the kernel module's tests in a virtual machine.
//!
//! It makes the machine ready ([`machine`]), builds kernels ([`kernel`]) and the module
//! ([`module`]), packs what the guest starts with ([`initramfs`]), boots it ([`qemu`]) with cases
//! ([`cases`]), and reports ([`report`]).

mod bench;
mod cases;
mod command;
mod failure;
mod initramfs;
mod kernel;
mod machine;
mod module;
mod places;
mod qemu;
mod report;
mod run;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use failure::Result;
use kernel::Kind;

/// Builds a kernel and the module, boots them in QEMU, runs the cases and reports
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Which {
    /// The debug kernel: lockdep, KASAN, kmemleak and more
    #[arg(long = "debug", visible_alias = "debug-kernel")]
    debug: bool,
}

impl Which {
    fn kind(&self) -> Kind {
        if self.debug {
            Kind::Debug
        } else {
            Kind::Plain
        }
    }
}

#[derive(Subcommand)]
enum Verb {
    /// Make the machine ready: packages, tools, and the kernel; KDIR= and KERNEL_SRC= take yours
    Setup(Which),
    /// Build the module, and check its frames and its licence; CLIPPY=1 adds the lints
    Build(Which),
    /// Boot, run the cases, and report
    Run {
        #[command(flatten)]
        which: Which,
        /// These cases alone
        #[arg(long = "case", value_name = "NAME", value_delimiter = ',')]
        named: Vec<String>,
        /// All cases, on both kernels; with --debug on that one alone
        #[arg(long, conflicts_with = "named")]
        full: bool,
        /// Guests at a time; else one for each processor, four at most
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
        jobs: Option<u8>,
    },
    /// A prompt in the guest
    Shell(Which),
    /// Measure rwsnap, dm-snapshot and dm-thin side by side in the guest
    Bench(bench::Options),
    /// List the cases
    List,
}

/// Guests that run at a time if nobody says how many.
fn guests() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

fn carry_out(verb: &Verb) -> Result<bool> {
    match verb {
        Verb::Setup(which) => {
            let kernel = machine::setup(which.kind())?;
            println!("Linux {} {}", kernel.release, kernel.tree.display());
        }
        Verb::Build(which) => {
            let kernel = machine::setup(which.kind())?;
            let module = module::build(&kernel)?;
            println!("{}", module.display());
            let wrong = module::examine(&kernel, &module);
            if !wrong.is_empty() {
                return failure::fail(wrong.join("\n"));
            }
            if module::wants_lint() {
                module::lint(&kernel)?;
            }
        }
        Verb::Run { which, named, full, jobs } => {
            let both = [Kind::Plain, Kind::Debug];
            let both_wanted = *full && !which.debug;
            let kinds = if both_wanted { both.as_slice() } else { &[which.kind()] };
            return run::cases(kinds, named, *full, jobs.map_or_else(guests, usize::from));
        }
        Verb::Shell(which) => return run::shell(which.kind()),
        Verb::Bench(options) => return bench::measure(options),
        Verb::List => return run::list(),
    }
    Ok(true)
}

fn main() -> ExitCode {
    match carry_out(&Cli::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("ktest: {failure}");
            ExitCode::FAILURE
        }
    }
}
