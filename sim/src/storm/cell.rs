// SPDX-License-Identifier: MIT

//! One logical block of a volume as the oracle knows it: which values it may show.
//!
//! A write begins and ends at moments of the storm's clock. Of two writes the later one is known
//! only if one ended before the other began. What a reader may see follows:
//! - a read that begins at `b` sees a write unless a later one had ended by `b`;
//! - after a crash a block shows a write unless a later one is *durable*;
//! - a snapshot taken between `b` and `e` shows what a read between `b` and `e` may see.

/// A moment that has not come.
pub(super) const NEVER: u64 = u64::MAX;

/// So many versions of a block are kept without a look whether some are the same.
const FEW: usize = 8;

/// A value that a block may show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Version {
    /// What the block shows.
    pub value: u64,
    /// When the write began; names the write.
    pub write: u64,
    /// It came after every write that had ended by then.
    pub after: u64,
    /// When it ended, [`NEVER`] as long as it is in flight.
    pub end: u64,
    /// It is known to have happened: it hides what came before.
    pub strong: bool,
    /// It outlives a crash.
    pub durable: bool,
    /// Disks fail, and it failed or is in flight: a reader may find it now, and a crash may take it
    /// away.
    pub flips: bool,
}

impl Version {
    /// A write that begins at `now`.
    #[must_use]
    pub(super) const fn begin(value: u64, now: u64) -> Self {
        Self {
            value,
            write: now,
            after: now,
            end: NEVER,
            strong: false,
            durable: false,
            flips: false,
        }
    }

    /// Whether it is known to have come after another.
    #[must_use]
    pub(super) const fn hides(&self, older: &Self) -> bool {
        let other = self.write != older.write || self.value != older.value;
        other && self.strong && self.after > older.end
    }
}

/// A block.
///
/// # Invariants
///
/// Without `more` the block shows `base` alone, durably. With it, `more` has all that it may
/// show, and is never empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Cell {
    base: u64,
    #[expect(clippy::box_collection, reason = "there are many cells, and few have more")]
    more: Option<Box<Vec<Version>>>,
}

impl Cell {
    /// A block that shows this value.
    #[must_use]
    pub(super) const fn new(value: u64) -> Self {
        Self { base: value, more: None }
    }

    /// Whether just one value can be seen, now and after a crash.
    #[must_use]
    pub(super) const fn is_settled(&self) -> bool {
        self.more.is_none()
    }

    const fn base_version(&self) -> Version {
        Version {
            value: self.base,
            write: 0,
            after: 0,
            end: 0,
            strong: true,
            durable: true,
            flips: false,
        }
    }

