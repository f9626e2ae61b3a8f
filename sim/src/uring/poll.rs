// SPDX-License-Identifier: MIT

//! How long a ring looks for completions before it sleeps.
//!
//! To be woken up takes longer than many a wait: tens of microseconds, in a virtual machine most of
//! all. So a ring whose waits were short looks for a while first, as the event loop of QEMU does
//! (`poll-max-ns` there, 32 microseconds unless said otherwise): longer each time that it slept in
//! vain, and not at all after a wait that was longer than it may look, so that a server with
//! nothing to do uses no processor.

use std::time::Duration;

/// The first time.
const FIRST: Duration = Duration::from_micros(4);

/// What a ring has learnt from its waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Poll {
    window: Duration,
    most: Duration,
}

impl Poll {
    /// It looks for `most` at the longest; zero: never.
    pub(super) const fn new(most: Duration) -> Self {
        Self { window: Duration::ZERO, most }
    }

    /// How long to look now.
    pub(super) const fn window(&self) -> Duration {
        self.window
    }

    /// A wait has ended, after so long.
    pub(super) fn waited(&mut self, time: Duration) {
        if time > self.most {
            self.window = Duration::ZERO;
        } else if time > self.window {
            self.window = (self.window * 2).clamp(FIRST.min(self.most), self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn it_looks_longer_after_short_waits_and_not_after_a_long_one() {
        let mut poll = Poll::new(us(50));
        let mut seen = Vec::new();
        for time in [30, 30, 30, 30, 30, 45, 50, 51, 30] {
            poll.waited(us(time));
            seen.push(poll.window().as_micros());
        }
        assert_eq!(seen, [4, 8, 16, 32, 32, 50, 50, 0, 4]);
    }

    #[test]
    fn one_that_may_not_look_sleeps_at_once() {
        let mut poll = Poll::new(Duration::ZERO);
        for time in [0, 1, 30] {
            poll.waited(us(time));
            assert_eq!(poll.window(), Duration::ZERO);
        }
    }
}
