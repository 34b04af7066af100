//! Services as a whole: whether they are heard at all.
//!
//! A rule about silence that selects whole services watches one pulse each and none of their signals, so
//! that a service that dies is one alert. Silence is counted only while others are heard: what silences
//! everybody at once (a collector that restarts, a clock that jumps, we ourselves) is no service's silence.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::signal::report;
use super::watch::Watch;
use crate::detect;
use crate::model::{
    AttributeValue, Attributes, Instrument, LabelSource, MetricKind, Observation, Resource, Rule,
    RuleId, Sample, Scope, SeriesIdentity, SignalId, SignalKind, SignalMeta, Timestamp, WindowSpec,
};
use crate::window::Window;

/// What stands for all that a service sends, in the place of a metric's name. There is no series of it.
pub const TELEMETRY: &str = "telemetry";
/// Gaps between ticks with data that are remembered.
const GAPS: usize = 32;
/// A gap of so many usual ones is an outage of everything.
const OUTAGE: u32 = 3;

/// All services and what is known of silence.
#[derive(Default)]
pub(super) struct Pulses {
    services: BTreeMap<Arc<str>, Pulse>,
    /// End of the last tick, and of the last one in which anybody was heard.
    closed: Option<Timestamp>,
    heard: Option<Timestamp>,
    /// How far apart ticks with data lie.
    gaps: VecDeque<Duration>,
}

/// One service.
struct Pulse {
    meta: SignalMeta,
    /// The newest sample, for the detectors.
    window: Window,
    watches: Vec<Watch>,
}

/// What one tick says of the services.
#[derive(Default)]
pub(super) struct Beat {
    pub(super) observations: Vec<Observation>,
    /// Services that have left.
    pub(super) ended: Vec<SignalId>,
}

/// A pulse as it is saved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PulseRecord {
    service: Arc<str>,
    last: Option<Sample>,
    watches: Vec<SavedWatch>,
}

/// A watch is found again by its rule's name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct SavedWatch {
    alert: String,
    saved: Vec<u8>,
    hot: u32,
}

/// A service as selectors see it.
struct Whole<'a>(&'a str);

impl LabelSource for Whole<'_> {
    fn label(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "service" => Some(Cow::Borrowed(self.0)),
            "metric" => Some(Cow::Borrowed(TELEMETRY)),
            "signal" => Some(SignalKind::Value.name()),
            _ => None,
        }
    }
}

/// Whether `rule` watches `service` as a whole: it is about silence, and selects no signals of it.
pub(super) fn watches_service(rule: &Rule, service: &str) -> bool {
    detect::hears_silence(rule) && rule.selector.matches(&Whole(service))
}

impl Pulses {
    /// Whether there is anything to do in a tick.
    pub(super) fn are_needed(plan: &Plan) -> bool {
        plan.rules.iter().any(detect::hears_silence)
    }

    /// Whether a rule hears the silence of single signals, and not of whole services alone.
    pub(super) fn leave_some(plan: &Plan) -> bool {
        let mut rules = plan.rules.iter();
        rules.any(|rule| detect::hears_silence(rule) && rule.selector.names().next().is_some())
    }

    /// Closes the tick that ends at `boundary`, in which some of the `services` were heard. For how long
    /// the others could have been: `None` says that nobody was.
    pub(super) fn listen(
        &mut self,
        boundary: Timestamp,
        services: &[(Arc<str>, bool)],
        tick: Duration,
    ) -> Option<Duration> {
        let before = self.closed.replace(boundary).unwrap_or(boundary);
        // Of one service alone nobody can tell whether it is silent or everything is.
        if let [_] = services {
            self.heard = Some(boundary);
            return Some(boundary.since(before).min(tick));
        }
        if !services.iter().any(|(_, heard)| *heard) {
            return None;
        }
        let Some(heard) = self.heard.replace(boundary) else {
            return Some(tick);
        };
        let gap = boundary.since(heard);
        let ordinary = self.usual_gap().max(tick).saturating_mul(OUTAGE);
        if self.gaps.len() >= GAPS {
            self.gaps.pop_front();
        }
        self.gaps.push_back(gap);
        Some(if gap > ordinary { tick } else { gap })
    }

    /// The ninth of ten gaps.
    fn usual_gap(&self) -> Duration {
        let mut sorted: Vec<_> = self.gaps.iter().copied().collect();
        sorted.sort_unstable();
        let at = (sorted.len() * 9).div_ceil(10).saturating_sub(1);
        sorted.get(at).copied().unwrap_or_default()
    }

