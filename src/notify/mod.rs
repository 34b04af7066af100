//! Delivery: notifications and mode changes, decided elsewhere, to those who are to be told.
//!
//! In: [`Notifier::send`] and [`Notifier::send_mode`], which never wait. Out: requests to webhooks and
//! lines in the log. Each integration of a receiver has a lane of its own, a bounded queue and a task,
//! so a receiver that is slow or dead delays no other.
//!
//! **Invariants.** Messages of one group or service arrive in the order in which they were decided. A
//! message keeps its id over all attempts and on its way to a fallback. What is not delivered is
//! counted (`failed`, `dropped`) and said in the log. Secrets, URLs' paths and header values are shown
//! nowhere. Link-local addresses are never connected to.
//!
//! It knows nothing of rules and groups, and does not persist: what was under way when the daemon
//! stopped is returned by [`Notifier::finish`], has a form in JSON, and can be handed to
//! [`Notifier::resend`] of a later one.

mod address;
mod message;
mod receiver;
mod retry;
mod signature;
mod integration;
mod template;
#[cfg(test)]
mod tests;

pub use integration::{
    Address, Alertmanager, AttemptError, Authorization, Card, Credential, Email, Endpoint, Http,
    Integration, LogFile, Opsgenie, PagerDuty, Part, Payload, Responder, Secured, Slack, Teams,
    Tls, TransportSettings, Tree, Trust, Webhook,
};
pub use message::{Message, Resolved};
pub use receiver::Delivery;
pub use retry::Policy;
pub use signature::Secret;
pub use template::{Target, Templates, Text, check_text};

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::clock::Clock;
use crate::dispatch::Notification;
use crate::model::{ModeChange, Timestamp};
use crate::telemetry::Telemetry;
use address::Guard;
use integration::{Client, Context};
use receiver::{Entrance, Lane, Origin, Results};

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
    /// Notifications that one integration may have waiting or under way (default 1,000; at least 1).
    /// The newest is refused when there are so many.
    pub queue: usize,
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
            queue: 1000,
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

/// A receiver that said that it wants nothing more (410).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its name.
    pub receiver: String,
    /// Which of its integrations.
    pub integration: String,
    /// What it said.
    pub reason: String,
}

/// A handle on delivery. Cheap to clone. When the last one is dropped, delivery stops.
#[derive(Debug, Clone)]
pub struct Notifier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    receivers: Arc<Receivers>,
    ids: Mutex<SmallRng>,
    stop: CancellationToken,
    lanes: Mutex<JoinSet<Vec<Delivery>>>,
    telemetry: Telemetry,
    _stop_when_dropped: DropGuard,
}

/// The entrances of all lanes, by receiver.
#[derive(Debug)]
struct Receivers(HashMap<String, Vec<Entrance>>);

impl Receivers {
    /// Gives `delivery` to every integration of its receiver; answers whether there is such a one.
    fn offer(&self, delivery: &Delivery, origin: Origin) -> bool {
        let entrances = self.0.get(&*delivery.receiver);
        for entrance in entrances.into_iter().flatten() {
            entrance.offer(delivery.clone(), origin);
        }
        entrances.is_some()
    }
}

impl Notifier {
    /// Opens the lanes, on the present tokio runtime. They end after `stop`; see [`Notifier::finish`].
    ///
    /// # Errors
    /// The settings contradict themselves, or the HTTP client cannot be made.
    pub fn start(
        settings: Settings,
        telemetry: Telemetry,
        clock: Clock,
        stop: &CancellationToken,
    ) -> Result<Self, Error> {
        let mut random = SmallRng::seed_from_u64(settings.seed);
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

        let stop = stop.child_token();
        // Lanes reach each other for fallbacks. Weakly, or the last handle could never be dropped.
        let registry: Arc<OnceLock<Weak<Receivers>>> = Arc::default();
        let mut lanes = JoinSet::new();
        let mut entrances: HashMap<String, Vec<Entrance>> = HashMap::new();
        for receiver in receivers {
            let results = Results::new(&receiver.name, &telemetry);
            let own = entrances.entry(receiver.name).or_default();
            for integration in receiver.integrations {
                let lane = Lane {
                    integration,
                    context: context.clone(),
                    policy: settings.retry.clone(),
                    results: results.clone(),
                    panics: telemetry.panics.clone(),
                    clock: clock.clone(),
                    random: Mutex::new(SmallRng::from_rng(&mut random)),
                    stop: stop.clone(),
                    drain: settings.drain,
                };
                let fallback: Option<Arc<str>> = receiver.fallback.as_deref().map(Into::into);
                let registry = Arc::clone(&registry);
                let (entrance, task) = lane.open(settings.queue.max(1), move |delivery| {
                    let receivers = registry.get().and_then(Weak::upgrade);
                    if let (Some(receivers), Some(fallback)) = (receivers, &fallback) {
                        let receiver = Arc::clone(fallback);
                        receivers.offer(
                            &Delivery {
                                receiver,
                                ..delivery
                            },
                            Origin::Fallback,
                        );
                    }
                });
                own.push(entrance);
                lanes.spawn(task);
            }
        }
        let receivers = Arc::new(Receivers(entrances));
        registry
            .set(Arc::downgrade(&receivers))
            .expect("it is set here only");
        Ok(Self {
            inner: Arc::new(Inner {
                receivers,
                ids: Mutex::new(random),
                _stop_when_dropped: stop.clone().drop_guard(),
                stop,
                lanes: Mutex::new(lanes),
                telemetry,
            }),
        })
    }

