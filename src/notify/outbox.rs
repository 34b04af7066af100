//! What is decided and not yet delivered, and how far each integration has come with it.
//!
//! A message is written once, under `message/ID`, together with the decision to send it. What comes of
//! it is written as it happens, under `state/ID`: a *leg* for each integration that has to deliver it,
//! with its attempts and times. A leg that fails for good is replaced by those of the fallback in one
//! change, so that no crash finds the message with neither. The message leaves when all its legs are
//! settled.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntGauge;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::agenda::Job;
use super::message::Message;
use crate::model::Timestamp;
use crate::telemetry::Telemetry;

/// Version of the forms below; another one is not read.
const VERSION: u32 = 1;
const MESSAGE: &str = "message/";
const STATE: &str = "state/";
/// What integrations keep of themselves; see [`Outbox::keep`].
const INTEGRATION: &str = "integration/";
/// A message whose form is larger is delivered but not kept: it would be a bug, and one value must not
/// take the room of all.
const MAX_KEPT_BYTES: usize = 8 << 20;

/// An entry to write: its key, and its value, or `None` where it is gone.
pub(super) type Change = (String, Option<Vec<u8>>);

/// Which lane there is: its number in [`Directory::lanes`].
pub(super) type LaneId = usize;

/// Who is told how.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// Receiver and integration of each lane.
    pub(super) lanes: Vec<(Arc<str>, Arc<str>)>,
    /// By name.
    pub(super) receivers: HashMap<Arc<str>, Known>,
}

/// A receiver.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) lanes: Vec<LaneId>,
    pub(super) fallback: Option<Arc<str>>,
}

/// Most that waits for one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxSettings {
    /// Messages (default 1,000; at least 1).
    pub messages: usize,
    /// Bytes of their forms in the store (default 32 MiB).
    pub bytes: usize,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            messages: 1000,
            bytes: 32 << 20,
        }
    }
}

/// Messages that are decided, with their ids, and not yet on their way: to be made durable first.
#[derive(Debug, Default)]
#[must_use = "it is not delivered until it is given to the notifier"]
pub struct Parcel {
    pub(super) messages: Vec<Packed>,
}

#[derive(Debug)]
pub(super) struct Packed {
    pub(super) id: Arc<str>,
    pub(super) receiver: Arc<str>,
    pub(super) message: Message,
    /// Its form in the store; `None` when it cannot be kept.
    value: Option<Vec<u8>>,
}

impl Parcel {
    /// What must be durable before it is delivered, as (key, value) of the outbox.
    pub fn changes(&self) -> impl Iterator<Item = (String, Option<Vec<u8>>)> {
        self.messages.iter().filter_map(|packed| {
            let key = format!("{MESSAGE}{}", packed.id);
            Some((key, Some(packed.value.clone()?)))
        })
    }

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Adds the messages of another one behind.
    pub fn extend(&mut self, other: Self) {
        self.messages.extend(other.messages);
    }
}

#[derive(Serialize, Deserialize)]
struct SavedMessage<M> {
    version: u32,
    /// Messages are numbered in the order in which they were decided.
    number: u64,
    receiver: Arc<str>,
    message: M,
}

#[derive(Serialize, Deserialize)]
struct SavedState {
    version: u32,
    legs: Vec<SavedLeg>,
}

#[derive(Serialize, Deserialize)]
struct SavedLeg {
    receiver: Arc<str>,
    integration: Arc<str>,
    #[serde(flatten)]
    progress: Progress,
}

/// How far an integration has come with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    stand: Stand,
    /// Failed attempts.
    pub(super) attempts: u32,
    /// When the first one was made.
    pub(super) first_at: Option<Timestamp>,
    /// When the next one is due.
    pub(super) next_at: Option<Timestamp>,
}

