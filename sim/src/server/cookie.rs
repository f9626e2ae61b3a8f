// SPDX-License-Identifier: MIT

//! The names of requests that the core knows: whose it is, and where its buffer lies.
//!
//! Any reactor may have to do I/O into the buffer of another's request, without asking it; so the
//! cookie itself says where that is.
//!
//! ```text
//! 63      56 55              32 31               0
//! [ reactor ][ part or client  ][ grain of buffer  ]
//! ```

use crate::uring::pool::GRAIN;
use crate::uring::{Arena, Span};

/// Such a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cookie {
    /// The reactor.
    pub(crate) reactor: usize,
    /// The part there; of a command, the connection.
    pub(crate) number: u32,
    grain: u32,
}

/// Numbers of parts are below this.
pub(crate) const NUMBERS: u32 = 1 << 24;

impl Cookie {
    /// Of a part with this buffer.
    pub(crate) fn new(reactor: usize, number: u32, buffer: Span) -> Self {
        Self { reactor, number, grain: buffer.at() / GRAIN }
    }

    /// As the core keeps it.
    pub(crate) fn pack(self) -> u64 {
        let reactor = u64::try_from(self.reactor & 0xFF).unwrap_or(0);
        reactor << 56 | u64::from(self.number % NUMBERS) << 32 | u64::from(self.grain)
    }

    /// As it was.
    pub(crate) fn unpack(raw: u64) -> Self {
        let low = |bits: u64| u32::try_from(bits).unwrap_or(0);
        let reactor = usize::try_from(raw >> 56).unwrap_or(0);
        Self { reactor, number: low(raw >> 32 & 0xFF_FFFF), grain: low(raw & 0xFFFF_FFFF) }
    }

    /// Bytes `at..at + len` of the buffer.
    pub(crate) fn bytes(self, arena: &Arena, at: u32, len: u32) -> Span {
        arena.whole().from(self.grain.saturating_mul(GRAIN)).cut(at, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_survive_the_core() {
        let arena = Arena::new(1 << 20, 0).unwrap();
        let buffer = arena.whole().cut(5 * GRAIN, 9000);
        let cookie = Cookie::new(255, NUMBERS - 1, buffer);
        let back = Cookie::unpack(cookie.pack());
        assert_eq!(back, cookie);
        assert_eq!(back.bytes(&arena, 100, 50), buffer.cut(100, 50));
    }
}
