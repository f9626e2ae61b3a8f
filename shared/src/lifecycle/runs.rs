// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The commands `Map` and `Diff`: where the chunks of a volume lie, run by run.
//!
//! Words of which no level has a record are skipped in one step, so that the cost follows the
//! records and not the size. A reply holds as many runs as fit; the caller asks on from where it
//! ended.

use zerocopy::IntoBytes;

use crate::control::rows::{
    PLACE_IN_PLACE, PLACE_LOST, PLACE_SLOT, PLACE_ZERO, RUN_BASE, RUN_BIT, RUN_RESTORE_NEW,
    RUN_SETTLED, RUN_UNSETTLED,
};
use crate::control::{Refusal, RunRow};
use crate::engine::{Core, Dir, Level, Levels, Places, Stage, Stop, View, What, NONE};
use crate::format::entity::Kind;
use crate::format::record::GroupKey;
use crate::lifecycle::command::{Blamed, Whose};
use crate::map::Miss;
use crate::platform::Platform;
use crate::units::{Epoch, MapId, Word};

/// Behind all words.
const NOWHERE: Word = Word(u64::MAX >> 16);

/// Views and runs of a `Map` or `Diff` under way. One at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walker {
    owner: u32,
    views: [u32; 2],
    word: Word,
    /// The next word with a record, as far as the first `asked` maps of the views were asked.
    next: Word,
    asked: u8,
    /// `Lifecycle::views_made` as of then.
    views_made: u64,
    rows: u64,
    /// The run being gathered.
    run: RunRow,
    /// Places of the first volume (diff), or of old data (map of a production).
    first: Places,
}

impl Walker {
    pub(crate) const NEW: Self = Self {
        owner: NONE,
        views: [NONE; 2],
        word: Word(0),
        next: NOWHERE,
        asked: 0,
        views_made: 0,
        rows: 0,
        run: RunRow::ZERO,
        first: Places::UNSET,
    };
}

impl<P: Platform> Core<P> {
    /// Runs the command `Map`.
    pub(crate) fn run_map(&mut self, t: u32) {
        self.run_runs(t, false);
    }

    /// Runs the command `Diff`.
    pub(crate) fn run_diff(&mut self, t: u32) {
        self.run_runs(t, true);
    }

    fn run_runs(&mut self, t: u32, diff: bool) {
        if self.tasks.at(t).stage == Stage::Begin {
            if self.lifecycle.walker.owner != NONE {
                return self.queue_in(t, |core| &mut core.lifecycle.walker_waiters);
            }
            if let Err((refusal, whose)) = self.begin_runs(t, diff) {
                self.end_runs(t);
                return self.refuse_for(t, refusal, whose);
            }
        }
        match self.walk_runs(t, diff) {
            Ok(Some(next)) => {
                self.end_runs(t);
                self.answer(t, Refusal::None, next, 0);
            }
            Ok(None) => {}
            Err(Stop::Waits) => {}
            Err(Stop::Fault(fault)) => {
                self.end_runs(t);
                self.abort_command(t, fault);
            }
        }
    }

    #[inline(never)]
    fn begin_runs(&mut self, t: u32, diff: bool) -> Result<(), Blamed> {
        let from = self.input(t).map_or(0, |c| c.value.get());
        *self.lifecycle.walker = Walker::NEW;
        self.lifecycle.walker.owner = t;
        let first = self.view_for(t, Whose::Name)?;
        self.lifecycle.walker.views = [first, NONE];
        if diff {
            let second = self.view_for(t, Whose::Other)?;
            self.lifecycle.walker.views = [first, second];
        }
        let word = Word(from >> 6);
        self.lifecycle.walker.word = word;
        self.lifecycle.walker.run.chunk = from.into();
        let task = self.tasks.at_mut(t);
        task.view = first;
        task.stage = Stage::Step(1);
        Ok(())
    }

