// SPDX-License-Identifier: MIT

//! `ktest`: the kernel module's tests in a virtual machine.
//!
//! It makes the machine ready ([`machine`]), builds kernels ([`kernel`]) and the module
//! ([`module`]), packs what the guest starts with ([`initramfs`]), boots it ([`qemu`]) with cases
//! ([`cases`]), and reports ([`report`]).

mod command;
mod failure;
mod kernel;
mod machine;
mod places;

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
}

fn run(verb: &Verb) -> Result<bool> {
    match verb {
        Verb::Setup(which) => {
            let kernel = machine::setup(which.kind())?;
            println!("{} {}", kernel.release, kernel.tree.display());
        }
    }
    Ok(true)
}

fn main() -> ExitCode {
    match run(&Cli::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("ktest: {failure}");
            ExitCode::FAILURE
        }
    }
}
