//! Who is here: services and how many series they have, so that limits hold over all shards.
//!
//! It is asked once a request for the request's services, and for series only when they are new: data
//! of series that are known never waits here.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::notice::Forms;
use super::plan::{OVERFLOW, Settings, is_overflow};
use crate::model::{
    AttributeValue, Attributes, Instrument, MetricKind, Resource, Scope, SeriesId, SeriesIdentity,
    ServiceView, Temporality, Timestamp, VersionView,
};
use crate::telemetry::Telemetry;

/// Overflow series one service may have; a metric beyond that many is refused altogether. They come on
/// top of the limits, so there must be few.
const MAX_OVERFLOW_SERIES: u32 = 64;
/// First seen before a restart, at a time that was not saved.
const UNKNOWN: Timestamp = Timestamp::EPOCH;
/// The attribute of a resource that says which release of a service it is.
pub(super) const VERSION: &str = "service.version";
/// Versions kept of a service; the oldest leave.
const MAX_VERSIONS: usize = 16;
/// A version with a longer name is none.
const MAX_VERSION_BYTES: usize = 128;
/// Whatever a service is seen in within this time after it was first heard of in this run was there
/// before, as far as anybody can tell: instances report once a minute, and batches wait.
const ACQUAINTANCE: Duration = Duration::from_secs(180);

