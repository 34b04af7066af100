use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::acknowledgement::{Heard, Reports, Told};
use super::claims::{Crowd, MAX_PAIRS};
use super::episode::Episodes;
use super::plan_list::Plans;
use super::plans_asked::{Place, unfold};
use super::service::Service;
use super::settings::Settings;
use super::settle::{Causes, because};
use super::sight::Sight;
use super::target::MAX_SERVICE_NAME;
use super::{Error, Freeze, Tick, View};
use crate::model::{
    Acknowledgement, Alert, AlertState, EventBody, Fingerprint, ModeChange, ModeState, ModeStep,
    Override, Timestamp, Transition,
};

/// The most that may pass between two calls, where ticks are not farther apart, without the clock counting as
/// having jumped. While there is something to wait for, [`Machine::next_deadline`] is never farther away.
pub const MAX_STEP: Duration = Duration::from_secs(60);
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
    /// Firing alerts that policies have seen, whether or not they ask for anything.
    pub(super) looked_at: BTreeSet<Fingerprint>,
    /// Firing alerts that ask for something there was no room for.
    pub(super) left_out: BTreeMap<Fingerprint, Crowd>,
    /// How many pairs of alert and service there are in `alerts`.
    pub(super) pairs: usize,
    /// How many there may be.
    pub(super) most_pairs: usize,
    /// Who calls each service, as of the last tick.
    pub(super) callers: BTreeMap<String, BTreeSet<String>>,
    pub(super) freeze: Option<Freeze>,
    /// What is known of time and data.
    pub(super) sight: Sight,
    /// What has to be saved.
    pub(super) unsaved: BTreeSet<String>,
    pub(super) freeze_unsaved: bool,
    /// Alerts that ask for something, or by which a step is judged, as they were seen last.
    pub(super) seen: BTreeMap<Fingerprint, Arc<Alert>>,
    /// When steps were judged last, on the clock of what was watched.
    pub(super) read_at: Option<Timestamp>,
    pub(super) episodes: Episodes,
    pub(super) plans: Plans,
    /// Which step of a plan each policy stands for.
    pub(super) places: Vec<Option<Place>>,
    /// When plans were taken on last, on the clock of what was watched.
    pub(super) passed_at: Option<Timestamp>,
    pub(super) reports: Reports,
    /// Services that only alerts name, as of the last tick and those that have come since.
    pub(super) named: usize,
    /// Whether a service has come to be heard that alerts may have named before.
    pub(super) has_grown: bool,
    /// Services whose last change of mode has no number yet.
    pub(super) unnumbered: BTreeSet<String>,
    warnings: Vec<String>,
    /// What happened beside changes of modes, in order, until it is taken.
    pub(super) notes: Vec<EventBody>,
}

