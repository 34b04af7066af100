//! How rare something is, and which sigma that is.
//!
//! Probabilities are kept as logarithms: a tail's power then costs a product, and nothing underflows. The
//! normal distribution's quantiles come from statrs, tabulated, since each sample needs several.

use std::f64::consts::{LN_2, SQRT_2};
use std::sync::LazyLock;

use statrs::function::erf::{erfc, erfc_inv};

/// Sigmas above this are not told apart.
const LARGEST: f64 = 37.0;
/// No probability is taken for smaller than 10⁻³⁰⁰.
const MOST_BITS: f64 = 996.0;
/// The table goes so far, to 9.1 sigma, in steps of 1/32: between them sigma is within 10⁻⁴.
const TABLED_BITS: usize = 64;
const STEPS: usize = 32;
/// A shape smaller than this is an exponential tail.
const NO_SHAPE: f64 = 1e-4;

/// A probability as how often it had to be halved, from 0 (certain) on.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Rarity(f64);

impl Rarity {
    pub(super) fn of(probability: f64) -> Self {
        Self((-probability.log2()).clamp(0.0, MOST_BITS))
    }

    /// That of a normal value so many standard deviations away or more, on either side.
    pub(super) fn of_sigma(sigma: f64) -> Self {
        Self::of(erfc(sigma / SQRT_2))
    }

    /// Of what was so many times halved.
    pub(super) fn of_bits(bits: f64) -> Self {
        Self(bits.clamp(0.0, MOST_BITS))
    }

    /// How often it was halved.
    pub(super) fn bits(self) -> f64 {
        self.0
    }

    pub(super) fn probability(self) -> f64 {
        (-self.0).exp2()
    }

    /// Of what exceeds a threshold that is so rare itself by `excess` scales of a generalised Pareto
    /// distribution.
    pub(super) fn beyond(self, excess: f64, shape: f64) -> Self {
        let more = if shape < NO_SHAPE {
            excess / LN_2
        } else {
            (1.0 + shape * excess).log2() / shape
        };
        Self((self.0 + more).clamp(0.0, MOST_BITS))
    }

    /// The excess, in scales, over a threshold as rare as `tail`: the inverse of [`Rarity::beyond`].
    pub(super) fn excess(self, tail: Self, shape: f64) -> f64 {
        let more = self.0 - tail.0;
        if shape < NO_SHAPE {
            more * LN_2
        } else {
            ((shape * more).exp2() - 1.0) / shape
        }
    }

    /// The sigma beyond which both tails of a normal distribution together are so rare.
    pub(super) fn sigma(self) -> f64 {
        let at = self.0 * STEPS as f64;
        let step = at as usize;
        match SIGMAS.get(step..step + 2) {
            Some(&[low, high]) => low + (high - low) * (at - step as f64),
            _ => exact(self.0),
        }
    }
}

/// [`Rarity::sigma`] of a probability: without a logarithm, since most samples ask for it several times. The
/// table has 32 entries for each power of two, between which sigma is within 10⁻⁴, too.
pub(super) fn sigma_of(probability: f64) -> f64 {
    if probability >= 1.0 {
        return 0.0;
    }
    let bits = probability.to_bits();
    let entry = (bits >> ENTRY_BITS) as usize;
    let between = (bits & ((1 << ENTRY_BITS) - 1)) as f64 / (1u64 << ENTRY_BITS) as f64;
    let at = entry.checked_sub(FIRST_ENTRY);
    match at.and_then(|at| OF_PROBABILITY.get(at..at + 2)) {
        Some(&[low, high]) => f64::from(low) + f64::from(high - low) * between,
        _ => Rarity::of(probability).sigma(),
    }
}

/// Bits of a double behind those that choose the entry: its exponent and five of its fraction.
const ENTRY_BITS: u32 = 52 - STEPS.ilog2();
/// The entry of 2⁻³².
const FIRST_ENTRY: usize = (1023 - 32) * STEPS;

static OF_PROBABILITY: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let entries = FIRST_ENTRY..=1023 * STEPS;
    let probability = |entry: usize| f64::from_bits((entry as u64) << ENTRY_BITS);
    entries
        .map(|entry| exact(-probability(entry).log2()) as f32)
        .collect()
});

static SIGMAS: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let steps = 0..=TABLED_BITS * STEPS;
    steps.map(|at| exact(at as f64 / STEPS as f64)).collect()
});

fn exact(bits: f64) -> f64 {
    if bits <= 0.0 {
        0.0
    } else {
        (SQRT_2 * erfc_inv((-bits).exp2())).clamp(0.0, LARGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_normal_distribution() {
        for thousandth in 0..12_000 {
            let sigma = f64::from(thousandth) / 1000.0;
            let back = Rarity::of_sigma(sigma).sigma();
            assert!((back - sigma).abs() < 1e-3, "{sigma}: {back}");
            let back = sigma_of(erfc(sigma / SQRT_2));
            assert!((back - sigma).abs() < 1e-3, "{sigma}: {back}");
        }
        assert_eq!(sigma_of(1.0), 0.0);
        assert_eq!(sigma_of(2.0), 0.0);
        assert!((36.0..=LARGEST).contains(&sigma_of(0.0)));
    }

    #[test]
    fn an_excess_is_as_rare_as_it_was_asked_for() {
        let tail = Rarity::of(0.02);
        for shape in [0.0, 0.1, 0.35, 0.9] {
            for sigma in [3.0, 4.0, 5.0, 8.0] {
                let rarity = Rarity::of_sigma(sigma);
                let back = tail.beyond(rarity.excess(tail, shape), shape);
                assert!((back.sigma() - sigma).abs() < 1e-3, "{shape} {sigma}");
            }
        }
        assert!(tail.beyond(1e300, 0.1).sigma() <= LARGEST);
    }
}
