//! When a limit will be reached: for what fills up (memory, disks, pools, queues) or runs out (budgets of
//! tokens, credits, certificates' days).
//!
//! Samples are averaged over a sixtieth of the horizon. Over several spans, from an eighth of the horizon
//! to somewhat more than all of it, the signal is cut into eight blocks of equal length; the seven steps
//! from block to block give the trend, and their spread says how much of it may be chance. Unlike the
//! residuals of a line, these steps also know of walks that go nowhere: for those they spread as widely
//! as they lie. Sigma is that of the trend against the one which reaches the limit at the horizon, by
//! Student's t with six degrees of freedom.
//!
//! What extrapolates badly is held back: a trend that is levelling off continues to do so, and one
//! within a range from which the signal has come back by itself (a heap between two collections, a disk
//! between two clean-ups) is believed only where that range ends.

use std::collections::VecDeque;
use std::mem::size_of;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod returns;

use super::slo::period;
use super::{Detector, Kind, MAX_SIGMA, tail};
use crate::model::{Evidence, ForecastSpec, Judged, Measure, OwnSettings, Rule, Sample, Verdict};
use crate::window::Window;
use returns::Returns;

pub(super) const KIND: Kind = Kind {
    name: "forecast",
    description: "Predicted exhaustion: a value that heads for its limit `upper` or `lower` and will reach it \
                  within `horizon`. A ratio (unit `1` or `%`) without a limit has that of 1 or 100 %. Sigma \
                  says how sure it is that the limit is reached within the horizon, by the spread of the \
                  trend, as that of the normal distribution; from the warning sigma within a quarter of \
                  the horizon it is critical.",
    by_window: false,
    build: |rule, _kind| Ok(Box::new(Forecast::new(rule)?)),
};

/// Points to a horizon.
const POINTS: i64 = 60;
/// Most points that are kept: for the longest span.
const MAX_POINTS: usize = 64;
/// Blocks that a span is cut into.
const BLOCKS: usize = 8;
/// Steps between them, less one for their mean.
const FREEDOM: f64 = (BLOCKS - 2) as f64;
/// One sigma in standard errors, of so few steps: the interval that is told.
const ONE_SIGMA: f64 = 1.0906;
/// Spans, in points.
const SPANS: [usize; 4] = [8, 16, 32, 64];
/// From this part of the horizon it is critical.
const URGENT: f64 = 0.25;
/// A trend goes on if that of every shorter span is at least this share of it.
const GOES_ON: f64 = 0.5;
/// The steps' spread is at least this share of the way to the limit: below, it is rounding.
const LEAST_SPREAD: f64 = 1e-6;
/// What was foreseen stays so for this part of the horizon …
const HELD: f64 = 0.25;
/// … unless the signal has gone back by this share of the way that was left to the limit.
const TURNED_BACK: f64 = 0.15;
/// Longest time that is told, in horizons.
const FAR: f64 = 1000.0;

/// O(1) a sample and some 200 operations a point; 2.2 KB.
struct Forecast {
    upper: Option<f64>,
    lower: Option<f64>,
    /// Whether the limit is the signal's by nature, so that to be beyond it means another nature.
    natural: bool,
    horizon: f64,
    unit: Box<str>,
    warning: f64,
    critical: f64,
    state: State,
    /// What the points say, as long as there is no new one.
    trends: Option<[Option<Trend>; SPANS.len()]>,
}

/// What survives a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    /// (seconds since the epoch, value), the oldest first.
    points: VecDeque<(f64, f64)>,
    open: Option<Open>,
    /// On the way up and on the way down.
    returns: [Returns; 2],
    /// What has been foreseen.
    foreseen: Option<Foreseen>,
}

/// A limit that has been foreseen, and is until there is reason to think otherwise.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Foreseen {
    /// Which way: -1 where values fall to the limit.
    sign: f64,
    /// When it was sure, the last time.
    last: f64,
    /// Where the signal was when it was so first, and how far from the limit.
    level: f64,
    room: f64,
}

/// The point that is being averaged.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Open {
    bucket: i64,
    samples: f64,
    time: f64,
    value: f64,
}

/// The trend over one span.
#[derive(Debug, Clone, Copy)]
struct Trend {
    /// A second.
    slope: f64,
    /// Standard error of it.
    error: f64,
    /// By how much the slope of the second half is that of the first; at most 1.
    damping: f64,
    /// Seconds of half of the span.
    half: f64,
    seconds: f64,
    /// Where the last block was.
    time: f64,
    value: f64,
}

