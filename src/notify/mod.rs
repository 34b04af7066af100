//! Delivery: notifications and mode changes, decided elsewhere, to those who are to be told.
//!
//! In: [`Parcel`]s of messages, which are durable by the time they are handed to [`Notifier::deliver`];
//! that never waits. Out: requests to webhooks and so on, one attempt at a time by one file in
//! `integration` each, and what changes in the outbox, to a [`Journal`].
//!
//! The way of a message: `outbox` (kept until every integration of its receiver is done with it) →
//! `agenda` (order, and when the next attempt is due) → `lane` (one task per integration) → `breaker`
//! (is the receiver worth an attempt?) → `bulkhead` (how many at a time) → the attempt → `retry` (when
//! again?) or the fallback. `record` is what a lane knows of itself, `journal` the writing.
//!
//! **Invariants.** Messages of one group or service arrive in the order in which they were decided. A
//! message keeps its id over all attempts, over restarts and on its way to a fallback. It leaves the
//! outbox when it is delivered or has failed for good, and there is no moment at which neither the
//! receiver nor its fallback has it. A dead receiver holds up no other, nor does a dead disk. What is not
//! delivered is counted and said in the log. Secrets, URLs' paths and header values are shown nowhere.
//! Link-local addresses are never connected to.
//!
//! It knows nothing of rules and groups.

mod address;
mod agenda;
mod breaker;
mod bulkhead;
mod integration;
mod journal;
mod lane;
mod message;
mod outbox;
mod record;
mod retry;
mod signature;
mod template;
#[cfg(test)]
mod tests;

pub use breaker::BreakerSettings;
pub use bulkhead::Concurrency;
pub use integration::{
    Address, Alertmanager, AttemptError, Authorization, Card, Credential, Email, Endpoint, Http,
    Integration, LogFile, Opsgenie, PagerDuty, Part, Payload, Poster, Responder, Secured, Slack,
    Teams, Tls, TransportSettings, Tree, Trust, Webhook,
};
pub use journal::Journal;
pub use message::{Message, Resolved};
pub use outbox::{OutboxSettings, Parcel, Room};
pub use retry::Policy;
pub use signature::Secret;
pub use template::{Target, Templates, Text, check_text};

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::dispatch::Notification;
use crate::model::{ModeChange, ReceiverView, Timestamp};
use crate::telemetry::Telemetry;
use address::Guard;
use bulkhead::{Bulkhead, Shares};
use integration::{Client, Context};
use lane::{Lane, Shared};
use outbox::{Directory, Known, Outbox};
use record::{Record, Results};

/// The receiver that is always there, unless the configuration has one of this name: the log.
pub const LOG: &str = "log";

/// Somebody who is told.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// Its name, which routes refer to.
    pub name: String,
    /// How it is told: by all of these.
    pub integrations: Vec<Integration>,
    /// The receiver that gets what could not be delivered to this one.
    pub fallback: Option<String>,
}

/// Settings of delivery.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who can be told.
    pub receivers: Vec<Receiver>,
    /// How failed attempts are repeated.
    pub retry: Policy,
    /// Where people reach this daemon, for links; without a slash at the end.
    pub external_url: String,
    /// When an integration's circuit breaker opens and closes.
    pub breaker: BreakerSettings,
    /// How many attempts are made at the same time.
    pub concurrency: Concurrency,
    /// How much may wait for one receiver.
    pub outbox: OutboxSettings,
    /// How long opening a connection may take (default 5 s). A whole attempt has its webhook's limit.
    pub connect_timeout: Duration,
    /// How long deliveries under way may go on after the stop (default 5 s).
    pub drain: Duration,
    /// Link-local addresses that may be connected to all the same (default none).
    pub link_local_allowed: Vec<IpAddr>,
    /// Seed of jitter and message ids: random in a daemon, so that ids do not repeat over restarts;
    /// fixed in tests.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            receivers: Vec::new(),
            retry: Policy::default(),
            external_url: String::new(),
            breaker: BreakerSettings::default(),
            concurrency: Concurrency::default(),
            outbox: OutboxSettings::default(),
            connect_timeout: Duration::from_secs(5),
            drain: Duration::from_secs(5),
            link_local_allowed: Vec::new(),
            seed: 0,
        }
    }
}

