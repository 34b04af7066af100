//! What everybody else calls.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::sync::mpsc;

use super::census::{Admission, Census};
use super::memory::Weighed;
use super::names::Naming;
use super::plan::{Placement, Plan, Settings};
use super::restore::restore;
use super::router;
use super::shard::{Admitted, Answer, Newcomer, Shard, reject};
use super::snapshot;
use super::tick::Ticker;
use super::worker::{self, Gone, Mailbox, NoRoom};
use crate::clock;
use crate::model::{
    Batch, Reject, Rejections, Rule, RuleId, SeriesId, SeriesIdentity, SignalId, Timestamp,
};
use crate::telemetry::Telemetry;

/// Starts the engine; [`Handle`] is the way to it.
#[derive(Debug, Clone, Copy)]
pub struct Engine;

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A rule's detector cannot be built as configured.
    #[error("{0}")]
    Rule(String),
    /// The system gives no thread.
    #[error("cannot start a thread of the engine: {0}")]
    Thread(#[from] io::Error),
}

/// A batch that was refused for now. Nothing of it was applied, unless a shard has panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Busy {
    /// When to try again.
    pub retry_after: Duration,
    /// Why, for the client.
    pub reason: &'static str,
}

impl Busy {
    const FULL: Self = Self {
        retry_after: Duration::from_secs(1),
        reason: "the engine's queue is full",
    };
    pub(super) const GONE: Self = Self {
        retry_after: Duration::from_secs(30),
        reason: "a part of the engine has stopped",
    };
}

impl From<NoRoom> for Busy {
    fn from(why: NoRoom) -> Self {
        match why {
            NoRoom::Full => Self::FULL,
            NoRoom::Gone => Self::GONE,
        }
    }
}

/// The way to a running engine. Cheap to clone.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) plan: Arc<Plan>,
    pub(super) census: Census,
    /// One for each shard.
    pub(super) shards: Vec<Mailbox>,
    /// Held while a tick is closed, so that two never run at once.
    pub(super) ticker: tokio::sync::Mutex<Ticker>,
    /// The latest time that a call brought, in nanoseconds.
    latest: AtomicI64,
    /// What may have changed learning, beside samples.
    changes: AtomicU64,
    pub(super) weighed: Weighed,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Engine {
    /// Starts the shards' threads (`tidewatch-shard-N`) with what `restored` holds: the chunks of
    /// [`Handle::save`] in their order, whatever the number of shards then. They are taken one after the
    /// other as they are used. The texts say what of them could not be used. Blocks until all is
    /// restored.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        mut settings: Settings,
        rules: Arc<[Rule]>,
        telemetry: Telemetry,
        restored: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<(Handle, Vec<String>), StartError> {
        if settings.placement == Placement::InPlace {
            settings.shards = NonZeroUsize::MIN;
        }
        let plan = Plan::new(settings, rules, telemetry).map_err(StartError::Rule)?;
        let plan = Arc::new(plan);
        let census = Census::new(&plan.settings, plan.telemetry.clone());
        let count = plan.settings.shards;
        let mut shards: Vec<Shard> = (0..count.get())
            .map(|_| Shard::new(Arc::clone(&plan)))
            .collect();
        let mut ticker = Ticker::default();
        let warnings = restore(restored, &mut shards, &mut ticker.pulses, &census, &plan)?;
        ticker.unforgiven = shards.iter().filter_map(|shard| shard.restored).max();
        let (mut mailboxes, mut threads) = (Vec::new(), Vec::new());
        for (number, shard) in shards.into_iter().enumerate() {
            if plan.settings.placement == Placement::InPlace {
                mailboxes.push(worker::in_place(shard, plan.telemetry.clone()));
                continue;
            }
            let queue = plan.settings.queue.get();
            let (mailbox, thread) = worker::start(number, shard, queue, plan.telemetry.clone())?;
            mailboxes.push(mailbox);
            threads.push(thread);
        }
        let handle = Handle(Arc::new(Inner {
            plan,
            census,
            shards: mailboxes,
            ticker: tokio::sync::Mutex::new(ticker),
            latest: AtomicI64::new(i64::MIN),
            changes: AtomicU64::new(0),
            weighed: Weighed::default(),
            threads: Mutex::new(threads),
        }));
        Ok((handle, warnings))
    }
}

