//! One group of alerts: when it has something to say, and what.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::notification::Reason;
use super::route::Node;
use crate::model::{Alert, AlertState, Fingerprint, SeverityLabel, Timestamp};

/// How long it is remembered that somebody is to be told of an alert's end who cannot be told now: as
/// long as Alertmanager remembers notifications.
const OWED_FOR: Duration = Duration::from_hours(120);

/// One alert in a group.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// As it was last heard of; firing or resolved.
    pub(super) alert: Arc<Alert>,
    /// With which severity the receiver was told that it fires; `None`: not yet.
    pub(super) told: Option<SeverityLabel>,
    /// Whether it was in the last notification of its group, which leaves out what is muted.
    pub(super) listed: bool,
}

impl Slot {
    pub(super) fn fires(&self) -> bool {
        self.alert.state == AlertState::Firing
    }

    /// Whether the receiver knows less than we do, so that the next flush has to look at it.
    fn is_open(&self) -> bool {
        !self.fires() || self.told != Some(self.alert.severity) || !self.listed
    }

    /// The same of a resolved alert: whether there is somebody who was told that it fires.
    fn is_owed(&self) -> bool {
        !self.fires() && self.told.is_some()
    }
}

/// The times of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Times {
    /// The first flush that was not made yet. All others are whole group_intervals before or after it.
    pub(super) next: Timestamp,
    /// Whether there was a flush.
    pub(super) flushed: bool,
    /// The flush of the last notification.
    pub(super) notified_at: Option<Timestamp>,
}

/// Alerts that are notified together.
#[derive(Debug)]
pub(super) struct Group {
    slots: BTreeMap<Fingerprint, Slot>,
    pub(super) times: Times,
    /// How many slots are open.
    open: usize,
    /// As which it is in the dispatcher's schedule.
    pub(super) scheduled: Option<Timestamp>,
}

/// What a flush made of a group.
#[derive(Debug, PartialEq)]
pub(super) struct Flushed {
    /// What the receiver is to be told, and why.
    pub(super) notify: Option<(Reason, Vec<Arc<Alert>>)>,
    /// Alerts whose slots changed or are gone.
    pub(super) touched: Vec<Fingerprint>,
}

impl Group {
    /// A group that begins at `now`.
    pub(super) fn new(now: Timestamp, node: &Node) -> Self {
        Self::restored(Times {
            next: now.plus(node.group_wait),
            flushed: false,
            notified_at: None,
        })
    }

    /// A group without alerts yet.
    pub(super) fn restored(times: Times) -> Self {
        Self {
            slots: BTreeMap::new(),
            times,
            open: 0,
            scheduled: None,
        }
    }

    pub(super) fn slots(&self) -> &BTreeMap<Fingerprint, Slot> {
        &self.slots
    }

    /// Puts a slot in the place of what is there.
    pub(super) fn put(&mut self, fingerprint: Fingerprint, slot: Slot) {
        self.open += usize::from(slot.is_open());
        let before = self.slots.insert(fingerprint, slot);
        self.open -= usize::from(before.is_some_and(|slot| slot.is_open()));
    }

    /// Takes over what is known of an alert: its numbers and texts, or that it is over.
    pub(super) fn update(&mut self, alert: &Arc<Alert>) {
        let Some(slot) = self.slots.get_mut(&alert.fingerprint) else {
            return;
        };
        self.open -= usize::from(slot.is_open());
        slot.alert = Arc::clone(alert);
        self.open += usize::from(slot.is_open());
    }

    /// Something is about to become news: it is told at the next flush, not at one that has passed. To
    /// be called before the change.
    pub(super) fn changes(&mut self, now: Timestamp, alert: &Alert, node: &Node) {
        let due = self.due(node);
        let times = &mut self.times;
        // A clock that was set back must not silence the group for the difference.
        times.notified_at = times.notified_at.map(|at| at.min(now));
        if times.flushed {
            let interval = node.group_interval;
            let late = now.since(times.next);
            if late > Duration::ZERO {
                let passed = late.as_nanos().div_ceil(interval.as_nanos());
                let coming = times.next.plus(times_over(interval, passed));
                // Unless there was something to do, for which we are late.
                times.next = due.map_or(coming, |due| due.min(coming));
            }
            times.next = times.next.min(now.plus(interval));
        } else {
            times.next = times.next.min(now.plus(node.group_wait));
            // Who is told late already is not to wait longer.
            let since = alert.fired_at.unwrap_or(alert.since);
            if alert.state == AlertState::Firing && since.plus(node.group_wait) < now {
                times.next = times.next.min(now);
            }
        }
    }

