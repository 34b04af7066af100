//! Who hears of which events. A watcher costs something only when an event of its own topic comes: ten
//! thousand watchers of modes cost an alert nothing but two look-ups.
//!
//! Every watcher has a short queue. Who does not keep up leaves the live ones and, when it reads again,
//! goes on from the log; it is dropped only once the log does not reach back to where it stands. For those
//! who only watch modes there is a log of modes alone, so that no storm of alerts flushes what they have
//! missed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use super::log::{Entry, Log};
use super::place::Place;
use super::topic::{Kinds, Topic};
use super::{EVENT_LOG, WATCHER_BUFFER};
use crate::model::{Event, EventBody, ModeState};

/// One who listens.
#[derive(Debug)]
struct Slot {
    queue: mpsc::Sender<Arc<Entry>>,
    place: Place,
}

/// Listeners by what they want to hear and their number.
type Listeners = BTreeMap<Kinds, BTreeMap<u64, Slot>>;

#[derive(Debug)]
struct Inner {
    log: Log,
    /// Changes of modes and the kill switch alone.
    modes: Log,
    /// Number of the newest event.
    newest: u64,
    /// Those who hear of all services.
    of_all: Listeners,
    of_one: HashMap<Arc<str>, Listeners>,
    /// Those who did not keep up, with the number of the first event that they were not given.
    behind: BTreeMap<u64, (u64, Kinds, Place)>,
    /// Number of the next listener.
    next: u64,
    /// The newest state of services that somebody follows; `None` while a service is not known.
    latest: HashMap<Arc<str>, watch::Sender<Option<Arc<ModeState>>>>,
}

impl Inner {
    fn log_of(&self, kinds: Kinds) -> &Log {
        match Kinds::MODES.contains(kinds) {
            true => &self.modes,
            false => &self.log,
        }
    }

    fn append(&mut self, event: Event) {
        if self.newest == 0 {
            let before = event.sequence.saturating_sub(1);
            self.log.begin_after(before);
            self.modes.begin_after(before);
        }
        self.newest = event.sequence;
        let entry = Arc::new(Entry::new(event));
        if Kinds::MODES.contains(entry.kind()) {
            self.modes.push(Arc::clone(&entry));
        }
        self.log.push(Arc::clone(&entry));
        if let EventBody::Mode(change) = &entry.body
            && let Some(follower) = self.latest.get(change.state.service.as_str())
        {
            follower.send_replace(Some(Arc::new(change.state.clone())));
        }
        match entry.service() {
            Some(service) => {
                if let Some(listeners) = self.of_one.get_mut(service) {
                    deliver(listeners, &entry, &mut self.behind);
                }
            }
            None => {
                for listeners in self.of_one.values_mut() {
                    deliver(listeners, &entry, &mut self.behind);
                }
            }
        }
        deliver(&mut self.of_all, &entry, &mut self.behind);
    }

    /// Lets those go whose next event is no longer known.
    fn forget_lost(&mut self) {
        let (all, modes) = (self.log.floor(), self.modes.floor());
        let is_lost = |_: &u64, (first, kinds, _): &mut (u64, Kinds, Place)| {
            let floor = if Kinds::MODES.contains(*kinds) {
                modes
            } else {
                all
            };
            *first <= floor
        };
        for (_, (_, _, place)) in self.behind.extract_if(.., is_lost) {
            place.lose();
        }
    }

    fn listen(&mut self, topic: &Topic, place: Place) -> (u64, mpsc::Receiver<Arc<Entry>>) {
        let (queue, live) = mpsc::channel(WATCHER_BUFFER);
        self.next += 1;
        let listeners = match &topic.service {
            Some(service) => self.of_one.entry(Arc::clone(service)).or_default(),
            None => &mut self.of_all,
        };
        let slot = Slot { queue, place };
        listeners
            .entry(topic.kinds)
            .or_default()
            .insert(self.next, slot);
        (self.next, live)
    }

    fn leave(&mut self, topic: &Topic, id: u64) {
        self.behind.remove(&id);
        let listeners = match &topic.service {
            Some(service) => self.of_one.get_mut(service),
            None => Some(&mut self.of_all),
        };
        let Some(listeners) = listeners else { return };
        if let Some(alike) = listeners.get_mut(&topic.kinds) {
            alike.remove(&id);
            if alike.is_empty() {
                listeners.remove(&topic.kinds);
            }
        }
        if listeners.is_empty()
            && let Some(service) = &topic.service
        {
            self.of_one.remove(service);
        }
    }
}

/// Gives `entry` to those who want it; who has no room for it is behind from now on.
fn deliver(
    listeners: &mut Listeners,
    entry: &Arc<Entry>,
    behind: &mut BTreeMap<u64, (u64, Kinds, Place)>,
) {
    for (kinds, alike) in listeners.iter_mut() {
        if !kinds.contains(entry.kind()) {
            continue;
        }
        let is_full = |_: &u64, slot: &mut Slot| slot.queue.try_send(Arc::clone(entry)).is_err();
        // One that has left is among them for a moment, too: it takes itself out.
        for (id, slot) in alike.extract_if(.., is_full) {
            behind.insert(id, (entry.sequence, *kinds, slot.place));
        }
    }
}

/// The events and those who hear of them. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Hub {
    /// Short critical sections: a push to the queues of one topic, or a copy of the log's tail.
    inner: Arc<Mutex<Inner>>,
}

