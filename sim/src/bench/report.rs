// SPDX-License-Identifier: MIT

//! What came of it: one line for each figure, with its target and whether it is met.

use serde::Serialize;

use crate::cli::error::Outcome;
use crate::cli::output::{print, Rows};

use super::numbers::{median, ratios};

/// What a figure has to be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Target {
    /// Nothing is asked of it.
    None,
    /// At least.
    AtLeast(f64),
    /// At most.
    AtMost(f64),
}

/// A figure.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The part that it belongs to.
    pub part: String,
    /// What was measured.
    pub figure: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// How much that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_value: Option<f64>,
    /// The median of the rounds' ratios.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// What the ratio, or without one the figure, has to be: `>= 0.95`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Whether it is; none if nothing is asked of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub met: Option<bool>,
    /// The rounds.
    pub rounds: Vec<f64>,
}

/// All figures.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The figures.
    pub lines: Vec<Line>,
    /// Peers that are not installed.
    pub missing: Vec<String>,
    /// Parts that could not be measured, and why.
    pub failures: Vec<String>,
    /// The machine's load averages at the end.
    pub load: String,
    /// The part that is being measured.
    #[serde(skip)]
    pub part: String,
}

/// The figures of a contender, by rounds.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Who.
    pub name: String,
    /// How much, in each round.
    pub rounds: Vec<f64>,
}

impl Series {
    /// With no round yet.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), rounds: Vec::new() }
    }

    /// One more round.
    pub fn push(&mut self, value: f64) {
        self.rounds.push(value);
    }
}

impl Target {
    fn text(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::AtLeast(n) => Some(format!(">= {n}")),
            Self::AtMost(n) => Some(format!("<= {n}")),
        }
    }

    fn is_met(self, value: f64) -> Option<bool> {
        // Ratios are printed with two digits, and judged as they are printed.
        let value = (value * 100.0).round() / 100.0;
        match self {
            Self::None => None,
            Self::AtLeast(n) => Some(value >= n),
            Self::AtMost(n) => Some(value <= n),
        }
    }
}

impl Report {
    /// A figure by itself.
    pub fn figure(&mut self, series: &Series, unit: &'static str, target: Target) {
        let value = median(&series.rounds);
        self.lines.push(Line {
            part: self.part.clone(),
            figure: series.name.clone(),
            value,
            unit,
            against: None,
            against_value: None,
            ratio: None,
            target: target.text(),
            met: target.is_met(value),
            rounds: series.rounds.clone(),
        });
    }

    /// A figure that was counted, and has to be just so.
    pub fn exact(&mut self, name: impl Into<String>, value: f64, wanted: f64, unit: &'static str) {
        let name = name.into();
        let figure = Series { name, rounds: vec![value] };
        self.figure(&figure, unit, Target::None);
        if let Some(line) = self.lines.last_mut() {
            line.target = Some(format!("= {wanted}"));
            line.met = Some((value - wanted).abs() < 1e-9);
        }
    }

    /// A figure beside another one.
    pub fn compare(&mut self, ours: &Series, theirs: &Series, unit: &'static str, target: Target) {
        if theirs.rounds.is_empty() {
            return;
        }
        let ratio = median(&ratios(&ours.rounds, &theirs.rounds));
        self.lines.push(Line {
            part: self.part.clone(),
            figure: ours.name.clone(),
            value: median(&ours.rounds),
            unit,
            against: Some(theirs.name.clone()),
            against_value: Some(median(&theirs.rounds)),
            ratio: Some(ratio),
            target: target.text(),
            met: target.is_met(ratio),
            rounds: ours.rounds.clone(),
        });
    }

    /// A part could not be measured.
    pub fn failed(&mut self, part: &str, why: impl AsRef<str>) {
        self.failures.push(format!("{part}: {}", why.as_ref()));
    }

    /// Whether all targets are met, and all could be measured.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failures.is_empty() && self.lines.iter().all(|line| line.met != Some(false))
    }

    /// Prints it for a person.
    ///
    /// # Errors
    ///
    /// It cannot be printed.
    pub fn print(&self) -> Outcome {
        let titles = [
            "PART", "FIGURE", ">VALUE", "UNIT", "AGAINST", ">VALUE", ">RATIO", "TARGET", "VERDICT",
        ];
        let mut rows = Rows::new(&titles);
        let number = |n: f64| if n >= 100.0 { format!("{n:.0}") } else { format!("{n:.2}") };
        for line in &self.lines {
            rows.push(vec![
                line.part.clone(),
                line.figure.clone(),
                number(line.value),
                line.unit.to_owned(),
                line.against.clone().unwrap_or_default(),
                line.against_value.map(number).unwrap_or_default(),
                line.ratio.map(|r| format!("{r:.2}")).unwrap_or_default(),
                line.target.clone().unwrap_or_default(),
                match line.met {
                    None => String::new(),
                    Some(true) => "met".to_owned(),
                    Some(false) => "MISSED".to_owned(),
                },
            ]);
        }
        let mut text = rows.aligned();
        for peer in &self.missing {
            text += &format!("not installed, not compared with: {peer}\n");
        }
        for failure in &self.failures {
            text += &format!("NOT MEASURED  {failure}\n");
        }
        text += &format!("load averages at the end: {}\n", self.load);
        print(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let mut report = Report::default();
        let series =
            |name: &str, rounds: &[f64]| Series { name: name.into(), rounds: rounds.into() };
        let (ours, theirs) = (series("a", &[9.5, 19.0, 4.0]), series("b", &[10.0, 20.0, 8.0]));
        report.compare(&ours, &theirs, "IOPS", Target::AtLeast(0.95));
        report.compare(&ours, &theirs, "IOPS", Target::AtMost(0.9));
        report.exact("writes", 3.0, 3.0, "I/Os");
        let met: Vec<_> = report.lines.iter().map(|line| line.met).collect();
        assert_eq!(met, [Some(true), Some(false), Some(true)]);
        assert!(!report.is_good());
    }
}
