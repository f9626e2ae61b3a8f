// SPDX-License-Identifier: MIT

//! How the steps that move data begin.

use super::*;

impl<E: Engine> Machine<E> {
    /// The device of a step, if it is one that is away: a read finds nothing there, and all else
    /// must not be tried.
    pub(super) fn away_of(&self, step: &Step) -> Result<Option<usize>, Wrong> {
        let (Step::Read { dev, .. }
        | Step::Write { dev, .. }
        | Step::Discard { dev, .. }
        | Step::Zero { dev, .. }
        | Step::Flush { dev }) = *step
        else {
            return Ok(None);
        };
        match self.absent.has(dev_index(dev)) {
            true if matches!(step, Step::Read { .. }) => Ok(Some(dev_index(dev))),
            true => Err(format!("{step:?} of a device that is away")),
            false => Ok(None),
        }
    }

    pub(super) fn begin_read(
        &self,
        id: StepId,
        dev: Dev,
        at: u64,
        len: u32,
    ) -> Result<(usize, u64, u64, Work), Wrong> {
        let dev = dev_index(dev);
        let (first, blocks) = self.extent(dev, at, u64::from(len))?;
        let pieces = self.memory.pieces(&self.core, id, u64::from(len))?;
        let clash = self.open.iter().any(|open| match &open.work {
            Work::Read(_, other) | Work::Write(_, other) => {
                Memory::units(other).any(|u| Memory::units(&pieces).any(|v| v == u))
            }
            _ => false,
        });
        if clash {
            return Err(format!("a copy unit is read into while it is in use, at {at} of {dev}"));
        }
        Ok((dev, first, blocks, Work::Read(self.disks[dev].begin_read(first, blocks), pieces)))
    }

    pub(super) fn begin_write(
        &mut self,
        id: StepId,
        dev: Dev,
        at: u64,
        len: u32,
        fua: bool,
    ) -> Result<(usize, u64, u64, Work), Wrong> {
        let dev = dev_index(dev);
        let (first, blocks) = self.extent(dev, at, u64::from(len))?;
        let (data, pieces) = self.memory.gather(&self.core, id, u64::from(len), &self.ios)?;
        let write = self.disks[dev].begin_write(first, data, Kind::Write { fua });
        Ok((dev, first, blocks, Work::Write(write, pieces)))
    }

    pub(super) fn begin_zero(
        &mut self,
        dev: Dev,
        at: u64,
        len: u64,
        kind: Kind,
    ) -> Result<(usize, u64, u64, Work), Wrong> {
        let dev = dev_index(dev);
        let (first, blocks) = self.extent(dev, at, len)?;
        let data = vec![Block::ZERO; usize::try_from(blocks).unwrap_or(0)];
        Ok((dev, first, blocks, Work::Zero(self.disks[dev].begin_write(first, data, kind))))
    }

    /// The blocks of an extent that must lie on the device, aligned.
    pub(super) fn extent(&self, dev: usize, at: u64, len: u64) -> Result<(u64, u64), Wrong> {
        let size = self.disks.get(dev).map_or(0, |d| d.device.size);
        let inside = at.checked_add(len).is_some_and(|end| end <= size);
        if !inside || at % self.block != 0 || len % self.block != 0 {
            return Err(format!("I/O of {len} bytes at {at} of device {dev} of {size} bytes"));
        }
        Ok((at / self.block, len / self.block))
    }
}
