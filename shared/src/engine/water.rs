// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Low water: few slots are left, and room is made before production has to wait for it.
//!
//! Space comes back late: what gives up a snapshot only begins a sweep. So the policies *grow* and
//! *oldest* begin when the free slots that are not promised fall below the pool's low water, a
//! percentage of all. Whoever watches the pool is told when that happens, once until there is more
//! again.

use crate::control::Name;
use crate::engine::Core;
use crate::lifecycle::event::LOW_WATER;
use crate::platform::Platform;

impl<P: Platform> Core<P> {
    /// Whether the save volume is below its low water.
    fn is_low(&self) -> bool {
        let percent = u64::from(self.superblock.low_water.get());
        let (free, all) = (self.slots.available_to(0), self.slots.count());
        free.saturating_mul(100) < all.saturating_mul(percent)
    }

    /// Tells that the low water was reached, and makes room, if so.
    pub(crate) fn look_at_water(&mut self) {
        if !self.is_low() {
            self.space.low = false;
            return;
        }
        if !core::mem::replace(&mut self.space.low, true) {
            let left = self.slots.available_to(0) << self.geometry.shift();
            let percent = self.superblock.low_water.get();
            self.event(LOW_WATER, percent, &Name::default(), left);
            self.make_room();
        }
    }

    /// The clock has moved: goes on making room while it is low.
    pub(crate) fn tick_water(&mut self) {
        if self.space.low && self.started && self.fenced.is_none() && self.is_low() {
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        if !self.closing && matches!(self.superblock.when_full.get(), 0 | 1) {
            let _ = self.ask_for_space();
        }
    }
}
