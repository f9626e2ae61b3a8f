// SPDX-License-Identifier: MIT

//! One mapping for all memory that operations in flight touch.
//!
//! It is mapped once and never unmapped, because an operation may outlive every object of this
//! program that knows of it. No reference into it is ever made: bytes are copied in and out
//! through raw pointers, so that the kernel may change them at any time.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{madvise, mmap_anonymous, MapFlags, MmapAdvise, ProtFlags};

/// A piece of an arena, in bytes from its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    at: u32,
    len: u32,
}

impl Span {
    /// First byte.
    #[must_use]
    pub const fn at(self) -> u32 {
        self.at
    }

    /// Bytes.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.len
    }

    /// Whether it holds no byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The bytes `from..from + len` of this span, cut at its end.
    #[must_use]
    pub fn cut(self, from: u32, len: u32) -> Self {
        let from = from.min(self.len);
        Self { at: self.at.saturating_add(from), len: len.min(self.len.saturating_sub(from)) }
    }

    /// This span and `next`, which begins where it ends.
    #[must_use]
    pub fn joined(self, next: Self) -> Self {
        debug_assert!(self.at.checked_add(self.len) == Some(next.at), "a gap");
        Self { at: self.at, len: self.len.saturating_add(next.len) }
    }

    /// All from byte `from` on.
    #[must_use]
    pub fn from(self, from: u32) -> Self {
        self.cut(from, u32::MAX)
    }
}

/// The mapping.
///
/// # Invariants
///
/// `base` begins a private anonymous mapping of `len` bytes that stays for good.
#[derive(Debug)]
pub struct Arena {
    base: NonNull<u8>,
    len: u32,
    registered: u32,
}

// SAFETY: the mapping belongs to no thread, and it is accessed through raw copies alone.
unsafe impl Send for Arena {}
// SAFETY: as above; spans are handed from thread to thread by the server's own synchronization.
unsafe impl Sync for Arena {}

impl Arena {
    /// Maps `registered` bytes that rings will register as fixed buffers, and `plain` bytes more.
    pub fn new(registered: u32, plain: u32) -> io::Result<Self> {
        let len = registered.checked_add(plain).ok_or(io::ErrorKind::OutOfMemory)?;
        let size = usize::try_from(len).ok().and_then(NonZeroUsize::new);
        let size = size.ok_or(io::ErrorKind::InvalidInput)?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let base = unsafe { mmap_anonymous(None, size, prot, flags)? };
        // SAFETY: advice on the mapping just made; large pages make registered buffers cheaper.
        // Without them all works, so the result does not matter.
        let _ = unsafe { madvise(base, size.get(), MmapAdvise::MADV_HUGEPAGE) };
        // INVARIANT: mapped above with this length; there is no `Drop`.
        Ok(Self { base: base.cast(), len, registered })
    }

    /// The whole of it.
    #[must_use]
    pub const fn whole(&self) -> Span {
        Span { at: 0, len: self.len }
    }

    /// The part to be registered.
    #[must_use]
    pub const fn fixed(&self) -> Span {
        Span { at: 0, len: self.registered }
    }

    /// Whether a span lies in the part to be registered.
    #[must_use]
    pub const fn is_fixed(&self, span: Span) -> bool {
        span.at.saturating_add(span.len) <= self.registered
    }

