//! How much a sample of few events can say.
//!
//! An error ratio of 2/3 looks enormous beside the usual 1 %, but it is two failed requests; the p99 of
//! four spans is the slowest of them. A detector that judges values alone takes such samples for what
//! they look like. Here is the sigma that the number of events behind a sample justifies: where it is
//! smaller than the detector's, it holds, and the band is widened to the value.
//!
//! - **Error ratio**: the tail of the beta-binomial distribution. The usual ratio is not known, it was
//!   estimated from so many failed of so many requests, with Jeffreys' prior (half a failed of one
//!   request; Brown, Cai and DasGupta, *Interval Estimation for a Binomial Proportion*, 2001).
//! - **Rate of counted events**: likewise the negative binomial distribution, which is Poisson's with a
//!   mean that was estimated. Where counts vary less than Poisson's, as those of a health check do, the
//!   sigmas are larger by as much.
//! - **Percentile**: what an exceedance of the sample quantile of *n* observations means when *n₀* are
//!   usual, by the distribution of order statistics (David and Nagaraja, *Order Statistics*, 2003, 2.1):
//!   the quantile of *n* exceeds *x* if enough of them do, which is binomial. The detector knows how rare
//!   the signal's *x* is at *n₀* observations, from that follows how rare a single observation beyond *x*
//!   is, and from that how rare the quantile of *n* is. In a sample of fewer than [`FEW`] single
//!   observations decide, whose tail nobody knows: then one such sample alone is never an anomaly.
//!
//! Few events are many when they are added up: 3 requests a minute that all fail are an outage after a
//! few minutes, though no value is more than one failed request; one slow request among three is none,
//! but ten in a row are. So the last samples are also looked at together, and the more surprising look
//! counts: of an error ratio their sum, of percentiles and means how many in a row were above a limit that
//! a tenth is above, which with *p* of them slow, and *q* after a slow one, is *p·q^(n-1)*.
//!
//! Everything is O(1) in memory; in time too, but for sums over at most a thousand terms for samples that
//! deviate.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::beta::beta_reg;
use statrs::function::gamma::ln_gamma;

use super::MAX_SIGMA;
use crate::model::{Judged, SignalKind};

/// So many samples are looked at together. Of a tick's length each, they are as long as an outage may
/// stay unnoticed where every single one says too little.
const RECENT: usize = 8;
/// So many of the events in them at most: what is more is not few.
const RECENT_EVENTS: f32 = 100.0;
/// Beyond so many events nothing is capped: their number is no longer what is uncertain.
const MANY: f64 = 1000.0;
/// A sample of fewer observations is as good as a single one of them.
const FEW: u64 = 10;
/// So many observations beyond a quantile make it as certain as it needs to be: what it then varies by is
/// what changes from tick to tick, not which observations there happened to be.
const ENOUGH_BEYOND: f64 = 10.0;
/// A mean or percentile of few observations that is off by this much is a hit: the recent hits are
/// compared with the usual ones.
const HIT: f64 = 3.0;
/// Smaller sigmas are not limited: nobody asks for them.
const LEAST: f64 = 2.0;
/// Slow is what only this share of a signal's samples is. Neither rare, so that it is soon known how often
/// it happens by itself, nor common, so that a short run of it says something.
const SLOW: f64 = 0.1;
/// So many samples begin the limit.
const FIRST: f64 = 10.0;
/// No longer run says more.
const LONGEST_RUN: f64 = 32.0;
/// The usual is what was in about so many samples. Long, since it only limits what else is found.
const MEMORY: f64 = 5000.0;
/// How many samples make the usual number of observations: as many as a default window.
const USUAL: f64 = 100.0;

/// What the number of events behind the samples of one signal has been; some 270 bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Counts {
    kind: SignalKind,
    /// Of samples that are not recent and did not deviate.
    usual: Tally,
    /// The newest first; only the first `len` are.
    recent: [Recent; RECENT],
    len: usize,
    /// Of how many samples the following are the mean.
    samples: f64,
    /// Logarithm of the number of observations.
    log_weight: f64,
    /// Samples one after the other that were slow, for percentiles and means of few observations.
    runs: Runs,
    /// Mean and variance of the numbers of counted events, for rates.
    mean: f64,
    variance: f64,
    /// Seconds over which the newest sample counted events, and whether it is known that it did.
    seconds: f64,
    counting: bool,
}

/// Successes among trials, decaying.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Tally {
    hits: f64,
    trials: f64,
}

