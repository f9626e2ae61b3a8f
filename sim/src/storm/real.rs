// SPDX-License-Identifier: MIT

//! The core that ships, as the storm's engine.

use std::sync::Arc;

use rwsnap_core::api::{Device, Done, Handle, Op, Request, Seg, Step, StepId, Submit};
use rwsnap_core::control::{Name, Refusal};
use rwsnap_core::fast::{Fast, Route, Token};
use rwsnap_core::fault::Fault;
use rwsnap_core::format::create::{create, NewPool, NewProduction};
use rwsnap_core::format::log;
use rwsnap_core::format::superblock::{Finder, Options, Superblock};
use rwsnap_core::mutants::Mutant;
use rwsnap_core::units::{Dev, Geometry};
use rwsnap_core::Core;

use super::block::Block;
use super::disk::Disk;
use super::engine::{Engine, Found, Opened, Rot, Routed};
use super::plan::Plan;
use super::rng::Rng;
use super::schedule::production;
use crate::platform::Host;

/// The 4 KiB from byte `at` on.
fn page(save: &Disk, at: u64) -> Vec<u8> {
    let block = u64::from(save.device.block);
    let mut page = vec![0; 4096];
    let parts = page.chunks_mut(usize::try_from(block).unwrap_or(512));
    (at / block..).zip(parts).for_each(|(at, part)| save.get(at).expand(part));
    page
}

/// The superblock that counts.
fn superblock(save: &Disk) -> Result<Superblock, String> {
    let mut finder = Finder::default();
    for at in Finder::places() {
        finder.feed(&Host, &page(save, at));
    }
    finder.finish().copied().map_err(|why| format!("{why:?}"))
}

/// Blocks of the log, as bytes of the save volume, that a later one says are durable.
fn durable_log(save: &Disk, superblock: &Superblock) -> Vec<u64> {
    let (log, start) = (superblock.log_blocks.get(), superblock.log_start.get());
    let pool = superblock.pool_number();
    let heads: Vec<_> = (0..log)
        .map(|n| start + n * 4096)
        .filter_map(|at| log::open(&Host, &page(save, at), pool).map(|(head, _)| (at, head)))
        .collect();
    // What a later record of the log as it is now says is durable must be there.
    let now = superblock.log_generation.get();
    let live = heads.iter().filter(|(_, h)| h.generation == now);
    let durable = live.map(|(_, h)| h.durable.0).max().unwrap_or(0);
    let durable = durable.max(superblock.known_end.get());
    let from = superblock.log_pos.get();
    let must = heads.iter().filter(|(_, h)| (from..durable).contains(&h.position.0));
    must.map(|(at, _)| *at).collect()
}

/// A page of metadata that is not empty.
fn some_page(save: &Disk, superblock: &Superblock, rng: &mut Rng) -> Option<u64> {
    let extents: Vec<_> = superblock.extents().collect();
    let extent = extents.get(rng.index(extents.len()))?;
    let mut places = (0..8).map(|_| extent.start + rng.below(extent.bytes() / 4096) * 4096);
    places.find(|at| page(save, *at).iter().any(|byte| *byte != 0))
}

impl Engine for Core<Host> {
    fn dump(&self) -> String {
        format!("{self:?}")
    }

    fn copies_ahead(&self) -> bool {
        self.dump().contains(": Ahead ")
    }

    type Fast = Arc<Fast<Host>>;
    type Token = Token;

    fn create(plan: &Plan, put: &mut dyn FnMut(u64, &[u8])) {
        let names: Vec<Name> = (1u16..)
            .zip(&plan.productions)
            .map(|(dev, _)| Name::new(production(dev).as_bytes()).unwrap_or_default())
            .collect();
        let productions: Vec<NewProduction<'_>> = names
            .iter()
            .zip(&plan.productions)
            .map(|(&name, device)| NewProduction { name, size: device.size, path: b"" })
            .collect();
        let pool = NewPool {
            layout: Options {
                bytes: plan.save.size,
                limit: plan.save_limit,
                grow: 0,
                chunk: plan.chunk,
                block: plan.block,
                log_blocks: plan.log_blocks,
                pages: plan.pages,
                align: 4096,
            },
            uuid: u128::from(plan.seed).to_le_bytes(),
            label: [b'p'; 64],
            when_full: u32::try_from(plan.when_full).unwrap_or(0),
            copy_span: plan.copy_span,
            time_ns: 1,
            productions: &productions,
        };
        create(&Host, &pool, put).unwrap_or_else(|why| panic!("seed {}: {why:?}", plan.seed));
    }

