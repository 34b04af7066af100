//! What came of a run: alerts from their firing to their end, and how long each service was in which mode.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::model::{
    Alert, AlertState, EffectVerdict, EpisodeAction, Event, EventBody, Fingerprint, ProposalAction,
    Timestamp,
};

/// Alerts that are kept with all they say; beyond, they are only counted.
const MOST_KEPT: usize = 100_000;

/// One alert, from its firing to its end.
#[derive(Debug, Clone)]
pub(super) struct Incident {
    /// As it was when it was last heard of.
    pub(super) alert: Alert,
    /// When it began to fire.
    pub(super) fired_at: Timestamp,
    /// When it was resolved; `None`: it still fires.
    pub(super) resolved_at: Option<Timestamp>,
}

impl Incident {
    /// When it ended, or `end`.
    pub(super) fn until(&self, end: Timestamp) -> Timestamp {
        self.resolved_at.unwrap_or(end)
    }
}

/// Keeps what happened.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) incidents: Vec<Incident>,
    open: HashMap<Fingerprint, usize>,
    /// By rule and service: how many alerts.
    pub(super) counts: BTreeMap<(String, String), u64>,
    /// By service: its mode and since when.
    modes: BTreeMap<String, (String, Timestamp)>,
    /// By service and mode: for how long.
    spent: BTreeMap<(String, String), Duration>,
    pub(super) mode_changes: u64,
    /// Steps that were left to people.
    pub(super) proposals: u64,
    /// Departures from normal that ended, by what their last step that was judged did.
    pub(super) departures: BTreeMap<&'static str, u64>,
    /// Incidents of which something fired; where two became one, the one that they are.
    ids: BTreeSet<String>,
}

impl Ledger {
    /// Whether an event is the first of its incident. Asked before it is noted.
    pub(super) fn is_new(&self, event: &Event) -> bool {
        let EventBody::Alert { alert, .. } = &event.body else {
            return true;
        };
        alert.state == AlertState::Firing
            && !alert
                .grounds
                .incident
                .as_ref()
                .is_some_and(|id| self.ids.contains(id))
    }

    /// How many incidents there were.
    pub(super) fn told_incidents(&self) -> u64 {
        self.ids.len() as u64
    }

    /// Takes in an event. `start`: when time began.
    pub(super) fn note(&mut self, event: &Event, start: Timestamp) {
        match &event.body {
            EventBody::Alert { from, alert } => match alert.state {
                AlertState::Pending => {}
                AlertState::Firing => {
                    self.ids.extend(alert.grounds.incident.clone());
                    self.fires(*from, alert, event.time);
                }
                AlertState::Resolved => {
                    let open = self.open.remove(&alert.fingerprint);
                    if let Some(incident) = open.and_then(|at| self.incidents.get_mut(at)) {
                        incident.alert = alert.clone();
                        incident.resolved_at = Some(event.time);
                    }
                }
            },
            EventBody::Mode(change) => {
                let service = &change.state.service;
                let now = (change.state.mode.clone(), event.time);
                if change.from != change.state.mode {
                    self.mode_changes += 1;
                    let (mode, since) = self
                        .modes
                        .insert(service.clone(), now)
                        .unwrap_or_else(|| (change.from.clone(), start));
                    *self.spent.entry((service.clone(), mode)).or_default() +=
                        event.time.since(since);
                }
            }
            EventBody::Proposal {
                action: ProposalAction::Made,
                ..
            } => self.proposals += 1,
            EventBody::Episode {
                action: EpisodeAction::Ended,
                episode,
            } => {
                let verdict = episode.verdict().unwrap_or(EffectVerdict::Unknown);
                *self.departures.entry(verdict.words()).or_default() += 1;
            }
            EventBody::Freeze { .. }
            | EventBody::Silence { .. }
            | EventBody::Proposal { .. }
            | EventBody::Acknowledged { .. }
            | EventBody::Episode { .. }
            | EventBody::Plan { .. }
            | EventBody::Dismissed { .. } => {}
        }
    }

    fn fires(&mut self, from: Option<AlertState>, alert: &Alert, now: Timestamp) {
        if from == Some(AlertState::Firing) {
            // It has grown worse.
            let open = self.open.get(&alert.fingerprint);
            if let Some(incident) = open.and_then(|at| self.incidents.get_mut(*at)) {
                incident.alert = alert.clone();
            }
            return;
        }
        let key = (alert.name().to_owned(), alert.service.clone());
        *self.counts.entry(key).or_default() += 1;
        if self.incidents.len() < MOST_KEPT {
            self.open.insert(alert.fingerprint, self.incidents.len());
            self.incidents.push(Incident {
                alert: alert.clone(),
                fired_at: now,
                resolved_at: None,
            });
        }
    }

    /// How many alerts fired.
    pub(super) fn alerts(&self) -> u64 {
        self.counts.values().sum()
    }

    /// By service and mode, for services that changed theirs: how long until `end`.
    pub(super) fn modes(&self, end: Timestamp) -> BTreeMap<(String, String), Duration> {
        let mut spent = self.spent.clone();
        for (service, (mode, since)) in &self.modes {
            *spent.entry((service.clone(), mode.clone())).or_default() += end.since(*since);
        }
        spent
    }
}
