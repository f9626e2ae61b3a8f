// SPDX-License-Identifier: GPL-2.0-only

//! Bytes as people read them.

/// A UUID in its usual form.
pub(crate) fn uuid(uuid: [u8; 16]) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut places = (0..36).filter(|at| !matches!(at, 8 | 13 | 18 | 23));
    for byte in uuid {
        for digit in [byte >> 4, byte & 15] {
            let place = places.next().and_then(|at| text.get_mut(at));
            if let (Some(place), Some(digit)) = (place, DIGITS.get(usize::from(digit))) {
                *place = *digit;
            }
        }
    }
    text
}

/// Bytes up to their padding of zeros.
pub(crate) fn unpadded(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Text, or a mark where it is none.
pub(crate) fn shown(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap_or("?")
}
