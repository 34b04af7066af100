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

mod runs;
mod scale;
mod tails;

use serde::{Deserialize, Serialize};

use super::MAX_SIGMA;
use crate::model::{Judged, SignalKind};
use runs::Runs;
pub(super) use scale::Anscombe;
use tails::{Tally, poisson_surprise, quantile_surprise};

/// So many samples are looked at together. Of a tick's length each, they are as long as an outage may
/// stay unnoticed where every single one says too little.
const RECENT: usize = 8;
/// So many of the events in them at most: what is more is not few.
const RECENT_EVENTS: f64 = 100.0;
/// A sample of fewer observations is as good as a single one of them.
const FEW: u64 = 10;
/// A mean or percentile of few observations that is off by this much is a hit: the recent hits are
/// compared with the usual ones.
const HIT: f64 = 3.0;
/// Smaller sigmas are not limited: nobody asks for them.
const LEAST: f64 = 2.0;
/// How many samples make the usual number of observations: as many as a default window.
const USUAL: f64 = 100.0;

/// What the number of events behind the samples of one signal has been: 72 bytes, as many again for error
/// ratios, and half as many for percentiles and means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Counts {
    kind: SignalKind,
    /// Of samples that are not recent and did not deviate.
    usual: Tally,
    recent: Recent,
    /// Of how many samples the following are the mean.
    samples: f32,
    /// Logarithm of the number of observations.
    log_weight: f32,
    /// Mean and variance of the numbers of counted events, for rates.
    mean: f32,
    variance: f32,
    /// Whether it is known that the newest sample counted events, and over how many seconds.
    counting: bool,
    seconds: f64,
    /// Samples one after the other that were slow, for percentiles and means of few observations.
    runs: Option<Box<Runs>>,
}

/// The last samples, the newest in the lowest bit, or first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Recent {
    len: u8,
    /// Which deviated.
    deviates: u8,
    /// Which were hits, where each sample is a trial …
    hits: u8,
    /// … or how many hits of how many trials each had, where it is many.
    events: Option<Box<[(f32, f32); RECENT]>>,
}

impl Recent {
    /// Hits and trials of the one that is `at` behind the newest.
    fn at(&self, at: usize) -> (f64, f64) {
        match self.events.as_deref().and_then(|events| events.get(at)) {
            Some((hits, trials)) => (f64::from(*hits), f64::from(*trials)),
            None => (f64::from(self.hits >> at & 1), 1.0),
        }
    }

    /// The one that leaves with the next, if it did not deviate.
    fn leaves(&self) -> Option<(f64, f64)> {
        let oldest = RECENT - 1;
        let whole = usize::from(self.len) == RECENT && self.deviates >> oldest & 1 == 0;
        whole.then(|| self.at(oldest))
    }

    fn push(&mut self, hits: f64, trials: f64, deviates: bool) {
        self.len = (self.len + 1).min(RECENT as u8);
        self.deviates = self.deviates << 1 | u8::from(deviates);
        self.hits = self.hits << 1 | u8::from(hits > 0.0);
        if let Some(events) = &mut self.events {
            events.rotate_right(1);
            if let Some(newest) = events.first_mut() {
                *newest = (single(hits), single(trials));
            }
        }
    }
}

