//! What follows from every input: overrides end, services step back, others go up or are proposed, all
//! are told.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Machine;
use super::asked::Want;
use super::limits::Room;
use super::outcome::Reason;

use crate::model::{Level, ModeChange, ModeStep, Override, Timestamp};

/// Why services change in one input: what kind of step it is, and in words.
pub(super) type Causes = BTreeMap<String, (ModeStep, Vec<String>)>;

pub(super) fn because(causes: &mut Causes, service: &str, step: ModeStep, cause: String) {
    let (kind, causes) = causes.entry(service.into()).or_default();
    causes.push(cause);
    // A person's act is one, whatever follows from it; else the last step says what it came to.
    if *kind != ModeStep::Override {
        *kind = step;
    }
}

impl Machine {
    /// Brings every service to where it belongs now, and says what changed.
    pub(super) fn settle(&mut self, now: Timestamp, mut causes: Causes) -> Vec<ModeChange> {
        self.expire_overrides(now, &mut causes);
        self.count_anew();
        self.end_silences();
        self.advance_plans(now, &mut causes);
        let watched = self.sight.watched();
        for (name, service) in &mut self.services {
            if service.compare_with_asked(watched) {
                self.unsaved.insert(name.clone());
            }
        }
        if self.may_act() {
            // Down first: it makes room.
            self.step_back(&mut causes);
            self.count_anew();
            self.go_up(&mut causes);
            for (name, service) in &mut self.services {
                if service.absorb(&self.settings.policies) {
                    self.unsaved.insert(name.clone());
                }
            }
        }
        self.propose(now);
        self.tell(now, causes)
    }

    /// Whether automation may change anything.
    pub(super) fn may_act(&self) -> bool {
        self.freeze.is_none() && !self.sight.is_blind()
    }

    /// Has those that are back be counted as they are now.
    fn count_anew(&mut self) {
        for service in self.services.values_mut() {
            service.hear(service.heard, &self.settings.levels);
        }
    }

    fn expire_overrides(&mut self, now: Timestamp, causes: &mut Causes) {
        let watched = self.sight.watched();
        for (name, service) in &mut self.services {
            let over = |manual: &mut Override| manual.expires_at.is_some_and(|at| at <= now);
            if let Some(manual) = service.manual.take_if(over) {
                let cause = format!("the override by {} has expired", manual.author);
                because(causes, name, ModeStep::Override, cause);
                service.set_manual(None, watched);
                self.unsaved.insert(name.clone());
            }
        }
    }

    fn step_back(&mut self, causes: &mut Causes) {
        let watched = self.sight.watched();
        let due = |machine: &Self, name: &str| {
            let service = machine.services.get(name)?;
            let is_due = service.step_back_at().is_some_and(|due| due <= watched);
            (is_due && !machine.waits_for_plan(name)).then_some(service.auto)
        };
        for name in self.away() {
            // More than one step only where neither hold nor recovery is asked for.
            while let Some(from) = due(self, &name) {
                let cause = format!(
                    "recovered: nothing asks for `{}` any more",
                    self.settings.levels.name(from)
                );
                let reason = Reason {
                    step: ModeStep::Recover,
                    by: None,
                    cause,
                };
                self.take_step(causes, &name, Level(from.0.saturating_sub(1)), reason);
            }
        }
    }

    /// The services that automation has away from normal.
    fn away(&self) -> Vec<String> {
        let away = self.services.iter().filter(|(_, s)| s.auto > Level(0));
        away.map(|(name, _)| name.clone()).collect()
    }

    fn go_up(&mut self, causes: &mut Causes) {
        let watched = self.sight.watched();
        let mut room = Room::survey(self);
        let mut asking = Vec::new();
        for (name, service) in &self.services {
            if service.manual.is_none()
                && let Some(want) = service.want()
                && service.free_from(&want) <= watched
            {
                asking.push((Reverse(want.rank), name.clone()));
            }
        }
        // The most severe first; the name makes the order certain.
        asking.sort();
        for (_, name) in asking {
            // More than one step only where no hold is asked for.
            while let Some(service) = self.services.get(&name)
                && let Some(want) = service.want()
                && service.free_from(&want) <= watched
                && room.refuses(service, &self.settings).is_none()
            {
                if !service.is_away(&self.settings.levels) {
                    room.take(service);
                }
                let cause = self.cause_of(&name, &want);
                let policy = self.settings.policies.get(want.by.0);
                let farther = policy.is_some_and(|policy| want.level > policy.level);
                let reason = Reason {
                    step: if farther {
                        ModeStep::Escalate
                    } else {
                        ModeStep::Degrade
                    },
                    by: Some(want.by.0),
                    cause,
                };
                self.take_step(causes, &name, want.level, reason);
            }
        }
    }

    /// Which policy and alert ask for the step `want`, in words.
    pub(super) fn cause_of(&self, name: &str, want: &Want) -> String {
        let policy = self.settings.policies.get(want.by.0);
        let policy = policy.map_or("", |policy| policy.name.as_str());
        let claim = self.services.get(name).and_then(|s| s.claims.get(&want.by));
        let alert = claim.map_or("an alert", |claim| &claim.alertname);
        format!("policy `{policy}`: {alert} fires")
    }

    /// Moves `name` to `level`, as part of [`Machine::take_step`].
    pub(super) fn move_service(&mut self, name: &str, level: Level) {
        let watched = self.sight.watched();
        if let Some(service) = self.services.get_mut(name) {
            service.move_to(level, watched);
            service.absorb(&self.settings.policies);
            self.unsaved.insert(name.into());
        }
    }

    /// Compares what each service is to be told with what it was told.
    fn tell(&mut self, now: Timestamp, mut causes: Causes) -> Vec<ModeChange> {
        let mut changes = Vec::new();
        let mut by_hand = Vec::new();
        for (name, service) in &mut self.services {
            if !std::mem::take(&mut service.touched) {
                continue;
            }
            let state = service.state(&self.settings, now);
            if state == service.told {
                continue;
            }
            let from = std::mem::replace(&mut service.told, state.clone()).mode;
            let (step, cause) = match causes.remove(name) {
                // What automation does beneath an override is no step of what the service is told.
                Some((step, causes)) if from == state.mode && step != ModeStep::Override => {
                    (ModeStep::Update, causes.join("; "))
                }
                Some((step, causes)) => (step, causes.join("; ")),
                None if from == state.mode => {
                    let cause = "the alerts or the instructions behind it have changed";
                    (ModeStep::Update, cause.into())
                }
                None => {
                    let cause = "the levels of the configuration have changed";
                    (ModeStep::Update, cause.into())
                }
            };
            self.unnumbered.insert(name.clone());
            if step == ModeStep::Override {
                by_hand.push((name.clone(), from.clone(), cause.clone()));
            }
            self.unsaved.insert(name.clone());
            let mut told = state;
            told.lease_expires_at = now.plus(self.settings.lease);
            changes.push(ModeChange {
                step,
                from,
                cause,
                state: told,
            });
        }
        for (name, from, cause) in by_hand {
            self.note_override(now, &name, &from, &cause);
        }
        changes
    }
}
