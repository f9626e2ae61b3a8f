// SPDX-License-Identifier: MIT

//! Reads what the guest reports: KTAP, a line at a time, as it comes.
//!
//! ```text
//! KTAP version 1
//! 1..2
//!     KTAP version 1
//!     # Subtest: basic
//!     ok 1 the pool is made
//!     not ok 2 the clone is as the snapshot
//!     # sums differ: 7f... 3a...
//!     1..2
//! not ok 1 basic
//! ```
//!
//! A case is under way from its `# Subtest:` to its own result.

use std::time::Duration;

/// What a case wants done to the disks whose power can be cut, and to the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// `# power: cut in 700`: the disks', after so many milliseconds.
    Cut(Duration),
    /// `# power: off in 700`: the guest's, too; it starts again then, with the disks it had.
    Off(Duration),
    /// `# power: on`: that of the disks comes back.
    On,
}

impl Order {
    fn read(text: &str) -> Option<Self> {
        let (verb, rest) = text.split_once(" in ").unwrap_or((text, ""));
        let time = rest.parse().map(Duration::from_millis);
        match (verb, time) {
            ("cut", Ok(time)) => Some(Self::Cut(time)),
            ("off", Ok(time)) => Some(Self::Off(time)),
            ("on", _) => Some(Self::On),
            _ => None,
        }
    }
}

/// What a line told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// So many cases are to come.
    Planned(u32),
    /// A case begins.
    Begins(String),
    /// A step of the case under way.
    Step {
        /// Whether it was as it has to be.
        ok: bool,
        /// What was shown.
        title: String,
    },
    /// What is to become of the power.
    Power(Order),
    /// A remark on the step before.
    Remark(String),
    /// A case is over.
    Ends {
        /// Its name.
        name: String,
        /// Whether all was as it has to be.
        ok: bool,
        /// Why it was skipped, if it was.
        skipped: Option<String>,
    },
    /// Nothing that matters.
    Nothing,
}

/// What a line tells.
pub(crate) fn read(line: &str) -> Told {
    let line = line.trim_end();
    let inner = line.trim_start();
    let nested = inner.len() < line.len();
    if let Some(name) = inner.strip_prefix("# Subtest:") {
        return Told::Begins(name.trim().to_owned());
    }
    if let Some(order) = inner.strip_prefix("# power: ").filter(|_| nested) {
        return Order::read(order).map_or(Told::Nothing, Told::Power);
    }
    if let Some(remark) = inner.strip_prefix("# ").filter(|_| nested) {
        return Told::Remark(remark.to_owned());
    }
    if let Some(count) = inner.strip_prefix("1..").filter(|_| !nested) {
        return count.parse().map_or(Told::Nothing, Told::Planned);
    }
    let result = inner.strip_prefix("not ok ").map(|rest| (false, rest));
    match result.or_else(|| inner.strip_prefix("ok ").map(|rest| (true, rest))) {
        Some((ok, rest)) => result_of(ok, rest, nested),
        None => Told::Nothing,
    }
}

/// `3 the title # SKIP why`
fn result_of(ok: bool, rest: &str, nested: bool) -> Told {
    let (number, text) = rest.split_once(' ').unwrap_or((rest, ""));
    if number.parse::<u32>().is_err() {
        return Told::Nothing;
    }
    let text = text.trim_start_matches("- ");
    let (title, directive) = text.split_once(" # ").unwrap_or((text, ""));
    let title = title.trim().to_owned();
    match nested {
        true => Told::Step { ok, title },
        false => {
            let skipped = directive.strip_prefix("SKIP").map(|why| why.trim().to_owned());
            Told::Ends { name: title, ok, skipped }
        }
    }
}

/// Bytes that come in pieces, as lines.
#[derive(Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// The lines that these bytes complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(bytes);
        let Some(end) = self.0.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.0.split_off(end + 1);
        let whole = std::mem::replace(&mut self.0, rest);
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(ok: bool, title: &str) -> Told {
        Told::Step { ok, title: title.into() }
    }

    fn ends(name: &str, ok: bool, skipped: Option<&str>) -> Told {
        Told::Ends { name: name.into(), ok, skipped: skipped.map(str::to_owned) }
    }

    #[test]
    fn each_kind_of_line_is_read() {
        assert_eq!(read("KTAP version 1"), Told::Nothing);
        assert_eq!(read("1..12"), Told::Planned(12));
        assert_eq!(read("    1..3"), Told::Nothing);
        assert_eq!(read("    # Subtest: basic\r"), Told::Begins("basic".into()));
        assert_eq!(read("    ok 1 it is made"), step(true, "it is made"));
        assert_eq!(read("    not ok 2 - it is gone"), step(false, "it is gone"));
        assert_eq!(read("    # why"), Told::Remark("why".into()));
        assert_eq!(read("ok 1 basic"), ends("basic", true, None));
        assert_eq!(read("not ok 2 basic"), ends("basic", false, None));
        assert_eq!(read("ok 3 xfs # SKIP no room"), ends("xfs", true, Some("no room")));
    }

    #[test]
    fn orders_about_the_power_are_read() {
        let ms = Duration::from_millis;
        assert_eq!(read("    # power: cut in 700"), Told::Power(Order::Cut(ms(700))));
        assert_eq!(read("    # power: off in 1"), Told::Power(Order::Off(ms(1))));
        assert_eq!(read("    # power: on"), Told::Power(Order::On));
        assert_eq!(read("    # power: cut"), Told::Nothing);
    }

    #[test]
    fn what_is_no_result_is_passed_over() {
        for line in ["", "okay 1 x", "ok x", "not ok", "[    1.0] ok 1", "1..", "# a word"] {
            assert_eq!(read(line), Told::Nothing, "{line:?}");
        }
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        let mut lines = Lines::default();
        assert!(lines.feed(b"ok").is_empty());
        assert_eq!(lines.feed(b" 1 a\nnot"), ["ok 1 a"]);
        assert_eq!(lines.feed(b" ok 2 b\n\nok"), ["not ok 2 b", ""]);
        assert_eq!(lines.feed(b"\n"), ["ok"]);
    }
}