impl Progress {
    /// After so many failed attempts, with another one due at `next_at`.
    pub(super) fn after(attempts: u32, first_at: Option<Timestamp>, next_at: Timestamp) -> Self {
        Self {
            stand: Stand::Pending,
            attempts,
            first_at,
            next_at: Some(next_at),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stand {
    #[default]
    Pending,
    Delivered,
    Failed,
}

/// One integration that has to deliver a message.
#[derive(Debug)]
struct Leg {
    lane: LaneId,
    progress: Progress,
}

#[derive(Debug)]
struct Entry {
    receiver: Arc<str>,
    message: Message,
    bytes: usize,
    legs: Vec<Leg>,
}

/// A message's further way.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) lane: LaneId,
    pub(super) job: Job,
}

/// Who takes over what a lane could not deliver.
#[derive(Debug)]
pub(super) enum Heir {
    /// This fallback; the jobs are for its lanes.
    Fallback(Arc<str>, Vec<Assigned>),
    /// The fallback has had it from another integration of the same receiver.
    Already(Arc<str>),
    /// Nobody.
    None,
}

/// What may be sent, while it is decided what is.
#[derive(Debug)]
pub struct Room<'o> {
    outbox: &'o Outbox,
    /// Messages by receiver.
    taken: HashMap<String, usize>,
    refused: BTreeMap<String, u64>,
}

impl Room<'_> {
    /// Takes room for one more message to `receiver`, if there is any. Its bytes are counted only when
    /// it is sent.
    pub fn take(&mut self, receiver: &str) -> bool {
        let taken = self.taken.entry(receiver.to_owned()).or_default();
        let (messages, bytes) = {
            let inner = self.outbox.lock();
            inner.used.get(receiver).copied().unwrap_or_default()
        };
        let settings = self.outbox.settings;
        let room = messages + *taken < settings.messages.max(1) && bytes < settings.bytes;
        if room {
            *taken += 1;
        } else {
            *self.refused.entry(receiver.to_owned()).or_default() += 1;
        }
        room
    }

    /// How often there was none, by receiver.
    pub fn refused(&self) -> impl Iterator<Item = (&str, u64)> {
        self.refused
            .iter()
            .map(|(name, count)| (name.as_str(), *count))
    }
}

/// The outbox. Its lock is held for map operations only, never over I/O or a wait.
#[derive(Debug)]
pub(super) struct Outbox {
    directory: Directory,
    settings: OutboxSettings,
    inner: Mutex<Inner>,
    /// Rung when there is something to write.
    changed: Notify,
    messages: IntGauge,
    bytes: IntGauge,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<Arc<str>, Entry>,
    /// Messages and bytes by the receiver that they were sent to.
    used: HashMap<Arc<str>, (usize, usize)>,
    /// Not yet written. A later value of a key takes the place of an earlier one, so it is never larger
    /// than the outbox, however long the disk takes.
    unwritten: BTreeMap<String, Option<Vec<u8>>>,
    numbered: u64,
}

