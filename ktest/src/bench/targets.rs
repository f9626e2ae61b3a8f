// SPDX-License-Identifier: MIT

//! What is asked of the module, and whether it is so.

use serde::Serialize;

use super::figures::{Figures, Key};

/// Whose `what` has to be at least so many times whose.
type Target = (&'static str, &'static str, f64, &'static str, &'static str);

/// Without a volatile cache and with one, wherever both were measured.
const TARGETS: &[Target] = &[
    ("rwsnap-4k", "again", 0.9, "raw", "again"),
    ("rwsnap-4k", "read", 0.9, "raw", "read"),
    ("rwsnap-64k", "again", 0.9, "raw", "again"),
    ("rwsnap-64k", "read", 0.9, "raw", "read"),
    ("rwsnap-4k", "first_1", 1.3, "dmsnap-4k", "first_1"),
    ("rwsnap-4k", "first_8", 6.0, "dmsnap-4k", "first_8"),
    ("rwsnap-4k", "first_64", 1.0, "rwsnap-4k", "first_1"),
    ("rwsnap-64k", "first_1", 1.0, "dmthin-64k", "first_1"),
    ("rwsnap-64k", "first_8", 1.0, "dmthin-64k", "first_8"),
    ("rwsnap-64k", "first_64", 1.0, "dmthin-64k", "first_64"),
];

/// A target that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    /// Whose, and of what.
    #[serde(flatten)]
    pub(super) ours: Key,
    /// What it is compared with.
    pub(super) against: Key,
    /// The median of the rounds' ratios.
    pub(super) ratio: f64,
    /// What it has to be at least.
    pub(super) target: f64,
    /// Whether it is.
    pub(super) met: bool,
}

/// Ratios are printed with two digits, and judged as they are printed.
fn is_met(ratio: f64, target: f64) -> bool {
    (ratio * 100.0).round() / 100.0 >= target
}

/// The targets of what was measured.
pub(super) fn check(figures: &Figures) -> Vec<Check> {
    let mut checks = Vec::new();
    for cache in [false, true] {
        for (who, what, target, other, its) in TARGETS {
            let ours = Key { cache, contender: (*who).to_owned(), what: (*what).to_owned() };
            let against = Key { cache, contender: (*other).to_owned(), what: (*its).to_owned() };
            if let Some(ratio) = figures.ratio(&ours, &against) {
                let (target, met) = (*target, is_met(ratio, *target));
                checks.push(Check { ours, against, ratio, target, met });
            }
        }
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::made;
    use super::super::figures::{CONTENDERS, MEASURED};
    use super::*;

    #[test]
    fn a_target_is_judged_as_it_is_printed() {
        assert!(is_met(0.896, 0.9));
        assert!(!is_met(0.894, 0.9));
    }

    #[test]
    fn what_was_measured_is_judged_and_no_more() {
        let figures = made(&[
            ("raw", "again", &[100, 100, 100]),
            ("rwsnap-4k", "again", &[95, 80, 92]),
            ("rwsnap-4k", "first_1", &[50, 50, 50]),
            ("dmsnap-4k", "first_1", &[40, 40, 40]),
        ]);
        let checks = check(&figures);
        let said: Vec<_> = checks.iter().map(|c| (c.ours.what.as_str(), c.met)).collect();
        assert_eq!(said, [("again", true), ("first_1", false)]);
    }

    #[test]
    fn targets_name_what_is_measured() {
        for (who, what, _, other, its) in TARGETS {
            assert!(CONTENDERS.contains(who) && CONTENDERS.contains(other));
            for name in [what, its] {
                assert!(MEASURED.iter().any(|(known, _)| known == name), "{name}");
            }
        }
    }
}
