//! What is notified to whom, for people to see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::dispatcher::Dispatcher;
use super::notification::group_key;
use crate::model::{AlertState, Fingerprint, Labels, Timestamp};
use crate::mute::{Muted, Silencer};

/// Who is notified of what, as of one moment.
#[derive(Debug, Clone, Default)]
pub struct Notifying {
    /// Every firing alert that is in a group.
    pub alerts: BTreeMap<Fingerprint, AlertView>,
    /// The groups that have firing alerts, by their labels and then their receiver, as Alertmanager lists
    /// them.
    pub groups: Vec<GroupView>,
}

/// A firing alert.
#[derive(Debug, Clone, Default)]
pub struct AlertView {
    /// Who is notified of it, sorted, each once.
    pub receivers: Vec<Arc<str>>,
    /// Why it is not notified now. Its `muted_by` is set when all of its groups are mute.
    pub muted: Muted,
}

/// Alerts that are notified together.
#[derive(Debug, Clone)]
pub struct GroupView {
    /// As in its notifications: `{}/{team="shop"}:{service="checkout"}`.
    pub key: String,
    /// Who is notified.
    pub receiver: Arc<str>,
    /// What its alerts have in common by configuration.
    pub labels: Arc<Labels>,
    /// Those that fire, sorted.
    pub alerts: Vec<Fingerprint>,
    /// The time intervals that make it mute now, sorted.
    pub muted_by: Vec<String>,
}

impl Dispatcher {
    /// Who is notified of what at `now`. `O(alerts)`, times what `silencer` takes for one.
    pub fn view(&self, now: Timestamp, silencer: &dyn Silencer) -> Notifying {
        let mut view = Notifying::default();
        let mut mute: BTreeMap<Fingerprint, Option<BTreeSet<String>>> = BTreeMap::new();
        for (id, group) in &self.groups {
            let Some(node) = self.routes.node(id.route) else {
                continue;
            };
            let muted_by = node.muted_by(now);
            let mut alerts = Vec::new();
            for (fingerprint, slot) in group.slots() {
                if slot.alert.state != AlertState::Firing {
                    continue;
                }
                alerts.push(*fingerprint);
                let labels = &slot.alert.labels;
                let alert = view
                    .alerts
                    .entry(*fingerprint)
                    .or_insert_with(|| AlertView {
                        receivers: Vec::new(),
                        muted: Muted {
                            silenced_by: silencer.silenced_by(labels, now),
                            inhibited_by: self.inhibitor.inhibited_by(labels),
                            muted_by: Vec::new(),
                        },
                    });
                if let Err(at) = alert.receivers.binary_search(&node.receiver) {
                    alert.receivers.insert(at, Arc::clone(&node.receiver));
                }
                // One group that is not mute is enough.
                let names = mute
                    .entry(*fingerprint)
                    .or_insert_with(|| Some(BTreeSet::new()));
                match names {
                    Some(names) if !muted_by.is_empty() => names.extend(muted_by.iter().cloned()),
                    Some(_) => *names = None,
                    None => {}
                }
            }
            if !alerts.is_empty() {
                view.groups.push(GroupView {
                    key: group_key(&node.key, &id.labels),
                    receiver: Arc::clone(&node.receiver),
                    labels: Arc::clone(&id.labels),
                    alerts,
                    muted_by,
                });
            }
        }
        for (fingerprint, names) in mute {
            if let (Some(alert), Some(names)) = (view.alerts.get_mut(&fingerprint), names) {
                alert.muted.muted_by = names.into_iter().collect();
            }
        }
        view.groups
            .sort_by(|a, b| (&a.labels, &a.receiver).cmp(&(&b.labels, &b.receiver)));
        view
    }
}
