// SPDX-License-Identifier: MIT

//! The `rwsnap` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwsnap::cli::main()
}
