//! What must survive a crash, and how it comes back. A group's times and each of its alerts are
//! entries of their own, so that a change in a large group does not write all of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dispatcher::{Dispatcher, Settings};
use super::group::{Slot, Times};
use super::notification::group_key;
use crate::model::{Alert, AlertState, Fingerprint, Labels, SeverityLabel, Timestamp};

/// Version of the forms below; another one is not read.
const VERSION: u32 = 1;
const GROUP: &str = "group/";
const ALERT: &str = "alert/";

/// Which entries changed since they were last written.
#[derive(Debug, Default)]
pub(super) struct Journal {
    groups: BTreeSet<Labels>,
    alerts: BTreeSet<(Labels, Fingerprint)>,
    /// Entries that could not be read.
    damaged: Vec<String>,
}

impl Journal {
    pub(super) fn group(&mut self, labels: &Labels) {
        if !self.groups.contains(labels) {
            self.groups.insert(labels.clone());
        }
    }

    pub(super) fn alert(&mut self, labels: &Labels, fingerprint: Fingerprint) {
        self.alerts.insert((labels.clone(), fingerprint));
    }
}

#[derive(Serialize, Deserialize)]
struct SavedGroup {
    version: u32,
    group: Labels,
    times: Times,
}

#[derive(Serialize, Deserialize)]
struct SavedAlert {
    version: u32,
    group: Labels,
    told: Option<SeverityLabel>,
    alert: Arc<Alert>,
}

impl Dispatcher {
    /// What must be durable before the last notifications are delivered: entries that changed since
    /// the last call, as (key, value), `None` where the entry is gone.
    pub fn changes(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let journal = std::mem::take(&mut self.journal);
        let mut changes: Vec<_> = journal.damaged.into_iter().map(|key| (key, None)).collect();
        // Texts, times and finite numbers always have a JSON form.
        for group in journal.groups {
            let key = format!("{GROUP}{}", group_key(&group));
            let value = self.groups.get(&group).and_then(|known| {
                let times = known.times;
                serde_json::to_vec(&SavedGroup {
                    version: VERSION,
                    group,
                    times,
                })
                .ok()
            });
            changes.push((key, value));
        }
        for (group, fingerprint) in journal.alerts {
            let key = alert_key(&group, fingerprint);
            let known = self
                .groups
                .get(&group)
                .and_then(|g| g.slots.get(&fingerprint))
                .cloned();
            let value = known.and_then(|Slot { alert, told }| {
                serde_json::to_vec(&SavedAlert {
                    version: VERSION,
                    group,
                    told,
                    alert,
                })
                .ok()
            });
            changes.push((key, value));
        }
        changes
    }

    /// The dispatcher as of the entries that [`Dispatcher::changes`] gave, in any order, and what of
    /// them could not be used. Alerts stay in the groups in which they were notified, also if the
    /// configuration groups others now. What became due while the daemon was down is due at once.
    pub fn restore(
        settings: Settings,
        now: Timestamp,
        entries: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> (Self, Vec<String>) {
        let mut dispatcher = Self::new(settings);
        let mut warnings = Vec::new();
        let mut times = Vec::new();
        for (key, value) in entries {
            let restored = if key.starts_with(GROUP) {
                read_group(&key, &value).map(|group| times.push(group))
            } else {
                dispatcher.restore_alert(&key, &value)
            };
            if let Err(problem) = restored {
                warnings.push(format!(
                    "notification state {key} cannot be restored and is dropped: {problem}"
                ));
                dispatcher.journal.damaged.push(key);
            }
        }
        let mut timed = BTreeSet::new();
        for (labels, times) in times {
            match dispatcher.groups.get_mut(&labels) {
                Some(group) => {
                    // Times from the future are of a clock that was set back since.
                    let past = |time: Option<Timestamp>| time.map(|time| time.min(now));
                    group.times = Times {
                        changed_at: past(times.changed_at),
                        notified_at: past(times.notified_at),
                    };
                    timed.insert(labels);
                }
                // A group without alerts is none.
                None => dispatcher.journal.group(&labels),
            }
        }
        for (labels, group) in &mut dispatcher.groups {
            if !timed.contains(labels) {
                // Its times are lost: look at it soon, rather than never.
                group.changed(now);
                if group.slots.values().any(|slot| slot.told.is_some()) {
                    group.times.notified_at = Some(now);
                }
                dispatcher.journal.group(labels);
            }
        }
        (dispatcher, warnings)
    }

    fn restore_alert(&mut self, key: &str, value: &[u8]) -> Result<(), String> {
        let saved: SavedAlert = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        check_version(saved.version)?;
        let SavedAlert {
            group: labels,
            told,
            alert,
            ..
        } = saved;
        let fingerprint = alert.fingerprint;
        if key != alert_key(&labels, fingerprint) {
            return Err("key and content do not belong together".into());
        }
        match alert.state {
            AlertState::Firing => {
                if let Some(other) = self.firing.get(&fingerprint) {
                    return Err(format!("it fires in group {} already", group_key(other)));
                }
                self.firing.insert(fingerprint, labels.clone());
            }
            AlertState::Resolved if told.is_some() => {}
            AlertState::Resolved | AlertState::Pending => {
                return Err("nothing is to be told of it".into());
            }
        }
        self.groups
            .entry(labels)
            .or_default()
            .slots
            .insert(fingerprint, Slot { alert, told });
        self.alerts += 1;
        Ok(())
    }
}

fn read_group(key: &str, value: &[u8]) -> Result<(Labels, Times), String> {
    let saved: SavedGroup = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    check_version(saved.version)?;
    if key != format!("{GROUP}{}", group_key(&saved.group)) {
        return Err("key and content do not belong together".into());
    }
    Ok((saved.group, saved.times))
}

fn check_version(version: u32) -> Result<(), String> {
    if version == VERSION {
        Ok(())
    } else {
        Err(format!("version {version} of the form, known is {VERSION}"))
    }
}

fn alert_key(group: &Labels, fingerprint: Fingerprint) -> String {
    format!("{ALERT}{fingerprint}/{}", group_key(group))
}
