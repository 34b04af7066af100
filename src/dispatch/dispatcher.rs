use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::group::{Flushed, Group, Slot};
use super::notification::Notification;
use super::store::Journal;
use crate::model::{Alert, AlertState, Fingerprint, Labels, Timestamp, Transition};

/// The name by which alerts are grouped into one notification an incident.
const INCIDENT: &str = "incident";

/// Which alerts are notified together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupBy {
    /// Those that agree in all labels (`...`): each alone.
    All,
    /// Those that agree in these labels; with none, all alerts are one group.
    Labels(Vec<String>),
}

impl GroupBy {
    /// The labels that tell the group of `alert`; an absent label is left out. [`INCIDENT`] is no
    /// label, since labels are who an alert is: it is what the alert's annotation says, unless there is
    /// a label of that name.
    fn of(&self, alert: &Alert) -> Labels {
        let value = |name: &str| {
            let incident = || alert.annotations.get(INCIDENT).filter(|_| name == INCIDENT);
            alert.labels.get(name).or_else(incident)
        };
        match self {
            Self::All => alert.labels.clone(),
            Self::Labels(names) => names
                .iter()
                .filter_map(|name| Some((name.as_str(), value(name)?)))
                .collect(),
        }
    }

    /// Whether an alert of group `was` may stay there though `is` is its group now: an incident that
    /// became part of another does not end for those who were told of it.
    fn stays(&self, was: &Labels, is: &Labels, alert: &Alert) -> bool {
        let Self::Labels(names) = self else {
            return false;
        };
        let by_incident = |name: &String| name == INCIDENT && alert.labels.get(INCIDENT).is_none();
        names.iter().any(by_incident)
            && names
                .iter()
                .filter(|name| !by_incident(name))
                .all(|name| was.get(name) == is.get(name))
    }
}

/// The route of all alerts, with Alertmanager's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Who is notified.
    pub receiver: String,
    /// What is notified together (default: by `service`).
    pub group_by: GroupBy,
    /// How long a new group waits for more alerts before its first notification (default 10 s; 0: not
    /// at all).
    pub group_wait: Duration,
    /// The least time between two notifications of a group (default 5 min; at least 1 s).
    pub group_interval: Duration,
    /// After so long a group that still fires is notified again (default 4 h; at least
    /// `group_interval`).
    pub repeat_interval: Duration,
    /// Alerts that are kept at most (default 200,000: as many as fire at most, and as many resolved ones
    /// that wait for their notification). What comes beyond is not notified, and counted.
    pub max_alerts: usize,
}

impl Settings {
    pub(super) fn interval(&self) -> Duration {
        self.group_interval.max(Duration::from_secs(1))
    }

    pub(super) fn repeat(&self) -> Duration {
        self.repeat_interval.max(self.interval())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            receiver: "default".into(),
            group_by: GroupBy::Labels(vec!["service".into()]),
            group_wait: Duration::from_secs(10),
            group_interval: Duration::from_mins(5),
            repeat_interval: Duration::from_hours(4),
            max_alerts: 200_000,
        }
    }
}

/// Groups alerts and decides when which group is notified.
///
/// The decision task hands over every transition, calls [`Dispatcher::flush`] when
/// [`Dispatcher::next_deadline`] has come, and commits [`Dispatcher::changes`] together with the
/// notifications before they are delivered.
#[derive(Debug)]
pub struct Dispatcher {
    pub(super) settings: Settings,
    /// By the group's labels.
    pub(super) groups: BTreeMap<Labels, Group>,
    /// In which group each firing alert is.
    pub(super) firing: BTreeMap<Fingerprint, Labels>,
    /// Slots of all groups.
    pub(super) alerts: usize,
    pub(super) journal: Journal,
    refused: u64,
}

