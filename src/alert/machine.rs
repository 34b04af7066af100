use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::entry::{Entry, Key};
use super::episode::{Episode, Outcome};
use super::flapping::{Fires, Flapping};
use super::labels;
use super::past::Past;
use super::store::Journal;
use super::template::Texts;
use crate::model::{
    Alert, AlertState, Fingerprint, Observation, Rule, RuleId, SignalId, Timestamp, Transition,
};

/// Bounds and times of the [`Machine`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// So many (rule, signal) pairs may be pending or firing at once (default 100,000). What comes
    /// beyond is not alerted on and counted by [`Machine::refused`]. As many resolved alerts are kept.
    pub max_active: usize,
    /// An alert whose signal was silent for so long ends: there is nothing left to say about it.
    /// Default 5 minutes, which is also the least; longer where signals come more rarely.
    pub stale_after: Duration,
    /// How long a resolved alert stays in the snapshot (default 5 minutes).
    pub keep_resolved: Duration,
    /// When an alert comes and goes too often to tell each time.
    pub flapping: Flapping,
}

impl Settings {
    /// Shorter silences are ordinary hiccups of clients and networks.
    pub const LEAST_STALE_AFTER: Duration = Duration::from_mins(5);

    pub(super) fn stale_after(&self) -> Duration {
        self.stale_after.max(Self::LEAST_STALE_AFTER)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_active: 100_000,
            stale_after: Self::LEAST_STALE_AFTER,
            keep_resolved: Duration::from_mins(5),
            flapping: Flapping::default(),
        }
    }
}

/// The alerts of all rules: pending → firing → resolved.
///
/// After each [`Machine::step`] and [`Machine::expire`] the decision task calls
/// [`Machine::annotate`], then commits [`Machine::changes`], then publishes [`Machine::snapshot`].
/// What the first two have to hand over gathers until they are called.
#[derive(Debug)]
pub struct Machine {
    pub(super) rules: Arc<[Rule]>,
    texts: Texts,
    pub(super) settings: Settings,
    pub(super) entries: BTreeMap<Fingerprint, Entry>,
    /// Which alert an episode belongs to.
    pub(super) index: BTreeMap<Key, Fingerprint>,
    /// Firing alerts from before a restart whose rule is gone; resolved at the next call.
    pub(super) orphans: BTreeMap<Fingerprint, Arc<Alert>>,
    pub(super) past: Past,
    pub(super) fires: Fires,
    pub(super) journal: Journal,
    /// Alerts that changed since the last [`Machine::annotate`], with the rule that speaks for them.
    touched: BTreeMap<Fingerprint, RuleId>,
    refused: u64,
}

impl Machine {
    /// A machine without alerts.
    pub fn new(rules: Arc<[Rule]>, settings: Settings) -> Self {
        Self {
            texts: Texts::new(&rules),
            rules,
            settings,
            entries: BTreeMap::new(),
            index: BTreeMap::new(),
            orphans: BTreeMap::new(),
            past: Past::default(),
            fires: Fires::default(),
            journal: Journal::default(),
            touched: BTreeMap::new(),
            refused: 0,
        }
    }

    /// Takes what the engine reports at `now`: observations in their order, then the signals that
    /// ended. Returns the transitions in the order of their causes. `O(log alerts)` an observation.
    pub fn step(
        &mut self,
        now: Timestamp,
        observations: &[Observation],
        ended: &[SignalId],
    ) -> Vec<Transition> {
        let mut out = Vec::new();
        self.resolve_orphans(now, &mut out);
        for observation in observations {
            self.observe(now, observation, &mut out);
        }
        for signal in ended {
            let of_signal = (*signal, RuleId(0))..=(*signal, RuleId(u32::MAX));
            let keys: Vec<Key> = self.index.range(of_signal).map(|(key, _)| *key).collect();
            for key in keys {
                self.leave(now, key, End::Silent("the signal ended"), &mut out);
            }
        }
        self.forget_past(now);
        out
    }

