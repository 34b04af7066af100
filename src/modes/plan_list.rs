//! All plans: those that go on by their key, and those that ended lately.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::plan::{MAX_STEPS, Planned, Run, Terms};
use crate::model::{Labels, ModeReason, PlanRun, Timestamp};

/// Plans that are kept after their end; the audit has the others.
pub(super) const MAX_ENDED: usize = 200;
/// Plans that may go on at once.
const MAX_OPEN: usize = 1_000;

/// A plan that is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Saved {
    /// One that goes on.
    Open { key: String, run: Box<Run> },
    /// One that has ended, and in which order.
    Ended { number: u64, plan: Arc<PlanRun> },
}

/// All plans. One is known by its key: the policy and what of the alert its steps depend on.
#[derive(Debug, Clone, Default)]
pub(super) struct Plans {
    open: BTreeMap<String, Run>,
    /// The newest last.
    ended: VecDeque<(u64, Arc<PlanRun>)>,
    /// How many have begun and ended.
    number: u64,
    /// Ids whose saved form has changed.
    unsaved: BTreeSet<String>,
}

impl Plans {
    /// Begins a plan under `key`, or says why not: there is one already, too many go on, or it has no
    /// steps or too many.
    pub(super) fn begin(
        &mut self,
        now: Timestamp,
        key: &str,
        policy: &str,
        why: Vec<ModeReason>,
        steps: Vec<Planned>,
        terms: Terms,
    ) -> Result<(), String> {
        if self.open.contains_key(key) {
            return Err(format!("plan `{policy}` goes on already"));
        }
        if self.open.len() >= MAX_OPEN {
            return Err(format!(
                "more than {MAX_OPEN} plans at once: `{policy}` does not begin"
            ));
        }
        if !(1..=MAX_STEPS).contains(&steps.len()) {
            let steps = steps.len();
            return Err(format!(
                "plan `{policy}` has {steps} steps; 1 to {MAX_STEPS} can be"
            ));
        }
        self.number += 1;
        let identity: Labels = [
            ("key", key.to_owned()),
            ("started_at", now.as_nanos().to_string()),
            ("number", self.number.to_string()),
        ]
        .into_iter()
        .collect();
        let id = identity.fingerprint().to_string();
        let run = Run::begin(now, id, policy, why, steps, terms);
        self.unsaved.insert(run.plan().id.clone());
        self.open.insert(key.to_owned(), run);
        Ok(())
    }

    /// Notes under which number the present change of `service` was written down.
    pub(super) fn number(&mut self, service: &str, sequence: u64) {
        for run in self.open.values_mut() {
            if run.number(service, sequence) {
                self.unsaved.insert(run.plan().id.clone());
            }
        }
    }

    /// The plan of this key that goes on, or was undone and waits for its cause to be over.
    pub(super) fn get(&self, key: &str) -> Option<&Run> {
        self.open.get(key)
    }

    /// The same, to be changed.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Run> {
        let run = self.open.get_mut(key)?;
        self.unsaved.insert(run.plan().id.clone());
        Some(run)
    }

    /// Whether none goes on.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// All of those, by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Run)> {
        self.open.iter().map(|(key, run)| (key.as_str(), run))
    }

    /// Lets go of a plan that is over, so that the next one may begin. False: it goes on.
    pub(super) fn release(&mut self, key: &str) -> bool {
        let Some(run) = self.open.remove(key) else {
            return true;
        };
        if !run.is_over() {
            self.open.insert(key.into(), run);
            return false;
        }
        self.unsaved.insert(run.plan().id.clone());
        self.number += 1;
        self.ended
            .push_back((self.number, Arc::new(run.plan().clone())));
        self.forget_oldest();
        true
    }

    /// What changed since the last call, by key.
    pub(super) fn take_news(&mut self) -> Vec<PlanRun> {
        let mut news = Vec::new();
        for run in self.open.values_mut() {
            if let Some(plan) = run.take_news() {
                self.unsaved.insert(plan.id.clone());
                news.push(plan);
            }
        }
        news
    }

    /// Those that go on, then those that ended lately, the newest first.
    pub(super) fn view(&self) -> Vec<Arc<PlanRun>> {
        let open = self.open.values().map(|run| Arc::new(run.plan().clone()));
        let ended = self.ended.iter().map(|(_, plan)| Arc::clone(plan));
        let mut all: Vec<_> = open.chain(ended).collect();
        // Stable: of equals the first by key leads.
        all.sort_by_key(|plan| (plan.ended_at.is_some(), std::cmp::Reverse(plan.started_at)));
        all
    }

    /// What has to be saved since the last call, by id; `None`: nothing any more.
    pub(super) fn changes(&mut self) -> Vec<(String, Option<Saved>)> {
        let unsaved = std::mem::take(&mut self.unsaved);
        if unsaved.is_empty() {
            return Vec::new();
        }
        let mut changes: BTreeMap<String, Option<Saved>> =
            unsaved.into_iter().map(|id| (id, None)).collect();
        for (id, saved) in self.entries() {
            if let Some(change) = changes.get_mut(&id) {
                *change = Some(saved);
            }
        }
        changes.into_iter().collect()
    }

    /// Everything that has to be kept, by id.
    pub(super) fn entries(&self) -> Vec<(String, Saved)> {
        let open = self.open.iter().map(|(key, run)| {
            let (key, run) = (key.clone(), Box::new(run.clone()));
            (run.plan().id.clone(), Saved::Open { key, run })
        });
        let ended = self.ended.iter().map(|(number, plan)| {
            let (number, plan) = (*number, Arc::clone(plan));
            (plan.id.clone(), Saved::Ended { number, plan })
        });
        let mut entries: Vec<_> = open.chain(ended).collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries
    }

    /// What was saved. Call [`Plans::put_in_order`] when all of it is there.
    pub(super) fn restore(&mut self, saved: Saved) {
        match saved {
            Saved::Open { key, mut run } => {
                run.align();
                self.open.insert(key, *run);
            }
            Saved::Ended { number, plan } => {
                self.number = self.number.max(number);
                self.ended.push_back((number, plan));
            }
        }
    }

    /// After all was restored: in the order in which they ended.
    pub(super) fn put_in_order(&mut self) {
        let ended = self.ended.make_contiguous();
        ended.sort_by_key(|(number, _)| *number);
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        while self.ended.len() > MAX_ENDED {
            if let Some((_, oldest)) = self.ended.pop_front() {
                self.unsaved.insert(oldest.id.clone());
            }
        }
    }
}
