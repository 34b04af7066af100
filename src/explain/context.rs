//! What is known besides an alert, and what of it the alert keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::cause::{Deviations, began, origin};
use super::topology::Topology;
use crate::model::{
    Alert, AlertState, Appeared, Carrier, EdgeView, Labels, Measure, Moved, MovedQuestion,
    Movement, ServiceView, Subject, Timestamp, VersionView,
};

/// Signals that moved, kept with an alert.
const MOST_MOVED: usize = 8;
/// For so many ticks after an alert began to fire it is asked again what moved: some signals come more
/// rarely than others.
const FRESH_TICKS: u32 = 4;
/// Services asked about because of alerts of their own, and in all with those that they call.
const MOST_ALERTED: usize = 32;
const MOST_ASKED: usize = 96;
/// Calls are followed over at most so many services in a row.
const MOST_HOPS: usize = 4;
/// A version that appeared longer before than this has been running well for a while.
const SHORTLY: Duration = Duration::from_mins(15);

/// What is known besides the alerts themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// All alerts, resolved ones among them or not.
    pub alerts: &'a [Arc<Alert>],
    /// Who calls whom.
    pub edges: &'a [EdgeView],
    /// All services.
    pub services: &'a [ServiceView],
    /// Answers to [`questions`].
    pub movements: &'a [Movement],
    /// Length of a tick: within so much time cause and effect may appear in either order.
    pub tick: Duration,
}

/// What the engine is to be asked at `now`: about the services of alerts that have just begun, and about
/// those that they call, the nearest first; at most 96.
pub fn questions(facts: Facts<'_>, now: Timestamp) -> Vec<MovedQuestion> {
    let topology = Topology::new(facts.edges);
    let mut asked: BTreeMap<&str, MovedQuestion> = BTreeMap::new();
    let fresh = |alert: &&Arc<Alert>| {
        let began = match alert.state {
            AlertState::Resolved => return false,
            AlertState::Pending => alert.since,
            AlertState::Firing => alert.fired_at.unwrap_or(alert.since),
        };
        now.since(began) <= facts.tick.saturating_mul(FRESH_TICKS)
    };
    // Firing alerts first: where there are too many, the others wait until they fire.
    let mut alerts: Vec<_> = facts.alerts.iter().filter(fresh).collect();
    alerts.sort_by_key(|alert| {
        (
            alert.state != AlertState::Firing,
            alert.since,
            alert.fingerprint,
        )
    });
    for alert in alerts {
        if asked.len() >= MOST_ALERTED && !asked.contains_key(alert.service.as_str()) {
            continue;
        }
        let question = asked
            .entry(&alert.service)
            .or_insert_with(|| MovedQuestion {
                service: alert.service.clone(),
                since: began(alert),
                subjects: Vec::new(),
            });
        question.since = question.since.min(began(alert));
        question.subjects.extend(subject(alert));
    }
    // Whether a service is silent because nobody calls it, its callers show.
    let silent: Vec<&str> = facts
        .alerts
        .iter()
        .filter(|alert| fresh(alert) && alert.grounds.measure == Measure::Silence)
        .map(|alert| alert.service.as_str())
        .collect();
    for service in silent {
        let Some(since) = asked.get(service).map(|question| question.since) else {
            continue;
        };
        for caller in topology.callers(service) {
            if asked.len() < MOST_ASKED {
                asked.entry(caller).or_insert_with(|| MovedQuestion {
                    service: caller.to_owned(),
                    since,
                    subjects: Vec::new(),
                });
            }
        }
    }
    let mut hop: Vec<(&str, Timestamp)> = asked
        .iter()
        .map(|(service, question)| (*service, question.since))
        .collect();
    let mut seen: BTreeSet<&str> = asked.keys().copied().collect();
    let mut callees = Vec::new();
    for _ in 0..MOST_HOPS {
        let mut next = Vec::new();
        for (service, since) in hop {
            for callee in topology.callees(service) {
                if seen.len() < MOST_ASKED && seen.insert(callee) {
                    next.push((callee, since));
                }
            }
        }
        callees.extend(next.iter().map(|(callee, since)| MovedQuestion {
            service: (*callee).to_owned(),
            since: *since,
            subjects: Vec::new(),
        }));
        hop = next;
    }
    asked.into_values().chain(callees).collect()
}

/// Whose siblings are to be compared; `None` where there is nothing to compare.
fn subject(alert: &Alert) -> Option<Subject> {
    let above = match alert.grounds.measure {
        Measure::Silence => return None,
        Measure::BurnRate => true,
        // Less time is left because something grows, as a rule.
        Measure::TimeLeft => !alert
            .annotations
            .get("baseline")
            .is_some_and(|words| words.starts_with("falling")),
        Measure::Value => alert.sigma > 0.0,
    };
    Some(Subject {
        signal_id: alert.signal_id.clone(),
        metric: alert.labels.get("metric")?.to_owned(),
        above,
    })
}

/// What is known besides the alert. Made once for all alerts of a tick.
#[derive(Debug, Clone, Default)]
pub(super) struct Context {
    pub(super) topology: Topology,
    pub(super) deviations: Deviations,
    movements: BTreeMap<String, Movement>,
    /// Of each service those that appeared.
    versions: BTreeMap<String, Vec<VersionView>>,
    pub(super) tick: Duration,
}