    fn view_for(&mut self, t: u32, whose: Whose) -> Result<u32, Blamed> {
        let entity = self.named(self.whose(t, whose)).ok_or((Refusal::NotFound, whose))?;
        let (id, size, kind) = (entity.id(), entity.size.get(), entity.kind());
        if kind == Some(Kind::Snapshot) && !entity.is_living_snapshot() {
            return Err((Refusal::Lost, whose));
        }
        let vol = self.vol_of_entity(id).unwrap_or(NONE);
        let at = self.views.take().ok_or((Refusal::TableFull, whose))?;
        let view = self.views.at_mut(at);
        *view = View::FREE;
        (view.open, view.id, view.vol, view.size) = (true, id, vol, size);
        if !self.fill_view(at) {
            return Err((Refusal::WrongKind, whose));
        }
        Ok(at)
    }

    fn end_runs(&mut self, t: u32) {
        if self.lifecycle.walker.owner != t {
            return;
        }
        for view in core::mem::replace(&mut self.lifecycle.walker.views, [NONE; 2]) {
            if view != NONE {
                self.views.at_mut(view).open = false;
                self.views.give(view);
            }
        }
        self.lifecycle.walker.owner = NONE;
        let mut waiters = core::mem::take(&mut self.lifecycle.walker_waiters);
        self.wake_all(&mut waiters);
    }

    /// Walks until the reply is full (where to go on) or the volume ends (`u64::MAX`); `None`: goes
    /// on later.
    fn walk_runs(&mut self, t: u32, diff: bool) -> Result<Option<u64>, Stop> {
        let [first, second] = self.lifecycle.walker.views;
        let size = self.views.at(first).size.max(self.views.at(second).size);
        let end = self.geometry.chunks_for(size);
        let limit = self.input(t).map_or(0, |c| c.limit.get());
        for _ in 0..256 {
            let word = self.lifecycle.walker.word;
            if word.chunk(0).0 >= end {
                let _ = self.flush_run(t);
                return Ok(Some(u64::MAX));
            }
            let next = match self.next_recorded(word) {
                Ok(next) => next,
                Err(Miss::Page(page)) => return Err(self.wait_for_page(t, page)),
                Err(Miss::Fault(fault)) => return Err(Stop::Fault(fault)),
            };
            let full = if next > word {
                // Nothing is recorded up to there: one place for all of it.
                let stop = next.chunk(0).0.min(end);
                self.plain_run(t, word, stop, diff)
            } else {
                self.word_run(t, word, end, diff)?
            };
            let from = self.lifecycle.walker.run.chunk.get();
            if full || (limit != 0 && self.lifecycle.walker.rows >= limit) {
                return Ok(Some(from));
            }
            let walker = &mut self.lifecycle.walker;
            walker.word = if next > word { next } else { word.next() };
            (walker.next, walker.asked) = (NOWHERE, 0);
        }
        self.ready(t);
        Ok(None)
    }

    /// The first word from `word` on of which a level of the views has a record.
    ///
    /// A small cache has not room for the pages of all their maps at once: each is asked one time,
    /// and what it said stands until the walk is behind the word.
    fn next_recorded(&mut self, word: Word) -> Result<Word, Miss> {
        let made = self.lifecycle.views_made;
        if core::mem::replace(&mut self.lifecycle.walker.views_made, made) != made {
            self.lifecycle.walker.asked = 0;
        }
        while let Some(map) = self.map_to_ask(self.lifecycle.walker.asked) {
            let found = self.next_in(map, word)?;
            let walker = &mut self.lifecycle.walker;
            walker.next = walker.next.min(found);
            walker.asked = walker.asked.saturating_add(1);
        }
        Ok(self.lifecycle.walker.next)
    }

    /// The n-th map of the views: those of their levels, and that of the volume.
    fn map_to_ask(&self, n: u8) -> Option<MapId> {
        let mut n = n;
        for view in self.lifecycle.walker.views.iter().filter(|&&view| view != NONE) {
            let view = self.views.at(*view);
            if let Some(level) = view.level(n) {
                return Some(level.map);
            }
            n = n.saturating_sub(view.depth);
            if view.vol != NONE && n == 0 {
                return Some(self.vols.at(view.vol).map);
            }
            n = n.saturating_sub(u8::from(view.vol != NONE));
        }
        None
    }

