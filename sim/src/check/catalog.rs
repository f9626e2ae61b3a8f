// SPDX-License-Identifier: MIT

//! The catalogue: its pages as the checkpoint left them, and whether its entities fit together.

use std::collections::{BTreeMap, BTreeSet};

use rwsnap_core::format::entity::{read_page, Entity, Kind};
use rwsnap_core::format::superblock::Superblock;
use rwsnap_core::units::{PageNo, PAGE};

use crate::platform::Host;

use super::image::Image;
use super::report::Report;
use super::state::State;

/// What the pages hold.
#[derive(Default)]
pub(super) struct Catalog {
    /// By number.
    pub(super) entities: BTreeMap<u32, Entity>,
    /// Its pages.
    pub(super) pages: BTreeSet<u64>,
}

/// Reads the chain of pages.
pub(super) fn read(image: &Image, superblock: &Superblock, report: &mut Report) -> Catalog {
    let mut catalog = Catalog::default();
    let mut next = Some(superblock.catalog_first.get()).filter(|&first| first != u64::MAX);
    let mut last = 0;
    while let Some(number) = next {
        if !catalog.pages.insert(number) {
            report.corrupt(format!("the catalogue comes back to page {number}"));
            break;
        }
        let at = superblock.page_byte(PageNo(number));
        let bytes = at.and_then(|at| image.bytes(at, PAGE)).unwrap_or_default();
        let pool = superblock.pool_number();
        let Some((entities, following)) = read_page(&Host, bytes, pool, PageNo(number)) else {
            report.corrupt(format!("page {number} of the catalogue is damaged"));
            break;
        };
        for entity in entities {
            if entity.id.get() <= last {
                report.corrupt(format!("entity {} is out of order", entity.id.get()));
            }
            last = entity.id.get();
            catalog.entities.insert(last, *entity);
        }
        next = following.map(|page| page.0);
    }
    let (found, known) = (catalog.pages.len() as u64, superblock.catalog_pages.get());
    if found != known {
        report.corrupt(format!("the catalogue has {found} pages, and {known} by the superblock"));
    }
    catalog
}

/// Whether names and UUIDs are unique and all that is referred to is there.
pub(super) fn verify(state: &State, report: &mut Report) {
    let mut names = BTreeMap::new();
    let mut uuids = BTreeMap::new();
    for entity in state.entities.values() {
        let is_named =
            matches!(entity.kind(), Some(Kind::Production | Kind::Clone | Kind::Snapshot));
        if is_named {
            report.volumes += 1;
            let what = title(entity);
            if let Some(other) = names.insert(entity.name.bytes().to_vec(), title(entity)) {
                report.corrupt(format!("{what} and {other} bear the same name"));
            }
            if let Some(other) = uuids.insert(entity.uuid, title(entity)) {
                report.corrupt(format!("{what} and {other} bear the same UUID"));
            }
        }
        references(state, entity, report);
        counters(state, entity, report);
    }
}

/// An entity for messages: number and name.
pub(super) fn title(entity: &Entity) -> String {
    let kind = entity.kind().map_or("entity".to_owned(), |k| format!("{k:?}").to_lowercase());
    format!("{kind} {} `{}`", entity.id.get(), entity.name.text())
}

/// Whether an entity's references are to entities of the right kinds.
fn references(state: &State, entity: &Entity, report: &mut Report) {
    let kind_of = |id: u32| state.entities.get(&id).and_then(Entity::kind);
    let mut need = |what: &str, id: u32, kinds: &[Kind]| {
        if !kind_of(id).is_some_and(|kind| kinds.contains(&kind)) {
            let title = title(entity);
            report.corrupt(format!("{title} has {id} for its {what}, which is none"));
        }
    };
    match entity.kind() {
        Some(Kind::Clone) => need("base", entity.base.get(), &[Kind::Snapshot]),
        Some(Kind::Snapshot) => {
            need("volume", entity.owner.get(), &[Kind::Production, Kind::Clone]);
            if entity.base.get() != 0 {
                need("base", entity.base.get(), &[Kind::Snapshot]);
            }
        }
        _ => {}
    }
    let Some(restore) = entity.restoring() else { return };
    need("restore's source", restore.x.get(), &[Kind::Clone, Kind::Snapshot]);
    // The way back after a cancelled restore has neither.
    if restore.r.get() != 0 {
        need("restore's snapshot", restore.r.get(), &[Kind::Snapshot]);
    }
    if restore.before.get() != 0 {
        need("restore's undo snapshot", restore.before.get(), &[Kind::Snapshot]);
    }
}

/// Whether an entity's numbers were given out.
fn counters(state: &State, entity: &Entity, report: &mut Report) {
    let known = &state.counters;
    let title = title(entity);
    if entity.id.get() >= known.next_entity.0 {
        report.corrupt(format!("{title} bears a number that was not given out"));
    }
    if entity.map.get() >= known.next_map.0 {
        report.corrupt(format!("{title} has map {}, not given out", entity.map.get()));
    }
    let latest = match entity.kind() {
        // A clone writes under the epoch that its next snapshot would be after.
        Some(Kind::Clone) => known.epoch.0.saturating_add(1),
        _ => known.epoch.0,
    };
    if entity.epoch.get() > latest {
        report.corrupt(format!("{title} is of epoch {}, not given out", entity.epoch.get()));
    }
}
