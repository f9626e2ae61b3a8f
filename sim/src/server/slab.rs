// SPDX-License-Identifier: MIT

//! Objects by small dense numbers, so that a token of an operation can name one.
//!
//! An object is removed only when no operation in flight names it; so numbers need no generation.

/// The objects.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    /// With room for `capacity` objects; it grows beyond it.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { places: Vec::with_capacity(capacity), free: Vec::with_capacity(capacity) }
    }

    /// Puts an object in; gives its number.
    pub(crate) fn insert(&mut self, object: T) -> u32 {
        if let Some(number) = self.free.pop() {
            if let Some(place) = self.places.get_mut(index(number)) {
                *place = Some(object);
            }
            return number;
        }
        self.places.push(Some(object));
        u32::try_from(self.places.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// The object of that number.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.places.get(index(number))?.as_ref()
    }

    /// The object of that number.
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.places.get_mut(index(number))?.as_mut()
    }

    /// Takes an object out.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let object = self.places.get_mut(index(number))?.take()?;
        self.free.push(number);
        Some(object)
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len().saturating_sub(self.free.len())
    }

    /// The numbers in use.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        let used = self.places.iter().enumerate().filter(|(_, place)| place.is_some());
        used.filter_map(|(number, _)| u32::try_from(number).ok()).collect()
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_used_again() {
        let mut slab = Slab::new(2);
        assert_eq!([slab.insert('a'), slab.insert('b'), slab.insert('c')], [0, 1, 2]);
        assert_eq!(slab.remove(1), Some('b'));
        assert_eq!((slab.remove(1), slab.get(1), slab.get(9)), (None, None, None));
        assert_eq!(slab.numbers(), [0, 2]);
        assert_eq!((slab.insert('d'), slab.len()), (1, 3));
        assert_eq!(slab.get_mut(1), Some(&mut 'd'));
    }
}
