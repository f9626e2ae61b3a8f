// SPDX-License-Identifier: GPL-2.0

//! The pool's events: each in the kernel's log, once, and as a uevent of the control device.

use kernel::{
    prelude::*,
    sync::ArcBorrow, //
};
use rwsnap_core::control::EventRow;

use super::{
    bench::Bench,
    Pool, //
};
use crate::{
    control::uevent,
    mem::Core,
    text::shown, //
};

/// What an event is, by its kind.
fn title(kind: u32) -> &'static str {
    match kind {
        1 => "low water",
        2 => "full",
        3 => "grown",
        4 => "given up",
        5 => "fenced",
        6 => "damaged",
        7 => "restored",
        8 => "swept",
        _ => "event",
    }
}

/// Whether somebody ought to look.
fn is_bad(kind: u32) -> bool {
    matches!(kind, 2 | 4 | 5 | 6)
}

impl Pool {
    /// Tells of what has happened since it was told last.
    #[inline(never)]
    pub(super) fn tell_news(self: ArcBorrow<'_, Self>, bench: &mut Bench, core: &mut Core) {
        while let Some(event) = core.event_after(bench.told) {
            bench.told = event.number.get();
            self.tell_event(&event);
        }
    }

    #[inline(never)]
    fn tell_event(&self, event: &EventRow) {
        let (kind, detail, value) = (event.kind.get(), event.detail.get(), event.value.get());
        let (what, object) = (title(kind), event.name.text());
        self.with_title(|pool| {
            let pool = shown(pool);
            if is_bad(kind) {
                pr_warn!("{pool}: {what}: {object} ({detail}, {value})\n");
            } else {
                pr_info!("{pool}: {what}: {object} ({detail}, {value})\n");
            }
            uevent::send(pool, what, object, event.number.get());
        });
    }
}
