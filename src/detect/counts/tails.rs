//! How surprising so many events are where fewer, or more, are usual.

use super::single;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::beta::beta_reg;
use statrs::function::gamma::ln_gamma;

/// Beyond so many events nothing is capped: their number is no longer what is uncertain.
const MANY: f64 = 1000.0;
/// So many observations beyond a quantile make it as certain as it needs to be: what it then varies by is
/// what changes from tick to tick, not which observations there happened to be.
const ENOUGH_BEYOND: f64 = 10.0;
/// The usual is what was in about so many samples. Long, since it only limits what else is found.
const MEMORY: f64 = 5000.0;

/// Successes among trials, decaying.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    hits: f32,
    trials: f32,
}

impl Tally {
    pub(super) fn add(&mut self, hits: f64, trials: f64) {
        let keep = 1.0 - 1.0 / MEMORY;
        self.hits = single(self.hits() * keep + hits);
        self.trials = single(self.trials() * keep + trials);
    }

    pub(super) fn hits(self) -> f64 {
        f64::from(self.hits)
    }

    pub(super) fn trials(self) -> f64 {
        f64::from(self.trials)
    }

    pub(super) fn numbers(self) -> [f32; 2] {
        [self.hits, self.trials]
    }

    /// Sigma of so many hits, or more (`above`) or fewer of them, among so many trials.
    pub(super) fn surprise(self, hits: f64, trials: f64, above: bool) -> f64 {
        let (hits_before, trials_before) = (self.hits(), self.trials());
        let (alpha, beta) = (
            hits_before + 0.5,
            (trials_before - hits_before).max(0.0) + 0.5,
        );
        let tail = if above {
            beta_binomial_tail(hits, trials, alpha, beta)
        } else {
            beta_binomial_tail(trials - hits, trials, beta, alpha)
        };
        sigma_of(tail)
    }
}

/// The sigma beyond which the normal distribution has `tail` on one side.
pub(super) fn sigma_of(tail: f64) -> f64 {
    if tail >= 0.5 {
        0.0
    } else if tail > 1e-290 {
        -Normal::standard().inverse_cdf(tail)
    } else {
        f64::INFINITY
    }
}

/// The probability of at least `hits` of `trials`, where the share of hits is itself distributed as
/// Beta(`alpha`, `beta`); 0 for so many trials that it does not matter.
fn beta_binomial_tail(hits: f64, trials: f64, alpha: f64, beta: f64) -> f64 {
    if trials > MANY {
        return 0.0;
    }
    if hits <= trials * alpha / (alpha + beta) {
        return 1.0;
    }
    let ln_beta = |a: f64, b: f64| ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b);
    let log_term = ln_gamma(trials + 1.0) - ln_gamma(hits + 1.0) - ln_gamma(trials - hits + 1.0)
        + ln_beta(hits + alpha, trials - hits + beta)
        - ln_beta(alpha, beta);
    let (mut term, mut sum, mut k) = (1.0, 1.0, hits);
    while k < trials && term > sum * 1e-12 {
        term *= (trials - k) * (k + alpha) / ((k + 1.0) * (trials - k - 1.0 + beta));
        sum += term;
        k += 1.0;
    }
    (log_term.exp() * sum).min(1.0)
}

/// Sigma of counting `count` events or more (`above`) or fewer of them where `expected` are usual, as
/// `samples` such counts have shown; infinite for so many events that it does not matter.
pub(super) fn poisson_surprise(count: f64, expected: f64, samples: f64, above: bool) -> f64 {
    if count.max(expected) > MANY {
        return f64::INFINITY;
    }
    let samples = samples.max(1.0);
    let shape = expected * samples + 0.5;
    // P(K >= k) of the negative binomial distribution is a regularised incomplete beta function.
    let share = 1.0 / (samples + 1.0);
    sigma_of(if !above {
        beta_reg(shape, count + 1.0, 1.0 - share)
    } else if count >= 1.0 {
        beta_reg(count, shape, share)
    } else {
        1.0
    })
}

/// How surprising it is that the quantile `q` of `now` observations is beyond a value which that of `usual`
/// observations exceeds, or falls short of, as rarely as `sigma` says.
pub(super) fn quantile_surprise(sigma: f64, q: f64, now: u64, usual: f64) -> f64 {
    // Where q is an end there is no number of observations beyond it that would be enough.
    let enough = ENOUGH_BEYOND / q.min(1.0 - q).max(1e-6);
    let (now, usual) = ((now.max(1) as f64).min(enough), usual.round().min(enough));
    let size = sigma.abs();
    if now == usual || usual < 1.0 {
        return size;
    }
    let q = if sigma > 0.0 { q } else { 1.0 - q };
    // So many of `n` are to be beyond a value, for the interpolated quantile to be.
    let needed = |n: f64| n - (q * (n - 1.0)).ceil();
    // Far out there is no difference that matters.
    let tail = Normal::standard().sf(size.min(30.0));
    let single = single_tail(tail, needed(usual), usual);
    let found = sigma_of(at_least(needed(now), now, single));
    if size > 30.0 {
        found.max(size * found / 30.0)
    } else {
        found
    }
}

