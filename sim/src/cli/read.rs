// SPDX-License-Identifier: MIT

//! `rwsnap read`: bytes of a volume or snapshot.

use std::io::Write;
use std::path::PathBuf;

use rwsnap_core::control::Name;

use super::args;
use super::error::{Failure, Outcome};
use super::io::Bytes;
use super::target::Target;
use super::Global;

/// Read bytes of a volume or snapshot, to standard output or a file
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap read prod@monday --offset 1M --length 4K | hexdump -C
  rwsnap read dev1 -O dev1.raw")]
pub(super) struct Read {
    /// The volume or snapshot
    #[arg(value_name = "NAME", value_parser = args::name)]
    name: Name,
    /// First byte
    #[arg(long, value_name = "N", default_value = "0", value_parser = args::size)]
    offset: u64,
    /// How many bytes; up to the end if not given
    #[arg(long, value_name = "N", value_parser = args::size)]
    length: Option<u64>,
    /// Write them to this file
    #[arg(short = 'O', long = "output", value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A target, written from its beginning on.
struct Output(Target);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.file().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.file().flush()
    }
}

impl Read {
    pub(super) fn run(self, global: &Global) -> Outcome {
        global.with(|pool| {
            let mut volume = Bytes::new(pool, self.name)?;
            let length = self.length.unwrap_or(volume.size.saturating_sub(self.offset));
            volume.check(self.offset, length)?;
            let mut out = self.out()?;
            let failed = || Failure::io("write what was read");
            volume.each(self.offset, length, |_, bytes| out.write_all(bytes).map_err(failed()))?;
            out.flush().map_err(failed())
        })
    }

    /// Where the bytes go.
    fn out(&self) -> Outcome<Box<dyn Write>> {
        let Some(path) = &self.output else { return Ok(Box::new(std::io::stdout().lock())) };
        let target = Target::open(path, true)?;
        target.make_room(path, 0)?;
        Ok(Box::new(Output(target)))
    }
}
