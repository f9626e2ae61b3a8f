// SPDX-License-Identifier: MIT

//! How long a reactor looks out for completions before it sleeps.
//!
//! To sleep and to be woken takes a processor tens of microseconds, most of all a virtual one that
//! halts meanwhile; under load the next completion is often nearer than that. So the reactor looks
//! out for a while first, and for how long it learns from how long it had to wait, as QEMU's event
//! loop and the kernel's halt polling do: twice as long next time after a wait that was short, not
//! at all after a long one. Who is idle burns nothing.

use std::time::Duration;

/// The longest look-out.
const LONGEST: Duration = Duration::from_micros(64);

/// The shortest, beside none.
const SHORTEST: Duration = Duration::from_micros(4);

/// The state: for how long to look out next time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Linger(Duration);

impl Linger {
    /// For how long to look out now.
    pub(super) const fn time(self) -> Duration {
        self.0
    }

    /// It took so long until something came, the look-out included.
    pub(super) fn waited(&mut self, time: Duration) {
        if time > LONGEST {
            self.0 = Duration::ZERO;
        } else if time > self.0 {
            self.0 = (self.0 * 2).clamp(SHORTEST, LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_learns_from_short_waits_and_forgets_after_a_long_one() {
        let mut linger = Linger::default();
        assert_eq!(linger.time(), Duration::ZERO);
        let short = Duration::from_micros(30);
        let times: Vec<_> = (0..6)
            .map(|_| {
                linger.waited(short);
                linger.time().as_micros()
            })
            .collect();
        assert_eq!(times, [4, 8, 16, 32, 32, 32]);
        linger.waited(Duration::from_micros(65));
        assert_eq!(linger.time(), Duration::ZERO);
    }
}