impl Handle {
    /// Applies a batch and returns what of it was refused, its own rejections among it. Late, repeated
    /// and overlapping points are no rejections: they are counted in the telemetry.
    ///
    /// The work is done even if the caller does not wait for the answer: a batch is applied whole or
    /// not at all.
    ///
    /// # Errors
    /// [`Busy`] if a shard that is needed has a full queue; then nothing was applied.
    pub async fn apply(&self, batch: Batch, now: Timestamp) -> Result<Rejections, Busy> {
        let inner = &*self.0;
        // The time stands for itself; nothing is read by way of it.
        inner.latest.fetch_max(now.as_nanos(), Ordering::Relaxed);
        self.changed();
        let mut batch = batch;
        let mut rejections = std::mem::take(&mut batch.rejections);
        let refused = inner.census.visit(&router::senders(&batch), now);
        let settings = &inner.plan.settings;
        let batch = Arc::new(batch);
        let parts = router::split(&batch, &refused, settings, &mut rejections);
        let mut sent = Vec::new();
        for (shard, part) in inner.shards.iter().zip(parts) {
            if !part.is_empty() {
                sent.push((shard.try_reserve()?, part));
            }
        }
        if sent.is_empty() {
            return Ok(rejections);
        }
        // From here on nothing is refused. The rest runs on its own, so that a client that leaves does
        // not leave its batch behind half applied.
        let answers: Vec<_> = sent
            .into_iter()
            .map(|(permit, part)| permit.run(move |shard| shard.apply(&part, now)))
            .collect();
        let handle = self.clone();
        let finish = async move {
            let done = handle.finish(batch, answers, rejections, now).await;
            // A saving that began meanwhile may have it or not.
            handle.changed();
            done
        };
        tokio::spawn(finish).await.unwrap_or(Err(Busy::GONE))
    }

    /// Gathers the shards' answers, and lets in the series that are new.
    async fn finish(
        &self,
        batch: Arc<Batch>,
        answers: Vec<tokio::sync::oneshot::Receiver<Answer>>,
        mut rejections: Rejections,
        now: Timestamp,
    ) -> Result<Rejections, Busy> {
        let mut unknown = Vec::new();
        for answer in join_all(answers).await {
            let answer = answer.map_err(|_| Busy::GONE)?;
            rejections.merge(answer.rejections);
            unknown.extend(answer.unknown);
        }
        if unknown.is_empty() {
            return Ok(rejections);
        }
        let newcomers = self.admit(&batch, unknown, now, &mut rejections);
        let shards = self.0.shards.iter().zip(newcomers);
        let answers =
            shards
                .filter(|(_, newcomers)| !newcomers.is_empty())
                .map(|(shard, newcomers)| {
                    let batch = Arc::clone(&batch);
                    shard.run(move |shard| shard.admit(&batch, newcomers, now))
                });
        for answer in join_all(answers).await {
            let answer = answer.map_err(|_: Gone| Busy::GONE)?;
            rejections.merge(answer.rejections);
            self.0.census.release(&answer.counted_twice);
        }
        Ok(rejections)
    }

    /// Decides about points whose series no shard knows, and splits them among the shards.
    fn admit(
        &self,
        batch: &Batch,
        mut unknown: Vec<u32>,
        now: Timestamp,
        rejections: &mut Rejections,
    ) -> Vec<Vec<Newcomer>> {
        let inner = &*self.0;
        let mut parts: Vec<Vec<Newcomer>> = Vec::new();
        parts.resize_with(inner.shards.len(), Vec::new);
        // By id, so that who comes first under a limit does not depend on the shards; the order
        // within a series is that of the batch.
        let series = |at: u32| batch.points.get(at as usize).map(|point| point.series);
        unknown.sort_unstable_by_key(|at| (series(*at), *at));
        let mut decided: Option<(SeriesId, Arc<SeriesIdentity>, Admission)> = None;
        for at in unknown {
            let Some(point) = batch.points.get(at as usize) else {
                continue;
            };
            let along = matches!(&decided, Some((series, ..)) if *series == point.series);
            if !along {
                let Some(identity) = batch.identity(point) else {
                    continue;
                };
                let admission = inner.census.admit(&identity, now);
                decided = Some((point.series, identity, admission));
            }
            let Some((id, identity, admission)) = &decided else {
                continue;
            };
            let (series, identity, as_what) = match admission {
                Admission::Welcome if along => (id, identity, Admitted::Along),
                Admission::Welcome => (id, identity, Admitted::Counted),
                Admission::Fold(series, identity) => (series, identity, Admitted::Folded),
                Admission::Refused => {
                    reject(rejections, Reject::SeriesLimit, identity);
                    continue;
                }
            };
            let owner = router::owner(*series, inner.plan.settings.shards);
            if let Some(part) = parts.get_mut(owner) {
                part.push(Newcomer {
                    point: at,
                    series: *series,
                    identity: Arc::clone(identity),
                    as_what,
                });
            }
        }
        parts
    }

