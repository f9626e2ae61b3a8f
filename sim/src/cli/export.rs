// SPDX-License-Identifier: MIT

//! `rwsnap export`: a whole volume or snapshot as a raw image.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rwsnap_core::control::rows::PLACE_LOST;
use rwsnap_core::control::{self, Name, RunRow};

use super::args;
use super::connect::{command, Connection};
use super::error::{Failure, Outcome};
use super::info::entity;
use super::io::Bytes;
use super::progress::bar;
use super::target::Target;
use super::Global;

/// Bytes of zeros that are worth a hole.
const HOLE: usize = 4096;

/// Write a whole volume or snapshot to a raw image file
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  rwsnap export prod@monday monday.img --sparse
  rwsnap export prod@monday rest.img --skip-lost")]
pub(super) struct Export {
    /// The volume or snapshot
    #[arg(value_name = "NAME", value_parser = args::name)]
    name: Name,
    /// The image file, which must not be there yet; with --force, one that is, or a block device
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Leave holes where there are zeros
    #[arg(long)]
    sparse: bool,
    /// Overwrite the file or device if it is there and nobody has it
    #[arg(long)]
    force: bool,
    /// Of a damaged snapshot, write what is left: zeros where its data is lost, and say where
    #[arg(long)]
    skip_lost: bool,
}

impl Export {
    pub(super) fn run(self, global: &Global) -> Outcome {
        global.with(|pool| self.write(global, pool))
    }

    fn write(&self, global: &Global, pool: &mut Connection) -> Outcome {
        let lost = if self.skip_lost { self.lost(pool)? } else { Vec::new() };
        let mut volume = Bytes::new(pool, self.name)?;
        let target = Target::open(&self.file, self.force)?;
        target.make_room(&self.file, volume.size)?;
        let (file, sparse) = (target.file(), self.sparse && target.is_blank());
        let failed = || Failure::io(format!("write {}", self.file.display()));
        let bar = bar(global, self.name.text(), volume.size);
        let size = volume.size;
        let mut from = 0;
        for (at, end) in lost.iter().copied().chain([(size, size)]) {
            volume.each(from, at.saturating_sub(from), |at, bytes| {
                bar.set_position(at);
                put(file, sparse, at, bytes).map_err(failed())
            })?;
            if at < end {
                fill(&target, at, end).map_err(failed())?;
                bar.suspend(|| global.say(&format!("lost: {} bytes from {at} on", end - at)));
            }
            from = end;
        }
        file.sync_all().map_err(failed())?;
        bar.finish_and_clear();
        Ok(())
    }

    /// Where data is lost, from byte to byte, in order.
    fn lost(&self, pool: &mut Connection) -> Outcome<Vec<(u64, u64)>> {
        let chunk = u64::from(pool.pool()?.chunk.get());
        let size = entity(pool, self.name)?.size.get();
        let runs = pool.all::<RunRow>(command(control::Verb::Map, self.name))?;
        let lost = runs.iter().filter(|run| run.place.get() == PLACE_LOST);
        let bytes = |chunks: u64| chunks.saturating_mul(chunk).min(size);
        let ends = |run: &RunRow| {
            (bytes(run.chunk.get()), bytes(run.chunk.get().saturating_add(run.count.get())))
        };
        Ok(lost.map(ends).collect())
    }
}

/// A device may hold anything where data is lost.
fn fill(target: &Target, at: u64, end: u64) -> std::io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut place = at;
    while place < end && !target.is_blank() {
        let now = usize::try_from(end - place).unwrap_or(usize::MAX).min(zeros.len());
        target.file().write_all_at(zeros.get(..now).unwrap_or_default(), place)?;
        place += now as u64;
    }
    Ok(())
}

fn put(file: &File, sparse: bool, at: u64, bytes: &[u8]) -> std::io::Result<()> {
    if !sparse {
        return file.write_all_at(bytes, at);
    }
    let mut place = at;
    for block in bytes.chunks(HOLE) {
        if block.iter().any(|&b| b != 0) {
            file.write_all_at(block, place)?;
        }
        place += block.len() as u64;
    }
    Ok(())
}
