// SPDX-License-Identifier: MIT

//! The figures as tables for a person, and as JSON.

use comfy_table::{presets, CellAlignment, Table};
use serde::Serialize;

use super::figures::{Figure, Figures, Key};
use super::targets::Check;
use crate::failure::{Context, Failure, Result};

/// For people: what a name of the report means.
pub(super) fn title(what: &str) -> String {
    match (what, what.strip_prefix("first_")) {
        (_, Some("1")) => "first writes, 1 snapshot".to_owned(),
        (_, Some(many)) => format!("first writes, {many} snapshots"),
        ("again", _) => "written again".to_owned(),
        ("read", _) => "read".to_owned(),
        ("snapshot_read", _) => "a snapshot read".to_owned(),
        ("clone_first", _) => "a clone's first writes".to_owned(),
        ("clone_read", _) => "a clone read".to_owned(),
        _ => what.to_owned(),
    }
}

/// For people: `dm-snapshot, 4k`.
pub(super) fn name(contender: &str) -> String {
    let named = contender.replace("dmsnap-", "dm-snapshot, ").replace("dmthin-", "dm-thin, ");
    named.replace("rwsnap-", "rwsnap, ").replace("raw", "raw null_blk")
}

/// `8.4k`, `24.5k`, `812`.
fn thousands(iops: f64) -> String {
    match iops {
        n if n >= 1000.0 => format!("{:.1}k", n / 1000.0),
        n => format!("{n:.0}"),
    }
}

fn ratio(ratio: f64) -> String {
    format!("{ratio:.2}")
}

fn whole(key: &Key) -> String {
    let cache = if key.cache { ", volatile cache" } else { "" };
    format!("{}: {}{cache}", name(&key.contender), title(&key.what))
}

fn table(titles: &[&str], rows: impl Iterator<Item = Vec<String>>, numbers: &[usize]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(titles);
    rows.for_each(|row| {
        table.add_row(row);
    });
    for number in numbers {
        if let Some(column) = table.column_mut(*number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

fn figure(figure: &Figure) -> Vec<String> {
    let Figure { key, lower, .. } = figure;
    vec![
        title(&key.what),
        name(&key.contender),
        thousands(figure.iops),
        figure.to_raw.map(ratio).unwrap_or_default(),
        ratio(lower.reads),
        ratio(lower.writes),
        if key.cache { format!("{:.3}", lower.flushes) } else { "-".to_owned() },
        format!("{:.1}", lower.read_kib),
        format!("{:.1}", lower.written_kib),
    ]
}

fn check(check: &Check) -> Vec<String> {
    vec![
        whole(&check.ours),
        match check.against.what == check.ours.what {
            true => name(&check.against.contender),
            false => format!("{}: {}", name(&check.against.contender), title(&check.against.what)),
        },
        ratio(check.ratio),
        format!(">= {}", check.target),
        if check.met { "met".to_owned() } else { "**missed**".to_owned() },
    ]
}

/// For people; the tables are Markdown.
pub(super) fn text(figures: &Figures, checks: &[Check], place: &str) -> String {
    let titles =
        ["what", "who", "IOPS", "of raw", "reads", "writes", "flushes", "KiB read", "KiB written"];
    let all = figures.all();
    let mut parts = vec![format!("{place}; counts are per operation, at the devices below")];
    for (cache, said) in [(false, "No volatile cache"), (true, "With a volatile cache")] {
        let rows = all.iter().filter(|f| f.key.cache == cache).map(figure).collect::<Vec<_>>();
        if !rows.is_empty() {
            parts.push(format!("{said}:"));
            parts.push(table(&titles, rows.into_iter(), &[2, 3, 4, 5, 6, 7, 8]));
        }
    }
    let titles = ["what", "against", "ratio", "target", ""];
    parts.push(table(&titles, checks.iter().map(check), &[2, 3]));
    let missed = checks.iter().filter(|check| !check.met).count();
    parts.push(match missed {
        0 => format!("all {} targets are met", checks.len()),
        _ => format!("{missed} of {} targets are missed", checks.len()),
    });
    parts.join("\n\n")
}

/// For programs.
pub(super) fn json(figures: &Figures, checks: &[Check], place: &str) -> Result<String> {
    #[derive(Serialize)]
    struct All<'a> {
        place: &'a str,
        figures: Vec<Figure>,
        targets: &'a [Check],
    }
    let all = All { place, figures: figures.all(), targets: checks };
    let text = serde_json::to_string_pretty(&all);
    text.map_err(std::io::Error::other).map_err(Failure::from).context("JSON")
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::made;
    use super::super::targets;
    use super::*;

    #[test]
    fn the_tables_say_what_was_measured_and_what_is_missed() {
        let figures = made(&[("raw", "again", &[30_000]), ("rwsnap-4k", "again", &[15_000])]);
        let checks = targets::check(&figures);
        let said = text(&figures, &checks, "Linux 7.3, TCG");
        for wanted in ["Linux 7.3, TCG", "| 15.0k |", "0.50", "**missed**", "1 of 1 targets"] {
            assert!(said.contains(wanted), "{wanted}: {said}");
        }
        assert!(!said.contains("With a volatile cache"), "{said}");
        let said = json(&figures, &checks, "here").unwrap();
        assert!(said.contains("\"met\": false") && said.contains("\"to_raw\": 0.5"), "{said}");
    }

    #[test]
    fn names_are_for_people() {
        assert_eq!(name("dmsnap-64k"), "dm-snapshot, 64k");
        assert_eq!(title("first_8"), "first writes, 8 snapshots");
        assert_eq!((thousands(812.4), thousands(24_512.0)), ("812".into(), "24.5k".into()));
    }
}
