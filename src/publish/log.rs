use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::topic::{Kinds, Topic};
use crate::model::Event;

/// An event with room for its form on the wire, which is made once for all watchers.
#[derive(Debug)]
pub struct Entry {
    event: Event,
    kind: Kinds,
    form: OnceLock<Bytes>,
}

impl Entry {
    pub(super) fn new(event: Event) -> Self {
        Self {
            kind: Kinds::of(&event.body),
            event,
            form: OnceLock::new(),
        }
    }

    /// Of which kind it is.
    pub fn kind(&self) -> Kinds {
        self.kind
    }

    /// Its form on the wire, `made` for the first who asks. There is one such form only.
    pub fn form(&self, made: impl FnOnce(&Event) -> Bytes) -> Bytes {
        self.form.get_or_init(|| made(&self.event)).clone()
    }
}

impl Deref for Entry {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

/// The newest events of some kinds.
#[derive(Debug)]
pub(super) struct Log {
    entries: VecDeque<Arc<Entry>>,
    most: usize,
    /// Every event of its kinds with a higher number is in it.
    floor: u64,
}

impl Log {
    pub(super) fn new(most: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            most,
            floor: 0,
        }
    }

    /// Nothing up to `sequence` is known.
    pub(super) fn begin_after(&mut self, sequence: u64) {
        self.floor = sequence;
    }

    /// The number up to which events are not known any more.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn push(&mut self, entry: Arc<Entry>) {
        if self.entries.len() == self.most
            && let Some(oldest) = self.entries.pop_front()
        {
            self.floor = oldest.sequence;
        }
        self.entries.push_back(entry);
    }

    /// The events of `topic` after the one numbered `after`, oldest first.
    pub(super) fn after(&self, after: u64, topic: &Topic) -> VecDeque<Arc<Entry>> {
        let start = self
            .entries
            .partition_point(|entry| entry.sequence <= after);
        self.entries
            .range(start..)
            .filter(|entry| topic.has(entry.kind, entry.service()))
            .cloned()
            .collect()
    }
}
