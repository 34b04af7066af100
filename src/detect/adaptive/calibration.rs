//! How surprising a deviation is among all earlier ones of its kind. An empirical distribution with a
//! fitted tail makes sigmas mean the same whatever the noise is like.
//!
//! Beyond a high quantile the excesses follow a generalised Pareto distribution (Pickands 1975); its
//! shape and scale come from probability-weighted moments (Hosking and Wallis, *Parameter and Quantile
//! Estimation for the Generalized Pareto Distribution*, 1987). Few excesses say little of the shape, so
//! it starts from that of a heavy tail and is taken a standard error heavier than it looks.
//!
//! Counts are whole numbers of 16 bits. A sample counts as 4 to 8 of them, the more the later it comes; then
//! all are halved, and it is 4 again: so the older a deviation, the less it weighs, and nothing has to be
//! multiplied at each sample.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::rarity::{Rarity, sigma_of};

/// Channels that are calibrated.
pub(super) const CHANNELS: usize = 4;
/// By channel: which row of bins it has. That of the season, which many signals do not have, is the last.
const ROWS: [usize; CHANNELS] = [0, 1, 3, 2];
/// By channel: so many deviations in a row say about as much as one that stands alone. The mean of the last
/// few hardly changes from one sample to the next.
const ALIKE: [f64; CHANNELS] = [1.0, 1.0, 1.0, 10.0];
/// Logarithmic bins up to 2⁸: five to an octave from 1 on, two below, where no tail begins, and one for all
/// that is smaller. The last also holds what is larger.
const BINS: usize = LOW.len() + 8 * BINS_PER_OCTAVE;
const BINS_PER_OCTAVE: usize = 5;
/// Where the bins below 1 end.
const LOW: [f64; 4] = [
    0.5 * std::f64::consts::FRAC_1_SQRT_2,
    0.5,
    std::f64::consts::FRAC_1_SQRT_2,
    1.0,
];
/// Larger deviations than this are as surprising.
pub(super) const LARGEST: f64 = 200.0;
/// After so many samples an older one weighs half.
const HALF_LIFE: u16 = 5000;
/// What a sample counts as just after all were halved.
const UNIT: u32 = 4;
/// The tail is fitted to this share of the deviations, and to more where that were too few.
const TAIL_SHARE: f64 = 0.02;
const MOST_TAIL_SHARE: f64 = 0.1;
const FEWEST_IN_TAIL: f64 = 15.0;
/// Shape of the tail before anything is known of it (0 falls exponentially, 1/3 like Student's t with
/// three degrees of freedom), and how many excesses that is worth.
const SHAPE: f64 = 0.35;
const SHAPE_WEIGHT: f64 = 30.0;
const HEAVIEST_SHAPE: f64 = 0.9;
/// The tail is fitted anew after so many samples, that of one channel after the other.
const REFIT: u16 = 16;
/// Of the first so many samples after each.
const YOUNG: u8 = 32;

/// What is known of the deviations of each channel beside their counts, which are a prefix of the words that
/// every method is given.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Calibrations {
    fits: [Fit; CHANNELS],
    /// Samples since the counts were halved.
    age: u16,
    /// The bins that have words: so many from this one on, in so many rows.
    first: u8,
    width: u8,
    rows: u8,
}

/// The fitted tail of a channel, and what follows from it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Fit {
    /// Sum of all counts.
    total: u32,
    scale: f32,
    /// The deviation that is as rare as the end of the band.
    reach: f32,
    /// The bits of how rare the tail is, and its shape, in parts of 4096 and of 65,536.
    tail: u16,
    shape: u16,
    /// First bin of the tail; `BINS` where there is none.
    first: u8,
    /// How many deviations were learned, up to 255.
    seen: u8,
}

impl Default for Fit {
    fn default() -> Self {
        Self {
            total: 0,
            scale: 1.0,
            reach: 0.0,
            tail: 0,
            shape: 0,
            first: BINS as u8,
            seen: 0,
        }
    }
}