/// What a trend says of a limit.
struct Outlook {
    sigma: f64,
    urgent: f64,
    left: f64,
    soonest: f64,
    latest: f64,
    trend: Trend,
}

impl Forecast {
    fn new(rule: &Rule) -> Result<Self, String> {
        let usual = ForecastSpec::default();
        let spec = match &rule.detector.own {
            OwnSettings::Forecast(spec) => spec,
            OwnSettings::Default | OwnSettings::Slo(_) | OwnSettings::Absence(_) => &usual,
        };
        let (lower, mut upper) = (rule.detector.lower, rule.detector.upper);
        let natural = lower.is_none() && upper.is_none();
        if natural {
            upper = match &*spec.unit {
                "1" => Some(1.0),
                "%" => Some(100.0),
                unit => return Err(format!("a signal in `{unit}` has no limit of its own")),
            };
        }
        let is_number = |bound: Option<f64>| bound.is_none_or(f64::is_finite);
        if !is_number(lower) || !is_number(upper) {
            return Err("a limit is a number".into());
        }
        if let (Some(lower), Some(upper)) = (lower, upper)
            && lower >= upper
        {
            return Err(format!("`lower` must be below `upper`: {lower}, {upper}"));
        }
        let horizon = spec.horizon.as_secs_f64();
        if horizon < 1.0 {
            return Err("the horizon is at least a second".into());
        }
        let warning = rule.sigma.warning.clamp(f64::MIN_POSITIVE, MAX_SIGMA);
        let critical = rule.sigma.critical.unwrap_or(warning * 1.5);
        Ok(Self {
            upper,
            lower,
            natural,
            horizon,
            unit: spec.unit.clone(),
            warning,
            critical: critical.clamp(warning, MAX_SIGMA),
            state: State::default(),
            trends: None,
        })
    }

    /// Takes in a sample; whether a point was completed.
    fn take(&mut self, sample: Sample) -> bool {
        let time = sample.time.as_secs_f64();
        let width = self.horizon / POINTS as f64;
        // Samples are at the end of their tick.
        let bucket = (time / width).ceil() as i64;
        let closes = self.state.open.filter(|open| open.bucket != bucket);
        if let Some(open) = closes {
            self.close(open);
        }
        let open = self.state.open.get_or_insert(Open {
            bucket,
            samples: 0.0,
            time: 0.0,
            value: 0.0,
        });
        open.samples += 1.0;
        // Running means, so that no sum overflows.
        open.time += (time - open.time) / open.samples;
        open.value += sample.value / open.samples - open.value / open.samples;
        closes.is_some()
    }

    fn close(&mut self, open: Open) {
        self.state.open = None;
        let Some(last) = self.state.points.back().copied() else {
            self.state.points.push_back((open.time, open.value));
            return;
        };
        // After a gap as long as a span that can be judged, it is another time.
        if open.time - last.0 > self.horizon / 4.0 && open.time - last.0 > 4.0 * self.distance() {
            self.state.points.clear();
        }
        if self.state.points.len() >= MAX_POINTS {
            self.state.points.pop_front();
        }
        self.state.points.push_back((open.time, open.value));
        let bounds = [self.upper, self.lower.map(|lower| -lower)];
        let width = self.distance();
        for ((way, limit), sign) in self.state.returns.iter_mut().zip(bounds).zip([1.0, -1.0]) {
            if let Some(limit) = limit {
                way.follow(open.time, sign * open.value, limit, width);
            }
        }
    }

    /// Usual distance of two points.
    fn distance(&self) -> f64 {
        match (self.state.points.front(), self.state.points.back()) {
            (Some(first), Some(last)) if self.state.points.len() > 1 => {
                (last.0 - first.0) / (self.state.points.len() - 1) as f64
            }
            _ => f64::INFINITY,
        }
    }

    fn trends(&mut self) -> [Option<Trend>; SPANS.len()] {
        let points = &self.state.points;
        *self
            .trends
            .get_or_insert_with(|| SPANS.map(|span| Trend::of(points, span)))
    }

