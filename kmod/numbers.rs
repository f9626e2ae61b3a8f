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
                return Ok(Self(at << 6 | bit as usize));
            }
        }
        Err(ENOSPC)
    }

    /// `rwsnapN`, padded with zeros.
    pub(crate) fn name(&self) -> [u8; 32] {
        let mut digits = [b'0'; 4];
        let mut left = self.0;
        for digit in digits.iter_mut().rev() {
            *digit |= (left % 10) as u8;
            left /= 10;
        }
        let zeros = digits.iter().take(3).take_while(|&&digit| digit == b'0');
        let digits = digits.iter().skip(zeros.count());
        let bytes = Iterator::chain(b"rwsnap".iter(), digits);
        let mut name = [0; 32];
        for (place, byte) in name.iter_mut().zip(bytes) {
            *place = *byte;
        }
        name
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        if let Some(word) = USED.lock().get_mut(self.0 / 64) {
            *word &= !(1 << (self.0 % 64));
        }
    }
}
