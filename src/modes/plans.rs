//! Has plans carried out: policies that change several services in order, as one.
//!
//! A step is granted when its turn comes ([`unfold`](super::plans_asked::unfold) says what that means), and
//! taken back by taking that away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Machine;
use super::acknowledgement::Standing;
use super::claim::Stance;
use super::limits::Room;
use super::outcome::Reason;
use super::plan::{Run, UNNUMBERED, Want};
use super::plans_asked::Place;
use super::settle::Causes;
use crate::model::{EventBody, Level, ModeStep, PlanState, Timestamp};

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
            let mut room = Room::survey(self);
            let steps = self.plans.get(key).map(|run| run.plan().steps.iter());
            let names: BTreeSet<&str> = steps.into_iter().flatten().map(|s| &*s.service).collect();
            for service in names.iter().filter_map(|name| self.services.get(*name)) {
                room.admit(service, &self.settings);
            }
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

    /// Whether a plan may go on by what a service has said.
    pub(super) fn has_answered(&mut self, now: Timestamp, name: &str) -> bool {
        let awaiting = self.plans.iter().filter_map(|(key, run)| {
            let (Want::Await(at) | Want::AwaitUndo(at)) = run.want() else {
                return None;
            };
            let step = run.plan().steps.get(at)?;
            (step.service == name).then(|| (key.to_owned(), at))
        });
        let awaiting: Vec<_> = awaiting.collect();
        awaiting.into_iter().any(|(key, at)| {
            let standing = self.standing_of(now, &key, at, name);
            matches!(standing, Standing::Done | Standing::Refused(_))
        })
    }

    /// Under which number a service hears what it is to be told now.
    fn sequence_of(&mut self, now: Timestamp, name: &str) -> u64 {
        let Some(service) = self.services.get_mut(name) else {
            return UNNUMBERED;
        };
        service.absorb(&self.settings.policies);
        let is_told = service.state(&self.settings, now) == service.told;
        if is_told && !self.unnumbered.contains(name) {
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
            for position in service.positions() {
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
