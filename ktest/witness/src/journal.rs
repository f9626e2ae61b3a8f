// SPDX-License-Identifier: MIT

//! The witness's own record, on a disk whose power stays on.
//!
//! Records stand one after another, each on a sector's border: a head of four words (a mark, the
//! generation, bytes of the text, a sum), the text of an event, zeros. A new generation begins at
//! the start of the disk; what is behind its last record is of an older one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::device::{self, Buffer};
use crate::model::{Event, State};
use crate::sector::{mix, SECTOR};

const MARK: u64 = 0x7373_656e_7469_7731;
const WORD: usize = 8;
const HEAD: usize = 4 * WORD;

/// The record, and what it says.
pub(crate) struct Journal {
    file: File,
    bytes: u64,
    at: u64,
    pub(crate) generation: u64,
    /// How many events there are.
    pub(crate) count: u64,
    pub(crate) state: State,
}

fn sum(generation: u64, text: &[u8]) -> u64 {
    let add = |sum: u64, byte: &u8| mix(sum ^ u64::from(*byte));
    text.iter().fold(mix(generation ^ text.len() as u64), add)
}

/// The text of a record that is there.
fn record(file: &File, at: u64, end: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut first = Buffer::new(SECTOR);
    if at + SECTOR as u64 > end {
        return Ok(None);
    }
    file.read_exact_at(first.get(), at)?;
    let mut words = first.get().chunks_exact(WORD).map(|bytes| {
        let mut word = [0; WORD];
        word.copy_from_slice(bytes);
        u64::from_le_bytes(word)
    });
    let mut next = || words.next().unwrap_or_default();
    let (mark, generation, len, wanted) = (next(), next(), next(), next());
    let Ok(len) = usize::try_from(len) else { return Ok(None) };
    if mark != MARK || at + HEAD as u64 + len as u64 > end {
        return Ok(None);
    }
    let mut whole = Buffer::new((HEAD + len).next_multiple_of(SECTOR));
    file.read_exact_at(whole.get(), at)?;
    let text = whole.get()[HEAD..][..len].to_vec();
    Ok((sum(generation, &text) == wanted).then_some((generation, text)))
}

impl Journal {
    /// Begins one anew.
    pub(crate) fn create(path: &Path, generation: u64, events: &[Event]) -> io::Result<Self> {
        let mut file = device::open(path, true)?;
        let bytes = device::bytes(&mut file)?;
        let state = State::default();
        let mut journal = Self { file, bytes, at: 0, generation, count: 0, state };
        for event in events {
            journal.tell(event)?;
        }
        Ok(journal)
    }

    /// Reads one, or its first so many events.
    pub(crate) fn open(path: &Path, until: Option<u64>) -> io::Result<Self> {
        let mut journal = Self::create(path, 0, &[])?;
        while let Some((generation, text)) = record(&journal.file, journal.at, journal.bytes)? {
            let first = journal.count == 0;
            if (!first && generation != journal.generation) || until == Some(journal.count) {
                break;
            }
            journal.generation = generation;
            let text = String::from_utf8_lossy(&text).into_owned();
            let event = Event::parse(&text).ok_or_else(|| io::Error::other(text.clone()))?;
            journal.state.apply(&event);
            journal.count += 1;
            journal.at += (HEAD + text.len()).next_multiple_of(SECTOR) as u64;
        }
        match journal.count {
            0 => Err(io::Error::other(format!("{}: there is no record", path.display()))),
            _ => Ok(journal),
        }
    }

    /// Takes in an event, and keeps it.
    pub(crate) fn tell(&mut self, event: &Event) -> io::Result<()> {
        let text = event.text().into_bytes();
        let mut buffer = Buffer::new((HEAD + text.len()).next_multiple_of(SECTOR));
        let bytes = buffer.get();
        let head = [MARK, self.generation, text.len() as u64, sum(self.generation, &text)];
        for (place, word) in bytes.chunks_exact_mut(WORD).zip(head) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes[HEAD..][..text.len()].copy_from_slice(&text);
        if self.at + bytes.len() as u64 > self.bytes {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the record is full"));
        }
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.count += 1;
        self.state.apply(event);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_again_up_to_a_point_and_old_ones_are_not() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let path = folder.path().join("journal");
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let table = |value| Event::Table("prod".into(), vec![value; 9]);
        let many: Vec<Event> = (0..20).map(table).collect();
        drop(Journal::create(&path, 1, &many).unwrap());
        let mut journal = Journal::create(&path, 2, &[table(7)]).unwrap();
        journal.tell(&Event::Gone("prod".into())).unwrap();
        let again = Journal::open(&path, None).unwrap();
        assert_eq!((again.count, again.generation), (2, 2));
        assert_eq!(again.state, State::default());
        let half = Journal::open(&path, Some(1)).unwrap();
        assert!(half.state.volumes["prod"].shows(8, 7));
    }
}
