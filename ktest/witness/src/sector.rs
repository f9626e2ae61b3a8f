// SPDX-License-Identifier: MIT

//! What a sector holds: a value and its place, in all of its bytes. Value 0 is zeros.
//!
//! So that a sector that was read tells who wrote it, and one that is torn, misplaced or made up
//! is none.

/// Bytes of a sector.
pub(crate) const SECTOR: usize = 512;

/// Bytes of a word.
const WORD: usize = 8;

/// Numbers in no order that anybody would notice (splitmix64).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The words behind the first.
fn word(value: u64, index: u64, number: u64) -> u64 {
    mix(value ^ index.rotate_left(40) ^ number.rotate_left(56))
}

/// Fills a sector.
pub(crate) fn fill(sector: &mut [u8], value: u64, index: u64) {
    if value == 0 {
        return sector.fill(0);
    }
    for (number, place) in (0..).zip(sector.chunks_exact_mut(WORD)) {
        let word = if number == 0 { value } else { word(value, index, number) };
        place.copy_from_slice(&word.to_le_bytes());
    }
}

/// The value of a sector, if it is one that was written to this place.
pub(crate) fn value(sector: &[u8], index: u64) -> Option<u64> {
    let mut words = (0..).zip(sector.chunks_exact(WORD)).map(|(number, bytes)| {
        let mut word = [0; WORD];
        word.copy_from_slice(bytes);
        (number, u64::from_le_bytes(word))
    });
    let (_, value) = words.next()?;
    let right = |(number, found): (u64, u64)| match value {
        0 => found == 0,
        _ => found == word(value, index, number),
    };
    words.all(right).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_tells_its_value_and_nothing_else_passes_for_one() {
        let mut sector = [0; SECTOR];
        assert_eq!(value(&sector, 5), Some(0));
        fill(&mut sector, 77, 5);
        assert_eq!(value(&sector, 5), Some(77));
        assert_eq!(value(&sector, 6), None);
        sector[400] ^= 1;
        assert_eq!(value(&sector, 5), None);
        sector.fill(0);
        sector[511] = 1;
        assert_eq!(value(&sector, 5), None);
    }
}