impl Context {
    pub(super) fn new(facts: Facts<'_>) -> Self {
        let appeared = |service: &ServiceView| {
            let versions = service.versions.iter().filter(|version| version.appeared);
            let versions: Vec<_> = versions.cloned().collect();
            (!versions.is_empty()).then(|| (service.service.clone(), versions))
        };
        let movements = facts.movements.iter();
        let topology = Topology::new(facts.edges);
        Self {
            deviations: Deviations::new(facts.alerts, facts.movements, &topology, facts.tick),
            topology,
            movements: movements.map(|m| (m.service.clone(), m.clone())).collect(),
            versions: facts.services.iter().filter_map(appeared).collect(),
            tick: facts.tick,
        }
    }

    /// Notes in the alert what is known at this time of its surroundings. Of a resolved alert what was
    /// known last stays.
    pub(super) fn ground(&self, alert: &mut Alert) {
        if alert.state == AlertState::Resolved {
            return;
        }
        alert.grounds.uncalled_by = self.deviations.uncalled_by(alert).to_vec();
        alert.grounds.origin = origin(alert, &self.topology, &self.deviations, self.tick);
        if let Some(movement) = self.movements.get(&alert.service) {
            let known = std::mem::take(&mut alert.grounds.moved);
            alert.grounds.moved = moved(known, movement, alert);
            if let Some(carriers) = movement.carriers.get(&alert.signal_id) {
                let told = carriers
                    .iter()
                    .filter(|carrier| !says_nothing(carrier, alert));
                alert.grounds.carriers = told.cloned().collect();
            }
        }
        let origin = alert.grounds.origin.as_ref();
        let origin = origin.and_then(|origin| self.appeared(origin.service(), alert));
        let version = origin.or_else(|| self.appeared(&alert.service, alert));
        if version.is_some() {
            alert.grounds.version = version;
        }
    }

    /// The newest version of `service` that appeared shortly before the alert.
    fn appeared(&self, service: &str, alert: &Alert) -> Option<Appeared> {
        let latest = alert.onset().plus(self.tick);
        let versions = self.versions.get(service)?.iter();
        let version = versions
            .filter(|v| v.first_seen <= latest && latest.since(v.first_seen) <= SHORTLY)
            .max_by_key(|version| version.first_seen)?;
        Some(Appeared {
            service: service.to_owned(),
            version: version.version.clone(),
            first_seen: version.first_seen,
        })
    }
}

/// The signals besides the alert's own that moved most, the first first: `known` ones and those of an
/// answer that came later. What moved at first may have come back by then.
fn moved(known: Vec<Moved>, movement: &Movement, alert: &Alert) -> Vec<Moved> {
    let mut moved = known;
    for new in movement.moved.iter().filter(|moved| !is_own(moved, alert)) {
        let same = |old: &&mut Moved| {
            let names = |m: &Moved| (m.metric.clone(), family(&m.signal).to_owned());
            names(old) == names(new) && old.attributes == new.attributes
        };
        match moved.iter_mut().find(same) {
            Some(old) => {
                let since = old.since.min(new.since);
                if new.sigma.abs() > old.sigma.abs() {
                    *old = new.clone();
                }
                old.since = since;
            }
            None => moved.push(new.clone()),
        }
    }
    moved.sort_by(|a, b| {
        let size = |m: &Moved| m.sigma.abs().min(38.0);
        let change = |m: &Moved| m.change().map_or(f64::INFINITY, f64::abs);
        size(b)
            .total_cmp(&size(a))
            .then(change(b).total_cmp(&change(a)))
    });
    moved.truncate(MOST_MOVED);
    moved.sort_by_key(|moved| moved.since);
    moved
}

/// Whether a carrier is the kind of a span, which follows from what the span is, or a label of the alert
/// itself of which there is but one other value.
fn says_nothing(carrier: &Carrier, alert: &Alert) -> bool {
    if carrier.attribute == "span.kind" {
        return true;
    }
    let [value] = carrier.values.as_slice() else {
        return false;
    };
    carrier.of < 3 && alert.labels.get(&Labels::name_from(&carrier.attribute)) == Some(value)
}

/// Percentiles and means of one thing are one number to a person.
fn family(signal: &str) -> &str {
    match signal {
        "value" | "rate" | "error_ratio" => signal,
        _ => "distribution",
    }
}

/// Whether it is the alert's own number, or another percentile of it.
fn is_own(moved: &Moved, alert: &Alert) -> bool {
    let label = |name: &str| alert.labels.get(name).unwrap_or_default();
    moved.signal_id == alert.signal_id
        || moved.metric == label("metric")
            && family(&moved.signal) == family(label("signal"))
            && moved
                .attributes
                .iter()
                .all(|(key, value)| alert.labels.get(&Labels::name_from(key)) == Some(value))
}

/// Whether a signal that moved makes its service one that is in trouble: it is slow or fails, and that
/// is not merely what its callers see.
pub(super) fn is_trouble(moved: &Moved) -> bool {
    let worse = moved.value > moved.usual;
    let is_time = matches!(
        super::quantity::Style::of(&moved.unit),
        super::quantity::Style::Time(_)
    );
    worse
        && match moved.signal.as_str() {
            "error_ratio" => true,
            "rate" | "value" => false,
            _ => is_time,
        }
}
