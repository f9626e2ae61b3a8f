// SPDX-License-Identifier: MIT

//! The `replay-log` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    rwsnap_replay::cli::main()
}
