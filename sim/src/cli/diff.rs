// SPDX-License-Identifier: MIT

//! `rwsnap diff`: the chunks in which two volumes or snapshots differ.
//!
//! The map tells where they may differ; what may is read and compared, chunk by chunk.

use rwsnap_core::control::{self, Name, RunRow};

use super::args;
use super::connect::{command, Connection, PIECE};
use super::error::Outcome;
use super::io::Bytes;
use super::output::{bytes, print, print_json, Rows};
use super::Global;

/// Show the runs of chunks in which two volumes or snapshots differ
///
/// What lies beyond the end of the shorter one counts as different.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap diff prod@monday prod@tuesday --json")]
pub(super) struct Diff {
    /// One
    #[arg(value_name = "A", value_parser = args::name)]
    a: Name,
    /// The other
    #[arg(value_name = "B", value_parser = args::name)]
    b: Name,
    /// For scripts: no titles, one tab between columns
    #[arg(short = 'H', long = "no-titles")]
    bare: bool,
    /// Exact numbers
    #[arg(short = 'p', long = "exact")]
    exact: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// A run of bytes that differ.
#[derive(serde::Serialize, Debug, PartialEq, Eq)]
struct Changed {
    offset: u64,
    length: u64,
}

/// Runs, of which those that touch are one.
#[derive(Default)]
struct Changes(Vec<Changed>);

impl Changes {
    fn add(&mut self, offset: u64, length: u64) {
        match self.0.last_mut() {
            _ if length == 0 => {}
            Some(last) if last.offset + last.length == offset => last.length += length,
            _ => self.0.push(Changed { offset, length }),
        }
    }
}

impl Changes {
    /// Adds the chunks in which `a` and `b`, bytes from `at` on, differ; where they end.
    fn compare(&mut self, at: u64, a: &[u8], b: &[u8], chunk: u64) -> u64 {
        let width = usize::try_from(chunk).unwrap_or(PIECE).max(1);
        let mut place = at;
        for (a, b) in a.chunks(width).zip(b.chunks(width)) {
            if a != b {
                self.add(place, a.len() as u64);
            }
            place += a.len() as u64;
        }
        place
    }
}

impl Diff {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let changed = global.with(|pool| self.compare(pool))?;
        if self.json {
            return print_json(&changed);
        }
        let mut table = Rows::new(&[">OFFSET", ">LENGTH"]);
        for run in &changed {
            table.push(vec![bytes(run.offset, self.exact), bytes(run.length, self.exact)]);
        }
        print(&if self.bare { table.tabbed() } else { table.aligned() })
    }

    fn compare(&self, pool: &mut Connection) -> Outcome<Vec<Changed>> {
        let chunk = u64::from(pool.pool()?.chunk.get());
        let mut diff = command(control::Verb::Diff, self.a);
        diff.other = self.b;
        let rows = pool.all::<RunRow>(diff)?;
        let shapes = [Bytes::inside(pool, self.a)?.shape(), Bytes::inside(pool, self.b)?.shape()];
        let [(_, a), (_, b)] = shapes;
        let (shorter, longer) = (a.min(b), a.max(b));
        let mut changes = Changes::default();
        for row in rows {
            let start = row.chunk.get().saturating_mul(chunk).min(shorter);
            let count = row.count.get().saturating_mul(chunk);
            let end = start.saturating_add(count).min(shorter);
            let mut at = start;
            while at < end {
                let now = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                let [a, b] = [(self.a, shapes[0]), (self.b, shapes[1])]
                    .map(|(name, shape)| Bytes::known(pool, name, shape).read(at, now));
                at = changes.compare(at, &a?, &b?, chunk);
            }
        }
        changes.add(shorter, longer - shorter);
        Ok(changes.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_touch_are_one() {
        let mut changes = Changes::default();
        for (at, len) in [(0, 4), (4, 4), (8, 0), (12, 4)] {
            changes.add(at, len);
        }
        let run = |offset, length| Changed { offset, length };
        assert_eq!(changes.0, [run(0, 8), run(12, 4)]);
    }
}
