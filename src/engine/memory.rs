//! How much memory what is known of each service takes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::handle::Handle;
use super::shard::Shard;
use crate::model::Timestamp;

/// Series weighed in one message to a shard: some tenths of a millisecond of its time.
const SLICE: usize = 1_000;

/// What was found last, and when: whoever asks more often than once a tick gets it again.
#[derive(Default)]
pub(super) struct Weighed(Mutex<Option<Found>>);

/// When, and the bytes of each service.
type Found = (Timestamp, Arc<BTreeMap<String, u64>>);

type ByService = HashMap<Arc<str>, u64>;

impl Shard {
    /// Adds what the next series from `position` on take, with their part of what finds them, and says
    /// where to go on. Series that leave meanwhile may be missed or met twice.
    fn weigh(&self, position: usize, found: &mut ByService) -> Option<usize> {
        let around = self.around() / self.series.len().max(1);
        let mut looked_at = 0;
        for series in self.series.from(position).take(SLICE) {
            looked_at += 1;
            let bytes = (series.bytes() + around) as u64;
            let service = &series.identity.resource.service;
            match found.get_mut(service) {
                Some(known) => *known += bytes,
                None => drop(found.insert(Arc::clone(service), bytes)),
            }
        }
        (looked_at == SLICE).then_some(position + SLICE)
    }
}

impl Handle {
    /// About how much memory the series of each service take, in bytes, as of this tick or the one
    /// before; without what all share, as the texts of resources. Some hundred nanoseconds a series, in
    /// slices between which the shards go on.
    pub(super) async fn weigh(&self) -> BTreeMap<String, u64> {
        let now = self.latest();
        let lock = || self.0.weighed.0.lock();
        if let Some((taken, found)) = &*lock().unwrap_or_else(PoisonError::into_inner)
            && now.since(*taken) < self.0.plan.settings.tick
        {
            return (**found).clone();
        }
        let mut all = BTreeMap::new();
        for shard in &self.0.shards {
            let mut next = Some(0);
            let mut found = ByService::new();
            while let Some(position) = next {
                let mut so_far = std::mem::take(&mut found);
                let weigh = move |shard: &mut Shard| {
                    let next = shard.weigh(position, &mut so_far);
                    (so_far, next)
                };
                match shard.run(weigh).await {
                    Ok(done) => (found, next) = done,
                    Err(_) => next = None,
                }
            }
            for (service, bytes) in found {
                *all.entry(service.to_string()).or_default() += bytes;
            }
        }
        *lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::new(all.clone())));
        all
    }
}