    /// All that it may show, to someone.
    pub(super) fn versions(&self) -> impl Iterator<Item = Version> + '_ {
        let base = self.more.is_none().then(|| self.base_version());
        base.into_iter().chain(self.more.iter().flat_map(|m| m.iter().copied()))
    }

    /// Whether what a reader finds need not be found by the next one.
    pub(super) fn may_flip(&self) -> bool {
        self.versions().any(|v| v.flips)
    }

    /// Another version.
    pub(super) fn add(&mut self, version: Version) {
        let base = self.base_version();
        let more = self.more.get_or_insert_with(|| Box::new(vec![base]));
        if !more.contains(&version) {
            more.push(version);
        }
    }

    /// The write that began at `write` has ended; `ok`: well. One that failed, or that is only
    /// advice, is not `strong`: it may have happened or not.
    pub(super) fn end(&mut self, write: u64, now: u64, ok: bool, strong: bool, durable: bool) {
        let versions = self.more.iter_mut().flat_map(|m| m.iter_mut());
        for version in versions.filter(|v| v.write == write && v.end == NEVER) {
            version.end = now;
            version.flips &= !ok;
            version.strong = strong;
            version.durable = strong && durable;
        }
    }

    /// A flush that began at `begin` has ended well.
    pub(super) fn flush(&mut self, begin: u64) {
        let versions = self.more.iter_mut().flat_map(|m| m.iter_mut());
        for version in versions.filter(|v| v.end <= begin && v.strong) {
            version.durable = true;
        }
    }

    /// What one who looks between `begin` and `end` may see.
    pub(super) fn seen(&self, begin: u64, end: u64) -> impl Iterator<Item = Version> + '_ {
        self.versions().filter(move |v| {
            v.write < end && !self.versions().any(|w| w.end <= begin && w.hides(v))
        })
    }

    /// What a crash may leave.
    pub(super) fn left(&self) -> impl Iterator<Item = Version> + '_ {
        self.versions().filter(move |v| !self.versions().any(|w| w.durable && w.hides(v)))
    }

    /// Whether `value` may be seen by one who looks between `begin` and `end`. If so, and if it
    /// is clear which write that was, it is known to be the last of those that had ended.
    pub(super) fn observe(&mut self, value: u64, begin: u64, end: u64) -> bool {
        let mut found = self.seen(begin, end).filter(|v| v.value == value);
        let Some(first) = found.next() else { return false };
        let alone = found.next().is_none() && !self.may_flip();
        drop(found);
        if alone && first.strong && first.end <= begin {
            let versions = self.more.iter_mut().flat_map(|m| m.iter_mut());
            for version in versions.filter(|v| **v == first) {
                version.after = version.after.max(begin);
            }
        }
        true
    }

    /// Forgets what nobody can see any more: no reader who began at or after `horizon`, and no
    /// crash.
    pub(super) fn prune(&mut self, horizon: u64) {
        let Some(more) = &mut self.more else { return };
        let all = more.clone();
        more.retain(|v| !all.iter().any(|w| w.durable && w.end <= horizon && w.hides(v)));
        if let [only] = more.as_slice() {
            if only.durable && only.end <= horizon {
                // INVARIANT: the one version left is durable, and no reader is older than it.
                self.base = only.value;
                self.more = None;
            }
        }
    }

    /// A block that shows one of these.
    #[must_use]
    pub(super) fn among(mut versions: Vec<Version>) -> Self {
        if versions.len() > FEW {
            // What is restored to and fro would double with each time.
            let order = |v: &Version| (v.value, v.write, v.after, v.end, v.strong, v.durable);
            versions.sort_unstable_by_key(|v| (order(v), v.flips));
            versions.dedup();
        }
        match versions.as_slice() {
            [only] => Self::new(only.value),
            [] => Self::default(),
            _ => {
                versions.shrink_to_fit();
                Self { base: 0, more: Some(Box::new(versions)) }
            }
        }
    }

    /// A block that shows what this one may show, all written durably between two moments.
    #[must_use]
    pub(super) fn frozen(&self, begin: u64, end: u64) -> Self {
        if self.is_settled() {
            return self.clone();
        }
        let (write, strong, durable) = (begin, true, true);
        let frozen = |v| Version { write, after: begin, end, strong, durable, ..v };
        Self::among(self.versions().map(frozen).collect())
    }

    /// A crash has left one of what it may leave, and nobody has looked which.
    pub(super) fn survive(&mut self) {
        let (strong, durable, flips) = (true, true, false);
        let left = self.left().map(|v| Version {
            write: 0,
            after: 0,
            end: 0,
            strong,
            durable,
            flips,
            ..v
        });
        *self = Self::among(left.collect());
    }

    /// It shows this value from now on, durably, and nothing else.
    pub(super) fn settle(&mut self, value: u64) {
        *self = Self::new(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(found: impl Iterator<Item = Version>) -> Vec<u64> {
        found.map(|v| v.value).collect()
    }

    #[test]
    fn an_unflushed_write_may_be_lost_and_a_flushed_one_not() {
        let mut cell = Cell::new(1);
        cell.add(Version::begin(2, 10));
        cell.end(10, 20, true, true, false);
        assert_eq!(values(cell.seen(21, 22)), [2]);
        assert_eq!(values(cell.seen(15, 22)), [1, 2]);
        assert_eq!(values(cell.left()), [1, 2]);
        cell.flush(19);
        assert_eq!(values(cell.left()), [1, 2]);
        cell.flush(21);
        assert_eq!(values(cell.left()), [2]);
        cell.prune(30);
        assert!(cell.is_settled());
    }

    #[test]
    fn what_a_crash_left_stays_until_it_is_written_again() {
        let mut cell = Cell::new(1);
        cell.add(Version::begin(2, 10));
        cell.survive();
        cell.flush(20);
        assert_eq!(values(cell.seen(30, 31)), [1, 2]);
        assert_eq!(values(cell.left()), [1, 2]);
        cell.add(Version::begin(3, 40));
        cell.end(40, 41, true, true, true);
        assert_eq!(values(cell.left()), [3]);
    }

    #[test]
    fn writes_at_the_same_time_come_in_either_order_until_one_is_seen() {
        let mut cell = Cell::new(1);
        cell.add(Version::begin(2, 10));
        cell.add(Version::begin(3, 11));
        cell.end(10, 20, true, true, false);
        cell.end(11, 21, true, true, false);
        assert_eq!(values(cell.seen(30, 31)), [2, 3]);
        assert!(cell.observe(2, 30, 31));
        assert!(!cell.observe(3, 32, 33));
        assert!(!cell.observe(1, 32, 33));
        assert!(cell.observe(2, 32, 33));
    }

    #[test]
    fn a_failed_write_may_have_happened_for_ever() {
        let mut cell = Cell::new(1);
        cell.add(Version::begin(2, 10));
        cell.end(10, 20, false, false, false);
        cell.flush(30);
        assert_eq!(values(cell.left()), [1, 2]);
        assert_eq!(values(cell.seen(40, 41)), [1, 2]);
        cell.add(Version::begin(3, 50));
        cell.end(50, 51, true, true, true);
        assert_eq!(values(cell.left()), [3]);
    }
}
