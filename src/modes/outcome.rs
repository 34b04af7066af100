//! What becomes of the steps that automation takes: they are kept in episodes, their effect is watched, and
//! those that do harm or nothing are taken back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Machine;
use super::effect::{Terms, Watch};
use super::episode::Taken;
use super::policy::Otherwise;
use super::settle::{Causes, because};
use crate::model::{
    Alert, Effect, EffectVerdict, EventBody, Fingerprint, Level, ModeStep, Timestamp,
};

/// A step up of a service whose effect is watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Watching {
    /// The policy that asked for it.
    policy: String,
    /// The level before.
    pub(super) before: Level,
    /// When it was taken, on the clock of what was watched.
    since: Timestamp,
    watch: Watch,
}

/// Why automation takes a step.
#[derive(Debug, Clone)]
pub(super) struct Reason {
    pub(super) step: ModeStep,
    /// Position of the policy; `None`: none asks for it.
    pub(super) by: Option<usize>,
    /// In words.
    pub(super) cause: String,
}

impl Machine {
    /// Keeps alerts with their present numbers, those that ask for something or are watched.
    pub(super) fn see(&mut self, alerts: &[Arc<Alert>]) {
        let watched: BTreeSet<Fingerprint> = self
            .services
            .values()
            .filter_map(|service| service.watching.as_ref())
            .flat_map(|watching| watching.watch.alerts())
            .collect();
        self.seen.clear();
        for alert in alerts {
            let fingerprint = alert.fingerprint;
            if self.alerts.contains_key(&fingerprint) || watched.contains(&fingerprint) {
                self.seen.insert(fingerprint, Arc::clone(alert));
            }
        }
    }

    /// Has automation take `name` to `level`. Every step of automation comes by here.
    pub(super) fn take_step(
        &mut self,
        causes: &mut Causes,
        name: &str,
        level: Level,
        reason: Reason,
    ) {
        let Some(before) = self.services.get(name).map(|service| service.auto) else {
            return;
        };
        self.close_watch(name, "a further step was taken before");
        because(causes, name, reason.step, reason.cause.clone());
        self.move_service(name, level);
        let watching = reason.by.filter(|_| level > before);
        let watching = watching.and_then(|by| self.begin_watch(name, before, by));
        let now = self.sight.last.unwrap_or_default();
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let (levels, policies) = (&self.settings.levels, &self.settings.policies);
        let policy = reason.by.and_then(|by| policies.get(by));
        let taken = Taken {
            step: reason.step,
            from: levels.name(before),
            to: levels.name(level),
            is_away: level > Level(0),
            policy: policy.map_or("", |policy| policy.name.as_str()),
            cause: &reason.cause,
            why: &service.reasons,
            effect: watching.as_ref().map(|watching| watching.watch.so_far()),
        };
        service.watching = watching;
        if let Some((action, episode)) = self.episodes.take(now, name, taken) {
            let episode = Arc::unwrap_or_clone(episode);
            self.notes.push(EventBody::Episode { action, episode });
        }
        service.episode = self.episodes.id(name).map(String::from);
    }

    /// Notes an override that was set, changed or ended in the episode of a service that is away.
    pub(super) fn note_override(&mut self, now: Timestamp, name: &str, from: &str, cause: &str) {
        if self.episodes.id(name).is_none() {
            return;
        }
        let Some(service) = self.services.get(name) else {
            return;
        };
        let taken = Taken {
            step: ModeStep::Override,
            from,
            to: &service.told.mode,
            is_away: service.auto > Level(0),
            policy: "",
            cause,
            why: &[],
            effect: None,
        };
        if let Some((action, episode)) = self.episodes.take(now, name, taken) {
            let episode = Arc::unwrap_or_clone(episode);
            self.notes.push(EventBody::Episode { action, episode });
        }
    }

    /// Reads what the steps did that are watched, and takes back those that did harm or nothing. To be
    /// called in each tick, whether or not automation may act.
    pub(super) fn judge(&mut self, now: Timestamp, causes: &mut Causes) {
        let watched = self.sight.watched();
        let before = self.read_at.replace(watched).unwrap_or(watched);
        if !self.may_act() {
            return;
        }
        let names: Vec<_> = self
            .services
            .iter()
            .filter(|(_, service)| service.watching.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let Some(service) = self.services.get_mut(&name) else {
                continue;
            };
            if service.manual.is_some() {
                self.close_watch(&name, "a person has set the mode meanwhile");
                continue;
            }
            let Some(watching) = &mut service.watching else {
                continue;
            };
            let elapsed = watched.since(before.max(watching.since));
            let as_before = watching.watch.clone();
            let seen = &self.seen;
            let effect = watching
                .watch
                .read(now, elapsed, |f| seen.get(&f).map(AsRef::as_ref));
            if watching.watch != as_before {
                self.unsaved.insert(name.clone());
            }
            if let Some(effect) = effect
                && let Some(watching) = service.watching.take()
            {
                self.conclude(&name, &watching, effect, causes);
            }
        }
    }

