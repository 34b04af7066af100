//! What must survive a crash, and how it comes back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Key};
use super::episode::Episode;
use super::machine::{Machine, Settings};
use crate::model::{Alert, AlertState, Fingerprint, Rule, RuleId, SignalId, Timestamp};

/// Version of the form below; another one is not read.
const VERSION: u32 = 1;
const ACTIVE: &str = "active/";
const RESOLVED: &str = "resolved/";
const FIRES: &str = "fires/";

/// Which entries changed since they were last written.
#[derive(Debug, Default)]
pub(super) struct Journal {
    active: BTreeSet<Fingerprint>,
    /// Changed in numbers only.
    counted: BTreeSet<Fingerprint>,
    resolved: BTreeSet<Fingerprint>,
    /// Fired, or did so too long ago to count.
    fired: BTreeSet<Fingerprint>,
    /// Entries that could not be read.
    damaged: Vec<String>,
}

impl Journal {
    /// A pending or firing alert changed in what decides about it.
    pub(super) fn decided(&mut self, fingerprint: Fingerprint) {
        self.active.insert(fingerprint);
    }

    /// A pending or firing alert changed in its numbers.
    pub(super) fn counted(&mut self, fingerprint: Fingerprint) {
        self.counted.insert(fingerprint);
    }

    /// When an alert fired changed.
    pub(super) fn fired(&mut self, fingerprint: Fingerprint) {
        self.fired.insert(fingerprint);
    }

    /// A resolved alert came or went.
    pub(super) fn resolved(&mut self, fingerprint: Fingerprint) {
        self.resolved.insert(fingerprint);
    }
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    alert: Arc<Alert>,
    /// Empty when resolved.
    #[serde(default)]
    episodes: Vec<SavedEpisode>,
}

#[derive(Serialize, Deserialize)]
struct SavedEpisode {
    /// Name of the rule; positions shift when the configuration changes.
    rule: String,
    /// Which of the rules of that name, from 0.
    nth: usize,
    signal: String,
    #[serde(flatten)]
    episode: Episode,
}

impl Machine {
    /// What must be durable before the last transitions are published: entries that changed since the
    /// last call, as (key, value), `None` where the entry is gone.
    ///
    /// An entry is written when its state, its severity label, its progress towards `for` or towards
    /// resolving, or the order of magnitude of its sample count changed. A firing alert whose numbers
    /// merely move is not written each tick: after a crash it shows slightly older ones until its next
    /// sample.
    pub fn changes(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let names = Names::new(&self.rules);
        let mut changes: Vec<_> = std::mem::take(&mut self.journal.damaged)
            .into_iter()
            .map(|key| (key, None))
            .collect();
        for fingerprint in std::mem::take(&mut self.journal.active) {
            self.journal.counted.remove(&fingerprint);
            let value = match (
                self.entries.get(&fingerprint),
                self.orphans.get(&fingerprint),
            ) {
                (Some(entry), _) => save(&entry.alert, names.episodes(entry)),
                (None, Some(orphan)) => save(orphan, Vec::new()),
                (None, None) => None,
            };
            changes.push((format!("{ACTIVE}{fingerprint}"), value));
        }
        for fingerprint in std::mem::take(&mut self.journal.resolved) {
            let value = self
                .past
                .get(fingerprint)
                .and_then(|alert| save(alert, Vec::new()));
            changes.push((format!("{RESOLVED}{fingerprint}"), value));
        }
        for fingerprint in std::mem::take(&mut self.journal.fired) {
            let value = self.fires.times(fingerprint).and_then(save_fires);
            changes.push((format!("{FIRES}{fingerprint}"), value));
        }
        changes
    }

    /// Like [`Machine::changes`], together with the entries that changed in numbers only; for a
    /// planned stop.
    pub fn all_changes(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let counted = std::mem::take(&mut self.journal.counted);
        self.journal.active.extend(counted);
        self.changes()
    }