/// How long samples stay above a limit that a tenth of them is above. What they measure does not matter,
/// nor how far above they are, and their dependence on each other is counted, too: a sample is slow with
/// one probability, and one after a slow one with another.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Runs {
    /// Logarithm of the limit: the quantile, followed in steps (Robbins and Monro, *A Stochastic
    /// Approximation Method*, 1951).
    limit: f64,
    samples: f64,
    slow: Tally,
    slow_again: Tally,
    /// Slow ones up to the newest sample, and whether one of them deviated.
    length: f64,
    deviated: bool,
}

impl Runs {
    fn is_slow(&self, value: f64) -> bool {
        self.samples >= FIRST && value > 0.0 && value.ln() > self.limit
    }

    /// Sigma of a run as long as this, with `value` at its end.
    fn sigma(&self, value: f64) -> f64 {
        if !self.is_slow(value) {
            return 0.0;
        }
        let one = |tally: Tally| (tally.hits + 0.5, tally.trials + 1.0);
        let (slow, all) = one(self.slow);
        let (again, after) = one(self.slow_again);
        // The longer it lasts, the more it speaks for lasting ones by itself: Pólya's urn.
        let mut tail = slow / all;
        let mut n = 0.0;
        while n < self.length {
            tail *= (again + n) / (after + n);
            n += 1.0;
        }
        sigma_of(tail)
    }

