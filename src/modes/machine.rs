use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::service::{Claim, Service};
use super::settings::Settings;
use super::settle::{Causes, because};
use super::target::{MAX_SERVICE_NAME, Target};
use super::{Error, Freeze, Tick, View};
use crate::model::{
    Alert, AlertState, EventBody, Fingerprint, Level, ModeChange, ModeState, Override, Timestamp,
    Transition,
};

/// The most that passes, for hold and recovery, between two calls. What goes beyond is time that nobody
/// watched. While there is something to wait for, [`Machine::next_deadline`] is never farther away.
pub const MAX_STEP: Duration = Duration::from_secs(60);
/// Alerts that may ask for a level at once; further ones are left out with a warning.
const MAX_ALERTS: usize = 100_000;
/// Warnings kept until they are taken.
const MAX_WARNINGS: usize = 16;

/// Decides in which mode each service is to run. See the [module](super) for what always holds.
///
/// Every input may change modes and returns the changes, by service. `sequence` in them is that of the
/// change before: whoever numbers the events sets it there and says so with [`Machine::number`].
#[derive(Debug, Clone)]
pub struct Machine {
    pub(super) settings: Settings,
    pub(super) services: BTreeMap<String, Service>,
    /// Which services an alert has claims on.
    pub(super) alerts: BTreeMap<Fingerprint, BTreeSet<String>>,
    pub(super) freeze: Option<Freeze>,
    /// The time of the last input.
    pub(super) last: Option<Timestamp>,
    /// What has to be saved.
    pub(super) unsaved: BTreeSet<String>,
    pub(super) freeze_unsaved: bool,
    warnings: Vec<String>,
    /// What happened beside changes of modes, in order, until it is taken.
    notes: Vec<EventBody>,
}

