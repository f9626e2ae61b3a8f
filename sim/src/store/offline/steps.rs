// SPDX-License-Identifier: MIT

//! The devices of a pool at rest, and how a step is carried out on them.

use std::collections::BTreeMap;

use rwsnap_core::api::{Device, Seg};
use rwsnap_core::fault::Fault;
use rwsnap_core::units::Dev;

use super::copy_units;
use crate::store::{StoreError, Volume};

/// A piece of a step's memory, as `Seg` but owned.
#[derive(Debug)]
pub(super) enum Piece {
    Client { at: usize, len: usize },
    Copy { unit: usize, at: usize, len: usize },
    Bytes(Vec<u8>),
    Meta { len: usize },
    Zeros { len: usize },
}

impl Piece {
    pub(super) fn of(seg: Seg<'_>) -> Self {
        match seg {
            Seg::Client { at, len, .. } => Self::Client { at: size(at), len: size(len) },
            Seg::Copy { unit, at, len } => {
                Self::Copy { unit: size(unit), at: size(at), len: size(len) }
            }
            Seg::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            Seg::Meta { len } => Self::Meta { len: size(len) },
            Seg::Zeros { len } => Self::Zeros { len: size(len) },
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Client { len, .. }
            | Self::Copy { len, .. }
            | Self::Meta { len }
            | Self::Zeros { len } => *len,
        }
    }
}

/// A length that fits: this program runs where addresses have 64 bits.
pub(super) fn size(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// The volumes, and the memory that steps move.
pub(super) struct Devices {
    pub(super) volumes: BTreeMap<u16, Volume>,
    units: Vec<u8>,
    pub(super) chunk: usize,
    /// The buffer of the one client request under way.
    pub(super) client: Vec<u8>,
}

/// What a read brings: metadata, and the checksums of the copy units.
type Found = (Vec<u8>, Vec<u64>);

impl Devices {
    /// With the save volume alone, and copy units of this size.
    pub(super) fn new(save: Volume, chunk: u32) -> Self {
        let volumes = BTreeMap::from([(Dev::SAVE.0, save)]);
        let units = vec![0; size(chunk) * size(copy_units(chunk))];
        Self { volumes, units, chunk: size(chunk), client: Vec::new() }
    }

    /// The save volume, as the core wants it.
    pub(super) fn save(&self) -> Device {
        let none = Device { size: 0, block: 512, volatile: true, fua: false };
        self.volumes.get(&Dev::SAVE.0).map_or(none, Volume::device)
    }

    /// Does something with a device; what failed is logged here, and a fault to the core.
    pub(super) fn on<T>(
        &self,
        dev: Dev,
        f: impl FnOnce(&Volume) -> Result<T, StoreError>,
    ) -> Result<T, Fault> {
        let volume = self.volumes.get(&dev.0).ok_or(Fault::Io)?;
        f(volume).map_err(|e| {
            tracing::error!("{e}");
            Fault::Io
        })
    }

    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), Fault> {
        let save = self.volumes.get_mut(&Dev::SAVE.0).ok_or(Fault::Io)?;
        save.grow(bytes).map_err(|e| {
            tracing::warn!("{e}");
            Fault::NoSpace
        })
    }

    pub(super) fn zero(&self, dev: Dev, at: u64, len: u64, fua: bool) -> Result<(), Fault> {
        let zeros = vec![0; 1 << 18];
        let mut done = 0;
        while done < len {
            let now = usize::try_from(len - done).unwrap_or(usize::MAX).min(zeros.len());
            let piece = zeros.get(..now).unwrap_or_default();
            self.on(dev, |volume| volume.write_at(piece, at.saturating_add(done)))?;
            done += now as u64;
        }
        self.flush_if(dev, fua)
    }

    pub(super) fn write(
        &self,
        dev: Dev,
        at: u64,
        fua: bool,
        pieces: &[Piece],
    ) -> Result<(), Fault> {
        let mut bytes = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Client { at, len } => {
                    bytes.extend_from_slice(self.client.get(*at..at + len).ok_or(Fault::Io)?);
                }
                Piece::Copy { unit, at, len } => {
                    let first = unit * self.chunk + at;
                    bytes.extend_from_slice(self.units.get(first..first + len).ok_or(Fault::Io)?);
                }
                Piece::Bytes(meta) => bytes.extend_from_slice(meta),
                Piece::Zeros { len } | Piece::Meta { len } => bytes.resize(bytes.len() + len, 0),
            }
        }
        self.on(dev, |volume| volume.write_at(&bytes, at))?;
        self.flush_if(dev, fua)
    }

    fn flush_if(&self, dev: Dev, fua: bool) -> Result<(), Fault> {
        if fua {
            self.on(dev, Volume::flush)?;
        }
        Ok(())
    }

    pub(super) fn read(
        &mut self,
        dev: Dev,
        at: u64,
        len: usize,
        pieces: &[Piece],
    ) -> Result<Found, Fault> {
        let mut bytes = vec![0; len];
        self.on(dev, |volume| volume.read_at(&mut bytes, at))?;
        let (mut meta, mut sums) = (Vec::new(), Vec::new());
        let mut rest = bytes.as_slice();
        for piece in pieces {
            let (now, later) = rest.split_at(piece.len().min(rest.len()));
            rest = later;
            match piece {
                Piece::Client { at, .. } => fill(&mut self.client, *at, now),
                Piece::Copy { unit, at, .. } => sums.push(self.fill_unit(*unit, *at, now)),
                Piece::Meta { .. } => meta.extend_from_slice(now),
                Piece::Bytes(_) | Piece::Zeros { .. } => {}
            }
        }
        Ok((meta, sums))
    }

    /// Fills the client's buffer with zeros.
    pub(super) fn clear(&mut self, pieces: &[Piece]) -> Result<(), Fault> {
        for piece in pieces {
            if let Piece::Client { at, len } = piece {
                self.client.get_mut(*at..at + len).ok_or(Fault::Io)?.fill(0);
            }
        }
        Ok(())
    }

    /// Puts what was read into a copy unit, zeros behind it; the unit's checksum.
    fn fill_unit(&mut self, unit: usize, at: usize, bytes: &[u8]) -> u64 {
        let first = unit * self.chunk;
        let Some(room) = self.units.get_mut(first..first + self.chunk) else { return 0 };
        fill(room, at, bytes);
        if let Some(behind) = room.get_mut(at + bytes.len()..) {
            behind.fill(0);
        }
        xxhash_rust::xxh64::xxh64(room, 0)
    }
}

/// Copies `bytes` into `room` at `at`, as far as there is room.
fn fill(room: &mut [u8], at: usize, bytes: &[u8]) {
    let places = room.iter_mut().skip(at);
    places.zip(bytes).for_each(|(to, from)| *to = *from);
}