impl Machine {
    /// A machine that knows no service yet. Levels beyond the worst count as the worst.
    pub fn new(mut settings: Settings) -> Self {
        let places = unfold(&mut settings);
        let worst = settings.worst();
        for policy in &mut settings.policies {
            policy.level = policy.level.min(worst);
        }
        Self {
            sight: Sight::new(&settings),
            settings,
            services: BTreeMap::new(),
            alerts: BTreeMap::new(),
            looked_at: BTreeSet::new(),
            left_out: BTreeMap::new(),
            pairs: 0,
            most_pairs: MAX_PAIRS,
            callers: BTreeMap::new(),
            freeze: None,
            unsaved: BTreeSet::new(),
            freeze_unsaved: false,
            seen: BTreeMap::new(),
            read_at: None,
            episodes: Episodes::default(),
            plans: Plans::default(),
            places,
            passed_at: None,
            reports: Reports::default(),
            named: 0,
            has_grown: false,
            unnumbered: BTreeSet::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Takes in what a tick brought. Services that are normal, without alert and without override are
    /// forgotten when they are not named any more.
    pub fn tick(&mut self, now: Timestamp, tick: &Tick<'_>) -> Vec<ModeChange> {
        self.sight.pass_to(now);
        self.sight.look(now, tick.fed);
        self.know_services(now, tick.services);
        self.callers.clear();
        for (caller, callee) in tick.calls {
            let callers = self.callers.entry((*callee).to_owned()).or_default();
            callers.insert((*caller).to_owned());
        }
        self.compare_with(now, tick.alerts);
        self.see(tick.alerts);
        let services = &self.services;
        self.reports.compare(now, self.settings.lease, |name| {
            Some(Told::of(&services.get(name)?.told))
        });
        let mut causes = Causes::new();
        self.judge(now, &mut causes);
        self.settle(now, causes)
    }

    /// Takes in that a tick has ended while nothing goes on ([`Machine::is_busy`]): a cheap
    /// [`Machine::tick`] for those who live through days in a moment.
    pub fn watch(&mut self, now: Timestamp, fed: bool) {
        self.sight.pass_to(now);
        self.sight.look(now, fed);
    }

    /// Whether every tick may change something: an alert asks for something, a service is away from normal or
    /// was so lately, or automation does not see.
    pub fn is_busy(&self) -> bool {
        let watched = self.sight.watched();
        let mut services = self.services.values();
        self.sight.is_blind() || services.any(|service| !service.is_at_rest(watched))
    }

    /// Whether it matters who calls whom.
    pub fn needs_calls(&self) -> bool {
        let mut policies = self.settings.policies.iter();
        policies.any(|policy| policy.target.asks_who_calls())
    }

    /// Whether any service is away from normal.
    pub fn is_away(&self) -> bool {
        let levels = &self.settings.levels;
        self.services.values().any(|s| s.is_away(levels))
    }

    /// Says which services there are: all of them, each time.
    pub(super) fn know_services<S: AsRef<str>>(
        &mut self,
        now: Timestamp,
        names: impl IntoIterator<Item = S>,
    ) {
        let names: Vec<S> = names.into_iter().collect();
        let named: BTreeSet<&str> = names.iter().map(AsRef::as_ref).collect();
        let (unsaved, reports) = (&mut self.unsaved, &self.reports);
        let settings = &self.settings;
        let watched = self.sight.watched();
        // Who leaves makes room for who comes.
        self.services.retain(|name, service| {
            let reports = || reports.is_present(now, name, settings.lease);
            let heard = named.contains(name.as_str()) || reports();
            service.hear(heard, &settings.levels);
            let keep = heard || !service.is_at_rest(watched);
            if !keep && service.durable {
                unsaved.insert(name.clone());
            }
            keep
        });
        for name in named {
            if !self.services.contains_key(name) && self.find_or_add(name, now, true).is_some() {
                self.has_grown = true;
            }
        }
        let only_named = self.services.values().filter(|s| !s.heard && !s.was_heard);
        self.named = only_named.count();
    }

    /// Takes in what alerts did: firing ones are matched against the policies, others let go.
    pub fn on_transitions(
        &mut self,
        now: Timestamp,
        transitions: &[Transition],
    ) -> Vec<ModeChange> {
        self.sight.pass_to(now);
        for transition in transitions {
            let alert = &transition.alert;
            self.seen.insert(alert.fingerprint, Arc::clone(alert));
            self.take_in(now, &transition.alert);
        }
        self.settle(now, Causes::new())
    }

    /// Takes in all alerts there are: for after a restart or a reload, when transitions may have been missed
    /// or policies changed. Recoveries go on from where they stood.
    pub fn reconcile(&mut self, now: Timestamp, alerts: &[Arc<Alert>]) -> Vec<ModeChange> {
        self.sight.pass_to(now);
        let firing = alerts.iter().filter(|a| a.state == AlertState::Firing);
        for alert in firing {
            self.take_in(now, alert);
        }
        self.compare_with(now, alerts);
        self.see(alerts);
        for (name, service) in &mut self.services {
            // What was not saved has been heard of by now.
            if std::mem::take(&mut service.known.more) {
                service.news();
                self.unsaved.insert(name.clone());
            }
        }
        self.settle(now, Causes::new())
    }

    /// Lets time pass: overrides end, services step back.
    pub fn step(&mut self, now: Timestamp) -> Vec<ModeChange> {
        self.sight.pass_to(now);
        self.settle(now, Causes::new())
    }

    /// When [`Machine::step`] has to be called at the latest; `None`: there is nothing to wait for but ticks.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let services = || self.services.values();
        let expiries = services().filter_map(|service| service.manual.as_ref()?.expires_at);
        // On a clock that stands still nothing comes nearer; the next tick may set it going.
        let waits = !self.sight.is_blind();
        let silences = services().filter_map(Service::silent_since);
        let silences = silences.map(|since| since.plus(self.settings.silence));
        let steps = services().filter(|_| self.may_act()).flat_map(|service| {
            let want = || service.want().or_else(|| service.wish());
            let up = service.manual.is_none().then(want).flatten();
            let up = up.map(|want| service.free_from(&want));
            // What waits for room or for people waits for another input.
            let up = up.filter(|free_from| *free_from > self.sight.watched());
            let back = service.step_back_at();
            let back = back.filter(|_| !self.waits_for_plan(&service.told.service));
            back.into_iter().chain(up)
        });
        let plans = self.plans_left().filter(|_| self.may_act());
        let plans = plans.map(|left| self.sight.watched().plus(left));
        let due = silences.chain(steps).chain(plans).filter(|_| waits).min();
        let due = due.and_then(|due| self.sight.at(due));
        expiries.chain(due).min()
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
            return Err(self.no_mode(&manual.mode));
        }
        if let Some(expiry) = manual.expires_at.filter(|expiry| *expiry <= now) {
            return Err(Error::Invalid(format!("it would have ended at {expiry}")));
        }
        self.known(service)?;
        self.sight.pass_to(now);
        let watched = self.sight.watched();
        let entry = self.known(service)?;
        let mut causes = Causes::new();
        let cause = format!("set by {}: {}", manual.author, manual.reason);
        because(&mut causes, service, ModeStep::Override, cause);
        entry.set_manual(Some(manual), watched);
        self.unsaved.insert(service.into());
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
        self.sight.pass_to(now);
        let watched = self.sight.watched();
        self.known(service)?.set_manual(None, watched);
        let mut causes = Causes::new();
        let cause = format!("override removed by {author}");
        because(&mut causes, service, ModeStep::Override, cause);
        self.unsaved.insert(service.into());
        Ok(self.settle(now, causes))
    }

