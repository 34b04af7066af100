//! What must survive a crash, and how it comes back. A group's times and each of its alerts are
//! entries of their own, so that a change in a large group does not write all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dispatcher::{Dispatcher, GroupId, Settings};
use super::group::{Group, Slot, Times};
use super::notification::group_key;
use crate::model::{Alert, AlertState, Fingerprint, Labels, SeverityLabel, Timestamp};

/// Version of the forms below. Version 1, of a time when there was one route, is read, too.
const VERSION: u32 = 2;
const GROUP: &str = "group/";
const ALERT: &str = "alert/";
/// The id of the root, which was the only route in version 1.
const ROOT: &str = "{}";

/// Which entries changed since they were last written.
#[derive(Debug, Default)]
pub(super) struct Journal {
    groups: BTreeSet<GroupId>,
    alerts: BTreeSet<(GroupId, Fingerprint)>,
    /// Entries that could not be read, or are under another key now.
    outdated: BTreeSet<String>,
}

impl Journal {
    pub(super) fn group(&mut self, id: &GroupId) {
        if !self.groups.contains(id) {
            self.groups.insert(id.clone());
        }
    }

    pub(super) fn alert(&mut self, id: &GroupId, fingerprint: Fingerprint) {
        self.alerts.insert((id.clone(), fingerprint));
    }
}

#[derive(Serialize, Deserialize)]
struct SavedGroup {
    version: u32,
    /// Which node of the tree it belongs to, and what that was.
    #[serde(default = "root")]
    route: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    receiver: String,
    group: Labels,
    times: SavedTimes,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SavedTimes {
    Now(Times),
    /// Of version 1.
    Once {
        changed_at: Option<Timestamp>,
        notified_at: Option<Timestamp>,
    },
}

#[derive(Serialize, Deserialize)]
struct SavedAlert {
    version: u32,
    #[serde(default = "root")]
    route: String,
    group: Labels,
    told: Option<SeverityLabel>,
    #[serde(default = "yes")]
    listed: bool,
    alert: Arc<Alert>,
}

fn root() -> String {
    ROOT.into()
}

fn yes() -> bool {
    true
}

impl Dispatcher {
    /// What must be durable before the last notifications are delivered: entries that changed since
    /// the last call, as (key, value), `None` where the entry is gone.
    pub fn changes(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let journal = std::mem::take(&mut self.journal);
        let mut changes: BTreeMap<String, Option<Vec<u8>>> = journal
            .outdated
            .into_iter()
            .map(|key| (key, None))
            .collect();
        // Texts, times and finite numbers always have a JSON form.
        for id in journal.groups {
            let Some(node) = self.routes.node(id.route) else {
                continue;
            };
            let value = self.groups.get(&id).and_then(|group| {
                serde_json::to_vec(&SavedGroup {
                    version: VERSION,
                    route: node.id.to_string(),
                    key: node.key.to_string(),
                    receiver: node.receiver.to_string(),
                    group: Labels::clone(&id.labels),
                    times: SavedTimes::Now(group.times),
                })
                .ok()
            });
            changes.insert(group_entry(&node.id, &id.labels), value);
        }
        for (id, fingerprint) in journal.alerts {
            let Some(node) = self.routes.node(id.route) else {
                continue;
            };
            let slots = self.groups.get(&id).map(Group::slots);
            let slot = slots.and_then(|slots| slots.get(&fingerprint)).cloned();
            let value = slot.and_then(|slot| {
                let Slot {
                    alert,
                    told,
                    listed,
                } = slot;
                serde_json::to_vec(&SavedAlert {
                    version: VERSION,
                    route: node.id.to_string(),
                    group: Labels::clone(&id.labels),
                    told,
                    listed,
                    alert,
                })
                .ok()
            });
            changes.insert(alert_entry(&node.id, &id.labels, fingerprint), value);
        }
        changes.into_iter().collect()
    }

