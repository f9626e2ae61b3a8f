// SPDX-License-Identifier: MIT

//! Pools with many map records: chunks written in random order behind snapshots, so that hardly
//! two of them lie side by side in the save volume, and each is a record of its own.

use std::path::Path;

use crate::cli::error::{Failure, Outcome};

use super::counted::{one_by_one, DIFFERENT};
use super::load::{Kind, Load};
use super::pool::{Files, USUAL};
use super::Bench;

/// Bytes of a chunk.
const CHUNK: u64 = 4096;

/// Bytes in a mebibyte.
const MIB: u64 = 1 << 20;

/// Makes a pool with the snapshot `prod@first` and at least so many records behind it.
///
/// # Errors
///
/// It cannot be made, or a write to it fails.
pub fn pool(
    bench: &Bench,
    name: &str,
    production: &Path,
    size: u64,
    records: u64,
) -> Outcome<Files> {
    let save = (records * CHUNK * 3 / 2).next_multiple_of(MIB) + 512 * MIB;
    let files = Files::create(&bench.options.program, &bench.place, name, production, save)?;
    let mut pool = files.serve(USUAL)?;
    pool.snapshot("prod@first")?;
    one_by_one(&mut pool, size, DIFFERENT, 0)?;
    for pass in 1.. {
        let row = pool.status()?;
        let now = row.records.get() + row.delta.get();
        bench.say(format!("{name}: {now} of {records} records"));
        if now >= records {
            break;
        }
        if pass > 64 {
            return Err(Failure::new(format!("{name}: {now} records and no more")));
        }
        let bytes = size.min((records - now) * CHUNK).max(DIFFERENT * CHUNK);
        Load::once(Kind::Write, size, bytes, pass).drive(&pool.whom("prod"))?;
        pool.snapshot(&format!("prod@pass{pass}"))?;
        pool.quiet()?;
    }
    pool.stop()?;
    Ok(files)
}