    /// What keeps a pending or firing alert so: rules on signals, each with the first sample that deviated.
    /// Empty where there is no such alert.
    pub fn grounds_of(&self, fingerprint: Fingerprint) -> Vec<(SignalId, RuleId, Timestamp)> {
        let entry = self.entries.get(&fingerprint);
        let episodes = entry.into_iter().flat_map(|entry| &entry.episodes);
        episodes
            .map(|((signal, rule), episode)| (*signal, *rule, episode.since))
            .collect()
    }

    /// Ends a pending or firing alert because a person says so; `reason` says who and why.
    pub fn dismiss(
        &mut self,
        now: Timestamp,
        fingerprint: Fingerprint,
        reason: &str,
    ) -> Vec<Transition> {
        let mut out = Vec::new();
        for (signal, rule, _) in self.grounds_of(fingerprint) {
            self.leave(now, (signal, rule), End::Because(reason), &mut out);
        }
        out
    }

    /// Ends the alerts whose signals were silent for too long, and forgets those resolved long ago.
    /// `O(alerts)`; to be called when [`Machine::next_deadline`] has come.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Transition> {
        let mut out = Vec::new();
        self.resolve_orphans(now, &mut out);
        let mut silent = Vec::new();
        for entry in self.entries.values() {
            let reason = format!("no data since {}", entry.alert.updated_at);
            for (key, episode) in &entry.episodes {
                if self.ends(episode) <= now {
                    let held = episode.held_until.is_some();
                    silent.push((*key, (!held).then(|| reason.clone())));
                }
            }
        }
        for (key, reason) in silent {
            let end = reason.as_deref().map_or(End::Over, End::Silent);
            self.leave(now, key, end, &mut out);
        }
        self.forget_past(now);
        out
    }

    /// When [`Machine::expire`] has something to do next; the epoch when it has at once. `O(alerts)`.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if !self.orphans.is_empty() {
            return Some(Timestamp::EPOCH);
        }
        let heard = self
            .entries
            .values()
            .flat_map(|entry| entry.episodes.values());
        let silent = heard.map(|episode| self.ends(episode)).min();
        let past = self
            .past
            .oldest()
            .map(|at| at.plus(self.settings.keep_resolved));
        silent.into_iter().chain(past).min()
    }

    /// When an episode ends if nothing more is heard.
    fn ends(&self, episode: &Episode) -> Timestamp {
        let silent = episode.heard_at.plus(self.settings.stale_after());
        episode.held_until.unwrap_or(silent)
    }

    /// How many alerts flap at present.
    pub fn flapping(&self) -> usize {
        let alerts = self.entries.values().map(|entry| &entry.alert);
        alerts.filter(|alert| alert.grounds.flaps > 0).count()
    }

    /// All alerts that are pending, firing or were resolved within [`Settings::keep_resolved`], by
    /// fingerprint; of each the newest episode.
    pub fn snapshot(&self) -> Vec<Arc<Alert>> {
        let mut all: BTreeMap<Fingerprint, &Arc<Alert>> = self
            .past
            .iter()
            .map(|alert| (alert.fingerprint, alert))
            .collect();
        all.extend(
            self.orphans
                .iter()
                .map(|(fingerprint, alert)| (*fingerprint, alert)),
        );
        all.extend(
            self.entries
                .iter()
                .map(|(fingerprint, entry)| (*fingerprint, &entry.alert)),
        );
        all.into_values().cloned().collect()
    }

    /// Whether there are no alerts, not even resolved ones.
    pub fn is_quiet(&self) -> bool {
        self.entries.is_empty() && self.orphans.is_empty() && self.past.iter().next().is_none()
    }

    /// How many anomalous observations found no room since the start; see [`Settings::max_active`].
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Hands every alert that changed since the last call, and the alerts of `transitions`, to
    /// `annotate` together with the rule that speaks for it, and keeps what that makes of them. It
    /// must change annotations only.
    pub fn annotate(
        &mut self,
        transitions: &mut [Transition],
        mut annotate: impl FnMut(&Rule, &mut Alert),
    ) {
        let touched = std::mem::take(&mut self.touched);
        let rules = Arc::clone(&self.rules);
        let mut done = BTreeSet::new();
        for transition in transitions {
            let fingerprint = transition.alert.fingerprint;
            let Some(rule) = touched.get(&fingerprint).and_then(|id| rule(&rules, *id)) else {
                continue;
            };
            let before = Arc::clone(&transition.alert);
            annotate(rule, Arc::make_mut(&mut transition.alert));
            // The last transition mostly shows the alert as it still is; the two stay one.
            if let Some(kept) = self.kept(fingerprint)
                && Arc::ptr_eq(kept, &before)
            {
                *kept = Arc::clone(&transition.alert);
                done.insert(fingerprint);
            }
        }
        for (fingerprint, id) in touched {
            if !done.contains(&fingerprint)
                && let (Some(rule), Some(kept)) = (rule(&rules, id), self.kept(fingerprint))
            {
                annotate(rule, Arc::make_mut(kept));
            }
        }
    }

    /// Has the next [`Machine::annotate`] hand over these alerts too, as far as they are active: what
    /// is said of them has changed, though they have not.
    pub fn touch(&mut self, alerts: &[Fingerprint]) {
        for fingerprint in alerts {
            if let Some((_, rule)) = self.entries.get(fingerprint).and_then(Entry::lead) {
                self.touched.insert(*fingerprint, rule);
                self.journal.counted(*fingerprint);
            }
        }
    }

    fn kept(&mut self, fingerprint: Fingerprint) -> Option<&mut Arc<Alert>> {
        match self.entries.get_mut(&fingerprint) {
            Some(entry) => Some(&mut entry.alert),
            None => self.past.get_mut(fingerprint),
        }
    }

    fn observe(&mut self, now: Timestamp, observation: &Observation, out: &mut Vec<Transition>) {
        let key = (observation.signal.id, observation.rule);
        let rules = Arc::clone(&self.rules);
        let Some(rule) = rule(&rules, observation.rule) else {
            return;
        };
        let Some(fingerprint) = self
            .index
            .get(&key)
            .copied()
            .or_else(|| self.begin(rule, observation))
        else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&fingerprint) else {
            return;
        };
        let is_only = entry.episodes.len() == 1;
        let Some(episode) = entry.episodes.get_mut(&key) else {
            return;
        };
        // Its first sample is the one that is counted now.
        let joins = episode.anomalous_samples == 0;
        let is_new = joins && is_only;
        let before = episode.durable();
        let outcome = episode.observe(rule, observation, now);
        let written = episode.durable() != before || joins;
        let from = (!is_new).then_some(entry.alert.state);
        let severity = entry.alert.severity;
        entry.update(key, rule, observation, &self.texts);
        let alert = Arc::make_mut(&mut entry.alert);
        let fires = outcome == Outcome::Fires && alert.state == AlertState::Pending;
        if fires {
            alert.state = AlertState::Firing;
            alert.fired_at = Some(now);
        }
        if fires || outcome == Outcome::Returns {
            self.fires.note(now, fingerprint);
            self.journal.fired(fingerprint);
            let within = self.settings.flapping.within;
            let (times, first) = self.fires.count(now, fingerprint, within);
            let often = self.settings.flapping.fires;
            if often > 0 && times >= often {
                alert.grounds.flaps = times;
                alert.grounds.flapping_seconds = first.as_secs();
            }
        }
        let worsens = alert.state == AlertState::Firing && alert.severity > severity;
        if is_new || fires || worsens {
            let alert = Arc::clone(&entry.alert);
            out.push(Transition {
                from,
                alert,
                at: now,
            });
        }
        if is_new || fires || written || entry.alert.severity > severity {
            self.journal.decided(fingerprint);
        } else {
            self.journal.counted(fingerprint);
        }
        let (_, lead) = entry.lead().unwrap_or(key);
        self.touched.insert(fingerprint, lead);
        let relevels = observation.judged.evidence.relevelled_from.is_some();
        let is_held = outcome == Outcome::Ends && entry.alert.grounds.flaps > 0 && !relevels;
        if is_held && let Some(episode) = entry.episodes.get_mut(&key) {
            episode.held_until = Some(now.plus(self.settings.flapping.hold));
            self.journal.decided(fingerprint);
            return;
        }
        if let Some(before) = observation.judged.evidence.relevelled_from {
            // What was a deviation has lasted for so long that it is what is normal now.
            let reason = "the new level has become the normal one";
            entry.relevelled(key, before, observation);
            self.leave(now, key, End::Because(reason), out);
        } else if outcome == Outcome::Ends {
            self.leave(now, key, End::Over, out);
        }
    }

    /// Room for the episode that begins with `observation`; `None` if it is calm or there is no room.
    fn begin(&mut self, rule: &Rule, observation: &Observation) -> Option<Fingerprint> {
        let severity = observation.anomaly?;
        if self.index.len() >= self.settings.max_active {
            self.refused = self.refused.saturating_add(1);
            return None;
        }
        let mut set = labels::of_signal(rule, &observation.signal);
        for (name, value) in self.texts.labels(observation, severity, &set.clone()) {
            labels::add_of_rule(&mut set, name, &value);
        }
        let fingerprint = labels::fingerprint(&set);
        set.set("severity", severity.name());
        let key = (observation.signal.id, observation.rule);
        self.index.insert(key, fingerprint);
        let entry = self
            .entries
            .entry(fingerprint)
            .or_insert_with(|| Entry::new(fingerprint, set, severity, observation));
        entry.episodes.insert(key, Episode::begin(observation));
        Some(fingerprint)
    }

    /// Ends one episode, and with the last one the alert.
    fn leave(&mut self, now: Timestamp, key: Key, end: End<'_>, out: &mut Vec<Transition>) {
        let Some(fingerprint) = self.index.remove(&key) else {
            return;
        };
        self.journal.decided(fingerprint);
        let Some(entry) = self.entries.get_mut(&fingerprint) else {
            return;
        };
        entry.episodes.remove(&key);
        // While a series with the same labels still deviates, so does the alert.
        if !entry.episodes.is_empty() {
            return;
        }
        let Some(entry) = self.entries.remove(&fingerprint) else {
            return;
        };
        match entry.alert.state {
            AlertState::Firing => {
                self.touched.insert(fingerprint, key.1);
                out.push(self.resolve(now, entry.alert, end));
            }
            // Nobody was notified that it was pending, so nobody is that it is over.
            AlertState::Pending | AlertState::Resolved => {}
        }
    }

    fn resolve(&mut self, now: Timestamp, mut alert: Arc<Alert>, end: End<'_>) -> Transition {
        let resolved = Arc::make_mut(&mut alert);
        resolved.state = AlertState::Resolved;
        resolved.resolved_at = Some(now);
        resolved.grounds.silent = matches!(end, End::Silent(_));
        match end {
            End::Over => {}
            End::Because(reason) | End::Silent(reason) => {
                resolved.annotations.set("resolved_reason", reason);
            }
        }
        self.journal.decided(resolved.fingerprint);
        self.journal.resolved(resolved.fingerprint);
        self.past.push(Arc::clone(&alert), now);
        Transition {
            from: Some(AlertState::Firing),
            alert,
            at: now,
        }
    }

    fn resolve_orphans(&mut self, now: Timestamp, out: &mut Vec<Transition>) {
        while let Some((_, alert)) = self.orphans.pop_first() {
            let reason = "its rule is no longer in the configuration";
            out.push(self.resolve(now, alert, End::Because(reason)));
        }
    }

    fn forget_past(&mut self, now: Timestamp) {
        let until = now.minus(self.settings.keep_resolved);
        while let Some(fingerprint) = self.past.pop(until, self.settings.max_active) {
            self.journal.resolved(fingerprint);
        }
        let until = now.minus(self.settings.flapping.within);
        while let Some(fingerprint) = self.fires.forget(until, self.settings.max_active) {
            self.journal.fired(fingerprint);
        }
    }
}

/// How an alert ends.
#[derive(Debug, Clone, Copy)]
enum End<'a> {
    /// What deviated is normal again.
    Over,
    /// Something else was decided, for this reason.
    Because(&'a str),
    /// Nothing more is heard of its signal, for this reason: that says nothing about how the service is.
    Silent(&'a str),
}

fn rule(rules: &[Rule], id: RuleId) -> Option<&Rule> {
    rules.get(usize::try_from(id.0).ok()?)
}