    /// Hands learning over, services first, in chunks of some 256 KiB for [`Engine::start`], the next when
    /// there is room for it, while shards go on with their data between two chunks. Tells the CPU time that
    /// shards had to spend; `None` if that was not all: chunks are not taken any more, or a shard has panicked.
    pub async fn save(&self, chunks: mpsc::Sender<Vec<u8>>) -> Option<Duration> {
        let inner = &*self.0;
        let (services, taken) = self.save_services().await;
        chunks.send(services).await.ok()?;
        let mut spent = Duration::ZERO;
        let mut naming = Naming::default();
        for shard in &inner.shards {
            let mut cursor = None;
            loop {
                let save = move |shard: &mut Shard| {
                    let before = clock::thread_cpu();
                    let saved = shard.save(cursor, taken, &mut naming);
                    (saved, naming, clock::thread_cpu().saturating_sub(before))
                };
                let (saved, met, took) = shard.run(save).await.ok()?;
                (naming, spent) = (met, spent + took);
                let Some((chunk, last)) = saved else { break };
                chunks.send(chunk).await.ok()?;
                cursor = Some(last);
            }
        }
        Some(spent)
    }

    /// The part of learning that changes while nothing comes, as a chunk to be restored behind the others: what
    /// is known of services, and until when series could have been heard.
    pub async fn save_silence(&self) -> Vec<u8> {
        self.save_services().await.0
    }

    /// The chunk of the services, and the time of which it is.
    async fn save_services(&self) -> (Vec<u8>, Timestamp) {
        let inner = &*self.0;
        let ticker = inner.ticker.lock().await;
        // What was restored is still as of then before the first tick has forgiven the time between.
        let taken = ticker.unforgiven.unwrap_or_else(|| self.latest());
        let pulses = ticker.pulses.save(&inner.plan);
        drop(ticker);
        let services = inner.census.save();
        (snapshot::write_services(&services, &pulses, taken), taken)
    }

    /// A number that stays the same while nothing is learned but [silence](Self::save_silence).
    pub fn changes(&self) -> u64 {
        let samples = self.0.plan.telemetry.samples.get();
        // It stands for itself; nothing is read by way of it.
        samples + self.0.changes.load(Ordering::Relaxed)
    }

    /// Something may be learned.
    pub(super) fn changed(&self) {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// All chunks of [`Handle::save`] at once, for few series.
    pub async fn snapshot(&self) -> Vec<Vec<u8>> {
        let (sender, mut chunks) = mpsc::channel(1);
        let gather = async {
            let mut all = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                all.push(chunk);
            }
            all
        };
        join(self.save(sender), gather).await.1
    }

    /// Tells the detectors on `signal` that what deviates since `since` is normal. The rules to whose
    /// detectors that means something; none where there is no such signal.
    pub async fn accept(&self, signal: SignalId, since: Timestamp) -> Vec<RuleId> {
        let whole = self.0.ticker.lock().await.pulses.accept(signal, since);
        if let Some(rules) = whole {
            self.changed();
            return rules;
        }
        let owner = router::owner(signal.series, self.0.plan.settings.shards);
        let Some(shard) = self.0.shards.get(owner) else {
            return Vec::new();
        };
        let accept = move |shard: &mut Shard| shard.accept(signal, since);
        let taken = shard.run(accept).await.unwrap_or_default();
        // What was saved in between does not have it.
        self.changed();
        taken
    }

    /// Whether every shard works; one that panicked does not until the daemon is started anew.
    pub fn is_whole(&self) -> bool {
        self.0.shards.iter().all(Mailbox::is_open)
    }

    /// About how much memory series, windows and detectors take, in bytes.
    pub async fn bytes(&self) -> usize {
        let sizes = self.0.shards.iter().map(|shard| {
            let (mut position, mut sum) = (0, 0);
            shard.work_in_turns(move |shard| shard.bytes(&mut position, &mut sum))
        });
        let sizes = join_all(sizes).await.into_iter().flatten();
        sizes.sum::<usize>() + self.0.plan.common.bytes()
    }

    /// Ends the shards' threads once they have done what was asked before. Afterwards batches are
    /// answered [`Busy`].
    pub async fn stop(&self) {
        join_all(self.0.shards.iter().map(Mailbox::stop)).await;
        let threads = {
            let mut threads = self
                .0
                .threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *threads)
        };
        let joined = tokio::task::spawn_blocking(move || {
            // A thread that panicked was counted when it did.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        drop(joined.await);
    }

    /// The latest time that a call brought.
    pub(super) fn latest(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.latest.load(Ordering::Relaxed))
    }

    /// Remembers `now` if it is the latest.
    pub(super) fn note(&self, now: Timestamp) {
        self.0.latest.fetch_max(now.as_nanos(), Ordering::Relaxed);
    }
}
