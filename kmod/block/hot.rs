// SPDX-License-Identifier: GPL-2.0-only

//! The hot path: from `->submit_bio` straight to production, or to the pool's worker.
//!
//! What passes costs a guard, a load, a mask, a bio from the disk's own set, and a remap: no lock,
//! no other allocation. Nothing waits here for I/O, whose bios would sit on `current->bio_list`
//! until this function returns.

use core::{
    mem::offset_of,
    ptr::NonNull, //
};

use kernel::{
    bindings,
    container_of,
    cpu::CpuId,
    prelude::*,
    sync::{
        rcu,
        ArcBorrow, //
    }, //
};
use rwsnap_core::{
    api::Op,
    fast::{
        Pass,
        Route,
        Token, //
    },
    fault::Fault, //
};

use super::{
    bdev::Lower,
    bio::{
        Bio,
        BioSet, //
    },
    disk::Disk, //
};
use crate::{
    ffi,
    mem::Fast, //
};

/// What stands in front of a bio that passes.
#[repr(C)]
struct Tag {
    parent: NonNull<bindings::bio>,
    disk: *const Disk,
    started: c_ulong,
    token: Token,
    bio: bindings::bio,
}

/// The set that a disk's bios come from. It is never shared, so that disks may lie on disks.
pub(crate) fn set() -> impl PinInit<BioSet, Error> {
    BioSet::new(offset_of!(Tag, bio), false)
}

fn cpu() -> u32 {
    CpuId::current().as_u32()
}

/// Takes a client's bio in.
pub(crate) fn submit(disk: ArcBorrow<'_, Disk>, bio: Bio) {
    match route(&disk, &bio) {
        Some((pass, lower)) => forward(&disk, lower, bio, pass),
        None if disk.gate.enter() => {
            disk.pool.inbox.push(bio);
            disk.pool.as_arc_borrow().kick();
        }
        None => bio.end(None, Err(Fault::Fenced)),
    }
}

/// The core's name for what a bio asks for; `None` for what nobody may ask for here.
pub(crate) fn operation(bio: &Bio) -> Option<Op> {
    match bio.op() {
        bindings::req_op_REQ_OP_READ => Some(Op::Read),
        bindings::req_op_REQ_OP_WRITE if bio.len() == 0 => Some(Op::Flush),
        bindings::req_op_REQ_OP_WRITE => Some(Op::Write { fua: bio.fua() }),
        bindings::req_op_REQ_OP_DISCARD => Some(Op::Discard),
        bindings::req_op_REQ_OP_WRITE_ZEROES => Some(Op::Zero { fua: bio.fua() }),
        _ => None,
    }
}

/// Whether it may pass, and to which device. It is in the guard then.
fn route<'a>(disk: &'a Disk, bio: &Bio) -> Option<(Pass, &'a Lower)> {
    let (fast, lower) = disk.home()?;
    let op = operation(bio)?;
    match op {
        Op::Discard if !lower.discards() => return None,
        Op::Zero { .. } if !lower.zeroes() => return None,
        _ => {}
    }
    let pass = enter(fast, op, bio.at(), bio.len())?;
    // Looked at in the guard: who does not see it yet is waited for by the command's drain.
    if disk.is_held() {
        leave(disk, fast, pass.token);
        return None;
    }
    if op != Op::Flush && bio.preflush() {
        // The flush before the data must be free to pass too. It is, if it is now: what would end
        // that waits for what is in the guard.
        match enter(fast, Op::Flush, 0, 0) {
            Some(flush) => leave(disk, fast, flush.token),
            None => {
                leave(disk, fast, pass.token);
                return None;
            }
        }
    }
    Some((pass, lower))
}

fn enter(fast: &Fast, op: Op, at: u64, len: u32) -> Option<Pass> {
    match fast.route(cpu(), op, at, len) {
        Route::Pass(pass) => Some(pass),
        Route::Slow => None,
    }
}

fn leave(disk: &Disk, fast: &Fast, token: Token) {
    if fast.leave(cpu(), token) {
        disk.pool.as_arc_borrow().drain_may_end();
    }
}

/// Sends it on to production, at the same place.
fn forward(disk: &Disk, lower: &Lower, bio: Bio, pass: Pass) {
    let started = bio.start_accounting();
    let nowait = bio.nowait();
    let gfp = if nowait {
        ffi::gfp_nowait()
    } else {
        ffi::gfp_noio()
    };
    let parent = bio.into_raw();
    // SAFETY: the device is open, the parent ours, the set initialized. With `GFP_NOIO` a set
    // waits for memory instead of failing; ours has bios that end by themselves.
    let clone =
        unsafe { bindings::bio_alloc_clone(lower.raw(), parent.as_ptr(), gfp, disk.set.raw()) };
    if clone.is_null() {
        // SAFETY: it was ours a moment ago, and nobody else's since.
        let bio = unsafe { Bio::from_raw(parent) };
        match nowait {
            true => bio.end_again(started),
            false => bio.end(Some(started), Err(Fault::NoMemory)),
        }
        return over(disk, pass.token);
    }
    // SAFETY: the clone is ours, and stands in a `Tag`, as `set` asked for.
    unsafe {
        let tag = container_of!(clone, Tag, bio);
        (*tag).parent = parent;
        (*tag).disk = disk;
        (*tag).started = started;
        (*tag).token = pass.token;
        (*clone).bi_iter.bi_sector = pass.at >> 9;
        (*clone).bi_end_io = Some(passed);
    }
    // SAFETY: it is complete, and given up here.
    unsafe { bindings::submit_bio_noacct(clone) };
}

/// What passed has ended, or did not come about.
fn over(disk: &Disk, token: Token) {
    if let Some(fast) = disk.fast() {
        leave(disk, fast, token);
    }
}

/// A clone has ended.
///
/// # Safety
///
/// The block layer calls it with a bio that `forward` made.
unsafe extern "C" fn passed(clone: *mut bindings::bio) {
    // Who removes the disk waits until all have left, and then for this section.
    let _reader = rcu::read_lock();
    // SAFETY: it stands in a `Tag`, and is ours again.
    let (parent, disk, started, token) = unsafe {
        let tag = container_of!(clone, Tag, bio);
        // A bio that others are chained to may bear their error already.
        if (*clone).bi_status != 0 {
            (*(*tag).parent.as_ptr()).bi_status = (*clone).bi_status;
        }
        ((*tag).parent, (*tag).disk, (*tag).started, (*tag).token)
    };
    // SAFETY: as above; nobody uses it any more.
    unsafe { bindings::bio_put(clone) };
    // SAFETY: the disk is there until what passed has left, and as long as the section above.
    let disk = unsafe { &*disk };
    // SAFETY: it is the client's, and ours to end.
    unsafe { Bio::from_raw(parent) }.end(Some(started), Ok(()));
    over(disk, token);
}
