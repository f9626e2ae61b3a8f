// SPDX-License-Identifier: MIT

//! How the cases went, as a table and as an exit code.

pub(crate) mod ktap;

use std::time::Duration;

use comfy_table::{presets, Table};

use crate::command::say;

/// How a case ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// All was as it has to be.
    Passed,
    /// A step was not.
    Failed,
    /// It did not run, and says why.
    Skipped(String),
    /// It took longer than it may; the guest was ended.
    Hung,
    /// The guest ended in the middle of it.
    Died,
}

impl Ending {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Skipped(_) => "skipped",
            Self::Hung => "HUNG",
            Self::Died => "DIED",
        }
    }
}

/// A case that ran.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The case's name.
    pub(crate) name: String,
    /// The kernel it ran on.
    pub(crate) kernel: &'static str,
    /// How it ended.
    pub(crate) ending: Ending,
    /// Steps that it showed.
    pub(crate) steps: u32,
    /// Titles of those that were not as they have to be, each with its remarks.
    pub(crate) wrong: Vec<String>,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Outcome {
    /// Whether nothing is wrong.
    pub(crate) fn is_well(&self) -> bool {
        matches!(self.ending, Ending::Passed | Ending::Skipped(_))
    }

    /// Says it, and what was wrong.
    pub(crate) fn tell(&self) {
        say(self.line());
        for wrong in &self.wrong {
            say(format!("    {wrong}"));
        }
    }

    /// In a line.
    fn line(&self) -> String {
        let Self { name, kernel, steps, .. } = self;
        let (word, seconds) = (self.ending.word(), self.took.as_secs_f32());
        format!("{word:7} {name} ({kernel}, {steps} steps, {seconds:.1} s)")
    }
}

/// The outcomes as a table, and a last line that counts them.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["case", "kernel", "result", "steps", "seconds", "what was wrong"]);
    for outcome in outcomes {
        let wrong = match &outcome.ending {
            Ending::Skipped(why) => why.clone(),
            _ => {
                outcome.wrong.iter().filter_map(|w| w.lines().next()).collect::<Vec<_>>().join("; ")
            }
        };
        table.add_row([
            outcome.name.clone(),
            outcome.kernel.to_owned(),
            outcome.ending.word().to_owned(),
            outcome.steps.to_string(),
            format!("{:.1}", outcome.took.as_secs_f32()),
            wrong,
        ]);
    }
    let bad = outcomes.iter().filter(|outcome| !outcome.is_well()).count();
    let seconds: f32 = outcomes.iter().map(|outcome| outcome.took.as_secs_f32()).sum();
    let end = match bad {
        0 => format!("{} cases in {seconds:.0} s: all is well", outcomes.len()),
        _ => format!("{bad} of {} cases went wrong", outcomes.len()),
    };
    format!("{table}\n{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_what_was_wrong() {
        let of = |name: &str, ending, wrong: &[&str]| Outcome {
            name: name.into(),
            kernel: "plain",
            ending,
            steps: 3,
            wrong: wrong.iter().map(|w| (*w).to_owned()).collect(),
            took: Duration::from_millis(1500),
        };
        let good = of("basic", Ending::Passed, &[]);
        let bad = of("xfs", Ending::Failed, &["it is clean\nremark"]);
        let text = table(&[good.clone(), bad]);
        assert!(
            text.contains("| xfs   | plain  | FAILED | 3     | 1.5     | it is clean"),
            "{text}"
        );
        assert!(text.ends_with("1 of 2 cases went wrong"), "{text}");
        assert!(table(std::slice::from_ref(&good)).ends_with("1 cases in 2 s: all is well"));
        assert_eq!(good.line(), "passed  basic (plain, 3 steps, 1.5 s)");
    }
}