/// In single precision, cut off at the largest.
fn single(number: f64) -> f32 {
    (number as f32).clamp(f32::MIN, f32::MAX)
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
    /// Memory it occupies.
    pub(super) fn bytes(&self) -> usize {
        let events = self.recent.events.as_deref().map_or(0, size_of_val);
        size_of::<Self>() + events + self.runs.as_deref().map_or(0, size_of_val)
    }

    /// See [`Detector::glance`](super::Detector::glance).
    pub(super) fn glance(&self) -> u64 {
        u64::from(self.recent.len) + u64::from(self.mean.to_bits())
    }

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
                recent: Recent {
                    events: (kind == SignalKind::ErrorRatio).then(Box::default),
                    ..Recent::default()
                },
                samples: 0.0,
                log_weight: 0.0,
                mean: 0.0,
                variance: 0.0,
                counting: false,
                seconds: 0.0,
                runs: matches!(kind, SignalKind::Mean | SignalKind::Quantile(_)).then(Box::default),
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
        let own = [saved.samples, saved.log_weight, saved.mean, saved.variance];
        let usual = saved.usual.numbers();
        let recent = saved.recent.events.iter();
        let recent = recent.flat_map(|events| events.iter().flat_map(|(a, b)| [*a, *b]));
        let mut numbers = own.into_iter().chain(usual).chain(recent);
        let runs = |runs: &Runs| runs.limit.is_finite() && runs.numbers().all(|n| sound(n.into()));
        let fits = saved.kind == self.kind
            && saved.runs.is_some() == self.runs.is_some()
            && saved.recent.events.is_some() == self.recent.events.is_some()
            && usize::from(saved.recent.len) <= RECENT;
        let of_runs = saved.runs.as_deref().is_none_or(runs);
        let own = numbers.all(|number| sound(number.into())) && sound(saved.seconds);
        if !fits || !of_runs || !own {
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
                let runs = self.runs.as_deref();
                sigma >= 1.0 && runs.is_some_and(|runs| runs.goes_on() && runs.is_slow(value))
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
        if let Some((hits, trials)) = self.recent.leaves() {
            self.usual.add(hits, trials);
        }
        let (hits, trials) = match self.kind {
            SignalKind::ErrorRatio => {
                let trials = weight as f64;
                ((value * trials).round().clamp(0.0, trials), trials)
            }
            SignalKind::Value | SignalKind::Rate => (0.0, 1.0),
            SignalKind::Mean | SignalKind::Quantile(_) => {
                // It is no larger by itself than as it looks.
                let hit = sigma.abs() >= HIT && self.alone(sigma, weight) >= HIT;
                (f64::from(u8::from(hit)), 1.0)
            }
        };
        self.recent.push(hits, trials, deviates);
        if !deviates {
            self.learn_usual(weight);
        }
        if let Some(runs) = &mut self.runs {
            runs.learn(value, deviates);
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
        self.samples = (self.samples + 1.0).min(USUAL as f32);
        let rate = 1.0 / f64::from(self.samples);
        if self.kind != SignalKind::Rate {
            let log_weight = f64::from(self.log_weight);
            let more = ((weight.max(1) as f64).ln() - log_weight) * rate;
            self.log_weight = single(log_weight + more);
            return;
        }
        let (mean, variance) = (f64::from(self.mean), f64::from(self.variance));
        let off = weight as f64 - mean;
        self.mean = single(mean + off * rate);
        self.variance = single((1.0 - rate) * (variance + off * off * rate));
    }

    /// By how much rates vary less than Poisson's do, as a factor of the standard deviation: from 0, not
    /// at all, to 1, as much or more. Erring towards 1, by three standard errors of the variance.
    fn evenness(&self) -> f64 {
        if self.mean <= 0.0 {
            return 1.0;
        }
        let (mean, samples) = (f64::from(self.mean), f64::from(self.samples));
        let error = 1.0 + 3.0 * ((2.0 + 1.0 / mean) / samples.max(1.0)).sqrt();
        (f64::from(self.variance) / mean * error).min(1.0).sqrt()
    }

    /// The newest samples together with one that is not among them, as far as their events are few.
    fn together(&self, hits: f64, trials: f64) -> (f64, f64) {
        let mut sum = (hits, trials);
        for at in 0..usize::from(self.recent.len).min(RECENT - 1) {
            let recent = self.recent.at(at);
            if sum.1 + recent.1 > RECENT_EVENTS {
                break;
            }
            sum = (sum.0 + recent.0, sum.1 + recent.1);
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
            expected = expected.max(f64::from(self.mean).min(expected + 1.0 / 3.0));
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
            let runs = self.runs.as_deref();
            capped.max(runs.map_or(0.0, |runs| runs.sigma(look.value)))
        } else {
            capped
        }
    }

    /// What a mean or percentile says by itself, in sigmas.
    fn alone(&self, sigma: f64, weight: u64) -> f64 {
        match self.kind {
            SignalKind::Quantile(millionths) if sigma.abs() >= LEAST => {
                let q = f64::from(millionths) / 1e6;
                quantile_surprise(sigma, q, weight, f64::from(self.log_weight).exp())
                    .min(sigma.abs())
            }
            _ => sigma.abs(),
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
