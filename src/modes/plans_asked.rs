//! Which alerts ask for which plan, and which plans may begin.
//!
//! Each step of a policy that has some becomes a policy of its own when the machine is made, so that its
//! alerts, levels and the way back are those of any policy. Like one that only proposes it is not heard
//! before it is granted, and what grants it is the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Machine;
use super::claim::Stance;
use super::limits::Room;
use super::plan::{MAX_ALERTS, Planned, Terms};
use super::policy::{Policy, Step};
use super::settings::Settings;
use super::target::Target;
use crate::model::{Fingerprint, ModeReason, Restraint, Timestamp};

/// Which step of a plan a policy stands for.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Name of the policy that has the steps.
    pub(super) plan: String,
    pub(super) index: usize,
    /// Position of the first step's policy, and how many there are.
    pub(super) first: usize,
    pub(super) steps: usize,
    pub(super) dry_run: bool,
    pub(super) within: Duration,
}

/// Puts policies for the steps in place of each policy that has some. What each policy stands for.
pub(super) fn unfold(settings: &mut Settings) -> Vec<Option<Place>> {
    let mut places = Vec::new();
    let mut policies = Vec::new();
    for policy in std::mem::take(&mut settings.policies) {
        if policy.steps.is_empty() {
            policies.push(policy);
            places.push(None);
            continue;
        }
        let first = policies.len();
        for (index, step) in policy.steps.iter().enumerate() {
            places.push(Some(Place {
                plan: policy.name.clone(),
                index,
                first,
                steps: policy.steps.len(),
                dry_run: policy.dry_run,
                within: policy.acknowledge_within,
            }));
            policies.push(Policy {
                name: format!("{}/{}", policy.name, index + 1),
                target: step.target.clone(),
                level: step.level,
                instruction: step.instruction.clone(),
                step: Step::Direct,
                dry_run: true,
                steps: Vec::new(),
                ..policy.clone()
            });
        }
    }
    settings.policies = policies;
    places
}

/// What asks for a plan at present.
#[derive(Debug, Default)]
struct Asking {
    /// Position of the first step's policy.
    first: usize,
    alerts: BTreeSet<Fingerprint>,
    /// Whether something is heard of at least one of the alerts.
    is_heard: bool,
    /// The services of each step.
    services: BTreeMap<usize, BTreeSet<String>>,
    why: BTreeMap<Fingerprint, ModeReason>,
}

impl Machine {
    /// Why a plan's first step is left to people; `None`: it is not, or no step of a plan.
    pub(super) fn plan_restraint(&self, name: &str, position: usize) -> Option<Restraint> {
        let place = self.place(position)?;
        if place.dry_run {
            return Some(Restraint::DryRun);
        }
        if self.freeze.is_some() {
            return Some(Restraint::Frozen);
        }
        let asking = self.asking_plans();
        let mut own = asking.values().filter(|asking| {
            let services = asking.services.get(&0);
            asking.first == place.first && services.is_some_and(|s| s.contains(name))
        });
        own.find_map(|asking| self.plan_room(asking))
    }

    /// A person has said yes to a plan's first step: the plan begins, whatever the limits.
    pub(super) fn approve_plan(&mut self, now: Timestamp, name: &str, position: usize) {
        for (key, asking) in self.asking_plans() {
            let services = asking.services.get(&0);
            let is_own = Some(asking.first) == self.place(position).map(|place| place.first);
            if is_own && services.is_some_and(|services| services.contains(name)) {
                self.begin_plan(now, &key, &asking, true);
            }
        }
    }

    /// Which alerts ask for which plan, by the plan's key.
    fn asking_plans(&self) -> BTreeMap<String, Asking> {
        let mut asking: BTreeMap<String, Asking> = BTreeMap::new();
        let mut keys: BTreeMap<(usize, Fingerprint), Option<String>> = BTreeMap::new();
        for (name, service) in &self.services {
            let of_plans = service.positions().into_iter();
            let of_plans = of_plans.filter_map(|at| Some((at, self.place(at)?)));
            let claims = of_plans.flat_map(|(at, place)| {
                let claims = service.claims_of(at);
                claims.map(move |((_, fingerprint), claim)| (place, fingerprint, claim))
            });
            for (place, fingerprint, claim) in claims {
                let key = keys
                    .entry((place.first, *fingerprint))
                    .or_insert_with(|| self.key_of(place, *fingerprint));
                let Some(key) = key else {
                    continue;
                };
                let asking = asking.entry(key.clone()).or_default();
                asking.first = place.first;
                if asking.alerts.len() < MAX_ALERTS {
                    asking.alerts.insert(*fingerprint);
                }
                asking.is_heard |= claim.silent_since.is_none();
                let services = asking.services.entry(place.index).or_default();
                services.insert(name.clone());
                asking
                    .why
                    .entry(*fingerprint)
                    .or_insert_with(|| ModeReason {
                        policy: place.plan.clone(),
                        fingerprint: *fingerprint,
                        alertname: claim.alertname.as_ref().into(),
                        explanation: claim.explanation.as_ref().into(),
                    });
            }
        }
        asking
    }

