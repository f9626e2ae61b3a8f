// SPDX-License-Identifier: MIT

//! `rwsnap write`: bytes into a production volume or a clone.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use rwsnap_core::control::Name;

use super::args;
use super::connect::PIECE;
use super::error::{Failure, Outcome};
use super::io::Bytes;
use super::Global;

/// Write bytes into a volume, from standard input or a file; durable when done
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  printf hello | rwsnap write dev1 --offset 1M")]
pub(super) struct Write {
    /// The production volume or clone
    #[arg(value_name = "NAME", value_parser = args::name)]
    name: Name,
    /// First byte
    #[arg(long, value_name = "N", default_value = "0", value_parser = args::size)]
    offset: u64,
    /// Read them from this file
    #[arg(short = 'i', long = "input", value_name = "FILE")]
    input: Option<PathBuf>,
}

impl Write {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let (mut input, known): (Box<dyn Read>, Option<u64>) = match &self.input {
            None => (Box::new(std::io::stdin().lock()), None),
            Some(path) => {
                let file = File::open(path);
                let file = file.map_err(Failure::io(format!("read {}", path.display())))?;
                let size = file.metadata().ok().filter(std::fs::Metadata::is_file);
                (Box::new(file), size.map(|m| m.len()))
            }
        };
        global.with(|pool| {
            let mut volume = Bytes::new(pool, self.name)?;
            volume.check(self.offset, known.unwrap_or(0))?;
            let mut at = self.offset;
            loop {
                let bytes = next_piece(&mut input)?;
                if bytes.is_empty() {
                    return volume.flush();
                }
                volume.check(at, bytes.len() as u64)?;
                volume.write(at, &bytes)?;
                at += bytes.len() as u64;
            }
        })
    }
}

/// Up to [`PIECE`] bytes; fewer only at the end.
fn next_piece(input: &mut dyn Read) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::with_capacity(PIECE);
    let read = input.take(PIECE as u64).read_to_end(&mut bytes);
    read.map_err(Failure::io("read what is to be written"))?;
    Ok(bytes)
}
