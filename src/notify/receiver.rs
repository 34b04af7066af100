//! One lane per integration of a receiver: a bounded queue and the task that works it off.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use prometheus::{Histogram, IntCounter};
use rand::Rng;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::integration::{AttemptError, Context, Integration};
use super::message::Message;
use super::retry::Policy;
use crate::clock::Clock;
use crate::telemetry::Telemetry;

/// Deliveries of one lane that are under way together: enough that one that is retried does not hold
/// up the rest, few enough not to trouble a receiver that is in trouble.
const CONCURRENT: usize = 4;

/// A message on its way to a receiver. Its form in JSON is one for a durable outbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Identifies the message; the same over all attempts, so that receivers can leave out repeats.
    pub id: Arc<str>,
    /// The receiver's name.
    pub receiver: Arc<str>,
    /// What it is told.
    pub message: Message,
}

/// How a delivery came to its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was sent there.
    Sent,
    /// Its own receiver could not be reached. It does not fall further, so no circle can form.
    Fallback,
}

/// A place in a queue.
struct Job {
    delivery: Delivery,
    key: String,
    origin: Origin,
    /// Held until the delivery is settled, so that the bound counts those under way, too.
    _place: OwnedSemaphorePermit,
}

/// The sending end of a lane.
#[derive(Debug)]
pub(super) struct Entrance {
    queue: mpsc::Sender<Job>,
    places: Arc<Semaphore>,
    pub(super) integration: String,
    /// Why the receiver wants nothing more, once it has said so.
    pub(super) gone: Arc<OnceLock<String>>,
    results: Results,
}

/// A receiver's counters.
#[derive(Debug, Clone)]
pub(super) struct Results {
    delivered: IntCounter,
    retried: IntCounter,
    failed: IntCounter,
    pub(super) dropped: IntCounter,
    latency: Histogram,
}

impl Results {
    /// Those of `receiver`, from zero.
    pub(super) fn new(receiver: &str, telemetry: &Telemetry) -> Self {
        let result = |result| {
            telemetry
                .notifications
                .with_label_values(&[receiver, result])
        };
        Self {
            delivered: result("delivered"),
            retried: result("retried"),
            failed: result("failed"),
            dropped: result("dropped"),
            latency: telemetry
                .notification_latency
                .with_label_values(&[receiver]),
        }
    }
}

impl Entrance {
    /// Puts `delivery` at the end of the queue. Never waits: if the queue is full or closed, the
    /// delivery (the newest) is refused and counted as `dropped`; what waits already is older, and its
    /// turn comes first.
    pub(super) fn offer(&self, delivery: Delivery, origin: Origin) {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let refused = match place {
            Err(_) => Some(delivery),
            Ok(place) => {
                let job = Job {
                    key: delivery.message.key(),
                    delivery,
                    origin,
                    _place: place,
                };
                self.queue.try_send(job).err().map(|error| match error {
                    mpsc::error::TrySendError::Full(job)
                    | mpsc::error::TrySendError::Closed(job) => job.delivery,
                })
            }
        };
        if let Some(Delivery { id, receiver, .. }) = refused {
            self.results.dropped.inc();
            let integration = &self.integration;
            tracing::warn!(%id, %receiver, integration, "notification dropped: the queue is full or closed");
        }
    }
}

/// What the task of a lane needs.
pub(super) struct Lane {
    pub(super) integration: Integration,
    pub(super) context: Context,
    pub(super) policy: Policy,
    pub(super) results: Results,
    pub(super) panics: IntCounter,
    pub(super) clock: Clock,
    pub(super) random: Mutex<SmallRng>,
    pub(super) stop: CancellationToken,
    /// After `stop`, deliveries under way get so long.
    pub(super) drain: Duration,
}

impl Lane {
    /// The lane's entrance and its task, which ends after `stop` and returns what it could not
    /// deliver. `fall_back` gets what has failed for good.
    pub(super) fn open(
        self,
        places: usize,
        fall_back: impl Fn(Delivery) + Send + Sync + 'static,
    ) -> (
        Entrance,
        impl Future<Output = Vec<Delivery>> + Send + 'static,
    ) {
        let (sender, queue) = mpsc::channel(places);
        let gone = Arc::new(OnceLock::new());
        let entrance = Entrance {
            queue: sender,
            places: Arc::new(Semaphore::new(places)),
            integration: self.integration.name(),
            gone: Arc::clone(&gone),
            results: self.results.clone(),
        };
        let task = async move { self.run(queue, &gone, &fall_back).await };
        (entrance, task)
    }