impl Fit {
    fn tail(self) -> Rarity {
        Rarity::of_bits(f64::from(self.tail) / PART_OF_BIT)
    }

    fn shape(self) -> f64 {
        f64::from(self.shape) / PART_OF_SHAPE
    }
}

/// What a unit of [`Fit::tail`] and of [`Fit::shape`] is a part of.
const PART_OF_BIT: f64 = 4096.0;
const PART_OF_SHAPE: f64 = 65_536.0;

impl Calibrations {
    fn fit(&self, channel: usize) -> Fit {
        self.fits.get(channel).copied().unwrap_or_default()
    }

    /// Reads what the next sample will need.
    pub(super) fn glance(&self) -> u64 {
        let fits = self.fits.iter().map(|fit| u64::from(fit.total));
        fits.sum::<u64>() + u64::from(self.age)
    }

    /// How many deviations a channel has learned; 255 is as many or more.
    pub(super) fn seen(&self, channel: usize) -> u32 {
        u32::from(self.fit(channel).seen)
    }

    /// Half of the band's width, as a deviation.
    pub(super) fn reach(&self, channel: usize) -> f64 {
        f64::from(self.fit(channel).reach)
    }

    /// Words in use.
    pub(super) fn words(&self) -> usize {
        usize::from(self.rows) * usize::from(self.width)
    }

    /// Where the counts of a channel lie.
    fn row(&self, channel: usize) -> std::ops::Range<usize> {
        let row = ROWS.get(channel).copied().unwrap_or_default();
        if row >= usize::from(self.rows) {
            return 0..0;
        }
        let width = usize::from(self.width);
        row * width..(row + 1) * width
    }

    /// What a sample counts as now.
    fn unit(&self) -> f64 {
        f64::from(UNIT) * (1.0 + f64::from(self.age) / f64::from(HALF_LIFE))
    }

    /// The sigma of a normal distribution whose two tails beyond it are as likely as a deviation of at
    /// least this size. 0 to 37.
    pub(super) fn sigma(&self, channel: usize, deviation: f64, words: &[u16]) -> f64 {
        let fit = self.fit(channel);
        if fit.total == 0 {
            return 0.0;
        }
        let from = edge(usize::from(fit.first));
        if usize::from(fit.first) < BINS && deviation > from {
            let excess = (deviation - from) / f64::from(fit.scale);
            return fit.tail().beyond(excess, fit.shape()).sigma();
        }
        let bin = bin_of(deviation);
        let counts = words.get(self.row(channel)).unwrap_or_default();
        let (mut above, mut here) = (fit.total, 0);
        if let Some(at) = bin.checked_sub(usize::from(self.first)) {
            here = counts.get(at).copied().unwrap_or_default().into();
            above = sum(counts.get(at + 1..).unwrap_or_default());
        }
        let (low, high) = (edge(bin), edge(bin + 1));
        let part = ((deviation - low) / (high - low)).clamp(0.0, 1.0);
        let mass = f64::from(above) + (1.0 - part) * f64::from(here);
        sigma_of(self.probability(mass, fit.total))
    }

    /// How likely it is that the next deviation is among those seen that weigh `mass` of `total`: as one more
    /// sample than was seen is still to come, which may be a half of an observation never made.
    fn probability(&self, mass: f64, total: u32) -> f64 {
        let unit = self.unit();
        (mass + 0.5 * unit) / (f64::from(total) + unit)
    }

    /// Counts a deviation.
    pub(super) fn learn(&mut self, channel: usize, deviation: f64, words: &mut Vec<u16>) {
        let bin = bin_of(deviation);
        self.make_room(channel, bin, words);
        let at = self.row(channel).start + bin.saturating_sub(usize::from(self.first));
        // Rounded up or down so that it comes out even: multiples of the golden ratio are nowhere dense.
        let age = u32::from(self.age);
        let exact = UNIT * (u32::from(HALF_LIFE) + age) * 4096 / u32::from(HALF_LIFE);
        let one = (exact + (age * 2531) % 4096) / 4096;
        let (Some(count), Some(fit)) = (words.get_mut(at), self.fits.get_mut(channel)) else {
            return;
        };
        // A full bin has nearly all of the samples.
        let more = count.saturating_add(one as u16);
        fit.total += u32::from(more - *count);
        *count = more;
        fit.seen = fit.seen.saturating_add(1);
    }

