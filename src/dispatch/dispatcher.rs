use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::group::{Group, Slot};
use super::notification::{Notification, group_key};
use super::route::{Node, Route, Routes};
use super::store::Journal;
use crate::model::{Alert, AlertState, Fingerprint, Labels, Timestamp, Transition};
use crate::mute::{InhibitRule, Inhibitor, Silencer};

/// After so long a group is looked at again whose receiver had no room.
const HELD_FOR: Duration = Duration::from_secs(1);

/// Who is told what, and when not.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The root of the tree of routes.
    pub route: Route,
    /// Which alerts make which others superfluous.
    pub inhibit_rules: Vec<InhibitRule>,
    /// Alerts that are kept at most, counted in each group that they are in (default 200,000). What comes
    /// beyond is not notified, and counted.
    pub max_alerts: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            route: Route::default(),
            inhibit_rules: Vec::new(),
            max_alerts: 200_000,
        }
    }
}

/// Which group: the number of its route, and its labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId {
    pub(super) route: usize,
    pub(super) labels: Arc<Labels>,
}

/// Groups alerts and decides when which group is notified.
///
/// The decision task hands over every transition, calls [`Dispatcher::flush`] when
/// [`Dispatcher::next_deadline`] has come, and commits [`Dispatcher::changes`] together with the
/// notifications before they are delivered.
#[derive(Debug)]
pub struct Dispatcher {
    pub(super) routes: Routes,
    max_alerts: usize,
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// When which group has something to do.
    schedule: BTreeSet<(Timestamp, GroupId)>,
    /// In which groups each firing alert is; at least one.
    pub(super) firing: BTreeMap<Fingerprint, Vec<GroupId>>,
    pub(super) inhibitor: Inhibitor,
    /// Slots of all groups.
    pub(super) alerts: usize,
    pub(super) journal: Journal,
    refused: u64,
}

