//! What one integration has to deliver, and in which order: what was decided first comes first, what
//! waits for another attempt does not hold up the rest, and messages of one key never overtake each
//! other.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::message::Message;
use super::outbox::Progress;
use crate::model::Timestamp;

/// One message on its way through one integration.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// The message's id.
    pub(super) id: Arc<str>,
    /// What is told.
    pub(super) message: Message,
    /// Failed attempts so far, those of earlier runs among them.
    pub(super) attempts: u32,
    /// When the first attempt was made, for the record.
    pub(super) first_at: Option<Timestamp>,
    /// How long before `resumed` the first attempt was made.
    spent: Duration,
    /// When this run took it up again, or made the first attempt.
    resumed: Option<Instant>,
    /// It is not attempted before; `None`: as soon as there is room.
    pub(super) due: Option<Instant>,
}

impl Job {
    /// What `progress` leaves to do, at `now`, which is `instant`. Times are taken from the wall clock
    /// only here, over a restart; otherwise they are measured, and no clock that is set changes them.
    pub(super) fn new(
        id: &Arc<str>,
        message: &Message,
        progress: Progress,
        now: Timestamp,
        instant: Instant,
    ) -> Self {
        let wait = progress.next_at.map(|at| at.since(now).min(LONGEST_WAIT));
        Self {
            id: Arc::clone(id),
            message: message.clone(),
            attempts: progress.attempts,
            first_at: progress.first_at,
            spent: progress.first_at.map_or(Duration::ZERO, |at| now.since(at)),
            resumed: progress.first_at.map(|_| instant),
            due: wait
                .filter(|wait| !wait.is_zero())
                .map(|wait| instant + wait),
        }
    }

    /// An attempt begins at `now`, which is `instant`.
    pub(super) fn begins(&mut self, now: Timestamp, instant: Instant) {
        self.first_at.get_or_insert(now);
        self.resumed.get_or_insert(instant);
    }

    /// How long ago, at `instant`, the first attempt was made.
    pub(super) fn elapsed(&self, instant: Instant) -> Duration {
        let here = self
            .resumed
            .map_or(Duration::ZERO, |at| instant.saturating_duration_since(at));
        self.spent.saturating_add(here)
    }
}

/// No wait that was under way at a restart is taken up for longer: the clock may have been set.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// The jobs of one integration. Bounded by the outbox, which holds each message once.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// By key, the oldest first. The first of a key is in `ready`, in `later` or under way.
    queues: HashMap<Arc<str>, VecDeque<(u64, Job)>>,
    /// Keys whose first job may be attempted, by its number.
    ready: BTreeMap<u64, Arc<str>>,
    /// Keys whose first job waits.
    later: BTreeSet<(Instant, u64, Arc<str>)>,
    /// Jobs so far.
    numbered: u64,
    /// Jobs in all queues, those under way among them.
    len: usize,
    underway: usize,
}

impl Agenda {
    /// Adds a job behind those of its key. `O(log n)`.
    pub(super) fn push(&mut self, job: Job) {
        self.numbered += 1;
        self.len += 1;
        let key: Arc<str> = job.message.key().into();
        let queue = self.queues.entry(Arc::clone(&key)).or_default();
        queue.push_back((self.numbered, job));
        if queue.len() == 1 {
            self.schedule(key);
        }
    }

    /// Takes the next job that may be attempted at `now`. It stays the first of its key until
    /// [`Agenda::done`] or [`Agenda::back`].
    pub(super) fn take(&mut self, now: Instant) -> Option<Job> {
        while let Some((due, _, _)) = self.later.first()
            && *due <= now
            && let Some((_, number, key)) = self.later.pop_first()
        {
            self.ready.insert(number, key);
        }
        let (_, key) = self.ready.pop_first()?;
        self.underway += 1;
        let (_, job) = self.queues.get(&key)?.front()?;
        Some(job.clone())
    }

    /// Takes the next job whatever it waits for.
    pub(super) fn take_any(&mut self) -> Option<Job> {
        self.hurry();
        self.take(Instant::now())
    }

    /// Lets everything that waits be attempted at once.
    pub(super) fn hurry(&mut self) {
        while let Some((_, number, key)) = self.later.pop_first() {
            self.ready.insert(number, key);
        }
    }

    /// A job that was taken is settled; the next of its key may come.
    pub(super) fn done(&mut self, job: &Job) {
        let key: Arc<str> = job.message.key().into();
        let Some(queue) = self.queues.get_mut(&key) else {
            return;
        };
        if queue.pop_front().is_some() {
            self.len -= 1;
            self.underway -= 1;
        }
        if queue.is_empty() {
            self.queues.remove(&key);
        } else {
            self.schedule(key);
        }
    }

    /// A job that was taken comes back, as it is now, to be attempted when it is due.
    pub(super) fn back(&mut self, job: Job) {
        let key: Arc<str> = job.message.key().into();
        if let Some((_, first)) = self.queues.get_mut(&key).and_then(VecDeque::front_mut) {
            *first = job;
            self.underway -= 1;
            self.schedule(key);
        }
    }

    /// When the next job is due; the past when one is.
    pub(super) fn next_due(&self) -> Option<Instant> {
        match self.ready.is_empty() {
            true => self.later.first().map(|(due, _, _)| *due),
            false => Some(Instant::now()),
        }
    }

    /// How many jobs there are, those under way among them.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many jobs are under way.
    pub(super) fn underway(&self) -> usize {
        self.underway
    }

    fn schedule(&mut self, key: Arc<str>) {
        let first = self.queues.get(&key).and_then(VecDeque::front);
        match first.map(|(number, job)| (*number, job.due)) {
            Some((number, Some(due))) => drop(self.later.insert((due, number, key))),
            Some((number, None)) => drop(self.ready.insert(number, key)),
            None => {}
        }
    }
}
