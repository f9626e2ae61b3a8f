// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Bits in an array of words: ranges of them, and the search for the next one.
//!
//! Bits beyond the array read as clear and cannot be set.

use crate::units::bit_range;

/// The bits of `first..first + n` that lie in each word they touch, as (word, mask).
fn pieces(first: u64, n: u64) -> impl Iterator<Item = (usize, u64)> {
    let end = first.saturating_add(n);
    let mut at = first;
    core::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let word = at >> 6;
        let stop = ((at | 63).saturating_add(1)).min(end);
        let (bit, len) = (at & 63, stop.saturating_sub(at));
        at = stop;
        let mask = bit_range(u32::try_from(bit).ok()?, u32::try_from(len).ok()?);
        Some((usize::try_from(word).ok()?, mask))
    })
}

/// Sets the bits `first..first + n`; gives how many were clear.
pub(super) fn set(words: &mut [u64], first: u64, n: u64) -> u64 {
    let mut changed = 0_u64;
    for (word, mask) in pieces(first, n) {
        let Some(word) = words.get_mut(word) else { break };
        changed = changed.saturating_add(u64::from((mask & !*word).count_ones()));
        *word |= mask;
    }
    changed
}

/// Clears the bits `first..first + n`; gives how many were set.
pub(super) fn clear(words: &mut [u64], first: u64, n: u64) -> u64 {
    let mut changed = 0_u64;
    for (word, mask) in pieces(first, n) {
        let Some(word) = words.get_mut(word) else { break };
        changed = changed.saturating_add(u64::from((mask & *word).count_ones()));
        *word &= !mask;
    }
    changed
}

/// Whether a bit is set.
pub(super) fn get(words: &[u64], at: u64) -> bool {
    let word = usize::try_from(at >> 6).ok().and_then(|word| words.get(word));
    word.is_some_and(|word| word >> (at & 63) & 1 == 1)
}

/// How many of the bits `first..first + n` are set.
pub(super) fn count(words: &[u64], first: u64, n: u64) -> u64 {
    pieces(first, n).fold(0, |sum, (word, mask)| {
        let word = words.get(word).copied().unwrap_or(0);
        sum.saturating_add(u64::from((word & mask).count_ones()))
    })
}

/// The first bit of `from..end` that is set or, with `flip` all ones, clear.
pub(super) fn find(words: &[u64], from: u64, end: u64, flip: u64) -> Option<u64> {
    let first = usize::try_from(from >> 6).ok()?;
    let mut at = from & !63;
    let mut skip = bit_range(u32::try_from(from & 63).ok()?, 64);
    for word in words.get(first..)? {
        if at >= end {
            return None;
        }
        let found = (word ^ flip) & skip;
        if found != 0 {
            return Some(at.saturating_add(u64::from(found.trailing_zeros()))).filter(|&b| b < end);
        }
        skip = u64::MAX;
        at = at.saturating_add(64);
    }
    None
}

/// The first clear bit of `from..end`.
pub(super) fn find_clear(words: &[u64], from: u64, end: u64) -> Option<u64> {
    find(words, from, end, u64::MAX)
}

/// The first set bit of `from..end`, or `end`.
pub(super) fn find_set(words: &[u64], from: u64, end: u64) -> u64 {
    find(words, from, end, 0).unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn follow_a_model() {
        let mut random = Random(2);
        let mut words = [0_u64; 5];
        let mut model = [false; 320];
        for _ in 0..5000 {
            let first = random.index(320);
            let n = random.index(321 - first);
            let range = &mut model[first..first + n];
            let set_now = range.iter().filter(|&&b| b).count() as u64;
            let (from, len) = (first as u64, n as u64);
            assert_eq!(count(&words, from, len), set_now);
            match random.below(3) {
                0 => {
                    assert_eq!(set(&mut words, from, len), len - set_now);
                    range.fill(true);
                }
                1 => {
                    assert_eq!(clear(&mut words, from, len), set_now);
                    range.fill(false);
                }
                _ => {
                    let end = from + len;
                    let clear = range.iter().position(|&b| !b).map(|i| from + i as u64);
                    assert_eq!(find_clear(&words, from, end), clear);
                    let set = range.iter().position(|&b| b).map_or(end, |i| from + i as u64);
                    assert_eq!(find_set(&words, from, end), set);
                }
            }
            assert_eq!(get(&words, from), model[first]);
        }
        clear(&mut words, 0, 320);
        assert_eq!((set(&mut words, 310, 100), get(&words, 320)), (10, false));
    }
}