    fn next_in(&mut self, map: MapId, word: Word) -> Result<Word, Miss> {
        let from = GroupKey { map, word, epoch: Epoch(0) };
        let end = GroupKey { map: MapId(map.0.saturating_add(1)), word: Word(0), epoch: Epoch(0) };
        let found = self.layers.next_group(from, end, &mut self.group)?;
        Ok(found.map_or(NOWHERE, |key| key.word))
    }

    /// A run over words without records; true if the reply is full.
    fn plain_run(&mut self, t: u32, word: Word, stop: u64, diff: bool) -> bool {
        let from = word.chunk(0).0.max(self.lifecycle.walker.run.chunk.get());
        let [first, second] = self.lifecycle.walker.views;
        if diff {
            let same = self.views.at(first).end == self.views.at(second).end
                && self.views.at(first).size == self.views.at(second).size;
            return !same
                && self.add_run(t, from, stop.saturating_sub(from), self.plain(first, from));
        }
        let row = self.plain(first, from);
        self.add_run(t, from, stop.saturating_sub(from), row)
    }

    /// What a chunk without records is in a view.
    fn plain(&self, view: u32, chunk: u64) -> RunRow {
        let view = self.views.at(view);
        let zeros = view.end.0 == 0;
        let base = if self.is_clone_view(view) { RUN_BASE } else { 0 };
        RunRow {
            chunk: chunk.into(),
            at: if zeros { 0 } else { chunk << self.geometry.shift() }.into(),
            old: u64::MAX.into(),
            place: if zeros { PLACE_ZERO } else { PLACE_IN_PLACE }.into(),
            flags: base.into(),
            ..RunRow::default()
        }
    }

    fn is_clone_view(&self, view: &View) -> bool {
        view.vol != NONE && self.vols.at(view.vol).clone
    }

