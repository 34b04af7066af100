//! One lane per integration of a receiver: the task that works off its agenda.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use prometheus::{IntCounter, IntGauge};
use rand::Rng as _;
use rand::rngs::SmallRng;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::agenda::{Agenda, Job};
use super::breaker::State;
use super::bulkhead::Bulkhead;
use super::integration::{AttemptError, Context, Integration};
use super::outbox::{Assigned, Heir, LaneId, Outbox, Progress};
use super::record::{Fate, Outcome, Record};
use super::retry::Policy;
use crate::clock::Clock;
use crate::model::{IntegrationView, Timestamp};

/// Longest sleep of a lane that waits for a time of the wall clock: a clock that is set is noticed
/// within this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What all lanes share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) outbox: Arc<Outbox>,
    pub(super) context: Context,
    pub(super) clock: Clock,
    pub(super) policy: Policy,
    /// Messages that one lane attempts at the same time; the bulkheads may allow fewer.
    pub(super) concurrency: usize,
    pub(super) panics: IntCounter,
    pub(super) stop: CancellationToken,
    /// After `stop`, deliveries under way get so long.
    pub(super) drain: Duration,
    /// All lanes, by their number in the outbox's directory.
    pub(super) lanes: OnceLock<Vec<Arc<Lane>>>,
}

impl Shared {
    /// Gives jobs to their lanes.
    pub(super) fn assign(&self, assigned: impl IntoIterator<Item = Assigned>) {
        let lanes = self.lanes.get().map_or(&[][..], Vec::as_slice);
        for Assigned { lane, job } in assigned {
            if let Some(lane) = lanes.get(lane) {
                lane.push(job);
            }
        }
    }
}

/// One integration of a receiver.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) receiver: Arc<str>,
    /// Which of the receiver's: `webhook[0]`.
    pub(super) name: Arc<str>,
    pub(super) integration: Integration,
    /// Whether somebody takes over what is not delivered here.
    pub(super) has_fallback: bool,
    pub(super) bulkhead: Bulkhead,
    pub(super) random: Mutex<SmallRng>,
    pub(super) record: Mutex<Record>,
    pub(super) agenda: Mutex<Agenda>,
    pub(super) wake: Notify,
    /// Why the receiver wants nothing more, once it has said so.
    pub(super) gone: OnceLock<String>,
    pub(super) pending: IntGauge,
}

/// What came of one attempt at a job.
enum Ended {
    /// Nothing is left to do.
    Delivered,
    /// There was nothing to say to this receiver.
    Silent,
    /// It was not made: the breaker said no.
    NotMade,
    /// Another may help.
    Failed {
        reason: String,
        after: Option<Duration>,
        limited: bool,
    },
    /// None will help.
    Final(String),
}

