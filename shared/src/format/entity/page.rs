// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! A page of the catalogue: up to four entities behind the header, in order of their ids.
//!
//! The pages of a checkpoint form a chain; the superblock names the first. Ids grow along it.

use zerocopy::{FromBytes, IntoBytes};

use super::{Entity, ENTITY_BYTES};
use crate::format::page::{copy, open, seal, Header, Owner, Place, HEADER, TYPE_CATALOG};
use crate::platform::Platform;
use crate::units::{PageNo, PAGE};

/// Entities in a page.
pub const PER_PAGE: usize = 4;

const _: () = assert!(HEADER + PER_PAGE * ENTITY_BYTES == PAGE);

/// Fills a page with the next entities of `entities`, at most four; gives how many.
///
/// `next` is the page that the chain goes on with, if it does.
pub fn fill_page<'a, P: Platform>(
    platform: &P,
    page: &mut [u8],
    owner: &Owner,
    number: PageNo,
    next: Option<PageNo>,
    entities: impl Iterator<Item = &'a Entity>,
) -> u16 {
    page.fill(0);
    let mut count = 0_u16;
    let mut at = HEADER;
    for entity in entities.take(PER_PAGE) {
        copy(page, at, entity.as_bytes());
        at = at.saturating_add(ENTITY_BYTES);
        count = count.saturating_add(1);
    }
    let place = Place { page_type: TYPE_CATALOG, page: number.0 };
    seal(platform, page, owner, place, count, next.map_or(u64::MAX, |n| n.0));
    count
}

/// The entities of a page and the next page of the chain; `None` if the page is not sound.
pub fn read_page<'a, P: Platform>(
    platform: &P,
    page: &'a [u8],
    pool: u64,
    number: PageNo,
) -> Option<(&'a [Entity], Option<PageNo>)> {
    let place = Place { page_type: TYPE_CATALOG, page: number.0 };
    let (header, body): (&Header, _) = open(platform, page, pool, place)?;
    let count = usize::from(header.count.get());
    let (all, _) = <[Entity]>::ref_from_prefix_with_elems(body, PER_PAGE).ok()?;
    let entities = all.get(..count)?;
    let sound = entities.iter().all(Entity::check)
        && entities.windows(2).all(|w| matches!(w, [a, b] if a.id.get() < b.id.get()));
    let next = Some(PageNo(header.next.get())).filter(|n| n.0 != u64::MAX);
    sound.then_some((entities, next))
}
