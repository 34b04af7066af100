//! How surprising a deviation is among all earlier ones of its kind. An empirical distribution with a
//! fitted tail makes sigmas mean the same whatever the noise is like.
//!
//! Beyond a high quantile the excesses follow a generalised Pareto distribution (Pickands 1975); its
//! shape and scale come from probability-weighted moments (Hosking and Wallis, *Parameter and Quantile
//! Estimation for the Generalized Pareto Distribution*, 1987). Few excesses say little of the shape, so
//! it starts from that of a heavy tail and is taken a standard error heavier than it looks.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::rarity::{Rarity, sigma_of};

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
            return Rarity::of(f64::from(fit.share))
                .beyond(excess, shape)
                .sigma();
        }
        let bin = bin_of(deviation);
        let above = self.above(bin + 1);
        let (low, high) = (edge(bin), edge(bin + 1));
        let part = ((deviation - low) / (high - low)).clamp(0.0, 1.0);
        let here = f64::from(self.bins.get(bin).copied().unwrap_or(0.0));
        let mass = f64::from(above) + (1.0 - part) * here;
        sigma_of(fit.probability(mass / total))
    }

    /// The deviation that is so rare: the inverse of [`Calibration::sigma`].
    pub(super) fn deviation(&self, rarity: Rarity) -> f64 {
        let fit = &self.fit;
        let tail = Rarity::of(f64::from(fit.share));
        if usize::from(fit.first) < BINS && rarity > tail {
            let excess = rarity.excess(tail, f64::from(fit.shape));
            return (f64::from(fit.from) + f64::from(fit.scale) * excess).min(LARGEST);
        }
        let p = rarity.probability();
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
        // Eight sums at a time, which the compiler makes two instructions of that need not wait for each other.
        let tail = self.bins.get(first..).unwrap_or_default();
        let (chunks, rest) = tail.as_chunks::<8>();
        let mut sums = [0.0f32; 8];
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
        for (centre, weight) in CENTRES.iter().zip(&self.bins).skip(first).rev() {
            let weight = f64::from(*weight);
            let excess = centre - from;
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
        self.fit.share = self.fit.probability(mass / total) as f32;
    }
}

impl Fit {
    /// How likely it is that the next deviation is among a `share` of those seen: as one more sample than
    /// was seen is still to come, which may be a half of an observation never made.
    fn probability(&self, share: f64) -> f64 {
        let count = f64::from(self.count);
        (share * count + 0.5) / (count + 1.0)
    }
}

fn bin_of(deviation: f64) -> usize {
    if deviation <= LOWEST_OCTAVE.exp2() {
        return 0;
    }
    // The octave is the number's exponent; where within it decides its mantissa. A logarithm says the same in
    // four times the time.
    let bits = deviation.to_bits();
    let octave = (bits >> 52) as i64 - 1023 - LOWEST_OCTAVE as i64;
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1.0_f64.to_bits());
    let within = WITHIN_OCTAVE.iter().filter(|at| mantissa >= **at).count();
    (octave as usize * BINS_PER_OCTAVE as usize + within).min(BINS - 1)
}

/// Where the bins of an octave begin but the first: 2^(1/5) to 2^(4/5).
const WITHIN_OCTAVE: [f64; 4] = [
    1.148_698_354_997_035,
    1.319_507_910_772_894_2,
    1.515_716_566_510_398,
    1.741_101_126_592_248_3,
];

/// Where each bin begins, and the end of the last.
static EDGES: LazyLock<[f64; BINS + 1]> = LazyLock::new(|| {
    std::array::from_fn(|bin| match bin {
        0 => 0.0,
        _ => (bin as f64 / BINS_PER_OCTAVE + LOWEST_OCTAVE).exp2(),
    })
});

/// The middle of each bin, as its deviations lie.
static CENTRES: LazyLock<[f64; BINS]> = LazyLock::new(|| {
    std::array::from_fn(|bin| ((bin as f64 + 0.5) / BINS_PER_OCTAVE + LOWEST_OCTAVE).exp2())
});

fn edge(bin: usize) -> f64 {
    EDGES.get(bin).copied().unwrap_or(LARGEST)
}
