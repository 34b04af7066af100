use serde::Serialize;

use super::Timestamp;

/// A receiver as the API shows it: how delivery to it goes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReceiverView {
    /// Its name.
    pub name: String,
    /// The receiver that gets what this one cannot be told.
    pub fallback: Option<String>,
    /// Whether any of its integrations is in trouble.
    pub failing: bool,
    /// How it is told: by all of these.
    pub integrations: Vec<IntegrationView>,
}

/// One way to reach a receiver, as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IntegrationView {
    /// Which of the receiver's: `webhook[0]`.
    pub integration: String,
    /// Where it leads, without what may be secret in it.
    pub target: String,
    /// Its circuit breaker.
    pub breaker: BreakerView,
    /// Why nothing is delivered at present or what was tried last failed for good; absent while all is
    /// well.
    pub trouble: Option<TroubleView>,
    /// Why the receiver wants nothing more until the daemon is started again, if it said so.
    pub gone: Option<String>,
    /// Until when it asked to be left alone, if it did.
    pub limited_until: Option<Timestamp>,
    /// Messages that it has still to deliver, those under way among them.
    pub pending: usize,
    /// Those that an attempt is being made for.
    pub underway: usize,
    /// What became of messages since the daemon started.
    pub statistics: DeliveryStatistics,
    /// The last attempt that was taken.
    pub last_delivered_at: Option<Timestamp>,
    /// The last attempt that failed.
    pub last_failed_at: Option<Timestamp>,
    /// What came of it.
    pub last_error: Option<String>,
}

/// A circuit breaker, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreakerView {
    /// `closed`, `open` or `half-open`.
    pub state: &'static str,
    /// Since when.
    pub since: Timestamp,
    /// While it is open: when it is tried again.
    pub until: Option<Timestamp>,
}

/// That an integration does not deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TroubleView {
    /// Since when.
    pub since: Timestamp,
    /// What happened last.
    pub reason: String,
}

/// What became of messages, by strategy of recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DeliveryStatistics {
    /// Attempts made.
    pub attempts: u64,
    /// Messages delivered, whatever it took.
    pub delivered: u64,
    /// Attempts that were repetitions.
    pub retried: u64,
    /// Messages delivered after at least one failed attempt; they are among the delivered ones.
    pub recovered: u64,
    /// Messages taken up again after a restart.
    pub resumed: u64,
    /// Messages handed to the fallback.
    pub fallen_back: u64,
    /// Messages that failed for good with nobody to take over.
    pub failed: u64,
}
