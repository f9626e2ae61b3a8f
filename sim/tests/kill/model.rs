// SPDX-License-Identifier: MIT

//! What volumes and snapshots may hold, block by block, when a server may be killed at any time.
//!
//! A block holds the number of the write that wrote it; numbers only grow, and 0 is what was there
//! before the first. Each block has one writer, which has one write under way at a time.

use std::collections::BTreeMap;

/// Bytes in a block: less than a chunk, so that chunks are written in part.
pub(crate) const BLOCK: usize = 1024;

/// Each block's number.
pub(crate) type Image = Vec<u64>;

/// The bytes of a block.
pub(crate) fn fill(block: usize, number: u64) -> Vec<u8> {
    let cell = [number.to_le_bytes(), (block as u64).to_le_bytes()].concat();
    cell.repeat(BLOCK / 16)
}

/// The numbers of what was read; every block has to be one write's, whole and in its place.
pub(crate) fn parse(data: &[u8]) -> Result<Image, String> {
    let number = |cell: &[u8]| cell[..8].try_into().map(u64::from_le_bytes).unwrap_or(u64::MAX);
    let whole = |(block, data): (usize, &[u8])| {
        let found = number(data);
        let is_whole = data == fill(block, found);
        is_whole.then_some(found).ok_or_else(|| format!("block {block} is torn or misplaced"))
    };
    data.chunks(BLOCK).enumerate().map(whole).collect()
}

/// A write that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) writer: usize,
    pub(crate) block: usize,
    pub(crate) number: u64,
}

/// A volume that is written.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    /// What every block holds at least: flushed, or seen after a crash.
    pub(crate) floor: Image,
    /// Writes that were acknowledged.
    pub(crate) done: Image,
    /// Writes sent since the volume was last looked at as a whole.
    sent: Vec<Sent>,
    /// Of each writer, the write that is under way.
    under_way: BTreeMap<usize, Sent>,
    /// The snapshot that it was cloned from.
    pub(crate) base: Option<String>,
}

impl Live {
    /// Holds just this.
    pub(crate) fn new(image: Image, base: Option<String>) -> Self {
        let (sent, under_way) = (Vec::new(), BTreeMap::new());
        Self { floor: image.clone(), done: image, sent, under_way, base }
    }

    /// A write is about to be sent.
    pub(crate) fn send(&mut self, sent: Sent) {
        self.sent.push(sent);
        self.under_way.insert(sent.writer, sent);
    }

    /// It was acknowledged.
    pub(crate) fn acknowledge(&mut self, sent: Sent) {
        self.done[sent.block] = sent.number;
        self.under_way.remove(&sent.writer);
    }

    /// A flush of this writer was acknowledged: its writes are there for good.
    pub(crate) fn flushed(&mut self, writer: usize) {
        for sent in self.sent.iter().filter(|s| s.writer == writer) {
            self.floor[sent.block] = self.done[sent.block];
        }
    }

    /// Whether it may read so after a crash.
    pub(crate) fn may_be(&self, image: &Image) -> Result<(), String> {
        let sent: std::collections::BTreeSet<_> =
            self.sent.iter().map(|s| (s.block, s.number)).collect();
        for (block, (&found, &floor)) in image.iter().zip(&self.floor).enumerate() {
            if found != floor && (found < floor || !sent.contains(&(block, found))) {
                return Err(format!("block {block} is of write {found}; {floor} was flushed"));
            }
        }
        Ok(())
    }

    /// It was read as a whole, and holds this.
    pub(crate) fn seen(&mut self, image: &Image) {
        *self = Self::new(image.clone(), self.base.take());
    }

    /// A snapshot is about to be taken.
    pub(crate) fn before_snapshot(&self) -> (Image, usize, Vec<Sent>) {
        (self.done.clone(), self.sent.len(), self.under_way.values().copied().collect())
    }

    /// The snapshot was taken, or the server was killed meanwhile.
    pub(crate) fn after_snapshot(&self, before: (Image, usize, Vec<Sent>)) -> Snapshot {
        let (before, from, mut sent) = before;
        sent.extend(&self.sent[from.min(self.sent.len())..]);
        Snapshot { before, sent, exact: None }
    }
}

/// A snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// What was acknowledged when its command began.
    before: Image,
    /// Writes that were under way then or sent before the answer.
    sent: Vec<Sent>,
    /// What it holds, once it was read.
    pub(crate) exact: Option<Image>,
}

impl Snapshot {
    /// Of known contents.
    pub(crate) fn exact(image: Image) -> Self {
        Self { before: image.clone(), sent: Vec::new(), exact: Some(image) }
    }

    /// Whether it may read so: as it did before; at first, as of one moment of each writer.
    pub(crate) fn look(&mut self, image: &Image) -> Result<(), String> {
        let wanted = match &self.exact {
            Some(exact) => exact.clone(),
            None => self.moment(image),
        };
        if let Some(block) = (0..image.len()).find(|&b| wanted[b] != image[b]) {
            let (found, wanted) = (image[block], wanted[block]);
            return Err(format!("block {block} is of write {found}, not {wanted}"));
        }
        self.exact = Some(wanted);
        Ok(())
    }

    /// All writes up to the last that each writer is seen with.
    fn moment(&self, image: &Image) -> Image {
        let mut last = BTreeMap::new();
        for sent in self.sent.iter().filter(|s| image[s.block] == s.number) {
            last.insert(sent.writer, sent.number);
        }
        let mut wanted = self.before.clone();
        for sent in &self.sent {
            if last.get(&sent.writer).is_some_and(|&last| sent.number <= last) {
                wanted[sent.block] = sent.number;
            }
        }
        wanted
    }
}

#[test]
fn a_snapshot_is_one_moment_of_each_writer() {
    let mut live = Live::new(vec![0; 4], None);
    let sent = |block, number| Sent { writer: 0, block, number };
    live.send(sent(0, 1));
    live.acknowledge(sent(0, 1));
    let before = live.before_snapshot();
    for (block, number) in [(1, 2), (2, 3)] {
        live.send(sent(block, number));
        live.acknowledge(sent(block, number));
    }
    let snapshot = live.after_snapshot(before);
    for good in [vec![1, 0, 0, 0], vec![1, 2, 0, 0], vec![1, 2, 3, 0]] {
        assert!(snapshot.clone().look(&good).is_ok(), "{good:?}");
    }
    for bad in [vec![0, 0, 0, 0], vec![1, 0, 3, 0], vec![1, 2, 3, 4]] {
        assert!(snapshot.clone().look(&bad).is_err(), "{bad:?}");
    }
    assert!(live.may_be(&vec![0, 0, 3, 0]).is_ok());
    live.flushed(0);
    assert!(live.may_be(&vec![1, 2, 3, 0]).is_ok() && live.may_be(&vec![1, 0, 3, 0]).is_err());
}
