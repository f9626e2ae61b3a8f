// SPDX-License-Identifier: MIT

//! What every volume and snapshot should hold: a pattern for each sector of 512 bytes.
//!
//! Pattern 0 is zeros. Pattern `n` fills a sector with cells of 16 bytes, `n` and the sector's
//! number, so that data in the wrong place is seen. From [`BYTE`] on the low 8 bits fill the
//! sector. [`ANY`] is not known: somebody else wrote it.

use std::collections::{BTreeMap, BTreeSet};

use super::script::size;

/// Bytes in a sector of the model.
pub(crate) const SECTOR: u64 = 512;
/// From here on, patterns are one byte repeated.
pub(crate) const BYTE: u32 = 1 << 16;
/// Not known.
pub(crate) const ANY: u32 = u32::MAX;

/// A number of bytes as a length in memory.
pub(crate) fn length(bytes: u64) -> usize {
    usize::try_from(bytes).expect("the tests' volumes fit into memory")
}

/// The bytes of a pattern at a place.
pub(crate) fn fill(pattern: u32, at: u64, bytes: u64) -> Vec<u8> {
    let mut data = Vec::with_capacity(length(bytes));
    for sector in at / SECTOR..(at + bytes) / SECTOR {
        match pattern {
            0 => data.resize(data.len() + length(SECTOR), 0),
            BYTE.. => data.resize(data.len() + length(SECTOR), pattern.to_le_bytes()[0]),
            _ => {
                let id = u64::from(pattern).to_le_bytes();
                let cell = [id, sector.to_le_bytes()].concat();
                data.extend(cell.iter().cycle().take(length(SECTOR)));
            }
        }
    }
    data
}

/// A volume or snapshot.
#[derive(Clone)]
pub(crate) struct Contents {
    sectors: Vec<u32>,
    /// Chunks written since the volume's newest snapshot, or since it was made.
    pub(crate) written: BTreeSet<u64>,
}

impl Contents {
    /// That many bytes of pattern 1.
    pub(crate) fn new(bytes: u64) -> Self {
        Self { sectors: vec![1; length(bytes / SECTOR)], written: BTreeSet::new() }
    }

    /// Bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.sectors.len() as u64 * SECTOR
    }

    /// The same data, nothing written.
    pub(crate) fn copy(&self) -> Self {
        Self { sectors: self.sectors.clone(), written: BTreeSet::new() }
    }

    /// Notes a write.
    pub(crate) fn write(&mut self, at: u64, bytes: u64, pattern: u32, chunk: u64) {
        self.sectors[length(at / SECTOR)..length((at + bytes) / SECTOR)].fill(pattern);
        self.written.extend(at / chunk..(at + bytes).div_ceil(chunk));
    }

    /// Holds what was read at `at` against what should be there.
    pub(crate) fn compare(&self, at: u64, data: &[u8]) -> Result<(), String> {
        let first = at / SECTOR;
        for (n, got) in data.chunks(length(SECTOR)).enumerate() {
            let sector = first + n as u64;
            let pattern = self.sectors[length(sector)];
            if pattern != ANY && !holds(pattern, sector, got) {
                let (place, found) = (sector * SECTOR, describe(got));
                return Err(format!("byte {place}: pattern {pattern} expected, found {found}"));
            }
        }
        Ok(())
    }
}

/// Whether a sector's data is the pattern's.
fn holds(pattern: u32, sector: u64, data: &[u8]) -> bool {
    match pattern {
        0 => data.iter().all(|b| *b == 0),
        BYTE.. => data.iter().all(|b| *b == pattern.to_le_bytes()[0]),
        _ => {
            let cell = u128::from(sector) << 64 | u128::from(pattern);
            data.chunks(16).all(|c| c == cell.to_le_bytes())
        }
    }
}

/// What a sector seems to hold.
fn describe(sector: &[u8]) -> String {
    if sector.iter().all(|b| *b == 0) {
        return "zeros".to_owned();
    }
    let number = |at: usize| {
        let bytes = sector.get(at..at + 8).and_then(|b| b.try_into().ok());
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    format!("pattern {} of byte {}", number(0), number(8).wrapping_mul(SECTOR))
}

/// All volumes and snapshots.
#[derive(Default)]
pub(crate) struct Model {
    all: BTreeMap<String, Contents>,
}

impl Model {
    /// Of this name.
    pub(crate) fn get(&self, name: &str) -> Result<&Contents, String> {
        self.all.get(name).ok_or_else(|| format!("the scenario knows no {name}"))
    }

    /// Of this name, to change it.
    pub(crate) fn get_mut(&mut self, name: &str) -> Result<&mut Contents, String> {
        self.all.get_mut(name).ok_or_else(|| format!("the scenario knows no {name}"))
    }

    /// Adds or replaces.
    pub(crate) fn put(&mut self, name: &str, contents: Contents) {
        self.all.insert(name.to_owned(), contents);
    }

    /// Forgets.
    pub(crate) fn remove(&mut self, name: &str) -> Result<Contents, String> {
        self.all.remove(name).ok_or_else(|| format!("the scenario knows no {name}"))
    }

    /// All names.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.all.keys().cloned().collect()
    }

    /// Takes the snapshot `VOL@SNAP`.
    pub(crate) fn snapshot(&mut self, name: &str) -> Result<(), String> {
        let volume = name.split('@').next().unwrap_or(name);
        let contents = self.get_mut(volume)?;
        contents.written.clear();
        let copy = contents.copy();
        self.put(name, copy);
        Ok(())
    }
}

/// A pattern as scenarios write it: a number, or `byte:N`, or `any`.
pub(crate) fn pattern(word: &str) -> Result<u32, String> {
    if word == "any" {
        return Ok(ANY);
    }
    let (byte, digits) = word.strip_prefix("byte:").map_or((0, word), |rest| (BYTE, rest));
    let n = u32::try_from(size(digits)?).map_err(|e| e.to_string())?;
    Ok(byte + n)
}

#[test]
fn patterns_tell_places_apart() {
    let mut contents = Contents::new(64 << 10);
    contents.write(4096, 4096, 7, 4096);
    assert!(contents.compare(0, &fill(1, 0, 4096)).is_ok());
    assert!(contents.compare(4096, &fill(7, 4096, 4096)).is_ok());
    assert!(contents.compare(4096, &fill(7, 8192, 4096)).is_err());
    assert!(contents.compare(8192, &fill(7, 8192, 512)).is_err());
    assert_eq!(contents.written, BTreeSet::from([1]));
    assert_eq!(fill(BYTE + 5, 0, 512), [5; 512]);
}
