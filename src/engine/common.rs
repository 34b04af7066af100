//! What identities have in common, kept once for all of them: resources, instruments and keys.
//! What two encodings of a request say alike is read twice, and so is what was saved.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::model::{AttributeKeys, Instrument, Resource, SeriesIdentity};

/// Parts of a pool, each under a lock and swept on its own, so that nobody waits long.
const STRIPES: usize = 64;
/// A stripe of fewer is not swept while it grows.
const SWEPT_FROM: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct Common {
    resources: Pool<Resource>,
    instruments: Pool<Instrument>,
    keys: Pool<AttributeKeys>,
    /// The stripe that is swept next.
    turn: AtomicUsize,
}

impl Common {
    /// Replaces what others have, too, by theirs.
    pub(super) fn share(&self, identity: &mut SeriesIdentity) {
        self.resources.share(&mut identity.resource);
        self.instruments.share(&mut identity.instrument);
        if let Some(keys) = identity.attributes.keys_mut() {
            self.keys.share(keys);
        }
    }

    /// The same for a resource, keys included,
    pub(super) fn resource(&self, mut mine: Arc<Resource>) -> Arc<Resource> {
        let own = Arc::get_mut(&mut mine);
        if let Some(keys) = own.and_then(|own| own.attributes.keys_mut()) {
            self.keys.share(keys);
        }
        self.resources.share(&mut mine);
        mine
    }

    /// an instrument,
    pub(super) fn instrument(&self, mut mine: Arc<Instrument>) -> Arc<Instrument> {
        self.instruments.share(&mut mine);
        mine
    }

    /// and keys.
    pub(super) fn keys(&self, mut mine: Arc<AttributeKeys>) -> Arc<AttributeKeys> {
        self.keys.share(&mut mine);
        mine
    }

    /// Lets go of some of what nobody uses any more; all of it within as many calls as there are stripes.
    pub(super) fn tidy(&self) {
        // It stands for itself; nothing is read by way of it.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % STRIPES;
        self.resources.sweep(turn);
        self.instruments.sweep(turn);
        self.keys.sweep(turn);
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.resources.bytes(Resource::bytes)
            + self.instruments.bytes(Instrument::bytes)
            + self.keys.bytes(AttributeKeys::bytes)
    }
}

struct Pool<T> {
    seed: RandomState,
    stripes: Box<[Mutex<Stripe<T>>]>,
}

struct Stripe<T> {
    all: HashTable<(u64, Arc<T>)>,
    /// It is swept when it has grown to this.
    full: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        let stripe = |_| {
            Mutex::new(Stripe {
                all: HashTable::new(),
                full: SWEPT_FROM,
            })
        };
        Self {
            seed: RandomState::default(),
            stripes: (0..STRIPES).map(stripe).collect(),
        }
    }
}

impl<T: Hash + Eq> Pool<T> {
    fn share(&self, mine: &mut Arc<T>) {
        let hash = self.seed.hash_one(&**mine);
        let Some(mut stripe) = self.lock((hash >> 32) as usize % STRIPES) else {
            return;
        };
        let is_it = |(known, kept): &(u64, Arc<T>)| *known == hash && *kept == *mine;
        if let Some((_, kept)) = stripe.all.find(hash, is_it) {
            *mine = Arc::clone(kept);
            return;
        }
        if stripe.all.len() >= stripe.full {
            stripe.sweep();
        }
        let entry = (hash, Arc::clone(mine));
        stripe.all.insert_unique(hash, entry, |(hash, _)| *hash);
    }

    fn sweep(&self, stripe: usize) {
        if let Some(mut stripe) = self.lock(stripe) {
            stripe.sweep();
        }
    }

    fn lock(&self, stripe: usize) -> Option<MutexGuard<'_, Stripe<T>>> {
        // A panic elsewhere leaves every stripe whole.
        let stripe = self.stripes.get(stripe)?;
        Some(stripe.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn bytes(&self, inside: impl Fn(&T) -> usize) -> usize {
        let stripe = |number| {
            let Some(stripe) = self.lock(number) else {
                return 0;
            };
            let counts = 2 * size_of::<usize>();
            let kept = stripe.all.iter();
            let kept: usize = kept.map(|(_, kept)| counts + inside(kept)).sum();
            stripe.all.allocation_size() + kept
        };
        (0..STRIPES).map(stripe).sum()
    }
}

impl<T> Stripe<T> {
    fn sweep(&mut self) {
        // Whoever has one of them could clone it at this moment, but from nowhere else than here.
        self.all.retain(|(_, kept)| Arc::strong_count(kept) > 1);
        self.full = SWEPT_FROM.max(self.all.len() * 2);
        if self.all.len() * 4 < self.all.capacity() {
            self.all.shrink_to(self.all.len() * 2, |(hash, _)| *hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttributeValue, Attributes, Instrument, MetricKind};

    fn identity(metric: usize, value: i64) -> SeriesIdentity {
        let text = |text: &str| (text.into(), AttributeValue::from(text));
        SeriesIdentity {
            resource: Arc::new(Resource {
                service: "shop".into(),
                attributes: Attributes::from_pairs([text("service.name")]),
            }),
            instrument: Arc::new(Instrument {
                scope: Arc::default(),
                metric: format!("metric {metric}").into(),
                unit: "s".into(),
                kind: MetricKind::Gauge,
            }),
            attributes: Attributes::from_pairs([("key".into(), AttributeValue::Int(value))]),
        }
    }

    #[test]
    fn equal_parts_are_one_and_ids_stay() {
        let common = Common::default();
        let shared = |mut identity| {
            common.share(&mut identity);
            identity
        };
        let (one, two) = (shared(identity(1, 1)), shared(identity(1, 2)));
        assert!(Arc::ptr_eq(&one.resource, &two.resource));
        assert!(Arc::ptr_eq(&one.instrument, &two.instrument));
        assert_eq!(one, identity(1, 1));
        assert_eq!(one.id(), identity(1, 1).id());
        assert_ne!(one.id(), two.id());
        let bytes = common.bytes();
        drop(shared(identity(1, 3)));
        assert_eq!(common.bytes(), bytes);
    }

    #[test]
    fn what_nobody_uses_leaves() {
        let common = Common::default();
        let mut kept = identity(0, 0);
        common.share(&mut kept);
        for metric in 0..100_000 {
            common.share(&mut identity(metric, 0));
        }
        let full: usize = common.instruments.bytes(|_| 1);
        assert!(full < 64 * 3 * SWEPT_FROM * 32, "{full}");
        (0..STRIPES).for_each(|_| common.tidy());
        assert!(common.bytes() < 4_000, "{}", common.bytes());
        let mut again = identity(0, 0);
        common.share(&mut again);
        assert!(Arc::ptr_eq(&kept.instrument, &again.instrument));
    }
}
