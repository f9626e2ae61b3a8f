// SPDX-License-Identifier: MIT

//! Medians and the like.

/// A count as a real number; counts here are far below 2^53.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of I/Os and bytes, far below 2^53")]
pub fn real(n: u64) -> f64 {
    n as f64
}

/// The median; of an even number of values the mean of the two in the middle; 0 of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    let at = |n: usize| sorted.get(n).copied().unwrap_or(0.0);
    if sorted.len() % 2 == 1 {
        at(half)
    } else {
        f64::midpoint(at(half.wrapping_sub(1)), at(half))
    }
}

/// The rounds' ratios of `ours` to `theirs`.
#[must_use]
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).filter(|(_, &t)| t > 0.0).map(|(o, t)| o / t).collect()
}

/// The machine's load averages, as the kernel writes them.
#[must_use]
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next one.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, wanted) in
            [(&[][..], 0.0), (&[3.0], 3.0), (&[9.0, 1.0, 5.0], 5.0), (&[4.0, 1.0, 2.0, 8.0], 3.0)]
        {
            assert!((median(values) - wanted).abs() < 1e-9, "{values:?}");
        }
    }

    #[test]
    fn ratios_leave_out_what_was_not_measured() {
        assert_eq!(ratios(&[2.0, 3.0], &[4.0, 0.0]), [0.5]);
    }
}
