// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Reading a snapshot, a clone, or a production that is being restored.
//!
//! Begin: wait while the volume is held. Lookup: find the places; wait while a chunk in place is
//! being copied. Last: the reads are under way, counted as readers in place (I-2) and in the slot
//! phase (I-12).

use crate::api::Step;
use crate::engine::places::{Place, What};
use crate::engine::slab::NONE;
use crate::engine::step::{Owner, Piece, SEGS};
use crate::engine::task::Stage;
use crate::engine::walk::{Levels, Stop};
use crate::engine::Core;
use crate::fault::Fault;
use crate::platform::Platform;
use crate::units::{bit_range, bits, Dev, MapId};

/// One contiguous run of a request on one device, or of zeros.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// The device, or `None` for zeros.
    pub(crate) dev: Option<Dev>,
    /// First byte on it.
    pub(crate) at: u64,
    /// First byte in the word.
    pub(crate) word_at: u32,
    pub(crate) len: u32,
    /// First chunk of the word, and how many.
    pub(crate) bit: u32,
    pub(crate) bits: u32,
}

impl<P: Platform> Core<P> {
    /// Runs a read.
    pub(crate) fn run_read(&mut self, t: u32) {
        let task = self.tasks.at(t);
        // A page could not be read: to look up again would be to read it again, without end.
        if task.fault.is_some() && task.stage != Stage::Last {
            return self.finish_task(t);
        }
        match task.stage {
            Stage::Begin => {
                if self.held(t) {
                    return;
                }
                self.tasks.at_mut(t).stage = Stage::Lookup;
                self.read_lookup(t);
            }
            Stage::Lookup => self.read_lookup(t),
            _ => self.finish_read(t),
        }
    }

    fn read_lookup(&mut self, t: u32) {
        let mask = self.tasks.at(t).mask;
        match self.look_up(t, mask, Levels::All) {
            Err(Stop::Waits) => return,
            Err(Stop::Fault(fault)) => return self.fail_task(t, fault),
            Ok(()) => {}
        }
        self.tasks.at_mut(t).views = self.lifecycle.views_made;
        self.settle_places(t, mask);
        // Who waits holds nothing: it looks up again.
        if self.steps.room() < 66 {
            return self.wait_for_steps(t);
        }
        if !self.share_in_place(t, mask) {
            return;
        }
        let task = self.tasks.at_mut(t);
        task.stage = Stage::Last;
        if task.placed(mask, |w| w == What::Lost) != 0 {
            task.fail(Fault::Lost);
        } else {
            self.emit_reads(t, mask);
        }
        if self.tasks.at(t).io == 0 {
            self.finish_read(t);
        }
    }

    /// What no level had is in place, or zeros where the view ends in none.
    pub(crate) fn settle_places(&mut self, t: u32, mask: u64) {
        let task = self.tasks.at_mut(t);
        let view = self.views.at(task.view);
        let rest = if view.end == Dev::SAVE { What::Zero } else { What::InPlace };
        for bit in bits(mask) {
            let place = task.place(bit);
            let kept = place.what == What::Lost && place.level >= view.kept_from;
            if place.what == What::Unset || kept {
                task.set_place(bit, Place { what: rest, ..place });
            }
        }
    }

    /// Counts the task as a reader in place of the chunks that are; false if it has to wait until
    /// the slot of one of them can be read, and then looks up again.
    pub(crate) fn share_in_place(&mut self, t: u32, mask: u64) -> bool {
        let task = self.tasks.at(t);
        let view = self.views.at(task.view);
        let (map, word) = (view.end_map, task.word);
        if view.end == Dev::SAVE {
            return true;
        }
        // The record of a copy is to be seen before its slot's data is written.
        let old = task.placed(mask, |w| w == What::Copied);
        let in_place = task.placed(mask, What::in_place);
        // A production that is being restored reads copies of its own, too: X's.
        let own = view.end_map == MapId(0) && view.vol != NONE;
        let copies = if own { self.vols.at(view.vol).map } else { map };
        if old != 0 && self.claims.copying(copies, word, old) {
            if self.fenced.is_some() {
                self.fail_task(t, Fault::Fenced);
            } else {
                self.wait_for_claim(t, copies, word);
            }
            return false;
        }
        if in_place != 0 {
            let share = self.claims.share(map, word, in_place);
            self.tasks.at_mut(t).share = share;
        }
        true
    }

    /// Gives out the reads of the request's bytes in the chunks `mask`.
    fn emit_reads(&mut self, t: u32, mask: u64) {
        self.count_slot_io(t);
        let mut left = mask;
        while let Some(extent) = self.next_extent(t, &mut left) {
            let task = self.tasks.at_mut(t);
            let cookie = task.cookie;
            let at = extent.word_at.saturating_sub(task.at);
            let mut pieces = [Piece::None; SEGS];
            if let Some(first) = pieces.first_mut() {
                *first = Piece::Client(cookie, at, extent.len);
            }
            let step = match extent.dev {
                Some(dev) => Step::Read { dev, at: extent.at, len: extent.len },
                None => Step::Clear { len: extent.len },
            };
            self.open_step(Owner::Task(t), step, pieces, 0);
        }
    }

    /// The next run of the request's bytes that lie together on a device, taken out of `left`.
    pub(crate) fn next_extent(&self, t: u32, left: &mut u64) -> Option<Extent> {
        let task = self.tasks.at(t);
        if *left == 0 {
            return None;
        }
        let shift = self.geometry.shift();
        let first = left.trailing_zeros();
        let (dev, start) = self.locate(t, first)?;
        let mut bits = 1;
        while first.saturating_add(bits) < 64 && *left >> first.saturating_add(bits) & 1 == 1 {
            let next = self.locate(t, first.saturating_add(bits))?;
            let follows = match dev {
                Some(_) => next == (dev, start.saturating_add(u64::from(bits) << shift)),
                None => next.0.is_none(),
            };
            if !follows {
                break;
            }
            bits = bits.saturating_add(1);
        }
        *left &= !bit_range(first, bits);
        // The request's bytes within the run of chunks.
        let run_at = first << shift;
        let run_end = first.saturating_add(bits) << shift;
        let from = run_at.max(task.at);
        let to = run_end.min(task.at.saturating_add(task.len));
        let len = to.saturating_sub(from);
        let at = start.saturating_add(u64::from(from.saturating_sub(run_at)));
        Some(Extent { dev, at, word_at: from, len, bit: first, bits })
    }

    /// Where the chunk at `bit` lies: its device and first byte, or no device for zeros.
    pub(crate) fn locate(&self, t: u32, bit: u32) -> Option<(Option<Dev>, u64)> {
        let task = self.tasks.at(t);
        let place = task.place(bit);
        Some(match place.what {
            What::InPlace | What::Settled => {
                let view = self.views.at(task.view);
                (Some(view.end), self.geometry.byte_of(task.word.chunk(bit)))
            }
            What::Copied | What::New => (Some(Dev::SAVE), self.slot_byte(place.slot)),
            What::Zero => (None, 0),
            What::Lost | What::Unset => return None,
        })
    }

    /// Its reads are complete: a view that was given up meanwhile has not read what it promised,
    /// and one that was made anew may have let go of the slots or chunks that were read (I-2).
    fn finish_read(&mut self, t: u32) {
        let task = self.tasks.at(t);
        if task.io != 0 {
            return;
        }
        if self.views.at(task.view).lost {
            self.tasks.at_mut(t).fail(Fault::Fenced);
        } else if self.has_new_view(t) && task.fault.is_none() {
            return self.begin_again(t);
        }
        self.finish_task(t);
    }
}