    /// The address of a span, for the kernel.
    ///
    /// # Panics
    ///
    /// If the span is of a larger arena: memory safety hangs on this check.
    pub(super) fn address(&self, span: Span) -> *mut u8 {
        let end = u64::from(span.at) + u64::from(span.len);
        assert!(end <= u64::from(self.len), "a span of another arena");
        let offset = usize::try_from(span.at).unwrap_or(usize::MAX);
        // SAFETY: just checked to lie within the mapping.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Copies `bytes` to the span's start; what does not fit is dropped. Gives the bytes copied.
    pub fn write(&self, span: Span, bytes: &[u8]) -> u32 {
        let len = bytes.len().min(usize::try_from(span.len).unwrap_or(0));
        // SAFETY: the span is within the mapping (`address` checks), `len` is within both, and
        // no Rust object lies in the mapping.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address(span), len) };
        u32::try_from(len).unwrap_or(0)
    }

    /// Copies the span's start out; gives the part of `bytes` that was filled.
    pub fn read<'a>(&self, span: Span, bytes: &'a mut [u8]) -> &'a mut [u8] {
        let len = bytes.len().min(usize::try_from(span.len).unwrap_or(0));
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy_nonoverlapping(self.address(span), bytes.as_mut_ptr(), len) };
        bytes.get_mut(..len).unwrap_or_default()
    }

    /// Copies `from` to `to`, as much as fits; they may overlap.
    pub fn copy(&self, from: Span, to: Span) -> u32 {
        let len = from.len.min(to.len);
        let bytes = usize::try_from(len).unwrap_or(0);
        // SAFETY: both spans are within the mapping (`address` checks); `copy` allows overlap.
        unsafe { std::ptr::copy(self.address(from), self.address(to), bytes) };
        len
    }

    /// Fills the span with zeros.
    pub fn zero(&self, span: Span) {
        let len = usize::try_from(span.len).unwrap_or(0);
        // SAFETY: as in `write`.
        unsafe { std::ptr::write_bytes(self.address(span), 0, len) };
    }

    /// Writes an io vector of these spans to `area`; gives how many there was room for.
    pub(super) fn put_vector(&self, area: Span, spans: &[Span]) -> usize {
        let room = usize::try_from(area.len).unwrap_or(0) / size_of::<libc::iovec>();
        let first = self.address(area).cast::<libc::iovec>();
        assert!(first.is_aligned(), "an io vector must be aligned");
        for (index, span) in spans.iter().take(room).enumerate() {
            let len = usize::try_from(span.len).unwrap_or(0);
            let entry = libc::iovec { iov_base: self.address(*span).cast(), iov_len: len };
            // SAFETY: `index` is below the number of vectors that fit into `area`.
            unsafe { first.add(index).write(entry) };
        }
        spans.len().min(room)
    }

    /// Writes a message header and its io vector to `area`; gives the header's address and how
    /// many spans there was room for.
    pub(super) fn put_message(&self, area: Span, spans: &[Span]) -> (*const libc::msghdr, usize) {
        let head = u32::try_from(size_of::<libc::msghdr>()).unwrap_or(u32::MAX);
        assert!(area.len >= head, "no room for a message header");
        let vector = area.from(head);
        let count = self.put_vector(vector, spans);
        let message = self.address(area).cast::<libc::msghdr>();
        assert!(message.is_aligned(), "a message header must be aligned");
        // SAFETY: all-zero is a valid `msghdr`.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = self.address(vector).cast();
        header.msg_iovlen = count;
        // SAFETY: aligned and within the mapping, as checked above.
        unsafe { message.write(header) };
        (message.cast_const(), count)
    }

    /// Writes a duration as the kernel's timespec to `area`.
    pub(super) fn put_time(
        &self,
        area: Span,
        time: std::time::Duration,
    ) -> *const io_uring::types::Timespec {
        use io_uring::types::Timespec;
        let at = self.address(area).cast::<Timespec>();
        let fits = usize::try_from(area.len).is_ok_and(|len| len >= size_of::<Timespec>());
        assert!(fits && at.is_aligned(), "no room for a timespec");
        // SAFETY: aligned and within the mapping, as just checked.
        unsafe { at.write(Timespec::from(time)) };
        at.cast_const()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_in_and_out() {
        let arena = Arena::new(8192, 4096).unwrap();
        let span = arena.whole().cut(100, 5);
        assert_eq!(arena.write(span, b"hello world"), 5);
        let mut out = [0; 16];
        assert_eq!(arena.read(span, &mut out), b"hello");
        arena.copy(span, arena.whole().cut(102, 5));
        assert_eq!(arena.read(arena.whole().cut(100, 7), &mut out), b"hehello");
        arena.zero(span);
        assert_eq!(arena.read(span, &mut out), [0; 5]);
    }

    #[test]
    fn spans_never_leave_their_parent() {
        let span = Span { at: 10, len: 20 };
        assert_eq!(span.cut(5, 100), Span { at: 15, len: 15 });
        assert_eq!(span.cut(30, 1), Span { at: 30, len: 0 });
    }

    #[test]
    #[should_panic(expected = "another arena")]
    fn foreign_spans_are_refused() {
        let arena = Arena::new(4096, 0).unwrap();
        arena.zero(Span { at: 4095, len: 2 });
    }
}