type Underway<'l> = FuturesUnordered<BoxFuture<'l, (Job, Ended)>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    /// Puts a job at the end of the agenda. It never waits; the outbox bounds the agenda.
    fn push(&self, job: Job) {
        let mut agenda = locked(&self.agenda);
        agenda.push(job);
        self.count(&agenda);
        drop(agenda);
        self.wake.notify_one();
    }

    /// A message of an earlier run is taken up again.
    pub(super) fn resumed(&self, now: Timestamp) {
        locked(&self.record).settled(now, Fate::Resumed, None);
    }

    fn count(&self, agenda: &Agenda) {
        let pending = i64::try_from(agenda.len()).unwrap_or(i64::MAX);
        self.pending.set(pending);
    }

    /// Works until the stop, and then as long as it may. What is left stays in the outbox.
    pub(super) async fn run(self: Arc<Self>, shared: Arc<Shared>) {
        let mut underway = Underway::new();
        let mut left_alone = None;
        let mut end = None;
        loop {
            let look = self.start(&shared, &mut underway, left_alone);
            if end.is_some() && underway.is_empty() {
                break;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                Some((job, ended)) = underway.next() => {
                    if let Some(until) = self.conclude(&shared, job, ended) {
                        left_alone = Some(until);
                    }
                }
                () = shared.stop.cancelled(), if end.is_none() => {
                    end = Some(Instant::now() + shared.drain);
                    // What waits gets one more attempt, at once: who knows for how long we are away.
                    locked(&self.agenda).hurry();
                }
                () = sleep_until(look), if look.is_some() => {}
                () = sleep_until(end), if end.is_some() => break,
            }
        }
        // Attempts that are cut off may have arrived; their ids tell receivers so when they are repeated.
    }

    /// Starts what may be started; returns when to look again, unless something happens before.
    fn start<'l>(
        &'l self,
        shared: &'l Shared,
        underway: &mut Underway<'l>,
        left_alone: Option<Instant>,
    ) -> Option<Instant> {
        let (now, instant) = (shared.clock.now(), Instant::now());
        if let Some(reason) = self.gone.get() {
            self.hand_over_all(shared, &format!("the receiver is gone: {reason}"));
            return None;
        }
        let (state, ready_at) = locked(&self.record).breaker(now);
        if ready_at > now {
            if self.has_fallback && matches!(state, State::Open { .. }) {
                self.hand_over_all(shared, "the breaker is open");
                return None;
            }
            return Some(instant + ready_at.since(now).min(LONGEST_SLEEP));
        }
        if left_alone.is_some_and(|until| until > instant) {
            return left_alone;
        }
        let most = match state {
            State::Closed { .. } => shared.concurrency.max(1),
            State::Open { .. } | State::HalfOpen { .. } => 1,
        };
        let mut agenda = locked(&self.agenda);
        while underway.len() < most {
            match agenda.take(instant) {
                Some(job) => underway.push(self.attempt(shared, job).boxed()),
                None => return agenda.next_due(),
            }
        }
        None
    }

    /// Makes one attempt at `job`, as soon as there is room for it.
    async fn attempt(&self, shared: &Shared, mut job: Job) -> (Job, Ended) {
        let _slot = self.bulkhead.enter().await;
        let now = shared.clock.now();
        let Some(ticket) = locked(&self.record).permit(now) else {
            return (job, Ended::NotMade);
        };
        job.begins(now, Instant::now());
        let (id, message) = (Arc::clone(&job.id), job.message.clone());
        let attempt = async {
            let prepared = self
                .integration
                .prepare(&shared.context, &self.receiver, &message);
            match prepared {
                None => Ok(false),
                Some(prepared) => self
                    .integration
                    .attempt(&shared.context, &id, &prepared, now)
                    .await
                    .map(|()| true),
            }
        };
        let attempt = AssertUnwindSafe(attempt).catch_unwind();
        let result = match ticket.limit {
            None => Some(attempt.await),
            Some(limit) => tokio::time::timeout(limit, attempt).await.ok(),
        };
        let (outcome, ended) = match result {
            Some(Ok(Ok(true))) => (Outcome::Taken, Ended::Delivered),
            Some(Ok(Ok(false))) => {
                locked(&self.record).unused(now, ticket);
                return (job, Ended::Silent);
            }
            Some(Ok(Err(error))) => self.judge(error),
            Some(Err(_)) => {
                shared.panics.inc();
                let reason = "delivering it panicked: a bug".to_owned();
                (Outcome::Refused, Ended::Final(reason))
            }
            None => {
                let reason = format!(
                    "no answer within {:?}, which a trial may take",
                    ticket.limit
                );
                let (after, limited) = (None, false);
                let failed = Ended::Failed {
                    reason,
                    after,
                    limited,
                };
                (Outcome::Failed, failed)
            }
        };
        let error = match &ended {
            Ended::Failed { reason, .. } | Ended::Final(reason) => Some(reason.as_str()),
            Ended::Delivered | Ended::Silent | Ended::NotMade => None,
        };
        let mut record = locked(&self.record);
        record.attempted(shared.clock.now(), ticket, outcome, error);
        self.keep(shared, &mut record);
        drop(record);
        (job, ended)
    }

    fn judge(&self, error: AttemptError) -> (Outcome, Ended) {
        let failed = |reason, after, limited| Ended::Failed {
            reason,
            after,
            limited,
        };
        match error {
            AttemptError::Retryable { after, reason } => {
                (Outcome::Failed, failed(reason, after, false))
            }
            AttemptError::Limited { after, reason } => {
                (Outcome::Limited, failed(reason, after, true))
            }
            AttemptError::Permanent { reason } => (Outcome::Refused, Ended::Final(reason)),
            AttemptError::Gone { reason } => {
                // Another delivery may have been told the same; the first word stays.
                drop(self.gone.set(reason.clone()));
                let (receiver, integration) = (&self.receiver, &self.name);
                tracing::error!(%receiver, %integration, reason, "receiver is gone: nothing is sent to it until the daemon is started again");
                (Outcome::Gone, Ended::Final(reason))
            }
        }
    }

    /// Draws the consequences of an attempt. Returns until when the receiver is to be left alone.
    fn conclude(&self, shared: &Shared, mut job: Job, ended: Ended) -> Option<Instant> {
        let (now, instant) = (shared.clock.now(), Instant::now());
        match ended {
            Ended::NotMade => {
                locked(&self.agenda).back(job);
                None
            }
            Ended::Silent => {
                shared.outbox.delivered(&job.id, self.id);
                self.done(&job);
                None
            }
            Ended::Delivered => {
                let fate = Fate::Delivered {
                    latency_seconds: now.since(job.message.decided_at()).as_secs_f64(),
                    failed_attempts: job.attempts,
                };
                shared.outbox.delivered(&job.id, self.id);
                self.done(&job);
                locked(&self.record).settled(now, fate, None);
                None
            }
            Ended::Final(reason) => {
                self.hand_over(shared, &job, &reason, Some(&reason));
                None
            }
            Ended::Failed {
                reason,
                after,
                limited,
            } => {
                job.attempts = job.attempts.saturating_add(1);
                let (state, _) = locked(&self.record).breaker(now);
                if self.has_fallback && matches!(state, State::Open { .. }) {
                    self.hand_over(shared, &job, &format!("the breaker opened: {reason}"), None);
                    return None;
                }
                let random = locked(&self.random).random();
                // Nobody waits for what nobody takes over; see `Policy::keep`.
                let (elapsed, bound) = match self.has_fallback {
                    true => (job.elapsed(instant), shared.policy.max_elapsed),
                    false => (now.since(job.message.decided_at()), shared.policy.keep),
                };
                let wait = shared
                    .policy
                    .wait(job.attempts, elapsed, bound, after, random);
                let Some(wait) = wait else {
                    let reason = format!("given up after {} attempts: {reason}", job.attempts);
                    self.hand_over(shared, &job, &reason, Some(&reason));
                    return None;
                };
                let (id, receiver, integration) = (&job.id, &self.receiver, &self.name);
                tracing::warn!(%id, %receiver, %integration, reason, ?wait, attempts = job.attempts, "notification not delivered yet");
                job.due = Some(instant + wait);
                let next_at = now.plus(wait);
                let progress = Progress::after(job.attempts, job.first_at, next_at);
                shared.outbox.attempted(&job.id, self.id, progress);
                let mut record = locked(&self.record);
                record.settled(now, Fate::Retried, None);
                if limited {
                    record.limited(Some(next_at));
                }
                drop(record);
                let due = job.due;
                locked(&self.agenda).back(job);
                due.filter(|_| limited)
            }
        }
    }

    /// The lane is done with `job`.
    fn done(&self, job: &Job) {
        let mut agenda = locked(&self.agenda);
        agenda.done(job);
        self.count(&agenda);
    }

    /// Hands over everything that is not under way.
    fn hand_over_all(&self, shared: &Shared, reason: &str) {
        loop {
            // Not held while the job is handed over: that locks the outbox and other lanes.
            let job = locked(&self.agenda).take_any();
            let Some(job) = job else { break };
            self.hand_over(shared, &job, reason, None);
        }
    }

    /// Gives up on `job`: the fallback has it from now on, if there is one. `trouble` is what that says
    /// of the receiver, unless it is known already.
    fn hand_over(&self, shared: &Shared, job: &Job, reason: &str, trouble: Option<&str>) {
        let (id, receiver, integration) = (&job.id, &self.receiver, &self.name);
        let (fate, assigned) = match shared.outbox.failed(&job.id, self.id) {
            Heir::Fallback(fallback, assigned) => {
                tracing::warn!(%id, %receiver, %integration, reason, %fallback, "notification goes to the fallback");
                (Fate::FallenBack, assigned)
            }
            Heir::Already(fallback) => {
                tracing::warn!(%id, %receiver, %integration, reason, %fallback, "notification failed; the fallback has it already");
                (Fate::FallenBack, Vec::new())
            }
            Heir::None => {
                tracing::error!(%id, %receiver, %integration, reason, "notification failed");
                (Fate::Failed, Vec::new())
            }
        };
        let mut record = locked(&self.record);
        record.settled(shared.clock.now(), fate, trouble);
        self.keep(shared, &mut record);
        drop(record);
        self.done(job);
        shared.assign(assigned);
    }

    fn keep(&self, shared: &Shared, record: &mut Record) {
        if let Some(value) = record.unwritten() {
            shared.outbox.keep(self.id, value);
        }
    }

    /// How it stands, for the API.
    pub(super) fn view(&self, clock: &Clock) -> IntegrationView {
        let (pending, underway) = {
            let agenda = locked(&self.agenda);
            (agenda.len(), agenda.underway())
        };
        let record = locked(&self.record);
        let (statistics, last_delivered_at, last_failed_at, last_error) = record.history();
        IntegrationView {
            integration: self.name.to_string(),
            target: self.integration.name(),
            breaker: record.breaker_view(),
            trouble: record.trouble(),
            gone: self.gone.get().cloned(),
            limited_until: record.limited_until(clock.now()),
            pending,
            underway,
            statistics,
            last_delivered_at,
            last_failed_at,
            last_error,
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
