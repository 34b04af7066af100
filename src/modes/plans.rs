//! Has plans carried out: policies that change several services in order, as one.
//!
//! Each step of such a policy becomes a policy of its own when the machine is made, so that its alerts,
//! levels and the way back are those of any policy. Like one that only proposes it is not heard before it is
//! granted, and what grants it is the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Machine;
use super::acknowledgement::Standing;
use super::claim::Stance;
use super::limits::Room;
use super::outcome::Reason;
use super::plan::{Planned, Run, Terms, UNNUMBERED, Want};
use super::policy::{Policy, Step};
use super::settings::Settings;
use super::settle::Causes;
use super::target::Target;
use crate::model::{
    EventBody, Fingerprint, Level, ModeReason, ModeStep, PlanState, Restraint, Timestamp,
};

/// Which step of a plan a policy stands for.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Name of the policy that has the steps.
    plan: String,
    index: usize,
    /// Position of the first step's policy, and how many there are.
    first: usize,
    steps: usize,
    dry_run: bool,
    within: Duration,
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
    /// Which step of a plan the policy at this position stands for.
    pub(super) fn place(&self, position: usize) -> Option<&Place> {
        self.places.get(position)?.as_ref()
    }

    /// Takes plans on as far as they go now. To be called with every input, before services step back.
    pub(super) fn advance_plans(&mut self, now: Timestamp, causes: &mut Causes) {
        let watched = self.sight.watched();
        let before = self.passed_at.replace(watched).unwrap_or(watched);
        if self.places.iter().all(Option::is_none) && self.plans.is_empty() {
            return;
        }
        if self.may_act() {
            self.compare_plans(now);
            let keys: Vec<String> = self.plans.iter().map(|(key, _)| key.to_owned()).collect();
            for key in keys {
                self.advance_plan(now, &key, watched.since(before), causes);
            }
        }
        self.align_stances();
        for plan in self.plans.take_news() {
            self.notes.push(EventBody::Plan { plan });
        }
    }

    /// Whether a service has to wait with its recovery for those that a plan changed after it.
    pub(super) fn waits_for_plan(&self, name: &str) -> bool {
        self.plans.iter().any(|(_, run)| {
            let (Want::Recover(last) | Want::Undo(last) | Want::AwaitUndo(last)) = run.want()
            else {
                return false;
            };
            let mut steps = run.plan().steps.iter().enumerate().take(last);
            let is_last = run
                .plan()
                .steps
                .get(last)
                .is_some_and(|s| s.service == name);
            !is_last && steps.any(|(at, step)| step.service == name && run.asks(at))
        })
    }

    /// How much watched time is left until a plan has to be taken on.
    pub(super) fn plans_left(&self) -> Option<Duration> {
        self.plans.iter().filter_map(|(_, run)| run.left()).min()
    }

    /// Whether a plan that is through has changed this service.
    pub(super) fn stands_by_plan(&self, name: &str) -> bool {
        let mut runs = self.plans.iter();
        runs.any(|(_, run)| run.plan().state == PlanState::Standing && asks_of(run, name))
    }

    /// Has all plans undone that have changed this service. Whether there are any.
    pub(super) fn undo_plans_of(&mut self, name: &str, sentence: &str) -> bool {
        let now = self.sight.last.unwrap_or_default();
        let keys: Vec<String> = self
            .plans
            .iter()
            .filter(|(_, run)| asks_of(run, name))
            .map(|(key, _)| key.to_owned())
            .collect();
        for key in &keys {
            if let Some(run) = self.plans.get_mut(key) {
                run.undo(now, &format!("`{name}`: {sentence}"));
            }
        }
        !keys.is_empty()
    }

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
            for ((position, fingerprint), claim) in &service.claims {
                let Some(place) = self.place(*position) else {
                    continue;
                };
                let key = keys
                    .entry((place.first, *fingerprint))
                    .or_insert_with(|| self.key_of(place, *fingerprint));
                let Some(key) = key else {
                    continue;
                };
                let asking = asking.entry(key.clone()).or_default();
                asking.first = place.first;
                asking.alerts.insert(*fingerprint);
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
    fn compare_plans(&mut self, now: Timestamp) {
        let mut asking = self.asking_plans();
        let keys: Vec<String> = self.plans.iter().map(|(key, _)| key.to_owned()).collect();
        for key in keys {
            let alerts = asking.remove(&key).map(|asking| asking.alerts);
            let alerts = alerts.unwrap_or_default();
            let is_over = alerts.is_empty();
            if let Some(run) = self.plans.get(&key).filter(|run| *run.alerts() != alerts) {
                let was = run.alerts().is_empty();
                if let Some(run) = self.plans.get_mut(&key) {
                    run.asked_by(now, alerts);
                    if was {
                        // Whoever reads of the plan sees why it goes on.
                        run.touch();
                    }
                }
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
        for service in names.into_iter().filter_map(|name| self.services.get(name)) {
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

    /// Takes one plan on as far as it goes now; `elapsed` is the watched time since this was last called.
    fn advance_plan(
        &mut self,
        now: Timestamp,
        key: &str,
        mut elapsed: Duration,
        causes: &mut Causes,
    ) {
        while let Some(run) = self.plans.get(key) {
            let want = run.want();
            match want {
                Want::Nothing => return,
                Want::Tell(at) => self.tell_step(now, key, at, causes),
                Want::Await(at) => self.await_step(now, key, at),
                Want::Undo(at) => self.take_back(now, key, at, causes),
                Want::AwaitUndo(at) => self.await_undo(now, key, at),
                Want::Recover(at) => self.let_recover(now, key, at),
            }
            let passes = std::mem::take(&mut elapsed);
            let is_same = |run: &Run| run.want() == want;
            if self.plans.get(key).is_some_and(is_same) {
                // It waits; what is due is done in the next round.
                match self.plans.get_mut(key) {
                    Some(run) if !passes.is_zero() => run.pass(now, passes),
                    Some(_) | None => return,
                }
            }
        }
    }

    /// The service of a step and its level, and the position of the policy that stands for it.
    fn step_of(&self, key: &str, at: usize) -> Option<(String, Level, Option<usize>)> {
        let run = self.plans.get(key)?;
        let step = run.plan().steps.get(at)?;
        let place = |place: &Option<Place>| {
            let place = place.as_ref();
            place.is_some_and(|p| p.plan == run.plan().policy && Some(p.index) == run.index(at))
        };
        let level = self.settings.levels.level(&step.mode);
        let level = level.unwrap_or_else(|| self.settings.worst());
        Some((
            step.service.clone(),
            level,
            self.places.iter().position(place),
        ))
    }

    fn fail_step(&mut self, now: Timestamp, key: &str, at: usize, detail: &str) {
        if let Some(run) = self.plans.get_mut(key) {
            run.fail(now, at, detail);
        }
    }

    fn tell_step(&mut self, now: Timestamp, key: &str, at: usize, causes: &mut Causes) {
        let Some((name, level, position)) = self.step_of(key, at) else {
            return;
        };
        let (Some(service), Some(position)) = (self.services.get(&name), position) else {
            return self.fail_step(now, key, at, "it is not known any more");
        };
        let approved = self.plans.get(key).is_some_and(Run::is_approved);
        let before = service.auto;
        if service.manual.is_some() {
            return self.fail_step(now, key, at, "a person has set the mode");
        }
        if before < level {
            if service.held_until() > self.sight.watched() {
                return;
            }
            let room = Room::survey(self);
            if !approved && room.refuses(service, &self.settings).is_some() {
                return self.fail_step(now, key, at, "as many services as may be are away already");
            }
        }
        let asked = self.plans.get(key).and_then(|run| run.plan().why.first());
        let cause = format!(
            "plan `{}`, step {}: {} fires",
            self.place(position).map_or("", |place| &place.plan),
            at + 1,
            asked.map_or("an alert", |why| &why.alertname)
        );
        if let Some(service) = self.services.get_mut(&name) {
            let stance = service.stances.entry(position).or_default();
            (stance.ceiling, stance.granted) = (None, level);
            service.news();
            self.unsaved.insert(name.clone());
        }
        if before < level {
            let reason = Reason {
                step: ModeStep::Degrade,
                by: Some(position),
                cause,
            };
            self.take_step(causes, &name, level, reason);
        }
        let sequence = self.sequence_of(now, &name);
        if let Some(run) = self.plans.get_mut(key) {
            run.told(now, at, before, sequence);
        }
    }

    /// Under which number a service hears what it is to be told now.
    fn sequence_of(&mut self, now: Timestamp, name: &str) -> u64 {
        let Some(service) = self.services.get_mut(name) else {
            return UNNUMBERED;
        };
        service.absorb(&self.settings.policies);
        if service.state(&self.settings, now) == service.told {
            service.told.sequence
        } else {
            UNNUMBERED
        }
    }

    fn await_step(&mut self, now: Timestamp, key: &str, at: usize) {
        let Some((name, level, _)) = self.step_of(key, at) else {
            return;
        };
        let Some(service) = self.services.get(&name) else {
            return self.fail_step(now, key, at, "it is not known any more");
        };
        if service.manual.is_some() {
            return self.fail_step(now, key, at, "a person has set the mode meanwhile");
        }
        if service.auto < level {
            return self.fail_step(now, key, at, "it was taken back meanwhile");
        }
        match self.standing_of(now, key, at, &name) {
            Standing::Done => {
                if let Some(run) = self.plans.get_mut(key) {
                    run.acknowledged(now, at);
                }
            }
            Standing::Refused(said) => {
                let who = match said.instance.as_str() {
                    "" => "it".to_owned(),
                    instance => format!("instance `{instance}`"),
                };
                let mut detail = format!("{who} runs in `{}` all the same", said.mode);
                if !said.detail.is_empty() {
                    detail.push_str(": ");
                    detail.push_str(&said.detail);
                }
                self.fail_step(now, key, at, &detail);
            }
            Standing::Nobody | Standing::Waiting(_) => {}
        }
    }

    /// Whether a service has heard what a step told it last.
    fn standing_of(&mut self, now: Timestamp, key: &str, at: usize, name: &str) -> Standing {
        let sequence = self.plans.get(key).and_then(|run| run.sequence(at));
        let Some(service) = self.services.get(name) else {
            return Standing::Nobody;
        };
        let sequence = sequence.unwrap_or(UNNUMBERED);
        let (mode, lease) = (&service.told.mode, self.settings.lease);
        self.reports.standing(now, name, mode, sequence, lease)
    }

    fn take_back(&mut self, now: Timestamp, key: &str, at: usize, causes: &mut Causes) {
        let Some((name, _, position)) = self.step_of(key, at) else {
            return;
        };
        let (before, why) = self.plans.get(key).map_or_else(Default::default, |run| {
            (run.before(at), run.plan().outcome.clone())
        });
        let by_others = self.plans.iter().any(|(other, run)| {
            let steps = run.plan().steps.iter().enumerate();
            other != key
                && steps.into_iter().any(|(step, words)| {
                    let own = self.step_of(key, at).and_then(|(_, _, position)| position);
                    let theirs = self
                        .step_of(other, step)
                        .and_then(|(_, _, position)| position);
                    words.service == name && run.asks(step) && own == theirs
                })
        });
        if let (Some(service), Some(position)) = (self.services.get_mut(&name), position) {
            if !by_others && service.stances.contains_key(&position) {
                service.stances.insert(position, closed());
            }
            service.news();
            self.unsaved.insert(name.clone());
        }
        if let Some(service) = self.services.get(&name) {
            let level = service.kept_at().max(before);
            if level < service.auto {
                let reason = Reason {
                    step: ModeStep::Undo,
                    by: position,
                    cause: format!("plan {why}"),
                };
                self.take_step(causes, &name, level, reason);
            }
        }
        let sequence = self.sequence_of(now, &name);
        if let Some(run) = self.plans.get_mut(key) {
            run.told_back(now, at, sequence);
        }
    }

    fn await_undo(&mut self, now: Timestamp, key: &str, at: usize) {
        let Some((name, _, _)) = self.step_of(key, at) else {
            return;
        };
        // Who is not known, or is told another mode by a person, is not waited for.
        let waits = self.services.get(&name).is_some_and(|s| s.manual.is_none());
        if (!waits || self.standing_of(now, key, at, &name) == Standing::Done)
            && let Some(run) = self.plans.get_mut(key)
        {
            run.acknowledged(now, at);
        }
    }

    /// Sees whether the service of the last step that stands is back, as far as the plan is concerned.
    fn let_recover(&mut self, now: Timestamp, key: &str, at: usize) {
        let Some((name, level, _)) = self.step_of(key, at) else {
            return;
        };
        let is_up = |name: &str| {
            let service = self.services.get(name)?;
            // Another policy may keep it where it is, or a person.
            Some(service.auto >= level && service.kept_at() < level && service.manual.is_none())
        };
        if is_up(&name) == Some(true) {
            return;
        }
        let Some(run) = self.plans.get_mut(key) else {
            return;
        };
        run.back(now, at);
        // The one before it gets its own recovery, from now on.
        if let Want::Recover(next) = run.want()
            && let Some(step) = run.plan().steps.get(next)
        {
            let name = step.service.clone();
            let watched = self.sight.watched();
            if let Some(service) = self.services.get_mut(&name)
                && service.below_since.is_some()
            {
                service.below_since = Some(watched);
                self.unsaved.insert(name);
            }
        }
    }

    /// Has every step that a plan stands behind be heard, and no other one. First steps of plans that have
    /// not begun are left as they are: people may be asked about them.
    fn align_stances(&mut self) {
        let mut known: BTreeMap<(String, usize), Level> = BTreeMap::new();
        for (key, run) in self.plans.iter() {
            for at in 0..run.plan().steps.len() {
                if let Some((name, level, Some(position))) = self.step_of(key, at) {
                    let granted = if run.asks(at) { level } else { Level(0) };
                    let before = known.entry((name, position)).or_default();
                    *before = granted.max(*before);
                }
            }
        }
        for (name, service) in &mut self.services {
            let positions: BTreeSet<usize> = service.claims.keys().map(|(at, _)| *at).collect();
            for position in positions {
                let Some(Some(place)) = self.places.get(position) else {
                    continue;
                };
                let granted = known.get(&(name.clone(), position)).copied();
                let stance = match granted {
                    Some(level) if level > Level(0) => Stance {
                        granted: level,
                        ..Stance::default()
                    },
                    None if place.index == 0 => continue,
                    Some(_) | None => closed(),
                };
                if service.stances.get(&position) != Some(&stance) {
                    service.stances.insert(position, stance);
                    service.news();
                    self.unsaved.insert(name.clone());
                }
            }
        }
    }
}

/// What a step of a plan is that is not its turn.
fn closed() -> Stance {
    Stance {
        ceiling: Some(Level(0)),
        ..Stance::default()
    }
}

fn asks_of(run: &Run, name: &str) -> bool {
    let mut steps = run.plan().steps.iter().enumerate();
    steps.any(|(at, step)| step.service == name && run.asks(at))
}