    /// A run is learned when it is over, and only if it was no deviation.
    fn learn(&mut self, value: f64, deviates: bool) {
        if self.samples < FIRST {
            // The largest of ten begins near where it belongs.
            if value > 0.0 {
                let log = value.ln();
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
            self.length = (self.length + 1.0).min(LONGEST_RUN);
            self.deviated |= deviates;
            if self.length >= LONGEST_RUN && !deviates {
                // To the detector it is usual by now.
                *self = Self::default();
            }
            return;
        }
        if self.length > 0.0 && !self.deviated {
            self.slow.add(self.length, self.length);
            self.slow_again.add(self.length - 1.0, self.length);
            self.step(self.length * (1.0 - SLOW));
        }
        (self.length, self.deviated) = (0.0, false);
        self.samples = (self.samples + 1.0).min(USUAL);
        self.slow.add(0.0, 1.0);
        self.step(-SLOW);
    }

    /// Latencies mostly vary by a factor of two or so, for which the method's theory has this step.
    fn step(&mut self, by: f64) {
        self.limit += by * 2.0 / self.samples;
    }

    fn numbers(&self) -> [f64; 6] {
        let Self {
            samples,
            slow,
            slow_again,
            length,
            ..
        } = *self;
        [
            samples,
            slow.hits,
            slow.trials,
            slow_again.hits,
            slow_again.trials,
            length,
        ]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Recent {
    hits: f32,
    trials: f32,
    deviates: bool,
}

/// How surprising a sample is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    /// What the detector makes of its value, in sigmas.
    pub(super) sigma: f64,
    /// The sample's value.
    pub(super) value: f64,
    /// Observations behind it.
    pub(super) weight: u64,
    /// The mean (not the median, which rare events do not move) that the detector expects, and on about
    /// how many samples it rests.
    pub(super) expected: f64,
    pub(super) samples: f64,
}

impl Counts {
    /// For a signal of this kind; `None` where nothing is counted.
    pub(super) fn new(kind: SignalKind) -> Option<Box<Self>> {
        match kind {
            SignalKind::Value => None,
            SignalKind::Rate
            | SignalKind::Mean
            | SignalKind::ErrorRatio
            | SignalKind::Quantile(_) => Some(Box::new(Self {
                kind,
                usual: Tally::default(),
                recent: [Recent::default(); RECENT],
                len: 0,
                log_weight: 0.0,
                runs: Runs::default(),
                samples: 0.0,
                mean: 0.0,
                variance: 0.0,
                seconds: 0.0,
                counting: false,
            })),
        }
    }

    /// Seconds over which a rate's events are counted; `None` until it is known that it counts events
    /// and not, say, bytes.
    pub(super) fn seconds(&self) -> Option<f64> {
        (self.counting && self.seconds > 0.0).then_some(self.seconds)
    }

    /// Makes a judgement one of so many events: see [`Counts::sigma`]. The band goes with it: a value that
    /// is an anomaly by `warning` is not inside, and no other one is outside. The evidence says so.
    pub(super) fn weigh(&self, look: Look, warning: f64, judged: &mut Judged) {
        let sigma = self.sigma(look);
        if sigma == judged.sigma {
            return;
        }
        let (inside, above) = (sigma.abs() < warning, sigma > 0.0);
        match (inside, above) {
            (true, true) => judged.upper = judged.upper.max(look.value),
            (true, false) => judged.lower = judged.lower.min(look.value),
            (false, true) => judged.upper = judged.upper.min(look.value),
            (false, false) => judged.lower = judged.lower.max(look.value),
        }
        let channel = std::mem::take(&mut judged.evidence.channel);
        judged.evidence.channel = if sigma.abs() < judged.sigma.abs() {
            format!("{channel}, as far as so few events tell").into()
        } else {
            format!("{channel}, the last samples together").into()
        };
        if judged.evidence.report > 0.0 {
            judged.evidence.report = sigma.abs();
        }
        judged.sigma = sigma;
    }

    /// Takes over what was saved.
    ///
    /// # Errors
    /// It was saved of another kind of signal, or holds what cannot be.
    pub(super) fn restore(&mut self, saved: Self) -> Result<(), String> {
        let sound = |number: f64| number.is_finite() && number >= 0.0;
        let numbers = [
            saved.usual.hits,
            saved.usual.trials,
            saved.samples,
            saved.log_weight,
            saved.mean,
            saved.variance,
            saved.seconds,
        ];
        let recent = saved.recent.iter();
        let recent = recent.flat_map(|recent| [recent.hits, recent.trials].map(f64::from));
        let runs = saved.runs.numbers();
        let mut numbers = numbers.into_iter().chain(recent).chain(runs);
        if saved.kind != self.kind || !saved.runs.limit.is_finite() || !numbers.all(sound) {
            return Err("these are no counts of such a signal".into());
        }
        *self = saved;
        Ok(())
    }

    /// Whether [`Counts::sigma`] can be another than the detector's: small ones are only looked at where
    /// few events may have added up.
    pub(super) fn matters(&self, sigma: f64, value: f64, weight: u64) -> bool {
        let adding_up = match self.kind {
            _ if weight >= FEW => false,
            SignalKind::Value | SignalKind::Rate => false,
            SignalKind::ErrorRatio => sigma >= 0.0 && value > 0.0,
            SignalKind::Mean | SignalKind::Quantile(_) => {
                sigma >= 1.0 && self.runs.length > 0.0 && self.runs.is_slow(value)
            }
        };
        adding_up || sigma.abs() >= LEAST
    }

    /// The detector's sigma as far as the number of events justifies it. It is never of the other sign, and
    /// larger only for samples of fewer than ten events, where the last ones say more together. To be asked
    /// before the sample is learned.
    pub(super) fn sigma(&self, look: Look) -> f64 {
        if !self.matters(look.sigma, look.value, look.weight) {
            return look.sigma;
        }
        let (size, above) = (look.sigma.abs(), look.sigma >= 0.0);
        let justified = match self.kind {
            SignalKind::Value => return look.sigma,
            SignalKind::ErrorRatio => self.of_ratio(look, above),
            SignalKind::Rate => self.of_rate(look, above),
            SignalKind::Mean | SignalKind::Quantile(_) => self.of_observations(look),
        };
        if justified.is_nan() {
            return look.sigma;
        }
        let most = match self.kind {
            SignalKind::ErrorRatio | SignalKind::Mean | SignalKind::Quantile(_)
                if look.weight < FEW =>
            {
                MAX_SIGMA
            }
            _ => size,
        };
        // Below what nobody asks for there are no differences.
        let least = LEAST.min(size);
        justified.clamp(least, most).copysign(look.sigma)
    }

    /// Takes in a sample: its value, its number of observations, what the detector made of its value, and
    /// whether it deviates by the rule's threshold, which makes it none of the usual ones.
    pub(super) fn learn(&mut self, value: f64, weight: u64, sigma: f64, deviates: bool) {
        if self.len == RECENT
            && let Some(oldest) = self.recent.last()
            && !oldest.deviates
        {
            self.usual
                .add(f64::from(oldest.hits), f64::from(oldest.trials));
        }
        self.recent.rotate_right(1);
        self.len = (self.len + 1).min(RECENT);
        let (hits, trials) = match self.kind {
            SignalKind::ErrorRatio => {
                let trials = weight as f64;
                ((value * trials).round().clamp(0.0, trials), trials)
            }
            SignalKind::Value | SignalKind::Rate => (0.0, 1.0),
            SignalKind::Mean | SignalKind::Quantile(_) => {
                (f64::from(u8::from(self.alone(sigma, weight) >= HIT)), 1.0)
            }
        };
        if let Some(newest) = self.recent.first_mut() {
            *newest = Recent {
                hits: hits as f32,
                trials: trials as f32,
                deviates,
            };
        }
        if !deviates {
            self.learn_usual(weight);
        }
        if matches!(self.kind, SignalKind::Mean | SignalKind::Quantile(_)) {
            self.runs.learn(value, deviates);
        }
        // Of a sum, whose units need not be events, every sample has one observation.
        if self.kind == SignalKind::Rate {
            self.counting |= weight != 1;
            if value > 0.0 && weight > 0 {
                self.seconds = weight as f64 / value;
            }
        }
    }

    fn learn_usual(&mut self, weight: u64) {
        self.samples = (self.samples + 1.0).min(USUAL);
        let rate = 1.0 / self.samples;
        self.log_weight += ((weight.max(1) as f64).ln() - self.log_weight) * rate;
        let off = weight as f64 - self.mean;
        self.mean += off * rate;
        self.variance = (1.0 - rate) * (self.variance + off * off * rate);
    }

    /// By how much rates vary less than Poisson's do, as a factor of the standard deviation: from 0, not
    /// at all, to 1, as much or more. Erring towards 1, by three standard errors of the variance.
    fn evenness(&self) -> f64 {
        if self.mean <= 0.0 {
            return 1.0;
        }
        let error = 1.0 + 3.0 * ((2.0 + 1.0 / self.mean) / self.samples.max(1.0)).sqrt();
        (self.variance / self.mean * error).min(1.0).sqrt()
    }

    /// The newest samples together with one that is not among them, as far as their events are few.
    fn together(&self, hits: f64, trials: f64) -> (f64, f64) {
        let mut sum = (hits, trials);
        for recent in self.recent.iter().take(self.len.min(RECENT - 1)) {
            let trials = sum.1 + f64::from(recent.trials);
            if trials > f64::from(RECENT_EVENTS) {
                break;
            }
            sum = (sum.0 + f64::from(recent.hits), trials);
        }
        sum
    }

    fn of_ratio(&self, look: Look, above: bool) -> f64 {
        let trials = look.weight as f64;
        let hits = (look.value * trials).round().clamp(0.0, trials);
        let justified = |(hits, trials): (f64, f64)| self.usual.surprise(hits, trials, above);
        justified((hits, trials)).max(justified(self.together(hits, trials)))
    }

    fn of_rate(&self, look: Look, above: bool) -> f64 {
        let Some(usual) = self.seconds() else {
            return f64::INFINITY;
        };
        let count = if look.value > 0.0 {
            look.weight as f64
        } else {
            0.0
        };
        let seconds = if count > 0.0 {
            count / look.value
        } else {
            usual
        };
        let mut expected = look.expected.max(0.0) * seconds;
        if above {
            // Where a detector averages square roots, its mean is short by up to a third of an event.
            expected = expected.max(self.mean.min(expected + 1.0 / 3.0));
        }
        poisson_surprise(count, expected, look.samples, above) / self.evenness()
    }

    fn of_observations(&self, look: Look) -> f64 {
        let alone = self.alone(look.sigma, look.weight);
        if look.weight >= FEW {
            return alone;
        }
        let hit = f64::from(u8::from(alone >= HIT));
        let (hits, trials) = self.together(hit, 1.0);
        let run = self.usual.surprise(hits, trials, true);
        let capped = alone.min(run.max(HIT));
        if look.sigma > 0.0 {
            capped.max(self.runs.sigma(look.value))
        } else {
            capped
        }
    }

    /// What a mean or percentile says by itself, in sigmas.
    fn alone(&self, sigma: f64, weight: u64) -> f64 {
        match self.kind {
            SignalKind::Quantile(millionths) if sigma.abs() >= LEAST => {
                let q = f64::from(millionths) / 1e6;
                quantile_surprise(sigma, q, weight, self.log_weight.exp()).min(sigma.abs())
            }
            _ => sigma.abs(),
        }
    }
}

impl Tally {
    fn add(&mut self, hits: f64, trials: f64) {
        let keep = 1.0 - 1.0 / MEMORY;
        self.hits = self.hits * keep + hits;
        self.trials = self.trials * keep + trials;
    }

    /// Sigma of so many hits, or more (`above`) or fewer of them, among so many trials.
    fn surprise(self, hits: f64, trials: f64, above: bool) -> f64 {
        let (alpha, beta) = (self.hits + 0.5, (self.trials - self.hits).max(0.0) + 0.5);
        let tail = if above {
            beta_binomial_tail(hits, trials, alpha, beta)
        } else {
            beta_binomial_tail(trials - hits, trials, beta, alpha)
        };
        sigma_of(tail)
    }
}

/// The sigma beyond which the normal distribution has `tail` on one side.
fn sigma_of(tail: f64) -> f64 {
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
fn poisson_surprise(count: f64, expected: f64, samples: f64, above: bool) -> f64 {
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
fn quantile_surprise(sigma: f64, q: f64, now: u64, usual: f64) -> f64 {
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
    // Rising in p. 50 halvings of the exponent leave a relative error of 1e-12.
    let (mut low, mut high) = (-700.0f64, 0.0f64);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if at_least(k, n, middle.exp()) < tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    high.exp()
}

/// Anscombe's transform of the rates of counted events, on which the noise of counting has standard
/// deviation 1 whatever the rate; for all else nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anscombe {
    /// Over which events are counted.
    seconds: Option<f64>,
}

impl Anscombe {
    /// See [`Counts::seconds`].
    pub(super) fn new(seconds: Option<f64>) -> Self {
        Self { seconds }
    }

    /// Of a rate.
    pub(super) fn of(self, rate: f64) -> f64 {
        match self.seconds {
            Some(seconds) => 2.0 * (rate.max(0.0) * seconds + 0.375).min(f64::MAX).sqrt(),
            None => rate,
        }
    }

    /// To a rate; what belongs to less than none is 0.
    pub(super) fn back(self, transformed: f64) -> f64 {
        match self.seconds {
            Some(seconds) => {
                let count = ((0.5 * transformed.max(0.0)).powi(2) - 0.375).max(0.0);
                (count / seconds).min(f64::MAX)
            }
            None => transformed,
        }
    }

    /// The spread of rates that `spread` is around `centre`.
    pub(super) fn spread_back(self, centre: f64, spread: f64) -> f64 {
        match self.seconds {
            Some(_) => 0.5 * (self.back(centre + spread) - self.back(centre - spread)),
            None => spread,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Counts of a signal that has had `samples` such samples.
    fn after(kind: SignalKind, samples: u32, value: impl Fn(u32) -> (f64, u64)) -> Counts {
        let mut counts = *Counts::new(kind).expect("something is counted");
        for n in 0..samples {
            let (value, weight) = value(n);
            counts.learn(value, weight, 0.0, false);
        }
        counts
    }

    fn look(sigma: f64, value: f64, weight: u64) -> Look {
        Look {
            sigma,
            value,
            weight,
            expected: 0.0,
            samples: 100.0,
        }
    }

    /// 1000 samples of three requests each, of which one in a hundred fails.
    fn one_percent() -> Counts {
        after(SignalKind::ErrorRatio, 1000, |n| {
            (if n % 33 == 7 { 1.0 / 3.0 } else { 0.0 }, 3)
        })
    }

    #[test]
    fn a_failure_of_few_requests_is_no_outage_but_sixty_of_sixty_are() {
        let counts = one_percent();
        let sigma = |failed: f64, of: u64| counts.sigma(look(30.0, failed / of as f64, of));
        // P(K >= 1) of three at 1 % is 3 %, 1.9 sigma; below 2 nobody asks.
        assert_eq!(sigma(1.0, 3), 2.0);
        // 2 of 3: 3e-4.
        assert!((sigma(2.0, 3) - 3.43).abs() < 0.1, "{}", sigma(2.0, 3));
        assert!(sigma(60.0, 60) >= 15.0);
        // Never failed, but that only 300 times: one in three is still not a page.
        let never = after(SignalKind::ErrorRatio, 100, |_| (0.0, 3));
        let one = never.sigma(look(1e6, 1.0 / 3.0, 3));
        assert!((2.0..3.5).contains(&one), "{one}");
    }

    #[test]
    fn single_failures_that_do_not_end_become_an_outage() {
        let mut counts = after(SignalKind::ErrorRatio, 200, |n| {
            (f64::from(u8::from(n % 50 == 9)), 1)
        });
        let mut sigmas = Vec::new();
        for _ in 0..6 {
            let sigma = counts.sigma(look(3.0, 1.0, 1));
            counts.learn(1.0, 1, 3.0, sigma >= 4.0);
            sigmas.push(sigma);
        }
        assert!(sigmas[0] < 3.0 && sigmas[5] > 5.0, "{sigmas:?}");
        assert!(sigmas.is_sorted(), "{sigmas:?}");
    }

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
    fn counts_that_hardly_vary_are_surprised_by_less() {
        let even = after(SignalKind::Rate, 100, |n| {
            (
                0.3 + f64::from(n % 20 / 19) * 0.1,
                3 + u64::from(n % 20 / 19),
            )
        });
        let poisson = after(SignalKind::Rate, 100, |n| {
            let count = [0, 1, 2, 3, 3, 4, 5, 6, 3, 3][n as usize % 10];
            (count as f64 / 10.0, count)
        });
        let none = Look {
            expected: 0.3,
            ..look(-50.0, 0.0, 0)
        };
        assert!(even.sigma(none) < -6.0, "{}", even.sigma(none));
        assert!(poisson.sigma(none) > -3.0, "{}", poisson.sigma(none));
        // Of bytes nothing is counted.
        let bytes = after(SignalKind::Rate, 100, |_| (1e6, 1));
        assert_eq!(bytes.seconds(), None);
        assert_eq!(
            bytes.sigma(Look {
                expected: 1e6,
                ..look(50.0, 2e6, 1)
            }),
            50.0
        );
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

    #[test]
    fn one_slow_request_is_none_but_a_run_of_them_is() {
        let mut counts = after(SignalKind::P99, 1000, |_| (0.05, 1));
        let mut sigmas = Vec::new();
        for _ in 0..5 {
            let sigma = counts.sigma(look(8.0, 0.5, 1));
            counts.learn(0.5, 1, 8.0, sigma >= 4.0);
            sigmas.push(sigma);
        }
        assert!(sigmas[0] < 4.0 && sigmas[3] > 4.0, "{sigmas:?}");
        // Of many requests it is the detector's business.
        assert_eq!(counts.sigma(look(8.0, 0.5, 2000)), 8.0);
    }

    #[test]
    fn anscombes_scale_goes_both_ways() {
        let scale = Anscombe::new(Some(10.0));
        for rate in [0.0, 0.1, 3.0, 1e6, 1e300] {
            assert!((scale.back(scale.of(rate)) - rate).abs() <= 1e-9 * rate.max(0.1));
        }
        assert_eq!(scale.back(0.0), 0.0);
        assert_eq!(Anscombe::new(None).of(-3.0), -3.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whatever was seen, the sigma is a number, of the same sign, and not larger without a reason;
        /// and the same after a restart.
        #[test]
        fn it_is_total_and_survives_a_restart(
            kind in prop_oneof![
                Just(SignalKind::Rate), Just(SignalKind::ErrorRatio), Just(SignalKind::P50),
                Just(SignalKind::P99), Just(SignalKind::Mean), Just(SignalKind::Quantile(0)),
            ],
            samples in prop::collection::vec(
                (
                    prop_oneof![3 => 0.0..1.0f64, 1 => Just(f64::MAX), 1 => Just(-1e9), 2 => Just(0.0)],
                    prop_oneof![3 => 0..20u64, 1 => 0..u64::MAX],
                    prop_oneof![3 => -10.0..10.0f64, 1 => Just(1e6), 1 => Just(-1e6)],
                ),
                1..60,
            ),
        ) {
            let mut counts = *Counts::new(kind).expect("something is counted");
            for (value, weight, sigma) in samples {
                let look = Look { expected: value / 2.0, ..look(sigma, value, weight) };
                let found = counts.sigma(look);
                prop_assert!(found.abs() <= MAX_SIGMA, "{}", found);
                prop_assert!(found * sigma >= 0.0);
                let few = kind != SignalKind::Rate && weight < FEW;
                prop_assert!(few || found.abs() <= sigma.abs());
                counts.learn(value, weight, sigma, found.abs() >= 4.0);
                let mut restored = *Counts::new(kind).expect("as before");
                let bytes = postcard::to_stdvec(&counts).expect("plain numbers");
                restored.restore(postcard::from_bytes(&bytes).expect("the same")).expect("sound");
                prop_assert_eq!(&restored, &counts);
            }
        }
    }
}