/// Why delivery cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The HTTP client cannot be made.
    #[error("the HTTP client for webhooks cannot be made: {0}")]
    Client(#[source] reqwest::Error),
    /// Two receivers have one name.
    #[error("there are two receivers called `{0}`")]
    Duplicate(String),
    /// A fallback is no receiver.
    #[error("receiver `{receiver}`: its fallback `{fallback}` does not exist")]
    NoSuchFallback {
        /// Whose.
        receiver: String,
        /// Its name.
        fallback: String,
    },
}

/// What outlives this notifier.
#[derive(Default)]
pub struct Kept {
    /// Where changes of the outbox are written; `None`: nowhere, and a restart forgets.
    pub journal: Option<Arc<dyn Journal>>,
    /// What is there, as (key, value): what [`Parcel::changes`] and [`Journal::record`] were given.
    pub entries: BTreeMap<String, Vec<u8>>,
}

/// A handle on delivery. Cheap to clone. When the last one is dropped, delivery stops.
#[derive(Debug, Clone)]
pub struct Notifier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// Names and fallbacks, in the order of the configuration.
    receivers: Vec<(Arc<str>, Option<String>)>,
    ids: Mutex<SmallRng>,
    /// The tasks of the lanes, and that of the journal.
    tasks: Mutex<(JoinSet<()>, JoinSet<()>)>,
    written: CancellationToken,
    telemetry: Telemetry,
    _stop_when_dropped: [DropGuard; 2],
}

impl Notifier {
    /// Opens the lanes, on the present tokio runtime, and takes up what an earlier run left in `kept`;
    /// the texts say what of that could not be used. They end after `stop`; see [`Notifier::finish`].
    ///
    /// # Errors
    /// The settings contradict themselves, or the HTTP client cannot be made.
    pub fn start(
        settings: Settings,
        kept: Kept,
        telemetry: Telemetry,
        clock: Clock,
        stop: &CancellationToken,
    ) -> Result<(Self, Vec<String>), Error> {
        let mut receivers = settings.receivers.clone();
        if !receivers.iter().any(|receiver| receiver.name == LOG) {
            receivers.push(Receiver {
                name: LOG.into(),
                integrations: vec![Integration::Log],
                fallback: None,
            });
        }
        check(&receivers)?;
        let guard = Guard::new(&settings.link_local_allowed);
        let client = Client::new(guard, settings.connect_timeout).map_err(Error::Client)?;
        let context = Context {
            client,
            external_url: settings.external_url.as_str().into(),
            template_errors: telemetry.template_errors.clone(),
        };
        for receiver in &receivers {
            // Counters begin at zero, so that `rate()` sees their first step.
            drop(Results::new(&receiver.name, &telemetry));
        }
        let now = clock.now();
        let outbox = Outbox::new(directory(&receivers), settings.outbox, &telemetry);
        let (assigned, mut memories, warnings) = outbox.restore(now, kept.entries);
        let stop = stop.child_token();
        let shared = Arc::new(Shared {
            outbox: Arc::new(outbox),
            context,
            clock,
            policy: settings.retry.clone(),
            concurrency: settings.concurrency.receiver,
            panics: telemetry.panics.clone(),
            stop: stop.clone(),
            drain: settings.drain,
            lanes: OnceLock::new(),
        });
        let mut random = SmallRng::seed_from_u64(settings.seed);
        let lanes = lanes(
            &receivers,
            &settings,
            &shared,
            &mut memories,
            &mut random,
            &telemetry,
        );
        for job in &assigned {
            if let Some(lane) = lanes.get(job.lane) {
                lane.resumed(now);
            }
        }
        // What is left is of integrations that the configuration no longer has.
        shared.outbox.forget(memories.into_keys());
        let lanes = shared.lanes.get_or_init(|| lanes);
        shared.assign(assigned);
        let mut tasks = JoinSet::new();
        for lane in lanes {
            tasks.spawn(Arc::clone(lane).run(Arc::clone(&shared)));
        }
        let written = CancellationToken::new();
        let mut writing = JoinSet::new();
        if let Some(journal) = kept.journal {
            writing.spawn(journal::write_behind(
                Arc::clone(&shared.outbox),
                journal,
                telemetry.outbox_durable.clone(),
                written.clone(),
            ));
        }
        let names = receivers.into_iter();
        let names = names.map(|receiver| (receiver.name.into(), receiver.fallback));
        let inner = Inner {
            receivers: names.collect(),
            ids: Mutex::new(random),
            tasks: Mutex::new((tasks, writing)),
            _stop_when_dropped: [stop.drop_guard(), written.clone().drop_guard()],
            written,
            shared,
            telemetry,
        };
        let inner = Arc::new(inner);
        Ok((Self { inner }, warnings))
    }

