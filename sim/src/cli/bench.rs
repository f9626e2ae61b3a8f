// SPDX-License-Identifier: MIT

//! `rwsnap bench`: measurements.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::ValueEnum;

use crate::bench::{self, contender, Options, Part};

use super::args;
use super::error::{Failure, Outcome};
use super::output::print_json;
use super::Global;

/// Measure, side by side with what else is installed
///
/// Compares within a round, as machines drift; gives the medians of the rounds. Needs fio, with
/// its nbd engine. Exit code 1 if a target is missed.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap bench
  rwsnap bench reads writes --rounds 3
  rwsnap bench first --dir /mnt/fast --json")]
pub(super) struct Bench {
    /// What to measure; all if nothing is given
    #[arg(value_name = "PART", value_enum)]
    parts: Vec<Part>,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where to put the images, some fifteen times `--size` in all
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Size of the production volumes
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = args::size)]
    size: u64,
    /// Seconds of each load that is measured by time
    #[arg(long, value_name = "SECONDS", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Records in a large map
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    records: u64,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Serve this file as it is: what production is compared with
    #[arg(long, value_name = "IMAGE", requires = "socket", hide = true)]
    passthrough: Option<PathBuf>,
    /// Where to serve it
    #[arg(long, value_name = "SOCKET", hide = true)]
    socket: Option<PathBuf>,
}

impl Bench {
    pub(super) fn run(self, global: &Global) -> Outcome<u8> {
        if let (Some(image), Some(socket)) = (&self.passthrough, &self.socket) {
            return contender::serve_bare(image, socket).map(|()| 0);
        }
        let program = std::env::current_exe().map_err(Failure::io("find this program"))?;
        let options = Options {
            program,
            dir: self.dir,
            size: self.size,
            rounds: usize::from(self.rounds),
            seconds: self.seconds,
            records: self.records,
            parts: parts(&self.parts),
            progress: !global.quiet && std::io::stderr().is_terminal(),
        };
        let report = bench::Bench::new(options)?.run()?;
        if self.json {
            print_json(&report)?;
        } else {
            report.print()?;
        }
        Ok(u8::from(!report.is_good()))
    }
}

/// The parts that were chosen, each once and in the order they are measured.
fn parts(chosen: &[Part]) -> Vec<Part> {
    let wanted = |part: &&Part| chosen.is_empty() || chosen.contains(part);
    Part::value_variants().iter().filter(wanted).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_measured_once_and_in_order() {
        assert_eq!(parts(&[Part::Open, Part::Reads, Part::Open]), [Part::Reads, Part::Open]);
        assert_eq!(parts(&[]), Part::value_variants());
    }
}
