// SPDX-License-Identifier: MIT

//! Productions that leave the pool and come into it again, by commands. Out of the pool nobody
//! writes to them: what they held at the end they hold when they come back.
//!
//! The chance comes from the generator of `away`, so that seeds without any of this are what they
//! were.

use super::block::Block;
use super::command::Change;
use super::engine::Engine;
use super::model::{Key, Sort};
use super::schedule::World;

impl<E: Engine> World<E> {
    /// A production comes or goes; never the last one.
    pub(super) fn choose_move(&mut self) -> Option<Change> {
        let here = self.model.keys(|e| matches!(e.sort, Sort::Production(_)));
        let out: Vec<u16> = (1u16..)
            .take(self.plan.productions.len())
            .filter(|dev| !self.model.entities.values().any(|e| e.sort == Sort::Production(*dev)))
            .filter(|dev| !self.machine.absent.has(usize::from(*dev)))
            .collect();
        if !out.is_empty() && self.aside.chance(60) {
            let dev = self.aside.pick(&out);
            return Some(self.add(dev));
        }
        if here.len() < 2 {
            return None;
        }
        let bare: Vec<Key> =
            here.iter().copied().filter(|key| self.model.snapshots(*key).is_empty()).collect();
        // Now and then one that has snapshots: that is refused.
        let from = if bare.is_empty() || self.aside.chance(10) { here } else { bare };
        Some(Change::Remove(self.aside.pick(&from), self.aside.chance(50)))
    }

    /// A device comes into the pool, with all that it holds made durable before.
    fn add(&mut self, dev: u16) -> Change {
        self.names += 1;
        let disk = &mut self.machine.disks[usize::from(dev)];
        let flush = disk.begin_flush();
        disk.end_flush(flush, true);
        let (size, block) = (disk.device.size, u64::from(disk.device.block));
        let values = (0..size / block).map(|at| Block::value(disk.get(at))).collect();
        Change::Add { dev, size, name: format!("q{}", self.names), values }
    }
}