    /// Everything that must survive a stop at this moment, whether it has changed or not: what all
    /// calls of [`Machine::changes`] together would have left.
    pub fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        let names = Names::new(&self.rules);
        let active = self.entries.iter().map(|(fingerprint, entry)| {
            let value = save(&entry.alert, names.episodes(entry));
            (format!("{ACTIVE}{fingerprint}"), value)
        });
        let orphans = self.orphans.iter().map(|(fingerprint, orphan)| {
            let value = save(orphan, Vec::new());
            (format!("{ACTIVE}{fingerprint}"), value)
        });
        let resolved = self.past.iter().map(|alert| {
            let value = save(alert, Vec::new());
            (format!("{RESOLVED}{}", alert.fingerprint), value)
        });
        let fires = self.fires.all().map(|(fingerprint, times)| {
            let value = save_fires(times);
            (format!("{FIRES}{fingerprint}"), value)
        });
        active
            .chain(orphans)
            .chain(resolved)
            .chain(fires)
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    }

    /// The machine as of the entries that [`Machine::changes`] gave, and what of them could not be
    /// used. `now` is when the signals of the restored alerts count as last heard of, so that a long
    /// stop of the daemon is not taken for silence of the services.
    ///
    /// A firing alert whose rule is gone is resolved by the next [`Machine::step`] or
    /// [`Machine::expire`], so that those who were told of it are told of its end.
    pub fn restore(
        rules: Arc<[Rule]>,
        settings: Settings,
        now: Timestamp,
        entries: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> (Self, Vec<String>) {
        let mut machine = Self::new(rules, settings);
        let names = Names::new(&Arc::clone(&machine.rules)).ids;
        let mut warnings = Vec::new();
        for (key, value) in entries {
            if let Err(problem) = machine.restore_entry(&names, now, &key, &value) {
                warnings.push(format!(
                    "alert {key} cannot be restored and is dropped: {problem}"
                ));
                machine.journal.damaged.push(key);
            }
        }
        (machine, warnings)
    }

    fn restore_entry(
        &mut self,
        names: &BTreeMap<(String, usize), RuleId>,
        now: Timestamp,
        key: &str,
        value: &[u8],
    ) -> Result<(), String> {
        if let Some(fingerprint) = key.strip_prefix(FIRES) {
            let saved: SavedFires =
                serde_json::from_slice(value).map_err(|error| error.to_string())?;
            check_version(saved.version)?;
            self.fires.restore(fingerprint.parse()?, saved.times);
            return Ok(());
        }
        let saved: Saved = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        check_version(saved.version)?;
        let alert = saved.alert;
        let fingerprint = alert.fingerprint;
        if key == format!("{RESOLVED}{fingerprint}") && alert.state == AlertState::Resolved {
            self.past.push(
                Arc::clone(&alert),
                alert.resolved_at.unwrap_or(alert.updated_at),
            );
            return Ok(());
        }
        if key != format!("{ACTIVE}{fingerprint}") || alert.state == AlertState::Resolved {
            return Err("key and content do not belong together".into());
        }
        let mut episodes = BTreeMap::new();
        for saved in saved.episodes {
            let signal: SignalId = saved.signal.parse()?;
            let Some(rule) = names.get(&(saved.rule, saved.nth)) else {
                continue;
            };
            let key = (signal, *rule);
            let room = self.index.len() + episodes.len() < self.settings.max_active;
            if room && !self.index.contains_key(&key) {
                let mut episode = saved.episode;
                episode.heard_at = now;
                episodes.insert(key, episode);
            }
        }
        if episodes.is_empty() {
            self.journal.decided(fingerprint);
            if alert.state == AlertState::Firing {
                self.orphans.insert(fingerprint, alert);
            }
            return Ok(());
        }
        self.index
            .extend(episodes.keys().map(|key| (*key, fingerprint)));
        self.entries.insert(fingerprint, Entry { alert, episodes });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct SavedFires {
    version: u32,
    times: Vec<Timestamp>,
}

fn save_fires(times: &VecDeque<Timestamp>) -> Option<Vec<u8>> {
    let saved = SavedFires {
        version: VERSION,
        times: times.iter().copied().collect(),
    };
    serde_json::to_vec(&saved).ok()
}

fn check_version(version: u32) -> Result<(), String> {
    if version == VERSION {
        Ok(())
    } else {
        Err(format!("version {version} of the form, known is {VERSION}"))
    }
}

fn save(alert: &Arc<Alert>, episodes: Vec<SavedEpisode>) -> Option<Vec<u8>> {
    let saved = Saved {
        version: VERSION,
        alert: Arc::clone(alert),
        episodes,
    };
    // Texts and finite numbers always have a JSON form.
    serde_json::to_vec(&saved).ok()
}

/// How rules are called in the store: by name, and by a count where several share one.
struct Names {
    names: Vec<(String, usize)>,
    ids: BTreeMap<(String, usize), RuleId>,
}

impl Names {
    fn new(rules: &[Rule]) -> Self {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut names = Vec::with_capacity(rules.len());
        for rule in rules {
            let nth = seen.entry(&rule.alert).or_default();
            names.push((rule.alert.clone(), *nth));
            *nth += 1;
        }
        let ids = (0..).map(RuleId);
        Self {
            ids: names.iter().cloned().zip(ids).collect(),
            names,
        }
    }

    fn episodes(&self, entry: &Entry) -> Vec<SavedEpisode> {
        let save = |(key, episode): (&Key, &Episode)| {
            let (signal, rule) = key;
            let (rule, nth) = self.names.get(usize::try_from(rule.0).ok()?)?.clone();
            let signal = signal.to_string();
            Some(SavedEpisode {
                rule,
                nth,
                signal,
                episode: episode.clone(),
            })
        };
        entry.episodes.iter().filter_map(save).collect()
    }
}
