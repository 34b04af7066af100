//! Alerts that other systems report: firing while they are reported, over at the time that was said or when
//! they are not reported again. What is meant by which times is Alertmanager's (its API v2 and `Merge`).

mod posted;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::flapping::{Fires, Flapping};
use super::past::Past;
use crate::model::{
    Alert, AlertState, Fingerprint, Labels, PostedAlert, Reported, SeverityLabel, Timestamp,
    Transition,
};
use posted::{Times, checked};

/// Labels that name the service that an alert is about, the first first.
const SERVICE_LABELS: [&str; 3] = ["service", "service_name", "job"];
/// Values of the label `severity` that mean critical; there is no common list of them.
const CRITICAL: [&str; 4] = ["critical", "page", "fatal", "emergency"];
/// What the times of a firing alert may be off by in the store.
const WRITTEN_EVERY: Duration = Duration::from_mins(10);

/// Bounds and times of [`External`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExternalSettings {
    /// An alert without an end of its own is over so long after it was last reported; default 5 minutes.
    pub resolve_timeout: Duration,
    /// So many may fire at once; default 50,000. As many resolved ones are kept.
    pub max_alerts: usize,
    /// How much text those that fire may hold together, in bytes; default 64 MiB.
    pub max_bytes: usize,
    /// How long a resolved alert stays in the snapshot (default 5 minutes).
    pub keep_resolved: Duration,
    /// When an alert comes and goes too often to tell each time.
    pub flapping: Flapping,
}

impl Default for ExternalSettings {
    fn default() -> Self {
        Self {
            resolve_timeout: Duration::from_mins(5),
            max_alerts: 50_000,
            max_bytes: 64 << 20,
            keep_resolved: Duration::from_mins(5),
            flapping: Flapping::default(),
        }
    }
}

/// What became of reported alerts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// Taken, and firing.
    pub firing: usize,
    /// Taken, and over.
    pub resolved: usize,
    /// What is wrong with those that were not taken.
    pub invalid: Vec<String>,
    /// Those there was no room for; see [`ExternalSettings`].
    pub refused: usize,
}

/// The alerts of other systems.
///
/// After [`External::post`] and [`External::expire`] the decision task calls [`External::annotate`], then
/// commits [`External::changes`], then publishes [`External::snapshot`].
#[derive(Debug, Default)]
pub struct External {
    settings: ExternalSettings,
    firing: BTreeMap<Fingerprint, Entry>,
    /// When each of them is over.
    ends: BTreeSet<(Timestamp, Fingerprint)>,
    /// Text of those that fire.
    bytes: usize,
    past: Past,
    /// When which alert began to fire; not durable: a restart forgives.
    fires: Fires,
    journal: store::Journal,
    /// Alerts that changed since the last [`External::annotate`].
    touched: BTreeSet<Fingerprint>,
}

#[derive(Debug)]
struct Entry {
    alert: Arc<Alert>,
    bytes: usize,
    /// Its end as it was last written.
    written_until: Timestamp,
}

impl External {
    /// Without any alert.
    pub fn new(settings: ExternalSettings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// Takes what another system reports at `now`. Valid alerts are taken whatever the others are.
    pub fn post(
        &mut self,
        now: Timestamp,
        posted: Vec<PostedAlert>,
    ) -> (Vec<Transition>, Received) {
        let (mut out, mut received) = (Vec::new(), Received::default());
        for alert in posted {
            let (alert, times, bytes) = match checked(alert, now, self.settings.resolve_timeout) {
                Ok(checked) => checked,
                Err(problem) => {
                    received.invalid.push(problem);
                    continue;
                }
            };
            if self.take(now, alert, times, bytes, &mut out).is_none() {
                received.refused += 1;
            } else if times.is_over(now) {
                received.resolved += 1;
            } else {
                received.firing += 1;
            }
        }
        self.forget_past(now);
        (out, received)
    }

    /// Ends the alerts that were not reported again in time, and forgets those resolved long ago.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Transition> {
        let mut out = Vec::new();
        while let Some((ends_at, fingerprint)) = self.ends.first().copied()
            && ends_at <= now
        {
            let last = self.firing.get(&fingerprint).map(|entry| &entry.alert);
            let last = last.filter(|alert| !alert.reported().is_some_and(|r| r.is_held));
            let reason = last.map(|alert| format!("not reported since {}", alert.updated_at));
            match self.end(now, fingerprint, ends_at, reason.as_deref()) {
                Some(transition) => out.push(transition),
                // Its end is that of nothing: it is taken out all the same.
                None => drop(self.ends.pop_first()),
            }
        }
        self.forget_past(now);
        out
    }

