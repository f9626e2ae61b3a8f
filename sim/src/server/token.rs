// SPDX-License-Identifier: MIT

//! What the completion of an operation means: a kind in the high byte, a number in the low half.

/// The meaning of a completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Token {
    /// Nothing hangs on it.
    Ignore,
    /// A connection came to this listener.
    Accept(u32),
    /// This connection's stream was received into.
    Receive(u32),
    /// The payload of this connection's current write was received into.
    Payload(u32),
    /// This connection's batch of replies was sent.
    Send(u32),
    /// This part's I/O on a device is over.
    Part(u32),
    /// Time has passed.
    Tick,
    /// The inbox holds something.
    Inbox,
    /// A signal came.
    Signal,
    /// This step of the core is done.
    Step(u32),
}

impl Token {
    /// As it goes through the kernel.
    pub(crate) fn pack(self) -> u64 {
        let (kind, number): (u64, u32) = match self {
            Self::Ignore => (0, 0),
            Self::Accept(n) => (1, n),
            Self::Receive(n) => (2, n),
            Self::Payload(n) => (3, n),
            Self::Send(n) => (4, n),
            Self::Part(n) => (5, n),
            Self::Tick => (6, 0),
            Self::Inbox => (7, 0),
            Self::Signal => (8, 0),
            Self::Step(n) => (9, n),
        };
        kind << 56 | u64::from(number)
    }

    /// As it was; what no token packs to is ignored.
    pub(crate) fn unpack(raw: u64) -> Self {
        let number = u32::try_from(raw & u64::from(u32::MAX)).unwrap_or(0);
        match raw >> 56 {
            1 => Self::Accept(number),
            2 => Self::Receive(number),
            3 => Self::Payload(number),
            4 => Self::Send(number),
            5 => Self::Part(number),
            6 => Self::Tick,
            7 => Self::Inbox,
            8 => Self::Signal,
            9 => Self::Step(number),
            _ => Self::Ignore,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Token::*;
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Ignore,
            Accept(1),
            Receive(2),
            Payload(3),
            Send(u32::MAX),
            Part(4),
            Tick,
            Inbox,
            Signal,
            Step(5),
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
        assert_eq!(Token::unpack(u64::MAX), Ignore);
    }
}
