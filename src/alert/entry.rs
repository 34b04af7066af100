//! One alert with the episodes that keep it alive.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::episode::Episode;
use super::template::Texts;
use crate::model::{
    Alert, AlertState, Fingerprint, Labels, Observation, Rule, RuleId, SeverityLabel, SignalId,
};

/// One rule on one signal. The signal stands first so that all rules on it are neighbours.
pub(super) type Key = (SignalId, RuleId);

/// A pending or firing alert with everything that keeps it so.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) alert: Arc<Alert>,
    /// Never empty between steps. More than one where several series have the same labels.
    pub(super) episodes: BTreeMap<Key, Episode>,
}

impl Entry {
    /// The alert as it is before the first sample, which is `observation`, is counted.
    pub(super) fn new(
        fingerprint: Fingerprint,
        labels: Labels,
        severity: SeverityLabel,
        observation: &Observation,
    ) -> Self {
        let Observation { signal, sample, .. } = observation;
        let alert = Alert {
            fingerprint,
            labels,
            annotations: Labels::default(),
            state: AlertState::Pending,
            severity,
            severity_score: 0.0,
            service: signal.service().to_owned(),
            signal_id: signal.id.to_string(),
            unit: signal.unit().into_owned(),
            observed: 0.0,
            expected: 0.0,
            lower: f64::NEG_INFINITY,
            upper: f64::INFINITY,
            sigma: 0.0,
            worst_sigma: 0.0,
            anomalous_samples: 0,
            since: sample.time,
            fired_at: None,
            resolved_at: None,
            updated_at: sample.time,
            trace_id: None,
            grounds: Default::default(),
        };
        Self {
            alert: Arc::new(alert),
            episodes: BTreeMap::new(),
        }
    }

    /// The episode whose numbers the alert shows: the worst, firing ones before pending ones.
    pub(super) fn lead(&self) -> Option<Key> {
        let rank = |episode: &Episode| (episode.phase, episode.score);
        let mut lead: Option<(&Key, &Episode)> = None;
        for (key, episode) in &self.episodes {
            // Of equals the first stays, so the choice does not depend on who spoke last.
            if lead.is_none_or(|(_, best)| rank(episode) > rank(best)) {
                lead = Some((key, episode));
            }
        }
        lead.map(|(key, _)| *key)
    }

    /// Brings the alert's numbers up to date with what the episode of `key` has just counted. When the
    /// leading episode ends, the numbers stay until the next one to lead has an anomalous sample.
    pub(super) fn update(
        &mut self,
        key: Key,
        rule: &Rule,
        observation: &Observation,
        texts: &Texts,
    ) {
        let lead = self.lead();
        let alert = Arc::make_mut(&mut self.alert);
        alert.updated_at = alert.updated_at.max(observation.sample.time);
        let (Some(severity), Some(episode)) = (observation.anomaly, self.episodes.get(&key)) else {
            if alert.state == AlertState::Pending && lead == Some(key) {
                alert.grounds.onset = None;
            }
            return;
        };
        // Severity only rises within an episode.
        if severity > alert.severity {
            alert.severity = severity;
            alert.labels.set("severity", severity.name());
        }
        let judged = &observation.judged;
        let sigma = finite(judged.sigma);
        alert.severity_score = alert.severity_score.max(episode.score);
        if rule.direction.size(sigma) >= rule.direction.size(alert.worst_sigma) {
            alert.worst_sigma = sigma;
        }
        if let Some(trace) = observation.exemplar {
            alert.trace_id = Some(format!("{trace:032x}"));
        }
        if lead != Some(key) {
            return;
        }
        let or = |end: f64, open: f64| if end.is_nan() { open } else { end };
        alert.signal_id = observation.signal.id.to_string();
        let own = observation.signal.unit();
        (alert.unit, alert.grounds.signal_unit) = match judged.evidence.measure.unit() {
            Some(unit) => (unit.to_owned(), own.into_owned()),
            None => (own.into_owned(), String::new()),
        };
        alert.observed = finite(observation.sample.value);
        alert.expected = finite(judged.expected);
        alert.lower = or(judged.lower, f64::NEG_INFINITY);
        alert.upper = or(judged.upper, f64::INFINITY);
        alert.sigma = sigma;
        alert.anomalous_samples = episode.anomalous_samples;
        alert
            .grounds
            .note(observation.sample.time, alert.observed, judged);
        if alert.state == AlertState::Pending {
            alert.grounds.onset.get_or_insert(observation.sample.time);
        }
        alert
            .annotations
            .set("baseline", judged.evidence.channel.as_ref());
        for (name, text) in texts.annotations(observation, alert.severity, &alert.labels) {
            alert.annotations.set(name, text);
        }
    }

    /// With `observation` what is normal became another level than `before`.
    pub(super) fn relevelled(&mut self, key: Key, before: f64, observation: &Observation) {
        if self.lead() != Some(key) {
            return;
        }
        let alert = Arc::make_mut(&mut self.alert);
        let (value, expected) = (observation.sample.value, observation.judged.expected);
        // Whether a detector says what it expects from now on or what it did expect is its own.
        let is_new = (expected - value).abs() < (before - value).abs();
        alert.grounds.relevelled_from = Some(finite(before));
        alert.grounds.relevelled_to = Some(finite(if is_new { expected } else { value }));
    }
}

/// The numbers of an alert go through JSON, which has no others.
fn finite(value: f64) -> f64 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(f64::MIN, f64::MAX)
    }
}