impl Machine {
    /// A machine that knows no service yet. Levels beyond the worst count as the worst.
    pub fn new(mut settings: Settings) -> Self {
        let worst = settings.worst();
        for policy in &mut settings.policies {
            policy.level = policy.level.min(worst);
        }
        Self {
            settings,
            services: BTreeMap::new(),
            alerts: BTreeMap::new(),
            freeze: None,
            last: None,
            unsaved: BTreeSet::new(),
            freeze_unsaved: false,
            warnings: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Takes in what a tick brought. Services that are normal, without alert and without override are
    /// forgotten when they are not named any more.
    pub fn tick(&mut self, now: Timestamp, tick: &Tick<'_>) -> Vec<ModeChange> {
        self.know_services(now, tick.services);
        self.pass_to(now);
        self.settle(now, Causes::new())
    }

    /// Says which services there are: all of them, each time.
    pub(super) fn know_services<S: AsRef<str>>(
        &mut self,
        now: Timestamp,
        names: impl IntoIterator<Item = S>,
    ) {
        let mut named = BTreeSet::new();
        for name in names {
            if self.find_or_add(name.as_ref(), now).is_some() {
                named.insert(name.as_ref().to_owned());
            }
        }
        let unsaved = &mut self.unsaved;
        self.services.retain(|name, service| {
            let keep = named.contains(name) || !service.is_at_rest();
            if !keep && service.durable {
                unsaved.insert(name.clone());
            }
            keep
        });
    }

    /// Takes in what alerts did: firing ones are matched against the policies, others let go.
    pub fn on_transitions(
        &mut self,
        now: Timestamp,
        transitions: &[Transition],
    ) -> Vec<ModeChange> {
        self.pass_to(now);
        for transition in transitions {
            self.take_in(now, &transition.alert);
        }
        self.settle(now, Causes::new())
    }

    /// Takes in which alerts fire, all of them: for after a restart or a reload, when transitions may
    /// have been missed or policies changed. Recoveries go on from where they stood.
    pub fn reconcile(&mut self, now: Timestamp, firing: &[Arc<Alert>]) -> Vec<ModeChange> {
        self.pass_to(now);
        let present: BTreeSet<_> = firing.iter().map(|alert| alert.fingerprint).collect();
        let gone: Vec<_> = self
            .alerts
            .keys()
            .filter(|fingerprint| !present.contains(fingerprint))
            .copied()
            .collect();
        for fingerprint in gone {
            self.let_go(fingerprint);
        }
        for alert in firing {
            self.take_in(now, alert);
        }
        self.settle(now, Causes::new())
    }

    /// Lets time pass: overrides end, services step back.
    pub fn step(&mut self, now: Timestamp) -> Vec<ModeChange> {
        self.pass_to(now);
        self.settle(now, Causes::new())
    }

    /// When [`Machine::step`] has to be called at the latest; `None`: there is nothing to wait for.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let last = self.last?;
        let expiries = self
            .services
            .values()
            .filter_map(|service| service.manual.as_ref()?.expires_at);
        let watch = last.plus(MAX_STEP);
        let step_backs = self
            .services
            .values()
            .filter(|_| self.freeze.is_none())
            .filter_map(Service::step_back_at)
            .map(|at| at.min(watch));
        expiries.chain(step_backs).min()
    }

    /// Puts a service into a mode by hand, in place of an earlier override.
    ///
    /// # Errors
    /// The service is not known, the level does not exist, or the override would have ended already.
    pub fn set_override(
        &mut self,
        now: Timestamp,
        service: &str,
        manual: Override,
    ) -> Result<Vec<ModeChange>, Error> {
        if self.settings.levels.level(&manual.mode).is_none() {
            return Err(Error::Invalid(format!(
                "there is no mode `{}`; the modes are {}",
                manual.mode,
                self.settings.levels.names().join(", ")
            )));
        }
        if let Some(expiry) = manual.expires_at.filter(|expiry| *expiry <= now) {
            return Err(Error::Invalid(format!("it would have ended at {expiry}")));
        }
        let entry = self.known(service)?;
        let mut causes = Causes::new();
        let cause = format!("set by {}: {}", manual.author, manual.reason);
        because(&mut causes, service, cause);
        entry.set_manual(Some(manual));
        self.unsaved.insert(service.into());
        self.pass_to(now);
        Ok(self.settle(now, causes))
    }

    /// Gives a service back to the policies: it goes to where automation has it.
    ///
    /// # Errors
    /// The service is not known or has no override.
    pub fn remove_override(
        &mut self,
        now: Timestamp,
        service: &str,
        author: &str,
    ) -> Result<Vec<ModeChange>, Error> {
        let entry = self.known(service)?;
        if entry.manual.is_none() {
            let message = format!("service `{service}` has no override");
            return Err(Error::NotFound(message));
        }
        entry.set_manual(None);
        let mut causes = Causes::new();
        let cause = format!("override removed by {author}");
        because(&mut causes, service, cause);
        self.unsaved.insert(service.into());
        self.pass_to(now);
        Ok(self.settle(now, causes))
    }

    /// Sets (`Some`) or removes (`None`) the kill switch.
    pub fn freeze(&mut self, now: Timestamp, freeze: Option<Freeze>) -> Vec<ModeChange> {
        self.freeze_unsaved |= self.freeze != freeze;
        self.freeze = freeze;
        self.pass_to(now);
        self.settle(now, Causes::new())
    }

    /// Says under which number the last change of `service` was written down.
    pub fn number(&mut self, service: &str, sequence: u64) {
        if let Some(entry) = self.services.get_mut(service) {
            entry.told.sequence = sequence;
            entry.durable = true;
            self.unsaved.insert(service.into());
        }
    }

    /// What all services are told, with leases from `now`.
    pub fn view(&self, now: Timestamp) -> View {
        let leased = |service: &Service| self.leased(service.told.clone(), now);
        View {
            levels: self.settings.levels.clone(),
            services: self
                .services
                .iter()
                .map(|(name, service)| (name.clone(), leased(service)))
                .collect(),
            freeze: self.freeze.clone(),
            proposals: Vec::new(),
            episodes: Vec::new(),
            plans: Vec::new(),
            reports: BTreeMap::new(),
            blind: None,
        }
    }

    /// What one service is told, with a lease from `now`; `None`: it is not known.
    pub fn state(&self, now: Timestamp, service: &str) -> Option<ModeState> {
        let service = self.services.get(service)?;
        Some(self.leased(service.told.clone(), now))
    }

    /// Services for which an alert asks for a worse level than automation has given them, because of the
    /// limit, a freeze or an override; and the level asked for.
    pub fn waiting(&self) -> Vec<(&str, Level)> {
        self.services
            .iter()
            .filter(|(_, service)| service.target() > service.auto)
            .map(|(name, service)| (name.as_str(), service.target()))
            .collect()
    }

    /// What happened since the last call beside changes of modes, in order: proposals, episodes, plans and
    /// acknowledgements. It led to the changes that the same inputs returned, and stands before them.
    pub fn take_notes(&mut self) -> Vec<EventBody> {
        std::mem::take(&mut self.notes)
    }

    /// What went wrong since the last call without stopping anything, for the log.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    fn leased(&self, mut state: ModeState, now: Timestamp) -> ModeState {
        state.lease_expires_at = now.plus(self.settings.lease);
        state
    }

