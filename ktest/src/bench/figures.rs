// SPDX-License-Identifier: MIT

//! What the guest measured: a line for each, and the medians of the rounds.

use serde::Serialize;

/// What a line of the report begins with that is a figure.
const MARK: &str = "# figure: ";

/// Who is measured, in the order in which they are shown.
pub(super) const CONTENDERS: &[&str] =
    &["raw", "rwsnap-4k", "dmsnap-4k", "rwsnap-64k", "dmsnap-64k", "dmthin-64k"];

/// What is measured, in the order in which it is shown, and what of the bare device it is
/// compared with.
pub(super) const MEASURED: &[(&str, &str)] = &[
    ("first_1", "again"),
    ("first_8", "again"),
    ("first_64", "again"),
    ("again", "again"),
    ("read", "read"),
    ("snapshot_read", "read"),
    ("clone_read", "read"),
    ("clone_first", "again"),
];

/// What a line of the report tells.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    round: u32,
    key: Key,
    iops: f64,
    lower: Lower,
}

/// What belongs together in all rounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Key {
    /// Whether the devices below have a volatile cache.
    pub(super) cache: bool,
    /// Who.
    pub(super) contender: String,
    /// What.
    pub(super) what: String,
}

/// What arrived at the devices below, for each operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Lower {
    /// Reads.
    pub(super) reads: f64,
    /// KiB that were read.
    pub(super) read_kib: f64,
    /// Writes.
    pub(super) writes: f64,
    /// KiB that were written.
    pub(super) written_kib: f64,
    /// Flushes; a device without a volatile cache gets none.
    pub(super) flushes: f64,
}

/// A figure of all rounds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    /// Whose, and of what.
    #[serde(flatten)]
    pub(super) key: Key,
    /// Operations a second: the rounds' median.
    pub(super) iops: f64,
    /// The median of the rounds' ratios to the bare device.
    pub(super) to_raw: Option<f64>,
    /// Medians of the counts.
    pub(super) lower: Lower,
    /// Operations a second, in each round.
    pub(super) rounds: Vec<f64>,
}

/// All that was measured.
pub(super) struct Figures(Vec<Line>);

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.trim().strip_prefix(MARK)?.split_whitespace().collect();
        let [round, cache, contender, what, iops, ops, counts @ ..] = words.as_slice() else {
            return None;
        };
        let ops: f64 = ops.parse().ok()?;
        let counts: Vec<f64> = counts.iter().filter_map(|count| count.parse().ok()).collect();
        let [reads, read_sectors, writes, write_sectors, flushes] = counts.as_slice() else {
            return None;
        };
        let lower = Lower {
            reads: reads / ops,
            read_kib: read_sectors / 2.0 / ops,
            writes: writes / ops,
            written_kib: write_sectors / 2.0 / ops,
            flushes: flushes / ops,
        };
        let (contender, what) = ((*contender).to_owned(), (*what).to_owned());
        let key = Key { cache: *cache != "0", contender, what };
        Some(Self { round: round.parse().ok()?, key, iops: iops.parse().ok()?, lower })
    }
}

impl Figures {
    /// Reads what the guest reported, in one run or in several: what comes again is a further
    /// round of it.
    pub(super) fn read(reports: &[String]) -> Self {
        let mut all: Vec<Line> = Vec::new();
        for line in reports.iter().flat_map(|report| report.lines()).filter_map(Line::parse) {
            let had = all.iter().filter(|other| other.key == line.key);
            let round = had.map(|other| other.round).max().unwrap_or_default() + 1;
            all.push(Line { round, ..line });
        }
        Self(all)
    }

