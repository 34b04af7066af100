use std::collections::{BTreeMap, BTreeSet};

use super::{Silence, SilenceId};
use crate::model::{Labels, MatchOp};

/// Finds silences by a label's very value, which most of them ask for.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// By name and value of the first condition that asks for one.
    by_label: BTreeMap<String, BTreeMap<String, BTreeSet<SilenceId>>>,
    /// The others.
    rest: BTreeSet<SilenceId>,
}

impl Index {
    pub(super) fn insert(&mut self, silence: &Silence) {
        match key(silence) {
            Some((name, value)) => {
                let values = self.by_label.entry(name.to_owned()).or_default();
                values
                    .entry(value.to_owned())
                    .or_default()
                    .insert(silence.id);
            }
            None => {
                self.rest.insert(silence.id);
            }
        }
    }

    pub(super) fn remove(&mut self, silence: &Silence) {
        let Some((name, value)) = key(silence) else {
            self.rest.remove(&silence.id);
            return;
        };
        let Some(values) = self.by_label.get_mut(name) else {
            return;
        };
        if let Some(ids) = values.get_mut(value) {
            ids.remove(&silence.id);
            if ids.is_empty() {
                values.remove(value);
            }
        }
        if values.is_empty() {
            self.by_label.remove(name);
        }
    }

    /// Silences that may hold for these labels; no other does.
    pub(super) fn candidates(&self, labels: &Labels) -> impl Iterator<Item = SilenceId> {
        let found = self.by_label.iter().filter_map(|(name, values)| {
            let value = labels.get(name)?;
            values.get(value)
        });
        found.flatten().chain(&self.rest).copied()
    }
}

/// What it is found by.
fn key(silence: &Silence) -> Option<(&str, &str)> {
    let exact = |m: &&crate::model::Matcher| m.op == MatchOp::Equal && !m.value.is_empty();
    let matcher = silence.matchers.iter().find(exact)?;
    Some((&matcher.name, &matcher.value))
}