    /// Ends a sample of which at least one deviation was learned; `band` is as rare as where the band ends.
    pub(super) fn settle(&mut self, band: Rarity, words: &mut Vec<u16>) {
        self.age += 1;
        if self.age >= HALF_LIFE {
            self.age = 0;
            self.halve(words);
            (0..CHANNELS).for_each(|channel| self.refit(channel, band, words));
            return;
        }
        let turn = usize::from(self.age % REFIT);
        for channel in 0..CHANNELS {
            let young = (1..=YOUNG).contains(&self.fit(channel).seen);
            if young || turn == channel * usize::from(REFIT) / CHANNELS {
                self.refit(channel, band, words);
            }
        }
    }

    /// Forgets what a channel has learned.
    pub(super) fn forget(&mut self, channel: usize, words: &mut [u16]) {
        if let Some(fit) = self.fits.get_mut(channel) {
            *fit = Fit::default();
        }
        if let Some(counts) = words.get_mut(self.row(channel)) {
            counts.fill(0);
        }
    }

    /// Gives `bin` of a channel a word.
    fn make_room(&mut self, channel: usize, bin: usize, words: &mut Vec<u16>) {
        let row = ROWS.get(channel).copied().unwrap_or_default();
        let rows = if row < 3 { 3 } else { CHANNELS }.max(usize::from(self.rows));
        let (first, width) = (usize::from(self.first), usize::from(self.width));
        let (from, to) = match width {
            0 => (bin, bin + 1),
            width => (first.min(bin), (first + width).max(bin + 1)),
        };
        if (rows, from, to) != (usize::from(self.rows), first, first + width) {
            self.reshape(rows, from, to, words);
        }
    }

    /// Gives the bins from `from` to `to` words, and no others.
    fn reshape(&mut self, rows: usize, from: usize, to: usize, words: &mut Vec<u16>) {
        let behind = words.get(self.words()..).unwrap_or_default();
        let mut shaped = Vec::with_capacity(rows * (to - from) + behind.len());
        let (first, width) = (usize::from(self.first), usize::from(self.width));
        for row in 0..rows {
            let known = row < usize::from(self.rows);
            shaped.extend((from..to).map(|bin| {
                let at = bin.checked_sub(first).filter(|at| known && *at < width);
                let count = at.and_then(|at| words.get(row * width + at));
                count.copied().unwrap_or_default()
            }));
        }
        shaped.extend_from_slice(behind);
        *words = shaped;
        (self.first, self.width, self.rows) = (from as u8, (to - from) as u8, rows as u8);
    }

    fn halve(&mut self, words: &mut Vec<u16>) {
        let end = self.words();
        for (at, count) in words.iter_mut().take(end).enumerate() {
            // Of odd ones every second is rounded up.
            *count = *count / 2 + (*count & (*count / 2 + at as u16) & 1);
        }
        for channel in 0..CHANNELS {
            let total = sum(words.get(self.row(channel)).unwrap_or_default());
            if let Some(fit) = self.fits.get_mut(channel) {
                fit.total = total;
            }
        }
        // What nobody has been in for long needs no words.
        let width = usize::from(self.width).max(1);
        let used = words.iter().take(end).enumerate();
        let used = used
            .filter(|(_, count)| **count > 0)
            .map(|(at, _)| at % width);
        let (low, high) = used.fold((width, 0), |(low, high), at| {
            (low.min(at), high.max(at + 1))
        });
        if low < high && high - low < width {
            let first = usize::from(self.first);
            self.reshape(usize::from(self.rows), first + low, first + high, words);
        }
    }

