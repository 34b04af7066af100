//! What alerts ask of services: from their labels by the policies to claims, and what becomes of claims
//! when nothing more is heard of an alert.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Machine;
use super::claim::Claim;
use super::policy::Policy;
use super::service::Service;
use super::target::Target;
use crate::model::{Alert, AlertState, Fingerprint, Level, Timestamp};

/// Alerts that may ask for a level at once; further ones are left out with a warning.
const MAX_ALERTS: usize = 100_000;
/// Pairs of alerts and services at once; policies for groups make many.
pub(super) const MAX_PAIRS: usize = 500_000;

/// Of what there was too much for an alert to be taken in whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowd {
    /// Alerts, or pairs of alerts and services.
    Alerts,
    /// Services.
    Services,
}

/// What an alert asks for: a service, and the position of the policy.
type Asked = BTreeSet<(String, usize)>;

impl Machine {
    /// Takes in how an alert stands now.
    pub(super) fn take_in(&mut self, now: Timestamp, alert: &Alert) {
        self.looked_at.remove(&alert.fingerprint);
        self.left_out.remove(&alert.fingerprint);
        match alert.state {
            AlertState::Firing => {
                self.looked_at.insert(alert.fingerprint);
                let asked = self.asked_by(alert);
                self.replace_claims(now, alert, asked);
            }
            AlertState::Resolved if alert.grounds.silent => self.fall_silent(alert.fingerprint),
            AlertState::Resolved => self.let_go(alert.fingerprint),
            // It is about to fire again; how its last episode ended was missed, if we still know of it.
            AlertState::Pending => self.fall_silent(alert.fingerprint),
        }
    }

    /// Compares the claims with all alerts there are: groups and callers may have grown, and of alerts that
    /// are not there any more nobody knows how they ended.
    pub(super) fn compare_with(&mut self, now: Timestamp, alerts: &[Arc<Alert>]) {
        let present: BTreeMap<_, _> = alerts.iter().map(|a| (a.fingerprint, a)).collect();
        let known: Vec<_> = self.alerts.keys().copied().collect();
        for fingerprint in known {
            match present.get(&fingerprint) {
                Some(alert) if alert.state == AlertState::Firing => {}
                Some(alert) => self.take_in(now, alert),
                None => self.fall_silent(fingerprint),
            }
        }
        let is_open = |policy: &Policy| policy.target.is_open() && policy.level > Level(0);
        let firing = || alerts.iter().filter(|a| a.state == AlertState::Firing);
        for alert in firing() {
            let policies = self.settings.policies.iter();
            let mut open = policies.filter(|policy| is_open(policy));
            // One that was missed is taken in now, and one that was left out when there is room.
            if !self.looked_at.contains(&alert.fingerprint)
                || self.has_room_again(alert.fingerprint)
                || open.any(|policy| policy.when.matches(&alert.labels))
            {
                self.take_in(now, alert);
            }
        }
        self.looked_at = firing().map(|alert| alert.fingerprint).collect();
        let looked_at = &self.looked_at;
        self.left_out.retain(|of, _| looked_at.contains(of));
        self.has_grown = false;
    }

    /// Whether an alert that was left out may find room now.
    fn has_room_again(&self, fingerprint: Fingerprint) -> bool {
        match self.left_out.get(&fingerprint) {
            Some(Crowd::Alerts) => self.pairs < self.most_pairs && self.alerts.len() < MAX_ALERTS,
            Some(Crowd::Services) => self.has_grown || self.may_name_another(),
            None => false,
        }
    }

    /// The alert is over: nothing asks for what it asked for.
    fn let_go(&mut self, fingerprint: Fingerprint) {
        for name in self.alerts.remove(&fingerprint).unwrap_or_default() {
            self.pairs = self.pairs.saturating_sub(1);
            if let Some(service) = self.services.get_mut(&name) {
                for position in 0..self.settings.policies.len() {
                    service.release((position, fingerprint));
                }
                self.unsaved.insert(name);
            }
        }
    }

    /// Nothing more is heard of the alert: what it asked for stands still for a while.
    pub(super) fn fall_silent(&mut self, fingerprint: Fingerprint) {
        let watched = self.sight.watched();
        for name in self.alerts.get(&fingerprint).into_iter().flatten() {
            let Some(service) = self.services.get_mut(name) else {
                continue;
            };
            let mut changed = false;
            for position in 0..self.settings.policies.len() {
                if let Some(claim) = service.claims.get_mut(&(position, fingerprint)) {
                    changed |= claim.silent_since.is_none();
                    claim.silent_since.get_or_insert(watched);
                }
            }
            if changed {
                service.news();
                self.unsaved.insert(name.clone());
            }
        }
    }

