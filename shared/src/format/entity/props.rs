// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The properties of an entity: pairs of a key and a value, one after another in 512 bytes.
//!
//! A pair is the length of its key (a byte, 1 to 127), the length of its value (a byte, 1 to
//! 192), the key and the value. A key length of zero ends the list, and so does the end of the
//! area. All bytes behind the end are zero.

use super::Entity;
use crate::format::page::copy;

/// Bytes that an entity has for its properties.
pub const PROPERTY_BYTES: usize = 512;

/// Bytes in a value.
pub const VALUE_MAX: usize = 192;

/// Bytes in a key.
const KEY_MAX: usize = 127;

/// Why a property cannot be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PropertyError {
    /// The key is empty or too long, or the value is too long.
    Length,
    /// The entity has no room left for it.
    Full,
}

/// The first pair of `area` and what comes after it, or `None` at the end or if the area is not
/// sound.
fn split(area: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&key_len, rest) = area.split_first()?;
    let (&value_len, rest) = rest.split_first()?;
    let (key_len, value_len) = (usize::from(key_len), usize::from(value_len));
    if !(1..=KEY_MAX).contains(&key_len) || !(1..=VALUE_MAX).contains(&value_len) {
        return None;
    }
    let (key, rest) = rest.split_at_checked(key_len)?;
    let (value, rest) = rest.split_at_checked(value_len)?;
    Some((key, value, rest))
}

/// Bytes of a pair.
fn pair_len(key: &[u8], value: &[u8]) -> usize {
    key.len().saturating_add(value.len()).saturating_add(2)
}

impl Entity {
    /// The properties, in the order they were set.
    pub fn properties(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut left: &[u8] = &self.props;
        core::iter::from_fn(move || {
            let (key, value, rest) = split(left)?;
            left = rest;
            Some((key, value))
        })
    }

    /// The value of a property.
    #[must_use]
    pub fn property(&self, key: &[u8]) -> Option<&[u8]> {
        self.properties().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// Sets a property; an empty value removes it.
    ///
    /// # Errors
    ///
    /// It does not fit; nothing is changed.
    #[inline(never)]
    pub fn set_property(&mut self, key: &[u8], value: &[u8]) -> Result<(), PropertyError> {
        if key.is_empty() || key.len() > KEY_MAX || value.len() > VALUE_MAX {
            return Err(PropertyError::Length);
        }
        let former = self.property(key).map_or(0, |old| pair_len(key, old));
        let left = self.properties_len().saturating_sub(former);
        if value.is_empty() {
            self.remove_property(key);
            return Ok(());
        }
        if left.saturating_add(pair_len(key, value)) > PROPERTY_BYTES {
            return Err(PropertyError::Full);
        }
        self.remove_property(key);
        let (key_len, value_len) = (u8::try_from(key.len()), u8::try_from(value.len()));
        let (Ok(key_len), Ok(value_len)) = (key_len, value_len) else {
            return Err(PropertyError::Length);
        };
        copy(&mut self.props, left, &[key_len, value_len]);
        copy(&mut self.props, left.saturating_add(2), key);
        copy(&mut self.props, left.saturating_add(2).saturating_add(key.len()), value);
        Ok(())
    }

    /// Removes a property; false if there was none.
    pub fn remove_property(&mut self, key: &[u8]) -> bool {
        let mut start = 0_usize;
        let found = self.properties().find_map(|(k, value)| {
            let len = pair_len(k, value);
            let here = (k == key).then_some((start, len));
            start = start.saturating_add(len);
            here
        });
        let Some((at, len)) = found else { return false };
        let area = self.props.get_mut(at..).unwrap_or(&mut []);
        area.rotate_left(len.min(area.len()));
        let kept = PROPERTY_BYTES.saturating_sub(len);
        self.props.get_mut(kept..).unwrap_or(&mut []).fill(0);
        true
    }

    /// Bytes that the properties take.
    fn properties_len(&self) -> usize {
        self.properties().fold(0, |sum, (k, v)| sum.saturating_add(pair_len(k, v)))
    }

    /// Whether the list ends where it ought to, and nothing but zeros follows.
    pub(super) fn properties_are_sound(&self) -> bool {
        let rest = self.props.get(self.properties_len()..).unwrap_or(&[]);
        rest.iter().all(|&b| b == 0)
    }
}