    fn refit(&mut self, channel: usize, band: Rarity, words: &[u16]) {
        let Fit { total, seen, .. } = self.fit(channel);
        if total == 0 {
            return;
        }
        let counts = words.get(self.row(channel)).unwrap_or_default();
        let (lowest, total_weight, unit) = (usize::from(self.first), f64::from(total), self.unit());
        let count = total_weight / unit;
        let alike = ALIKE.get(channel).copied().unwrap_or(1.0);
        let share = (FEWEST_IN_TAIL * alike / count).clamp(TAIL_SHARE, MOST_TAIL_SHARE);
        // As many of the highest bins as hold no more than that share.
        let most = (share * total_weight) as u32;
        let (mut first, mut mass) = (BINS, 0);
        for (at, weight) in counts.iter().enumerate().rev() {
            if mass + u32::from(*weight) > most {
                break;
            }
            mass += u32::from(*weight);
            first = lowest + at;
        }
        // Bins above all that was seen have no words, and belong to the tail.
        first = first.min(lowest + counts.len()).min(BINS);
        let from = edge(first.min(BINS - 1));
        let (mut sum, mut weighted, mut above) = (0.0, 0.0, 0.0);
        let tail = counts.get(first - lowest.min(first)..).unwrap_or_default();
        for (centre, weight) in CENTRES.iter().skip(first).zip(tail).rev() {
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
        let scale = (mean * (1.0 - shape)).max(0.05 * from).max(1e-6);
        let tail = Rarity::of(self.probability(f64::from(mass), total));
        let reach = if first < BINS && band > tail {
            (from + scale * band.excess(tail, shape)).min(LARGEST)
        } else {
            end_of(counts, lowest, band.probability() * total_weight)
        };
        if let Some(fit) = self.fits.get_mut(channel) {
            *fit = Fit {
                total,
                scale: scale as f32,
                reach: reach as f32,
                tail: (tail.bits() * PART_OF_BIT).round() as u16,
                shape: (shape * PART_OF_SHAPE).round() as u16,
                first: first as u8,
                seen,
            };
        }
    }

    /// Whether what was read back can have been made here, of so many words.
    pub(super) fn is_sound(&self, words: &[u16]) -> bool {
        let counts = words.get(..self.words());
        let bins = usize::from(self.first) + usize::from(self.width) <= BINS;
        let shape = self.rows == 0 && self.width == 0 || matches!(self.rows, 3 | 4);
        let fits = (0..CHANNELS).all(|channel| {
            let fit = self.fit(channel);
            let numbers = [fit.scale, fit.reach];
            let sums = words.get(self.row(channel)).map_or(0, sum);
            numbers.iter().all(|n| n.is_finite() && *n >= 0.0)
                && usize::from(fit.first) <= BINS
                && fit.total == sums
                && fit.scale > 0.0
        });
        counts.is_some() && bins && shape && fits && self.age < HALF_LIFE
    }
}

/// Where the bins end above which there is so much.
fn end_of(counts: &[u16], lowest: usize, mass: f64) -> f64 {
    let mut above = 0.0;
    for (at, weight) in counts.iter().enumerate().rev() {
        above += f64::from(*weight);
        if above >= mass {
            return edge(lowest + at + 1);
        }
    }
    LARGEST
}

fn sum(counts: &[u16]) -> u32 {
    counts.iter().map(|count| u32::from(*count)).sum()
}

fn bin_of(deviation: f64) -> usize {
    if deviation < 1.0 {
        return LOW.iter().filter(|end| deviation >= **end).count();
    }
    // The octave is the number's exponent; where within it decides its mantissa. A logarithm says the same in
    // four times the time.
    let bits = deviation.to_bits();
    let octave = (bits >> 52) as usize - 1023;
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1.0_f64.to_bits());
    let within = WITHIN_OCTAVE.iter().filter(|at| mantissa >= **at).count();
    (LOW.len() + octave * BINS_PER_OCTAVE + within).min(BINS - 1)
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
    std::array::from_fn(|bin| match bin.checked_sub(LOW.len()) {
        Some(above) => (above as f64 / BINS_PER_OCTAVE as f64).exp2(),
        None => bin
            .checked_sub(1)
            .and_then(|end| LOW.get(end))
            .copied()
            .unwrap_or(0.0),
    })
});

