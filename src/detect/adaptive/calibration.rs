//! How surprising a deviation is among all earlier ones of its kind. An empirical distribution with a
//! fitted tail makes sigmas mean the same whatever the noise is like.
//!
//! Beyond a high quantile the excesses follow a generalised Pareto distribution (Pickands 1975); its
//! shape and scale come from probability-weighted moments (Hosking and Wallis, *Parameter and Quantile
//! Estimation for the Generalized Pareto Distribution*, 1987). Few excesses say little of the shape, so
//! it starts from that of a heavy tail and is taken a standard error heavier than it looks.

use std::f64::consts::SQRT_2;

use serde::{Deserialize, Serialize};
use statrs::function::erf::{erfc, erfc_inv};

/// Logarithmic bins, five to an octave, from 2⁻² to 2⁸. The first also holds what is smaller, the last
/// what is larger.
const BINS: usize = 50;
const BINS_PER_OCTAVE: f64 = 5.0;
const LOWEST_OCTAVE: f64 = -2.0;
/// Larger deviations than this are as surprising.
pub(super) const LARGEST: f64 = 200.0;
/// After so many samples an older one weighs half.
const HALF_LIFE: f64 = 5000.0;
/// The tail is fitted to this share of the deviations, and to more where that were too few.
const TAIL_SHARE: f64 = 0.02;
const MOST_TAIL_SHARE: f64 = 0.1;
const FEWEST_IN_TAIL: f64 = 15.0;
/// Shape of the tail before anything is known of it (0 falls exponentially, 1/3 like Student's t with
/// three degrees of freedom), and how many excesses that is worth.
const SHAPE: f64 = 0.35;
const SHAPE_WEIGHT: f64 = 30.0;
const HEAVIEST_SHAPE: f64 = 0.9;
/// The tail is fitted anew after so many samples.
const REFIT: u32 = 16;

/// Deviations seen, the older the less they weigh; 250 bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Calibration {
    /// In units of `unit`, which grows with each sample where everything else would shrink.
    bins: Vec<f32>,
    unit: f32,
    seen: u32,
    /// So many deviations in a row say about as much as one that stands alone.
    alike: u8,
    fit: Fit,
}

/// The fitted tail, and what follows from it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Fit {
    /// Sum of all bins.
    total: f32,
    /// How many samples' weight they hold.
    count: f32,
    /// First bin of the tail; `BINS` where there is none.
    first: u8,
    /// Where the tail begins.
    from: f32,
    /// Probability of the tail.
    share: f32,
    scale: f32,
    shape: f32,
}

impl Calibration {
    /// `alike`: so many deviations in a row say about as much as one that stands alone; more than 1
    /// for means over several samples.
    pub(super) fn new(alike: u8) -> Self {
        Self {
            alike,
            bins: vec![0.0; BINS],
            unit: 1.0,
            seen: 0,
            fit: Fit::default(),
        }
    }

    /// How many deviations it has learned.
    pub(super) fn seen(&self) -> u32 {
        self.seen
    }

    /// Whether what was read back is what [`Calibration::new`] makes.
    pub(super) fn is_sound(&self) -> bool {
        let fit = &self.fit;
        let numbers = [
            fit.total, fit.count, fit.from, fit.share, fit.scale, fit.shape,
        ];
        let whole = self.bins.len() == BINS && usize::from(fit.first) <= BINS;
        let of_bins = self.bins.iter().chain([&self.unit]).chain(&numbers);
        whole && self.unit > 0.0 && of_bins.clone().all(|n| n.is_finite() && *n >= 0.0)
    }

    /// Memory beside itself.
    pub(super) fn heap(&self) -> usize {
        self.bins.capacity() * size_of::<f32>()
    }

    /// The sigma of a normal distribution whose two tails beyond it are as likely as a deviation of at
    /// least this size. 0 to 37.
    pub(super) fn sigma(&self, deviation: f64) -> f64 {
        let fit = &self.fit;
        let total = f64::from(fit.total);
        if total <= 0.0 {
            return 0.0;
        }
        let from = f64::from(fit.from);
        if usize::from(fit.first) < BINS && deviation > from {
            let (scale, shape) = (f64::from(fit.scale), f64::from(fit.shape));
            let excess = (deviation - from) / scale;
            return sigma_of(f64::from(fit.share) * beyond(excess, shape));
        }
        let bin = bin_of(deviation);
        let above = self.above(bin + 1);
        let (low, high) = (edge(bin), edge(bin + 1));
        let part = ((deviation - low) / (high - low)).clamp(0.0, 1.0);
        let here = f64::from(self.bins.get(bin).copied().unwrap_or(0.0));
        let mass = f64::from(above) + (1.0 - part) * here;
        sigma_of(mass / total * fit.known() + fit.unknown())
    }

    /// The deviation that is as surprising as `sigma`: the inverse of [`Calibration::sigma`].
    pub(super) fn deviation(&self, sigma: f64) -> f64 {
        let fit = &self.fit;
        let p = erfc(sigma / SQRT_2).max(1e-300);
        let share = f64::from(fit.share);
        if usize::from(fit.first) < BINS && p < share {
            let (scale, shape) = (f64::from(fit.scale), f64::from(fit.shape));
            let excess = if shape < 1e-4 {
                (share / p).ln()
            } else {
                ((share / p).powf(shape) - 1.0) / shape
            };
            return (f64::from(fit.from) + scale * excess).min(LARGEST);
        }
        let mut mass = 0.0;
        for (bin, weight) in self.bins.iter().enumerate().rev() {
            mass += f64::from(*weight);
            if mass >= p * f64::from(fit.total) {
                return edge(bin + 1);
            }
        }
        LARGEST
    }