impl Hub {
    /// With the events of earlier runs, oldest first.
    pub(super) fn new(history: Vec<Event>) -> Self {
        let mut inner = Inner {
            log: Log::new(EVENT_LOG),
            modes: Log::new(EVENT_LOG),
            newest: 0,
            of_all: Listeners::new(),
            of_one: HashMap::new(),
            behind: BTreeMap::new(),
            next: 0,
            latest: HashMap::new(),
        };
        for event in history {
            inner.append(event);
        }
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn newest(&self) -> u64 {
        self.locked().newest
    }

    pub(super) fn append(&self, events: impl IntoIterator<Item = Event>) {
        let mut inner = self.locked();
        for event in events {
            inner.append(event);
        }
        inner.forget_lost();
    }

    pub(super) fn subscribe(&self, topic: Topic, after: Option<u64>, place: Place) -> Feed {
        // Under one lock, so that no event falls between what was missed and what comes, or is in both.
        let mut inner = self.locked();
        let newest = inner.newest;
        let log = inner.log_of(topic.kinds);
        let gap = after.is_some_and(|after| after > newest || after < log.floor());
        let missed = match after {
            Some(after) if !gap => log.after(after, &topic),
            Some(_) | None => VecDeque::new(),
        };
        let (id, live) = inner.listen(&topic, place);
        drop(inner);
        Feed {
            hub: self.clone(),
            topic,
            id,
            begins_after: newest,
            seen: if gap { newest } else { after.unwrap_or(newest) },
            gap,
            missed,
            live,
        }
    }

    /// `now` is the state that is public at present.
    pub(super) fn follow(&self, service: &str, now: Option<ModeState>) -> Follow {
        let mut inner = self.locked();
        let service: Arc<str> = service.into();
        let latest = inner.latest.entry(Arc::clone(&service));
        let latest = latest.or_insert_with(|| watch::Sender::new(now.map(Arc::new)));
        Follow {
            states: latest.subscribe(),
            hub: self.clone(),
            service,
        }
    }

    /// Tells those who follow services that were not known until now.
    pub(super) fn introduce<'a>(&self, known: impl Fn(&str) -> Option<&'a ModeState>) {
        for (service, follower) in &self.locked().latest {
            if follower.borrow().is_none()
                && let Some(state) = known(service)
            {
                follower.send_replace(Some(Arc::new(state.clone())));
            }
        }
    }
}

/// The events of one topic, as one watcher hears them. Dropping it ends the watch.
#[derive(Debug)]
pub struct Feed {
    hub: Hub,
    topic: Topic,
    id: u64,
    begins_after: u64,
    /// Number of the last event that was given, or that it began with.
    seen: u64,
    gap: bool,
    missed: VecDeque<Arc<Entry>>,
    live: mpsc::Receiver<Arc<Entry>>,
}

/// The watcher has been away for longer than the log reaches back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

impl Feed {
    /// Whether the log does not reach back to where the watcher wanted to go on (or that number is from the
    /// future), so that it has to take the present state first.
    pub fn gap(&self) -> bool {
        self.gap
    }

    /// Number of the newest event when it began. What was public then holds every event up to it.
    pub fn begins_after(&self) -> u64 {
        self.begins_after
    }

    /// The next event, in order, each once. May be dropped while it waits; nothing is lost by that.
    ///
    /// # Errors
    /// The watcher did not read for so long that the log does not reach back to where it stands.
    pub async fn next(&mut self) -> Result<Arc<Entry>, Lost> {
        loop {
            let entry = match self.missed.pop_front() {
                Some(entry) => Some(entry),
                None => self.live.recv().await,
            };
            match entry {
                Some(entry) => {
                    self.seen = entry.sequence;
                    return Ok(entry);
                }
                None => self.catch_up()?,
            }
        }
    }

    /// Goes on from the log after the live events were too many at once.
    fn catch_up(&mut self) -> Result<(), Lost> {
        let mut inner = self.hub.locked();
        let (_, _, place) = inner.behind.remove(&self.id).ok_or(Lost)?;
        self.missed = inner.log_of(self.topic.kinds).after(self.seen, &self.topic);
        (self.id, self.live) = inner.listen(&self.topic, place);
        Ok(())
    }

    /// The number of the newest event if nothing waits to be read: every event of the topic up to it was
    /// given, so the watcher may go on from there as well as from its own last one.
    pub fn idle_at(&self) -> Option<u64> {
        // In this order: what was appended by then is in the queue, or the queue is closed.
        let newest = self.hub.newest();
        let idle = self.missed.is_empty() && self.live.is_empty() && !self.live.is_closed();
        idle.then_some(newest.max(self.seen))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.hub.locked().leave(&self.topic, self.id);
    }
}

/// The newest state of one service, whenever it is told another. States in between may be passed over;
/// nobody is ever dropped.
#[derive(Debug)]
pub struct Follow {
    hub: Hub,
    service: Arc<str>,
    states: watch::Receiver<Option<Arc<ModeState>>>,
}

impl Follow {
    /// The newest state, taken as seen; `None`: the service is not known.
    pub fn now(&mut self) -> Option<Arc<ModeState>> {
        self.states.borrow_and_update().clone()
    }

    /// Waits until there is a state that was not seen. Never ends by itself. May be dropped while it waits.
    pub async fn changed(&mut self) -> Option<Arc<ModeState>> {
        if self.states.changed().await.is_err() {
            // The sender lives as long as somebody follows, so this does not happen.
            std::future::pending::<()>().await;
        }
        self.now()
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        let mut inner = self.hub.locked();
        // This one is counted still.
        let is_last = |latest: &watch::Sender<_>| latest.receiver_count() <= 1;
        if inner.latest.get(&self.service).is_some_and(is_last) {
            inner.latest.remove(&self.service);
        }
    }
}
