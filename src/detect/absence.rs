//! Silence: a signal, or a service as a whole, that is not heard any more.
//!
//! How long silence is ordinary is learned from the intervals before: five times the ninth of ten, so that
//! neither a lost export nor the pauses of irregular traffic count. Only time in which others were heard
//! counts as silence; a collector that restarts silences everybody at once and says nothing of any one.

use std::mem::size_of;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Detector, Kind, MAX_SIGMA};
use crate::model::{
    AbsenceSpec, Evidence, Judged, Measure, OwnSettings, Rule, Sample, Timestamp, Verdict,
};
use crate::window::Window;

pub(super) const KIND: Kind = Kind {
    name: "absence",
    description: "A signal that stops, or a service from which nothing comes any more. Learns the usual \
                  interval between samples and fires after five times the ninth of ten such intervals, at \
                  least a minute, and later where they vary so much that chance may do it; or `after` a fixed time. The warning sigma is reached exactly then, the \
                  critical one at three times that.",
    build: |rule, _kind| Ok(Box::new(Absence::new(rule))),
};

/// Intervals that are remembered.
const INTERVALS: usize = 32;
/// So many of the usual interval are silence.
const TIMES: f64 = 5.0;
/// So many mean intervals without anything are no chance: between requests that do not know of each other
/// 12.2 are as rare as four sigma if the mean was estimated from 32 (Lomax's distribution), and without the
/// longest of these the mean looks an eighth smaller.
const BY_CHANCE: f64 = 14.0;
/// Intervals whose standard deviation is more than this share of their mean are such: it would be all of
/// it, and is a third where every other tick has a sample.
const IRREGULAR: f64 = 0.4;
/// Shorter silence is a hiccup of a client or the network.
const LEAST: f64 = 60.0;
/// The signal must have been there for so many times as long as the silence that would be told: what
/// was there for a moment (a job, a test) may go.
const KNOWN: f64 = 5.0;
/// Times the silence told at which it is critical.
const CRITICAL: f64 = 3.0;

/// O(1) a sample; 250 bytes.
struct Absence {
    after: Option<f64>,
    min_samples: u32,
    warning: f64,
    critical: f64,
    state: State,
}

/// What survives a restart.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct State {
    /// Seconds between two samples, the last ones in a ring.
    intervals: Vec<f32>,
    next: u8,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    samples: u32,
    /// Seconds of silence in which others were heard.
    silent: f64,
}

impl Absence {
    fn new(rule: &Rule) -> Self {
        let spec = match &rule.detector.own {
            OwnSettings::Absence(spec) => *spec,
            OwnSettings::Default | OwnSettings::Slo(_) | OwnSettings::Forecast(_) => {
                AbsenceSpec::default()
            }
        };
        let warning = rule.sigma.warning.clamp(f64::MIN_POSITIVE, MAX_SIGMA);
        let critical = rule.sigma.critical.unwrap_or(warning * CRITICAL);
        Self {
            after: spec.after.map(|after| after.as_secs_f64().max(1e-3)),
            min_samples: rule.min_samples.max(2),
            warning,
            critical: critical.clamp(warning, MAX_SIGMA),
            state: State::default(),
        }
    }

    /// The ninth of ten intervals, in seconds.
    fn usual(&self) -> f64 {
        let mut sorted = self.state.intervals.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let at = (sorted.len() * 9).div_ceil(10).saturating_sub(1);
        sorted.get(at).copied().map_or(0.0, f64::from)
    }

    /// From which silence on there is something to tell.
    fn limit(&self) -> f64 {
        self.after.unwrap_or_else(|| {
            let usual = TIMES * self.usual();
            usual.max(self.by_chance()).max(LEAST)
        })
    }

