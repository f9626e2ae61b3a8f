// SPDX-License-Identifier: GPL-2.0-only

//! The pool's events: each in the kernel's log, once, and as a uevent of the control device.
//!
//! A uevent takes memory, and a lock that others hold while they wait for memory: the worker, which
//! they may wait for then, leaves that to a work item of its own.

use kernel::{
    impl_has_work,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    workqueue::WorkItem, //
};
use rwsnap_core::control::EventRow;

use super::{
    bench::Bench,
    Pool, //
};
use crate::{
    control::uevent,
    mem::Core,
    queue,
    text::shown, //
};

/// Events that wait to be sent, at most: the log has the others.
pub(super) const WAITING: usize = 64;

impl_has_work! {
    impl HasWork<Self, 2> for Pool { self.teller }
}

impl WorkItem<2> for Pool {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        loop {
            let Some(event) = this.news.lock().pop() else {
                return;
            };
            this.send_event(&event);
        }
    }
}

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
            self.log_event(&event);
            let _ = self.news.lock().push(event);
            let _ = queue::slow().enqueue::<Arc<Self>, 2>(self.into());
        }
    }

    fn send_event(&self, event: &EventRow) {
        let (what, object) = (title(event.kind.get()), event.name.text());
        self.with_title(|pool| uevent::send(shown(pool), what, object, event.number.get()));
    }

    #[inline(never)]
    fn log_event(&self, event: &EventRow) {
        let (kind, detail, value) = (event.kind.get(), event.detail.get(), event.value.get());
        let (what, object) = (title(kind), event.name.text());
        self.with_title(|pool| {
            let pool = shown(pool);
            if is_bad(kind) {
                pr_warn!("{pool}: {what}: {object} ({detail}, {value})\n");
            } else {
                pr_info!("{pool}: {what}: {object} ({detail}, {value})\n");
            }
        });
    }
}