    /// The dispatcher as of the entries that [`Dispatcher::changes`] gave, in any order, and what of
    /// them could not be used. Alerts stay in the groups in which they were notified, also if a route
    /// groups others now. Where the configuration has sent them elsewhere, those who were told of them are
    /// told that they end there, and the others that they fire. What became due while the daemon was
    /// down is due at once.
    pub fn restore(
        settings: Settings,
        now: Timestamp,
        entries: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> (Self, Vec<String>) {
        let mut dispatcher = Self::new(settings);
        let mut warnings = Vec::new();
        let (mut groups, mut alerts) = (BTreeMap::new(), Vec::new());
        for (key, value) in entries {
            let read = if key.starts_with(GROUP) {
                read_group(&key, &value).map(|group| {
                    let id = (group.route.clone(), group.group.clone());
                    groups.insert(id, group);
                })
            } else {
                read_alert(&key, &value).map(|alert| alerts.push((key.clone(), alert)))
            };
            if let Err(problem) = read {
                warnings.push(dropped(&key, &problem));
                dispatcher.journal.outdated.insert(key);
            }
        }
        let mut used = BTreeSet::new();
        for (key, saved) in alerts {
            let id = (saved.route.clone(), saved.group.clone());
            let group = groups.get(&id);
            if let Err(problem) = dispatcher.restore_alert(&key, saved, group, now) {
                warnings.push(dropped(&key, &problem));
                dispatcher.journal.outdated.insert(key);
            }
            used.insert(id);
        }
        for (id, _) in groups.iter().filter(|(id, _)| !used.contains(id)) {
            // A group without alerts is none.
            let (route, labels) = id;
            let entry = group_entry(route, labels);
            dispatcher.journal.outdated.insert(entry);
        }
        dispatcher.route_anew(now);
        for id in dispatcher.groups.keys().cloned().collect::<Vec<_>>() {
            dispatcher.schedule(&id);
        }
        (dispatcher, warnings)
    }

    fn restore_alert(
        &mut self,
        key: &str,
        saved: SavedAlert,
        group: Option<&SavedGroup>,
        now: Timestamp,
    ) -> Result<(), String> {
        let receiver = group
            .map(|group| group.receiver.as_str())
            .filter(|receiver| !receiver.is_empty());
        let route = match (self.routes.find(&saved.route, receiver), group) {
            (Some(route), _) => route,
            (None, Some(group)) => {
                self.journal.outdated.insert(key.to_owned());
                let entry = group_entry(&saved.route, &saved.group);
                self.journal.outdated.insert(entry);
                self.routes
                    .retire(&saved.route, &group.key, &group.receiver)
            }
            (None, None) => return Err(format!("there is no route {}", saved.route)),
        };
        let id = GroupId {
            route,
            labels: Arc::new(saved.group),
        };
        let SavedAlert {
            told,
            listed,
            alert,
            ..
        } = saved;
        let fingerprint = alert.fingerprint;
        match alert.state {
            AlertState::Firing => {
                self.inhibitor.fires(fingerprint, &alert.labels);
                let groups = self.firing.entry(fingerprint).or_default();
                if groups.iter().any(|other| other.route == id.route) {
                    return Err("it fires in another group already".into());
                }
                groups.push(id.clone());
            }
            AlertState::Resolved => {}
            AlertState::Pending => return Err("nothing is to be told of it".into()),
        }
        let Some(node) = self.routes.node(route) else {
            return Ok(());
        };
        let times = || match group {
            Some(group) => group.times.at(now, node.group_wait, node.group_interval),
            // They are lost: look at it soon, rather than never.
            None => Times {
                next: now,
                flushed: true,
                notified_at: None,
            },
        };
        let restored = self.groups.entry(id.clone());
        let restored = restored.or_insert_with(|| Group::restored(times()));
        if told.is_some() {
            restored.times.notified_at.get_or_insert(now);
        }
        if group.is_none() {
            self.journal.group(&id);
        }
        restored.put(
            fingerprint,
            Slot {
                alert,
                told,
                listed,
            },
        );
        self.alerts += 1;
        if self.routes.is_retired(route) {
            self.journal.group(&id);
            self.journal.alert(&id, fingerprint);
        }
        Ok(())
    }

    /// Sends firing alerts where the tree has them go, if that is not where they are.
    fn route_anew(&mut self, now: Timestamp) {
        let mut firing: BTreeMap<Fingerprint, Arc<Alert>> = BTreeMap::new();
        for (fingerprint, ids) in &self.firing {
            let alert = ids.first().and_then(|id| {
                let slots = self.groups.get(id)?.slots();
                slots.get(fingerprint).map(|slot| Arc::clone(&slot.alert))
            });
            firing.extend(alert.map(|alert| (*fingerprint, alert)));
        }
        for (fingerprint, alert) in firing {
            let routes = self.routes.matching(&alert.labels);
            let goes_elsewhere = |id: &GroupId| !routes.contains(&id.route);
            let is_missing = |route: &usize| {
                let ids = self.firing.get(&fingerprint).into_iter().flatten();
                !ids.into_iter().any(|id| id.route == *route)
            };
            let mut present = self.firing.get(&fingerprint).into_iter().flatten();
            if present.any(goes_elsewhere) || routes.iter().any(is_missing) {
                self.moves(now, &alert);
            }
        }
    }
}

impl SavedTimes {
    /// The times as of now, if a clock was not set back since.
    fn at(&self, now: Timestamp, wait: Duration, interval: Duration) -> Times {
        let times = match *self {
            Self::Now(times) => times,
            Self::Once {
                changed_at,
                notified_at,
            } => Times {
                next: match (changed_at, notified_at) {
                    (_, Some(notified)) => notified.plus(interval),
                    (changed, None) => changed.unwrap_or(now).plus(wait),
                },
                flushed: notified_at.is_some(),
                notified_at,
            },
        };
        let longest = if times.flushed { interval } else { wait };
        Times {
            next: times.next.min(now.plus(longest)),
            notified_at: times.notified_at.map(|at| at.min(now)),
            ..times
        }
    }
}

fn dropped(key: &str, problem: &str) -> String {
    format!("notification state {key} cannot be restored and is dropped: {problem}")
}

fn read_group(key: &str, value: &[u8]) -> Result<SavedGroup, String> {
    let saved: SavedGroup = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    check_version(saved.version)?;
    if key != group_entry(&saved.route, &saved.group) {
        return Err("key and content do not belong together".into());
    }
    Ok(saved)
}

fn read_alert(key: &str, value: &[u8]) -> Result<SavedAlert, String> {
    let saved: SavedAlert = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    check_version(saved.version)?;
    if key != alert_entry(&saved.route, &saved.group, saved.alert.fingerprint) {
        return Err("key and content do not belong together".into());
    }
    Ok(saved)
}

fn check_version(version: u32) -> Result<(), String> {
    if (1..=VERSION).contains(&version) {
        Ok(())
    } else {
        Err(format!("version {version} of the form, known is {VERSION}"))
    }
}

fn group_entry(route: &str, labels: &Labels) -> String {
    format!("{GROUP}{}", group_key(route, labels))
}

fn alert_entry(route: &str, labels: &Labels, fingerprint: Fingerprint) -> String {
    format!("{ALERT}{fingerprint}/{}", group_key(route, labels))
}