    /// How long it may well be silent by chance, where the intervals vary; the longest of them, which may
    /// have been such a silence, does not count.
    fn by_chance(&self) -> f64 {
        let all = self.state.intervals.iter().map(|one| f64::from(*one));
        let longest = all.clone().fold(0.0, f64::max);
        let count = (all.clone().count().max(2) - 1) as f64;
        let mean = (all.clone().sum::<f64>() - longest) / count;
        let squares: f64 = all.map(|one| (one - mean).powi(2)).sum();
        let variance = (squares - (longest - mean).powi(2)).max(0.0) / count;
        if variance.sqrt() > IRREGULAR * mean {
            BY_CHANCE * mean
        } else {
            0.0
        }
    }

    /// How many samples are missing until silence can be told.
    fn missing(&self, limit: f64) -> u32 {
        if self.after.is_some() {
            return 0;
        }
        let few = self.min_samples.saturating_sub(self.state.samples);
        let known = match (self.state.first, self.state.last) {
            (Some(first), Some(last)) => last.seconds_since(first),
            _ => 0.0,
        };
        let short = (KNOWN * limit - known) / self.usual().max(1e-3);
        few.max(short.ceil().clamp(0.0, 1e6) as u32)
    }

    fn judged(&self, limit: f64) -> Judged {
        let silent = self.state.silent;
        let ratio = silent / limit;
        let sigma = if ratio < 1.0 {
            self.warning * ratio
        } else {
            let way = (ratio - 1.0) / (CRITICAL - 1.0);
            self.warning + way * (self.critical - self.warning)
        };
        let sigma = sigma.clamp(0.0, MAX_SIGMA);
        let usual = self.usual();
        let history = match (self.state.first, self.state.last) {
            (Some(first), Some(last)) => last.since(first),
            _ => Duration::ZERO,
        };
        Judged {
            expected: usual,
            lower: 0.0,
            upper: limit.max(usual),
            sigma,
            observed: Some(silent),
            evidence: Evidence {
                channel: if self.after.is_some() {
                    "a fixed time of silence".into()
                } else {
                    "the usual interval between samples".into()
                },
                samples: self.state.samples,
                spread: 0.0,
                measure: Measure::Silence,
                history,
                report: sigma,
                ..Evidence::default()
            },
        }
    }
}

impl Detector for Absence {
    fn observe(&mut self, sample: Sample, _weight: u64, _window: &Window) -> Verdict {
        let state = &mut self.state;
        if let Some(last) = state.last {
            let interval = sample.time.seconds_since(last).clamp(0.0, 1e9) as f32;
            match state.intervals.get_mut(usize::from(state.next)) {
                Some(oldest) => *oldest = interval,
                None => state.intervals.push(interval),
            }
            state.next = (state.next + 1) % INTERVALS as u8;
        }
        state.first.get_or_insert(sample.time);
        state.last = Some(sample.time);
        state.samples = state.samples.saturating_add(1);
        state.silent = 0.0;
        let limit = self.limit();
        match self.missing(limit) {
            0 => Verdict::Judged(self.judged(limit)),
            remaining => Verdict::Learning { remaining },
        }
    }

    fn silent(
        &mut self,
        _boundary: Timestamp,
        listened: Duration,
        _window: &Window,
    ) -> Option<Judged> {
        self.state.silent = (self.state.silent + listened.as_secs_f64()).min(1e9);
        let limit = self.limit();
        (self.missing(limit) == 0).then(|| self.judged(limit))
    }

    fn save(&self) -> Vec<u8> {
        // Numbers and a list of them: nothing that cannot be written.
        postcard::to_allocvec(&self.state).unwrap_or_default()
    }

    fn restore(&mut self, saved: &[u8]) -> Result<(), String> {
        if saved.is_empty() {
            return Ok(());
        }
        let state: State = postcard::from_bytes(saved).map_err(|error| error.to_string())?;
        let (next, count) = (usize::from(state.next), state.intervals.len());
        let sound = (next == count || count == INTERVALS && next < INTERVALS)
            && next < INTERVALS
            && state
                .intervals
                .iter()
                .all(|interval| (0.0..=1e9).contains(interval))
            && (0.0..=1e9).contains(&state.silent);
        if !sound {
            return Err("these are no intervals".into());
        }
        self.state = state;
        Ok(())
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.state.intervals.capacity() * size_of::<f32>()
    }
}
