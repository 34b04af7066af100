//! Two configurations on the same data: what the second alerts on more, less, earlier or later.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{Labels, Timestamp};

use super::ledger::Incident;
use super::run::Ran;

/// What another configuration makes of an alert.
#[derive(Debug, Clone)]
pub(super) enum Difference<'a> {
    /// Only the other alerts.
    More(&'a Incident),
    /// Only the first does.
    Less(&'a Incident),
    /// Both do.
    Both {
        first: &'a Incident,
        other: &'a Incident,
    },
}

impl Difference<'_> {
    /// When it is about.
    pub(super) fn at(&self) -> Timestamp {
        match self {
            Self::More(incident) | Self::Less(incident) => incident.fired_at,
            Self::Both { first, other } => first.fired_at.min(other.fired_at),
        }
    }

    /// `more`, `less`, `earlier`, `later` or `same`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::More(_) => "more",
            Self::Less(_) => "less",
            Self::Both { first, other } => match other.fired_at.cmp(&first.fired_at) {
                std::cmp::Ordering::Less => "earlier",
                std::cmp::Ordering::Greater => "later",
                std::cmp::Ordering::Equal => "same",
            },
        }
    }

    /// By how much the other is earlier or later.
    pub(super) fn by(&self) -> Option<Duration> {
        match self {
            Self::More(_) | Self::Less(_) => None,
            Self::Both { first, other } => {
                let by = first.fired_at.since(other.fired_at);
                Some(by.max(other.fired_at.since(first.fired_at)))
            }
        }
    }
}

/// What an alert is about. The second way of putting it finds an alert again whose rule was renamed or
/// given other labels.
fn subject(incident: &Incident, way: Way) -> Labels {
    let mut labels = incident.alert.labels.clone();
    labels.0.remove("severity");
    if way == Way::Signal {
        labels = Labels::default();
        labels.set("signal_id", incident.alert.signal_id.clone());
    }
    labels
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Labels,
    Signal,
}

/// Matches the alerts of two runs: those of equal labels whose times overlap belong together, each with
/// one other, in order of time; then those on the same signal. In order of time.
pub(super) fn compare<'a>(first: &'a Ran, other: &'a Ran) -> Vec<Difference<'a>> {
    let end = first.end.max(other.end);
    let mut left: Vec<&Incident> = first.ledger.incidents.iter().collect();
    let mut right: Vec<Option<&Incident>> = other.ledger.incidents.iter().map(Some).collect();
    let mut found = Vec::new();
    for way in [Way::Labels, Way::Signal] {
        let mut by_subject: BTreeMap<Labels, VecDeque<usize>> = BTreeMap::new();
        for (at, incident) in right.iter().enumerate() {
            if let Some(incident) = incident {
                let same = by_subject.entry(subject(incident, way)).or_default();
                same.push_back(at);
            }
        }
        left.retain(|incident| {
            let Some(same) = by_subject.get_mut(&subject(incident, way)) else {
                return true;
            };
            // What was over before this one is over before all that follow.
            let over = |at: usize| {
                let candidate = right.get(at).copied().flatten();
                candidate.is_none_or(|candidate| candidate.until(end) < incident.alert.since)
            };
            while same.pop_front_if(|at| over(*at)).is_some() {}
            let hit = same.iter().find_map(|at| {
                let slot = right.get_mut(*at)?;
                slot.take_if(|candidate| overlap(incident, candidate, end))
            });
            let Some(other) = hit else { return true };
            found.push(Difference::Both {
                first: incident,
                other,
            });
            false
        });
    }
    found.extend(left.into_iter().map(Difference::Less));
    found.extend(right.into_iter().flatten().map(Difference::More));
    found.sort_by_key(Difference::at);
    found
}

/// From the first anomalous sample to the end: an alert that is held back for longer is still the same.
fn overlap(a: &Incident, b: &Incident, end: Timestamp) -> bool {
    a.alert.since <= b.until(end) && b.alert.since <= a.until(end)
}