    fn open(plan: &Plan, save: &Disk) -> Result<Self, String> {
        let superblock = superblock(save)?;
        let mut core = Self::open(Host, &plan.limits, save.device, &superblock)
            .map_err(|why| format!("{why:?}"))?;
        let planted = usize::try_from(plan.mutant).ok().and_then(|m| m.checked_sub(1));
        if let Some(&mutant) = planted.and_then(|m| Mutant::ALL.get(m)) {
            core.plant(mutant);
        }
        Ok(*core)
    }

    fn is_early(save: &Disk) -> bool {
        superblock(save).is_ok_and(|s| s.generation.get() == s.log_generation.get())
    }

    fn metadata_slots(save: &Disk) -> u64 {
        let Ok(superblock) = superblock(save) else { return 0 };
        let Some(geometry) = superblock.geometry() else { return 0 };
        superblock.extents().skip(1).map(|e| geometry.chunks_for(e.bytes())).sum()
    }

    fn rot(save: &mut Disk, rng: &mut Rng) -> Option<Rot> {
        let superblock = superblock(save).ok()?;
        let (at, rot) = match rng.below(8) {
            0..4 => (rng.one_of(&durable_log(save, &superblock))?, Rot::Log),
            4..7 => (some_page(save, &superblock, rng)?, Rot::Page),
            _ => (rng.pick(&Finder::places()), Rot::Superblock),
        };
        let each = u64::from(save.device.block);
        let at = at / each + rng.below(4096 / each);
        let spoiled = Block::Word(save.get(at).value() ^ 1);
        save.put(at, spoiled);
        Some(rot)
    }

    fn opened(&self) -> Option<Result<(), String>> {
        self.opened().map(|opened| opened.map_err(|why| format!("{why:?}")))
    }

    fn geometry(&self) -> Geometry {
        self.geometry()
    }

    fn productions(&self) -> Vec<Found> {
        let mut all = Vec::new();
        self.productions(&mut |p| {
            all.push(Found { dev: p.dev, size: p.size, fingerprint: p.fingerprint });
        });
        all
    }

    fn online(
        &mut self,
        dev: Dev,
        device: Device,
        fingerprint: u64,
        trust: bool,
    ) -> Result<(), Refusal> {
        self.online(dev, device, fingerprint, trust)
    }

    fn start(&mut self) {
        self.start();
    }

    fn attach(&mut self, name: &str, write: bool) -> Result<Opened<Self::Fast>, Refusal> {
        let attached = self.attach(name.as_bytes(), write)?;
        Ok(Opened {
            handle: attached.handle,
            size: attached.size,
            read_only: attached.read_only,
            fast: attached.fast,
            id: attached.id,
        })
    }

    fn detach(&mut self, handle: Handle) {
        self.detach(handle);
    }

    fn is_lost(&self, handle: Handle) -> bool {
        self.handle_lost(handle)
    }

    fn route(fast: &Self::Fast, cpu: u32, op: Op, at: u64, len: u32) -> Routed<Token> {
        match fast.route(cpu, op, at, len) {
            Route::Pass(pass) => Routed::Pass(pass.dev, pass.at, pass.token),
            Route::Slow => Routed::Slow,
        }
    }

    fn leave(fast: &Self::Fast, cpu: u32, token: Token) -> bool {
        fast.leave(cpu, token)
    }

    fn submit(&mut self, request: &Request) -> Submit {
        self.submit(request)
    }

    fn command(&mut self, cookie: u64, bytes: &[u8]) -> Submit {
        self.command(cookie, bytes)
    }

    fn reply(&mut self, cookie: u64) -> Vec<u8> {
        let mut all = Vec::new();
        self.reply(cookie, &mut |bytes| all.extend_from_slice(bytes));
        all
    }

    fn poll(&mut self) -> Option<(StepId, Step)> {
        self.poll()
    }

    fn is_behind(&self) -> bool {
        Self::is_behind(self)
    }

    fn resume(&mut self) {
        Self::resume(self);
    }

    fn segs(&self, id: StepId, f: &mut dyn FnMut(Seg<'_>)) {
        self.segs(id, f);
    }

    fn complete(&mut self, id: StepId, done: &Done<'_>) {
        self.complete(id, done);
    }

    fn kick(&mut self) {
        self.kick();
    }

    fn tick(&mut self, now_ns: u64) {
        self.tick(now_ns);
    }

    fn close(&mut self, fingerprints: &[(Dev, u64)]) {
        for &(dev, fingerprint) in fingerprints {
            self.set_fingerprint(dev, fingerprint);
        }
        self.close();
    }

    fn closed(&self) -> Option<Result<(), Fault>> {
        self.closed()
    }
}
