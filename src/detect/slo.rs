//! Service-level objectives: how fast an error budget is used up, over a long and a short window at a
//! time, as in the *Site Reliability Workbook* (chapter 5, "Alerting on SLOs", multiwindow,
//! multi-burn-rate alerts). Ours differs in three things:
//!
//! - What is not there yet counts as good: an hour of which five minutes are known has used up the budget
//!   of these five minutes. So a service that has just begun does not page for its first slow request.
//! - Few events prove little: failures are counted with a binomial test, and percentiles of a few requests,
//!   which are little else than their maximum, are pooled until all of them being slow would be a proof.
//! - What a fast alert has told, a slow one does not tell again: bad events that arrive while the budget
//!   burns at a higher rate do not count for lower ones. Else five minutes of failure would be an alert
//!   for the six hours that one of the windows is long.

use std::collections::VecDeque;
use std::mem::size_of;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use statrs::function::beta::checked_beta_reg;

use super::{Detector, Kind, MAX_SIGMA};
use crate::model::{
    Burn, Evidence, Judged, Measure, OwnSettings, Rule, Sample, SeverityLabel, SignalKind, SloSpec,
    Timestamp, Verdict,
};
use crate::window::Window;

pub(super) const KIND: Kind = Kind {
    name: "slo",
    description: "A service-level objective: alerts when the error budget is used up too fast over a long \
                  and a short window at once. An error ratio counts failed events; of any other signal \
                  a tick is good while the value keeps its `target` (or `lower`, `upper`), weighted by \
                  its number of observations. Learns nothing. Sigma reaches the rule's thresholds exactly \
                  where the rate of the table in `burn` is reached.",
    by_window: false,
    build: |rule, kind| Ok(Box::new(Slo::new(rule, kind)?)),
};

/// Buckets of the short window: the part of it that is not over yet blurs it by a fifth.
const SHORT_BUCKETS: u32 = 5;
/// Most buckets of a long window: some 3 KB.
const MAX_BUCKETS: i64 = 240;
/// Fewer failures than this prove nothing: one client that fails once and tries again.
const MIN_FAILURES: f64 = 5.0;
/// So improbable must the failures be at the threshold's rate: 3 sigma of the normal distribution.
const CHANCE: f64 = 1.35e-3;
/// Beyond so many events the normal distribution stands for the binomial one.
const MANY: f64 = 1e4;
/// A tick with so many times the observations of which one may be slow is taken at its word.
const AT_ITS_WORD: f64 = 2.0;
/// A pool of smaller ticks is judged when all of them being bad would be less probable than this.
const ENOUGH: f64 = 5e-3;
/// It is bad if so many bad ticks have this many standard deviations more than chance: 5 %.
const POOL_SIGMA: f64 = 1.645;
/// An alert goes on until a burn rate is below this share of its threshold.
const CALM: f64 = 0.75;
/// Objective where none is set, of failures.
const USUAL_OBJECTIVE: f64 = 0.999;
/// Objective where none is set, of ticks: eight minutes of a bad hour burn at the highest rate.
const USUAL_TICK_OBJECTIVE: f64 = 0.99;

/// O(buckets) a sample. With the usual table 66 buckets of 8 bytes for each of three pairs of windows:
/// 1.7 KB.
struct Slo {
    goal: Goal,
    /// Share that may be bad.
    budget: f64,
    words: String,
    warning: f64,
    critical: f64,
    state: State,
    pairs: Vec<Burn>,
}

/// What is good.
#[derive(Debug, Clone, Copy)]
enum Goal {
    /// Every event is by itself; the sample is the share that is not.
    Events,
    /// The values from `lower` to `upper`.
    Within {
        lower: f64,
        upper: f64,
        /// Which share of observations may be beyond the bound, where the sample is a percentile.
        beyond: Option<f64>,
        /// Whether the observations behind a sample count, or only the tick.
        weighted: bool,
    },
}

/// What survives a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    rings: Vec<Ring>,
    pool: Pool,
    /// The last two times at which something was bad: one tick alone does not page.
    bad: [Option<Timestamp>; 2],
}

