// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How many pages a checkpoint can need.

use crate::format::node::{INNER_MAX, LEAF_MAX, LEVELS};
use crate::map::delta::Delta;
use crate::map::tree::Root;
use crate::platform::Platform;

/// The new pages that a tree of `root` and of `delta` with `more` records takes at most.
///
/// A *run* is what is written between two attached children. A page that is cut from an open node
/// has at least half of what it may hold, and so have those that a run ends with, unless all of the
/// run was less: then it was filled up with siblings and makes two pages at most. So a run makes
/// two leaves for each leaf that the delta touches, and one for each half leaf of records that come
/// to it. On the levels above the nodes that were entered to fill up a run below count as well:
/// one for each.
#[must_use]
pub fn pages_needed<P: Platform>(delta: &Delta<P>, more: usize, root: Option<&Root>) -> u64 {
    const HALF_LEAF: u64 = LEAF_MAX as u64 / 2;
    const HALF_INNER: u64 = INNER_MAX as u64 / 2;
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let mapped = delta.mapped().saturating_add(more);
    if mapped == 0 {
        return 0;
    }
    let (mut nodes, height) = root.map_or((0, 0), |root| (root.pages, usize::from(root.height)));
    let mut touched = number(mapped).min(nodes);
    let fresh = number(delta.weight().saturating_add(more)) / HALF_LEAF;
    let mut level_pages = touched.saturating_mul(2).saturating_add(fresh).saturating_add(1);
    let mut pages = level_pages;
    for level in 1..LEVELS {
        if level >= height && level_pages <= 1 {
            break;
        }
        nodes = if level < height { (nodes / HALF_INNER).saturating_add(1) } else { 0 };
        touched = touched.min(nodes);
        let fresh = level_pages / HALF_INNER;
        level_pages = touched.saturating_mul(4).saturating_add(fresh).saturating_add(1);
        pages = pages.saturating_add(level_pages);
    }
    pages
}