impl Dispatcher {
    /// A dispatcher that knows of no alert.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            groups: BTreeMap::new(),
            firing: BTreeMap::new(),
            alerts: 0,
            journal: Journal::default(),
            refused: 0,
        }
    }

    /// Takes a transition. Pending alerts are no news.
    pub fn on_transition(&mut self, now: Timestamp, transition: &Transition) {
        let alert = &transition.alert;
        match alert.state {
            AlertState::Pending => {}
            AlertState::Firing => self.fires(now, alert),
            AlertState::Resolved => self.is_over(now, alert),
        }
    }

    /// Brings the dispatcher in line with all alerts that there are (the machine's snapshot): takes
    /// over their numbers and texts, takes in what fires and is not known here, and ends what is known
    /// here and does not fire. To be called after a restart, and before a flush so that repeated
    /// notifications show present numbers.
    pub fn reconcile(&mut self, now: Timestamp, alerts: &[Arc<Alert>]) {
        let by_fingerprint: BTreeMap<Fingerprint, &Arc<Alert>> = alerts
            .iter()
            .map(|alert| (alert.fingerprint, alert))
            .collect();
        let is_over = |fingerprint: &&Fingerprint| {
            by_fingerprint
                .get(*fingerprint)
                .is_none_or(|a| a.state != AlertState::Firing)
        };
        let over: Vec<Fingerprint> = self.firing.keys().filter(is_over).copied().collect();
        for fingerprint in over {
            let known = by_fingerprint.get(&fingerprint);
            match known.filter(|alert| alert.state == AlertState::Resolved) {
                Some(alert) => self.is_over(now, alert),
                None => self.leave(now, fingerprint, "it is no longer known to fire"),
            }
        }
        for alert in alerts
            .iter()
            .filter(|alert| alert.state == AlertState::Firing)
        {
            match self.slot(alert.fingerprint) {
                Some(slot) if slot.alert.labels == alert.labels => slot.alert = Arc::clone(alert),
                _ => self.fires(now, alert),
            }
        }
    }

    /// When [`Dispatcher::flush`] has something to do next. `O(groups)`.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.groups
            .values()
            .filter_map(|group| group.due(&self.settings))
            .min()
    }

    /// The notifications that are due at `now`, by group. They count as told from now on: delivering
    /// them, again and again if need be, is up to the notifier. `O(groups)`, and `O(alerts)` of those due.
    pub fn flush(&mut self, now: Timestamp) -> Vec<Notification> {
        let mut notifications = Vec::new();
        for (labels, group) in &mut self.groups {
            match group.decide(now, &self.settings) {
                Flushed::NotDue => {}
                Flushed::Nothing => {
                    group.times.changed_at = None;
                    self.journal.group(labels);
                }
                Flushed::Notify => {
                    let alerts = group
                        .slots
                        .values()
                        .map(|slot| Arc::clone(&slot.alert))
                        .collect();
                    let receiver = &self.settings.receiver;
                    notifications.push(Notification::new(receiver, labels, alerts, now));
                    self.journal.group(labels);
                    // What was told already is durable as it is.
                    for (fingerprint, slot) in &group.slots {
                        if !slot.fires() || slot.told != Some(slot.alert.severity) {
                            self.journal.alert(labels, *fingerprint);
                        }
                    }
                    let before = group.slots.len();
                    group.told(now);
                    self.alerts -= before - group.slots.len();
                }
            }
        }
        self.groups.retain(|_, group| !group.slots.is_empty());
        notifications
    }

    /// How many alerts found no room since the start; see [`Settings::max_alerts`].
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn slot(&mut self, fingerprint: Fingerprint) -> Option<&mut Slot> {
        let group = self.groups.get_mut(self.firing.get(&fingerprint)?)?;
        group.slots.get_mut(&fingerprint)
    }

    fn fires(&mut self, now: Timestamp, alert: &Arc<Alert>) {
        let fingerprint = alert.fingerprint;
        let mut labels = self.settings.group_by.of(alert);
        if let Some(group) = self.firing.get(&fingerprint)
            && self.settings.group_by.stays(group, &labels, alert)
        {
            labels = group.clone();
        }
        let is_elsewhere = self
            .firing
            .get(&fingerprint)
            .is_some_and(|group| *group != labels);
        if is_elsewhere {
            // The severity rose, and the route groups by it.
            self.leave(now, fingerprint, "it went on in another group");
        }
        let is_known = self
            .groups
            .get(&labels)
            .is_some_and(|g| g.slots.contains_key(&fingerprint));
        if !is_known && self.alerts >= self.settings.max_alerts {
            self.refused = self.refused.saturating_add(1);
            return;
        }
        let group = self.groups.entry(labels.clone()).or_default();
        let told = group.slots.get(&fingerprint).and_then(|slot| slot.told);
        group.slots.insert(
            fingerprint,
            Slot {
                alert: Arc::clone(alert),
                told,
            },
        );
        self.alerts += usize::from(!is_known);
        if told != Some(alert.severity) {
            group.changed(now);
        }
        self.journal.group(&labels);
        self.journal.alert(&labels, fingerprint);
        self.firing.insert(fingerprint, labels);
    }

    fn is_over(&mut self, now: Timestamp, alert: &Arc<Alert>) {
        let fingerprint = alert.fingerprint;
        let Some(labels) = self.firing.remove(&fingerprint) else {
            return;
        };
        self.journal.group(&labels);
        self.journal.alert(&labels, fingerprint);
        let Some(group) = self.groups.get_mut(&labels) else {
            return;
        };
        match group.slots.get_mut(&fingerprint) {
            Some(slot) if slot.told.is_some() => {
                slot.alert = Arc::clone(alert);
                group.changed(now);
            }
            // Nobody was told that it fires.
            Some(_) => {
                group.slots.remove(&fingerprint);
                self.alerts -= 1;
                if group.slots.is_empty() {
                    self.groups.remove(&labels);
                }
            }
            None => {}
        }
    }

    /// Ends an alert in its group though it was not resolved by the machine.
    fn leave(&mut self, now: Timestamp, fingerprint: Fingerprint, reason: &str) {
        let Some(slot) = self.slot(fingerprint) else {
            return;
        };
        let mut alert = Alert::clone(&slot.alert);
        alert.state = AlertState::Resolved;
        alert.resolved_at = Some(now);
        alert.annotations.set("resolved_reason", reason);
        self.is_over(now, &Arc::new(alert));
    }
}
