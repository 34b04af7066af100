//! What identities have in common, kept once for all of them: resources, scopes, names, units and keys.
//! Saved series come each with their own, and what two encodings of a request say alike is read twice.

use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::model::{AttributeKeys, Resource, Scope, SeriesIdentity};

/// Parts of a pool, each under a lock and swept on its own, so that nobody waits long.
const STRIPES: usize = 64;
/// A stripe of fewer is not swept while it grows.
const SWEPT_FROM: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct Common {
    resources: Pool<Resource>,
    scopes: Pool<Scope>,
    texts: Pool<str>,
    keys: Pool<AttributeKeys>,
    /// The stripe that is swept next.
    turn: AtomicUsize,
}

impl Common {
    /// `identity` with all that others have, too, replaced by theirs.
    pub(super) fn share(&self, mut identity: Arc<SeriesIdentity>) -> Arc<SeriesIdentity> {
        let own = Arc::make_mut(&mut identity);
        self.resources.share(&mut own.resource);
        self.scopes.share(&mut own.scope);
        self.texts.share(&mut own.metric);
        self.texts.share(&mut own.unit);
        if let Some(keys) = own.attributes.keys_mut() {
            self.keys.share(keys);
        }
        identity
    }

    /// Lets go of some of what nobody uses any more; all of it within as many calls as there are stripes.
    pub(super) fn tidy(&self) {
        // It stands for itself; nothing is read by way of it.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % STRIPES;
        self.resources.sweep(turn);
        self.scopes.sweep(turn);
        self.texts.sweep(turn);
        self.keys.sweep(turn);
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.resources.bytes(Resource::bytes)
            + self.scopes.bytes(Scope::bytes)
            + self.texts.bytes(str::len)
            + self.keys.bytes(AttributeKeys::bytes)
    }
}

struct Pool<T: ?Sized> {
    seed: RandomState,
    stripes: Box<[Mutex<Stripe<T>>]>,
}

struct Stripe<T: ?Sized> {
    all: HashTable<(u64, Arc<T>)>,
    /// It is swept when it has grown to this.
    full: usize,
}

impl<T: ?Sized> Default for Pool<T> {
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

impl<T: ?Sized + Hash + Eq> Pool<T> {
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

impl<T: ?Sized> Stripe<T> {
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
    use crate::model::{AttributeValue, Attributes, MetricKind};

    fn identity(metric: usize, value: i64) -> Arc<SeriesIdentity> {
        let text = |text: &str| (text.into(), AttributeValue::from(text));
        Arc::new(SeriesIdentity {
            resource: Arc::new(Resource {
                service: "shop".into(),
                attributes: Attributes::from_pairs([text("service.name")]),
            }),
            scope: Arc::default(),
            metric: format!("metric {metric}").into(),
            unit: "s".into(),
            kind: MetricKind::Gauge,
            attributes: Attributes::from_pairs([("key".into(), AttributeValue::Int(value))]),
        })
    }

    #[test]
    fn equal_parts_are_one_and_ids_stay() {
        let common = Common::default();
        let (one, two) = (common.share(identity(1, 1)), common.share(identity(1, 2)));
        assert!(Arc::ptr_eq(&one.resource, &two.resource));
        assert!(Arc::ptr_eq(&one.scope, &two.scope));
        assert!(Arc::ptr_eq(&one.metric, &two.metric));
        assert!(Arc::ptr_eq(&one.unit, &two.unit));
        assert_eq!(one, identity(1, 1));
        assert_eq!(one.id(), identity(1, 1).id());
        assert_ne!(one.id(), two.id());
        let bytes = common.bytes();
        drop(common.share(identity(1, 3)));
        assert_eq!(common.bytes(), bytes);
    }

    #[test]
    fn what_nobody_uses_leaves() {
        let common = Common::default();
        let kept = common.share(identity(0, 0));
        for metric in 0..100_000 {
            common.share(identity(metric, 0));
        }
        let full: usize = common.texts.bytes(|_| 1);
        assert!(full < 64 * 3 * SWEPT_FROM * 32, "{full}");
        (0..STRIPES).for_each(|_| common.tidy());
        assert!(common.bytes() < 2_000, "{}", common.bytes());
        let again = common.share(identity(0, 0));
        assert!(Arc::ptr_eq(&kept.metric, &again.metric));
    }
}
