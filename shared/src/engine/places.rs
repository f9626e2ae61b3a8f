// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Where the chunks of a word read from.

use crate::units::{bit, Epoch, Slot};

/// Where a chunk of a view reads from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) what: What,
    /// The level of the view that said so.
    pub(crate) level: u8,
    /// The epoch of the record that said so.
    pub(crate) epoch: Epoch,
    /// The slot, for `What::Slot`.
    pub(crate) slot: Slot,
}

/// What a place is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// Not yet known.
    Unset,
    /// In place, on the device at the view's end.
    InPlace,
    /// In place, because a restore has settled it.
    Settled,
    /// In a slot that never changes.
    Copied,
    /// In a slot of a clone.
    New,
    /// Reads as zeros.
    Zero,
    /// Lost.
    Lost,
}

impl What {
    pub(crate) const fn in_place(self) -> bool {
        matches!(self, Self::InPlace | Self::Settled)
    }

    pub(crate) const fn in_slot(self) -> bool {
        matches!(self, Self::Copied | Self::New)
    }
}

const UNSET: Place = Place { what: What::Unset, level: 0, epoch: Epoch(0), slot: Slot(0) };

/// The places of a word's chunks. A kilobyte: those that nobody has set are told by `known`, so
/// that to forget all of them is to clear one word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    known: u64,
    all: [Place; 64],
}

impl Places {
    /// None is set.
    pub(crate) const UNSET: Self = Self { known: 0, all: [UNSET; 64] };

    /// The place of the chunk at `at`; `What::Unset` if nobody has set it.
    pub(crate) fn get(&self, at: u32) -> Place {
        if self.known & bit(at) == 0 {
            return UNSET;
        }
        usize::try_from(at).ok().and_then(|at| self.all.get(at)).copied().unwrap_or(UNSET)
    }

    pub(crate) fn set(&mut self, at: u32, place: Place) {
        if let Some(slot) = usize::try_from(at).ok().and_then(|at| self.all.get_mut(at)) {
            *slot = place;
            self.known |= bit(at);
        }
    }

    /// Those of the chunks `mask` are set no more.
    pub(crate) fn forget(&mut self, mask: u64) {
        self.known &= !mask;
    }
}