    /// Has `notification` delivered to its receiver. Never waits: what a full queue refuses is counted
    /// as `dropped`. Returns the message's id.
    pub fn send(&self, notification: Notification) -> Arc<str> {
        let receiver = notification.receiver.as_str().into();
        self.deliver(receiver, Message::Alerts(Arc::new(notification)))
    }

    /// Has a mode change, decided `at`, delivered to `receiver`, like [`Notifier::send`].
    pub fn send_mode(&self, receiver: &str, change: ModeChange, at: Timestamp) -> Arc<str> {
        let change = Arc::new(change);
        self.deliver(receiver.into(), Message::Mode { change, at })
    }

    fn deliver(&self, receiver: Arc<str>, message: Message) -> Arc<str> {
        let mut ids = self
            .inner
            .ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let id: Arc<str> = format!("msg_{:032x}", ids.random::<u128>()).into();
        drop(ids);
        self.resend(Delivery {
            id: Arc::clone(&id),
            receiver,
            message,
        });
        id
    }

    /// Has a delivery made that an earlier notifier could not make, under the id it has.
    pub fn resend(&self, delivery: Delivery) {
        if !self.inner.receivers.offer(&delivery, Origin::Sent) {
            // A receiver that is gone from the configuration must not take an alert with it.
            let Delivery { id, receiver, .. } = &delivery;
            tracing::error!(%id, %receiver, "no such receiver: the notification goes to the log");
            let results = Results::new(receiver, &self.inner.telemetry);
            results.dropped.inc();
            let receiver = LOG.into();
            self.inner.receivers.offer(
                &Delivery {
                    receiver,
                    ..delivery
                },
                Origin::Fallback,
            );
        }
    }

    /// Receivers that said that they want nothing more. They are left alone until the configuration is
    /// loaded again, that is, by this notifier.
    pub fn gone(&self) -> Vec<Gone> {
        let all = self.inner.receivers.0.iter();
        let mut gone: Vec<_> = all
            .flat_map(|(receiver, entrances)| {
                entrances.iter().filter_map(move |entrance| {
                    Some(Gone {
                        receiver: receiver.clone(),
                        integration: entrance.integration.clone(),
                        reason: entrance.gone.get()?.clone(),
                    })
                })
            })
            .collect();
        gone.sort_by(|a, b| (&a.receiver, &a.integration).cmp(&(&b.receiver, &b.integration)));
        gone
    }

    /// Stops: takes no more, gives what waits one more attempt within the drain time, and returns what
    /// could not be delivered, which is counted as `dropped`. A second call returns nothing.
    pub async fn finish(&self) -> Vec<Delivery> {
        self.inner.stop.cancel();
        let mut lanes = {
            let lanes = self.inner.lanes.lock();
            std::mem::take(&mut *lanes.unwrap_or_else(PoisonError::into_inner))
        };
        let mut undelivered = Vec::new();
        while let Some(ended) = lanes.join_next().await {
            match ended {
                Ok(left) => undelivered.extend(left),
                Err(_) => self.inner.telemetry.panics.inc(),
            }
        }
        for Delivery { id, receiver, .. } in &undelivered {
            tracing::warn!(%id, %receiver, "notification not delivered before the stop");
        }
        undelivered
    }
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
