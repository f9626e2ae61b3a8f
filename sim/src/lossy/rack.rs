// SPDX-License-Identifier: MIT

//! All disks behind one switch, so that the power goes at one moment for all of them.
//!
//! Without power a write may still arrive, as one that was in flight; nothing else happens.

use std::io;

use super::disk::{Data, Disk, Losses};
use super::{open, Image};
use crate::nbd::Export;
use crate::storm::{Rng, Survive};

/// The disks.
#[derive(Debug)]
pub(super) struct Rack {
    disks: Vec<Disk>,
    exports: Vec<Export>,
    power: bool,
}

impl Rack {
    /// Opens the images and switches the power on.
    pub(super) fn open(images: &[Image], cache: u64) -> io::Result<Self> {
        let (mut disks, mut exports) = (Vec::new(), Vec::new());
        for (id, image) in (0..).zip(images) {
            let (file, size) = open(image)?;
            disks.push(Disk::new(file, image.block, cache));
            exports.push(Export {
                id,
                name: image.name.clone(),
                size,
                min_block: image.block,
                preferred_block: image.block.max(4096),
                ..Export::default()
            });
        }
        Ok(Self { disks, exports, power: true })
    }

    /// From now on flushes and FUA make nothing durable.
    pub(super) fn forget_flushes(&mut self) {
        self.disks.iter_mut().for_each(Disk::forget_flushes);
    }

    /// What is served, as the handshake needs to know it.
    pub(super) fn exports(&self) -> &[Export] {
        &self.exports
    }

    /// A disk that answers; none without power.
    pub(super) fn disk(&mut self, number: usize) -> Option<&mut Disk> {
        self.disks.get_mut(number).filter(|_| self.power)
    }

    /// A write arrives, power or not; gives its name.
    pub(super) fn write(&mut self, number: usize, at: u64, data: Data, fua: bool) -> Option<u64> {
        self.disks.get_mut(number).map(|disk| disk.write(at, data, fua))
    }

    /// From now on nothing is done, and nothing becomes durable.
    pub(super) fn cut_power(&mut self) {
        self.power = false;
    }

    /// Leaves in the images what the seed says.
    pub(super) fn lose(&mut self, seed: u64) -> io::Result<Losses> {
        let mut losses = Losses::default();
        let survive = Survive::drawn(self.disks.len(), &mut Rng::new(seed));
        for (disk, survive) in self.disks.iter_mut().zip(survive) {
            losses += disk.cut(survive)?;
        }
        Ok(losses)
    }

    /// Leaves in the images all that was ever written.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        self.disks.iter_mut().try_for_each(Disk::settle_all)
    }
}