    /// Sets (`Some`) or removes (`None`) the kill switch.
    pub fn freeze(&mut self, now: Timestamp, freeze: Option<Freeze>) -> Vec<ModeChange> {
        self.freeze_unsaved |= self.freeze != freeze;
        self.freeze = freeze;
        self.sight.pass_to(now);
        self.settle(now, Causes::new())
    }

    /// Says under which number the last change of `service` was written down.
    pub fn number(&mut self, service: &str, sequence: u64) {
        if let Some(entry) = self.services.get_mut(service) {
            entry.told.sequence = sequence;
            entry.durable = true;
            self.unsaved.insert(service.into());
            self.unnumbered.remove(service);
            let now = self.sight.last.unwrap_or_default();
            self.reports.tell(now, service, Told::of(&entry.told));
            self.plans.number(service, sequence);
        }
    }

    /// Takes in what an instance of a service says about its mode.
    ///
    /// # Errors
    /// The service is not known, there is no such mode, or no more instances can be kept.
    pub fn acknowledge(
        &mut self,
        now: Timestamp,
        service: &str,
        said: Acknowledgement,
    ) -> Result<Vec<ModeChange>, Error> {
        if self.settings.levels.level(&said.mode).is_none() {
            return Err(self.no_mode(&said.mode));
        }
        let lease = self.settings.lease;
        let found = self.services.get(service);
        let Some(told) = found.map(|service| Told::of(&service.told)) else {
            return Err(unknown(service));
        };
        let heard = self.reports.hear(now, service, told, said, lease);
        let heard = heard.map_err(Error::Invalid)?;
        if let Some(service) = self.services.get_mut(service) {
            service.hear(true, &self.settings.levels);
        }
        match heard {
            Heard::Renewed => return Ok(Vec::new()),
            Heard::News(acknowledgement) => self.notes.push(EventBody::Acknowledged {
                service: service.into(),
                acknowledgement,
            }),
        }
        // Most reports are nothing that anybody waits for.
        if !self.has_answered(now, service) {
            return Ok(Vec::new());
        }
        self.sight.pass_to(now);
        Ok(self.settle(now, Causes::new()))
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
            proposals: self
                .services
                .values()
                .filter_map(|service| service.proposal.clone())
                .collect(),
            episodes: self.episodes.view(),
            plans: self.plans.view(),
            reports: self.reports.view(),
            blind: self.sight.why_blind(),
        }
    }

    /// What one service is told, with a lease from `now`; `None`: it is not known.
    pub fn state(&self, now: Timestamp, service: &str) -> Option<ModeState> {
        let service = self.services.get(service)?;
        Some(self.leased(service.told.clone(), now))
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

    fn no_mode(&self, mode: &str) -> Error {
        Error::Invalid(format!(
            "there is no mode `{mode}`; the modes are {}",
            self.settings.levels.names().join(", ")
        ))
    }

    fn known(&mut self, service: &str) -> Result<&mut Service, Error> {
        self.services
            .get_mut(service)
            .ok_or_else(|| unknown(service))
    }

    pub(super) fn warn(&mut self, warning: String) {
        if self.warnings.len() < MAX_WARNINGS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Whether there is room for one more service that only alerts name.
    pub(super) fn may_name_another(&self) -> bool {
        let settings = &self.settings;
        self.services.len() < settings.max_services && self.named < settings.max_named()
    }

    /// The service, made known if there is room for it: less for those that only alerts name.
    pub(super) fn find_or_add(
        &mut self,
        name: &str,
        now: Timestamp,
        heard: bool,
    ) -> Option<&mut Service> {
        if !self.services.contains_key(name) {
            if name.is_empty() || name.len() > MAX_SERVICE_NAME {
                return None;
            }
            let (all, named) = (self.settings.max_services, self.settings.max_named());
            let full = if self.services.len() >= all {
                Some(format!("more than {all} services"))
            } else if !heard && self.named >= named {
                Some(format!("more than {named} services that only alerts name"))
            } else {
                None
            };
            if let Some(full) = full {
                self.warn(format!("{full}: modes leave the others alone"));
                return None;
            }
            let mut service = Service::normal(name, &self.settings, now);
            service.hear(heard, &self.settings.levels);
            self.named += usize::from(!heard);
            self.services.insert(name.into(), service);
        }
        self.services.get_mut(name)
    }
}

fn unknown(service: &str) -> Error {
    Error::NotFound(format!("there is no service `{service}`"))
}