    /// What may be sent at present. To whom nothing may, the group is better told later: by then it has
    /// more to say at once.
    pub fn room(&self) -> Room<'_> {
        self.inner.shared.outbox.room()
    }

    /// Gives `notifications` ids, by which receivers can leave out repeats. What the parcel changes is
    /// to be made durable before it is delivered.
    pub fn pack(&self, notifications: impl IntoIterator<Item = Notification>) -> Parcel {
        let message = |notification: Notification| {
            let receiver = notification.receiver.as_str().into();
            (receiver, Message::Alerts(Arc::new(notification)))
        };
        self.packed(notifications.into_iter().map(message))
    }

    /// A mode change, decided `at`, for `receiver`, like [`Notifier::pack`].
    pub fn pack_mode(&self, receiver: &str, change: ModeChange, at: Timestamp) -> Parcel {
        let change = Arc::new(change);
        self.packed([(receiver.into(), Message::Mode { change, at })])
    }

    fn packed(&self, messages: impl IntoIterator<Item = (Arc<str>, Message)>) -> Parcel {
        let outbox = &self.inner.shared.outbox;
        let mut ids = self
            .inner
            .ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let pack = |(receiver, message)| {
            let id = format!("msg_{:032x}", ids.random::<u128>());
            outbox.pack(id.into(), receiver, message)
        };
        Parcel {
            messages: messages.into_iter().map(pack).collect(),
        }
    }

    /// Has the messages of `parcel` delivered to their receivers. Never waits.
    pub fn deliver(&self, parcel: Parcel) {
        let Shared { outbox, .. } = &*self.inner.shared;
        for mut packed in parcel.messages {
            if !outbox.knows(&packed.receiver) {
                // A receiver that is gone from the configuration must not take an alert with it.
                let (id, receiver) = (&packed.id, &packed.receiver);
                tracing::error!(%id, %receiver, "no such receiver: the notification goes to the log");
                Results::new(receiver, &self.inner.telemetry).dropped.inc();
                packed.receiver = LOG.into();
            }
            self.inner.shared.assign(outbox.insert(packed));
        }
    }

    /// All receivers, and how delivery to them goes.
    pub fn receivers(&self) -> Vec<ReceiverView> {
        let shared = &self.inner.shared;
        let lanes = shared.lanes.get().map_or(&[][..], Vec::as_slice);
        let view = |(name, fallback): &(Arc<str>, Option<String>)| {
            let own = lanes.iter().filter(|lane| lane.receiver == *name);
            let integrations: Vec<_> = own.map(|lane| lane.view(&shared.clock)).collect();
            ReceiverView {
                name: name.to_string(),
                fallback: fallback.clone(),
                failing: integrations.iter().any(|one| one.trouble.is_some()),
                integrations,
            }
        };
        self.inner.receivers.iter().map(view).collect()
    }

    /// Stops: gives what waits one more attempt within the drain time, writes what became of it, and
    /// returns how many messages are left in the outbox. A second call returns the same.
    pub async fn finish(&self) -> usize {
        let shared = &self.inner.shared;
        shared.stop.cancel();
        let (mut lanes, mut writing) = {
            let tasks = self.inner.tasks.lock();
            std::mem::take(&mut *tasks.unwrap_or_else(PoisonError::into_inner))
        };
        self.joined(&mut lanes).await;
        self.inner.written.cancel();
        self.joined(&mut writing).await;
        shared.outbox.len()
    }

    async fn joined(&self, tasks: &mut JoinSet<()>) {
        while let Some(ended) = tasks.join_next().await {
            if ended.is_err() {
                self.inner.telemetry.panics.inc();
            }
        }
    }
}

