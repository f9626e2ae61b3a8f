// SPDX-License-Identifier: MIT

//! What kind of world a seed makes: sizes, limits, policies, what clients do and how often.
//! Each seed turns many knobs to an end at random, so that rare meetings become common somewhere.

use rwsnap_core::api::{Device, Limits};

use super::fault::Faults;
use super::rng::Rng;

/// What to do when the save volume is full, as the properties name it.
pub(super) const WHEN_FULL: [&str; 4] = ["grow", "oldest", "stall", "fail"];

/// The generator of what has to do with productions that are away.
pub(super) const ASIDE: u64 = 0xA51D_E000;

/// Blocks of a production volume of more than a few words.
const MOST_BLOCKS: u64 = 4096;

/// In which order open steps end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// Any.
    Random,
    /// The oldest first.
    Fifo,
    /// The newest first.
    Lifo,
    /// Any, but this device is slow.
    Slow(usize),
}

/// How likely each kind of turn is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weights {
    /// An open step ends.
    pub step: u64,
    /// A client begins a request.
    pub io: u64,
    /// A command is given.
    pub command: u64,
    /// A client comes or goes.
    pub session: u64,
    /// Time goes by.
    pub tick: u64,
}

/// What clients ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mix {
    /// Reads.
    pub read: u64,
    /// Writes.
    pub write: u64,
    /// Zeroes.
    pub zero: u64,
    /// Discards.
    pub discard: u64,
    /// Flushes.
    pub flush: u64,
}

/// The knobs of one seed.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The seed.
    pub seed: u64,
    /// Bytes in a logical block of every device.
    pub block: u32,
    /// Bytes in a chunk.
    pub chunk: u32,
    /// The production volumes' devices.
    pub productions: Vec<Device>,
    /// The save volume's device.
    pub save: Device,
    /// Bytes it may grow to.
    pub save_limit: u64,
    /// Slots that it begins with, about.
    pub slots: u64,
    /// Blocks of the log.
    pub log_blocks: u64,
    /// Metadata pages of the first extent.
    pub pages: u64,
    /// Index into [`WHEN_FULL`].
    pub when_full: usize,
    /// Bytes that a first write copies.
    pub copy_span: u32,
    /// Memory.
    pub limits: Limits,
    /// Failed flushes of the save volume lose data for good.
    pub treacherous: bool,
    /// Which steps fail.
    pub faults: Faults,
    /// Processors that clients run on.
    pub cpus: u32,
    /// Turns before the end.
    pub turns: u64,
    /// Requests under way at once.
    pub depth: usize,
    /// Requests that come at once.
    pub burst: u64,
    /// Chunks of one request at most.
    pub span: u64,
    /// Percent of the requests that go to a few chunks only.
    pub hot: u64,
    /// Percent of the requests that begin where the session's last one ended.
    pub stream: u64,
    /// Percent of the steps that take long.
    pub stuck: u64,
    /// Percent of the clients' reads of slots that take until little else is left to do.
    pub patient: u64,
    /// The order in which steps end.
    pub order: Order,
    /// The kinds of turns.
    pub weights: Weights,
    /// The kinds of requests.
    pub mix: Mix,
    /// In a thousand turns, how many are followed by crash images.
    pub images: u64,
    /// Percent of the crash images from which another story goes on.
    pub stories: u64,
    /// In ten thousand turns, how many are crashes from which the story goes on.
    pub crashes: u64,
    /// In ten thousand turns, how many are clean closes.
    pub closes: u64,
    /// Percent of the openings at which a production is away.
    pub away: u64,
    /// Percent of the commands that add or remove a production.
    pub moves: u64,
    /// Which planted bug; zero is none.
    pub mutant: u32,
    /// Tell also what happens in crash images.
    pub loud: bool,
}