    async fn run(
        self,
        mut queue: mpsc::Receiver<Job>,
        gone: &OnceLock<String>,
        fall_back: &(dyn Fn(Delivery) + Send + Sync),
    ) -> Vec<Delivery> {
        // Bounded by the places, as the queue is.
        let mut waiting: VecDeque<Job> = VecDeque::new();
        let mut busy: HashMap<String, Delivery> = HashMap::new();
        let mut underway = FuturesUnordered::new();
        let mut undelivered = Vec::new();
        let mut end = None;
        loop {
            while underway.len() < CONCURRENT
                && let Some(at) = waiting.iter().position(|job| !busy.contains_key(&job.key))
                && let Some(job) = waiting.remove(at)
            {
                busy.insert(job.key.clone(), job.delivery.clone());
                underway.push(self.settle(job, gone, fall_back));
            }
            if queue.is_closed() && queue.is_empty() && waiting.is_empty() && underway.is_empty() {
                break;
            }
            tokio::select! {
                Some(job) = queue.recv() => waiting.push_back(job),
                Some((key, left)) = underway.next() => {
                    busy.remove(&key);
                    undelivered.extend(left);
                }
                () = self.stop.cancelled(), if end.is_none() => {
                    queue.close();
                    end = Some(Instant::now() + self.drain);
                }
                () = tokio::time::sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                    break;
                }
            }
        }
        // Attempts that are cut off may have arrived; their ids tell receivers so when they are
        // repeated.
        drop(underway);
        undelivered.extend(busy.into_values());
        undelivered.extend(waiting.into_iter().map(|job| job.delivery));
        while let Ok(job) = queue.try_recv() {
            undelivered.push(job.delivery);
        }
        self.results.dropped.inc_by(undelivered.len() as u64);
        undelivered
    }

    /// Delivers `job`, or lets it fall back. Returns its key, and the delivery itself if the daemon
    /// stopped before either.
    async fn settle(
        &self,
        job: Job,
        gone: &OnceLock<String>,
        fall_back: &(dyn Fn(Delivery) + Send + Sync),
    ) -> (String, Option<Delivery>) {
        let deliver = AssertUnwindSafe(self.deliver(&job.delivery, gone));
        let outcome = deliver.catch_unwind().await.unwrap_or_else(|_| {
            self.panics.inc();
            Outcome::Failed("delivering it panicked: a bug".into())
        });
        let Job {
            delivery,
            key,
            origin,
            ..
        } = job;
        match outcome {
            Outcome::Settled => (key, None),
            Outcome::Stopped => (key, Some(delivery)),
            Outcome::Failed(reason) => {
                self.results.failed.inc();
                let Delivery { id, receiver, .. } = &delivery;
                let integration = self.integration.name();
                tracing::error!(%id, %receiver, integration, reason, "notification failed");
                if origin == Origin::Sent {
                    fall_back(delivery);
                }
                (key, None)
            }
        }
    }

    async fn deliver(&self, delivery: &Delivery, gone: &OnceLock<String>) -> Outcome {
        let Delivery {
            id,
            receiver,
            message,
        } = delivery;
        let Some(prepared) = self.integration.prepare(&self.context, receiver, message) else {
            return Outcome::Settled;
        };
        let began = Instant::now();
        let mut failed = 0;
        loop {
            if let Some(reason) = gone.get() {
                return Outcome::Failed(format!("the receiver is gone: {reason}"));
            }
            let now = self.clock.now();
            let (after, reason) = match self
                .integration
                .attempt(&self.context, id, &prepared, now)
                .await
            {
                Ok(()) => {
                    let latency = self.clock.now().since(message.decided_at());
                    self.results.latency.observe(latency.as_secs_f64());
                    self.results.delivered.inc();
                    return Outcome::Settled;
                }
                Err(AttemptError::Retryable { after, reason }) => (after, reason),
                Err(AttemptError::Permanent { reason }) => return Outcome::Failed(reason),
                Err(AttemptError::Gone { reason }) => {
                    // Another delivery may have been told the same; the first word stays.
                    drop(gone.set(reason.clone()));
                    let integration = self.integration.name();
                    tracing::error!(%receiver, integration, reason, "receiver is gone: nothing is sent to it until the configuration is loaded again");
                    return Outcome::Failed(reason);
                }
            };
            failed += 1;
            if self.stop.is_cancelled() {
                return Outcome::Stopped;
            }
            let random = self.random().random();
            let Some(wait) = self.policy.wait(failed, began.elapsed(), after, random) else {
                return Outcome::Failed(format!("given up after {failed} attempts: {reason}"));
            };
            tracing::warn!(%id, %receiver, reason, ?wait, "notification not delivered yet");
            self.results.retried.inc();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // One last attempt, at once.
                () = self.stop.cancelled() => {}
            }
        }
    }

    fn random(&self) -> std::sync::MutexGuard<'_, SmallRng> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a delivery ended.
enum Outcome {
    /// Nothing is left to do.
    Settled,
    /// It failed for good.
    Failed(String),
    /// The daemon stopped before it could be delivered.
    Stopped,
}