    /// What the tick means to the rules; `listened` is the answer of [`Pulses::listen`].
    pub(super) fn beat(
        &mut self,
        boundary: Timestamp,
        services: &[(Arc<str>, bool)],
        listened: Option<Duration>,
        plan: &Plan,
    ) -> Beat {
        let mut beat = Beat::default();
        // Mostly nobody has come or gone. Both are in order of the name.
        let names = services.iter().map(|(service, _)| service);
        if !names.eq(self.services.keys()) {
            let mut before = std::mem::take(&mut self.services);
            for (service, _) in services {
                let pulse = before.remove(service);
                let pulse = pulse.unwrap_or_else(|| Pulse::new(service, plan));
                self.services.insert(Arc::clone(service), pulse);
            }
            beat.ended = before.into_values().map(|pulse| pulse.meta.id).collect();
        }
        for (pulse, (_, heard)) in self.services.values_mut().zip(services) {
            if *heard {
                pulse.hear(boundary, plan, &mut beat.observations);
            } else if let Some(listened) = listened {
                pulse.miss(boundary, listened, plan, &mut beat.observations);
            }
        }
        beat
    }

    /// Tells the detectors of the service that `signal` stands for that its silence is normal; `None`: it
    /// stands for none.
    pub(super) fn accept(&mut self, signal: SignalId, since: Timestamp) -> Option<Vec<RuleId>> {
        let mut pulses = self.services.values_mut();
        let pulse = pulses.find(|pulse| pulse.meta.id == signal)?;
        let watches = pulse.watches.iter_mut();
        let taken = watches.filter_map(|watch| {
            let taken = watch.accept(since, &pulse.window);
            taken.then_some(RuleId(watch.rule))
        });
        Some(taken.collect())
    }

    /// Whether there is nobody.
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// What is to be saved.
    pub(super) fn save(&self, plan: &Plan) -> Vec<PulseRecord> {
        let watch = |watch: &Watch| {
            let rule = plan.rules.get(watch.rule as usize)?;
            Some(SavedWatch {
                alert: rule.alert.clone(),
                saved: watch.save(),
                hot: watch.hot,
            })
        };
        let pulses = self.services.iter();
        pulses
            .map(|(service, pulse)| PulseRecord {
                service: Arc::clone(service),
                last: pulse.window.last(),
                watches: pulse.watches.iter().filter_map(watch).collect(),
            })
            .collect()
    }

    /// Takes back what was saved.
    pub(super) fn restore(&mut self, records: Vec<PulseRecord>, plan: &Plan) {
        for record in records {
            let mut pulse = Pulse::new(&record.service, plan);
            if let Some(last) = record.last {
                pulse.window.push(last);
            }
            for watch in &mut pulse.watches {
                let Some(rule) = plan.rules.get(watch.rule as usize) else {
                    continue;
                };
                if let Some(saved) = record
                    .watches
                    .iter()
                    .find(|saved| saved.alert == rule.alert)
                {
                    let kind = SignalKind::Value;
                    watch.restore(rule, kind, "", &saved.saved, None, saved.hot);
                }
            }
            self.services.insert(record.service, pulse);
        }
    }
}

impl Pulse {
    fn new(service: &Arc<str>, plan: &Plan) -> Self {
        let name = AttributeValue::from(&**service);
        let identity = SeriesIdentity {
            resource: Arc::new(Resource {
                service: Arc::clone(service),
                attributes: Attributes::from_pairs([("service.name".into(), name)]),
            }),
            instrument: Arc::new(Instrument {
                scope: Arc::new(Scope::default()),
                metric: TELEMETRY.into(),
                unit: "".into(),
                kind: MetricKind::Gauge,
            }),
            attributes: Attributes::default(),
        };
        let spec = WindowSpec::Samples(2);
        let window = Window::brief(spec);
        let watches = (0..)
            .zip(plan.rules.iter())
            .filter(|(_, rule)| watches_service(rule, service))
            .filter_map(|(index, rule)| {
                Watch::new(index, rule, SignalKind::Value, "", spec, &window)
            })
            .collect();
        Self {
            meta: SignalMeta {
                id: SignalId {
                    series: identity.id(),
                    kind: SignalKind::Value,
                },
                identity: Arc::new(identity),
            },
            window,
            watches,
        }
    }

    fn hear(&mut self, boundary: Timestamp, plan: &Plan, out: &mut Vec<Observation>) {
        let sample = Sample {
            time: boundary,
            value: 1.0,
        };
        for watch in &mut self.watches {
            if let Some(rule) = plan.rules.get(watch.rule as usize)
                && let Some(verdict) = watch.judge(sample, 1, &self.window)
            {
                let outcome = watch.conclude(rule, sample, verdict);
                report(&outcome, watch.rule, || self.meta.clone(), None, plan, out);
            }
        }
        self.window.push(sample);
    }

    fn miss(
        &mut self,
        boundary: Timestamp,
        listened: Duration,
        plan: &Plan,
        out: &mut Vec<Observation>,
    ) {
        for watch in &mut self.watches {
            if let Some(rule) = plan.rules.get(watch.rule as usize)
                && let Some(outcome) = watch.silent(rule, boundary, listened, &self.window)
            {
                report(&outcome, watch.rule, || self.meta.clone(), None, plan, out);
            }
        }
    }
}
