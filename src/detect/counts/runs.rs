//! Slow samples one after the other.

use serde::{Deserialize, Serialize};

use super::USUAL;
use super::tails::{Tally, sigma_of};

/// Slow is what only this share of a signal's samples is. Neither rare, so that it is soon known how often
/// it happens by itself, nor common, so that a short run of it says something.
const SLOW: f64 = 0.1;
/// So many samples begin the limit.
const FIRST: f32 = 10.0;
/// No longer run says more.
const LONGEST_RUN: u8 = 32;

/// How long samples stay above a limit that a tenth of them is above. What they measure does not matter,
/// nor how far above they are, and their dependence on each other is counted, too: a sample is slow with
/// one probability, and one after a slow one with another.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Runs {
    /// Logarithm of the limit: the quantile, followed in steps (Robbins and Monro, *A Stochastic
    /// Approximation Method*, 1951).
    pub(super) limit: f32,
    samples: f32,
    slow: Tally,
    slow_again: Tally,
    /// Slow ones up to the newest sample, and whether one of them deviated.
    length: u8,
    deviated: bool,
}

impl Runs {
    /// Whether the newest sample was slow.
    pub(super) fn goes_on(&self) -> bool {
        self.length > 0
    }

    pub(super) fn is_slow(&self, value: f64) -> bool {
        self.samples >= FIRST && value > 0.0 && value.ln() as f32 > self.limit
    }

    /// Sigma of a run as long as this, with `value` at its end.
    pub(super) fn sigma(&self, value: f64) -> f64 {
        if !self.is_slow(value) {
            return 0.0;
        }
        let one = |tally: Tally| (tally.hits() + 0.5, tally.trials() + 1.0);
        let (slow, all) = one(self.slow);
        let (again, after) = one(self.slow_again);
        // The longer it lasts, the more it speaks for lasting ones by itself: Pólya's urn.
        let mut tail = slow / all;
        let mut n = 0.0;
        while n < f64::from(self.length) {
            tail *= (again + n) / (after + n);
            n += 1.0;
        }
        sigma_of(tail)
    }

    /// A run is learned when it is over, and only if it was no deviation.
    pub(super) fn learn(&mut self, value: f64, deviates: bool) {
        if self.samples < FIRST {
            // The largest of ten begins near where it belongs.
            if value > 0.0 {
                let log = value.ln() as f32;
                self.limit = if self.samples > 0.0 {
                    self.limit.max(log)
                } else {
                    log
                };
                self.samples += 1.0;
            }
            return;
        }
        if self.is_slow(value) {
            self.length = self.length.saturating_add(1).min(LONGEST_RUN);
            self.deviated |= deviates;
            if self.length >= LONGEST_RUN && !deviates {
                // To the detector it is usual by now.
                *self = Self::default();
            }
            return;
        }
        if self.length > 0 && !self.deviated {
            let length = f64::from(self.length);
            self.slow.add(length, length);
            self.slow_again.add(length - 1.0, length);
            self.step(length * (1.0 - SLOW));
        }
        (self.length, self.deviated) = (0, false);
        self.samples = (self.samples + 1.0).min(USUAL as f32);
        self.slow.add(0.0, 1.0);
        self.step(-SLOW);
    }

    /// Latencies mostly vary by a factor of two or so, for which the method's theory has this step.
    fn step(&mut self, by: f64) {
        let limit = f64::from(self.limit) + by * 2.0 / f64::from(self.samples);
        self.limit = limit as f32;
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = f32> {
        let tallies = [self.slow, self.slow_again];
        let of_tallies = tallies.into_iter().flat_map(Tally::numbers);
        of_tallies.chain([self.samples])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sigma of the eighth slow one in a row, where `slow` ones were usual.
    fn after(slow: impl Fn(u32) -> bool) -> f64 {
        let mut runs = Runs::default();
        for n in 0..2000 {
            // Some noise, so that there is something to be slower than.
            let usual = 0.05 + 0.001 * f64::from(n * 7 % 10);
            runs.learn(if slow(n) { 0.5 } else { usual }, false);
        }
        for _ in 0..7 {
            runs.learn(0.5, false);
        }
        runs.sigma(0.5)
    }

    #[test]
    fn a_run_is_surprising_where_slow_ones_come_alone_and_not_where_they_come_in_runs() {
        let alone = after(|n| n % 33 == 5);
        assert!(alone > 5.0, "{alone}");
        let together = after(|n| n % 200 < 12);
        assert!(together < 3.0, "{together}");
    }

    #[test]
    fn what_lasts_and_is_no_deviation_is_soon_not_slow() {
        let mut runs = Runs::default();
        (0..500).for_each(|n| runs.learn(0.05 + 0.001 * f64::from(n % 10), false));
        (0..60).for_each(|n| runs.learn(0.5 + 0.01 * f64::from(n % 10), false));
        assert!(runs.sigma(0.5) < 3.0);
    }
}
