// SPDX-License-Identifier: MIT

//! The driver's memory: clients' buffers and copy units, and how steps name pieces of them.

use std::collections::BTreeMap;

use rwsnap_core::api::{Seg, StepId};

use super::block::Block;
use super::engine::Engine;
use super::machine::{Io, Wrong};

/// A piece of memory that a step moves; all in blocks but the length.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// Of the request with this number.
    Client {
        /// Its number.
        io: u64,
        /// First block of its buffer.
        at: usize,
        /// Bytes.
        len: u64,
    },
    /// Of a copy unit.
    Unit {
        /// Which.
        unit: usize,
        /// First block.
        at: usize,
        /// Bytes.
        len: u64,
    },
    /// Metadata, to be read or written.
    Meta {
        /// Bytes.
        len: u64,
    },
    /// Zeros.
    Zeros {
        /// Bytes.
        len: u64,
    },
}

impl Piece {
    /// Bytes.
    pub(super) const fn len(&self) -> u64 {
        match self {
            Self::Client { len, .. }
            | Self::Unit { len, .. }
            | Self::Meta { len }
            | Self::Zeros { len } => *len,
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    block: usize,
    units: Vec<Vec<Block>>,
    /// Cookie of a part: its request's number and the first block of its buffer.
    parts: BTreeMap<u64, (u64, usize)>,
    bytes: Vec<u8>,
    sums: Vec<u64>,
}

fn size(n: impl TryInto<usize>) -> usize {
    n.try_into().unwrap_or(usize::MAX)
}

impl Memory {
    /// Nothing yet; blocks of `block` bytes.
    pub(super) fn new(block: u32) -> Self {
        let (units, parts) = (Vec::new(), BTreeMap::new());
        Self { block: size(block), units, parts, bytes: Vec::new(), sums: Vec::new() }
    }

    /// The part `cookie` of request `io` begins at this block of its buffer.
    pub(super) fn buffer(&mut self, cookie: u64, io: u64, first: usize) {
        self.parts.insert(cookie, (io, first));
    }

    /// The part is done; which request's it was.
    pub(super) fn release(&mut self, cookie: u64) -> Option<u64> {
        self.parts.remove(&cookie).map(|(io, _)| io)
    }

    /// The copy units among the pieces.
    pub(super) fn units(pieces: &[Piece]) -> impl Iterator<Item = usize> + Clone + '_ {
        pieces.iter().filter_map(|piece| match piece {
            Piece::Unit { unit, .. } => Some(*unit),
            _ => None,
        })
    }

    fn piece(&self, seg: &Seg<'_>) -> Result<Piece, Wrong> {
        let piece = match *seg {
            Seg::Client { cookie, at, len } => {
                let (io, first) = *self
                    .parts
                    .get(&cookie)
                    .ok_or_else(|| format!("a step names the buffer of {cookie}, which is done"))?;
                Piece::Client { io, at: first + size(at) / self.block, len: u64::from(len) }
            }
            Seg::Copy { unit, at, len } => {
                Piece::Unit { unit: size(unit), at: size(at) / self.block, len: u64::from(len) }
            }
            Seg::Bytes(bytes) => Piece::Meta { len: bytes.len() as u64 },
            Seg::Meta { len } => Piece::Meta { len: u64::from(len) },
            Seg::Zeros { len } => Piece::Zeros { len: u64::from(len) },
        };
        if size(piece.len()) % self.block != 0 {
            return Err(format!("a step has a piece of {} bytes", piece.len()));
        }
        Ok(piece)
    }

    /// The pieces of a step, which must be `len` bytes together.
    pub(super) fn pieces<E: Engine>(
        &self,
        core: &E,
        id: StepId,
        len: u64,
    ) -> Result<Vec<Piece>, Wrong> {
        let mut pieces = Ok(Vec::new());
        core.segs(id, &mut |seg| {
            if let Ok(found) = &mut pieces {
                match self.piece(&seg) {
                    Ok(piece) => found.push(piece),
                    Err(wrong) => pieces = Err(wrong),
                }
            }
        });
        Self::checked(pieces?, len)
    }

    fn checked(pieces: Vec<Piece>, len: u64) -> Result<Vec<Piece>, Wrong> {
        let sum: u64 = pieces.iter().map(Piece::len).sum();
        if sum == len {
            Ok(pieces)
        } else {
            Err(format!("a step of {len} bytes has pieces of {sum} bytes"))
        }
    }

    /// The data that a write step stores, and its pieces.
    pub(super) fn gather<E: Engine>(
        &self,
        core: &E,
        id: StepId,
        len: u64,
        ios: &BTreeMap<u64, Io>,
    ) -> Result<(Vec<Block>, Vec<Piece>), Wrong> {
        let (mut data, mut pieces, mut wrong) = (Vec::new(), Vec::new(), None);
        core.segs(id, &mut |seg| {
            let piece = match self.piece(&seg) {
                Ok(piece) => piece,
                Err(found) => return wrong = Some(found),
            };
            let blocks = size(piece.len()) / self.block;
            let found = match (&piece, &seg) {
                (Piece::Client { io, at, .. }, _) => {
                    ios.get(io).and_then(|io| io.blocks.get(*at..*at + blocks))
                }
                (Piece::Unit { unit, at, .. }, _) => {
                    self.units.get(*unit).and_then(|unit| unit.get(*at..*at + blocks))
                }
                (_, Seg::Bytes(bytes)) => {
                    data.extend(bytes.chunks(self.block).map(Block::new));
                    Some(&[][..])
                }
                _ => {
                    data.extend(std::iter::repeat_n(Block::ZERO, blocks));
                    Some(&[][..])
                }
            };
            match found {
                Some(found) => data.extend_from_slice(found),
                None => wrong = Some(format!("a write of memory that is not there: {piece:?}")),
            }
            pieces.push(piece);
        });
        match wrong {
            Some(wrong) => Err(wrong),
            None => Ok((data, Self::checked(pieces, len)?)),
        }
    }

    /// Puts what a read found into its pieces. What metadata and which sums it gives is then to
    /// be had from `taken`.
    pub(super) fn scatter(
        &mut self,
        pieces: &[Piece],
        found: Vec<Block>,
        ios: &mut BTreeMap<u64, Io>,
        chunk: u32,
    ) {
        let mut found = found.into_iter();
        for piece in pieces {
            let blocks = size(piece.len()) / self.block;
            let data = found.by_ref().take(blocks);
            match piece {
                Piece::Client { io, at, .. } => {
                    let io = ios.get_mut(io).and_then(|io| io.blocks.get_mut(*at..));
                    for (to, from) in io.into_iter().flatten().zip(data) {
                        *to = from;
                    }
                }
                Piece::Unit { unit, at, .. } => {
                    let data: Vec<Block> = data.collect();
                    self.fill(*unit, *at, data, size(chunk) / self.block);
                }
                Piece::Meta { len } => {
                    let first = self.bytes.len();
                    self.bytes.resize(first + size(*len), 0);
                    let parts = self.bytes[first..].chunks_mut(self.block);
                    parts.zip(data).for_each(|(to, from)| from.expand(to));
                }
                Piece::Zeros { .. } => data.for_each(drop),
            }
        }
        for unit in Self::units(pieces) {
            let mut bytes = vec![0; self.units[unit].len() * self.block];
            let parts = bytes.chunks_mut(self.block);
            parts.zip(&self.units[unit]).for_each(|(to, from)| from.expand(to));
            self.sums.push(xxhash_rust::xxh64::xxh64(&bytes, 0));
        }
    }

    fn fill(&mut self, unit: usize, at: usize, data: Vec<Block>, blocks: usize) {
        if self.units.len() <= unit {
            self.units.resize(unit + 1, Vec::new());
        }
        let unit = &mut self.units[unit];
        unit.resize(blocks, Block::ZERO);
        let end = at + data.len();
        for (to, from) in unit.iter_mut().skip(at).zip(data) {
            *to = from;
        }
        if at == 0 {
            unit.iter_mut().skip(end).for_each(|b| *b = Block::ZERO);
        }
    }

    /// Metadata and sums of the read scattered last.
    pub(super) fn taken(&mut self) -> (Vec<u8>, Vec<u64>) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.sums))
    }

    /// Zeros the pieces, which are clients'.
    pub(super) fn clear(&self, pieces: &[Piece], ios: &mut BTreeMap<u64, Io>) {
        for piece in pieces {
            if let Piece::Client { io, at, len } = piece {
                let blocks = size(*len) / self.block;
                let io = ios.get_mut(io).and_then(|io| io.blocks.get_mut(*at..*at + blocks));
                io.into_iter().flatten().for_each(|b| *b = Block::ZERO);
            }
        }
    }
}
