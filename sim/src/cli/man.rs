// SPDX-License-Identifier: MIT

//! `rwsnap man`: a manual page for the program and one for each verb.

use std::fs;
use std::path::PathBuf;

use super::error::{Failure, Outcome};
use super::Global;

/// Write the manual pages into a folder
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap man /usr/local/share/man/man1")]
pub(super) struct Man {
    /// The folder; it is made if it is not there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Man {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let failed = || Failure::io(format!("write manual pages to {}", self.dir.display()));
        fs::create_dir_all(&self.dir).map_err(failed())?;
        let mut command = super::command();
        command.build();
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
        let pages: Vec<clap::Command> = verbs.collect();
        write_page(&self.dir, command, "rwsnap").map_err(failed())?;
        for verb in pages {
            let name = format!("rwsnap-{}", verb.get_name());
            write_page(&self.dir, verb, &name).map_err(failed())?;
        }
        global.say(&format!("manual pages are in {}", self.dir.display()));
        Ok(())
    }
}

fn write_page(dir: &std::path::Path, command: clap::Command, name: &str) -> std::io::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).title(name).render(&mut page)?;
    fs::write(dir.join(format!("{name}.1")), page)
}