    /// What tells one plan from another: the policy, and what its steps are for by the alert's labels.
    fn key_of(&self, place: &Place, fingerprint: Fingerprint) -> Option<String> {
        let known = self.plans.iter().find(|(_, run)| {
            run.plan().policy == place.plan && run.alerts().contains(&fingerprint)
        });
        if let Some((key, _)) = known {
            return Some(key.to_owned());
        }
        let labels = &self.seen.get(&fingerprint)?.labels;
        let mut key = place.plan.clone();
        for policy in self
            .settings
            .policies
            .iter()
            .skip(place.first)
            .take(place.steps)
        {
            let target = match &policy.target {
                Target::Service(template) | Target::CallersOf(template) => {
                    // Of a step that names no service the plan cannot begin.
                    template.render(labels).ok()?
                }
                Target::Group(name) => name.clone(),
            };
            key.push('\n');
            key.push_str(&target);
        }
        Some(key)
    }

    /// Tells each plan which alerts ask for it, begins those that may begin, and lets go of those over.
    pub(super) fn compare_plans(&mut self, now: Timestamp) {
        let mut asking = self.asking_plans();
        let keys: Vec<String> = self.plans.iter().map(|(key, _)| key.to_owned()).collect();
        for key in keys {
            let alerts = asking.remove(&key).map(|asking| asking.alerts);
            let alerts = alerts.unwrap_or_default();
            let is_over = alerts.is_empty();
            let is_news = self
                .plans
                .get(&key)
                .is_some_and(|run| *run.alerts() != alerts);
            if is_news && let Some(run) = self.plans.get_mut(&key) {
                run.asked_by(now, alerts);
            }
            if is_over {
                self.plans.release(&key);
            }
        }
        for (key, asking) in asking {
            if asking.is_heard && self.may_begin(&asking) {
                self.begin_plan(now, &key, &asking, false);
            }
        }
    }

    fn may_begin(&self, asking: &Asking) -> bool {
        let Some(place) = self.place(asking.first).filter(|place| !place.dry_run) else {
            return false;
        };
        let steps = (0..place.steps).map(|index| (index, asking.services.get(&index)));
        let mut is_first = true;
        for (index, services) in steps {
            let position = place.first + index;
            let Some(policy) = self.settings.policies.get(position) else {
                return false;
            };
            let Some(services) = services else {
                // A group may be empty, and a service may have no callers; a name must be known.
                if policy.target.is_open() {
                    continue;
                }
                return false;
            };
            for service in services.iter().filter_map(|name| self.services.get(name)) {
                // A person said no, or the last plan with it was undone and its alerts are not over.
                let refused = |stance: &Stance| stance.ceiling.is_some_and(|c| c < policy.level);
                let refused = service.stances.get(&position).is_some_and(refused);
                if service.manual.is_some() || (is_first && refused) {
                    return false;
                }
            }
            is_first = false;
        }
        self.plan_room(asking).is_none()
    }

    /// Why there is no room for all services of a plan.
    fn plan_room(&self, asking: &Asking) -> Option<Restraint> {
        let mut room = Room::survey(self);
        let names: BTreeSet<&String> = asking.services.values().flatten().collect();
        let services = || names.iter().filter_map(|name| self.services.get(*name));
        for service in services() {
            room.admit(service, &self.settings);
        }
        for service in services() {
            if let Some(restraint) = room.refuses(service, &self.settings) {
                return Some(restraint);
            }
            if !service.is_away(&self.settings.levels) {
                room.take(service);
            }
        }
        None
    }

    fn begin_plan(&mut self, now: Timestamp, key: &str, asking: &Asking, approved: bool) {
        let Some(place) = self.place(asking.first).cloned() else {
            return;
        };
        let mut steps = Vec::new();
        for (index, services) in &asking.services {
            let policy = self.settings.policies.get(place.first + index);
            let level = policy.map(|policy| policy.level).unwrap_or_default();
            steps.extend(services.iter().map(|service| Planned {
                service: service.clone(),
                mode: self.settings.levels.name(level).into(),
                index: *index,
            }));
        }
        let why = asking.why.values().cloned().collect();
        let terms = Terms {
            within: place.within,
            approved,
        };
        if let Err(problem) = self.plans.begin(now, key, &place.plan, why, steps, terms) {
            self.warn(problem);
        }
    }
}