    /// The runs of one word; true if the reply is full.
    fn word_run(&mut self, t: u32, word: Word, end: u64, diff: bool) -> Result<bool, Stop> {
        let [first, second] = self.lifecycle.walker.views;
        let task = self.tasks.at_mut(t);
        task.word = word;
        if task.stage == Stage::Step(1) {
            task.view = first;
            let view = self.views.at(first);
            let vol = self.vols.at(view.vol);
            let production = view.vol != NONE && !vol.clone;
            if diff {
                self.look_up(t, u64::MAX, Levels::All)?;
                self.settle_places(t, u64::MAX);
                self.lifecycle.walker.first = self.tasks.at(t).places;
            } else if production && vol.newest.0 != 0 {
                let lo = vol.newest;
                let level = Level { map: vol.map, lo, hi: Epoch(u32::MAX), dir: Dir::First };
                self.look_up(t, u64::MAX, Levels::One(level))?;
                self.lifecycle.walker.first = self.tasks.at(t).places;
            } else {
                self.lifecycle.walker.first.forget(u64::MAX);
            }
            self.tasks.at_mut(t).stage = Stage::Step(2);
        }
        self.tasks.at_mut(t).view = if diff { second } else { first };
        self.look_up(t, u64::MAX, Levels::All)?;
        self.settle_places(t, u64::MAX);
        self.tasks.at_mut(t).stage = Stage::Step(1);
        let from = self.lifecycle.walker.run.chunk.get();
        for b in 0..64 {
            let chunk = word.chunk(b).0;
            if chunk >= end || chunk < from && chunk < self.skip_to(from) {
                continue;
            }
            let full =
                if diff { self.diff_chunk(t, chunk, b) } else { self.map_chunk(t, chunk, b) };
            if full {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Chunks before this are behind the point that the caller asked from.
    fn skip_to(&self, from: u64) -> u64 {
        if self.lifecycle.walker.rows == 0 && self.lifecycle.walker.run.count.get() == 0 {
            from
        } else {
            0
        }
    }

    fn map_chunk(&mut self, t: u32, chunk: u64, b: u32) -> bool {
        let place = self.tasks.at(t).place(b);
        let old = self.lifecycle.walker.first.get(b);
        let view = self.views.at(self.tasks.at(t).view);
        let clone = self.is_clone_view(view);
        let production = view.vol != NONE && !clone;
        let restoring = production && view.depth != 0;
        let own = place.level == 0 && !place.what.in_place();
        let mut flags = 0;
        if clone {
            let newest = self.vols.at(view.vol).newest;
            flags |= if own && place.epoch > newest { RUN_BIT } else { RUN_BASE };
        }
        if production && old.what != What::Unset {
            flags |= RUN_BIT;
        }
        if restoring {
            flags |= match place.what {
                What::Settled | What::InPlace => RUN_SETTLED,
                _ if own => RUN_RESTORE_NEW | RUN_UNSETTLED,
                _ => RUN_UNSETTLED,
            };
        }
        let map = view.level(place.level).map_or(0, |level| level.map.0);
        let (at, kind) = match place.what {
            What::Copied | What::New => (place.slot.0, PLACE_SLOT),
            What::Zero | What::Unset => (0, PLACE_ZERO),
            What::Lost => (0, PLACE_LOST),
            _ => (chunk << self.geometry.shift(), PLACE_IN_PLACE),
        };
        let row = RunRow {
            chunk: chunk.into(),
            at: at.into(),
            old: if old.what == What::Copied { old.slot.0 } else { u64::MAX }.into(),
            place: kind.into(),
            flags: flags.into(),
            epoch: if place.what.in_place() { old.epoch.0 } else { place.epoch.0 }.into(),
            map: map.into(),
            ..RunRow::default()
        };
        self.add_run(t, chunk, 1, row)
    }

    fn diff_chunk(&mut self, t: u32, chunk: u64, b: u32) -> bool {
        let second = self.tasks.at(t).place(b);
        let first = self.lifecycle.walker.first.get(b);
        let same = match (first.what, second.what) {
            (a, b) if a.in_slot() && b.in_slot() => first.slot == second.slot,
            (a, b) if a.in_place() && b.in_place() => true,
            (What::Zero, What::Zero) => true,
            _ => false,
        };
        if same {
            return false;
        }
        let row = RunRow { chunk: chunk.into(), old: u64::MAX.into(), ..RunRow::default() };
        self.add_run(t, chunk, 1, row)
    }

    /// Adds chunks to the run being gathered, or begins another; true if the reply is full.
    fn add_run(&mut self, t: u32, chunk: u64, n: u64, row: RunRow) -> bool {
        if n == 0 {
            return false;
        }
        let run = self.lifecycle.walker.run;
        let count = run.count.get();
        let step = match run.place.get() {
            PLACE_SLOT => count,
            PLACE_IN_PLACE => count << self.geometry.shift(),
            _ => 0,
        };
        let old = |r: &RunRow, n: u64| match r.old.get() {
            u64::MAX => u64::MAX,
            slot => slot.saturating_add(n),
        };
        let follows = count != 0
            && run.chunk.get().saturating_add(count) == chunk
            && run.place == row.place
            && run.flags == row.flags
            && run.epoch == row.epoch
            && run.map == row.map
            && run.at.get().saturating_add(step) == row.at.get()
            && old(&run, count) == row.old.get();
        if !follows && !self.flush_run(t) {
            return true;
        }
        let run = &mut self.lifecycle.walker.run;
        if follows {
            run.count = count.saturating_add(n).into();
        } else {
            *run = RunRow { count: n.into(), ..row };
        }
        false
    }

    /// Puts the run into the reply; false if it does not fit.
    fn flush_run(&mut self, t: u32) -> bool {
        let run = self.lifecycle.walker.run;
        if run.count.get() == 0 {
            return true;
        }
        let fits = self.row(t, run.as_bytes());
        if fits {
            self.lifecycle.walker.rows = self.lifecycle.walker.rows.saturating_add(1);
            self.lifecycle.walker.run.count = 0.into();
            self.lifecycle.walker.run.chunk =
                run.chunk.get().saturating_add(run.count.get()).into();
        }
        fits
    }
}