    /// When [`External::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let end = self.ends.first().map(|(ends_at, _)| *ends_at);
        let keep = self.settings.keep_resolved;
        let past = self.past.oldest().map(|at| at.plus(keep));
        end.into_iter().chain(past).min()
    }

    /// Those that fire and those resolved within [`ExternalSettings::keep_resolved`], by fingerprint; of
    /// each the newest episode.
    pub fn snapshot(&self) -> BTreeMap<Fingerprint, Arc<Alert>> {
        let past = self.past.iter().map(|alert| (alert.fingerprint, alert));
        let firing = self.firing.iter().map(|(id, entry)| (*id, &entry.alert));
        let all = past.chain(firing);
        all.map(|(id, alert)| (id, Arc::clone(alert))).collect()
    }

    /// How many flap at present.
    pub fn flapping(&self) -> usize {
        let alerts = self.firing.values().map(|entry| &entry.alert);
        alerts.filter(|alert| alert.grounds.flaps > 0).count()
    }

    /// Whether there is none, not even a resolved one.
    pub fn is_quiet(&self) -> bool {
        self.firing.is_empty() && self.past.iter().next().is_none()
    }

    /// Whether the next [`External::annotate`] has something to do.
    pub fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Whether there is something to write.
    pub fn is_changed(&self) -> bool {
        self.journal.has_entries()
    }

    /// Hands every alert that changed since the last call, and the alerts of `transitions`, to `annotate`,
    /// and keeps what that makes of them. It must change annotations and grounds only.
    pub fn annotate(
        &mut self,
        transitions: &mut [Transition],
        mut annotate: impl FnMut(&mut Alert),
    ) {
        let mut touched = std::mem::take(&mut self.touched);
        for transition in transitions {
            let fingerprint = transition.alert.fingerprint;
            if transition.alert.reported().is_none() {
                continue;
            }
            let before = Arc::clone(&transition.alert);
            annotate(Arc::make_mut(&mut transition.alert));
            if let Some(kept) = self.kept(fingerprint)
                && Arc::ptr_eq(kept, &before)
            {
                *kept = Arc::clone(&transition.alert);
                touched.remove(&fingerprint);
            }
        }
        for fingerprint in touched {
            if let Some(kept) = self.kept(fingerprint) {
                annotate(Arc::make_mut(kept));
            }
        }
    }

    /// Has the next [`External::annotate`] hand over these alerts too, as far as they fire: what is said of
    /// them has changed, though they have not.
    pub fn touch(&mut self, alerts: &[Fingerprint]) {
        for fingerprint in alerts {
            if self.firing.contains_key(fingerprint) {
                self.touched.insert(*fingerprint);
                self.journal.said(*fingerprint);
            }
        }
    }

    /// Has the next [`External::annotate`] hand over those that began to fire after `since`.
    pub fn touch_fresh(&mut self, since: Timestamp) {
        let fresh = self.firing.iter().filter(|(_, e)| e.alert.since > since);
        let fresh: Vec<_> = fresh.map(|(fingerprint, _)| *fingerprint).collect();
        self.touch(&fresh);
    }

    fn kept(&mut self, fingerprint: Fingerprint) -> Option<&mut Arc<Alert>> {
        match self.firing.get_mut(&fingerprint) {
            Some(entry) => Some(&mut entry.alert),
            None => self.past.get_mut(fingerprint),
        }
    }

    /// `None`: there is no room for it.
    fn take(
        &mut self,
        now: Timestamp,
        posted: PostedAlert,
        times: Times,
        bytes: usize,
        out: &mut Vec<Transition>,
    ) -> Option<()> {
        let fingerprint = posted.labels.fingerprint();
        let Some(entry) = self.firing.get_mut(&fingerprint) else {
            if times.is_over(now) {
                // Nobody was told that it fires.
                return Some(());
            }
            self.begin(now, fingerprint, posted, times, bytes)?;
            let alert = Arc::clone(&self.firing.get(&fingerprint)?.alert);
            out.push(Transition {
                from: None,
                alert,
                at: now,
            });
            return Some(());
        };
        let before = Times::of(&entry.alert);
        let was_held = entry.alert.reported().is_some_and(|r| r.is_held);
        if was_held && times.is_over(now) {
            // Ends are told again and again; the first of them counts.
            return Some(());
        }
        let times = before.merge(times, now);
        if times.is_over(now) && entry.alert.grounds.flaps > 0 {
            let until = now.plus(self.settings.flapping.hold);
            let grounds = &mut Arc::make_mut(&mut entry.alert).grounds;
            if let Some(reported) = &mut grounds.reported {
                (reported.ends_at, reported.is_timeout, reported.is_held) = (until, false, true);
            }
            self.ends.remove(&(before.ends_at, fingerprint));
            self.ends.insert((until, fingerprint));
            self.journal.firing(fingerprint);
            return Some(());
        }
        if times.is_over(now) {
            out.extend(self.end(now, fingerprint, times.ends_at, None));
            return Some(());
        }
        self.ends.remove(&(before.ends_at, fingerprint));
        self.ends.insert((times.ends_at, fingerprint));
        self.bytes = self.bytes - entry.bytes + bytes;
        entry.bytes = bytes;
        let known = entry.alert.reported();
        let says_the_same = known.is_some_and(|reported| {
            reported.annotations == posted.annotations
                && reported.generator_url == posted.generator_url
        });
        let shorter = times.ends_at < before.ends_at;
        let longer = times.ends_at.since(entry.written_until) >= WRITTEN_EVERY;
        let alert = Arc::make_mut(&mut entry.alert);
        alert.updated_at = now;
        (alert.since, alert.fired_at) = (times.starts_at, Some(times.starts_at));
        if !says_the_same {
            alert.annotations = posted.annotations.clone();
            self.touched.insert(fingerprint);
        }
        alert.grounds.reported = Some(reported(posted, times));
        if was_held {
            entry.written_until = times.ends_at;
            self.flap(now, fingerprint);
            self.touched.insert(fingerprint);
            self.journal.firing(fingerprint);
        } else if !says_the_same || shorter || longer || before.starts_at != times.starts_at {
            entry.written_until = times.ends_at;
            self.journal.firing(fingerprint);
        }
        Some(())
    }

    /// Counts that an alert fires, and marks it where that is too often.
    fn flap(&mut self, now: Timestamp, fingerprint: Fingerprint) {
        let flapping = self.settings.flapping;
        self.fires.note(now, fingerprint);
        let (times, first) = self.fires.count(now, fingerprint, flapping.within);
        if let Some(entry) = self.firing.get_mut(&fingerprint)
            && flapping.fires > 0
            && (times >= flapping.fires || entry.alert.grounds.flaps > 0)
        {
            let grounds = &mut Arc::make_mut(&mut entry.alert).grounds;
            (grounds.flaps, grounds.flapping_seconds) = (times, first.as_secs());
        }
    }

    fn begin(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
        posted: PostedAlert,
        times: Times,
        bytes: usize,
    ) -> Option<()> {
        let is_full = self.firing.len() >= self.settings.max_alerts
            || self.bytes.saturating_add(bytes) > self.settings.max_bytes;
        if is_full {
            return None;
        }
        let alert = alert(now, fingerprint, posted, times);
        self.bytes += bytes;
        self.ends.insert((times.ends_at, fingerprint));
        self.journal.firing(fingerprint);
        self.touched.insert(fingerprint);
        let entry = Entry {
            alert: Arc::new(alert),
            bytes,
            written_until: times.ends_at,
        };
        self.firing.insert(fingerprint, entry);
        self.flap(now, fingerprint);
        Some(())
    }

    fn end(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
        ends_at: Timestamp,
        reason: Option<&str>,
    ) -> Option<Transition> {
        let Entry {
            mut alert, bytes, ..
        } = self.firing.remove(&fingerprint)?;
        self.ends.remove(&(Times::of(&alert).ends_at, fingerprint));
        self.bytes -= bytes;
        let resolved = Arc::make_mut(&mut alert);
        resolved.state = AlertState::Resolved;
        // Not before it began, and not in the future: clocks differ.
        resolved.resolved_at = Some(ends_at.max(resolved.since).min(now));
        if let Some(reported) = &mut resolved.grounds.reported {
            reported.ends_at = ends_at;
        }
        // Who reports it has fallen silent, which is not the same as that it is over.
        resolved.grounds.silent = reason.is_some();
        if let Some(reason) = reason {
            resolved.annotations.set("resolved_reason", reason);
        }
        self.journal.firing(fingerprint);
        self.journal.resolved(fingerprint);
        self.touched.insert(fingerprint);
        self.past.push(Arc::clone(&alert), now);
        Some(Transition {
            from: Some(AlertState::Firing),
            alert,
            at: now,
        })
    }

    fn forget_past(&mut self, now: Timestamp) {
        let until = now.minus(self.settings.keep_resolved);
        while let Some(fingerprint) = self.past.pop(until, self.settings.max_alerts) {
            self.journal.resolved(fingerprint);
        }
        let until = now.minus(self.settings.flapping.within);
        while self.fires.forget(until, self.settings.max_alerts).is_some() {}
    }
}

