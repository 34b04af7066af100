//! Warnings for the operator about data that is legal but hardly meant, each said once.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::time::Duration;

use foldhash::quality::RandomState;

use crate::model::{SeriesId, SeriesIdentity, Timestamp};

/// What is remembered at most; beyond that, nothing new is warned about.
const REMEMBERED: usize = 10_000;
/// An overlap on one series is not said more often.
const OVERLAP_EVERY: Duration = Duration::from_secs(3600);

/// Sees whether one service sends a metric of one name as two kinds or in two units.
#[derive(Default)]
pub(super) struct Forms {
    random: RandomState,
    /// By hash of service and metric, the hash of kind and unit; `None` once it was said.
    seen: HashMap<u64, Option<u64>>,
}

impl Forms {
    /// Looks at a new series; warns at the first that differs from the one before it.
    pub(super) fn look(&mut self, identity: &SeriesIdentity) {
        let name = self
            .random
            .hash_one((&identity.resource.service, &identity.metric));
        let form = self.random.hash_one((identity.kind, &identity.unit));
        let room = self.seen.len() < REMEMBERED;
        match self.seen.get_mut(&name) {
            Some(seen) if seen.is_some_and(|seen| seen != form) => {
                *seen = None;
                tracing::warn!(
                    service = &*identity.resource.service,
                    metric = &*identity.metric,
                    unit = &*identity.unit,
                    kind = ?identity.kind,
                    "a metric comes as a second type or in a second unit: each is a series of its own"
                );
            }
            Some(_) => {}
            None if room => {
                self.seen.insert(name, Some(form));
            }
            None => {}
        }
    }
}

/// Says which series two writers share.
#[derive(Default)]
pub(super) struct Overlaps(HashMap<SeriesId, Timestamp>);

impl Overlaps {
    /// Warns about an overlap on a series, if that was not done within the hour.
    pub(super) fn warn(&mut self, id: SeriesId, identity: &SeriesIdentity, now: Timestamp) {
        let said = self
            .0
            .get(&id)
            .is_some_and(|said| now < said.plus(OVERLAP_EVERY));
        if said {
            return;
        }
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, said| now < said.plus(OVERLAP_EVERY));
        }
        if self.0.len() < REMEMBERED {
            self.0.insert(id, now);
            tracing::warn!(
                service = &*identity.resource.service,
                metric = &*identity.metric,
                series = %id,
                "two writers share a series: what overlaps is dropped; give each a service.instance.id"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MetricKind;

    #[test]
    fn a_second_form_is_said_once() {
        let mut forms = Forms::default();
        let name = |forms: &Forms| forms.seen.values().next().copied().flatten();
        let gauge = crate::engine::tests::identity("checkout", 1, MetricKind::Gauge);
        forms.look(&gauge);
        forms.look(&crate::engine::tests::identity(
            "checkout",
            2,
            MetricKind::Gauge,
        ));
        assert!(name(&forms).is_some(), "one form is nothing to speak of");
        forms.look(&crate::engine::tests::identity(
            "checkout",
            1,
            MetricKind::Summary,
        ));
        assert!(name(&forms).is_none(), "a second one is said");
        forms.look(&gauge);
        assert!(name(&forms).is_none(), "and not again");
    }

    #[test]
    fn overlaps_are_said_once_an_hour_and_the_memory_of_it_is_bounded() {
        let identity = crate::engine::tests::identity("checkout", 1, MetricKind::Gauge);
        let mut overlaps = Overlaps::default();
        for id in 0..REMEMBERED as u128 + 10 {
            overlaps.warn(SeriesId(id), &identity, Timestamp::from_secs(0));
            overlaps.warn(SeriesId(id), &identity, Timestamp::from_secs(5));
        }
        assert_eq!(overlaps.0.len(), REMEMBERED);
        assert_eq!(overlaps.0.get(&SeriesId(3)), Some(&Timestamp::from_secs(0)));
        overlaps.warn(SeriesId(3), &identity, Timestamp::from_secs(3600));
        assert_eq!(
            overlaps.0.get(&SeriesId(3)),
            Some(&Timestamp::from_secs(3600))
        );
    }
}
