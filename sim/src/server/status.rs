// SPDX-License-Identifier: MIT

//! What a block status says: the holes of a disk's file, where a volume reads them in place.
//!
//! A production that is not being restored is read in place, and the guard of the hot path keeps
//! it so while the file is asked. Of snapshots and clones all is said to be allocated, which is
//! always true enough ("`base:allocation` metadata context").

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::{lseek, Whence};

use crate::nbd::reply::{Extent, REPLY_MAX};
use crate::nbd::wire::state;
use crate::nbd::Request;
use crate::store::{Kind, Volume};

use super::reactor::Reactor;
use super::work::{Doing, Via};

/// Extents that are looked for: more than a reply has room for.
const EXTENTS_MAX: usize = REPLY_MAX / 8;

impl Reactor {
    /// Answers a block status.
    pub(super) fn answer_status(&mut self, number: u32, one: bool) {
        let Some(work) = self.works.get(number) else { return };
        let (id, request) = (work.conn, work.request);
        let via = self.route(id, Doing::Read, request.at, request.len);
        let disk = match via {
            Via::Disk(number) | Via::Passed(number, _) => self.shared.disks.get(number),
            Via::Core => None,
        };
        let block = self.pool().map(|pool| pool.core().block());
        let extents = disk.map(|disk| {
            let block = block.unwrap_or(disk.device().block).max(1);
            extents(&disk, block.into(), &request)
        });
        let extents = extents.unwrap_or_default();
        self.leave_guard(number, via);
        self.reply_status(id, &request, one, extents);
    }
}

/// The extents from the request's first byte on, as many as there may be; none if it is not known.
/// A block with any data in it is data.
fn extents(disk: &Volume, block: u64, request: &Request) -> Vec<Extent> {
    let mut found = Vec::new();
    if disk.kind() != Kind::File {
        return found;
    }
    let end = request.at.saturating_add(request.len.into());
    let mut at = request.at;
    while at < end && found.len() < EXTENTS_MAX {
        let Some(data) = seek(disk, at, Whence::SeekData) else { return Vec::new() };
        let data = data.min(end);
        let first = if data < end { data - data % block } else { end };
        if first > at {
            found.push(Extent { len: first - at, flags: state::HOLE | state::ZERO });
            at = first;
            continue;
        }
        let Some(hole) = seek(disk, data, Whence::SeekHole) else { return Vec::new() };
        let behind = hole.min(end).next_multiple_of(block).clamp(at + 1, end);
        found.push(Extent { len: behind - at, flags: 0 });
        at = behind;
    }
    found
}

/// Where the next hole or the next data begins; without any data, beyond all there is.
fn seek(disk: &Volume, at: u64, whence: Whence) -> Option<u64> {
    let from = i64::try_from(at).ok()?;
    match lseek(disk.file().as_fd(), from, whence) {
        Ok(found) => u64::try_from(found).ok(),
        Err(Errno::ENXIO) => Some(u64::MAX),
        Err(_) => None,
    }
}
