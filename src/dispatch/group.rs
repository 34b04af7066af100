//! One group of alerts: when it has something to say, and what.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dispatcher::Settings;
use crate::model::{Alert, AlertState, Fingerprint, SeverityLabel, Timestamp};

/// One alert in a group.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// As it was last heard of; firing or resolved.
    pub(super) alert: Arc<Alert>,
    /// With which severity the receiver was told that it fires; `None`: not yet. A resolved alert that
    /// nobody was told of is not kept.
    pub(super) told: Option<SeverityLabel>,
}

impl Slot {
    pub(super) fn fires(&self) -> bool {
        self.alert.state == AlertState::Firing
    }

    /// Whether the receiver knows less than we do.
    fn is_news(&self) -> bool {
        !self.fires() || self.told != Some(self.alert.severity)
    }
}

/// The times of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Times {
    /// The first change that no notification has told of.
    pub(super) changed_at: Option<Timestamp>,
    /// The last notification.
    pub(super) notified_at: Option<Timestamp>,
}

/// Alerts that are notified together.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) slots: BTreeMap<Fingerprint, Slot>,
    pub(super) times: Times,
}

/// What a flush made of a group.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Its time has not come.
    NotDue,
    /// What changed changed back: nothing to say.
    Nothing,
    /// The receiver is to be told.
    Notify,
}

impl Group {
    /// Something may have become news.
    pub(super) fn changed(&mut self, now: Timestamp) {
        self.times.changed_at.get_or_insert(now);
        // A clock that was set back must not silence the group for the difference.
        self.times.notified_at = self.times.notified_at.map(|at| at.min(now));
        self.times.changed_at = self.times.changed_at.map(|at| at.min(now));
    }

    /// When its next notification is due, if nothing changes until then.
    pub(super) fn due(&self, settings: &Settings) -> Option<Timestamp> {
        let interval = settings.interval();
        let change = self
            .times
            .changed_at
            .map(|changed| match self.times.notified_at {
                None => changed.plus(settings.group_wait),
                // After a long silence alerts still come in bunches, so a group waits again, but never
                // longer than Alertmanager's fixed intervals would make it.
                Some(notified) => notified
                    .plus(interval)
                    .max(changed.plus(settings.group_wait.min(interval))),
            });
        let repeat = self
            .times
            .notified_at
            .map(|notified| notified.plus(settings.repeat()));
        change.into_iter().chain(repeat).min()
    }

    /// Decides at `now`, and remembers what the receiver is about to be told. The alerts of the
    /// notification must be taken before.
    pub(super) fn decide(&self, now: Timestamp, settings: &Settings) -> Flushed {
        if self.due(settings).is_none_or(|due| due > now) {
            return Flushed::NotDue;
        }
        let repeat = self
            .times
            .notified_at
            .is_some_and(|at| at.plus(settings.repeat()) <= now);
        let news = self.slots.values().any(Slot::is_news);
        if news || repeat && self.slots.values().any(Slot::fires) {
            Flushed::Notify
        } else {
            Flushed::Nothing
        }
    }

    /// The receiver was told everything at `now`: resolved alerts are done with.
    pub(super) fn told(&mut self, now: Timestamp) {
        self.times = Times {
            changed_at: None,
            notified_at: Some(now),
        };
        self.slots.retain(|_, slot| {
            slot.told = Some(slot.alert.severity);
            slot.fires()
        });
    }
}
