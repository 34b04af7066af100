//! Silence: a signal, or a service as a whole, that is not heard any more.
//!
//! How long silence is ordinary is learned from the intervals before: five times the ninth of ten, and for
//! irregular traffic five times as much again as that is beyond the median one. Requests at random make
//! that some nineteen of their mean interval, which chance does once in a million times. Only time in which others were heard
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
                  interval between samples and fires after five times the ninth of ten such intervals (more \
                  where they are irregular), at least a minute; or `after` a fixed time. The warning sigma is reached exactly then, the \
                  critical one at three times that.",
    by_window: false,
    build: |rule, _kind| Ok(Box::new(Absence::new(rule))),
};

/// Intervals that are remembered.
const INTERVALS: usize = 64;
/// So many of the usual interval are silence.
const TIMES: f64 = 5.0;
/// Shorter silence is a hiccup of a client or the network.
const LEAST: f64 = 60.0;
/// The signal must have been there for so many times as long as the silence that would be told: what
/// was there for a moment (a job, a test) may go.
const KNOWN: f64 = 5.0;
/// Times the silence told at which it is critical.
const CRITICAL: f64 = 3.0;

/// O(1) a sample where the interval is the one it was 64 samples ago, as clocks have it; else
/// O(intervals). 470 bytes.
struct Absence {
    after: Option<f64>,
    min_samples: u32,
    warning: f64,
    critical: f64,
    state: State,
    /// The median and the ninth of ten intervals, in seconds.
    usual: (f64, f64),
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
            usual: (0.0, 0.0),
        }
    }

    /// Works out what is usual anew.
    fn usual(intervals: &[f32]) -> (f64, f64) {
        let mut sorted = intervals.to_vec();
        sorted.sort_unstable_by(f32::total_cmp);
        let at = |tenths: usize| {
            let rank = (sorted.len() * tenths).div_ceil(10).saturating_sub(1);
            sorted.get(rank).copied().map_or(0.0, f64::from)
        };
        (at(5), at(9))
    }

    /// From which silence on there is something to tell.
    fn limit(&self) -> f64 {
        let learned = || {
            let (median, long) = self.usual;
            (TIMES * (long + (long - median))).max(LEAST)
        };
        self.after.unwrap_or_else(learned)
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
        let short = (KNOWN * limit - known) / self.usual.1.max(1e-3);
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
        let (usual, _) = self.usual;
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
            let before = state.intervals.get_mut(usize::from(state.next));
            let changed = before.as_deref() != Some(&interval);
            match before {
                Some(oldest) => *oldest = interval,
                None => {
                    let room = INTERVALS.saturating_sub(state.intervals.len());
                    state.intervals.reserve_exact(room);
                    state.intervals.push(interval);
                }
            }
            state.next = (state.next + 1) % INTERVALS as u8;
            if changed {
                self.usual = Self::usual(&state.intervals);
            }
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

    fn accept(&mut self, _since: Timestamp, _window: &Window) -> bool {
        if self.after.is_some() {
            return false;
        }
        // Nothing is expected of it until it has been heard for a while again.
        (self.state, self.usual) = (State::default(), (0.0, 0.0));
        true
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
        let sound = next < INTERVALS
            && (next == count || count == INTERVALS)
            && state
                .intervals
                .iter()
                .all(|interval| (0.0..=1e9).contains(interval))
            && (0.0..=1e9).contains(&state.silent);
        if !sound {
            return Err("these are no intervals".into());
        }
        self.usual = Self::usual(&state.intervals);
        self.state = state;
        Ok(())
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.state.intervals.capacity() * size_of::<f32>()
    }
}