    fn lines<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Line> + 'a {
        self.0.iter().filter(move |line| line.key == *key)
    }

    /// The ratios of two series, round by round; only what ran in the same round is compared.
    pub(super) fn ratio(&self, ours: &Key, theirs: &Key) -> Option<f64> {
        let other = |round: u32| self.lines(theirs).find(|line| line.round == round);
        let pairs = self.lines(ours).filter_map(|line| Some((line.iops, other(line.round)?.iops)));
        median(pairs.filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs))
    }

    /// One of them, if it was measured.
    pub(super) fn of(&self, cache: bool, contender: &str, what: &str) -> Option<Figure> {
        let key = Key { cache, contender: contender.to_owned(), what: what.to_owned() };
        let raw = MEASURED.iter().find(|(name, _)| *name == what)?.1;
        let raw = Key { contender: "raw".to_owned(), what: raw.to_owned(), ..key };
        let count = |which: fn(&Lower) -> f64| {
            median(self.lines(&key).map(|line| which(&line.lower))).unwrap_or_default()
        };
        Some(Figure {
            iops: median(self.lines(&key).map(|line| line.iops))?,
            to_raw: self.ratio(&key, &raw),
            lower: Lower {
                reads: count(|lower| lower.reads),
                read_kib: count(|lower| lower.read_kib),
                writes: count(|lower| lower.writes),
                written_kib: count(|lower| lower.written_kib),
                flushes: count(|lower| lower.flushes),
            },
            rounds: self.lines(&key).map(|line| line.iops).collect(),
            key,
        })
    }

    /// All of them, in the order in which they are shown.
    pub(super) fn all(&self) -> Vec<Figure> {
        let mut all = Vec::new();
        for cache in [false, true] {
            for (what, _) in MEASURED {
                all.extend(CONTENDERS.iter().filter_map(|who| self.of(cache, who, what)));
            }
        }
        all
    }
}

/// The median; of an even number of values the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    match sorted.len() % 2 {
        1 => Some(upper),
        _ => Some(f64::midpoint(*sorted.get(half.checked_sub(1)?)?, upper)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Figures by their contender, what, and rounds.
    pub(in super::super) fn made(of: &[(&str, &str, &[u32])]) -> Figures {
        let mut report = String::from("KTAP version 1\n    ok 1 a step\n");
        for (who, what, rounds) in of {
            for (n, iops) in rounds.iter().enumerate() {
                let line =
                    format!("    {MARK}{} 0 {who} {what} {iops} 100 50 400 200 1600 1\n", n + 1);
                report.push_str(&line);
            }
        }
        Figures::read(&[report])
    }

    #[test]
    fn a_line_is_read_and_others_are_not() {
        let line =
            Line::parse("    # figure: 2 64 dmsnap-4k first_8 1500 100 800 6400 150 1200 25");
        let line = line.unwrap();
        assert_eq!((line.round, line.key.cache), (2, true));
        let wanted =
            Lower { reads: 8.0, read_kib: 32.0, writes: 1.5, written_kib: 6.0, flushes: 0.25 };
        assert_eq!(line.lower, wanted);
        for other in ["ok 1 x", "# figure: 1 0 raw again", "# figure: 1 0 raw again x 1 0 0 0 0 0"]
        {
            assert_eq!(Line::parse(other), None, "{other}");
        }
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let figures =
            made(&[("raw", "again", &[100, 200, 400]), ("x-4k", "again", &[90, 100, 380])]);
        let figure = figures.of(false, "x-4k", "again").unwrap();
        assert!((figure.iops - 100.0).abs() < 1e-9);
        assert!((figure.to_raw.unwrap() - 0.9).abs() < 1e-9);
        assert!(figures.of(true, "x-4k", "again").is_none());
        assert!(figures.of(false, "x-4k", "first_1").is_none());
    }

    #[test]
    fn runs_are_further_rounds() {
        let line = |iops| format!("{MARK}1 0 raw again {iops} 1 0 0 1 8 0\n");
        let figures = Figures::read(&[line(100), line(300)]);
        assert_eq!(figures.of(false, "raw", "again").unwrap().rounds, [100.0, 300.0]);
        assert_eq!(figures.0[1].round, 2);
    }

    #[test]
    fn medians() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([9.0, 1.0, 5.0].into_iter()), Some(5.0));
        assert_eq!(median([4.0, 1.0, 2.0, 8.0].into_iter()), Some(3.0));
    }
}