/// Good and bad events over one pair of windows.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ring {
    /// Length of a bucket in nanoseconds.
    width: i64,
    /// Which bucket is the newest: the time by the width.
    newest: i64,
    /// Since when there are events without a gap as long as the window.
    since: Timestamp,
    /// (all, bad), the newest last. Counts of events need no more than the seven digits of these.
    buckets: VecDeque<(f32, f32)>,
    /// Whether the budget burns at this pair's rate.
    burning: bool,
}

/// Ticks of few observations that are judged together.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Pool {
    since: Option<Timestamp>,
    observations: u64,
    /// Ticks with a value beyond the bound.
    bad: f64,
    /// As many as chance makes if the target is just kept, and the variance of that.
    expected: f64,
    variance: f64,
    /// Logarithm of the probability that all are bad by chance.
    all_bad: f64,
}

/// How one pair of windows stands.
struct Rate {
    /// Of the slower of its two windows.
    burn: f64,
    /// By its threshold.
    ratio: f64,
}

impl Slo {
    fn new(rule: &Rule, kind: SignalKind) -> Result<Self, String> {
        let usual = SloSpec::default();
        let spec = match &rule.detector.own {
            OwnSettings::Slo(spec) => spec,
            OwnSettings::Default | OwnSettings::Forecast(_) | OwnSettings::Absence(_) => &usual,
        };
        let goal = Goal::of(rule, spec, kind)?;
        let objective = spec.objective.unwrap_or(match goal {
            Goal::Events => USUAL_OBJECTIVE,
            Goal::Within { .. } => USUAL_TICK_OBJECTIVE,
        });
        let budget = 1.0 - objective;
        if !(budget > 0.0 && budget < 1.0) {
            return Err(format!(
                "an objective of {objective} leaves no error budget"
            ));
        }
        let sound = |burn: &Burn| {
            burn.rate.is_finite()
                && burn.rate > 0.0
                && !burn.short.is_zero()
                && burn.short <= burn.long
        };
        if spec.burns.is_empty() || !spec.burns.iter().all(sound) {
            return Err(
                "each burn rate needs a long window, a short one within it, and a rate".into(),
            );
        }
        let mut pairs = spec.burns.to_vec();
        pairs.sort_by(|a, b| b.rate.total_cmp(&a.rate));
        let warning = rule.sigma.warning.clamp(f64::MIN_POSITIVE, MAX_SIGMA);
        let critical = rule.sigma.critical.unwrap_or(warning * 1.5).min(MAX_SIGMA);
        let what = match goal {
            Goal::Events => String::new(),
            Goal::Within { .. } => format!(" ({} {})", kind.name(), goal.words(&spec.words)),
        };
        Ok(Self {
            goal,
            budget,
            words: format!("error budget of {}{what}", percent(budget)),
            warning,
            critical: critical.max(warning),
            state: State {
                rings: pairs.iter().map(Ring::new).collect(),
                ..State::default()
            },
            pairs,
        })
    }

    /// The events of a sample that can be told by now: all, and the bad ones.
    fn count(&mut self, sample: Sample, weight: u64) -> Option<(f64, f64)> {
        match self.goal {
            Goal::Events => {
                let all = weight as f64;
                Some((all, (all * sample.value.clamp(0.0, 1.0)).round()))
            }
            Goal::Within {
                lower,
                upper,
                beyond,
                weighted,
            } => {
                let is_bad = sample.value < lower || sample.value > upper;
                let all = if weighted { weight as f64 } else { 1.0 };
                let bad = if is_bad { all } else { 0.0 };
                let few = beyond.filter(|share| all * share < AT_ITS_WORD);
                let Some(share) = few else {
                    return Some((all, bad));
                };
                let longest = self.pairs.first().map_or(Duration::ZERO, |burn| burn.long);
                let since = self.state.pool.since;
                if since.is_some_and(|since| sample.time.since(since) > longest) {
                    self.state.pool = Pool::default();
                }
                self.state.pool.add(sample.time, weight, is_bad, share)
            }
        }
    }

