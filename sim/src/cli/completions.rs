// SPDX-License-Identifier: MIT

//! `rwsnap completions`: for the shell.

use clap_complete::Shell;

use super::error::Outcome;
use super::output::print;

/// Print completions for a shell
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap completions bash > /etc/bash_completion.d/rwsnap")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Outcome {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "rwsnap", &mut text);
        print(&String::from_utf8_lossy(&text))
    }
}