    /// What the trends say of a limit on one side; `sign` is -1 where values fall to it.
    fn outlook(&mut self, limit: f64, sign: f64, now: f64) -> Option<Outlook> {
        let trends = self
            .trends()
            .map(|trend| trend.map(|trend| trend.turned(sign)));
        let limit = sign * limit;
        // The last point, as the returns are points: a single sample is further out by its noise.
        let value = sign * self.state.points.back().map(|(_, value)| *value)?;
        let side = usize::from(sign < 0.0);
        let way = self.state.returns.get(side).copied().unwrap_or_default();
        if !way.lets(value, limit) {
            return None;
        }
        let mut least = f64::INFINITY;
        let mut best: Option<Outlook> = None;
        let tooth = way.tooth(now, self.horizon);
        for mut trend in trends.into_iter().flatten() {
            if let Some(tooth) = tooth {
                // The trend is that of the signal, and not of one of its teeth, over two of them; by how
                // much it depends on where in a tooth the span begins and ends is taken off.
                if trend.seconds < 2.0 * tooth.rise {
                    continue;
                }
                trend.slope -= 0.5 * tooth.fall / trend.seconds;
            }
            least = least.min(trend.slope);
            if trend.slope <= 0.0 || least < GOES_ON * trend.slope {
                continue;
            }
            let outlook = self.look(trend, limit, now)?;
            if best.as_ref().is_none_or(|best| outlook.sigma > best.sigma) {
                best = Some(outlook);
            }
        }
        best
    }

    fn look(&self, trend: Trend, limit: f64, now: f64) -> Option<Outlook> {
        let level = trend.value + trend.slope * (now - trend.time);
        let room = limit - level;
        if !room.is_finite() {
            return None;
        }
        if room <= 0.0 {
            // The trend has arrived, though the value may not quite have.
            let error = trend.error.max(LEAST_SPREAD * trend.slope);
            let sigma = tail::sigma_of(trend.slope / error, FREEDOM);
            return Some(Outlook {
                sigma,
                urgent: sigma,
                left: 0.0,
                soonest: 0.0,
                latest: 0.0,
                trend,
            });
        }
        let error = trend.error.max(LEAST_SPREAD * room / trend.seconds);
        let sigma = |within: f64| {
            let needed = room / trend.reach(within);
            tail::sigma_of((trend.slope - needed) / error, FREEDOM)
        };
        let at = |slope: f64| trend.time_for(room, slope).min(FAR * self.horizon);
        Some(Outlook {
            sigma: sigma(self.horizon),
            urgent: sigma(self.horizon * URGENT),
            left: at(trend.slope),
            soonest: at(trend.slope + ONE_SIGMA * error),
            latest: at(trend.slope - ONE_SIGMA * error),
            trend,
        })
    }

    /// The sigma that the rule sees: critical only where it is urgent.
    fn size(&self, outlook: &Outlook) -> f64 {
        if outlook.urgent >= self.warning {
            // Beyond the critical threshold by as much as it is beyond the warning.
            return outlook.urgent.max(self.critical).min(MAX_SIGMA);
        }
        let below_critical = self.warning + 0.99 * (self.critical - self.warning);
        outlook.sigma.clamp(0.0, below_critical)
    }

    fn judge(&mut self, sample: Sample) -> Judged {
        let now = sample.time.as_secs_f64();
        let mut worst: Option<(Outlook, f64)> = None;
        let (mut beyond, mut reached) = (false, false);
        for (limit, sign) in [(self.upper, 1.0), (self.lower, -1.0)] {
            let Some(limit) = limit else { continue };
            let is_beyond = |value: f64| sign * value >= sign * limit;
            let last = self
                .state
                .points
                .back()
                .is_some_and(|(_, value)| is_beyond(*value));
            // What was foreseen has come. A limit that a person set is reached without it, too, once
            // it is for more than a moment; a ratio is then no more than busy.
            let counts = self.state.foreseen.is_some() || last && !self.natural;
            reached |= is_beyond(sample.value) && counts;
            beyond |= is_beyond(sample.value);
            if let Some(outlook) = self.outlook(limit, sign, now)
                && worst
                    .as_ref()
                    .is_none_or(|(other, _)| outlook.sigma > other.sigma)
            {
                worst = Some((outlook, sign));
            }
        }
        let far = FAR * self.horizon;
        let points = self.state.points.len();
        let (size, left, channel, spread) = match &worst {
            _ if reached => (self.critical, 0.0, "the limit is reached".to_owned(), 0.0),
            _ if beyond => (0.0, 0.0, "no trend towards the limit".to_owned(), 0.0),
            Some((outlook, sign)) => {
                let size = self.size(outlook);
                let words = if size < self.warning * 0.5 {
                    "a trend that is not sure".to_owned()
                } else {
                    self.words(outlook, *sign)
                };
                (size, outlook.left, words, outlook.trend.error)
            }
            None => (0.0, far, "no trend towards the limit".to_owned(), 0.0),
        };
        let sign = worst.as_ref().map_or(1.0, |(_, sign)| *sign);
        let (size, channel) = self.hold(now, size, sign, channel);
        let size = if size.is_finite() {
            size.clamp(0.0, MAX_SIGMA)
        } else {
            0.0
        };
        let history = match self.state.points.front() {
            Some((first, _)) => (now - first).max(0.0),
            None => 0.0,
        };
        Judged {
            expected: self.horizon,
            lower: self.horizon,
            upper: f64::INFINITY,
            // Less time than there should be.
            sigma: if size == 0.0 { 0.0 } else { -size },
            observed: Some(left.clamp(0.0, far)),
            evidence: Evidence {
                channel: channel.into(),
                samples: u32::try_from(points).unwrap_or(u32::MAX),
                spread: if spread.is_finite() { spread } else { 0.0 },
                measure: Measure::TimeLeft,
                present: Some(sample.value),
                history: Duration::try_from_secs_f64(history).unwrap_or_default(),
                report: size,
                ..Evidence::default()
            },
        }
    }