/// P(K ≥ k) for a binomial K of `n` with probability `p`.
fn at_least(k: f64, n: f64, p: f64) -> f64 {
    if k <= 1.0 {
        -(n * (-p).ln_1p()).exp_m1()
    } else {
        beta_reg(k, n - k + 1.0, p)
    }
}

/// The probability of a single one for which at least `k` of `n` have the probability `tail`.
fn single_tail(tail: f64, k: f64, n: f64) -> f64 {
    if k <= 1.0 {
        return -((-tail).ln_1p() / n).exp_m1();
    }
    // The logarithm of this tail rises with that of p, nearly in a line: its chords soon meet the zero (the
    // Illinois method; Dowell and Jarratt 1971).
    let wanted = tail.ln();
    let over = |log_p: f64| at_least(k, n, log_p.exp()).max(f64::MIN_POSITIVE).ln() - wanted;
    // k of n are no rarer than k of k …
    let (mut low, mut high) = (-700.0f64, (wanted / k).min(0.0));
    let (mut at_low, mut at_high) = (over(low), over(high));
    if at_high <= 0.0 {
        return high.exp();
    }
    // … and no more likely than all ways to choose k, of which there are at most (e n / k)^k.
    let near = high - (n / k).ln() - 1.5;
    let at_near = over(near);
    if at_near < 0.0 {
        (low, at_low) = (near, at_near);
    }
    for _ in 0..60 {
        let next = (low * at_high - high * at_low) / (at_high - at_low);
        let at_next = over(next);
        if at_next.abs() < 1e-9 || high - low < 1e-12 {
            return next.exp();
        }
        if at_next < 0.0 {
            (low, at_low, at_high) = (next, at_next, 0.5 * at_high);
        } else {
            (high, at_high, at_low) = (next, at_next, 0.5 * at_low);
        }
    }
    high.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Poisson's tails from tables: P(K >= 10) with mean 3 is 1.10e-3, P(K <= 10) with mean 30 is 2.2e-5.
    #[test]
    fn counts_of_a_known_mean_have_poissons_tails() {
        let many = 1e9;
        let tail = |count, mean, above| {
            let sigma = poisson_surprise(count, mean, many, above);
            Normal::standard().sf(sigma)
        };
        assert!((tail(10.0, 3.0, true) / 1.102e-3 - 1.0).abs() < 1e-2);
        assert!((tail(10.0, 30.0, false) / 2.235e-5 - 1.0).abs() < 1e-2);
        // A mean that was estimated from few is less sure.
        assert!(poisson_surprise(10.0, 3.0, 5.0, true) < poisson_surprise(10.0, 3.0, many, true));
        assert_eq!(poisson_surprise(5000.0, 3.0, 5.0, true), f64::INFINITY);
    }

    #[test]
    fn beta_binomial_tails_are_those_of_an_urn() {
        // Uniform prior: every number of hits is equally likely.
        for k in 0..=10 {
            let tail = beta_binomial_tail(f64::from(k), 10.0, 1.0, 1.0);
            let exact = f64::from(11 - k) / 11.0;
            // Up to the mean it is no surprise, whatever the tail.
            assert!(k <= 5 || (tail - exact).abs() < 1e-12, "{k}: {tail}");
        }
        // A prior that is sure gives the binomial distribution: 0.3^2 (3 - 2 * 0.3) = 0.216.
        assert!((beta_binomial_tail(2.0, 3.0, 3e8, 7e8) - 0.216).abs() < 1e-6);
    }

    #[test]
    fn order_statistics_of_other_numbers_of_observations() {
        // The largest of 4 beyond x has probability t: of one t/4, of 8 about 2t.
        let t = Normal::standard().sf(4.0);
        for (now, tail) in [(1, t / 4.0), (8, 2.0 * t), (4, t)] {
            let sigma = quantile_surprise(4.0, 0.99, now, 4.0);
            assert!((sigma - sigma_of(tail)).abs() < 1e-3, "{now}: {sigma}");
        }
        // A p99 of one span where there are thousands: a single one is beyond it far more often.
        let alone = quantile_surprise(6.0, 0.99, 1, 5000.0);
        assert!((2.0..4.0).contains(&alone), "{alone}");
        // Enough are enough: no difference.
        assert_eq!(quantile_surprise(6.0, 0.99, 3000, 50_000.0), 6.0);
        // Below: the median is its own mirror image.
        let (up, down) = (
            quantile_surprise(5.0, 0.5, 3, 15.0),
            quantile_surprise(-5.0, 0.5, 3, 15.0),
        );
        assert!((up - down).abs() < 1e-9 && up < 5.0, "{up} {down}");
    }
}
