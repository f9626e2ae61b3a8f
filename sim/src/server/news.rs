// SPDX-License-Identifier: MIT

//! What happens in the pool that a person should know of, in the server's log.

use rwsnap_core::control::EventRow;

use crate::store::engine::Engine;

/// Says what has happened behind event number `told`, and gives the number of the last.
pub(super) fn tell(core: &dyn Engine, mut told: u64) -> u64 {
    while let Some(event) = core.event_after(told) {
        told = event.number.get();
        let (kind, text) = sentence(&event);
        match kind {
            Weight::Error => tracing::error!("{text}"),
            Weight::Warn => tracing::warn!("{text}"),
            Weight::Info => tracing::info!("{text}"),
        }
    }
    told
}

/// How much it matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Weight {
    Error,
    Warn,
    Info,
}

fn sentence(event: &EventRow) -> (Weight, String) {
    let name = String::from_utf8_lossy(event.name.bytes()).into_owned();
    let (detail, value) = (event.detail.get(), event.value.get());
    match event.kind.get() {
        1 => (Weight::Warn, format!("few slots are left: {value} bytes of the save volume")),
        2 => (
            Weight::Warn,
            "the save volume is full: destroy what is not needed, or give it more room".into(),
        ),
        3 => (Weight::Info, format!("the save volume has grown to {value} bytes")),
        4 => (Weight::Warn, format!("{name} was given up: the save volume is full")),
        5 => (Weight::Error, format!("the pool is fenced: {}", why(value, detail))),
        6 => (Weight::Error, format!("{name} is damaged: old data could not be read")),
        7 => (Weight::Info, format!("the restore of {name} is complete")),
        8 => (Weight::Info, "what was destroyed is swept".into()),
        kind => (Weight::Info, format!("event {kind} of {name}: {detail}, {value}")),
    }
}

/// The fault that fenced a pool, behind its number as rows have it.
fn why(number: u64, line: u32) -> String {
    match number {
        9 => format!("a bug of rwsnap, at line {line}: please report it"),
        _ => why_fenced(number).to_owned(),
    }
}

/// As `why`, without a bug's line.
pub(crate) fn why_fenced(number: u64) -> &'static str {
    match number {
        1 => "an I/O error of the save volume",
        2 => "there was no room left below the save volume, where it has its space",
        3 => "there was no memory for what it must do",
        8 => "what was read is corrupt: run `rwsnap check` on the save volume",
        9 => "a bug of rwsnap: its log has the line; please report it",
        _ => "an unknown fault",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_an_error_that_says_why() {
        let event =
            EventRow { kind: 5.into(), value: 9.into(), detail: 77.into(), ..EventRow::default() };
        let (weight, text) = sentence(&event);
        assert_eq!(weight, Weight::Error);
        assert!(text.contains("line 77"), "{text}");
    }
}
