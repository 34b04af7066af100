//! What must survive a crash, and how it comes back.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::posted::{Times, text};
use super::{Entry, External, ExternalSettings};
use crate::model::{Alert, AlertState, Fingerprint, Timestamp};

/// Version of the form below; another one is not read.
const VERSION: u32 = 1;
const FIRING: &str = "firing/";
const RESOLVED: &str = "resolved/";

/// Which entries changed since they were last written.
#[derive(Debug, Default)]
pub(super) struct Journal {
    firing: BTreeSet<Fingerprint>,
    resolved: BTreeSet<Fingerprint>,
    /// Firing ones of which merely something else is said.
    said: BTreeSet<Fingerprint>,
    /// Entries that could not be read.
    damaged: Vec<String>,
}

impl Journal {
    pub(super) fn firing(&mut self, fingerprint: Fingerprint) {
        self.firing.insert(fingerprint);
    }

    pub(super) fn said(&mut self, fingerprint: Fingerprint) {
        self.said.insert(fingerprint);
    }

    pub(super) fn has_entries(&self) -> bool {
        !self.firing.is_empty() || !self.resolved.is_empty() || !self.damaged.is_empty()
    }

    pub(super) fn resolved(&mut self, fingerprint: Fingerprint) {
        self.resolved.insert(fingerprint);
    }
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    alert: Arc<Alert>,
}

impl External {
    /// What must be durable before the last transitions are published: entries that changed since the
    /// last call, as (key, value), `None` where the entry is gone. An alert that is merely reported again
    /// is written now and then only, and one of which merely something else is said is not.
    pub fn changes(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let said = std::mem::take(&mut self.journal.said);
        let journal = std::mem::take(&mut self.journal);
        self.journal.said = said;
        for fingerprint in &journal.firing {
            self.journal.said.remove(fingerprint);
        }
        let damaged = journal.damaged.into_iter().map(|key| (key, None));
        let firing = journal.firing.into_iter().map(|fingerprint| {
            let entry = self.firing.get(&fingerprint);
            let value = entry.and_then(|entry| save(&entry.alert));
            (format!("{FIRING}{fingerprint}"), value)
        });
        let resolved = journal.resolved.into_iter().map(|fingerprint| {
            let value = self.past.get(fingerprint).and_then(save);
            (format!("{RESOLVED}{fingerprint}"), value)
        });
        damaged.chain(firing).chain(resolved).collect()
    }

    /// Like [`External::changes`], together with those of which merely something else is said; for a planned
    /// stop.
    pub fn all_changes(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let said = std::mem::take(&mut self.journal.said);
        self.journal.firing.extend(said);
        self.changes()
    }

    /// The alerts as of the entries that [`External::changes`] gave, and what of them could not be used. One
    /// that fired is given time to be reported again, as much as it had when it was last written, but no
    /// more than [`ExternalSettings::resolve_timeout`]: whoever reports could not reach the daemon either.
    pub fn restore(
        settings: ExternalSettings,
        now: Timestamp,
        entries: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> (Self, Vec<String>) {
        let mut external = Self::new(settings);
        let mut warnings = Vec::new();
        for (key, value) in entries {
            if let Err(problem) = external.restore_entry(now, &key, &value) {
                warnings.push(format!(
                    "reported alert {key} cannot be restored and is dropped: {problem}"
                ));
                external.journal.damaged.push(key);
            }
        }
        (external, warnings)
    }

    fn restore_entry(&mut self, now: Timestamp, key: &str, value: &[u8]) -> Result<(), String> {
        let saved: Saved = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if saved.version != VERSION {
            return Err(format!(
                "version {} of the form, known is {VERSION}",
                saved.version
            ));
        }
        let mut alert = saved.alert;
        let fingerprint = alert.fingerprint;
        if key == format!("{RESOLVED}{fingerprint}") && alert.state == AlertState::Resolved {
            let at = alert.resolved_at.unwrap_or(alert.updated_at);
            self.past.push(alert, at);
            return Ok(());
        }
        if key != format!("{FIRING}{fingerprint}") || alert.state != AlertState::Firing {
            return Err("key and content do not belong together".into());
        }
        let written_until = Times::of(&alert).ends_at;
        let had = written_until.since(alert.updated_at);
        let again = now.plus(had.min(self.settings.resolve_timeout));
        let Some(reported) = &mut Arc::make_mut(&mut alert).grounds.reported else {
            return Err("nobody reported it".into());
        };
        reported.ends_at = reported.ends_at.max(again);
        let ends_at = reported.ends_at;
        let bytes = text(&alert.labels) + alert.reported().map_or(0, |r| text(&r.annotations));
        self.bytes += bytes;
        self.ends.insert((ends_at, fingerprint));
        let entry = Entry {
            alert,
            bytes,
            written_until,
        };
        self.firing.insert(fingerprint, entry);
        Ok(())
    }
}

fn save(alert: &Arc<Alert>) -> Option<Vec<u8>> {
    let saved = Saved {
        version: VERSION,
        alert: Arc::clone(alert),
    };
    // Texts and finite numbers always have a JSON form.
    serde_json::to_vec(&saved).ok()
}