    /// What has been foreseen stays so between two times at which it is sure, unless the signal turns back:
    /// neither an anomaly nor calm, so that an alert does not come and go with the noise of the trend.
    fn hold(&mut self, now: f64, size: f64, sign: f64, words: String) -> (f64, String) {
        let level = self.state.points.back().map_or(0.0, |(_, value)| *value);
        if size >= self.warning {
            let limit = if sign < 0.0 { self.lower } else { self.upper };
            let new = Foreseen {
                sign,
                last: now,
                level: sign * level,
                room: limit.map_or(0.0, |limit| sign * (limit - level)).max(0.0),
            };
            let known = self.state.foreseen.filter(|known| known.sign == sign);
            self.state.foreseen = Some(known.map_or(new, |known| Foreseen { last: now, ..known }));
            return (size, words);
        }
        let stays = |known: &Foreseen| {
            let turned_back = known.sign * level < known.level - TURNED_BACK * known.room;
            now - known.last < HELD * self.horizon && !turned_back
        };
        self.state.foreseen = self.state.foreseen.filter(stays);
        match self.state.foreseen {
            Some(_) => (
                size.max(self.warning * 0.999),
                "the trend pauses".to_owned(),
            ),
            None => (size, words),
        }
    }

    /// `rising by 1.02 % a minute over the last 16m, to the limit in 24m to 31m`.
    fn words(&self, outlook: &Outlook, sign: f64) -> String {
        let way = if sign > 0.0 { "rising" } else { "falling" };
        let seconds = |seconds: f64| period(Duration::from_secs(coarse(seconds)));
        let slope = self.amount(outlook.trend.slope * 60.0);
        let span = seconds(outlook.trend.seconds);
        let far = outlook.latest >= FAR * self.horizon;
        let interval = if outlook.left <= 0.0 {
            "now".to_owned()
        } else if far {
            format!("in {} or more", seconds(outlook.soonest))
        } else {
            let (from, to) = (seconds(outlook.soonest), seconds(outlook.latest));
            if from == to {
                format!("in {from}")
            } else {
                format!("in {from} to {to}")
            }
        };
        format!("{way} by {slope} a minute over the last {span}, at the limit {interval}")
    }

    fn amount(&self, amount: f64) -> String {
        let (amount, unit) = match &*self.unit {
            "1" => (amount * 100.0, "%"),
            "By" if amount.abs() >= 1e9 => (amount / 1e9, "GB"),
            "By" if amount.abs() >= 1e6 => (amount / 1e6, "MB"),
            "By" if amount.abs() >= 1e3 => (amount / 1e3, "kB"),
            "By" => (amount, "B"),
            unit => (amount, unit.trim_start_matches('{').trim_end_matches('}')),
        };
        let rounded: f64 = format!("{amount:.2e}").parse().unwrap_or(amount);
        if unit.is_empty() {
            rounded.to_string()
        } else {
            format!("{rounded} {unit}")
        }
    }
}

