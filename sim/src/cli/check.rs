// SPDX-License-Identifier: MIT

//! `rwsnap check`: reads all metadata of a pool at rest and says whether it is sound.

use std::path::PathBuf;

use crate::check::{self, Report, Severity, Verdict};

use super::error::Outcome;
use super::locate::require_rest;
use super::output::{human, print, print_json};
use super::Global;

/// Check the metadata of a pool at rest, changing nothing
///
/// Exit codes: 0 sound, 1 could not check, 2 corrupt, 3 leaks (space that nothing uses).
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  rwsnap check save.img && echo sound")]
pub(super) struct Check {
    /// The save volume
    #[arg(value_name = "SAVE")]
    save: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self, global: &Global) -> Outcome<u8> {
        require_rest(&self.save, "check")?;
        let report = check::check(&self.save)?;
        if self.json {
            print_json(&report)?;
        } else {
            print(&text(&report, global.quiet))?;
        }
        Ok(report.verdict.exit_code())
    }
}

fn text(report: &Report, quiet: bool) -> String {
    let mut lines = Vec::new();
    for finding in &report.findings {
        match finding.severity {
            Severity::Corrupt => lines.push(format!("corrupt: {}", finding.what)),
            Severity::Leak => lines.push(format!("leak: {}", finding.what)),
            Severity::Note if quiet => {}
            Severity::Note => lines.push(format!("note: {}", finding.what)),
        }
    }
    if report.untold > 0 {
        lines.push(format!("... and {} more", report.untold));
    }
    let words = match report.verdict {
        Verdict::Sound => "sound",
        Verdict::Leaks => "sound, but some of its space is lost",
        Verdict::Corrupt => "CORRUPT",
    };
    if !(quiet && report.verdict == Verdict::Sound) {
        let (used, all) = (report.slots_used, report.slots);
        lines.push(format!("pool `{}` ({}) is {words}", report.pool, report.uuid));
        lines.push(format!(
            "{} volumes and snapshots, {} records, {used} of {all} slots, {} of metadata, {} log \
             blocks",
            report.volumes,
            report.records,
            human(report.pages.saturating_mul(4096)),
            report.log_blocks
        ));
    }
    lines.into_iter().map(|line| line + "\n").collect()
}
