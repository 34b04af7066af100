//! Alerts that were resolved a short while ago, so that people still find what just was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{Alert, Fingerprint, Timestamp};

/// The newest resolved episode of each alert, oldest resolution first in `order`.
#[derive(Debug, Default)]
pub(super) struct Past {
    alerts: BTreeMap<Fingerprint, Arc<Alert>>,
    order: BTreeSet<(Timestamp, Fingerprint)>,
}

impl Past {
    /// Keeps `alert`, which was resolved at `at`.
    pub(super) fn push(&mut self, alert: Arc<Alert>, at: Timestamp) {
        let fingerprint = alert.fingerprint;
        if let Some(before) = self.alerts.insert(fingerprint, alert) {
            self.order.remove(&(resolved_at(&before), fingerprint));
        }
        self.order.insert((at, fingerprint));
    }

    /// Forgets the oldest one if it was resolved at or before `until`, or if there are more than `most`.
    pub(super) fn pop(&mut self, until: Timestamp, most: usize) -> Option<Fingerprint> {
        let (at, fingerprint) = *self.order.first()?;
        if at > until && self.alerts.len() <= most {
            return None;
        }
        self.order.pop_first();
        self.alerts.remove(&fingerprint);
        Some(fingerprint)
    }

    /// When the oldest one was resolved.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    pub(super) fn get(&self, fingerprint: Fingerprint) -> Option<&Arc<Alert>> {
        self.alerts.get(&fingerprint)
    }

    pub(super) fn get_mut(&mut self, fingerprint: Fingerprint) -> Option<&mut Arc<Alert>> {
        self.alerts.get_mut(&fingerprint)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Alert>> {
        self.alerts.values()
    }
}

fn resolved_at(alert: &Alert) -> Timestamp {
    alert.resolved_at.unwrap_or(alert.updated_at)
}
