// SPDX-License-Identifier: GPL-2.0-only

//! The numbers of `/dev/rwsnapN`: the lowest that is free.

use kernel::{
    prelude::*,
    sync::global_lock, //
};

/// Disks at once, at most.
const MAX: usize = 4096;

global_lock! {
    // SAFETY: initialized by `init`, before any other use.
    unsafe(uninit) static USED: Mutex<[u64; MAX / 64]> = [0; MAX / 64];
}

/// To be called once, when the module is loaded.
pub(crate) fn init() {
    // SAFETY: called once.
    unsafe { USED.init() };
}

/// A number that nobody else has as long as it lives.
pub(crate) struct Number(usize);

impl Number {
    /// The lowest free one.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) fn take() -> Result<Self> {
        let mut used = USED.lock();
        for (at, word) in used.iter_mut().enumerate() {
            let bit = word.trailing_ones();
            if bit < u64::BITS {
                *word |= 1 << bit;
                return Ok(Self(at * 64 + bit as usize));
            }
        }
        Err(ENOSPC)
    }

    /// `rwsnapN`, padded with zeros, and its length.
    pub(crate) fn name(&self) -> ([u8; 32], usize) {
        let mut name = [0; 32];
        let mut len = 0;
        let mut push = |byte: u8| {
            if let Some(place) = name.get_mut(len) {
                *place = byte;
                len += 1;
            }
        };
        b"rwsnap".iter().copied().for_each(&mut push);
        let mut unit = 1000;
        let mut begun = false;
        while unit > 0 {
            let digit = self.0 / unit % 10;
            begun |= digit != 0 || unit == 1;
            if begun {
                push(b'0' + digit as u8);
            }
            unit /= 10;
        }
        (name, len)
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if let Some(word) = USED.lock().get_mut(self.0 / 64) {
            *word &= !(1 << (self.0 % 64));
        }
    }
}
