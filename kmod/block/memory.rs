// SPDX-License-Identifier: GPL-2.0-only

//! Memory that is read and written by devices: copy units, and metadata on its way.
//!
//! It is virtually contiguous, so that a unit of any size is one slice; a bio names its pages.

use kernel::{
    alloc::allocator::Vmalloc,
    bindings,
    page::PAGE_SIZE,
    prelude::*, //
};

/// Memory for devices.
///
/// # Invariants
///
/// `base` is where `memory` lies, which comes from `vmalloc` and is reached through `base` alone,
/// until it is dropped.
pub(crate) struct Memory {
    memory: Vec<u8, Vmalloc>,
    base: *mut u8,
    /// Its pages, in their order.
    pages: KVVec<*mut bindings::page>,
}

// SAFETY: it owns its memory; who may use which bytes of it when is the core's to say.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// So many bytes, all zero.
    pub(crate) fn new(bytes: usize) -> Result<Self> {
        let bytes = bytes.checked_next_multiple_of(PAGE_SIZE).ok_or(EOVERFLOW)?;
        let mut memory: Vec<u8, Vmalloc> = Vec::from_elem(0, bytes, GFP_KERNEL)?;
        let base = memory.as_mut_ptr();
        let mut pages = KVVec::with_capacity(bytes / PAGE_SIZE, GFP_KERNEL)?;
        for at in (0..bytes).step_by(PAGE_SIZE) {
            let byte = base.wrapping_add(at);
            // SAFETY: it is an address that `vmalloc` gave.
            let page = unsafe { bindings::vmalloc_to_page(byte.cast_const().cast()) };
            pages.push(page, GFP_KERNEL)?;
        }
        // INVARIANT: nothing below uses the vector, which does not move its elements.
        Ok(Self {
            memory,
            base,
            pages,
        })
    }

    fn at(&self, at: usize, len: usize) -> Option<*mut u8> {
        let end = at.checked_add(len)?;
        (end <= self.memory.len()).then(|| self.base.wrapping_add(at))
    }

    /// The page of byte `at`, and the byte's place in it.
    pub(crate) fn page(&self, at: usize) -> Option<(*mut bindings::page, usize)> {
        Some((*self.pages.get(at / PAGE_SIZE)?, at % PAGE_SIZE))
    }

    /// Calls `f` with bytes that no device and nobody else writes meanwhile. The core sees to that:
    /// it hands a unit to one step at a time.
    pub(crate) fn read<T>(&self, at: usize, len: usize, f: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let bytes = self.at(at, len)?;
        // SAFETY: they lie within our memory, and no step that writes them is under way.
        Some(f(unsafe { core::slice::from_raw_parts(bytes, len) }))
    }

    /// Writes bytes, which nobody else uses meanwhile.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) {
        if let Some(to) = self.at(at, bytes.len()) {
            // SAFETY: they lie within our memory, and no step that uses them is under way.
            unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
    }

    /// Zeroes bytes, which nobody else uses meanwhile.
    pub(crate) fn zero(&self, at: usize, len: usize) {
        if let Some(to) = self.at(at, len) {
            // SAFETY: as in `write`.
            unsafe { to.write_bytes(0, len) };
        }
    }
}

/// A pool of pages for metadata on its way; a run of pages is taken and given whole.
pub(crate) struct Bounce {
    memory: Memory,
    used: KVVec<bool>,
}

/// A run of pages; none if it is empty.
#[derive(Clone, Copy, Default)]
pub(crate) struct Span {
    first: usize,
    count: usize,
}

impl Span {
    /// None.
    pub(crate) const EMPTY: Self = Self { first: 0, count: 0 };

    /// First byte.
    pub(crate) fn at(self) -> usize {
        self.first.saturating_mul(PAGE_SIZE)
    }
}

impl Bounce {
    /// So many pages.
    pub(crate) fn new(pages: usize) -> Result<Self> {
        let memory = Memory::new(pages.saturating_mul(PAGE_SIZE))?;
        Ok(Self {
            memory,
            used: KVVec::from_elem(false, pages, GFP_KERNEL)?,
        })
    }

    /// The memory.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Pages for so many bytes, one after the other; `None` if there are not enough now.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<Span> {
        let count = bytes.div_ceil(PAGE_SIZE);
        if count == 0 {
            return Some(Span::default());
        }
        let mut first = 0_usize;
        while let Some(run) = self.used.get(first..first.checked_add(count)?) {
            match run.iter().rposition(|&used| used) {
                Some(last) => first = first.checked_add(last)?.checked_add(1)?,
                None => {
                    self.mark(first, count, true);
                    return Some(Span { first, count });
                }
            }
        }
        None
    }

    /// Gives them back.
    pub(crate) fn give(&mut self, span: Span) {
        self.mark(span.first, span.count, false);
    }

    fn mark(&mut self, first: usize, count: usize, used: bool) {
        if let Some(run) = self.used.get_mut(first..first.saturating_add(count)) {
            run.fill(used);
        }
    }
}
