// SPDX-License-Identifier: MIT

//! The figures as bars, in an SVG file: a panel for first writes, one for the rest, and one for
//! devices with a volatile cache.

use std::fmt::Display;
use std::io;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figures::{Figures, CONTENDERS, MEASURED};
use super::table::{name, title};
use crate::failure::{Context, Failure, Result};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A panel's heading, whether its devices have a cache, and what it shows.
type Panel = (&'static str, bool, &'static [&'static str]);

const PANELS: &[Panel] = &[
    ("First writes to production", false, &["first_1", "first_8", "first_64"]),
    (
        "Production, a snapshot and a clone",
        false,
        &["again", "read", "snapshot_read", "clone_read", "clone_first"],
    ),
    ("Devices with a volatile cache", true, &["first_1", "first_8", "again", "read"]),
];

const WIDTH: u32 = 960;
const PANEL_HEIGHT: u32 = 300;
const LEGEND_HEIGHT: u32 = 40;
/// Pixels of a name in the legend.
const LEGEND_STEP: i32 = 155;
/// How much of its place a group of bars fills.
const FILLED: f64 = 0.86;
const FONT: &str = "sans-serif";

/// One for each contender.
const COLOURS: &[RGBColor] = &[
    RGBColor(160, 160, 160),
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(240, 228, 66),
    RGBColor(204, 121, 167),
];

/// A bar.
struct Bar {
    group: usize,
    contender: usize,
    kiops: f64,
}

/// The bars of a panel; the bare device's stand in each group.
fn bars(figures: &Figures, (_, cache, shown): &Panel) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (group, what) in shown.iter().enumerate() {
        let of_raw = MEASURED.iter().find(|(name, _)| name == what).map_or(*what, |(_, raw)| *raw);
        for (contender, who) in CONTENDERS.iter().enumerate() {
            let what = if *who == "raw" { of_raw } else { what };
            if let Some(figure) = figures.of(*cache, who, what) {
                bars.push(Bar { group, contender, kiops: figure.iops / 1000.0 });
            }
        }
    }
    bars
}

fn wrong(error: impl Display) -> Failure {
    io::Error::other(error.to_string()).into()
}

/// Draws what was measured.
pub(super) fn draw(figures: &Figures, place: &str, file: &Path) -> Result {
    let mut panels: Vec<(&Panel, Vec<Bar>)> = Vec::new();
    for panel in PANELS {
        let bars = bars(figures, panel);
        if !bars.is_empty() {
            panels.push((panel, bars));
        }
    }
    let count = u32::try_from(panels.len()).unwrap_or_default();
    let height = LEGEND_HEIGHT + PANEL_HEIGHT * count;
    let root = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE).map_err(wrong).about(file)?;
    let (above, below) = root.split_vertically(LEGEND_HEIGHT);
    legend(&above)?;
    for (area, (panel, bars)) in below.split_evenly((panels.len(), 1)).iter().zip(&panels) {
        draw_panel(area, panel, bars, place)?;
    }
    root.present().map_err(wrong).about(file)
}

fn legend(area: &Area) -> Result {
    let style = (FONT, 14).into_font().into_text_style(area);
    for (n, (who, colour)) in (0..).zip(CONTENDERS.iter().zip(COLOURS)) {
        let left = 20 + n * LEGEND_STEP;
        let square = Rectangle::new([(left, 14), (left + 14, 28)], colour.filled());
        area.draw(&square).map_err(wrong)?;
        area.draw(&Text::new(name(who), (left + 20, 15), style.clone())).map_err(wrong)?;
    }
    Ok(())
}

/// Where a bar begins and ends, in groups.
fn sides(bar: &Bar) -> (f64, f64) {
    let count = u32::try_from(CONTENDERS.len()).map_or(1.0, f64::from);
    let number = |n: usize| u32::try_from(n).map_or(0.0, f64::from);
    let width = FILLED / count;
    let left = number(bar.group) + (1.0 - FILLED) / 2.0 + number(bar.contender) * width;
    (left, left + width * 0.92)
}

fn draw_panel(area: &Area, panel: &Panel, bars: &[Bar], place: &str) -> Result {
    let (heading, _, shown) = panel;
    let groups = u32::try_from(shown.len()).map_or(1.0, f64::from);
    let most = bars.iter().map(|bar| bar.kiops).fold(0.0, f64::max) * 1.12;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{heading} ({place})"), (FONT, 16))
        .margin_left(10)
        .margin_right(15)
        .x_label_area_size(34)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..groups, 0.0..most)
        .map_err(wrong)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .light_line_style(TRANSPARENT)
        .y_desc("thousands of IOPS")
        .label_style((FONT, 13))
        .draw()
        .map_err(wrong)?;
    let small = (FONT, 10).into_font().into_text_style(area);
    let small = small.pos(Pos::new(HPos::Center, VPos::Bottom));
    for bar in bars {
        let (left, right) = sides(bar);
        let colour = COLOURS.get(bar.contender).copied().unwrap_or(BLACK);
        let corners = [(left, 0.0), (right, bar.kiops)];
        chart.draw_series([Rectangle::new(corners, colour.filled())]).map_err(wrong)?;
        let (x, y) = chart.backend_coord(&(f64::midpoint(left, right), bar.kiops));
        write(area, format!("{:.1}", bar.kiops), (x, y - 2), small.clone())?;
    }
    let middle = (FONT, 13).into_font().into_text_style(area);
    let middle = middle.pos(Pos::new(HPos::Center, VPos::Top));
    for (group, what) in (0u32..).zip(*shown) {
        let (x, y) = chart.backend_coord(&(f64::from(group) + 0.5, 0.0));
        write(area, title(what), (x, y + 8), middle.clone())?;
    }
    Ok(())
}

/// Writes at a place of the whole picture.
fn write(area: &Area, text: String, (x, y): (i32, i32), style: TextStyle) -> Result {
    let (left, top) = area.get_base_pixel();
    area.draw(&Text::new(text, (x - left, y - top), style)).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::made;
    use super::*;

    #[test]
    fn what_was_measured_is_drawn() {
        let figures = made(&[
            ("raw", "again", &[30_000]),
            ("rwsnap-4k", "first_1", &[15_000]),
            ("dmsnap-4k", "first_1", &[7_000]),
        ]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plot.svg");
        draw(&figures, "here", &file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("First writes to production (here)") && text.contains("15.0"));
        assert!(!text.contains("volatile"), "nothing of it was measured");
        assert!(text.is_ascii());
    }

    #[test]
    fn bars_stay_in_their_group() {
        let last = Bar { group: 1, contender: CONTENDERS.len() - 1, kiops: 1.0 };
        let (left, right) = sides(&last);
        assert!(left > 1.0 && right < 2.0);
        assert_eq!(COLOURS.len(), CONTENDERS.len());
    }
}