    /// Lets go of the alerts that have been silent for too long: every departure ends.
    pub(super) fn end_silences(&mut self) {
        let watched = self.sight.watched();
        let until = watched.minus(self.settings.silence);
        let mut over = BTreeSet::new();
        let services = self.services.values();
        let is_due =
            |service: &&Service| service.silent_since().is_some_and(|since| since <= until);
        for service in services.filter(is_due) {
            let claims = service.claims.iter();
            over.extend(
                claims
                    .filter(|(_, claim)| claim.silent_since.is_some_and(|since| since <= until))
                    .map(|((_, fingerprint), _)| *fingerprint),
            );
        }
        for fingerprint in over {
            self.let_go(fingerprint);
        }
    }

    /// What a firing alert asks for by the policies, with what it has asked of groups and callers before.
    fn asked_by(&mut self, alert: &Alert) -> Asked {
        let mut asked = Asked::new();
        let mut problems = Vec::new();
        for (position, policy) in self.settings.policies.iter().enumerate() {
            if !policy.steps.is_empty()
                || policy.level == Level(0)
                || !policy.when.matches(&alert.labels)
            {
                continue;
            }
            match self.services_of(&policy.target, alert) {
                Ok(services) => asked.extend(services.into_iter().map(|name| (name, position))),
                Err(error) => problems.push(format!(
                    "policy `{}` names no service for alert {}: {error}",
                    policy.name,
                    alert.name()
                )),
            }
            if policy.target.is_open() {
                // Who was added stays while the alert fires.
                let key = (position, alert.fingerprint);
                let names = self.alerts.get(&alert.fingerprint).into_iter().flatten();
                let before = names.filter(|name| {
                    let service = self.services.get(*name);
                    service.is_some_and(|service| service.claims.contains_key(&key))
                });
                asked.extend(before.map(|name| (name.clone(), position)));
            }
        }
        for problem in problems {
            self.warn(problem);
        }
        asked
    }

    /// The services that `target` means for an alert.
    pub(super) fn services_of(
        &self,
        target: &Target,
        alert: &Alert,
    ) -> Result<Vec<String>, String> {
        match target {
            Target::Service(template) => Ok(vec![template.render(&alert.labels)?]),
            Target::Group(group) => {
                let at = self.settings.groups.iter().position(|g| g.name == *group);
                let at = at.ok_or_else(|| format!("there is no group `{group}`"))?;
                let members = self.services.iter().filter(|(_, s)| s.groups.contains(&at));
                Ok(members.map(|(name, _)| name.clone()).collect())
            }
            Target::CallersOf(template) => {
                let callee = template.render(&alert.labels)?;
                let callers = self.callers.get(&callee).into_iter().flatten();
                Ok(callers.filter(|name| **name != callee).cloned().collect())
            }
        }
    }

    /// Makes the claims of a firing alert those that are `asked` for.
    fn replace_claims(&mut self, now: Timestamp, alert: &Alert, asked: Asked) {
        let fingerprint = alert.fingerprint;
        let before = self.alerts.get(&fingerprint).cloned().unwrap_or_default();
        for name in &before {
            let Some(service) = self.services.get_mut(name) else {
                continue;
            };
            for position in 0..self.settings.policies.len() {
                let key = (position, fingerprint);
                if service.claims.contains_key(&key) && !asked.contains(&(name.clone(), position)) {
                    service.release(key);
                    self.unsaved.insert(name.clone());
                }
            }
        }
        let is_new = before.is_empty();
        if is_new && !asked.is_empty() && self.alerts.len() >= MAX_ALERTS {
            let warning = format!("more than {MAX_ALERTS} alerts: modes leave the others out");
            self.warn(warning);
            self.left_out.insert(fingerprint, Crowd::Alerts);
            return;
        }
        let mut claimed = BTreeSet::new();
        for (name, position) in asked {
            let is_known = before.contains(&name) || claimed.contains(&name);
            if !is_known && self.pairs >= self.most_pairs {
                let most = self.most_pairs;
                let warning = format!(
                    "more than {most} pairs of alerts and services: modes leave the others out"
                );
                self.warn(warning);
                self.left_out.insert(fingerprint, Crowd::Alerts);
                continue;
            }
            let Some(policy) = self.settings.policies.get(position) else {
                continue;
            };
            let fresh = Claim::new(policy, alert);
            let Some(service) = self.find_or_add(&name, now, false) else {
                // Who waits for room among alerts hears soon enough that there is none here.
                self.left_out.entry(fingerprint).or_insert(Crowd::Services);
                continue;
            };
            let key = (position, fingerprint);
            let same = service.claims.get(&key);
            // Numbers move with every sample; a reason that only reads differently is no news.
            let same = same.filter(|same| same.level == fresh.level && same.silent_since.is_none());
            if same.is_none() {
                service.claim(key, fresh);
                self.unsaved.insert(name.clone());
            }
            self.pairs += usize::from(!is_known);
            claimed.insert(name);
        }
        let gone = before.difference(&claimed).count();
        self.pairs = self.pairs.saturating_sub(gone);
        if claimed.is_empty() {
            self.alerts.remove(&fingerprint);
        } else {
            self.alerts.insert(fingerprint, claimed);
        }
    }
}