    /// When its next flush has something to do, if nothing changes until then.
    pub(super) fn due(&self, node: &Node) -> Option<Timestamp> {
        if !self.times.flushed || self.open > 0 {
            return Some(self.times.next);
        }
        // All that fires was told: the first flush after repeat_interval.
        let Some(notified) = self.times.notified_at else {
            return Some(self.times.next);
        };
        let wait = notified.plus(node.repeat_interval).since(self.times.next);
        let interval = node.group_interval;
        let passed = wait.as_nanos().div_ceil(interval.as_nanos());
        Some(self.times.next.plus(times_over(interval, passed)))
    }

    /// Makes the flush that is due at `now`. `mutes` says what is not to be told: all, or single alerts.
    pub(super) fn flush(
        &mut self,
        now: Timestamp,
        node: &Node,
        is_mute: bool,
        is_muted: impl Fn(&Alert) -> bool,
    ) -> Flushed {
        let interval = node.group_interval;
        // Where flushes were missed, this is the last of them.
        let passed = now.since(self.times.next).as_nanos() / interval.as_nanos();
        let tick = self.times.next.plus(times_over(interval, passed));
        self.times.next = tick.plus(interval);
        self.times.flushed = true;

        let is_told = |slot: &Slot| !is_mute && !is_muted(&slot.alert);
        let told: BTreeMap<Fingerprint, bool> = self
            .slots
            .iter()
            .map(|(fingerprint, slot)| (*fingerprint, is_told(slot)))
            .collect();
        let is_told = |fingerprint: &Fingerprint| told.get(fingerprint) == Some(&true);
        let visible = || {
            let slots = self.slots.iter();
            slots
                .filter(|(fingerprint, _)| is_told(fingerprint))
                .map(|(_, slot)| slot)
        };
        let repeats = self
            .times
            .notified_at
            .is_some_and(|at| at.plus(node.repeat_interval) <= tick);
        let reason = if visible().any(|slot| slot.fires() && slot.is_open()) {
            Some(Reason::Firing)
        } else if repeats && visible().any(Slot::fires) {
            Some(Reason::Repeat)
        } else if visible().any(Slot::is_owed) {
            Some(Reason::Resolved)
        } else {
            None
        };
        let notify = reason.map(|reason| {
            let alerts = visible()
                .filter(|slot| slot.fires() || slot.is_owed())
                .map(|slot| Arc::clone(&slot.alert))
                .collect();
            (reason, alerts)
        });
        if notify.is_some() {
            self.times.notified_at = Some(tick);
        }

        let mut touched = Vec::new();
        let forget = |slot: &Slot| {
            let over = slot.alert.resolved_at.unwrap_or(now);
            now.since(over) > OWED_FOR
        };
        let notifies = notify.is_some();
        self.slots.retain(|fingerprint, slot| {
            let is_told = notifies && is_told(fingerprint);
            if !slot.fires() {
                let stays = slot.is_owed() && !is_told && !forget(slot);
                if !stays {
                    touched.push(*fingerprint);
                }
                return stays;
            }
            let after = Slot {
                alert: Arc::clone(&slot.alert),
                told: if is_told {
                    Some(slot.alert.severity)
                } else {
                    slot.told
                },
                listed: if notifies { is_told } else { slot.listed },
            };
            if (after.told, after.listed) != (slot.told, slot.listed) {
                *slot = after;
                touched.push(*fingerprint);
            }
            true
        });
        self.open = self.slots.values().filter(|slot| slot.is_open()).count();
        Flushed { notify, touched }
    }
}

fn times_over(interval: Duration, count: u128) -> Duration {
    let nanos = interval.as_nanos().saturating_mul(count);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
