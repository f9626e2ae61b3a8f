// SPDX-License-Identifier: MIT

//! Progress bars, on a terminal alone.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Global;

/// A bar of this many bytes; it draws nothing if nobody looks.
#[must_use]
pub fn bar(global: &Global, title: &str, bytes: u64) -> ProgressBar {
    let seen = !global.quiet && std::io::stderr().is_terminal();
    let target = if seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(bytes), target);
    let shape =
        "{msg}  {wide_bar}  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta}";
    if let Ok(style) = ProgressStyle::with_template(shape) {
        bar.set_style(style);
    }
    bar.set_message(title.to_owned());
    bar
}
