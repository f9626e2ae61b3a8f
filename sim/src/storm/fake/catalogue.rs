// SPDX-License-Identifier: MIT

//! What volumes there are, as a text that is stored whole.

use std::fmt::Write as _;

use super::REGIONS;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Entry {
    pub(super) id: u32,
    pub(super) kind: u32,
    pub(super) owner: u32,
    pub(super) base: u32,
    pub(super) held: u32,
    pub(super) part: String,
    pub(super) dev: u16,
    pub(super) start: u64,
    pub(super) size: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Catalogue {
    pub(super) generation: u64,
    pub(super) next: u32,
    /// A restore that has begun: source, target.
    pub(super) intent: Option<(u32, u32)>,
    pub(super) entries: Vec<Entry>,
}

impl Catalogue {
    pub(super) fn text(&self) -> String {
        let (from, to) = self.intent.unwrap_or((0, 0));
        let mut text = format!("{} {} {from} {to}\n", self.generation, self.next);
        for e in &self.entries {
            let _ = writeln!(
                text,
                "{} {} {} {} {} {} {} {} {}",
                e.id, e.kind, e.owner, e.base, e.held, e.part, e.dev, e.start, e.size
            );
        }
        text
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let head: Vec<u64> =
            lines.next()?.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
        let small = |n: u64| u32::try_from(n).ok();
        let intent = (small(head[2])?, small(head[3])?);
        let mut all = Self {
            generation: head[0],
            next: small(head[1])?,
            intent: (intent.0 != 0).then_some(intent),
            entries: Vec::new(),
        };
        for line in lines {
            let f: Vec<&str> = line.split(' ').collect();
            let n = |i: usize| f.get(i)?.parse::<u64>().ok();
            all.entries.push(Entry {
                id: small(n(0)?)?,
                kind: small(n(1)?)?,
                owner: small(n(2)?)?,
                base: small(n(3)?)?,
                held: small(n(4)?)?,
                part: (*f.get(5)?).to_owned(),
                dev: u16::try_from(n(6)?).ok()?,
                start: n(7)?,
                size: n(8)?,
            });
        }
        Some(all)
    }

    /// As stored: length, hash, text.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let text = self.text();
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(xxhash_rust::xxh64::xxh64(text.as_bytes(), 1).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (len, rest) = bytes.split_first_chunk::<8>()?;
        let (sum, rest) = rest.split_first_chunk::<8>()?;
        let text = rest.get(..usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        let fits = xxhash_rust::xxh64::xxh64(text, 1) == u64::from_le_bytes(*sum);
        fits.then(|| Self::parse(std::str::from_utf8(text).ok()?)).flatten()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Entry> {
        self.entries.iter().find(|e| e.id == id)
    }

    pub(super) fn name(&self, entry: &Entry) -> String {
        match self.get(entry.owner) {
            Some(owner) => format!("{}@{}", owner.part, entry.part),
            None => entry.part.clone(),
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| self.name(e) == name)
    }

    /// A copy of `of`, somewhere on the save volume.
    pub(super) fn copy(
        &mut self,
        of: &Entry,
        kind: u32,
        part: &str,
        chunk: u64,
        save: u64,
    ) -> Option<Entry> {
        let mut taken: Vec<(u64, u64)> = self
            .entries
            .iter()
            .filter(|e| e.dev == 0)
            .map(|e| (e.start, e.start + e.size.next_multiple_of(chunk)))
            .collect();
        taken.sort_unstable();
        let mut start = REGIONS;
        for (from, to) in taken {
            if start + of.size.next_multiple_of(chunk) > from {
                start = start.max(to);
            }
        }
        if start + of.size.next_multiple_of(chunk) > save {
            return None;
        }
        self.next += 1;
        let (id, part) = (self.next, part.to_owned());
        let entry = Entry { id, kind, part, start, size: of.size, ..Entry::default() };
        self.entries.push(entry.clone());
        Some(entry)
    }
}