/// The middle of each bin, as its deviations lie.
static CENTRES: LazyLock<[f64; BINS]> = LazyLock::new(|| {
    let middle = |bin: usize| (edge(bin) * edge(bin + 1)).sqrt();
    std::array::from_fn(|bin| if bin == 0 { 0.25 } else { middle(bin) })
});

fn edge(bin: usize) -> f64 {
    EDGES.get(bin).copied().unwrap_or(LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nearly normal values.
    fn noise(seed: &mut u64) -> f64 {
        let uniform = |_| {
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            (*seed >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..12).map(uniform).sum::<f64>() - 6.0
    }

    #[test]
    fn sigmas_of_normal_noise_are_its_own_and_old_noise_is_forgotten() {
        let band = Rarity::of_sigma(4.0);
        let (mut calibrations, mut words) = (Calibrations::default(), Vec::new());
        let mut seed = 0x9e37_79b9_7f4a_7c15;
        let mut run = |calibrations: &mut Calibrations, words: &mut Vec<u16>, times: f64| {
            for _ in 0..50_000 {
                calibrations.learn(1, times * noise(&mut seed).abs(), words);
                calibrations.settle(band, words);
                assert!(calibrations.is_sound(words));
            }
        };
        run(&mut calibrations, &mut words, 1.0);
        for sigma in [0.5, 1.0, 1.5, 2.0, 2.5, 3.0] {
            let found = calibrations.sigma(1, sigma, &words);
            assert!((found - sigma).abs() < 0.1 * sigma, "{sigma}: {found}");
        }
        let reach = calibrations.reach(1);
        assert!(
            (calibrations.sigma(1, reach, &words) - 4.0).abs() < 0.1,
            "{reach}"
        );
        assert!(words.len() <= 3 * 17, "{}", words.len());
        run(&mut calibrations, &mut words, 10.0);
        let found = calibrations.sigma(1, 20.0, &words);
        assert!((found - 2.0).abs() < 0.2, "{found}");
        // What was behind the counts still is.
        words.push(7);
        calibrations.learn(2, 150.0, &mut words);
        calibrations.settle(band, &mut words);
        assert_eq!(words.last(), Some(&7));
        assert_eq!(words.len(), calibrations.words() + 1);
        calibrations.forget(2, &mut words);
        assert!(calibrations.is_sound(&words) && calibrations.seen(2) == 0);
    }

    #[test]
    fn nothing_overflows_where_all_are_alike() {
        let band = Rarity::of_sigma(4.0);
        let (mut calibrations, mut words) = (Calibrations::default(), Vec::new());
        for n in 0..100_000 {
            calibrations.learn(0, 0.0, &mut words);
            calibrations.settle(band, &mut words);
            assert!(n % 1000 > 0 || calibrations.is_sound(&words));
        }
        assert_eq!(words.len(), 3);
        assert!(calibrations.sigma(0, 1.0, &words) > 3.5);
        assert!(calibrations.sigma(0, 0.0, &words) < 0.1);
    }

    #[test]
    fn bins_begin_where_they_say() {
        for bin in 0..BINS {
            let (low, high) = (edge(bin), edge(bin + 1));
            assert_eq!(bin_of(low * (1.0 + 1e-12)), bin);
            assert_eq!(bin_of(0.5 * (low + high)), bin);
            assert!(low <= CENTRES[bin] && CENTRES[bin] <= high);
        }
        assert_eq!(bin_of(f64::MAX), BINS - 1);
    }
}