    pub(super) fn learn(&mut self, deviation: f64) {
        self.seen = self.seen.saturating_add(1);
        self.unit *= (1.0 / HALF_LIFE).exp2() as f32;
        if let Some(bin) = self.bins.get_mut(bin_of(deviation)) {
            *bin += self.unit;
        }
        if self.unit > 1e6 {
            for bin in &mut self.bins {
                *bin /= self.unit;
            }
            self.unit = 1.0;
        }
        if self.seen <= 2 * REFIT || self.seen.is_multiple_of(REFIT) {
            self.refit();
        }
    }

    /// Weight of the bins from `first` on.
    fn above(&self, first: usize) -> f32 {
        // Four sums at a time, which the compiler makes one instruction of.
        let tail = self.bins.get(first..).unwrap_or_default();
        let (chunks, rest) = tail.as_chunks::<4>();
        let mut sums = [0.0f32; 4];
        for chunk in chunks {
            for (sum, weight) in sums.iter_mut().zip(chunk) {
                *sum += weight;
            }
        }
        sums.iter().chain(rest).sum()
    }

    fn refit(&mut self) {
        let total = f64::from(self.above(0));
        if total <= 0.0 {
            return;
        }
        let unit = f64::from(self.unit);
        let count = total / unit;
        let alike = f64::from(self.alike.max(1));
        let share = (FEWEST_IN_TAIL * alike / count).clamp(TAIL_SHARE, MOST_TAIL_SHARE);
        let (mut first, mut mass) = (BINS, 0.0);
        for (bin, weight) in self.bins.iter().enumerate().rev() {
            let more = mass + f64::from(*weight);
            if more > share * total {
                break;
            }
            (first, mass) = (bin, more);
        }
        let from = edge(first.min(BINS - 1));
        let (mut sum, mut weighted, mut above) = (0.0, 0.0, 0.0);
        for (bin, weight) in self.bins.iter().enumerate().skip(first).rev() {
            let weight = f64::from(*weight);
            let excess = centre(bin) - from;
            sum += weight * excess;
            // Each excess times the share of excesses that are larger.
            weighted += weight * excess * (above + 0.5 * weight);
            above += weight;
        }
        let excesses = above / unit / alike;
        // The mean excess of a normal tail there, before there are any.
        let (mut shape, mut mean) = (SHAPE, 0.15 * from);
        if above > 0.0 {
            let (b0, b1) = (sum / above, weighted / (above * above));
            let fitted = if b0 > 2.0 * b1 {
                (2.0 - b0 / (b0 - 2.0 * b1)).clamp(-0.5, HEAVIEST_SHAPE)
            } else {
                HEAVIEST_SHAPE
            };
            shape = (excesses * fitted + SHAPE_WEIGHT * SHAPE) / (excesses + SHAPE_WEIGHT);
            mean = (excesses * b0 + mean) / (excesses + 1.0);
        }
        let error = (1.0 + shape.max(0.0)) / (excesses + SHAPE_WEIGHT).sqrt();
        let shape = (shape + error).clamp(0.0, HEAVIEST_SHAPE);
        self.fit = Fit {
            total: total as f32,
            count: count as f32,
            first: first as u8,
            from: from as f32,
            share: 0.0,
            scale: (mean * (1.0 - shape)).max(0.05 * from).max(1e-6) as f32,
            shape: shape as f32,
        };
        self.fit.share = (mass / total * self.fit.known() + self.fit.unknown()) as f32;
    }
}

impl Fit {
    /// What was seen counts as this, since one more sample than was seen is still to come …
    fn known(&self) -> f64 {
        let count = f64::from(self.count);
        count / (count + 1.0)
    }

    /// … and this is for what was never seen: half an observation.
    fn unknown(&self) -> f64 {
        0.5 / (f64::from(self.count) + 1.0)
    }
}

/// Probability that an excess, in scales, is larger.
fn beyond(excess: f64, shape: f64) -> f64 {
    if shape < 1e-4 {
        (-excess).exp()
    } else {
        (1.0 + shape * excess).powf(-1.0 / shape)
    }
}

fn bin_of(deviation: f64) -> usize {
    if deviation <= LOWEST_OCTAVE.exp2() {
        return 0;
    }
    (((deviation.log2() - LOWEST_OCTAVE) * BINS_PER_OCTAVE) as usize).min(BINS - 1)
}

/// Where a bin begins.
fn edge(bin: usize) -> f64 {
    if bin == 0 {
        0.0
    } else {
        (bin as f64 / BINS_PER_OCTAVE + LOWEST_OCTAVE).exp2()
    }
}

fn centre(bin: usize) -> f64 {
    ((bin as f64 + 0.5) / BINS_PER_OCTAVE + LOWEST_OCTAVE).exp2()
}

/// The sigma beyond which both tails of a normal distribution together have the probability `p`.
fn sigma_of(p: f64) -> f64 {
    if p >= 1.0 {
        0.0
    } else {
        (SQRT_2 * erfc_inv(p.max(1e-300))).clamp(0.0, 37.0)
    }
}