/// An alert as it begins.
fn alert(now: Timestamp, fingerprint: Fingerprint, posted: PostedAlert, times: Times) -> Alert {
    let severity = severity(&posted.labels);
    let named = SERVICE_LABELS
        .iter()
        .find_map(|name| posted.labels.get(name));
    Alert {
        fingerprint,
        labels: posted.labels.clone(),
        annotations: posted.annotations.clone(),
        state: AlertState::Firing,
        severity,
        // Half of the scale is where a warning begins to be worth a look; critical is as bad as it gets.
        severity_score: match severity {
            SeverityLabel::Warning => 0.5,
            SeverityLabel::Critical => 1.0,
        },
        service: named.unwrap_or_default().to_owned(),
        signal_id: String::new(),
        unit: String::new(),
        observed: 0.0,
        expected: 0.0,
        lower: f64::NEG_INFINITY,
        upper: f64::INFINITY,
        sigma: 0.0,
        worst_sigma: 0.0,
        anomalous_samples: 0,
        since: times.starts_at,
        fired_at: Some(times.starts_at),
        resolved_at: None,
        updated_at: now,
        trace_id: None,
        grounds: Box::new(crate::model::Grounds {
            reported: Some(reported(posted, times)),
            ..Default::default()
        }),
    }
}

fn reported(posted: PostedAlert, times: Times) -> Reported {
    Reported {
        annotations: posted.annotations,
        generator_url: posted.generator_url,
        ends_at: times.ends_at,
        is_timeout: times.is_timeout,
        is_held: false,
    }
}

fn severity(labels: &Labels) -> SeverityLabel {
    let said = labels.get("severity").unwrap_or_default();
    match CRITICAL.iter().any(|word| said.eq_ignore_ascii_case(word)) {
        true => SeverityLabel::Critical,
        false => SeverityLabel::Warning,
    }
}

#[cfg(test)]
mod tests;
