//! Numbers as noise has them, from a seed.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A source of noise; the same seed gives the same noise.
pub struct Noise(SmallRng);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// 0 to 1, 1 excluded.
    pub fn uniform(&mut self) -> f64 {
        self.0.random()
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// A whole number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    /// Standard normal (Box and Muller's method).
    pub fn normal(&mut self) -> f64 {
        let (a, b) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// Log-normal around the median 1; `spread` is that of the logarithm.
    pub fn lognormal(&mut self, spread: f64) -> f64 {
        (spread * self.normal()).exp()
    }

    /// How many of independent events with this mean.
    pub fn poisson(&mut self, mean: f64) -> usize {
        if mean > 50.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as usize;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.uniform(), 0);
        while product > limit {
            product *= self.uniform();
            count += 1;
        }
        count
    }
}
