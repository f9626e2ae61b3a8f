// SPDX-License-Identifier: MIT

//! What a check found.

use rwsnap_core::format::superblock::Superblock;
use serde::Serialize;

use crate::store::identify;

/// Findings of a kind that are told one by one; the rest is counted.
const TOLD: usize = 100;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a word, and as it should be.
    Note,
    /// Space that nothing uses.
    Leak,
    /// Metadata that contradicts itself, or is damaged.
    Corrupt,
}

/// What the check comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is as it should be.
    #[default]
    Sound,
    /// Space is lost, and nothing else.
    Leaks,
    /// It is damaged.
    Corrupt,
}

impl Verdict {
    /// The exit code that says so.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Sound => 0,
            Self::Corrupt => 2,
            Self::Leaks => 3,
        }
    }
}

/// Something that was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub what: String,
}

/// All that was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Name of the pool.
    pub pool: String,
    /// UUID of the pool.
    pub uuid: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// It was closed in order.
    pub clean: bool,
    /// Generation of the superblock.
    pub generation: u64,
    /// Volumes and snapshots.
    pub volumes: u64,
    /// Records of the map, with those of the log.
    pub records: u64,
    /// Pages of the tree and of the catalogue.
    pub pages: u64,
    /// Slots there are.
    pub slots: u64,
    /// Of them in use.
    pub slots_used: u64,
    /// Blocks of the log that count.
    pub log_blocks: u64,
    /// Blocks at its end that do not: they were not acknowledged.
    pub log_dropped: u64,
    /// Leaked slots.
    pub slots_leaked: u64,
    /// Leaked metadata pages.
    pub pages_leaked: u64,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// Findings that are not told.
    pub untold: u64,
}

impl Report {
    /// An empty one.
    #[must_use]
    pub fn new(superblock: &Superblock) -> Self {
        Self {
            pool: identify::label(superblock),
            uuid: uuid::Uuid::from_bytes(superblock.pool).to_string(),
            clean: superblock.clean.get() != 0,
            generation: superblock.generation.get(),
            slots: superblock.slots.get(),
            ..Self::default()
        }
    }

    /// Something contradicts itself.
    pub(super) fn corrupt(&mut self, what: String) {
        self.verdict = Verdict::Corrupt;
        self.add(Severity::Corrupt, what);
    }

    /// Space is lost.
    pub(super) fn leak(&mut self, what: String) {
        if self.verdict == Verdict::Sound {
            self.verdict = Verdict::Leaks;
        }
        self.add(Severity::Leak, what);
    }

    /// Something is worth a word.
    pub(super) fn note(&mut self, what: String) {
        self.add(Severity::Note, what);
    }

    fn add(&mut self, severity: Severity, what: String) {
        let alike = self.findings.iter().filter(|f| f.severity == severity).count();
        if alike < TOLD {
            self.findings.push(Finding { severity, what });
        } else {
            self.untold += 1;
        }
    }

    /// Puts the worst first.
    pub(super) fn finish(&mut self) {
        self.findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    }
}