/// Who is told how: an integration is called by its kind and its place among those of its kind.
fn directory(receivers: &[Receiver]) -> Directory {
    let mut directory = Directory::default();
    for receiver in receivers {
        let name: Arc<str> = receiver.name.as_str().into();
        let mut known = Known {
            lanes: Vec::new(),
            fallback: receiver.fallback.as_deref().map(Into::into),
        };
        let mut places: HashMap<&str, usize> = HashMap::new();
        for integration in &receiver.integrations {
            let kind = integration.kind();
            let place = places.entry(kind).or_default();
            known.lanes.push(directory.lanes.len());
            let integration = format!("{kind}[{place}]").into();
            directory.lanes.push((Arc::clone(&name), integration));
            *place += 1;
        }
        directory.receivers.insert(name, known);
    }
    directory
}

/// The lanes of all receivers, in the order of the directory.
fn lanes(
    receivers: &[Receiver],
    settings: &Settings,
    shared: &Shared,
    memories: &mut HashMap<String, Vec<u8>>,
    random: &mut SmallRng,
    telemetry: &Telemetry,
) -> Vec<Arc<Lane>> {
    let all = || {
        let of = |receiver: &'_ Receiver| receiver.integrations.len();
        receivers.iter().flat_map(move |receiver| {
            (0..of(receiver)).map(move |at| (receiver, &receiver.integrations[at]))
        })
    };
    let concurrency = settings.concurrency;
    let by_receiver = Shares::new(concurrency.receiver, all().map(|(r, _)| r.name.as_str()));
    let by_kind = Shares::new(concurrency.kind, all().map(|(_, i)| i.kind()));
    let lane = |(id, (receiver, integration)): (usize, (&Receiver, &Integration))| {
        let (name, integration_name) = shared.outbox.lane(id);
        let memory = memories.remove(&shared.outbox.lane_key(id).unwrap_or_default());
        let record = Record::new(
            &name,
            &integration_name,
            settings.breaker,
            memory.as_deref(),
            shared.clock.now(),
            telemetry,
        );
        let labels: [&str; 2] = [&name, &integration_name];
        let pending = telemetry.notifications_pending.with_label_values(&labels);
        Arc::new(Lane {
            id,
            integration: integration.clone(),
            has_fallback: receiver.fallback.is_some(),
            bulkhead: Bulkhead::new(
                by_receiver.of(&receiver.name),
                by_kind.of(integration.kind()),
            ),
            random: Mutex::new(SmallRng::from_rng(random)),
            record: Mutex::new(record),
            agenda: Mutex::default(),
            wake: Notify::new(),
            gone: OnceLock::new(),
            pending,
            receiver: name,
            name: integration_name,
        })
    };
    all().enumerate().map(lane).collect()
}

fn check(receivers: &[Receiver]) -> Result<(), Error> {
    for (at, receiver) in receivers.iter().enumerate() {
        if receivers[..at]
            .iter()
            .any(|other| other.name == receiver.name)
        {
            return Err(Error::Duplicate(receiver.name.clone()));
        }
        if let Some(fallback) = &receiver.fallback
            && !receivers.iter().any(|other| other.name == *fallback)
        {
            return Err(Error::NoSuchFallback {
                receiver: receiver.name.clone(),
                fallback: fallback.clone(),
            });
        }
    }
    Ok(())
}
