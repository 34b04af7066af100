//! How notifications are delivered, to all receivers alike.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{ByteSize, Period};

/// How notifications are delivered: what happens when a receiver is slow, in trouble or dead. What is not
/// delivered yet is on the disk and survives restarts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// How failed attempts are repeated.
    pub retry: Retry,
    /// When an integration that fails is left alone, and when it is tried again.
    pub breaker: Breaker,
    /// How many attempts are made at the same time.
    pub concurrency: Concurrency,
    /// How much may wait for one receiver. While there is no room, its groups are not notified; what
    /// they have to say by then they say at once.
    pub outbox: Outbox,
    /// How long opening a connection may take, 10ms to 1m. A whole attempt has the integration's own
    /// `timeout`.
    pub connect_timeout: Period,
    /// How long deliveries under way may go on when the daemon stops, 0 to 1m. What is left is delivered
    /// after the next start.
    pub drain: Period,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            retry: Retry::default(),
            breaker: Breaker::default(),
            concurrency: Concurrency::default(),
            outbox: Outbox::default(),
            connect_timeout: Period::secs(5),
            drain: Period::secs(5),
        }
    }
}

/// How failed attempts are repeated. Answers that would be the same again (4xx but for 408 and 429) are
/// not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How long the second attempt waits after the first; each further one waits twice as long, give or
    /// take a quarter. 1ms to 1h.
    pub initial: Period,
    /// No wait of our own is longer. At least `initial`, at most 1h.
    pub max: Period,
    /// No attempt starts later than this after the first; then the fallback has it. `0`: a single
    /// attempt.
    pub max_elapsed: Period,
    /// As `max_elapsed`, from the decision, where there is no fallback: then it is lost. `0`: a single
    /// attempt.
    pub keep: Period,
    /// What a receiver asks for with `Retry-After`, `RateLimit-Reset` or `X-RateLimit-Reset` is honoured
    /// up to this. `0`: not at all. At most 1h.
    pub max_retry_after: Period,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            initial: Period::secs(1),
            max: Period::secs(30),
            max_elapsed: Period::secs(15 * 60),
            keep: Period::secs(24 * 3600),
            max_retry_after: Period::secs(5 * 60),
        }
    }
}

/// The circuit breaker that each integration has: closed while all is well; open after failures, when
/// everything goes to the fallback at once, or waits where there is none; half-open when it is tried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// So many failed attempts in a row open it. 1 to 1000.
    #[schemars(range(min = 1, max = 1_000))]
    pub failures: u32,
    /// So many successful trials in a row close it. 1 to 1000.
    #[schemars(range(min = 1, max = 1_000))]
    pub successes: u32,
    /// How long it stays open before the first trial, 10ms to 1d.
    pub open: Period,
    /// How long a trial may take, 10ms to 5m; one that takes longer has failed.
    pub trial: Period,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            successes: 2,
            open: Period::secs(60),
            trial: Period::secs(10),
        }
    }
}

/// How many attempts are made at the same time. Each integration may always have one under way, whatever
/// hangs elsewhere; only further ones count against these limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Concurrency {
    /// Of one receiver, 1 to 1000.
    #[schemars(range(min = 1, max = 1_000))]
    pub receiver: u32,
    /// Of all integrations of one kind, such as all webhooks, 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub kind: u32,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self {
            receiver: 4,
            kind: 64,
        }
    }
}

/// How much may wait for one receiver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Outbox {
    /// Notifications, 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub messages: u32,
    /// Their size on the disk, at least 1MiB. They are in memory as well.
    pub size: ByteSize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            messages: 1_000,
            size: ByteSize(32 << 20),
        }
    }
}
