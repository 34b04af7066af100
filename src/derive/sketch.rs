//! Percentiles of many observations in little memory.

use std::fmt;

use serde::{Deserialize, Serialize};
use sketches_ddsketch::{Config, DDSketch};

/// Relative error of a bucket's value. Half of what is promised, so that interpolating between two
/// neighbours stays within the promise, whichever way a reader computes exact percentiles.
const ACCURACY: f64 = 0.005;
/// Magnitudes below count as zero. Durations are whole nanoseconds, in seconds 1e-9.
const SMALLEST: f64 = 1e-10;
/// Magnitudes above count as this.
const LARGEST: f64 = 1e24;
/// Enough for everything between the two (34 decades need 7,829), so that the sketch never has to
/// collapse buckets, whose result would depend on the order of arrival. 64 KiB at the very most; a
/// usual latency distribution takes 2 KiB.
const MAX_BUCKETS: u32 = 8192;
/// So many observations are kept as they are. Most series of a quiet service never need more in a
/// tick, and take a quarter of the smallest sketch.
const EXACT: usize = 32;

/// Observations of which percentiles are asked: exact up to 32 of them, then within 0.5 % relative
/// error (DDSketch, Masson et al. 2019). Merging is exact: the result depends only on what was
/// observed, not on the order or on how it was split.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Sketch {
    /// All observations, as long as `many` is not there.
    few: Vec<f64>,
    many: Option<Box<DDSketch>>,
}

impl Sketch {
    /// Without observations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one observation; what is not finite is ignored. Some 20 ns.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.many.is_none() && self.few.len() < EXACT {
            self.few.push(value);
        } else {
            self.many().add(bounded(value));
        }
    }

    /// Adds all observations of `other`.
    pub fn merge(&mut self, other: &Self) {
        let Some(many) = &other.many else {
            for &value in &other.few {
                self.add(value);
            }
            return;
        };
        if self.many().merge(many).is_err() {
            // Only one restored from a release with another accuracy: the newer observations stay.
            self.many = Some(many.clone());
        }
    }

    /// How many observations there are.
    pub fn count(&self) -> u64 {
        match &self.many {
            Some(many) => many.count() as u64,
            None => self.few.len() as u64,
        }
    }

    /// The `q`-quantile (0.0 to 1.0), linear between the two observations next to rank `q·(n-1)`, as
    /// NumPy, R and Prometheus compute it. `None` without observations.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 || q.is_nan() {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * (count - 1) as f64;
        let (lower, upper) = match &self.many {
            Some(many) => (
                at_rank(many, rank.floor(), count)?,
                at_rank(many, rank.ceil(), count)?,
            ),
            None => {
                let mut sorted = self.few.clone();
                sorted.sort_unstable_by(f64::total_cmp);
                let at = |rank: f64| sorted.get(rank as usize).copied();
                (at(rank.floor())?, at(rank.ceil())?)
            }
        };
        let part = rank.fract();
        Some(lower * (1.0 - part) + upper * part)
    }

    /// About how much memory it takes besides the struct itself.
    pub fn bytes(&self) -> usize {
        let many = self.many.as_ref().map_or(0, |many| {
            size_of::<DDSketch>() + size_of::<u64>() * many.length()
        });
        size_of::<f64>() * self.few.capacity() + many
    }

    fn many(&mut self) -> &mut DDSketch {
        let few = &mut self.few;
        self.many.get_or_insert_with(|| {
            let mut sketch = DDSketch::new(Config::new(ACCURACY, MAX_BUCKETS, SMALLEST));
            for value in std::mem::take(few) {
                sketch.add(bounded(value));
            }
            Box::new(sketch)
        })
    }
}

/// The observation of a rank, counted from 0. The library takes a share of the ranks instead: the
/// middle of a rank's share is safe from rounding. It knows the first and the last exactly.
fn at_rank(sketch: &DDSketch, rank: f64, count: u64) -> Option<f64> {
    let share = if rank <= 0.0 {
        0.0
    } else {
        ((rank + 0.5) / (count - 1) as f64).min(1.0)
    };
    let value = sketch.quantile(share).ok().flatten()?;
    Some(value.max(sketch.min()?).min(sketch.max()?))
}

fn bounded(value: f64) -> f64 {
    value.clamp(-LARGEST, LARGEST)
}

impl fmt::Debug for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sketch")
            .field("count", &self.count())
            .field("p50", &self.quantile(0.5))
            .field("p99", &self.quantile(0.99))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_values_are_answered() {
        let mut sketch = Sketch::new();
        assert_eq!(sketch.quantile(0.5), None);
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            sketch.add(value);
        }
        assert_eq!(sketch.count(), 0);
        for value in [0.0, -0.0, 5e-324, 1e308, -1e308, f64::MAX, f64::MIN] {
            for _ in 0..9 {
                sketch.add(value);
            }
        }
        assert_eq!(sketch.count(), 63);
        for q in [-1.0, 0.0, 0.1, 0.5, 0.9, 1.0, 2.0, f64::INFINITY] {
            assert!(sketch.quantile(q).unwrap().is_finite());
        }
        assert_eq!(sketch.quantile(f64::NAN), None);
        assert_eq!(sketch.quantile(0.5), Some(0.0));
    }

    #[test]
    fn a_nanosecond_is_not_zero_and_memory_is_bounded() {
        let mut sketch = Sketch::new();
        for exponent in -90..100 {
            sketch.add(10f64.powf(f64::from(exponent) / 10.0));
        }
        assert!((sketch.quantile(0.0).unwrap() - 1e-9).abs() < 1e-11);
        for exponent in -320..=308 {
            sketch.add(10f64.powi(exponent));
            sketch.add(-(10f64.powi(exponent)));
        }
        assert!(sketch.bytes() <= 2 * 64 * 1024 + 1024, "{}", sketch.bytes());
    }
}