    fn rate(&self, burn: &Burn, ring: &Ring, now: Timestamp) -> Rate {
        let long = ring.over(now, burn.long);
        let short = ring.over(now, burn.short);
        // What is not known yet counts as good.
        let known = ring.known(now).clamp(1.0, nanos(burn.long) as f64);
        let dilution = nanos(burn.long) as f64 / known;
        let share = |(all, bad): (f64, f64)| if all > 0.0 { bad / all } else { 0.0 };
        let burnt = (share(long) / dilution).min(share(short)) / self.budget;
        // Two tenths of a budget of a hundredth are twenty, and not 19.99….
        let mut ratio = burnt / burn.rate * (1.0 + 1e-9);
        if ratio >= 1.0 {
            let allowed = burn.rate * self.budget;
            let since = now.minus(
                burn.long
                    .max(Duration::from_nanos(ring.width.unsigned_abs())),
            );
            let repeated = self
                .state
                .bad
                .iter()
                .flatten()
                .filter(|bad| **bad >= since)
                .count()
                > 1;
            let proven = match self.goal {
                Goal::Events => proves(long, allowed * dilution) && proves(short, allowed),
                Goal::Within { .. } => true,
            };
            if !(repeated && proven) {
                // Neither an alert, nor a reason to end one.
                ratio = 0.99;
            }
        }
        Rate { burn: burnt, ratio }
    }

    /// The sigma that stands for `ratio` of a threshold called `severity`.
    fn sigma(&self, ratio: f64, severity: SeverityLabel) -> f64 {
        if ratio < 1.0 {
            return self.warning * ratio;
        }
        // Each doubling of the rate is one threshold more.
        let growth = 1.0 + ratio.log2();
        match severity {
            SeverityLabel::Critical => (self.critical * growth).min(MAX_SIGMA),
            SeverityLabel::Warning => {
                // As near to the critical threshold as the rate is high, and never there.
                let room = (self.critical - self.warning) * 0.99;
                self.warning + (room * (1.0 - 1.0 / growth)).min(self.warning * (growth - 1.0))
            }
        }
    }
}

impl Detector for Slo {
    fn observe(&mut self, sample: Sample, weight: u64, _window: &Window) -> Verdict {
        let now = sample.time;
        if let Some((all, bad)) = self.count(sample, weight) {
            if bad > 0.0 {
                self.state.bad = [Some(now), self.state.bad[0]];
            }
            // What a faster pair is telling.
            let mut told = false;
            for (burn, ring) in self.pairs.iter().zip(&mut self.state.rings) {
                ring.add(now, all, if told { 0.0 } else { bad }, burn.long);
                told |= ring.burning;
            }
        }
        let rates: Vec<Rate> = self
            .pairs
            .iter()
            .zip(&self.state.rings)
            .map(|(burn, ring)| self.rate(burn, ring, now))
            .collect();
        let mut worst: Option<(&Burn, &Rate, f64)> = None;
        for (rate, ring) in rates.iter().zip(&mut self.state.rings) {
            ring.burning = rate.ratio >= 1.0 || ring.burning && rate.ratio >= CALM;
        }
        for (burn, rate) in self.pairs.iter().zip(&rates) {
            let sigma = self.sigma(rate.ratio, burn.severity);
            // Of equals the fastest.
            if worst.is_none_or(|(_, _, most)| sigma > most) {
                worst = Some((burn, rate, sigma));
            }
        }
        let Some((burn, rate, sigma)) = worst else {
            // A detector without windows is not built.
            return Verdict::Learning { remaining: 1 };
        };
        let longest = self
            .state
            .rings
            .iter()
            .map(|ring| ring.known(now))
            .fold(0.0, f64::max);
        let (long, short) = (period(burn.long), period(burn.short));
        Verdict::Judged(Judged {
            expected: burn.rate.min(1.0),
            lower: f64::NEG_INFINITY,
            upper: burn.rate,
            sigma,
            observed: Some(rate.burn),
            evidence: Evidence {
                channel: format!("{} over {long} and {short}", self.words).into(),
                measure: Measure::BurnRate,
                present: Some(sample.value),
                history: Duration::from_nanos(longest as u64),
                report: sigma,
                ..Evidence::default()
            },
        })
    }

    fn save(&self) -> Vec<u8> {
        // Numbers and lists of them: nothing that cannot be written.
        postcard::to_allocvec(&self.state).unwrap_or_default()
    }

    fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        if saved.is_empty() {
            return Ok(());
        }
        let state: State = postcard::from_bytes(saved).map_err(|error| error.to_string())?;
        let same = |(ours, theirs): (&Ring, &Ring)| ours.width == theirs.width && theirs.is_sound();
        let fits = state.rings.len() == self.state.rings.len()
            && self.state.rings.iter().zip(&state.rings).all(same)
            && state.pool.is_sound();
        if !fits {
            return Err("it was saved of other windows".into());
        }
        self.state = state;
        Ok(())
    }

    fn bytes(&self) -> usize {
        let buckets: usize = self
            .state
            .rings
            .iter()
            .map(|ring| ring.buckets.capacity())
            .sum();
        size_of::<Self>()
            + self.words.capacity()
            + self.pairs.capacity() * size_of::<Burn>()
            + self.state.rings.capacity() * size_of::<Ring>()
            + buckets * size_of::<(f32, f32)>()
    }
}

impl Goal {
    fn of(rule: &Rule, spec: &SloSpec, kind: SignalKind) -> Result<Self, String> {
        if kind == SignalKind::ErrorRatio {
            return Ok(Self::Events);
        }
        let (mut lower, mut upper) = (rule.detector.lower, rule.detector.upper);
        if let Some(target) = spec.target {
            let bound = if kind == SignalKind::Rate {
                &mut lower
            } else {
                &mut upper
            };
            bound.get_or_insert(target);
        }
        if lower.is_none() && upper.is_none() {
            return Err("`slo` needs a `target`, but for an error ratio".into());
        }
        let beyond = match kind {
            SignalKind::Quantile(millionths) if upper.is_some() => {
                Some((1e6 - f64::from(millionths)).max(1e3) / 1e6)
            }
            _ => None,
        };
        let (lower, upper) = (
            lower.unwrap_or(f64::NEG_INFINITY),
            upper.unwrap_or(f64::INFINITY),
        );
        if lower.is_nan() || upper.is_nan() || lower > upper {
            return Err(format!(
                "`lower` must not be above `upper`: {lower} > {upper}"
            ));
        }
        Ok(Self::Within {
            lower,
            upper,
            beyond,
            // A tick without a request is as much a tick.
            weighted: kind != SignalKind::Rate,
        })
    }

    /// The bounds as a person wrote them, or as numbers.
    fn words(self, written: &str) -> String {
        let Self::Within { lower, upper, .. } = self else {
            return String::new();
        };
        let number = |bound: f64| {
            if written.is_empty() {
                bound.to_string()
            } else {
                written.to_owned()
            }
        };
        match (lower.is_finite(), upper.is_finite()) {
            (true, true) if written.is_empty() => format!("from {lower} to {upper}"),
            (true, true) => written.to_owned(),
            (true, false) => format!("at least {}", number(lower)),
            (false, _) => format!("at most {}", number(upper)),
        }
    }
}

impl Ring {
    fn new(burn: &Burn) -> Self {
        let width = (nanos(burn.short) / i64::from(SHORT_BUCKETS))
            .max(nanos(burn.long) / MAX_BUCKETS)
            .max(1);
        Self {
            width,
            newest: 0,
            since: Timestamp::EPOCH,
            buckets: VecDeque::new(),
            burning: false,
        }
    }

    /// The bucket of a sample, which is at the end of its tick.
    fn bucket(&self, time: Timestamp) -> i64 {
        time.as_nanos().saturating_sub(1).div_euclid(self.width)
    }

    /// Counts events at `now`, and forgets those older than `long`.
    fn add(&mut self, now: Timestamp, all: f64, bad: f64, long: Duration) {
        let bucket = self.bucket(now);
        if self.buckets.is_empty() || bucket.saturating_sub(self.newest) > MAX_BUCKETS {
            self.buckets.clear();
            self.buckets.push_back((0.0, 0.0));
            self.newest = bucket;
            self.since = now;
        }
        while self.newest < bucket {
            self.buckets.push_back((0.0, 0.0));
            self.newest += 1;
        }
        // Samples come in order; one that does not counts in the newest bucket.
        if let Some(newest) = self.buckets.back_mut() {
            newest.0 += all as f32;
            newest.1 += bad as f32;
        }
        // One more than fit into the window, since the newest is not over.
        let limit = usize::try_from(nanos(long) / self.width)
            .unwrap_or(0)
            .saturating_add(1);
        let is_past = |ring: &Self| {
            ring.buckets.len() > limit || ring.buckets.front().is_some_and(|bucket| bucket.0 == 0.0)
        };
        while is_past(self) {
            self.buckets.pop_front();
        }
    }