impl Plan {
    /// The plan of this seed.
    #[must_use]
    pub(super) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let block = rng.pick(&[512, 512, 4096]);
        let chunk = rng.pick(&[4096, 4096, 4096, 8192, 16384, 65536]);
        let productions = Self::draw_productions(&mut rng, block, chunk);
        let log_blocks = rng.pick(&[16, 20, 32, 40, 64, 128]);
        let pages = rng.pick(&[80, 128, 64]);
        let slots = Self::draw_slots(&mut rng, chunk, &productions);
        let size = slots * u64::from(chunk) + (log_blocks + pages + 40) * 4096;
        let save = Self::draw_device(&mut rng, size, block);
        let copy_span = chunk << rng.below(4);
        let mut plan = Self {
            seed,
            block,
            chunk,
            productions,
            save,
            save_limit: save.size * rng.range(1, 3),
            slots,
            log_blocks,
            pages,
            when_full: rng.index(WHEN_FULL.len()),
            copy_span,
            limits: Self::draw_limits(&mut rng),
            treacherous: rng.chance(50),
            faults: Faults::default(),
            cpus: u32::try_from(rng.range(1, 4)).unwrap_or(1),
            turns: rng.pick(&[150, 300, 300, 600]),
            depth: usize::try_from(rng.pick(&[1, 2, 4, 8, 16, 64, 200])).unwrap_or(1),
            burst: rng.pick(&[1, 1, 4, 50]),
            span: rng.pick(&[1, 2, 4, 20]),
            hot: rng.pick(&[0, 50, 90]),
            stream: rng.pick(&[0, 0, 50]),
            stuck: rng.pick(&[0, 0, 3, 15]),
            patient: rng.pick(&[0, 0, 10]),
            order: Order::Random,
            weights: Self::draw_weights(&mut rng),
            mix: Self::draw_mix(&mut rng),
            images: rng.pick(&[0, 20, 60, 200, 200]),
            stories: 15,
            crashes: rng.pick(&[0, 20, 60, 300]),
            closes: rng.pick(&[0, 10, 30]),
            away: 0,
            moves: 0,
            mutant: 0,
            loud: false,
        };
        plan.order = match rng.below(6) {
            0 => Order::Fifo,
            1 => Order::Lifo,
            2 => Order::Slow(rng.index(plan.productions.len() + 1)),
            _ => Order::Random,
        };
        match rng.below(24) {
            // A long story.
            0 => (plan.turns, plan.images, plan.crashes) = (4000, 4, 2),
            // A crash at every step of a short one.
            1 | 2 => (plan.turns, plan.images) = (100, 1000),
            3 | 4 => plan.reuse_soon(&mut rng),
            5 | 6 => plan.crash_again(),
            7 | 8 => plan.streams(&mut rng),
            _ => {}
        }
        if rng.chance(25) {
            let sizes: Vec<u64> = plan.devices().map(|d| d.size / u64::from(block)).collect();
            plan.faults = Faults::draw(&mut rng, &sizes, plan.turns);
        }
        plan.go_away(&mut Rng::new(!seed ^ ASIDE));
        plan
    }

    /// All devices, the save volume first.
    pub(super) fn devices(&self) -> impl Iterator<Item = Device> + '_ {
        std::iter::once(self.save).chain(self.productions.iter().copied())
    }

    /// In some seeds productions are away now and then.
    fn go_away(&mut self, aside: &mut Rng) {
        if aside.chance(20) {
            self.away = aside.pick(&[20, 50, 80]);
            self.closes = self.closes.max(aside.pick(&[50, 100, 200]));
        }
        // In some with several they are taken out of the pool, and in again.
        if self.productions.len() > 1 && aside.chance(50) {
            self.moves = aside.pick(&[10, 30, 60]);
        }
    }

    /// Few slots, freed often and soon taken again, and reads of them that take long.
    fn reuse_soon(&mut self, rng: &mut Rng) {
        let slots = self.save.size - self.slots * u64::from(self.chunk);
        self.slots = rng.range(24, 40);
        self.save.size = slots + self.slots * u64::from(self.chunk);
        self.save_limit = self.save.size;
        (self.turns, self.images, self.crashes, self.closes) = (1200, 5, 5, 5);
        (self.patient, self.depth, self.burst, self.span, self.hot) = (60, 16, 4, 2, 90);
        self.limits.requests = 64;
        self.mix = Mix { read: 40, write: 40, zero: 5, discard: 15, flush: 10 };
        self.weights.command = 5;
    }

    /// Commands that take several blocks of the log, and many stories after a crash: where blocks
    /// were lost and later ones kept, what is logged then ends where those begin.
    fn crash_again(&mut self) {
        (self.turns, self.images, self.stories) = (200, 60, 50);
        (self.depth, self.burst) = (4, 1);
        self.weights = Weights { step: 40, io: 8, command: 25, session: 2, tick: 2 };
    }

    /// Long volumes, written from one end to the other, and room to copy ahead.
    fn streams(&mut self, rng: &mut Rng) {
        (self.block, self.chunk) = (4096, 4096);
        let chunks = rng.pick(&[300, 700]);
        self.productions = vec![Self::draw_device(rng, chunks * 4096, 4096)];
        self.slots = chunks * 3;
        let size = self.slots * 4096 + (self.log_blocks + self.pages + 40) * 4096;
        self.save = Self::draw_device(rng, size, 4096);
        self.save_limit = size;
        self.limits = Limits {
            cache_pages: 64,
            delta_records: 4096,
            requests: 64,
            copy_units: rng.pick(&[300, 512]),
        };
        self.copy_span = rng.pick(&[4096, 1 << 19, 1 << 20]);
        (self.stream, self.span, self.hot, self.depth) = (95, 4, 0, 4);
        (self.images, self.crashes) = (10, 40);
        self.mix = Mix { read: 10, write: 90, zero: 5, discard: 5, flush: 4 };
    }

    fn draw_device(rng: &mut Rng, size: u64, block: u32) -> Device {
        let volatile = rng.chance(80);
        Device { size, block, volatile, fua: rng.chance(50) }
    }

    fn draw_productions(rng: &mut Rng, block: u32, chunk: u32) -> Vec<Device> {
        let count = rng.pick(&[1, 1, 1, 2, 3]);
        (0..count)
            .map(|_| {
                let most = MOST_BLOCKS * u64::from(block) / u64::from(chunk);
                let chunks = rng.pick(&[5, 24, 64, 70, 130, 700, 2000]).min(most.max(130));
                // The last chunk may be short.
                let cut = u64::from(block) * rng.pick(&[0, 0, 1, 3]);
                let size = chunks * u64::from(chunk) - cut.min(u64::from(chunk - block));
                Self::draw_device(rng, size, block)
            })
            .collect()
    }

    fn draw_slots(rng: &mut Rng, chunk: u32, productions: &[Device]) -> u64 {
        let all: u64 = productions.iter().map(|d| d.size.div_ceil(u64::from(chunk))).sum();
        rng.pick(&[20, 40, 100, all * 2, all * 6]).max(20)
    }

    fn draw_limits(rng: &mut Rng) -> Limits {
        Limits {
            cache_pages: rng.pick(&[4, 4, 8, 64]),
            delta_records: rng.pick(&[2048, 2048, 4096]),
            requests: rng.pick(&[4, 8, 64, 256]),
            copy_units: rng.pick(&[128, 128, 256]),
        }
    }

    fn draw_weights(rng: &mut Rng) -> Weights {
        Weights {
            step: rng.pick(&[40, 60, 90]),
            io: rng.pick(&[15, 30, 50]),
            command: rng.pick(&[2, 5, 12]),
            session: 2,
            tick: rng.pick(&[2, 6]),
        }
    }

    fn draw_mix(rng: &mut Rng) -> Mix {
        Mix {
            read: rng.pick(&[10, 30]),
            write: rng.pick(&[40, 70]),
            zero: rng.pick(&[0, 5, 15]),
            discard: rng.pick(&[0, 5, 15]),
            flush: rng.pick(&[1, 6, 15]),
        }
    }
}
