//! What a tick brought, merged over all shards.

use crate::model::{Observation, SignalId, Timestamp};

/// What one tick brought. The same for every number of shards.
#[derive(Debug, Clone)]
pub struct TickReport {
    /// End of the tick.
    pub end: Timestamp,
    /// Judged samples of signals that deviate or lately did, those among them that recorded data
    /// brought since the last report; by time of the sample, signal and rule.
    pub observations: Vec<Observation>,
    /// Signals that the client ended, or that left after being idle; by id. Nothing more will be heard
    /// of them unless they begin anew.
    pub ended: Vec<SignalId>,
    /// Whether anybody but the daemon itself was heard since the last report, or nobody is known who could
    /// have been.
    pub fed: bool,
}

impl TickReport {
    /// In the order that is promised.
    pub(super) fn new(
        end: Timestamp,
        mut observations: Vec<Observation>,
        mut ended: Vec<SignalId>,
        fed: bool,
    ) -> Self {
        observations.sort_by_key(|o| (o.sample.time, o.signal.id, o.rule));
        ended.sort_unstable();
        ended.dedup();
        Self {
            end,
            observations,
            ended,
            fed,
        }
    }
}
