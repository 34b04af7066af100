//! What follows from every input: overrides end, services step back, others go up, all are told.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::Machine;
use crate::model::{Level, ModeChange, ModeStep, Override, Timestamp};

/// Why services change in one input, in words.
pub(super) type Causes = BTreeMap<String, Vec<String>>;

pub(super) fn because(causes: &mut Causes, service: &str, cause: String) {
    causes.entry(service.into()).or_default().push(cause);
}

impl Machine {
    /// Brings every service to where it belongs now, and says what changed.
    pub(super) fn settle(&mut self, now: Timestamp, mut causes: Causes) -> Vec<ModeChange> {
        self.expire_overrides(now, &mut causes);
        for (name, service) in &mut self.services {
            if service.compare_with_target(now) {
                self.unsaved.insert(name.clone());
            }
        }
        if self.freeze.is_none() {
            // Down first: it makes room.
            self.step_back(now, &mut causes);
            self.go_up(now, &mut causes);
            for service in self.services.values_mut() {
                service.absorb(&self.settings.policies);
            }
        }
        self.tell(now, causes)
    }

    fn expire_overrides(&mut self, now: Timestamp, causes: &mut Causes) {
        for (name, service) in &mut self.services {
            let over = |manual: &mut Override| manual.expires_at.is_some_and(|at| at <= now);
            if let Some(manual) = service.manual.take_if(over) {
                let cause = format!("the override by {} has expired", manual.author);
                because(causes, name, cause);
                service.set_manual(None);
                self.unsaved.insert(name.clone());
            }
        }
    }

    fn step_back(&mut self, now: Timestamp, causes: &mut Causes) {
        for (name, service) in &mut self.services {
            // More than one step only where neither hold nor recovery is asked for.
            while service.step_back_at().is_some_and(|due| due <= now) {
                let level = Level(service.auto.0.saturating_sub(1)).max(service.target());
                let cause = format!(
                    "recovered: nothing asks for `{}` any more",
                    self.settings.levels.name(service.auto)
                );
                because(causes, name, cause);
                service.move_to(level, now);
                self.unsaved.insert(name.clone());
            }
        }
    }

    fn go_up(&mut self, now: Timestamp, causes: &mut Causes) {
        let levels = &self.settings.levels;
        let allowed = self.settings.allowed(self.services.len());
        let mut away = 0;
        let mut asking = Vec::new();
        for (name, service) in &self.services {
            away += usize::from(service.is_away(levels));
            if service.manual.is_some() {
                continue;
            }
            if let Some((_, claim)) = service.foremost().filter(|(_, c)| c.level > service.auto) {
                asking.push((Reverse((claim.level, claim.score)), name.clone()));
            }
        }
        // The most severe first; the name makes the order certain.
        asking.sort();
        for (_, name) in asking {
            let Some(service) = self.services.get_mut(&name) else {
                continue;
            };
            let is_away = service.is_away(levels);
            if !is_away && away >= allowed {
                continue;
            }
            away += usize::from(!is_away);
            let level = service.target();
            let cause = service.foremost().map(|((position, _), claim)| {
                let policy = self.settings.policies.get(*position);
                let policy = policy.map_or("", |policy| policy.name.as_str());
                format!("policy `{policy}`: {} fires", claim.alertname)
            });
            because(causes, &name, cause.unwrap_or_default());
            service.move_to(level, now);
            self.unsaved.insert(name);
        }
    }

    /// Compares what each service is to be told with what it was told.
    fn tell(&mut self, now: Timestamp, mut causes: Causes) -> Vec<ModeChange> {
        let mut changes = Vec::new();
        for (name, service) in &mut self.services {
            if !std::mem::take(&mut service.touched) {
                continue;
            }
            let state = service.state(&self.settings.levels, now);
            if state == service.told {
                continue;
            }
            let from = std::mem::replace(&mut service.told, state.clone()).mode;
            let cause = match causes.remove(name) {
                Some(causes) => causes.join("; "),
                None if from == state.mode => "the alerts behind it have changed".into(),
                None => "the levels of the configuration have changed".into(),
            };
            self.unsaved.insert(name.clone());
            let mut told = state;
            told.lease_expires_at = now.plus(self.settings.lease);
            changes.push(ModeChange {
                step: ModeStep::default(),
                from,
                cause,
                state: told,
            });
        }
        changes
    }
}
