// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Small helpers on arrays that hold a list in their first `len` places. None can panic: what does
//! not fit is `None`.

use core::mem::swap;

/// Puts `value` at `pos` of a list of `len`; the last place of the array must be free.
pub(super) fn insert_at<T: Copy>(array: &mut [T], len: usize, pos: usize, value: T) -> Option<()> {
    let tail = array.get_mut(pos..len.checked_add(1)?)?;
    let rest = tail.len().checked_sub(1)?;
    tail.copy_within(..rest, 1);
    *tail.first_mut()? = value;
    Some(())
}

/// Takes out what is at `pos` of a list of `len`; `last` fills the place that gets free.
pub(super) fn remove_at<T>(array: &mut [T], len: usize, pos: usize, last: T) -> Option<T> {
    let mut carry = last;
    let tail = array.get_mut(pos..len)?;
    if tail.is_empty() {
        return None;
    }
    for place in tail.iter_mut().rev() {
        swap(place, &mut carry);
    }
    Some(carry)
}

/// Two different places of an array.
pub(super) fn pair<T>(array: &mut [T], a: usize, b: usize) -> Option<(&mut T, &mut T)> {
    if a < b {
        let (low, high) = array.split_at_mut_checked(b)?;
        Some((low.get_mut(a)?, high.first_mut()?))
    } else {
        let (low, high) = array.split_at_mut_checked(a)?;
        Some((high.first_mut()?, low.get_mut(b)?))
    }
}

/// How many items come before what is sought; `before` holds for those alone, and they are first.
///
/// A binary search waits for memory at every step, as each depends on the one before. Here the
/// last of every `STEP` items is looked at, and then `STEP` in a row: processors fetch them all at
/// once.
pub(super) fn lower<const STEP: usize, T>(items: &[T], before: impl Fn(&T) -> bool) -> usize {
    let add = |n: usize, by: usize, yes: bool| n.wrapping_add(by.wrapping_mul(usize::from(yes)));
    let whole = items.chunks_exact(STEP);
    let start = whole.fold(0, |n, part| add(n, STEP, part.last().is_some_and(&before)));
    let rest = items.get(start..).unwrap_or_default().iter().take(STEP);
    rest.fold(start, |n, item| add(n, 1, before(item)))
}

/// Drops the first `n` of a list of `len`.
pub(super) fn shift<T: Copy>(array: &mut [T], len: usize, n: usize) {
    for to in 0..len.saturating_sub(n) {
        let Some(value) = array.get(to.saturating_add(n)).copied() else { return };
        if let Some(place) = array.get_mut(to) {
            *place = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_is_a_search() {
        for len in 0..200_usize {
            let items: Vec<_> = (0..len).map(|n| 2 * n).collect();
            for sought in 0..=2 * len + 1 {
                let expected = items.partition_point(|item| *item < sought);
                assert_eq!(lower::<8, _>(&items, |item| *item < sought), expected);
                assert_eq!(lower::<12, _>(&items, |item| *item < sought), expected);
            }
        }
    }

    #[test]
    fn lists_shift() {
        let mut a = [1, 2, 3, 0, 0];
        insert_at(&mut a, 3, 1, 9).unwrap();
        assert_eq!(a, [1, 9, 2, 3, 0]);
        assert_eq!(remove_at(&mut a, 4, 0, 0), Some(1));
        assert_eq!(a, [9, 2, 3, 0, 0]);
        assert_eq!(remove_at(&mut a, 3, 3, 0), None);
        assert_eq!(insert_at(&mut a, 5, 0, 1), None);
        shift(&mut a, 3, 2);
        assert_eq!(a[0], 3);
        assert_eq!(pair(&mut a, 2, 0).map(|(x, y)| (*x, *y)), Some((3, 3)));
        assert!(pair(&mut a, 1, 1).is_none());
    }
}