/// Services and the number of their series.
pub(super) struct Census {
    max_series: u64,
    max_series_per_service: u64,
    max_services: usize,
    telemetry: Telemetry,
    /// The service that we report as ourselves.
    own_service: Option<String>,
    /// Whether anybody but ourselves has sent anything since it was last asked. It stands for itself;
    /// nothing is read by way of it.
    fed: AtomicBool,
    /// Held for a few map operations, never over an await or while a message is sent.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    services: BTreeMap<Arc<str>, Service>,
    series: u64,
    /// The overflow series there are, by what they stand for.
    overflow: HashMap<Overflowing, (SeriesId, Arc<SeriesIdentity>)>,
    forms: Forms,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Service {
    first_seen: Timestamp,
    last_seen: Timestamp,
    refused: u64,
    /// Whether it has sent anything since it was last asked.
    #[serde(skip)]
    heard: bool,
    /// The same for [`Census::take_present`].
    #[serde(skip)]
    present: bool,
    /// By the time of their appearance.
    versions: Vec<Version>,
    /// When it was first heard of in this run.
    #[serde(skip)]
    heard_from: Option<Timestamp>,
    /// Not saved: counted again as the series are restored.
    #[serde(skip)]
    series: u64,
    #[serde(skip)]
    overflow: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Version {
    name: Arc<str>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    appeared: bool,
}

/// What one overflow series stands for: a metric of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Overflowing {
    service: Arc<str>,
    metric: Arc<str>,
    unit: Arc<str>,
    kind: MetricKind,
}

/// Where the data of a new series goes.
pub(super) enum Admission {
    /// It becomes a series.
    Welcome,
    /// It is beyond a limit, and folded into this series.
    Fold(SeriesId, Arc<SeriesIdentity>),
    /// It is beyond a limit, and cannot be folded.
    Refused,
}

impl Census {
    pub(super) fn new(settings: &Settings, telemetry: Telemetry) -> Self {
        Self {
            max_series: settings.max_series,
            max_series_per_service: settings.max_series_per_service,
            max_services: settings.max_services,
            telemetry,
            own_service: settings.own_service.clone(),
            fed: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below leaves the counts usable at each step, so a panic elsewhere is no reason
        // to refuse all that comes after it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that services have sent something; those that are one too many are given back.
    pub(super) fn visit(&self, senders: &[&Arc<Resource>], now: Timestamp) -> Vec<Arc<str>> {
        let mut state = self.lock();
        let mut refused = Vec::new();
        for sender in senders {
            let name = &sender.service;
            if !state.services.contains_key(name) {
                if state.services.len() >= self.max_services {
                    refused.push(Arc::clone(name));
                    continue;
                }
                state.services.insert(Arc::clone(name), Service::new(now));
            }
            if let Some(service) = state.services.get_mut(name) {
                service.last_seen = service.last_seen.max(now);
                service.heard = true;
                service.present = true;
                self.note_fed(name);
                if service.first_seen == UNKNOWN {
                    service.first_seen = now;
                }
                service.note_version(sender, now);
            }
        }
        self.telemetry.services.set(state.services.len() as i64);
        refused
    }

    /// Decides where the data of a series goes that no shard knows, and counts it.
    pub(super) fn admit(&self, identity: &SeriesIdentity, now: Timestamp) -> Admission {
        let mut state = self.lock();
        let state = &mut *state;
        let name = &identity.resource.service;
        let service = state
            .services
            .entry(Arc::clone(name))
            .or_insert_with(|| Service::new(now));
        // Where spans are gathered, their overflow series may have been chosen already.
        let is_overflow = matches!(identity.kind, MetricKind::Spans | MetricKind::Edge)
            && overflowing(identity).is_some();
        if !is_overflow
            && state.series < self.max_series
            && service.series < self.max_series_per_service
        {
            service.series += 1;
            state.series += 1;
            state.forms.look(identity);
            self.telemetry.series.set(state.series as i64);
            return Admission::Welcome;
        }
        if !is_overflow {
            service.refused = service.refused.saturating_add(1);
        }
        if !can_fold(identity.kind) {
            return Admission::Refused;
        }
        let key = Overflowing::by(identity);
        if let Some((id, identity)) = state.overflow.get(&key) {
            return Admission::Fold(*id, Arc::clone(identity));
        }
        if service.overflow >= MAX_OVERFLOW_SERIES {
            return Admission::Refused;
        }
        let overflow = Arc::new(overflow_identity(identity));
        let id = overflow.id();
        service.overflow += 1;
        service.series += 1;
        state.series += 1;
        self.telemetry.series.set(state.series as i64);
        state.overflow.insert(key, (id, Arc::clone(&overflow)));
        Admission::Fold(id, overflow)
    }

    /// Counts series that are there again after a restart, over the limits if need be.
    pub(super) fn restore<'a>(
        &self,
        restored: impl IntoIterator<Item = (SeriesId, &'a SeriesIdentity)>,
    ) {
        let mut state = self.lock();
        let state = &mut *state;
        for (id, identity) in restored {
            let name = &identity.resource.service;
            if !state.services.contains_key(name) {
                // Its own record comes with another chunk, if that is not damaged.
                let unknown = Service {
                    heard: false,
                    present: false,
                    ..Service::new(UNKNOWN)
                };
                state.services.insert(Arc::clone(name), unknown);
            }
            let Some(service) = state.services.get_mut(name) else {
                continue;
            };
            service.series += 1;
            state.series += 1;
            if let Some(key) = overflowing(identity) {
                service.overflow += 1;
                state.overflow.insert(key, (id, Arc::new(identity.clone())));
            }
        }
        self.telemetry.series.set(state.series as i64);
        self.telemetry.services.set(state.services.len() as i64);
    }

    /// Uncounts series: those that left, or were counted by two requests at once.
    pub(super) fn release<'a>(&self, gone: impl IntoIterator<Item = &'a Arc<SeriesIdentity>>) {
        let mut state = self.lock();
        let state = &mut *state;
        for identity in gone {
            let Some(service) = state.services.get_mut(&identity.resource.service) else {
                continue;
            };
            service.series = service.series.saturating_sub(1);
            state.series = state.series.saturating_sub(1);
            if let Some(key) = overflowing(identity)
                && state.overflow.remove(&key).is_some()
            {
                service.overflow = service.overflow.saturating_sub(1);
            }
        }
        self.telemetry.series.set(state.series as i64);
    }

    /// Lets services go that have no series and have sent nothing for `idle`.
    pub(super) fn forget(&self, now: Timestamp, idle: Duration) {
        let mut state = self.lock();
        state
            .services
            .retain(|_, service| service.series > 0 || now.since(service.last_seen) <= idle);
        self.telemetry.services.set(state.services.len() as i64);
    }

    /// Notes that a sender which was let in before has sent something.
    pub(super) fn hear(&self, sender: &Resource, now: Timestamp) {
        if let Some(service) = self.lock().services.get_mut(&sender.service) {
            service.heard = true;
            self.note_fed(&sender.service);
            service.last_seen = service.last_seen.max(now);
            if service.first_seen == UNKNOWN {
                service.first_seen = now;
            }
            service.note_version(sender, now);
        }
    }

    fn note_fed(&self, service: &str) {
        if self.own_service.as_deref() != Some(service) {
            self.fed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether anybody but ourselves has sent anything since the last call, or nobody is known who could.
    pub(super) fn take_fed(&self) -> bool {
        let others = |name: &Arc<str>| self.own_service.as_deref() != Some(&**name);
        self.fed.swap(false, Ordering::Relaxed) || !self.lock().services.keys().any(others)
    }

    /// The services but `own`, by name, each with whether it has sent anything since the last call.
    pub(super) fn take_heard(&self, own: Option<&str>) -> Vec<(Arc<str>, bool)> {
        self.lock()
            .services
            .iter_mut()
            .filter(|(name, _)| Some(&***name) != own)
            .map(|(name, service)| (Arc::clone(name), std::mem::take(&mut service.heard)))
            .collect()
    }

    /// The services that have sent anything since the last call, by name.
    pub(super) fn take_present(&self) -> Vec<Arc<str>> {
        self.lock()
            .services
            .iter_mut()
            .filter_map(|(name, service)| {
                std::mem::take(&mut service.present).then(|| Arc::clone(name))
            })
            .collect()
    }

    /// How many series a service has; 0 where it is unknown.
    pub(super) fn series_of(&self, service: &str) -> u64 {
        self.lock().services.get(service).map_or(0, |s| s.series)
    }

    /// All services, by name.
    pub(super) fn views(&self) -> Vec<ServiceView> {
        self.lock()
            .services
            .iter()
            .map(|(name, service)| ServiceView {
                service: name.to_string(),
                first_seen: service.first_seen,
                last_seen: service.last_seen,
                series: service.series,
                refused_series: service.refused,
                versions: service.versions.iter().map(Version::view).collect(),
            })
            .collect()
    }

    /// What is to be saved of the services.
    pub(super) fn save(&self) -> ServicesRecord {
        ServicesRecord(
            self.lock()
                .services
                .iter()
                .map(|(name, service)| (Arc::clone(name), service.clone()))
                .collect(),
        )
    }

    /// Takes back what [`save`](Self::save) gave.
    pub(super) fn restore_services(&self, record: ServicesRecord) {
        let mut state = self.lock();
        for (name, saved) in record.0 {
            if let Some(service) = state.services.get_mut(&name) {
                service.first_seen = saved.first_seen;
                service.last_seen = service.last_seen.max(saved.last_seen);
                service.refused = service.refused.max(saved.refused);
                service.versions = saved.versions;
            } else if state.services.len() < self.max_services {
                state.services.insert(name, saved);
            }
        }
        self.telemetry.services.set(state.services.len() as i64);
    }
}

/// Services as they are saved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ServicesRecord(Vec<(Arc<str>, Service)>);

impl Service {
    fn new(now: Timestamp) -> Self {
        Self {
            first_seen: now,
            last_seen: now,
            refused: 0,
            heard: true,
            present: true,
            versions: Vec::new(),
            heard_from: None,
            series: 0,
            overflow: 0,
        }
    }

    /// Remembers the version that `sender` is of, if it has one.
    fn note_version(&mut self, sender: &Resource, now: Timestamp) {
        let heard_from = *self.heard_from.get_or_insert(now);
        let Some(version) = sender.attributes.get(VERSION) else {
            return;
        };
        let name = version.as_text();
        if !(1..=MAX_VERSION_BYTES).contains(&name.len()) {
            return;
        }
        if let Some(known) = self.versions.iter_mut().find(|v| *v.name == *name) {
            known.last_seen = known.last_seen.max(now);
            return;
        }
        let mut appeared = now.since(heard_from) > ACQUAINTANCE;
        if self.versions.len() >= MAX_VERSIONS {
            let oldest = (0..).zip(&self.versions).min_by_key(|(_, v)| v.last_seen);
            let oldest = self.versions.remove(oldest.map_or(0, |(at, _)| at));
            // Where more versions than are kept report at once, nobody can tell which are new.
            appeared &= now.since(oldest.last_seen) > ACQUAINTANCE;
        }
        self.versions.push(Version {
            name: name.into(),
            first_seen: now,
            last_seen: now,
            appeared,
        });
    }
}

impl Version {
    fn view(&self) -> VersionView {
        VersionView {
            version: self.name.to_string(),
            first_seen: self.first_seen,
            appeared: self.appeared,
        }
    }
}

impl Overflowing {
    fn by(identity: &SeriesIdentity) -> Self {
        Self {
            service: Arc::clone(&identity.resource.service),
            metric: Arc::clone(&identity.metric),
            unit: Arc::clone(&identity.unit),
            kind: identity.kind,
        }
    }
}

/// Changes of many series add up to the change of all; totals and last values do not.
fn can_fold(kind: MetricKind) -> bool {
    match kind {
        MetricKind::Sum { temporality, .. }
        | MetricKind::Histogram(temporality)
        | MetricKind::ExponentialHistogram(temporality) => temporality == Temporality::Delta,
        MetricKind::Spans | MetricKind::Edge => true,
        MetricKind::Gauge | MetricKind::Summary => false,
    }
}

/// The series that all series like `identity` beyond a limit are folded into: one for each metric of a
/// service, whatever its resource's other attributes and its scope.
fn overflow_identity(identity: &SeriesIdentity) -> SeriesIdentity {
    let service = Arc::clone(&identity.resource.service);
    let name = AttributeValue::Str((&*service).into());
    SeriesIdentity {
        resource: Arc::new(Resource {
            service,
            attributes: Attributes::from_pairs([("service.name".into(), name)]),
        }),
        instrument: Arc::new(Instrument {
            scope: Arc::new(Scope::default()),
            metric: Arc::clone(&identity.metric),
            unit: Arc::clone(&identity.unit),
            kind: identity.kind,
        }),
        attributes: Attributes::from_pairs([(OVERFLOW.into(), AttributeValue::Bool(true))]),
    }
}

/// What `identity` stands for, if it is one that [`overflow_identity`] made.
fn overflowing(identity: &SeriesIdentity) -> Option<Overflowing> {
    let ours = is_overflow(identity)
        && identity.attributes.len() == 1
        && identity.resource.attributes.len() == 1
        && *identity.scope == Scope::default();
    ours.then(|| Overflowing::by(identity))
}