    /// Does what follows from the effect of a step.
    fn conclude(
        &mut self,
        name: &str,
        watching: &Watching,
        mut effect: Effect,
        causes: &mut Causes,
    ) {
        let policies = &self.settings.policies;
        let by = policies.iter().position(|p| p.name == watching.policy);
        let otherwise = by
            .and_then(|by| policies.get(by))
            .map(|p| p.effect.otherwise);
        let is_plan = by.is_some_and(|by| self.place(by).is_some());
        let worst = self.settings.worst();
        let level = self.services.get(name).map(|s| s.auto).unwrap_or_default();
        let (mut undo, mut escalate) = (false, false);
        match (effect.verdict, otherwise) {
            (EffectVerdict::Worse, _) => undo = true,
            (EffectVerdict::NoEffect, Some(Otherwise::Undo)) => {
                // Of a plan that is not through yet nothing can be said.
                undo = !is_plan || self.stands_by_plan(name);
            }
            (EffectVerdict::NoEffect, Some(Otherwise::Escalate)) if is_plan => {
                effect
                    .sentence
                    .push_str("; a plan has no further level, it stays");
            }
            (EffectVerdict::NoEffect, Some(Otherwise::Escalate)) if level >= worst => {
                let level = self.settings.levels.name(level);
                let text = format!("; `{level}` is the worst level already, it stays");
                effect.sentence.push_str(&text);
            }
            (EffectVerdict::NoEffect, Some(Otherwise::Escalate)) => escalate = true,
            (EffectVerdict::NoEffect, Some(Otherwise::Stay)) => {
                effect.sentence.push_str("; it stays");
            }
            (EffectVerdict::NoEffect, None)
            | (EffectVerdict::Improved | EffectVerdict::Unknown | EffectVerdict::Watching, _) => {}
        }
        if escalate {
            effect.sentence.push_str("; it asks for one level more");
        } else if undo {
            effect.sentence.push_str("; it is taken back");
        }
        let sentence = effect.sentence.clone();
        self.note_effect(name, effect);
        if undo && self.undo_plans_of(name, &sentence) {
            return;
        }
        if undo {
            self.undo_step(name, watching, &sentence, causes);
        } else if escalate && let Some(by) = by {
            self.raise(name, by);
        }
    }

    /// Takes a service back to where it was before a step, now, and does not listen to the policies that
    /// asked for it until their alerts there are over.
    fn undo_step(&mut self, name: &str, watching: &Watching, sentence: &str, causes: &mut Causes) {
        let places = &self.places;
        let is_plan = |at: usize| places.get(at).is_some_and(Option::is_some);
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        service.set_aside(watching.before, |at| !is_plan(at));
        self.unsaved.insert(name.into());
        // What a plan or a silent alert of another policy asks for stays.
        let level = service.kept_at().max(watching.before);
        if level >= service.auto {
            return;
        }
        let reason = Reason {
            step: ModeStep::Undo,
            by: self
                .settings
                .policies
                .iter()
                .position(|p| p.name == watching.policy),
            cause: format!("undone: {sentence}"),
        };
        self.take_step(causes, name, level, reason);
    }

    /// Has a policy ask for one level more than a service is in.
    fn raise(&mut self, name: &str, by: usize) {
        let Some(policy) = self.settings.policies.get(by) else {
            return;
        };
        let worst = self.settings.worst();
        if let Some(service) = self.services.get_mut(name) {
            let next = Level(service.auto.0.saturating_add(1)).min(worst);
            let stance = service.stances.entry(by).or_default();
            stance.raised = stance.raised.max(next.0.saturating_sub(policy.level.0));
            if policy.dry_run {
                stance.granted = stance.granted.max(next);
            }
            service.news();
            self.unsaved.insert(name.into());
        }
    }

    /// Begins to watch the alerts that asked for more than `before`.
    fn begin_watch(&self, name: &str, before: Level, by: usize) -> Option<Watching> {
        let service = self.services.get(name)?;
        let policy = self.settings.policies.get(by)?;
        let behind: Vec<&Alert> = service
            .asking()
            .filter(|(_, claim, level)| *level > before && claim.silent_since.is_none())
            .map(|((_, fingerprint), _, _)| *fingerprint)
            // An alert may ask by several policies.
            .collect::<BTreeSet<_>>()
            .into_iter()
            .filter_map(|fingerprint| self.seen.get(&fingerprint).map(AsRef::as_ref))
            .collect();
        if behind.is_empty() {
            return None;
        }
        let terms = Terms {
            within: policy.effect.within,
            improved: policy.effect.improved,
            worse: policy.effect.worse,
        };
        Some(Watching {
            policy: policy.name.clone(),
            before,
            since: self.sight.watched(),
            watch: Watch::begin(terms, behind),
        })
    }

    /// Ends the watching of a service's last step. What it did may be known at the last moment.
    fn close_watch(&mut self, name: &str, because: &str) {
        let now = self.sight.last.unwrap_or_default();
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let Some(mut watching) = service.watching.take() else {
            return;
        };
        let seen = &self.seen;
        let find = |f: Fingerprint| seen.get(&f).map(AsRef::as_ref);
        let known = watching.watch.read(now, Duration::ZERO, find);
        let effect = known.unwrap_or_else(|| watching.watch.close(now, because));
        self.unsaved.insert(name.into());
        self.note_effect(name, effect);
    }

    fn note_effect(&mut self, name: &str, effect: Effect) {
        if let Some((action, episode)) = self.episodes.judge(name, effect) {
            let episode = Arc::unwrap_or_clone(episode);
            self.notes.push(EventBody::Episode { action, episode });
        }
    }
}