impl Dispatcher {
    /// A dispatcher that knows of no alert.
    pub fn new(settings: Settings) -> Self {
        Self {
            routes: Routes::new(&settings.route),
            max_alerts: settings.max_alerts,
            groups: BTreeMap::new(),
            schedule: BTreeSet::new(),
            firing: BTreeMap::new(),
            inhibitor: Inhibitor::new(settings.inhibit_rules),
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

    /// Brings the dispatcher in line with all alerts that there are: takes over their numbers and texts,
    /// takes in what fires and is not known here, and ends what is known here and does not fire. To be
    /// called after a restart, and before a flush so that repeated notifications show present numbers.
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
                None => {
                    for id in self.firing.remove(&fingerprint).unwrap_or_default() {
                        self.leave(now, &id, fingerprint, "it is no longer known to fire");
                    }
                    self.inhibitor.is_over(fingerprint);
                }
            }
        }
        for alert in alerts
            .iter()
            .filter(|alert| alert.state == AlertState::Firing)
        {
            if !self.take_over(alert) {
                self.fires(now, alert);
            }
        }
    }

    /// When [`Dispatcher::flush`] has something to do next. `O(log groups)`.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.schedule.first().map(|(due, _)| *due)
    }

    /// The notifications that are due at `now`, by route and group. They count as told from now on:
    /// delivering them, again and again if need be, is up to the notifier. What is silenced, inhibited
    /// or in a mute route is left out, and looked at again at the group's next flush. `O(alerts)` of the
    /// groups that are due, times what `silencer` takes for one.
    pub fn flush(&mut self, now: Timestamp, silencer: &dyn Silencer) -> Vec<Notification> {
        self.flush_where(now, silencer, |_| true)
    }

    /// As [`Dispatcher::flush`], for the groups whose receiver `has_room`, by its name. The others are
    /// looked at again soon; what they have to say by then they say at once.
    pub fn flush_where(
        &mut self,
        now: Timestamp,
        silencer: &dyn Silencer,
        mut has_room: impl FnMut(&str) -> bool,
    ) -> Vec<Notification> {
        let mut due = BTreeSet::new();
        while self.schedule.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, id)) = self.schedule.pop_first() else {
                break;
            };
            if let Some(group) = self.groups.get_mut(&id) {
                group.scheduled = None;
            }
            due.insert(id);
        }
        let mut notifications = Vec::new();
        for id in due {
            let (Some(node), Some(group)) = (self.routes.node(id.route), self.groups.get_mut(&id))
            else {
                continue;
            };
            if !has_room(&node.receiver) {
                let later = now.plus(HELD_FOR);
                group.scheduled = Some(later);
                self.schedule.insert((later, id));
                continue;
            }
            let before = group.slots().len();
            let inhibitor = &self.inhibitor;
            let is_muted = |alert: &Alert| {
                !silencer.silenced_by(&alert.labels, now).is_empty()
                    || !inhibitor.inhibited_by(&alert.labels).is_empty()
            };
            let is_mute = !node.muted_by(now).is_empty();
            let flushed = group.flush(now, node, is_mute, is_muted);
            self.alerts -= before - group.slots().len();
            if let Some((reason, alerts)) = flushed.notify {
                notifications.push(Notification::new(node, &id.labels, alerts, reason, now));
            }
            self.journal.group(&id);
            for fingerprint in flushed.touched {
                self.journal.alert(&id, fingerprint);
            }
            self.schedule(&id);
        }
        notifications
    }

    /// How many alerts found no room since the start; see [`Settings::max_alerts`].
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The tree of routes.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Takes over what a firing alert is like now; `false` if more than that is to be done: it is not
    /// known here, or its labels have changed.
    fn take_over(&mut self, alert: &Arc<Alert>) -> bool {
        let Some(ids) = self.firing.get(&alert.fingerprint) else {
            return false;
        };
        for id in ids {
            let Some(group) = self.groups.get_mut(id) else {
                return false;
            };
            let same = |slot: &Slot| slot.alert.labels == alert.labels;
            if !group.slots().get(&alert.fingerprint).is_some_and(same) {
                return false;
            }
            group.update(alert);
        }
        true
    }

    /// The groups of `alert`.
    fn targets(&self, alert: &Alert) -> Vec<GroupId> {
        let mut targets: Vec<GroupId> = Vec::new();
        let mut seen = BTreeSet::new();
        for route in self.routes.matching(&alert.labels) {
            let Some(node) = self.routes.node(route) else {
                continue;
            };
            let labels = node.group_by.of(alert);
            // Two routes with the same conditions and receiver would tell the same twice.
            if seen.insert((group_key(&node.key, &labels), Arc::clone(&node.receiver))) {
                let labels = Arc::new(labels);
                targets.push(GroupId { route, labels });
            }
        }
        targets
    }

    pub(super) fn fires(&mut self, now: Timestamp, alert: &Arc<Alert>) {
        let fingerprint = alert.fingerprint;
        self.inhibitor.fires(fingerprint, &alert.labels);
        let present = self.firing.remove(&fingerprint).unwrap_or_default();
        let mut targets = self.targets(alert);
        for target in &mut targets {
            let by = self.routes.node(target.route).map(|node| &node.group_by);
            let stays = |id: &&GroupId| {
                let stays = |by: &super::GroupBy| by.stays(&id.labels, &target.labels, alert);
                id.route == target.route && by.is_some_and(stays)
            };
            if let Some(id) = present.iter().find(stays) {
                *target = id.clone();
            }
        }
        for id in present.iter().filter(|id| !targets.contains(id)) {
            // The severity rose, and a route asks for it or groups by it.
            self.leave(now, id, fingerprint, "it went on in another group");
        }
        targets.retain(|id| self.enters(now, id, alert));
        if !targets.is_empty() {
            self.firing.insert(fingerprint, targets);
        }
    }

    /// Sends a firing alert where the tree has it go. Where it is in a group of the right route, it stays.
    pub(super) fn moves(&mut self, now: Timestamp, alert: &Arc<Alert>) {
        let fingerprint = alert.fingerprint;
        let present = self.firing.remove(&fingerprint).unwrap_or_default();
        let mut targets = self.targets(alert);
        for target in &mut targets {
            if let Some(id) = present.iter().find(|id| id.route == target.route) {
                *target = id.clone();
            }
        }
        for id in present.iter().filter(|id| !targets.contains(id)) {
            self.leave(now, id, fingerprint, "the configuration sends it elsewhere");
        }
        targets.retain(|id| present.contains(id) || self.enters(now, id, alert));
        if !targets.is_empty() {
            self.firing.insert(fingerprint, targets);
        }
    }

    /// Puts a firing alert into a group; `false`: there is no room.
    fn enters(&mut self, now: Timestamp, id: &GroupId, alert: &Arc<Alert>) -> bool {
        let fingerprint = alert.fingerprint;
        let Some(node) = self.routes.node(id.route) else {
            return false;
        };
        let known = self.groups.get(id).map(Group::slots);
        let known = known.and_then(|slots| slots.get(&fingerprint));
        let (told, listed) = known.map_or((None, false), |slot| (slot.told, slot.listed));
        if known.is_none() {
            if self.alerts >= self.max_alerts {
                self.refused = self.refused.saturating_add(1);
                return false;
            }
            self.alerts += 1;
        }
        let group = self
            .groups
            .entry(id.clone())
            .or_insert_with(|| Group::new(now, node));
        group.changes(now, alert, node);
        let alert = Arc::clone(alert);
        group.put(
            fingerprint,
            Slot {
                alert,
                told,
                listed,
            },
        );
        self.journal.group(id);
        self.journal.alert(id, fingerprint);
        self.schedule(id);
        true
    }

    fn is_over(&mut self, now: Timestamp, alert: &Arc<Alert>) {
        self.inhibitor.is_over(alert.fingerprint);
        for id in self.firing.remove(&alert.fingerprint).unwrap_or_default() {
            self.ends(now, &id, alert);
        }
    }

    /// Ends an alert in one group. It stays there until the receiver, if he knows of it, was told.
    fn ends(&mut self, now: Timestamp, id: &GroupId, alert: &Arc<Alert>) {
        let (Some(node), Some(group)) = (self.routes.node(id.route), self.groups.get_mut(id))
        else {
            return;
        };
        group.changes(now, alert, node);
        group.update(alert);
        self.journal.group(id);
        self.journal.alert(id, alert.fingerprint);
        self.schedule(id);
    }

    /// Ends an alert in one group though it was not resolved by the machine.
    pub(super) fn leave(
        &mut self,
        now: Timestamp,
        id: &GroupId,
        fingerprint: Fingerprint,
        reason: &str,
    ) {
        let slot = self.groups.get(id).map(Group::slots);
        let Some(slot) = slot.and_then(|slots| slots.get(&fingerprint)) else {
            return;
        };
        let mut alert = Alert::clone(&slot.alert);
        alert.state = AlertState::Resolved;
        alert.resolved_at = Some(now);
        alert.annotations.set("resolved_reason", reason);
        self.ends(now, id, &Arc::new(alert));
    }

    /// Brings the schedule in line with a group, which is removed when it is empty.
    pub(super) fn schedule(&mut self, id: &GroupId) {
        let Some(group) = self.groups.get_mut(id) else {
            return;
        };
        let due = match group.slots().is_empty() {
            true => None,
            false => self
                .routes
                .node(id.route)
                .and_then(|node: &Node| group.due(node)),
        };
        if group.scheduled != due {
            if let Some(before) = group.scheduled.take() {
                self.schedule.remove(&(before, id.clone()));
            }
            if let Some(due) = due {
                self.schedule.insert((due, id.clone()));
            }
            group.scheduled = due;
        }
        if group.slots().is_empty() {
            self.groups.remove(id);
        }
    }
}
