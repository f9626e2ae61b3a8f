// SPDX-License-Identifier: MIT

//! How things are printed: tables without borders, sizes and times for people and for programs,
//! JSON.

use std::io::{self, Write};

use comfy_table::{presets, CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use crate::store::local_time;

use super::error::{Failure, Outcome};

/// Prints text to standard output.
pub fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::io("print"))
}

/// Prints a value as JSON, indented.
pub fn print_json(value: &impl Serialize) -> Outcome {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| Failure::new(format!("cannot make JSON of it: {e}")))?;
    text.push('\n');
    print(&text)
}

/// A table: titles, and rows of as many texts.
#[derive(Debug, Default)]
pub struct Rows {
    /// Title of each column.
    pub titles: Vec<String>,
    /// Whether the column holds numbers.
    pub right: Vec<bool>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

impl Rows {
    /// With columns of these titles; `>` before a title aligns it right.
    #[must_use]
    pub fn new(titles: &[&str]) -> Self {
        let bare = titles.iter().map(|t| t.trim_start_matches('>').to_owned()).collect();
        let right = titles.iter().map(|t| t.starts_with('>')).collect();
        Self { titles: bare, right, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// For people: aligned, with titles.
    #[must_use]
    pub fn aligned(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(&self.titles);
        for row in &self.rows {
            table.add_row(row);
        }
        for (column, right) in table.column_iter_mut().zip(&self.right) {
            column.set_padding((0, 2));
            if *right {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    /// For scripts: no titles, one tab between columns.
    #[must_use]
    pub fn tabbed(&self) -> String {
        self.rows.iter().map(|row| row.join("\t") + "\n").collect()
    }
}

/// Prints `key: value` lines, aligned.
pub fn print_pairs(pairs: &[(&str, String)]) -> Outcome {
    let width = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + 1;
    let line = |(key, value): &(&str, String)| format!("{:width$}  {value}\n", format!("{key}:"));
    print(&pairs.iter().map(line).collect::<String>())
}

/// Bytes for people: `0`, `512B`, `64K`, `1.50G`; three digits at least.
#[must_use]
pub fn human(bytes: u64) -> String {
    const SUFFIXES: [char; 6] = ['K', 'M', 'G', 'T', 'P', 'E'];
    if bytes < 1024 {
        return if bytes == 0 { "0".to_owned() } else { format!("{bytes}B") };
    }
    let shifts = (10..).step_by(10);
    let fits = shifts.zip(SUFFIXES).take_while(|(shift, _)| bytes >> shift != 0);
    let (shift, suffix) = fits.last().unwrap_or((10, 'K'));
    let whole = bytes >> shift;
    let part = u128::from(bytes - (whole << shift));
    let scaled = |digits: u128| (part * digits) >> shift;
    match whole {
        _ if part == 0 => format!("{whole}{suffix}"),
        0..=9 => format!("{whole}.{:02}{suffix}", scaled(100)),
        10..=99 => format!("{whole}.{}{suffix}", scaled(10)),
        _ => format!("{whole}{suffix}"),
    }
}

/// Bytes, exact or for people.
#[must_use]
pub fn bytes(n: u64, exact: bool) -> String {
    if exact {
        n.to_string()
    } else {
        human(n)
    }
}

/// A moment in local time, to the minute; `-` for none.
#[must_use]
pub fn moment(ns: u64) -> String {
    match i64::try_from(ns / 1_000_000_000).ok().filter(|_| ns != 0).and_then(local_time) {
        Some([year, month, day, hour, minute, _]) => {
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
        }
        None => "-".to_owned(),
    }
}

/// A moment in UTC, as RFC 3339 has it.
#[must_use]
pub fn rfc3339(ns: u64) -> String {
    let (seconds, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (days, second) = (seconds / 86400, seconds % 86400);
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let second = second % 60;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{rest:09}Z")
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar: years are
/// counted from March on, so that the leap day is the last, in eras of 400 years.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        let cases = [
            (0, "0"),
            (512, "512B"),
            (1023, "1023B"),
            (1024, "1K"),
            (65536, "64K"),
            (3 << 29, "1.50G"),
            ((10 << 20) + (1 << 19), "10.5M"),
            ((100 << 20) + 5, "100M"),
            (1 << 40, "1T"),
            (u64::MAX, "15.9E"),
        ];
        for (n, text) in cases {
            assert_eq!(human(n), text);
        }
    }

    #[test]
    fn moments() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(rfc3339(1_767_225_599_500_000_000), "2025-12-31T23:59:59.500000000Z");
        assert_eq!(rfc3339(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(moment(0), "-");
    }

    #[test]
    fn tables_have_no_borders() {
        let mut rows = Rows::new(&["NAME", ">SIZE"]);
        rows.push(vec!["prod".into(), "1G".into()]);
        rows.push(vec!["prod@monday".into(), "512K".into()]);
        assert_eq!(rows.aligned(), "NAME         SIZE\nprod           1G\nprod@monday  512K\n");
        assert_eq!(rows.tabbed(), "prod\t1G\nprod@monday\t512K\n");
    }
}