impl Outbox {
    pub(super) fn new(
        directory: Directory,
        settings: OutboxSettings,
        telemetry: &Telemetry,
    ) -> Self {
        Self {
            directory,
            settings,
            inner: Mutex::default(),
            changed: Notify::new(),
            messages: telemetry.outbox_messages.clone(),
            bytes: telemetry.outbox_bytes.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The room that there is.
    pub(super) fn room(&self) -> Room<'_> {
        Room {
            outbox: self,
            taken: HashMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Whether there is such a receiver.
    pub(super) fn knows(&self, receiver: &str) -> bool {
        self.directory.receivers.contains_key(receiver)
    }

    /// Receiver and integration of a lane; empty when there is none.
    pub(super) fn lane(&self, lane: LaneId) -> (Arc<str>, Arc<str>) {
        let nobody = || ("".into(), "".into());
        self.directory
            .lanes
            .get(lane)
            .cloned()
            .unwrap_or_else(nobody)
    }

    /// How many messages there are.
    pub(super) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Gives a message its number and its form.
    pub(super) fn pack(&self, id: Arc<str>, receiver: Arc<str>, message: Message) -> Packed {
        let number = {
            let mut inner = self.lock();
            inner.numbered += 1;
            inner.numbered
        };
        let saved = SavedMessage {
            version: VERSION,
            number,
            receiver: Arc::clone(&receiver),
            message: &message,
        };
        // Keys are strings and every value has a form in JSON.
        let value = serde_json::to_vec(&saved).ok();
        let value = value.filter(|value| value.len() <= MAX_KEPT_BYTES);
        if value.is_none() {
            tracing::error!(%id, %receiver, "the notification is too large to be kept: a crash loses it");
        }
        Packed {
            id,
            receiver,
            message,
            value,
        }
    }

    /// Takes in a message that is durable by now. The jobs are for its receiver's lanes; there are none
    /// when nobody of that name is known, and the message is not taken in then.
    pub(super) fn insert(&self, packed: Packed) -> Vec<Assigned> {
        let Packed {
            id,
            receiver,
            message,
            value,
        } = packed;
        let Some(known) = self.directory.receivers.get(&receiver) else {
            return Vec::new();
        };
        let legs: Vec<_> = known.lanes.iter().map(|lane| Leg::new(*lane)).collect();
        let entry = Entry {
            receiver,
            message,
            bytes: value.map_or(0, |value| value.len()),
            legs,
        };
        let assigned = entry.pending(&id, Timestamp::EPOCH, Instant::now());
        let mut inner = self.lock();
        inner.add(Arc::clone(&id), entry);
        if assigned.is_empty() {
            inner.settle(&self.directory, &id);
        }
        drop(inner);
        self.count();
        assigned
    }

    /// Takes in what earlier runs left, at `now`: the jobs for all lanes in the order in which they were
    /// decided, what integrations kept of themselves, and what could not be used.
    pub(super) fn restore(
        &self,
        now: Timestamp,
        entries: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> (Vec<Assigned>, HashMap<String, Vec<u8>>, Vec<String>) {
        let mut warnings = Vec::new();
        let mut messages = Vec::new();
        let mut states = HashMap::new();
        let mut kept = HashMap::new();
        let mut inner = self.lock();
        for (key, value) in entries {
            let read = if let Some(id) = key.strip_prefix(MESSAGE) {
                read_message(&value).map(|saved| messages.push((id.to_owned(), saved, value.len())))
            } else if let Some(id) = key.strip_prefix(STATE) {
                read_state(&value).map(|saved| drop(states.insert(id.to_owned(), saved.legs)))
            } else if let Some(lane) = key.strip_prefix(INTEGRATION) {
                kept.insert(lane.to_owned(), value);
                Ok(())
            } else {
                Err("nobody knows what it is".into())
            };
            if let Err(problem) = read {
                warnings.push(format!(
                    "outbox entry {key} cannot be restored and is dropped: {problem}"
                ));
                inner.unwritten.insert(key, None);
            }
        }
        messages.sort_by_key(|(_, saved, _)| saved.number);
        let mut assigned = Vec::new();
        for (id, saved, bytes) in messages {
            inner.numbered = inner.numbered.max(saved.number);
            let legs = states.remove(&id).unwrap_or_default();
            let id: Arc<str> = id.into();
            let legs = self.legs(&id, &saved, legs, &mut warnings);
            let entry = Entry {
                receiver: saved.receiver,
                message: saved.message,
                bytes,
                legs,
            };
            let jobs = entry.pending(&id, now, Instant::now());
            inner.add(Arc::clone(&id), entry);
            if jobs.is_empty() {
                inner.settle(&self.directory, &id);
            }
            assigned.extend(jobs);
        }
        for id in states.into_keys() {
            inner.unwritten.insert(format!("{STATE}{id}"), None);
        }
        drop(inner);
        self.count();
        self.changed.notify_one();
        (assigned, kept, warnings)
    }

    /// The legs of a message as far as the present configuration has them. A message that is left with
    /// none goes to all of its receiver, or, where that is gone, to the log.
    fn legs(
        &self,
        id: &str,
        saved: &SavedMessage<Message>,
        legs: Vec<SavedLeg>,
        warnings: &mut Vec<String>,
    ) -> Vec<Leg> {
        let receivers = &self.directory.receivers;
        let mut known = Vec::new();
        for leg in legs {
            let lane =
                self.directory.lanes.iter().position(|(receiver, name)| {
                    (receiver, name) == (&leg.receiver, &leg.integration)
                });
            match lane {
                Some(lane) => known.push(Leg {
                    lane,
                    progress: leg.progress,
                }),
                None if leg.progress.stand == Stand::Pending => warnings.push(format!(
                    "message {id} was to go to {} of receiver `{}`, which the configuration no longer has",
                    leg.integration, leg.receiver
                )),
                None => {}
            }
        }
        if !known.is_empty() {
            return known;
        }
        let name: &str = &saved.receiver;
        let receiver = receivers.get(name).or_else(|| {
            warnings.push(format!(
                "message {id} was for receiver `{name}`, which the configuration no longer has: it goes to the log"
            ));
            receivers.get(super::LOG)
        });
        let lanes = receiver.map_or(&[][..], |receiver| &receiver.lanes);
        lanes.iter().map(|lane| Leg::new(*lane)).collect()
    }

    /// An attempt failed and there will be another.
    pub(super) fn attempted(&self, id: &str, lane: LaneId, progress: Progress) {
        let mut inner = self.lock();
        if let Some(leg) = inner.leg(id, lane) {
            leg.progress = progress;
            inner.write(&self.directory, id);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// It is delivered, or there is nothing in it for this receiver.
    pub(super) fn delivered(&self, id: &str, lane: LaneId) {
        let mut inner = self.lock();
        if let Some(leg) = inner.leg(id, lane) {
            leg.progress.stand = Stand::Delivered;
            inner.settle(&self.directory, id);
        }
        drop(inner);
        self.count();
        self.changed.notify_one();
    }

    /// It has failed for good: whoever is to take over has it in the same change.
    pub(super) fn failed(&self, id: &Arc<str>, lane: LaneId) -> Heir {
        let mut inner = self.lock();
        let Some(leg) = inner.leg(id, lane) else {
            return Heir::None;
        };
        leg.progress.stand = Stand::Failed;
        let receiver = self.directory.lanes.get(lane).map(|(receiver, _)| receiver);
        let known = receiver.and_then(|receiver| self.directory.receivers.get(receiver));
        let fallback = known.and_then(|known| known.fallback.clone());
        let heir = fallback.map_or(Heir::None, |name| {
            let lanes = self.directory.receivers.get(&name).map(|f| &f.lanes[..]);
            match inner.entries.get_mut(id) {
                Some(entry) => entry.bequeath(id, name, lanes.unwrap_or_default()),
                None => Heir::None,
            }
        });
        inner.settle(&self.directory, id);
        drop(inner);
        self.count();
        self.changed.notify_one();
        heir
    }

    /// Keeps what a lane has to know of itself after a restart; `None` when there is nothing.
    pub(super) fn keep(&self, lane: LaneId, value: Option<Vec<u8>>) {
        if let Some(key) = self.lane_key(lane) {
            let key = format!("{INTEGRATION}{key}");
            self.lock().unwritten.insert(key, value);
            self.changed.notify_one();
        }
    }

    /// Forgets what lanes kept that are no more.
    pub(super) fn forget(&self, lanes: impl IntoIterator<Item = String>) {
        let keys = lanes.into_iter().map(|key| format!("{INTEGRATION}{key}"));
        self.lock().unwritten.extend(keys.map(|key| (key, None)));
    }

    /// Under which name [`Outbox::restore`] gives back what a lane kept.
    pub(super) fn lane_key(&self, lane: LaneId) -> Option<String> {
        let (receiver, integration) = self.directory.lanes.get(lane)?;
        Some(format!("{integration}/{receiver}"))
    }

    /// Waits until there may be something to write.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes what is to be written.
    pub(super) fn unwritten(&self) -> Vec<Change> {
        std::mem::take(&mut self.lock().unwritten)
            .into_iter()
            .collect()
    }

    fn count(&self) {
        let inner = self.lock();
        let bytes: usize = inner.used.values().map(|(_, bytes)| bytes).sum();
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.messages.set(number(inner.entries.len()));
        self.bytes.set(number(bytes));
    }
}

impl Leg {
    fn new(lane: LaneId) -> Self {
        Self {
            lane,
            progress: Progress::default(),
        }
    }
}

impl Entry {
    /// The jobs of the legs that are not settled, at `now`, which is `instant`.
    fn pending(&self, id: &Arc<str>, now: Timestamp, instant: Instant) -> Vec<Assigned> {
        let pending = self.legs.iter();
        let pending = pending.filter(|leg| leg.progress.stand == Stand::Pending);
        pending
            .map(|leg| Assigned {
                lane: leg.lane,
                job: Job::new(id, &self.message, leg.progress, now, instant),
            })
            .collect()
    }

    /// Gives the message to the lanes of the fallback `name`, unless it has it.
    fn bequeath(&mut self, id: &Arc<str>, name: Arc<str>, lanes: &[LaneId]) -> Heir {
        let mut of_heir = self.legs.iter().filter(|leg| lanes.contains(&leg.lane));
        let has_it = of_heir.clone().next().is_some();
        if has_it {
            let lives = of_heir.any(|leg| leg.progress.stand != Stand::Failed);
            return if lives {
                Heir::Already(name)
            } else {
                Heir::None
            };
        }
        let mut assigned = Vec::new();
        for &lane in lanes {
            let leg = Leg::new(lane);
            let job = Job::new(
                id,
                &self.message,
                leg.progress,
                Timestamp::EPOCH,
                Instant::now(),
            );
            assigned.push(Assigned { lane, job });
            self.legs.push(leg);
        }
        match assigned.is_empty() {
            true => Heir::None,
            false => Heir::Fallback(name, assigned),
        }
    }
}

impl Inner {
    fn leg(&mut self, id: &str, lane: LaneId) -> Option<&mut Leg> {
        let legs = &mut self.entries.get_mut(id)?.legs;
        legs.iter_mut().find(|leg| leg.lane == lane)
    }

    fn add(&mut self, id: Arc<str>, entry: Entry) {
        let used = self.used.entry(Arc::clone(&entry.receiver)).or_default();
        used.0 += 1;
        used.1 += entry.bytes;
        self.entries.insert(id, entry);
    }

    /// Lets a message leave if nothing of it is pending, or writes how far it is.
    fn settle(&mut self, directory: &Directory, id: &str) {
        let Some(entry) = self.entries.get(id) else {
            return;
        };
        let pending = |leg: &Leg| leg.progress.stand == Stand::Pending;
        if entry.legs.iter().any(pending) {
            self.write(directory, id);
            return;
        }
        if let Some(entry) = self.entries.remove(id) {
            if let Some(used) = self.used.get_mut(&entry.receiver) {
                used.0 = used.0.saturating_sub(1);
                used.1 = used.1.saturating_sub(entry.bytes);
            }
            for kind in [MESSAGE, STATE] {
                self.unwritten.insert(format!("{kind}{id}"), None);
            }
        }
    }

    fn write(&mut self, directory: &Directory, id: &str) {
        let Some(entry) = self.entries.get(id) else {
            return;
        };
        let legs = entry.legs.iter().filter_map(|leg| {
            let (receiver, integration) = directory.lanes.get(leg.lane)?;
            Some(SavedLeg {
                receiver: Arc::clone(receiver),
                integration: Arc::clone(integration),
                progress: leg.progress,
            })
        });
        let saved = SavedState {
            version: VERSION,
            legs: legs.collect(),
        };
        // Names, numbers and times always have a form in JSON.
        if let Ok(value) = serde_json::to_vec(&saved) {
            self.unwritten.insert(format!("{STATE}{id}"), Some(value));
        }
    }
}

fn read_message(value: &[u8]) -> Result<SavedMessage<Message>, String> {
    let saved: SavedMessage<Message> =
        serde_json::from_slice(value).map_err(|error| error.to_string())?;
    check_version(saved.version)?;
    Ok(saved)
}

fn read_state(value: &[u8]) -> Result<SavedState, String> {
    let saved: SavedState = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    check_version(saved.version)?;
    Ok(saved)
}

fn check_version(version: u32) -> Result<(), String> {
    match version == VERSION {
        true => Ok(()),
        false => Err(format!("version {version} of the form, known is {VERSION}")),
    }
}