impl Detector for Forecast {
    fn observe(&mut self, sample: Sample, _weight: u64, window: &Window) -> Verdict {
        if self.take(sample) {
            self.trends = None;
        }
        let missing = SPANS
            .first()
            .map_or(0, |least| least.saturating_sub(self.state.points.len()));
        if missing > 0 {
            // About so many samples make a point.
            let a_point = match (window.first(), window.last()) {
                (Some(first), Some(last)) if window.len() > 1 => {
                    let distance = last.time.seconds_since(first) / (window.len() - 1) as f64;
                    (self.horizon / POINTS as f64 / distance.max(1e-3)).clamp(1.0, 1e6)
                }
                _ => 1.0,
            };
            let remaining = (missing as f64 * a_point).ceil() as u32;
            return Verdict::Learning { remaining };
        }
        Verdict::Judged(self.judge(sample))
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
        let sound = |(time, value): &(f64, f64)| time.is_finite() && value.is_finite();
        if state.points.len() > MAX_POINTS || !state.points.iter().all(sound) {
            return Err("these are no points of a trend".into());
        }
        self.state = state;
        self.trends = None;
        Ok(())
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.unit.len() + self.state.points.capacity() * size_of::<(f64, f64)>()
    }
}

impl Trend {
    /// Over the last `span` points.
    fn of(points: &VecDeque<(f64, f64)>, span: usize) -> Option<Self> {
        let begin = points.len().checked_sub(span)?;
        let block = span / BLOCKS;
        let mut centres = [(0.0, 0.0); BLOCKS];
        for (number, centre) in centres.iter_mut().enumerate() {
            let from = begin + number * block;
            for (time, value) in points.range(from..from + block) {
                centre.0 += time / block as f64;
                centre.1 += value / block as f64;
            }
        }
        let mut steps = [0.0; BLOCKS - 1];
        for (step, pair) in steps.iter_mut().zip(centres.windows(2)) {
            if let [a, b] = pair {
                *step = (b.1 - a.1) / (b.0 - a.0).max(1e-9);
            }
        }
        let mean = |steps: &[f64]| steps.iter().sum::<f64>() / steps.len() as f64;
        let spread = |steps: &[f64], mean: f64| -> f64 {
            steps.iter().map(|step| (step - mean).powi(2)).sum::<f64>()
        };
        let slope = mean(&steps);
        let count = steps.len() as f64;
        let variance = spread(&steps, slope) / (count - 1.0);
        // Whether it levels off: the first three steps against the last three.
        let (early, late) = (steps.get(..3)?, steps.get(steps.len() - 3..)?);
        let (first, second) = (mean(early), mean(late));
        let within = (spread(early, first) + spread(late, second)) / 4.0;
        let damping = if slope * first > 0.0 {
            let error = (within * 2.0 / 3.0).sqrt() / first.abs();
            (second / first + error).clamp(0.0, 1.0)
        } else {
            1.0
        };
        let (first, last) = (centres.first()?, centres.last()?);
        let seconds = (last.0 - first.0) * BLOCKS as f64 / (BLOCKS - 1) as f64;
        let numbers = [slope, variance, seconds, last.1];
        numbers.iter().all(|n| n.is_finite()).then_some(Self {
            slope,
            error: (variance / count).sqrt(),
            damping,
            half: seconds / 2.0,
            seconds,
            time: last.0,
            value: last.1,
        })
    }

    fn turned(self, sign: f64) -> Self {
        Self {
            slope: sign * self.slope,
            value: sign * self.value,
            ..self
        }
    }

    /// For how long the slope would have to last to carry as far as it does within `seconds`, losing a
    /// share of itself with each half of the span.
    fn reach(&self, seconds: f64) -> f64 {
        if self.damping >= 1.0 {
            return seconds;
        }
        let rate = -self.damping.max(1e-6).ln() / self.half;
        (1.0 - (-rate * seconds).exp()) / rate
    }

    /// Seconds to climb `room` at `slope`, infinite if it never does.
    fn time_for(&self, room: f64, slope: f64) -> f64 {
        if slope <= 0.0 {
            return f64::INFINITY;
        }
        let straight = room / slope;
        if self.damping >= 1.0 {
            return straight;
        }
        let rate = -self.damping.max(1e-6).ln() / self.half;
        let left = 1.0 - rate * straight;
        if left <= 0.0 {
            f64::INFINITY
        } else {
            -left.ln() / rate
        }
    }
}

/// Whole seconds with two digits, so that an interval reads as the estimate it is.
fn coarse(seconds: f64) -> u64 {
    let unit = match seconds {
        _ if seconds < 120.0 => 1.0,
        _ if seconds < 7_200.0 => 60.0,
        _ if seconds < 172_800.0 => 3_600.0,
        _ => 86_400.0,
    };
    ((seconds / unit).round() * unit) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sigma_is_that_of_students_t() {
        assert!((tail::distance_of(1.0, FREEDOM) - ONE_SIGMA).abs() < 1e-4);
    }
}
