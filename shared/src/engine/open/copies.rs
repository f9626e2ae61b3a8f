// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The copies that the superblock of opening goes to: what is left of a torn one is wiped first.
//!
//! A crash can leave some sectors of a superblock that was being written. The recovery writes the
//! same generation over them, with other contents, and may be cut off in turn: then what was left
//! and some of the new sectors can make up the first superblock after all, beside a copy of the
//! second, two contents under one generation. Over zeros there is nothing but what is written. A
//! sound copy is an older generation's, and stays: no mixture with one that is newer is sound.

use super::Phase;
use crate::api::{Done, Step};
use crate::engine::step::{Owner, Piece};
use crate::engine::Core;
use crate::format::superblock::Superblock;
use crate::platform::Platform;
use crate::units::Dev;

impl<P: Platform> Core<P> {
    /// The copies that opening will write.
    fn copies_to_come(&self) -> [u64; 2] {
        Superblock::pair_of(self.superblock.generation.get().saturating_add(1))
    }

    /// Reads them.
    #[inline(never)]
    pub(super) fn read_copies(&mut self) {
        for at in self.copies_to_come() {
            self.read_meta(at, 4096, at);
        }
    }

    /// One of them has come; what cannot be read is not sound.
    #[inline(never)]
    pub(super) fn take_torn(&mut self, at: u64, done: &Done<'_>) {
        let sound = Superblock::parse(&self.platform, done.bytes).is_ok();
        let blank = !done.bytes.is_empty() && done.bytes.iter().all(|&byte| byte == 0);
        let pair = self.copies_to_come();
        for (torn, _) in self.opening.torn.iter_mut().zip(pair).filter(|(_, its)| *its == at) {
            *torn = !sound && !blank;
        }
        if self.opening.io == 0 {
            self.opening.phase = Phase::Wipe;
        }
    }

    /// Writes zeros over those that are not sound. The flush that follows makes them durable.
    #[inline(never)]
    pub(super) fn wipe_copies(&mut self) {
        let pair = self.copies_to_come();
        for (at, torn) in pair.into_iter().zip(self.opening.torn) {
            if torn {
                let step = Step::Write { dev: Dev::SAVE, at, len: 4096, fua: false };
                let pieces = [Piece::Zeros(4096), Piece::None, Piece::None, Piece::None];
                self.opening.io = self.opening.io.saturating_add(1);
                self.open_step(Owner::Open(at), step, pieces, 0);
            }
        }
        if self.opening.io == 0 {
            self.open_phase(Phase::Flush);
        }
    }
}