    /// All and bad events of the last `window`, but for a part of its first bucket.
    fn over(&self, now: Timestamp, window: Duration) -> (f64, f64) {
        let begin = self.bucket(now.minus(window));
        let newer = self.newest.saturating_sub(begin).max(0);
        let newer = usize::try_from(newer).unwrap_or(usize::MAX);
        let newest = self.buckets.iter().rev().take(newer);
        newest.fold((0.0, 0.0), |(all, bad), bucket| {
            (all + f64::from(bucket.0), bad + f64::from(bucket.1))
        })
    }

    /// For how long there have been events, in nanoseconds.
    fn known(&self, now: Timestamp) -> f64 {
        if self.buckets.is_empty() {
            return 0.0;
        }
        let buckets = i64::try_from(self.buckets.len()).unwrap_or(i64::MAX);
        let oldest = self.newest.saturating_sub(buckets.saturating_sub(1));
        let start = oldest.saturating_mul(self.width).max(self.since.as_nanos());
        now.as_nanos().saturating_sub(start).max(0) as f64
    }

    fn is_sound(&self) -> bool {
        let good = |(all, bad): &(f32, f32)| all.is_finite() && (0.0..=*all).contains(bad);
        self.buckets.len() as i64 <= MAX_BUCKETS + 2 && self.buckets.iter().all(good)
    }
}

impl Pool {
    /// Takes in a tick; once there is enough to tell, the observations of the pool, all or none bad.
    fn add(
        &mut self,
        now: Timestamp,
        observations: u64,
        is_bad: bool,
        share: f64,
    ) -> Option<(f64, f64)> {
        // If the target is just kept, so improbable is a value beyond it.
        let n = observations.max(1) as f64;
        let fewest = (share * n).floor() + 1.0;
        let chance = at_least(fewest, n, share).clamp(1e-9, 1.0 - 1e-9);
        self.since.get_or_insert(now);
        self.observations = self.observations.saturating_add(observations.max(1));
        self.bad += f64::from(u8::from(is_bad));
        self.expected += chance;
        self.variance += chance * (1.0 - chance);
        self.all_bad += chance.ln();
        if self.all_bad > ENOUGH.ln() {
            return None;
        }
        let pool = std::mem::take(self);
        let all = pool.observations as f64;
        let excess = pool.bad - 0.5 - pool.expected;
        let is_bad = excess > POOL_SIGMA * pool.variance.sqrt();
        Some((all, if is_bad { all } else { 0.0 }))
    }

    fn is_sound(&self) -> bool {
        [self.bad, self.expected, self.variance, self.all_bad]
            .iter()
            .all(|n| n.is_finite())
    }
}

/// Whether so many bad ones of all prove that more than `share` are.
fn proves((all, bad): (f64, f64), share: f64) -> bool {
    bad >= MIN_FAILURES && share < 1.0 && at_least(bad, all, share) < CHANCE
}

/// Probability of `bad` or more of `all` if each is with probability `share`.
fn at_least(bad: f64, all: f64, share: f64) -> f64 {
    if bad <= 0.0 || share >= 1.0 {
        return 1.0;
    }
    if all > MANY {
        let sigma = (all * share * (1.0 - share)).sqrt();
        let z = (bad - 0.5 - all * share) / sigma.max(f64::MIN_POSITIVE);
        return 0.5 * statrs::function::erf::erfc(z / std::f64::consts::SQRT_2);
    }
    // The tail of the binomial distribution is a regularised incomplete beta function.
    checked_beta_reg(bad, (all - bad).max(0.0) + 1.0, share).unwrap_or(1.0)
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// `0.1 %`.
fn percent(share: f64) -> String {
    // Six digits: what 1 - 0.999 leaves behind them is rounding.
    let rounded = format!("{:.5e}", share * 100.0)
        .parse()
        .unwrap_or(share * 100.0);
    format!("{rounded} %")
}

/// `1h`, `5m`, `1h30m`.
pub(super) fn period(duration: Duration) -> String {
    let mut seconds = duration.as_secs();
    if seconds == 0 {
        return format!("{}ms", duration.as_millis());
    }
    let mut text = String::new();
    for (name, length) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if seconds >= length {
            text.push_str(&format!("{}{name}", seconds / length));
            seconds %= length;
        }
    }
    text
}