    fn known(&mut self, service: &str) -> Result<&mut Service, Error> {
        self.services
            .get_mut(service)
            .ok_or_else(|| Error::NotFound(format!("there is no service `{service}`")))
    }

    fn warn(&mut self, warning: String) {
        if self.warnings.len() < MAX_WARNINGS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// The service, made known if there is room for it.
    fn find_or_add(&mut self, name: &str, now: Timestamp) -> Option<&mut Service> {
        if !self.services.contains_key(name) {
            if name.is_empty() || name.len() > MAX_SERVICE_NAME {
                return None;
            }
            if self.services.len() >= self.settings.max_services {
                self.warn(format!(
                    "more than {} services: modes leave the others alone",
                    self.settings.max_services
                ));
                return None;
            }
            let service = Service::normal(name, &self.settings.levels, now);
            self.services.insert(name.into(), service);
        }
        self.services.get_mut(name)
    }

    /// Lets the clock advance. Hold and recovery count only time that was watched: where the clock
    /// jumps, what they count from is moved along.
    fn pass_to(&mut self, now: Timestamp) {
        let Some(last) = self.last.replace(now) else {
            return;
        };
        let back = last.since(now);
        let ahead = now.since(last).saturating_sub(MAX_STEP);
        if back.is_zero() && ahead.is_zero() {
            return;
        }
        // Nothing counts for who is normal.
        let away = |(_, service): &(&String, &mut Service)| service.auto > Level(0);
        for (name, service) in self.services.iter_mut().filter(away) {
            service.shift(back, ahead, now);
            self.unsaved.insert(name.clone());
        }
    }

    /// What an alert asks for now, by service and position of the policy.
    fn claims_of(&self, fingerprint: Fingerprint) -> BTreeMap<(String, usize), Claim> {
        let names = self.alerts.get(&fingerprint).into_iter().flatten();
        let services = names.filter_map(|name| Some((name, self.services.get(name)?)));
        services
            .flat_map(|(name, service)| {
                let own = service
                    .claims
                    .iter()
                    .filter(move |((_, f), _)| *f == fingerprint);
                own.map(|((position, _), claim)| ((name.clone(), *position), claim.clone()))
            })
            .collect()
    }

    fn let_go(&mut self, fingerprint: Fingerprint) {
        for name in self.alerts.remove(&fingerprint).unwrap_or_default() {
            if let Some(service) = self.services.get_mut(&name) {
                service.release(fingerprint);
                self.unsaved.insert(name);
            }
        }
    }

    fn take_in(&mut self, now: Timestamp, alert: &Alert) {
        let before = self.claims_of(alert.fingerprint);
        self.let_go(alert.fingerprint);
        match alert.state {
            AlertState::Pending | AlertState::Resolved => return,
            AlertState::Firing => {}
        }
        let mut asked = Vec::new();
        let mut problems = Vec::new();
        for (position, policy) in self.settings.policies.iter().enumerate() {
            if policy.level == Level(0) || !policy.when.matches(&alert.labels) {
                continue;
            }
            let Target::Service(template) = &policy.target else {
                continue;
            };
            match template.render(&alert.labels) {
                Ok(service) => asked.push((service, position, policy.level)),
                Err(error) => problems.push(format!(
                    "policy `{}` names no service for alert {}: {error}",
                    policy.name,
                    alert.name()
                )),
            }
        }
        for problem in problems {
            self.warn(problem);
        }
        if !asked.is_empty() && self.alerts.len() >= MAX_ALERTS {
            let warning = format!("more than {MAX_ALERTS} alerts: modes leave the others out");
            self.warn(warning);
            return;
        }
        for (name, position, level) in asked {
            if let Some(service) = self.find_or_add(&name, now) {
                let claim = Claim::new(level, alert);
                // Numbers move with every sample; a reason that only reads differently is no news.
                let same = before.get(&(name.clone(), position));
                let claim = same
                    .filter(|same| same.level == level)
                    .cloned()
                    .unwrap_or(claim);
                service.claim((position, alert.fingerprint), claim);
                self.unsaved.insert(name.clone());
                let claimed = self.alerts.entry(alert.fingerprint).or_default();
                claimed.insert(name);
            }
        }
    }
}
