// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A page of a bit map: 504 little-endian words behind the page's header.

use zerocopy::little_endian::U64;
use zerocopy::FromBytes;

use crate::fault::Fault;
use crate::format::page::{copy, open, seal, Owner, Place, HEADER, PAGE_WORDS};
use crate::platform::Platform;

/// Where the words of page `page` begin in the bit map.
pub(super) fn first_word(page: u64) -> usize {
    usize::try_from(page).unwrap_or(usize::MAX).saturating_mul(PAGE_WORDS)
}

/// Fills a page with the words of a bit map.
pub(super) fn fill<P: Platform>(
    platform: &P,
    out: &mut [u8],
    owner: &Owner,
    place: Place,
    words: impl Iterator<Item = u64>,
) {
    out.fill(0);
    let body = out.get_mut(HEADER..).unwrap_or(&mut []);
    for (to, word) in body.chunks_exact_mut(8).zip(words) {
        copy(to, 0, &word.to_le_bytes());
    }
    seal(platform, out, owner, place, 0, 0);
}

/// The words of a page that is sound.
pub(super) fn words<'a, P: Platform>(
    platform: &P,
    bytes: &'a [u8],
    pool: u64,
    place: Place,
) -> Result<&'a [U64; PAGE_WORDS], Fault> {
    let (_, body) = open(platform, bytes, pool, place).ok_or(Fault::Corrupt)?;
    <[U64; PAGE_WORDS]>::ref_from_bytes(body).map_err(|_| Fault::Corrupt)
}
