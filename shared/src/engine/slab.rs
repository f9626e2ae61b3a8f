// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Fixed tables with free lists, and queues of their elements.
//!
//! An index out of range reaches a sink element and is counted, so that the code that holds valid
//! indices needs no error path; the engine fences the pool when the count is not zero.

use crate::fault::Fault;
use crate::platform::Platform;

/// No element.
pub(crate) const NONE: u32 = u32::MAX;

fn place(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// A table of `T`.
pub(crate) struct Slab<P: Platform, T> {
    items: P::Array<T>,
    links: P::Array<u32>,
    sink: P::Box<T>,
    free: u32,
    used: u32,
    top: u32,
    len: u32,
    /// The line that used an element that there is none of; 0: nobody did.
    pub(crate) strays: u32,
}

impl<P: Platform, T: Clone> Slab<P, T> {
    /// What strays reach: the first that a table needs.
    #[inline(never)]
    pub(crate) fn sink(p: &P, fill: &T) -> Result<P::Box<T>, Fault> {
        p.boxed(|| fill.clone()).ok_or(Fault::NoMemory)
    }

    /// A table without an element, to be made where it will stay: [`Self::make`].
    #[inline(always)]
    pub(crate) fn bare(sink: P::Box<T>) -> Self {
        Self {
            items: P::Array::default(),
            links: P::Array::default(),
            sink,
            free: NONE,
            used: 0,
            top: 0,
            len: 0,
            strays: 0,
        }
    }

    /// Gives a bare table its elements.
    #[inline(never)]
    pub(crate) fn make(&mut self, p: &P, len: u32, fill: &T) -> Result<(), Fault> {
        let mut links = p.array(place(len), &NONE).ok_or(Fault::NoMemory)?;
        for (at, link) in links.iter_mut().enumerate() {
            let next = u32::try_from(at).unwrap_or(NONE).saturating_add(1);
            *link = if next < len { next } else { NONE };
        }
        self.items = p.array(place(len), fill).ok_or(Fault::NoMemory)?;
        self.links = links;
        self.free = if len == 0 { NONE } else { 0 };
        self.len = len;
        Ok(())
    }

    /// Somebody uses an element that there is none of: notes the line, for the fence to say.
    #[track_caller]
    pub(crate) fn stray(&mut self) {
        self.strays = core::panic::Location::caller().line();
    }

    /// Takes a free element; its content is what it was left with.
    pub(crate) fn take(&mut self) -> Option<u32> {
        let at = self.free;
        let link = self.links.get_mut(place(at))?;
        self.free = *link;
        *link = NONE;
        self.used = self.used.saturating_add(1);
        self.top = self.top.max(at.saturating_add(1));
        Some(at)
    }

    /// Gives an element back.
    #[track_caller]
    pub(crate) fn give(&mut self, at: u32) {
        match self.links.get_mut(place(at)) {
            Some(link) => {
                *link = self.free;
                self.free = at;
                self.used = self.used.saturating_sub(1);
            }
            None => self.stray(),
        }
    }

    pub(crate) fn left(&self) -> u32 {
        self.len.saturating_sub(self.used)
    }

    /// No element from this one on was ever taken: what goes over all in use ends here.
    pub(crate) fn top(&self) -> u32 {
        self.top
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn at(&self, at: u32) -> &T {
        self.items.get(place(at)).unwrap_or(&self.sink)
    }

    #[track_caller]
    pub(crate) fn at_mut(&mut self, at: u32) -> &mut T {
        if at >= self.len {
            self.stray();
        }
        self.items.get_mut(place(at)).unwrap_or(&mut self.sink)
    }

    /// What stands behind an element in its queue.
    pub(crate) fn link(&self, at: u32) -> u32 {
        self.links.get(place(at)).copied().unwrap_or(NONE)
    }

    #[track_caller]
    pub(crate) fn set_link(&mut self, at: u32, to: u32) {
        match self.links.get_mut(place(at)) {
            Some(link) => *link = to,
            None => self.stray(),
        }
    }

    /// Appends to a queue.
    #[track_caller]
    pub(crate) fn push(&mut self, queue: &mut Queue, at: u32) {
        self.set_link(at, NONE);
        if queue.tail == NONE {
            queue.head = at;
        } else {
            self.set_link(queue.tail, at);
        }
        queue.tail = at;
    }

    /// Takes the first of a queue.
    #[track_caller]
    pub(crate) fn pop(&mut self, queue: &mut Queue) -> Option<u32> {
        let at = queue.head;
        if at == NONE {
            return None;
        }
        queue.head = self.link(at);
        if queue.head == NONE {
            queue.tail = NONE;
        }
        self.set_link(at, NONE);
        Some(at)
    }

    /// Moves all of `from` behind `to`.
    #[track_caller]
    pub(crate) fn append(&mut self, to: &mut Queue, from: &mut Queue) {
        if from.head == NONE {
            return;
        }
        if to.tail == NONE {
            to.head = from.head;
        } else {
            self.set_link(to.tail, from.head);
        }
        to.tail = from.tail;
        *from = Queue::default();
    }
}

/// A first-in first-out queue of elements of one slab; an element stands in one queue at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    pub(crate) head: u32,
    tail: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self { head: NONE, tail: NONE }
    }
}

impl Queue {
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE };

    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }
}
