// SPDX-License-Identifier: MIT

//! What was counted: how much was looked at, and how often each kind of thing happened, so that
//! nothing goes untried in silence.

use std::collections::BTreeMap;
use std::fmt;

/// How often each kind of thing happened.
#[derive(Clone, Debug, Default)]
pub struct Kinds(BTreeMap<&'static str, u64>);

impl Kinds {
    /// It happened.
    pub fn saw(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// It happened, if so.
    pub fn saw_if(&mut self, so: bool, kind: &'static str) {
        if so {
            self.saw(kind);
        }
    }

    /// How often it happened.
    #[must_use]
    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    /// Takes over another's counts, and leaves it none.
    pub fn absorb(&mut self, other: &mut Self) {
        self.add(other);
        other.0.clear();
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, count) in &self.0 {
            writeln!(f, "{count:>12}  {kind}")?;
        }
        Ok(())
    }
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Crash states checked.
    pub crashes: u64,
    /// Steps that failed.
    pub faults: u64,
    /// Steps ended.
    pub steps: u64,
    /// Blocks compared.
    pub compared: u64,
    /// Commands done, and refused, by name.
    pub commands: BTreeMap<&'static str, (u64, u64)>,
    /// All else.
    pub kinds: Kinds,
}

impl Tally {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.faults += other.faults;
        self.steps += other.steps;
        self.compared += other.compared;
        for (name, (done, refused)) in &other.commands {
            let entry = self.commands.entry(name).or_default();
            entry.0 += done;
            entry.1 += refused;
        }
        self.kinds.add(&other.kinds);
    }
}
