// SPDX-License-Identifier: MIT

//! Follows the log, by the rules that `rwsnap_core::log` states: which blocks count, where it ends.

use rwsnap_core::format::log::{fold, open, Entries, Entry, Header};
use rwsnap_core::format::record::Record;
use rwsnap_core::format::superblock::Superblock;
use rwsnap_core::units::{LogPos, PAGE};

use crate::platform::Host;

use super::image::Image;
use super::report::Report;

/// Is shown each entry that counts, with the position of its block.
pub(super) type Apply<'a> = dyn FnMut(LogPos, &Entry<'_>, &mut Report) + 'a;

/// The blocks of the chain.
struct Chain {
    headers: Vec<Header>,
    /// Blocks from the first on that no group goes on behind.
    whole: usize,
    /// All before this is durable.
    durable: u64,
}

/// Follows the log from the checkpoint on and shows its entries.
pub(super) fn replay(
    image: &Image,
    superblock: &Superblock,
    report: &mut Report,
    apply: &mut Apply<'_>,
) {
    let Some(chain) = follow(image, superblock, report) else { return };
    let start = superblock.log_pos.get();
    let end = verified_end(image, superblock, &chain);
    let count = end.saturating_sub(start);
    report.log_blocks = count;
    report.log_dropped = (chain.headers.len() as u64).saturating_sub(count);
    if report.log_dropped > 0 {
        let dropped = report.log_dropped;
        report.note(format!("{dropped} log blocks at the end are not whole and do not count"));
    }
    if superblock.clean.get() != 0 && count > 0 {
        report.corrupt(format!("the pool was closed in order, and its log holds {count} blocks"));
    }
    for pos in (start..end).map(LogPos) {
        let Some((_, entries)) = block(image, superblock, pos) else { continue };
        for entry in entries {
            match entry {
                Ok(entry) => apply(pos, &entry, report),
                Err(_) => report.corrupt(format!("log block {} has a bad entry", pos.0)),
            }
        }
    }
}

/// The block for a position, if one that is sound lies there.
pub(super) fn block<'a>(
    image: &'a Image,
    superblock: &Superblock,
    pos: LogPos,
) -> Option<(Header, Entries<'a>)> {
    open(&Host, image.bytes(superblock.log_byte(pos)?, PAGE)?, superblock.pool_number())
}

/// Follows the chain; none if what was durable is missing from it.
fn follow(image: &Image, superblock: &Superblock, report: &mut Report) -> Option<Chain> {
    let (start, blocks) = (superblock.log_pos.get(), superblock.log_blocks.get());
    let known = superblock.known_end.get();
    let generation = superblock.log_generation.get();
    let mut chain = Chain { headers: Vec::new(), whole: 0, durable: known };
    let mut hash = superblock.log_hash.get();
    let mut chained = true;
    for pos in start..start.saturating_add(blocks) {
        if chained && pos == known && hash != superblock.known_hash.get() {
            report.corrupt(format!("the log reaches {known} under another checksum than it had"));
            return None;
        }
        let Some((header, _)) = block(image, superblock, LogPos(pos)) else {
            chained = false;
            continue;
        };
        if is_newer(superblock, &header) {
            let at = header.position.0;
            report.corrupt(format!("log block {at} belongs to a superblock that is lost"));
            return None;
        }
        let fits = if pos < known {
            header.generation <= generation
        } else {
            header.generation == generation
        };
        let follows = header.position.0 == pos && header.before == hash && fits;
        chained = chained && follows;
        if chained {
            hash = header.checksum;
            chain.durable = chain.durable.max(header.durable.0.min(pos));
            chain.headers.push(header);
            if !header.group_more {
                chain.whole = chain.headers.len();
            }
        } else {
            let end = start + chain.headers.len() as u64;
            let ahead = header.position.0 >= end.max(known) && header.generation == generation;
            if ahead {
                chain.durable = chain.durable.max(header.durable.0.min(header.position.0));
            }
        }
    }
    let end = start + chain.headers.len() as u64;
    if end < chain.durable {
        let lost = chain.durable;
        report.corrupt(format!("the log ends at {end}, and was durable up to {lost}"));
        return None;
    }
    Some(chain)
}

/// Whether a block is of a time that the superblock does not know.
fn is_newer(superblock: &Superblock, header: &Header) -> bool {
    let ahead = header.position.0.saturating_sub(superblock.log_pos.get());
    header.super_generation > superblock.generation.get()
        || header.generation > superblock.log_generation.get()
        || ahead >= superblock.log_blocks.get()
}

/// Where the log ends: before the first group, beyond what is known durable, whose data is not
/// what its sums say.
fn verified_end(image: &Image, superblock: &Superblock, chain: &Chain) -> u64 {
    let start = superblock.log_pos.get();
    let whole = chain.headers.get(..chain.whole).unwrap_or_default();
    let unsure = whole.iter().filter(|header| header.position.0 >= chain.durable);
    for header in unsure {
        let Some((_, entries)) = block(image, superblock, header.position) else { continue };
        let matches = entries.flatten().all(|entry| match entry {
            Entry::PutSummed(record, sum) => data_sum(image, superblock, &record) == Some(sum),
            _ => true,
        });
        if !matches {
            return header.group_start.0.min(header.position.0).max(start);
        }
    }
    start + whole.len() as u64
}

/// The checksum of a record's data.
fn data_sum(image: &Image, superblock: &Superblock, record: &Record) -> Option<u64> {
    let chunk = usize::try_from(superblock.chunk.get()).ok()?;
    let slots = (0..64).filter_map(|bit| record.slot_of(bit));
    let sums: Option<Vec<u64>> = slots
        .map(|slot| {
            let bytes = image.bytes(superblock.slot_byte(slot)?, chunk)?;
            Some(xxhash_rust::xxh64::xxh64(bytes, 0))
        })
        .collect();
    Some(fold(sums?))
}
