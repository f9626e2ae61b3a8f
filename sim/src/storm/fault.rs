// SPDX-License-Identifier: MIT

//! Which steps fail.

use super::rng::Rng;

/// What a step does to a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Touch {
    /// Reads.
    Read,
    /// Writes, zeroes or discards.
    Write,
    /// Flushes.
    Flush,
}

/// When a rule strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Once,
    Forever,
    Percent(u64),
}

/// Steps that fail.
#[derive(Clone, Debug)]
struct Rule {
    dev: usize,
    touch: Option<Touch>,
    blocks: (u64, u64),
    from_step: u64,
    mode: Mode,
    spent: bool,
}

/// The rules of one seed.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    rules: Vec<Rule>,
    steps: u64,
    /// Steps failed so far.
    pub struck: u64,
}

impl Faults {
    /// Up to three rules over devices of these sizes in blocks, within about `steps` steps.
    pub(super) fn draw(rng: &mut Rng, sizes: &[u64], steps: u64) -> Self {
        let rules = (0..rng.range(1, 3)).map(|_| Rule::draw(rng, sizes, steps)).collect();
        Self { rules, steps: 0, struck: 0 }
    }

    /// Whether the disks can fail in this seed at all.
    #[must_use]
    pub(super) fn any(&self) -> bool {
        !self.rules.is_empty()
    }

    /// The disks are sound from now on.
    pub(super) fn heal(&mut self) {
        self.rules.clear();
    }

    /// Whether the step that ends now fails.
    pub(super) fn strikes(
        &mut self,
        rng: &mut Rng,
        dev: usize,
        touch: Touch,
        at: u64,
        blocks: u64,
    ) -> bool {
        self.steps += 1;
        let mut strikes = false;
        for rule in &mut self.rules {
            let here = rule.dev == dev
                && rule.touch.is_none_or(|t| t == touch)
                && (touch == Touch::Flush || (at < rule.blocks.1 && at + blocks > rule.blocks.0));
            if !here || rule.spent || self.steps < rule.from_step {
                continue;
            }
            strikes |= match rule.mode {
                Mode::Once => {
                    rule.spent = true;
                    true
                }
                Mode::Forever => true,
                Mode::Percent(percent) => rng.chance(percent),
            };
        }
        self.struck += u64::from(strikes);
        strikes
    }
}

impl Rule {
    fn draw(rng: &mut Rng, sizes: &[u64], steps: u64) -> Self {
        let dev = if rng.chance(40) { 0 } else { rng.index(sizes.len()) };
        let first = rng.below(sizes[dev]);
        let whole = rng.chance(60);
        Self {
            dev,
            touch: rng.pick(&[
                None,
                Some(Touch::Read),
                Some(Touch::Read),
                Some(Touch::Write),
                Some(Touch::Write),
                Some(Touch::Flush),
            ]),
            blocks: if whole { (0, u64::MAX) } else { (first, first + rng.range(1, 64)) },
            from_step: rng.below(steps / 2),
            mode: match rng.below(4) {
                0 | 1 => Mode::Once,
                2 => Mode::Percent(rng.range(1, 20)),
                _ => Mode::Forever,
            },
            spent: false,
        }
    }
}
