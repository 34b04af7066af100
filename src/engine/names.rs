//! What saved series have in common, told once: resources, instruments, keys of attributes. It
//! makes saving smaller and restoring faster, since a series is then little more than its numbers.
//!
//! Each is told in the chunk that needs it first, and has a number from then on. So a chunk needs those
//! before it; of a damaged one, series of later chunks may be lost with it.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use super::common::Common;
use crate::model::{AttributeKeys, Attributes, Instrument, Resource, SeriesIdentity};

/// Numbers what is saved in the order in which it is met.
#[derive(Default)]
pub(super) struct Naming {
    resources: Met<Resource>,
    instruments: Met<Instrument>,
    keys: Met<AttributeKeys>,
}

/// What was met of one kind. It is held, so that nothing else comes to lie where it does.
struct Met<T> {
    numbers: HashMap<usize, u32, RandomState>,
    all: Vec<Arc<T>>,
    /// So many of them were told.
    told: usize,
    /// Bytes of the others.
    waiting: usize,
}

/// What was met for the first time, as it is written. Numbers count from `from` on.
#[derive(Serialize)]
pub(super) struct NamesRef<'a> {
    resources: Told<&'a [Arc<Resource>]>,
    instruments: Told<&'a [Arc<Instrument>]>,
    keys: Told<&'a [Arc<AttributeKeys>]>,
}

#[derive(Serialize, Deserialize)]
struct Told<T> {
    from: u32,
    all: T,
}

/// The same as it is read.
#[derive(Deserialize)]
pub(super) struct NamesRecord {
    resources: Told<Vec<Arc<Resource>>>,
    instruments: Told<Vec<Arc<Instrument>>>,
    keys: Told<Vec<Arc<AttributeKeys>>>,
}

/// An identity in numbers of what was told, and the values of its attributes.
#[derive(Serialize, Deserialize)]
pub(super) struct Named<'a> {
    resource: u32,
    instrument: u32,
    keys: Option<u32>,
    values: &'a str,
}

/// What was told, by its numbers.
#[derive(Default)]
pub(super) struct Names {
    resources: HashMap<u32, Arc<Resource>, RandomState>,
    instruments: HashMap<u32, Arc<Instrument>, RandomState>,
    keys: HashMap<u32, Arc<AttributeKeys>, RandomState>,
}

impl Naming {
    /// `identity` as it is written.
    pub(super) fn name<'a>(&mut self, identity: &'a SeriesIdentity) -> Named<'a> {
        let parts = identity.attributes.parts();
        Named {
            resource: self.resources.number(&identity.resource, Resource::bytes),
            instrument: self
                .instruments
                .number(&identity.instrument, Instrument::bytes),
            keys: parts.map(|(keys, _)| self.keys.number(keys, AttributeKeys::bytes)),
            values: parts.map_or("", |(_, values)| values),
        }
    }

    /// About how many bytes [`tell`](Self::tell) has to tell.
    pub(super) fn waiting(&self) -> usize {
        self.resources.waiting + self.instruments.waiting + self.keys.waiting
    }

    /// What was met since this was last asked; `None` if it was nothing.
    pub(super) fn tell(&mut self) -> Option<NamesRef<'_>> {
        let names = NamesRef {
            resources: self.resources.tell(),
            instruments: self.instruments.tell(),
            keys: self.keys.tell(),
        };
        let empty = names.resources.all.is_empty()
            && names.instruments.all.is_empty()
            && names.keys.all.is_empty();
        (!empty).then_some(names)
    }
}

impl<T> Default for Met<T> {
    fn default() -> Self {
        Self {
            numbers: HashMap::default(),
            all: Vec::new(),
            told: 0,
            waiting: 0,
        }
    }
}

impl<T> Met<T> {
    fn number(&mut self, it: &Arc<T>, bytes: impl FnOnce(&T) -> usize) -> u32 {
        let place = Arc::as_ptr(it) as usize;
        // There is not room for more in memory than a u32 counts.
        let next = self.all.len() as u32;
        let number = *self.numbers.entry(place).or_insert(next);
        if number == next {
            self.all.push(Arc::clone(it));
            self.waiting += bytes(it);
        }
        number
    }

    fn tell(&mut self) -> Told<&[Arc<T>]> {
        let from = std::mem::replace(&mut self.told, self.all.len());
        self.waiting = 0;
        Told {
            from: from as u32,
            all: self.all.get(from..).unwrap_or_default(),
        }
    }
}

impl NamesRecord {
    /// Makes each the one that others have, too.
    pub(super) fn share(&mut self, common: &Common) {
        self.resources.share(|it| common.resource(it));
        self.instruments.share(|it| common.instrument(it));
        self.keys.share(|it| common.keys(it));
    }
}

impl Names {
    /// Remembers what is told.
    pub(super) fn learn(&mut self, told: NamesRecord) {
        told.resources.add_to(&mut self.resources);
        told.instruments.add_to(&mut self.instruments);
        told.keys.add_to(&mut self.keys);
    }

    /// The identity that was written as `named`; `None` if something of it was not told.
    pub(super) fn identity(&self, named: &Named<'_>) -> Option<SeriesIdentity> {
        let attributes = match named.keys {
            Some(keys) => Attributes::from_parts(Arc::clone(self.keys.get(&keys)?), named.values)?,
            None => Attributes::default(),
        };
        Some(SeriesIdentity {
            resource: Arc::clone(self.resources.get(&named.resource)?),
            instrument: Arc::clone(self.instruments.get(&named.instrument)?),
            attributes,
        })
    }
}

impl<T> Told<Vec<T>> {
    /// Of a number that is told twice, which was not written here, the first stays.
    fn add_to(self, known: &mut HashMap<u32, T, RandomState>) {
        for (number, it) in (u64::from(self.from)..).zip(self.all) {
            known.entry(number as u32).or_insert(it);
        }
    }

    fn share(&mut self, share: impl Fn(T) -> T) {
        self.all = std::mem::take(&mut self.all)
            .into_iter()
            .map(share)
            .collect();
    }
}
