//! What people called normal, so that a later alert on the same says so.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{Alert, Dismissal, Fingerprint, Timestamp};

/// Version of the form in which they are saved; another one is not read.
const VERSION: u32 = 1;
/// So many are remembered; of more the oldest are forgotten.
const MOST: usize = 10_000;

/// The newest answer to each alert.
#[derive(Debug, Clone, Default)]
pub(super) struct Dismissals {
    all: BTreeMap<Fingerprint, Record>,
    /// By signal the alert that was answered last: the same deviation may come by another rule.
    of_signal: BTreeMap<String, Fingerprint>,
    changed: BTreeSet<Fingerprint>,
    /// Entries that could not be read.
    damaged: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    version: u32,
    signal_id: String,
    /// When the deviation of the alert began.
    since: Timestamp,
    dismissal: Dismissal,
}

impl Dismissals {
    /// Remembers the answer to an alert.
    pub(super) fn note(&mut self, alert: &Alert, dismissal: Dismissal) {
        let record = Record {
            version: VERSION,
            signal_id: alert.signal_id.clone(),
            since: alert.since,
            dismissal,
        };
        self.keep(alert.fingerprint, record);
        self.changed.insert(alert.fingerprint);
        while self.all.len() > MOST {
            let oldest = self
                .all
                .iter()
                .min_by_key(|(_, record)| record.dismissal.at);
            let Some(fingerprint) = oldest.map(|(fingerprint, _)| *fingerprint) else {
                break;
            };
            if let Some(record) = self.all.remove(&fingerprint)
                && self.of_signal.get(&record.signal_id) == Some(&fingerprint)
            {
                self.of_signal.remove(&record.signal_id);
            }
            self.changed.insert(fingerprint);
        }
    }

    fn keep(&mut self, fingerprint: Fingerprint, record: Record) {
        let newest = self.of_signal.get(&record.signal_id);
        let newest = newest.and_then(|fingerprint| self.all.get(fingerprint));
        if newest.is_none_or(|newest| newest.dismissal.at <= record.dismissal.at) {
            self.of_signal.insert(record.signal_id.clone(), fingerprint);
        }
        self.all.insert(fingerprint, record);
    }

    /// What was answered to an earlier episode of this alert, or of another on its signal.
    pub(super) fn before(&self, alert: &Alert) -> Option<&Dismissal> {
        let own = self.all.get(&alert.fingerprint);
        let of_signal = self.of_signal.get(&alert.signal_id);
        let of_signal = of_signal.and_then(|fingerprint| self.all.get(fingerprint));
        [own, of_signal]
            .into_iter()
            .flatten()
            .filter(|record| record.since < alert.since)
            .map(|record| &record.dismissal)
            .max_by_key(|dismissal| dismissal.at)
    }

    /// Entries that changed since the last call, as (key, value), `None` where one is gone.
    pub(super) fn changes(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let damaged = std::mem::take(&mut self.damaged);
        let changed = std::mem::take(&mut self.changed);
        let saved = |fingerprint: Fingerprint| {
            let record = self.all.get(&fingerprint);
            // Texts and times always have a JSON form.
            let value = record.and_then(|record| serde_json::to_vec(record).ok());
            (fingerprint.to_string(), value)
        };
        let damaged = damaged.into_iter().map(|key| (key, None));
        damaged.chain(changed.into_iter().map(saved)).collect()
    }

    /// As of what [`Dismissals::changes`] gave, and what of it could not be used.
    pub(super) fn restore(
        entries: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> (Self, Vec<String>) {
        let (mut dismissals, mut warnings) = (Self::default(), Vec::new());
        for (key, value) in entries {
            match read(&key, &value) {
                Ok((fingerprint, record)) => dismissals.keep(fingerprint, record),
                Err(problem) => {
                    warnings.push(format!(
                        "answer to alert {key} cannot be restored and is dropped: {problem}"
                    ));
                    dismissals.damaged.push(key);
                }
            }
        }
        (dismissals, warnings)
    }
}

fn read(key: &str, value: &[u8]) -> Result<(Fingerprint, Record), String> {
    let record: Record = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    match record.version {
        VERSION => Ok((key.parse()?, record)),
        other => Err(format!("version {other} of the form, known is {VERSION}")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::explain::fixtures::alert;

    fn dismissal(author: &str, at: Timestamp) -> Dismissal {
        Dismissal {
            author: author.into(),
            comment: "nightly import".into(),
            at,
        }
    }

    #[test]
    fn later_alerts_of_the_signal_know_and_a_restart_forgets_nothing() {
        let mut dismissals = Dismissals::default();
        let first = alert("checkout");
        let at = first.since.plus(Duration::from_secs(60));
        dismissals.note(&first, dismissal("ada", at));
        assert_eq!(dismissals.before(&first), None);
        let mut entries: Vec<_> = dismissals
            .changes()
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        entries.push(("junk".into(), b"{}".to_vec()));
        let (mut restored, warnings) = Dismissals::restore(entries);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!(restored.changes(), vec![("junk".into(), None)]);

        let mut later = first.clone();
        later.since = at.plus(Duration::from_secs(60));
        let author = |alert: &Alert| restored.before(alert).map(|d| d.author.clone());
        assert_eq!(author(&later).as_deref(), Some("ada"));
        // By another rule on the same signal, and by the same rule after the instance has changed.
        let mut other_rule = later.clone();
        other_rule.fingerprint = Fingerprint(7);
        assert_eq!(author(&other_rule).as_deref(), Some("ada"));
        let mut other_instance = later.clone();
        other_instance.signal_id = "other".into();
        assert_eq!(author(&other_instance).as_deref(), Some("ada"));
        let mut another = other_rule;
        another.signal_id = "other".into();
        assert_eq!(author(&another), None);
    }

    #[test]
    fn the_oldest_answers_are_forgotten() {
        let mut dismissals = Dismissals::default();
        let mut one = alert("checkout");
        for number in 0..=10_000_i64 {
            one.fingerprint = Fingerprint(u64::try_from(number).expect("small"));
            one.signal_id = number.to_string();
            dismissals.note(&one, dismissal("ada", Timestamp::from_secs(number)));
        }
        assert_eq!(
            (dismissals.all.len(), dismissals.of_signal.len()),
            (MOST, MOST)
        );
        let gone = dismissals
            .changes()
            .into_iter()
            .filter(|(_, value)| value.is_none());
        assert_eq!(
            gone.map(|(key, _)| key).collect::<Vec<_>>(),
            [Fingerprint(0).to_string()]
        );
    }
}
